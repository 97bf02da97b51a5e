"""Say what lies at a path: a volume, a volume package, a collection of patches or a surface."""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.errors import FormatError, TracerError, TracerWarning, VolumeError
from tracer.storage import is_url
from tracer.volpkg import CONFIG, VOLUMES, is_volpkg, list_volumes
from tracer.volume import Volume
from tracer.zarr_metadata import parse_json

if TYPE_CHECKING:
    from tracer.surface import Surface

_PATHS = "paths"
_FACT_KEYS = ("source", "tracer_version", "vc_gsfs_mode", "seed", "max_gen", "elapsed_time_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What lies at a path.

    Attributes
    ----------
    kind : str
        ``volume``, ``volpkg``, ``collection`` or ``surface``.
    path : str
        Where.
    facts : mapping
        Everything known, JSON-serialisable.
    lines : tuple of (str, str)
        Label and text of each line for people.
    """

    kind: str
    path: str
    facts: Mapping[str, Any]
    lines: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything known.

        Returns
        -------
        dict
            JSON-serialisable, with ``kind`` and ``path``.
        """
        return {"kind": self.kind, "path": self.path, **self.facts}

    def summary(self) -> str:
        """Return a compact description.

        Returns
        -------
        str
            One line per kind of fact.
        """
        width = max(len(label) for label, _ in self.lines)
        head = f"{self.path}: {self.kind}"
        return "\n".join([head, *(f"  {label:<{width}}  {text}" for label, text in self.lines)])


def describe(path: str | Path, *, name: str | None = None) -> Info:
    """Return what lies at a path.

    Parameters
    ----------
    path : str or Path
        Volume (also a URL), ``.volpkg``, directory of patches, or surface.
    name : str, optional
        Volume of a ``.volpkg`` to describe instead of the package.

    Returns
    -------
    Info
        Its kind and what is known of it.

    Raises
    ------
    TracerError
        If it is none of these, or damaged.
    """
    if name is not None or is_url(str(path)):
        return _describe_volume(path, name)
    folder = Path(path)
    if is_volpkg(folder):
        return _describe_volpkg(folder)
    if not folder.exists():
        raise FormatError(f"{folder}: no such file or folder; check the path")
    if (folder / "x.tif").exists():
        return _describe_surface(folder)
    if folder.is_dir() and _is_collection(folder):
        return _describe_collection(folder)
    try:
        return _describe_volume(folder, None)
    except VolumeError as error:
        if (folder / "0").exists() or folder.suffix == ".zarr":
            raise
        raise FormatError(
            f"{folder}: neither a volume nor a volume package, a directory of patches or a surface "
            "(tifxyz); check the path, or convert scans with `tracer prepare`"
        ) from error


def _is_collection(folder: Path) -> bool:
    if folder.name == _PATHS:
        return True
    return any((child / "x.tif").exists() for child in sorted(folder.iterdir()) if child.is_dir())


def _describe_volume(path: str | Path, name: str | None) -> Info:
    volume = Volume.open(path, name=name, require_meta=False)
    z, y, x = volume.shape_zyx
    known = volume.voxel_size_um > 0
    problem = None
    try:
        volume.require_voxel_size()
    except VolumeError as error:
        problem = str(error)
    levels = [
        {
            "shape_zyx": list(volume.level_shape_zyx(level)),
            "chunk_zyx": list(volume.chunk_shape_zyx(level)),
            "codec": volume.level(level).metadata.codec_text,
        }
        for level in range(volume.n_levels)
    ]
    zarr_format = volume.level(0).metadata.zarr_format
    origin = volume.meta.values.get("origin_zyx")
    size_bytes = math.prod(volume.shape_zyx) * volume.dtype.itemsize
    facts = {
        "name": volume.name,
        "uuid": volume.uuid,
        "shape_zyx": [z, y, x],
        "dtype": volume.dtype.name,
        "voxel_size_um": volume.voxel_size_um if known else None,
        "size_bytes": size_bytes,
        "zarr_format": zarr_format,
        "has_multiscales": volume.has_multiscales,
        "has_meta": bool(volume.meta.raw),
        "levels": levels,
        "identity": volume.identity,
        "origin_zyx": origin,
        "problem": problem,
    }
    size = f"{z} x {y} x {x} voxels (z, y, x), {volume.dtype}"
    size += f", {_bytes_text(size_bytes)} uncompressed"
    shapes = ", ".join("x".join(map(str, level["shape_zyx"])) for level in levels)
    chunk = "x".join(map(str, levels[0]["chunk_zyx"]))
    multiscales = "" if volume.has_multiscales else ", no multiscales metadata"
    lines = [
        ("name", volume.name if volume.uuid == volume.name else f"{volume.name}, {volume.uuid}"),
        ("size", size),
        ("voxel", _extent_text(volume) if known else "unknown"),
        ("levels", f"{volume.n_levels}: {shapes}{multiscales}"),
        ("storage", f"zarr v{zarr_format}, chunks {chunk}, {levels[0]['codec']}"),
        ("identity", volume.identity[:16]),
    ]
    if origin and any(origin):
        lines.append(("origin", f"{origin} (z, y, x) in the coordinates of its source"))
    if volume.dtype != np.uint8:
        lines.append(("note", f"{volume.dtype} is fine for rendering, a prediction must be uint8"))
    if problem is not None:
        lines.append(("problem", problem))
    return Info(kind="volume", path=volume.path, facts=facts, lines=tuple(lines))


def _extent_text(volume: Volume) -> str:
    extent = " x ".join(f"{n * volume.voxel_size_um / 1000.0:.3g}" for n in volume.shape_zyx)
    return f"{volume.voxel_size_um:g} µm, {extent} mm in all"


def _bytes_text(size: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def _describe_volpkg(package: Path) -> Info:
    volumes: dict[str, Any] = {}
    lines = []
    for folder in list_volumes(package):
        try:
            info = _describe_volume(package / VOLUMES / folder, None)
        except TracerError as error:
            volumes[folder] = {"problem": str(error)}
            lines.append(("volume", f"{folder}: {error}"))
            continue
        volumes[folder] = info.facts
        texts = dict(info.lines)
        lines.append(("volume", f"{folder}: {texts['size']}, {texts['voxel']}"))
    config = package / CONFIG
    values = parse_json(config.read_bytes(), str(config)) if config.is_file() else {}
    paths = package / _PATHS
    surfaces = _describe_collection(paths) if paths.is_dir() else None
    if surfaces is not None:
        lines.append((_PATHS, dict(surfaces.lines)["surfaces"]))
    name = str(values.get("name", package.stem))
    facts = {
        "name": name,
        "config": values,
        "volumes": volumes,
        _PATHS: None if surfaces is None else surfaces.facts,
    }
    return Info(
        kind="volpkg",
        path=str(package.absolute()),
        facts=facts,
        lines=(("name", name), *lines),
    )


def _describe_collection(folder: Path) -> Info:
    """Return what the ``meta.json`` files of a collection say; no grid is read."""
    from tracer.collection import PatchCollection
    from tracer.tifxyz import read_meta

    collection = PatchCollection.open(folder)
    names = collection.names()
    metas, problems = [], []
    for name in names:
        try:
            metas.append(read_meta(folder / name))
        except TracerError as error:
            problems.append(str(error))
    unfinished = [
        child.name
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".") and child.name not in names
    ]
    pairs = sum(len(others) for others in collection.overlap_graph().values()) // 2
    kinds = Counter(_kind_of(name) for name in names)
    tags = Counter(tag for meta in metas for tag in _tags_of(meta))
    targets = Counter(str(_target_of(meta)) for meta in metas if _target_of(meta))
    area_cm2 = sum(_number(meta.get("area_cm2")) for meta in metas)
    box = _union_of_boxes(metas)
    facts = {
        "n_surfaces": len(names),
        "unfinished": unfinished,
        "problems": problems,
        "kinds": dict(sorted(kinds.items())),
        "area_cm2": area_cm2,
        "area_vx2": sum(_number(meta.get("area_vx2")) for meta in metas),
        "bbox_xyz": box,
        "n_overlaps": pairs,
        "tags": dict(sorted(tags.items())),
        "volumes": dict(sorted(targets.items())),
    }
    text = f"{len(names)}, {area_cm2:.4g} cm² in all by their meta.json"
    lines = [("surfaces", text)]
    if kinds:
        lines.append(("kinds", ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))))
    if box is not None:
        lines.append(("bbox", _box_text(box)))
    lines.append(("overlaps", f"{pairs} pairs"))
    lines.append(("tags", _counts_text(tags)))
    if targets:
        lines.append(("volumes", ", ".join(sorted(targets))))
    if unfinished:
        lines.append(("unfinished", ", ".join(unfinished[:5]) + " …" * (len(unfinished) > 5)))
    lines.extend(("problem", problem) for problem in problems)
    return Info(kind="collection", path=str(folder.absolute()), facts=facts, lines=tuple(lines))


