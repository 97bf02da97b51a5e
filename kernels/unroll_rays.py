"""What a ray from a vertex meets next: the first quads along its direction, cell by cell."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

_NEWTON_STEPS = 6
_ON_BORDER = 1e-6  # cells


@inline_kernel
def cross_quad(
    points_xyz: NDArray[np.float32],
    v00: int,
    v01: int,
    v10: int,
    v11: int,
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
) -> tuple[float, float, float]:
    """Return where a line crosses a bilinear quad.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    v00 : int
        Vertex at (row, col).
    v01 : int
        Vertex at (row, col + 1).
    v10 : int
        Vertex at (row + 1, col).
    v11 : int
        Vertex at (row + 1, col + 1).
    origin : tuple of float
        A point of the line.
    direction : tuple of float
        Its unit direction.

    Returns
    -------
    tuple of float
        (s, t, distance along the line); NaN where the line is parallel to the quad or Newton's
        method does not settle. s and t may lie outside [0, 1].
    """
    ax = points_xyz[v00, 0] - origin[0]
    ay = points_xyz[v00, 1] - origin[1]
    az = points_xyz[v00, 2] - origin[2]
    bx = np.float64(points_xyz[v01, 0]) - points_xyz[v00, 0]
    by = np.float64(points_xyz[v01, 1]) - points_xyz[v00, 1]
    bz = np.float64(points_xyz[v01, 2]) - points_xyz[v00, 2]
    cx = np.float64(points_xyz[v10, 0]) - points_xyz[v00, 0]
    cy = np.float64(points_xyz[v10, 1]) - points_xyz[v00, 1]
    cz = np.float64(points_xyz[v10, 2]) - points_xyz[v00, 2]
    dx = np.float64(points_xyz[v11, 0]) - points_xyz[v00, 0] - bx - cx
    dy = np.float64(points_xyz[v11, 1]) - points_xyz[v00, 1] - by - cy
    dz = np.float64(points_xyz[v11, 2]) - points_xyz[v00, 2] - bz - cz
    s = 0.5
    t = 0.5
    along = 0.0
    change = math.inf
    for _ in range(_NEWTON_STEPS):
        ux = bx + t * dx
        uy = by + t * dy
        uz = bz + t * dz
        vx = cx + s * dx
        vy = cy + s * dy
        vz = cz + s * dz
        # residual = quad(s, t) - origin, to be a multiple of the direction
        rx = ax + s * bx + t * cx + s * t * dx
        ry = ay + s * by + t * cy + s * t * dy
        rz = az + s * bz + t * cz + s * t * dz
        nx = uy * vz - uz * vy
        ny = uz * vx - ux * vz
        nz = ux * vy - uy * vx
        facing = nx * direction[0] + ny * direction[1] + nz * direction[2]
        size = math.sqrt(nx * nx + ny * ny + nz * nz)
        if not abs(facing) > 1e-3 * size:
            return math.nan, math.nan, math.nan
        along = (nx * rx + ny * ry + nz * rz) / facing
        ex = along * direction[0] - rx
        ey = along * direction[1] - ry
        ez = along * direction[2] - rz
        uu = ux * ux + uy * uy + uz * uz
        vv = vx * vx + vy * vy + vz * vz
        uv = ux * vx + uy * vy + uz * vz
        determinant = uu * vv - uv * uv
        if not determinant > 0.0:
            return math.nan, math.nan, math.nan
        ue = ux * ex + uy * ey + uz * ez
        ve = vx * ex + vy * ey + vz * ez
        ds = (vv * ue - uv * ve) / determinant
        dt = (uu * ve - uv * ue) / determinant
        s += ds
        t += dt
        change = abs(ds) + abs(dt)
        if change < 1e-6 or change > 10.0:
            break
    if not change < 1e-2:
        return math.nan, math.nan, math.nan
    return s, t, along


@kernel
def cast_rays(
    points_xyz: NDArray[np.float32],
    quads: NDArray[np.int32],
    quad_keys: NDArray[np.int64],
    quad_order: NDArray[np.int32],
    origin_cell: NDArray[np.int64],
    extent: NDArray[np.int64],
    cell: float,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    nearest: float,
    farthest: float,
    out_quad: NDArray[np.int32],
    out_distance: NDArray[np.float32],
) -> None:
    """Fill the first quad that each ray crosses.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    quad_keys : ndarray of int64, shape (k,)
        Cells that the quads touch, ascending.
    quad_order : ndarray of int32, shape (k,)
        The quads.
    origin_cell : ndarray of int64, shape (3,)
        Lowest cell, x y z.
    extent : ndarray of int64, shape (3,)
        Number of cells along x, y, z.
    cell : float
        Edge of a cell, voxels.
    origins : ndarray of float32, shape (m, 3)
        Where the rays begin.
    directions : ndarray of float32, shape (m, 3)
        Unit directions.
    nearest : float
        Distance from which on a crossing counts, voxels.
    farthest : float
        Length of a ray, voxels.
    out_quad : ndarray of int32, shape (m,)
        The first quad; -1 for none.
    out_distance : ndarray of float32, shape (m,)
        Distance to it, voxels.
    """
    samples = math.ceil(farthest / (0.5 * cell)) + 1
    for i in range(origins.shape[0]):
        origin = (np.float64(origins[i, 0]), np.float64(origins[i, 1]), np.float64(origins[i, 2]))
        direction = (
            np.float64(directions[i, 0]),
            np.float64(directions[i, 1]),
            np.float64(directions[i, 2]),
        )
        best = farthest
        out_quad[i] = -1
        last_key = np.int64(-1)
        for sample in range(samples):
            at = min(0.5 * cell * sample, farthest)
            if at > best + cell:
                break
            x = math.floor((origin[0] + at * direction[0]) / cell) - origin_cell[0]
            y = math.floor((origin[1] + at * direction[1]) / cell) - origin_cell[1]
            z = math.floor((origin[2] + at * direction[2]) / cell) - origin_cell[2]
            if x < 0 or y < 0 or z < 0 or x >= extent[0] or y >= extent[1] or z >= extent[2]:
                continue
            key = np.int64((z * extent[1] + y) * extent[0] + x)
            if key == last_key:
                continue
            last_key = key
            for p in range(np.searchsorted(quad_keys, key), quad_keys.shape[0]):
                if quad_keys[p] != key:
                    break
                q = quad_order[p]
                s, t, along = cross_quad(
                    points_xyz,
                    quads[q, 0],
                    quads[q, 1],
                    quads[q, 2],
                    quads[q, 3],
                    origin,
                    direction,
                )
                if (
                    along >= nearest
                    and along < best
                    and -_ON_BORDER <= s <= 1.0 + _ON_BORDER
                    and -_ON_BORDER <= t <= 1.0 + _ON_BORDER
                ):
                    best = along
                    out_quad[i] = q
        out_distance[i] = best
