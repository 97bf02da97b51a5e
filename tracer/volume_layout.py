"""The metadata files of the volumes we write: Zarr v2, NGFF 0.4 and ``meta.json``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tracer.errors import VolumeError

# On 128-cubes: 5 takes 1.5 to 3 times the time for 3 % (CT) to 26 % (predictions) less, 9 a hundred
# times.
COMPRESSION_LEVEL = 3
GROUP = {"zarr_format": 2}
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


def shuffle(dtype: np.dtype[Any]) -> int:
    """Return the blosc shuffle mode: by bytes, where an element has several.

    Parameters
    ----------
    dtype : dtype
        Of the elements.

    Returns
    -------
    int
        0 or 1.
    """
    return 1 if dtype.itemsize > 1 else 0


def array_metadata(shape_zyx: Sequence[int], dtype: np.dtype[Any], chunk: int) -> dict[str, Any]:
    """Return the ``.zarray`` of a level.

    Parameters
    ----------
    shape_zyx : sequence of int
        Voxels of the level per axis.
    dtype : dtype
        Of the voxels.
    chunk : int
        Edge of a chunk in voxels.

    Returns
    -------
    dict
        JSON object.
    """
    return {
        "zarr_format": 2,
        "shape": list(shape_zyx),
        "chunks": [chunk] * 3,
        "dtype": dtype.newbyteorder("<").str,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
        "compressor": {
            "id": "blosc",
            "cname": "zstd",
            "clevel": COMPRESSION_LEVEL,
            "shuffle": shuffle(dtype),
            "blocksize": 0,
        },
    }


def group_attributes(name: str, n_levels: int, pooling: str) -> dict[str, Any]:
    """Return the ``.zattrs`` of a volume.

    Parameters
    ----------
    name : str
        Name of the volume.
    n_levels : int
        Levels, each half as fine as the one before.
    pooling : str
        How they were made.

    Returns
    -------
    dict
        JSON object. Scales are in level-0 voxels, as VC3D writes them; ``meta.json`` has the µm.
    """
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [float(2**level)] * 3}],
        }
        for level in range(n_levels)
    ]
    return {
        "multiscales": [
            {
                "version": "0.4",
                "name": name,
                "axes": [{"name": axis, "type": "space"} for axis in "zyx"],
                "datasets": datasets,
                "metadata": {"downsampling_method": pooling},
            }
        ]
    }


def volume_meta(
    shape_zyx: Sequence[int],
    dtype: np.dtype[Any],
    voxel_size_um: float,
    name: str,
    content_sha256: str,
) -> dict[str, Any]:
    """Return the ``meta.json`` of a volume.

    Parameters
    ----------
    shape_zyx : sequence of int
        Voxels of level 0 per axis.
    dtype : dtype
        Of the voxels.
    voxel_size_um : float
        Edge of a level-0 voxel in µm.
    name : str
        Name and uuid.
    content_sha256 : str
        Digest of the stored level 0, which makes the volume's identity exact.

    Returns
    -------
    dict
        JSON object.
    """
    slices, height, width = shape_zyx
    return {
        "height": height,
        "width": width,
        "slices": slices,
        "min": 0.0,
        "max": float(np.iinfo(dtype).max),
        "name": name,
        "uuid": name,
        "type": "vol",
        "format": "zarr",
        "voxelsize": voxel_size_um,
        "content_sha256": content_sha256,
    }


def checked_shape(shape_zyx: Sequence[int], path: Path) -> tuple[int, int, int]:
    """Return a shape along z, y, x, or refuse it.

    Parameters
    ----------
    shape_zyx : sequence of int
        Voxels per axis.
    path : Path
        The volume, for messages.

    Returns
    -------
    tuple of int
        Voxels along z, y, x.

    Raises
    ------
    VolumeError
        If it is not three positive numbers.
    """
    shape = tuple(int(n) for n in shape_zyx)
    if len(shape) != 3 or min(shape) < 1:
        raise VolumeError(f"{path}: shape {shape} is not a volume's; give z, y, x, each at least 1")
    return shape[0], shape[1], shape[2]


def checked_dtype(dtype: DTypeLike, path: Path) -> np.dtype[Any]:
    """Return the type of a volume's voxels, or refuse it.

    Parameters
    ----------
    dtype : dtype
        What was asked for.
    path : Path
        The volume, for messages.

    Returns
    -------
    dtype
        uint8 or uint16.

    Raises
    ------
    VolumeError
        If it is another one.
    """
    found = np.dtype(dtype)
    if found not in _DTYPES:
        raise VolumeError(f"{path}: a volume cannot be {found}; convert to uint8 or uint16")
    return found


def checked_chunk(chunk: int, path: Path) -> int:
    """Return the edge of a chunk, or refuse it.

    Parameters
    ----------
    chunk : int
        Voxels.
    path : Path
        The volume, for messages.

    Returns
    -------
    int
        Voxels.

    Raises
    ------
    VolumeError
        If it is not a positive even number.
    """
    if chunk < 2 or chunk % 2:
        raise VolumeError(f"{path}: chunk {chunk} must be even and at least 2, for example 128")
    return int(chunk)


def checked_voxel_size(voxel_size_um: float, path: Path) -> float:
    """Return a voxel size, or refuse it.

    Parameters
    ----------
    voxel_size_um : float
        Edge of a voxel in µm.
    path : Path
        The volume, for messages.

    Returns
    -------
    float
        Edge of a voxel in µm.

    Raises
    ------
    VolumeError
        If it is not positive and finite.
    """
    if not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise VolumeError(
            f"{path}: voxel size {voxel_size_um} must be the µm per voxel, for example 7.91"
        )
    return float(voxel_size_um)
