"""Write an unrolling: surfaces, suspects, holes, point collections, pictures."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import write_bytes, write_json
from tracer.errors import OutputError
from tracer.provenance import provenance
from tracer.unroll.feedback import find_holes, winding_collections
from tracer.unroll.findings import Findings, find_all
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import SOURCE
from tracer.unroll.pictures import plane_pictures, rainbow, section_picture
from tracer.unroll.sheet import used_box
from tracer.unroll.stage import Unrolled, UnrollResult

if TYPE_CHECKING:
    from tracer.surface import Surface
    from tracer.volume import Volume

REPORT = "report"


def component_surface(unrolled: Unrolled, meta: Mapping[str, Any]) -> "Surface":
    """Return a component as a surface with its channels.

    Parameters
    ----------
    unrolled : Unrolled
        A component.
    meta : mapping
        Provenance.

    Returns
    -------
    Surface
        Channels ``confidence`` (0 to 1), ``state`` (100, 80, 0), ``winding``, ``wind_vis`` (RGB),
        ``support`` (patches that agree).
    """
    from tracer.surface import Surface

    sheet, state = unrolled.sheet, unrolled.state
    there = state > 0
    winding = np.where(there, sheet.winding, np.nan)
    return Surface(
        points_xyz=np.where(there[..., None], sheet.points_xyz, -1.0).astype(np.float32),
        valid=there,
        scale=(1.0 / sheet.step, 1.0 / sheet.step),
        channels={
            "confidence": np.where(there, sheet.confidence, 0.0).astype(np.float32),
            "state": state,
            "support": np.minimum(sheet.agreeing, 65535).astype(np.uint16),
            "winding": winding.astype(np.float32),
            "wind_vis": np.where(there[..., None], rainbow(winding), 0).astype(np.uint8),
        },
        meta=meta,
    )


def crop_surface(surface: "Surface", keep: NDArray[np.bool_]) -> "Surface | None":
    """Return the part of a surface that is kept, on the smallest grid.

    Parameters
    ----------
    surface : Surface
        A surface.
    keep : ndarray of bool, shape (rows, cols)
        Which vertices.

    Returns
    -------
    Surface or None
        None where nothing is left.
    """
    import dataclasses

    keep = keep & surface.valid
    if not keep.any():
        return None
    box = used_box(keep)
    kept = keep[box]
    channels = {}
    for name, grid in surface.channels.items():
        part = np.array(grid[box])
        part[~kept] = np.nan if name == "winding" else 0
        channels[name] = part
    return dataclasses.replace(
        surface, points_xyz=surface.points_xyz[box], valid=kept, channels=channels
    )


def surfaces_to_write(
    result: UnrollResult, params: UnrollParams, meta: Mapping[str, Any]
) -> "Iterator[tuple[str, Surface]]":
    """Yield the surfaces of a result, cropped and divided as asked.

    Parameters
    ----------
    result : UnrollResult
        Flat surfaces.
    params : UnrollParams
        ``split``, ``turn_min`` and the like.
    meta : mapping
        Provenance.

    Yields
    ------
    suffix : str
        What to add to the name: empty for the only surface of the largest component.
    surface : Surface
        Ready to be saved.
    """
    base = float(np.floor(np.nanmin(result.components[0].sheet.winding)))
    for unrolled in result.components:
        extra = {
            "component": unrolled.number,
            "n_components": len(result.components),
            "patch_vertices": unrolled.n_vertices,
            "origin_uv": list(unrolled.sheet.origin_uv),
            "state_values": {"100": "on patches", "80": "inpainted", "0": "none"},
        }
        whole = component_surface(unrolled, {**meta, **extra})
        winding, z = whole.channels["winding"], whole.points_xyz[..., 2]
        keep = whole.valid.copy()
        for values, low, high in (
            (winding - base, params.turn_min, params.turn_max),
            (z, params.z_min, params.z_max),
        ):
            keep &= values >= low if low is not None else True
            keep &= values <= high if high is not None else True
        name = f"_component_{unrolled.number}" if unrolled.number else ""
        for suffix, part in _parts(params, winding - base, keep):
            surface = crop_surface(whole, part)
            if surface is not None:
                yield name + suffix, surface


def _parts(
    params: UnrollParams, turns: NDArray[Any], keep: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield name and vertices of each part: neighbouring parts share their border vertices."""
    if params.split == "none":
        yield "", keep
    elif params.split == "wrap":
        known = turns[keep]
        for wrap in (
            range(int(np.floor(known.min())), int(np.floor(known.max())) + 1)
            if (known.size)
            else ()
        ):
            inside = keep & (turns >= wrap) & (turns < wrap + 1)
            beside = np.zeros_like(inside)
            beside[:, 1:] |= inside[:, :-1]
            beside[:, :-1] |= inside[:, 1:]
            yield f"_wrap_{wrap:03d}", keep & (inside | (beside & (turns >= wrap)))
    else:
        width = max(1, round(params.column_width / params.step))
        for number, first in enumerate(range(0, keep.shape[1], width)):
            inside = np.zeros_like(keep)
            inside[:, first : first + width + 1] = True
            yield f"_column_{number:03d}", keep & inside


