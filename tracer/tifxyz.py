"""The tifxyz format on disk: tif grids and ``meta.json`` of a surface directory.

A surface directory holds ``x.tif``, ``y.tif``, ``z.tif`` (float32 grids of one shape), optional
further grids, an optional ``mask.tif`` and ``meta.json``, which is written last: a directory
without it is unfinished. This module reads and writes the files; :mod:`tracer.surface` gives them
meaning.

Conventions
-----------
A vertex is invalid where z <= 0; it is written as (-1, -1, -1). NaN and infinity are damage: they
are never written, and refused on reading.
Mask pixel (r * k, c * k) of a mask k times finer than the grid belongs to vertex (r, c).
"""

import json
import math
import time
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, SurfaceError, TracerWarning
from tracer.tif import read_tif

META_NAME = "meta.json"
MASK_NAME = "mask.tif"
COORDINATES = ("x", "y", "z")
FORMAT = "tifxyz"
_UM_PER_CM = 1e4
_MASK_KEEPS_FROM = 128  # annotators draw 0 and 255; soft brushes leave values between


def read_meta(directory: Path) -> dict[str, Any]:
    """Return the parsed ``meta.json`` of a finished surface.

    Parameters
    ----------
    directory : Path
        Surface directory.

    Returns
    -------
    dict
        Its content, unchanged.

    Raises
    ------
    SurfaceError
        If the directory is missing or unfinished.
    FormatError
        If ``meta.json`` is not a JSON object of a tifxyz surface.
    """
    path = directory / META_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if directory.is_dir():
            raise SurfaceError(
                f"{directory}: no {META_NAME}, so this is not a finished surface; "
                "wait for its writer or remove it"
            ) from error
        raise SurfaceError(f"{directory}: no such surface directory; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot read ({error}); restore the file") from error
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{path}: not valid JSON ({error}); restore the file") from error
    if not isinstance(meta, dict):
        raise FormatError(f"{path}: holds a {type(meta).__name__}, not an object; restore it")
    if meta.get("format", FORMAT) != FORMAT:
        raise FormatError(f"{path}: format is {meta['format']!r}, not '{FORMAT}'; convert it first")
    return meta


def parse_scale(meta: Mapping[str, Any], where: Path) -> tuple[float, float]:
    """Return the grid cells per voxel along columns and rows.

    Parameters
    ----------
    meta : mapping
        Content of ``meta.json``.
    where : Path
        Surface directory, for messages.

    Returns
    -------
    tuple of float
        (sx, sy), both positive and finite.

    Raises
    ------
    FormatError
        If ``scale`` is missing or unusable.
    """
    value = meta.get("scale")
    usable = (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in value)
    )
    if not usable:
        raise FormatError(
            f"{where / META_NAME}: scale is {value!r}; it must be two positive numbers [sx, sy] "
            "in grid cells per voxel"
        )
    assert value is not None  # usable
    return float(value[0]), float(value[1])


def read_points(directory: Path) -> NDArray[np.float32]:
    """Return the vertex grid as it is stored.

    Parameters
    ----------
    directory : Path
        Surface directory.

    Returns
    -------
    ndarray of float32, shape (rows, cols, 3)
        Coordinates x, y, z in voxels; invalid vertices as the files have them.

    Raises
    ------
    FormatError
        If a file is missing, unreadable, not floating point, not finite, or of another shape than
        the others.
    """
    grids = []
    for name in COORDINATES:
        path = directory / f"{name}.tif"
        grid = read_tif(path)
        if grid.ndim != 2 or grid.size == 0:
            raise FormatError(f"{path}: shape is {grid.shape}; it must be one grid (rows, cols)")
        if not np.issubdtype(grid.dtype, np.floating):
            raise FormatError(f"{path}: dtype is {grid.dtype}; coordinates must be float32")
        if not np.isfinite(grid).all():
            row, col = np.argwhere(~np.isfinite(grid))[0]
            raise FormatError(
                f"{path}: vertex ({row}, {col}) is {grid[row, col]}; restore the file, or write "
                "-1 to all three coordinates where there is no vertex"
            )
        grids.append(grid)
    shapes = {grid.shape for grid in grids}
    if len(shapes) != 1:
        listed = ", ".join(f"{n}.tif {g.shape}" for n, g in zip(COORDINATES, grids, strict=True))
        raise FormatError(f"{directory}: shapes differ ({listed}); restore the files")
    points = np.empty((*grids[0].shape, 3), dtype=np.float32)
    for axis, grid in enumerate(grids):
        points[..., axis] = grid
    return points


