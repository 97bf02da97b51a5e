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

ELSEWHERE = np.uint64(2**64 - 1)  # index of samples that are not gathered from one chunk
_BATCH_SAMPLES = 512  # work arrays of this size stay in the first-level cache


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
    slot = int(view.table[tz, ty, tx])
    if slot < 0:
        return -1
    return slot * int(view.chunk_shape[0] * view.chunk_shape[1] * view.chunk_shape[2])


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
def _corner(view: ChunkView, cz: int, cy: int, cx: int, oz: int, oy: int, ox: int) -> float:
    """Return the voxel at an offset from a chunk's first voxel, 0 to the chunk's size inclusive."""
    sz, sy, sx = view.chunk_shape[0], view.chunk_shape[1], view.chunk_shape[2]
    z, y, x = cz * sz + oz, cy * sy + oy, cx * sx + ox
    if z < 0 or y < 0 or x < 0:
        return 0.0
    if z >= view.shape_zyx[0] or y >= view.shape_zyx[1] or x >= view.shape_zyx[2]:
        return 0.0
    if oz == sz:
        cz, oz = cz + 1, 0
    if oy == sy:
        cy, oy = cy + 1, 0
    if ox == sx:
        cx, ox = cx + 1, 0
    base = chunk_base(view, cz, cy, cx)
    if base < 0:
        return view.fill
    return float(view.pool[np.uint64(base + (oz * sy + oy) * sx + ox)])


@inline_kernel
def is_between(
    low_z: float,
    low_y: float,
    low_x: float,
    high_z: float,
    high_y: float,
    high_x: float,
    top_z: float,
    top_y: float,
    top_x: float,
) -> bool:
    """Return whether 0 <= low and high < top along every axis.

    Parameters
    ----------
    low_z : float
        Lower corner of a box along z.
    low_y : float
        Along y.
    low_x : float
        Along x.
    high_z : float
        Upper corner along z.
    high_y : float
        Along y.
    high_x : float
        Along x.
    top_z : float
        Limit along z.
    top_y : float
        Along y.
    top_x : float
        Along x.

    Returns
    -------
    bool
        False for NaN.
    """
    return (
        low_z >= 0.0
        and low_y >= 0.0
        and low_x >= 0.0
        and high_z < top_z
        and high_y < top_y
        and high_x < top_x
    )


@kernel
def find_chunk(
    view: ChunkView, z: float, y: float, x: float
) -> tuple[int, float, float, float, float, float, float]:
    """Return the chunk around a point.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory.
    z : float
        Coordinate along z.
    y : float
        Along y.
    x : float
        Along x.

    Returns
    -------
    tuple
        (where it starts in the pool, its first voxel z, y, x, and up to where cells lie wholly
        inside it, relative to that: z, y, x). The limits are -1 where the point is outside the
        volume or the chunk is not in the table.
    """
    missing = (-1, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0)
    n_z, n_y, n_x = int(view.shape_zyx[0]), int(view.shape_zyx[1]), int(view.shape_zyx[2])
    if not (z >= 0.0 and y >= 0.0 and x >= 0.0 and z < n_z and y < n_y and x < n_x):
        return missing
    sz, sy, sx = int(view.chunk_shape[0]), int(view.chunk_shape[1]), int(view.chunk_shape[2])
    cz, cy, cx = int(z) // sz, int(y) // sy, int(x) // sx
    base = chunk_base(view, cz, cy, cx)
    if base < 0:
        return missing
    return (
        base,
        float(cz * sz),
        float(cy * sy),
        float(cx * sx),
        min(sz, n_z - cz * sz) - 1.0,
        min(sy, n_y - cy * sy) - 1.0,
        min(sx, n_x - cx * sx) - 1.0,
    )


@kernel
def _fill_corners(
    view: ChunkView,
    z: float,
    y: float,
    x: float,
    at: int,
    out_fractions: NDArray[np.float64],
    out_corners: NDArray[np.uint8] | NDArray[np.uint16],
) -> None:
    """Enter a sample whose cell lies in several chunks, in none, or outside the volume."""
    inside_z = z > -1.0 and z < view.shape_zyx[0]
    inside_y = y > -1.0 and y < view.shape_zyx[1]
    inside_x = x > -1.0 and x < view.shape_zyx[2]
    if not (inside_z and inside_y and inside_x):
        out_fractions[:, at] = 0.0
        out_corners[:, at] = 0
        return
    z0, y0, x0 = math.floor(z), math.floor(y), math.floor(x)
    sz, sy, sx = view.chunk_shape[0], view.chunk_shape[1], view.chunk_shape[2]
    cz, cy, cx = z0 // sz, y0 // sy, x0 // sx
    oz, oy, ox = z0 - cz * sz, y0 - cy * sy, x0 - cx * sx
    for corner in range(8):
        iz, iy, ix = oz + (corner >> 2), oy + ((corner >> 1) & 1), ox + (corner & 1)
        out_corners[corner, at] = _corner(view, cz, cy, cx, iz, iy, ix)
    out_fractions[0, at] = z - z0
    out_fractions[1, at] = y - y0
    out_fractions[2, at] = x - x0