def write_unrolled(
    result: UnrollResult,
    out: Path,
    params: UnrollParams,
    *,
    prediction: "Volume | None" = None,
    overwrite: bool = False,
    pictures: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write everything an unrolling has found.

    Parameters
    ----------
    result : UnrollResult
        Flat surfaces and their patches.
    out : Path
        Surface directory to create; with ``split``, or for further components, names derived from
        it. The report goes to ``report`` inside.
    params : UnrollParams
        Parameters.
    prediction : Volume, optional
        Drawn under the pictures and named in the metadata.
    overwrite : bool
        Replace what is there.
    pictures : bool
        Draw pictures.
    extra : mapping, optional
        Further metadata, e.g. the collection.

    Returns
    -------
    list of Path
        Surface directories.

    Raises
    ------
    OutputError
        If a directory exists and must not be replaced, or nothing lies in the range asked for.
    """
    meta = provenance(
        SOURCE,
        params,
        volume=prediction,
        extra={
            "counts": result.counts(),
            "axis": result.axis.points_xyz.tolist(),
            **(extra or {}),
        },
    )
    saved = []
    for suffix, surface in surfaces_to_write(result, params, meta):
        target = out.with_name(out.name + suffix)
        saved.append(surface.save(target, overwrite=overwrite))
    if not saved:
        raise OutputError(
            f"{out}: nothing lies in the range of turns or z asked for; widen --turns or --z"
        )
    report = saved[0] / REPORT
    found = result.found or find_all(
        result.solved_patches(),
        result.components,
        prediction=prediction,
        threshold=params.threshold,
        pictures=pictures,
    )
    holes = json.dumps([hole.to_json() for hole in find_holes(result)], indent=1)
    write_suspects(report, found)
    write_bytes(report / "holes.json", holes.encode() + b"\n")
    for name, absolute in (("windings_absolute.json", True), ("windings_relative.json", False)):
        write_json(report / name, winding_collections(result, absolute=absolute))
    if pictures:
        for unrolled in result.components:
            folder = report / f"component_{unrolled.number}" if unrolled.number else report
            plane_pictures(unrolled, found.outlines.get(unrolled.number), folder)
            section_picture(
                unrolled,
                folder / "section.png",
                prediction=prediction,
                threshold=params.threshold,
            )
    return saved


def write_suspects(report: Path, found: Findings) -> Path:
    """Write ``suspects.json`` and the pictures of suspects.

    Parameters
    ----------
    report : Path
        Folder to write to; created.
    found : Findings
        What was found.

    Returns
    -------
    Path
        The JSON file.
    """
    report.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, (suspect, picture) in enumerate(zip(found.suspects, found.pictures, strict=True)):
        entry = suspect.to_json()
        if picture is not None:
            name = f"suspect_{number:04d}_{suspect.kind}.png"
            write_bytes(report / name, picture)
            entry["picture"] = name
        listed.append(entry)
    path = report / "suspects.json"
    write_json(
        path,
        {"suspects": listed, "patches": found.patches, "components": list(found.members)},
    )
    return path
