"""Halving a block of voxels along every axis, as pyramids of volumes are made of.

Voxel i of the coarse level covers voxels 2 i and 2 i + 1 of the fine one; at an odd upper side, 2 i
alone. Law: pooling blocks that start at even voxels and joining them equals pooling the whole.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pooling = Literal["mean", "max", "nearest"]


def pool(voxels: NDArray[Any], pooling: Pooling) -> NDArray[Any]:
    """Return a block at half the resolution.

    Parameters
    ----------
    voxels : ndarray of uint8 or uint16, shape (z, y, x)
        Fine block.
    pooling : {"mean", "max", "nearest"}
        Mean of the covered voxels, rounded half up (for CT); their maximum (for predictions, whose
        thin sheets a mean would dilute away); the one with even indices (for labels).

    Returns
    -------
    ndarray of the same dtype, shape (ceil(z / 2), ceil(y / 2), ceil(x / 2))
        Coarse block.

    Notes
    -----
    Whole-array NumPy: the decompression around it costs more.
    """
    if pooling == "nearest":
        return np.ascontiguousarray(voxels[::2, ::2, ::2])
    even = np.pad(voxels, [(0, n % 2) for n in voxels.shape], mode="edge")
    if pooling == "max":
        for axis in range(3):
            even = np.maximum(*_halves(even, axis))
        return np.ascontiguousarray(even)
    total: NDArray[Any] = even.astype(np.uint16 if voxels.dtype == np.uint8 else np.uint32)
    for axis in range(3):
        low, high = _halves(total, axis)
        total = low + high
    mean: NDArray[Any] = np.right_shift(total + 4, 3).astype(voxels.dtype)
    return mean


def _halves(voxels: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the slices with even and with odd indices along an axis."""
    before = (slice(None),) * axis
    return voxels[(*before, slice(0, None, 2))], voxels[(*before, slice(1, None, 2))]