@kernel
def sample_lines(
    view: ChunkView,
    lines: NDArray[np.float64],
    n_lines: int,
    offsets: NDArray[np.float64],
    gain: float,
    out_values: NDArray[np.float64],
) -> None:
    """Fill the trilinear samples at point + offset * direction for many points.

    Parameters
    ----------
    view : ChunkView
        Chunks in memory; they must include every corner that is not fill.
    lines : ndarray of float64, shape (at least n_lines, 6)
        Point z, y, x and direction z, y, x in voxels of the level. Neighbours are expected to be
        close together: that is what is fast, not what is right.
    n_lines : int
        Number of lines.
    offsets : ndarray of float64, shape (n,)
        Ascending or descending.
    gain : float
        Factor for the values.
    out_values : ndarray of float64, shape (at least n_lines * n,)
        Samples line by line: interpolated values times `gain`. 0 further than one voxel outside the
        volume and for NaN.

    Notes
    -----
    Positions, gathering and blending in loops of their own, over batches that stay in the
    first-level cache: the last one vectorises. Helpers that take arrays are called in rare cases
    only, because Numba counts references in every call: 5 ns per array, a sample takes 10.
    """
    n = offsets.shape[0]
    per_batch = max(1, _BATCH_SAMPLES // n)
    index = np.empty(per_batch * n, dtype=np.uint64)
    fractions = np.empty((3, per_batch * n))
    corners = np.empty((8, per_batch * n), dtype=view.pool.dtype)
    pool = view.pool
    size_y, size_x = view.chunk_shape[1], view.chunk_shape[2]
    right, below, deep = np.uint64(1), np.uint64(size_x), np.uint64(size_y * size_x)
    first, last = offsets[0], offsets[n - 1]
    # The chunk of the latest sample. Neighbours mostly share it; finding another one costs three
    # integer divisions.
    base, hz, hy, hx = -1, 0.0, 0.0, 0.0
    tz, ty, tx = -1.0, -1.0, -1.0
    for start in range(0, n_lines, per_batch):
        stop = min(start + per_batch, n_lines)
        m = 0
        for i in range(start, stop):
            z, y, x = lines[i, 0], lines[i, 1], lines[i, 2]
            dz, dy, dx = lines[i, 3], lines[i, 4], lines[i, 5]
            z0, y0, x0 = z + first * dz, y + first * dy, x + first * dx
            z1, y1, x1 = z + last * dz, y + last * dy, x + last * dx
            bz, by, bx = min(z0, z1), min(y0, y1), min(x0, x1)
            ez, ey, ex = max(z0, z1), max(y0, y1), max(x0, x1)
            whole = is_between(bz - hz, by - hy, bx - hx, ez - hz, ey - hy, ex - hx, tz, ty, tx)
            if not whole:
                base, hz, hy, hx, tz, ty, tx = find_chunk(view, bz, by, bx)
                whole = is_between(bz - hz, by - hy, bx - hx, ez - hz, ey - hy, ex - hx, tz, ty, tx)
            if whole:
                rz, ry, rx = z - hz, y - hy, x - hx
                for k in range(n):
                    t = offsets[k]
                    oz, oy, ox = rz + t * dz, ry + t * dy, rx + t * dx
                    iz, iy, ix = np.int64(oz), np.int64(oy), np.int64(ox)
                    fractions[0, m + k] = oz - iz
                    fractions[1, m + k] = oy - iy
                    fractions[2, m + k] = ox - ix
                    index[m + k] = np.uint64(base + (iz * size_y + iy) * size_x + ix)
                m += n
                continue
            for k in range(n):
                qz, qy, qx = z + offsets[k] * dz, y + offsets[k] * dy, x + offsets[k] * dx
                oz, oy, ox = qz - hz, qy - hy, qx - hx
                if not is_between(oz, oy, ox, oz, oy, ox, tz, ty, tx):
                    # Either it straddles the home's upper faces, or it is in another chunk.
                    if not is_between(oz, oy, ox, oz, oy, ox, tz + 1.0, ty + 1.0, tx + 1.0):
                        base, hz, hy, hx, tz, ty, tx = find_chunk(view, qz, qy, qx)
                        oz, oy, ox = qz - hz, qy - hy, qx - hx
                    if not is_between(oz, oy, ox, oz, oy, ox, tz, ty, tx):
                        index[m] = ELSEWHERE
                        _fill_corners(view, qz, qy, qx, m, fractions, corners)
                        m += 1
                        continue
                iz, iy, ix = np.int64(oz), np.int64(oy), np.int64(ox)
                fractions[0, m] = oz - iz
                fractions[1, m] = oy - iy
                fractions[2, m] = ox - ix
                index[m] = np.uint64(base + (iz * size_y + iy) * size_x + ix)
                m += 1
        for k in range(m):
            at = index[k]
            if at == ELSEWHERE:
                continue
            corners[0, k] = pool[at]
            corners[1, k] = pool[at + right]
            corners[2, k] = pool[at + below]
            corners[3, k] = pool[at + below + right]
            at += deep
            corners[4, k] = pool[at]
            corners[5, k] = pool[at + right]
            corners[6, k] = pool[at + below]
            corners[7, k] = pool[at + below + right]
        for k in range(m):
            value = blend(
                float(corners[0, k]),
                float(corners[1, k]),
                float(corners[2, k]),
                float(corners[3, k]),
                float(corners[4, k]),
                float(corners[5, k]),
                float(corners[6, k]),
                float(corners[7, k]),
                fractions[0, k],
                fractions[1, k],
                fractions[2, k],
            )
            out_values[start * n + k] = value * gain