def _describe_surface(folder: Path) -> Info:
    from tracer.surface import Surface
    from tracer.tifxyz import plain_json, read_mask, voxel_size_um

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TracerWarning)
        surface = Surface.load(folder)
    problems = [str(w.message) for w in caught]
    mask = read_mask(folder, surface.shape)
    known_um = voxel_size_um(surface.meta)
    n_valid = int(np.count_nonzero(surface.valid))
    facts = {
        "name": surface.name or folder.name,
        "shape": list(surface.shape),
        "scale": list(surface.scale),
        "step": [1.0 / s for s in surface.scale],
        "spacing": [_finite(v) for v in surface.spacing()],
        "scale_ok": not any("wrong scale" in problem for problem in problems),
        "n_valid": n_valid,
        "n_masked_out": None if mask is None else int(np.count_nonzero(~mask)),
        "area_vx2": surface.area_vx2,
        "area_cm2": None if known_um is None else surface.area_cm2(known_um),
        "stored_area_vx2": _finite(surface.meta.get("area_vx2")),
        "voxel_size_um": known_um,
        "bbox_xyz": None if n_valid == 0 else surface.bbox_xyz.tolist(),
        "channels": {
            key: {"dtype": grid.dtype.name, "shape": list(grid.shape)}
            for key, grid in surface.channels.items()
        },
        "tags": sorted(_tags_of(surface.meta)),
        "n_overlaps": _n_overlaps(folder),
        "volume": _target_of(surface.meta),
        "provenance": {key: surface.meta[key] for key in _FACT_KEYS if key in surface.meta},
        "problems": problems,
    }
    return Info(
        kind="surface",
        path=str(folder.absolute()),
        facts=plain_json(facts),
        lines=_surface_lines(surface, facts),
    )


