"""What is recorded beside rendered layers, and how two renders are told apart."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tracer import __version__
from tracer.errors import OutputError
from tracer.render.job import Job
from tracer.surface import Surface

META_NAME = "render.json"


def metadata(job: Job, surface: Surface) -> dict[str, Any]:
    """Return what the files of a render are.

    Parameters
    ----------
    job : Job
        What is rendered.
    surface : Surface
        Its source.

    Returns
    -------
    dict
        Content of ``render.json`` but for the figures that are known at the end. ``digest`` is
        equal for equal pixels: it covers the parameters that matter, volume and surface.
    """
    params, volume, canvas = job.params, job.volume, job.canvas
    content = {
        "params": params.content(),
        "volume_identity": volume.identity,
        "surface_digest": _surface_digest(surface),
    }
    text = json.dumps(content, sort_keys=True)
    first, last = params.written_layers[0], params.written_layers[-1]
    offsets = job.sampling.offsets
    return {
        "format": "tracer-render",
        "tracer_version": __version__,
        "digest": hashlib.sha256(text.encode()).hexdigest()[:32],
        **content,
        "volume": {
            "path": str(volume.path),
            "uuid": volume.uuid,
            "shape_zyx": list(volume.shape_zyx),
            "voxelsize": volume.voxel_size_um,
        },
        "surface": {
            "name": surface.name,
            "shape": list(surface.shape),
            "scale": list(surface.scale),
        },
        "level": params.level,
        "scale": params.scale,
        "um_per_pixel": job.um_per_pixel,
        "um_between_layers": volume.voxel_size_um,
        "shape": [len(params.written_layers), *canvas.shape],
        "canvas_shape": list(canvas.full_shape),
        "orientation": job.geometry.side,
        "layer_order": "the last layer is the furthest along the orientation's direction",
        "layer_offsets_vx": [float(offsets[first]), float(offsets[last])],
        "layer_indices": [first, last],
        "files": [],
    }


def description(meta: Mapping[str, Any]) -> str:
    """Return one line for people who find a tif alone.

    Parameters
    ----------
    meta : mapping
        From :func:`metadata`.

    Returns
    -------
    str
        Plain text: JSON would be taken for tifffile's own.
    """
    return (
        f"tracer render of {meta['surface']['name']} from {meta['volume']['uuid']}, level "
        f"{meta['level']}, scale {meta['scale']:g}, {meta['um_per_pixel']:.4g} um per pixel, "
        f"layers along {meta['orientation']}; see {META_NAME}"
    )


def _surface_digest(surface: Surface) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(surface.points_xyz).tobytes())
    digest.update(np.packbits(surface.valid).tobytes())
    digest.update(repr(surface.scale).encode())
    return digest.hexdigest()[:32]


def read_meta(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a render.

    Parameters
    ----------
    path : Path
        JSON file.

    Returns
    -------
    dict or None
        Its content; None where there is none.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot read ({error}); remove it to render anew") from error
    return value if isinstance(value, dict) else {}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return in what two renders differ, and what to do about it.

    Parameters
    ----------
    old : mapping
        Metadata of what is there.
    new : mapping
        Metadata of what is wanted.

    Returns
    -------
    str
        End of a sentence.
    """
    before, after = old.get("params", {}), new["params"]
    changed = [
        f"{key} {before.get(key)} (now {value})"
        for key, value in after.items()
        if before.get(key) != value
    ]
    for key, name in (("volume_identity", "volume"), ("surface_digest", "surface")):
        if old.get(key) != new[key]:
            changed.append(f"another {name}")
    what = ", ".join(changed) or "by another version"
    return f"with {what}; choose another directory or overwrite it"
