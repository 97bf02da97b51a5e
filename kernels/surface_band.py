"""Paint how far voxels lie from surfaces, along the surfaces' normals.

A quad is sampled every half voxel, and from every sample along the normal, so that no voxel within
reach is missed. Normals are those of the vertices, interpolated, and so meet from quad to quad:
there are no gaps on the outer side of a bend. Nothing is painted beyond the edge of a surface.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

SAMPLE = 0.5  # voxels between samples; a voxel then holds eight of them


@inline_kernel
def interpolate_corner(
    grid: NDArray[np.float32], row: int, col: int, k: int, u: float, v: float
) -> float:
    """Return a component of a grid of vectors inside a cell.

    Parameters
    ----------
    grid : ndarray of float32, shape (rows, cols, 3)
        Vectors.
    row, col : int
        Cell.
    k : int
        Component.
    u, v : float
        Place in the cell along rows and columns, 0 to 1.

    Returns
    -------
    float
        Bilinear.
    """
    first = (1.0 - v) * float(grid[row, col, k]) + v * float(grid[row, col + 1, k])
    last = (1.0 - v) * float(grid[row + 1, col, k]) + v * float(grid[row + 1, col + 1, k])
    return (1.0 - u) * first + u * last


@kernel
def paint_distance(
    points_xyz: NDArray[np.float32],
    normals: NDArray[np.float32],
    valid: NDArray[np.bool_],
    origin_zyx: NDArray[np.int64],
    reach: float,
    out_distance: NDArray[np.float32],
) -> None:
    """Lower distances of voxels to those from one surface.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels of the volume.
    normals : ndarray of float32, shape (rows, cols, 3)
        Unit normals (x, y, z); NaN where there is none, and quads there are left out.
    valid : ndarray of bool, shape (rows, cols)
        Vertices that exist.
    origin_zyx : ndarray of int64, shape (3,)
        Voxel of the volume at which the painted box starts.
    reach : float
        Voxels on both sides that are painted.
    out_distance : ndarray of float32, shape (z, y, x)
        Distances of voxel centres along the normal; lowered where the surface lies closer.
    """
    rows, cols = valid.shape
    nz, ny, nx = out_distance.shape
    steps = math.ceil(reach / SAMPLE)
    at = np.empty(3, np.float64)
    normal = np.empty(3, np.float64)
    for r in range(rows - 1):
        for c in range(cols - 1):
            if not (valid[r, c] and valid[r, c + 1] and valid[r + 1, c] and valid[r + 1, c + 1]):
                continue
            near = True
            longest = 0.0
            for k in range(3):
                p, q = points_xyz[r, c, k], points_xyz[r, c + 1, k]
                s, t = points_xyz[r + 1, c, k], points_xyz[r + 1, c + 1, k]
                low = min(min(p, q), min(s, t)) - origin_zyx[2 - k]
                high = max(max(p, q), max(s, t)) - origin_zyx[2 - k]
                longest = max(longest, high - low)
                extent = out_distance.shape[2 - k]
                if not (high + reach + 1.0 > 0.0 and low - reach - 1.0 < extent):
                    near = False
                if math.isnan(interpolate_corner(normals, r, c, k, 0.5, 0.5)):
                    near = False
            if not near:
                continue
            # Twice the samples of the longest extent: quads are sheared and normals spread.
            count = 1 + math.ceil(2.0 * longest / SAMPLE)
            for i in range(count + 1):
                for j in range(count + 1):
                    squares = 0.0
                    for k in range(3):
                        at[k] = interpolate_corner(points_xyz, r, c, k, i / count, j / count)
                        at[k] += 0.5 - origin_zyx[2 - k]
                        normal[k] = interpolate_corner(normals, r, c, k, i / count, j / count)
                        squares += normal[k] * normal[k]
                    if not squares > 0.0:
                        continue
                    share = 1.0 / math.sqrt(squares)
                    for step in range(-steps, steps + 1):
                        along = SAMPLE * step * share
                        x = math.floor(at[0] + along * normal[0])
                        y = math.floor(at[1] + along * normal[1])
                        z = math.floor(at[2] + along * normal[2])
                        if not (0 <= x < nx and 0 <= y < ny and 0 <= z < nz):
                            continue
                        # Of the voxel's centre, not of the sample that found it.
                        distance = share * abs(
                            (x + 0.5 - at[0]) * normal[0]
                            + (y + 0.5 - at[1]) * normal[1]
                            + (z + 0.5 - at[2]) * normal[2]
                        )
                        out_distance[z, y, x] = min(out_distance[z, y, x], distance)