def _surface_lines(surface: "Surface", facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    rows, cols = surface.shape
    share = 100.0 * facts["n_valid"] / (rows * cols)
    grid = f"{rows} x {cols} vertices (rows, cols), {share:.0f} % valid"
    if facts["n_masked_out"] is not None:
        grid += f", {facts['n_masked_out']} masked out"
    step_x, step_y = facts["step"]
    step = f"{step_x:g}" if math.isclose(step_x, step_y) else f"{step_x:g} x {step_y:g}"
    measured = " x ".join("?" if v is None else f"{v:.3g}" for v in facts["spacing"])
    verdict = "agrees" if facts["scale_ok"] else "DISAGREES"
    area = f"{facts['area_vx2']:.0f} vx²"
    if facts["area_cm2"] is not None:
        area = f"{facts['area_cm2']:.4g} cm² at {facts['voxel_size_um']:.4g} µm, {area}"
    channels = ", ".join(f"{k} ({v['dtype']})" for k, v in facts["channels"].items())
    made = ", ".join(f"{key} {_short(value)}" for key, value in facts["provenance"].items())
    lines = [
        ("grid", grid),
        ("step", f"{step} voxels by its scale; measured {measured}, which {verdict}"),
        ("area", area),
        ("bbox", "none" if facts["bbox_xyz"] is None else _box_text(facts["bbox_xyz"])),
        ("channels", channels or "none"),
        ("tags", ", ".join(facts["tags"]) or "none"),
        ("overlaps", str(facts["n_overlaps"])),
        ("volume", str(facts["volume"] or "not recorded")),
        ("made by", made or "not recorded"),
    ]
    lines.extend(("problem", problem) for problem in facts["problems"])
    return tuple(lines)


def _n_overlaps(folder: Path) -> int:
    from tracer.collection import PatchCollection

    absolute = folder.absolute()
    return len(PatchCollection(absolute.parent).overlaps(absolute.name))


def _kind_of(name: str) -> str:
    match = re.fullmatch(r"(.+)_\d{8,}", name)  # the rest is a time
    return match.group(1) if match else "named otherwise"


def _tags_of(meta: Mapping[str, Any]) -> list[str]:
    tags = meta.get("tags")
    return [str(tag) for tag in tags] if isinstance(tags, dict) else []


def _target_of(meta: Mapping[str, Any]) -> str | None:
    target = meta.get("target_volume")
    if isinstance(target, dict):
        return str(target.get("uuid") or target.get("path") or "") or None
    return str(target) if target else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0


def _finite(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _union_of_boxes(metas: list[dict[str, Any]]) -> list[list[float]] | None:
    boxes = []
    for meta in metas:
        box = np.asarray(meta.get("bbox") or [], dtype=object)
        if box.shape == (2, 3) and all(map(_is_number, box.ravel())):
            boxes.append(box.astype(np.float64))
    if not boxes:
        return None
    stacked = np.stack(boxes)
    return [stacked[:, 0].min(axis=0).tolist(), stacked[:, 1].max(axis=0).tolist()]


def _box_text(box: list[list[float]]) -> str:
    low, high = (", ".join(f"{v:.0f}" for v in corner) for corner in box)
    return f"({low}) to ({high}) (x, y, z)"


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {key}" for key, n in sorted(counts.items())) or "none"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    return value if isinstance(value, str) else json.dumps(value)
