"""Sample the signed distance field from a pool of loaded chunks.

A chunk holds 128³ voxels plus one voxel of the next chunk on the upper sides, so that a trilinear
cell never crosses chunks. Codes are uint8: ``round(8 * signed distance) + 64``, so one step is 1/8
voxel, 0 is 8 voxels inside the sheet, 64 its boundary and the cap is outside.

Coordinates are voxels in the order x, y, z.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, fused_kernel, inline_kernel, kernel

CHUNK = 128  # voxels per chunk edge
CODES_PER_VOXEL = 8.0
ZERO_CODE = 64.0  # code of the sheet's boundary
NOT_LOADED = -1  # table entry: ask the field to load this chunk first
FAR = -2  # table entry: every voxel is at the cap; nothing is stored

_SHIFT = 7  # log2(CHUNK)
_MASK = CHUNK - 1


class FieldView(NamedTuple):
    """The loaded part of a distance field.

    Attributes
    ----------
    pool : ndarray of uint8, shape (slots, CHUNK + 1, CHUNK + 1, CHUNK + 1)
        Codes of the loaded chunks, axes z, y, x.
    table : ndarray of int32, shape (chunks_z, chunks_y, chunks_x)
        Slot of each chunk, NOT_LOADED or FAR.
    shape_zyx : ndarray of int64, shape (3,)
        Shape of the volume.
    cap : float
        Largest distance, voxels: what every point far from the prediction gets.
    """

    pool: NDArray[np.uint8]
    table: NDArray[np.int32]
    shape_zyx: NDArray[np.int64]
    cap: float


@inline_kernel
def borrow_view(view: FieldView) -> FieldView:
    """Return a view without the cost of counting references, see :func:`borrowed`.

    Parameters
    ----------
    view : FieldView
        Argument of a kernel.

    Returns
    -------
    FieldView
        The same arrays.
    """
    return FieldView(borrowed(view.pool), borrowed(view.table), borrowed(view.shape_zyx), view.cap)


@fused_kernel
def sample_field(
    view: FieldView, x: float, y: float, z: float
) -> tuple[float, float, float, float, bool]:
    """Return the trilinear signed distance at a point and its gradient.

    Parameters
    ----------
    view : FieldView
        Loaded part of the field.
    x, y, z : float
        Point in voxels.

    Returns
    -------
    tuple
        Signed distance in voxels, its derivatives by x, y, z, and whether the point lies inside the
        volume in a loaded (or far) chunk; the cap with zero derivatives where it does not.
    """
    shape = view.shape_zyx
    inside = (
        x >= 0.0
        and y >= 0.0
        and z >= 0.0
        and x <= shape[2] - 1
        and y <= shape[1] - 1
        and z <= shape[0] - 1
    )
    if not inside:
        return view.cap, 0.0, 0.0, 0.0, False
    i, j, k = int(z), int(y), int(x)
    slot = view.table[i >> _SHIFT, j >> _SHIFT, k >> _SHIFT]
    if slot < 0:
        return view.cap, 0.0, 0.0, 0.0, slot == FAR
    fx, fy, fz = x - k, y - j, z - i
    i, j, k = i & _MASK, j & _MASK, k & _MASK
    pool = view.pool
    c000, c001 = float(pool[slot, i, j, k]), float(pool[slot, i, j, k + 1])
    c010, c011 = float(pool[slot, i, j + 1, k]), float(pool[slot, i, j + 1, k + 1])
    c100, c101 = float(pool[slot, i + 1, j, k]), float(pool[slot, i + 1, j, k + 1])
    c110, c111 = float(pool[slot, i + 1, j + 1, k]), float(pool[slot, i + 1, j + 1, k + 1])
    d00, d01, d10, d11 = c001 - c000, c011 - c010, c101 - c100, c111 - c110
    e00, e01, e10, e11 = c000 + d00 * fx, c010 + d01 * fx, c100 + d10 * fx, c110 + d11 * fx
    f0, f1 = e00 + (e01 - e00) * fy, e10 + (e11 - e10) * fy
    value = f0 + (f1 - f0) * fz
    by_x0, by_x1 = d00 + (d01 - d00) * fy, d10 + (d11 - d10) * fy
    by_x = by_x0 + (by_x1 - by_x0) * fz
    by_y = (e01 - e00) + ((e11 - e10) - (e01 - e00)) * fz
    return (
        (value - ZERO_CODE) / CODES_PER_VOXEL,
        by_x / CODES_PER_VOXEL,
        by_y / CODES_PER_VOXEL,
        (f1 - f0) / CODES_PER_VOXEL,
        True,
    )


@fused_kernel
def nearest_distance(view: FieldView, x: float, y: float, z: float) -> float:
    """Return the signed distance at the voxel nearest to a point.

    Parameters
    ----------
    view : FieldView
        Loaded part of the field.
    x, y, z : float
        Point in voxels.

    Returns
    -------
    float
        Voxels; the cap outside the volume and where no chunk is loaded.
    """
    i, j, k = math.floor(z + 0.5), math.floor(y + 0.5), math.floor(x + 0.5)
    shape = view.shape_zyx
    if i < 0 or j < 0 or k < 0 or i >= shape[0] or j >= shape[1] or k >= shape[2]:
        return view.cap
    slot = view.table[i >> _SHIFT, j >> _SHIFT, k >> _SHIFT]
    if slot < 0:
        return view.cap
    return (float(view.pool[slot, i & _MASK, j & _MASK, k & _MASK]) - ZERO_CODE) / CODES_PER_VOXEL


@kernel
def sample_points(
    view: FieldView, points_xyz: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Fill in signed distances and gradients at points.

    Parameters
    ----------
    view : FieldView
        Loaded part of the field.
    points_xyz : ndarray of float64, shape (n, 3)
        Points in voxels.
    out : ndarray of float64, shape (n, 4)
        Filled with the signed distance and its derivatives by x, y, z.
    """
    for p in range(points_xyz.shape[0]):
        value, gx, gy, gz, _ = sample_field(
            view, points_xyz[p, 0], points_xyz[p, 1], points_xyz[p, 2]
        )
        out[p, 0], out[p, 1], out[p, 2], out[p, 3] = value, gx, gy, gz