def read_mask(directory: Path, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Return which vertices ``mask.tif`` keeps, or None where there is no mask.

    Parameters
    ----------
    directory : Path
        Surface directory.
    shape : tuple of int
        (rows, cols) of the surface's grid.

    Returns
    -------
    ndarray of bool, shape (rows, cols), or None
        True where the vertex is kept.

    Raises
    ------
    FormatError
        If the mask is unreadable or its size is not a multiple of the grid's.
    """
    path = directory / MASK_NAME
    if not path.exists():
        return None
    return fit_mask(read_tif(path), shape, where=path)


def fit_mask(
    image: NDArray[Any], shape: tuple[int, int], *, where: Path | str
) -> NDArray[np.bool_]:
    """Return the vertices that a mask image keeps.

    Parameters
    ----------
    image : ndarray, shape (k * rows, k * cols) or with a last axis of samples
        Pixels; 255 keeps and 0 masks out (of several samples the first counts).
    shape : tuple of int
        (rows, cols) of the surface's grid.
    where : Path or str
        What to call the image in messages.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
        True where the vertex is kept.

    Raises
    ------
    FormatError
        If the size is not the grid's or an integer multiple of it.
    """
    plane = image[..., 0] if image.ndim == 3 else image
    factors = (plane.shape[0] // shape[0], plane.shape[1] // shape[1]) if plane.ndim == 2 else None
    if (
        factors is None
        or 0 in factors
        or plane.shape
        != (
            shape[0] * factors[0],
            shape[1] * factors[1],
        )
    ):
        raise FormatError(
            f"{where}: mask size {plane.shape} does not fit the grid {shape}; "
            "it must be the grid's size or an integer multiple of it"
        )
    return np.asarray(plane[:: factors[0], :: factors[1]] >= mask_threshold(plane))


def mask_threshold(plane: NDArray[Any]) -> int:
    """Return from which value on a mask keeps.

    Parameters
    ----------
    plane : ndarray, shape (rows, cols)
        Pixels of a mask.

    Returns
    -------
    int
        128, or 1 for a mask that is stored as 0 and 1.
    """
    return _MASK_KEEPS_FROM if plane.max(initial=0) > 1 else 1


def reserve_name(folder: Path, prefix: str) -> Path:
    """Create and return an empty directory ``<prefix>_<YYYYmmddHHMMSSmmm>``.

    Parameters
    ----------
    folder : Path
        Where.
    prefix : str
        First part of the name.

    Returns
    -------
    Path
        A directory that this call created; without ``meta.json`` readers skip it.

    Notes
    -----
    ``mkdir`` is atomic, so two processes in the same millisecond get different names: the later
    one moves on to the next free millisecond.
    """
    moment = datetime.fromtimestamp(time.time(), tz=UTC)
    while True:
        stamp = moment.strftime("%Y%m%d%H%M%S") + f"{moment.microsecond // 1000:03d}"
        path = folder / f"{prefix}_{stamp}"
        try:
            path.mkdir()
        except FileExistsError:
            moment += timedelta(milliseconds=1)
        else:
            return path


def voxel_size_um(meta: Mapping[str, Any]) -> float | None:
    """Return the voxel size that a surface's metadata knows of.

    Parameters
    ----------
    meta : mapping
        Content of ``meta.json``.

    Returns
    -------
    float or None
        Micrometres: from ``target_volume``, else from the ratio of the stored areas.
    """
    volume = meta.get("target_volume")
    size = volume.get("voxelsize") if isinstance(volume, Mapping) else None
    if isinstance(size, int | float) and size > 0:
        return float(size)
    area_vx2, area_cm2 = meta.get("area_vx2"), meta.get("area_cm2")
    if isinstance(area_vx2, int | float) and isinstance(area_cm2, int | float) and area_vx2 > 0:
        return float(np.sqrt(area_cm2 / area_vx2)) * _UM_PER_CM  # what VC3D's writer used
    return None


def read_channels(
    directory: Path,
    meta: Mapping[str, Any],
    shape: tuple[int, int],
    wanted: Iterable[str] | None,
) -> dict[str, NDArray[Any]]:
    """Return the channels of a surface.

    Parameters
    ----------
    directory : Path
        Surface directory.
    meta : mapping
        Content of its ``meta.json``; only channels listed there exist.
    shape : tuple of int
        (rows, cols) of the surface's grid.
    wanted : iterable of str or None
        Names to read; None reads all.

    Returns
    -------
    dict of str to ndarray
        Grids as stored.

    Raises
    ------
    FormatError
        If a channel is not listed or its file is unreadable.

    Warns
    -----
    TracerWarning
        If a channel's shape is not the grid's; it is left out.
    """
    listed = meta.get("channels", [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise FormatError(f"{directory / META_NAME}: channels is {listed!r}, not names")
    names = listed if wanted is None else list(wanted)
    channels = {}
    for name in names:
        if name not in listed or not name or Path(name).name != name:
            raise FormatError(f"{directory}: no channel '{name}'; it has {sorted(listed)}")
        path = directory / f"{name}.tif"
        grid = read_tif(path)
        if grid.shape[:2] == shape:
            channels[name] = grid
        else:
            warnings.warn(
                f"{path}: shape {grid.shape} does not fit the grid {shape}; channel left out",
                TracerWarning,
                stacklevel=3,
            )
    return channels


def plain_json(value: Any) -> Any:
    """Return a value in types that JSON has.

    Parameters
    ----------
    value : Any
        Nested mappings, sequences, scalars, NumPy values and paths.

    Returns
    -------
    Any
        Dicts, lists, strings, numbers, booleans and None; numbers that are not finite become None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain_json(item) for item in items]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
