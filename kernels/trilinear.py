"""Trilinear sampling of a volume of which only some chunks are in memory.

Conventions
-----------
Voxel (z, y, x) has its centre at the coordinates (z, y, x). Outside the volume everything is 0, so
within one voxel of its faces a sample falls off linearly. A chunk that is not in the table holds
the fill value everywhere.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel


class ChunkView(NamedTuple):
    """The chunks of one volume level that a computation may touch.

    Attributes
    ----------
    pool : ndarray of uint8 or uint16, shape (slots * chunk voxels,)
        Decoded chunks, one after the other, each in C order.
    table : ndarray of int32, shape (nz, ny, nx)
        Slot of each chunk of a box of chunks; -1 where every voxel has the fill value.
    origin : ndarray of int64, shape (3,)
        Chunk index z, y, x of ``table[0, 0, 0]``.
    chunk_shape : ndarray of int64, shape (3,)
        Voxels of a chunk along z, y, x.
    shape_zyx : ndarray of int64, shape (3,)
        Voxels of the level.
    fill : float
        Value of voxels without a chunk.
    """

    pool: NDArray[np.uint8] | NDArray[np.uint16]
    table: NDArray[np.int32]
    origin: NDArray[np.int64]
    chunk_shape: NDArray[np.int64]
    shape_zyx: NDArray[np.int64]
    fill: float


@inline_kernel
def chunk_base(view: ChunkView, cz: int, cy: int, cx: int) -> int:
    """Return where a chunk starts in the pool.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory.
    cz : int
        Chunk index along z.
    cy : int
        Chunk index along y.
    cx : int
        Chunk index along x.

    Returns
    -------
    int
        Index into ``view.pool``; -1 where the chunk has the fill value or is outside the table.
    """
    tz = cz - view.origin[0]
    ty = cy - view.origin[1]
    tx = cx - view.origin[2]
    nz, ny, nx = view.table.shape
    if tz < 0 or ty < 0 or tx < 0 or tz >= nz or ty >= ny or tx >= nx:
        return -1
    slot = np.int64(view.table[tz, ty, tx])
    if slot < 0:
        return -1
    return slot * view.chunk_shape[0] * view.chunk_shape[1] * view.chunk_shape[2]


@inline_kernel
def voxel_value(view: ChunkView, z: int, y: int, x: int) -> float:
    """Return one voxel.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory.
    z : int
        Voxel index along z.
    y : int
        Voxel index along y.
    x : int
        Voxel index along x.

    Returns
    -------
    float
        Its value; 0 outside the volume.
    """
    if z < 0 or y < 0 or x < 0:
        return 0.0
    if z >= view.shape_zyx[0] or y >= view.shape_zyx[1] or x >= view.shape_zyx[2]:
        return 0.0
    sz, sy, sx = view.chunk_shape[0], view.chunk_shape[1], view.chunk_shape[2]
    cz, cy, cx = z // sz, y // sy, x // sx
    base = chunk_base(view, cz, cy, cx)
    if base < 0:
        return view.fill
    return float(view.pool[base + ((z - cz * sz) * sy + (y - cy * sy)) * sx + (x - cx * sx)])


@inline_kernel
def blend(
    v000: float,
    v001: float,
    v010: float,
    v011: float,
    v100: float,
    v101: float,
    v110: float,
    v111: float,
    fz: float,
    fy: float,
    fx: float,
) -> float:
    """Return the trilinear blend of the eight corners of a cell.

    Parameters
    ----------
    v000 : float
        Corner (z, y, x) = (0, 0, 0).
    v001 : float
        Corner (0, 0, 1).
    v010 : float
        Corner (0, 1, 0).
    v011 : float
        Corner (0, 1, 1).
    v100 : float
        Corner (1, 0, 0).
    v101 : float
        Corner (1, 0, 1).
    v110 : float
        Corner (1, 1, 0).
    v111 : float
        Corner (1, 1, 1).
    fz : float
        Fraction along z, in [0, 1].
    fy : float
        Fraction along y.
    fx : float
        Fraction along x.

    Returns
    -------
    float
        Interpolated value.
    """
    v00 = v000 + fx * (v001 - v000)
    v01 = v010 + fx * (v011 - v010)
    v10 = v100 + fx * (v101 - v100)
    v11 = v110 + fx * (v111 - v110)
    v0 = v00 + fy * (v01 - v00)
    v1 = v10 + fy * (v11 - v10)
    return v0 + fz * (v1 - v0)


@inline_kernel
def sample_anywhere(view: ChunkView, z: float, y: float, x: float) -> float:
    """Return the trilinear sample at a point, wherever its cell lies.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory; they must include every corner of the cell that is not fill.
    z : float
        Coordinate along z in voxels of the level.
    y : float
        Coordinate along y.
    x : float
        Coordinate along x.

    Returns
    -------
    float
        Interpolated value; 0 further than one voxel outside the volume and for NaN.
    """
    inside_z = z > -1.0 and z < view.shape_zyx[0]
    inside_y = y > -1.0 and y < view.shape_zyx[1]
    inside_x = x > -1.0 and x < view.shape_zyx[2]
    if not (inside_z and inside_y and inside_x):
        return 0.0
    z0 = math.floor(z)
    y0 = math.floor(y)
    x0 = math.floor(x)
    return blend(
        voxel_value(view, z0, y0, x0),
        voxel_value(view, z0, y0, x0 + 1),
        voxel_value(view, z0, y0 + 1, x0),
        voxel_value(view, z0, y0 + 1, x0 + 1),
        voxel_value(view, z0 + 1, y0, x0),
        voxel_value(view, z0 + 1, y0, x0 + 1),
        voxel_value(view, z0 + 1, y0 + 1, x0),
        voxel_value(view, z0 + 1, y0 + 1, x0 + 1),
        z - z0,
        y - y0,
        x - x0,
    )


@inline_kernel
def sample_inside(
    pool: NDArray[np.uint8] | NDArray[np.uint16],
    base: int,
    size_y: int,
    size_x: int,
    z: float,
    y: float,
    x: float,
) -> float:
    """Return the trilinear sample at a point whose whole cell lies in one chunk.

    Parameters
    ----------
    pool : ndarray, shape (slots * chunk voxels,)
        Decoded chunks.
    base : int
        Where the chunk starts in the pool.
    size_y : int
        Voxels of a chunk along y.
    size_x : int
        Voxels of a chunk along x.
    z : float
        Coordinate along z from the chunk's first voxel, not negative.
    y : float
        Coordinate along y from the chunk's first voxel.
    x : float
        Coordinate along x from the chunk's first voxel.

    Returns
    -------
    float
        Interpolated value.
    """
    z0 = int(z)
    y0 = int(y)
    x0 = int(x)
    at = base + (z0 * size_y + y0) * size_x + x0
    above = at + size_y * size_x
    return blend(
        float(pool[at]),
        float(pool[at + 1]),
        float(pool[at + size_x]),
        float(pool[at + size_x + 1]),
        float(pool[above]),
        float(pool[above + 1]),
        float(pool[above + size_x]),
        float(pool[above + size_x + 1]),
        z - z0,
        y - y0,
        x - x0,
    )


@kernel
def sample_volume(
    view: ChunkView, points_zyx: NDArray[np.float64], out_values: NDArray[np.float64]
) -> None:
    """Fill the trilinear samples at points.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory.
    points_zyx : ndarray of float64, shape (n, 3)
        Coordinates in voxels of the level.
    out_values : ndarray of float64, shape (n,)
        Interpolated values.
    """
    for i in range(points_zyx.shape[0]):
        out_values[i] = sample_anywhere(view, points_zyx[i, 0], points_zyx[i, 1], points_zyx[i, 2])
