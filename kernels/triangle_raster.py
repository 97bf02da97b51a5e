"""Points of triangles at the nodes of a grid over their texture coordinates."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel

_ON_EDGE = 1e-6  # nodes this near to an edge lie on it, in barycentric coordinates and nodes


@kernel
def raster_triangles(
    points_xyz: NDArray[np.float64],
    places: NDArray[np.float64],
    triangles: NDArray[np.int64],
    out_xyz: NDArray[np.float64],
) -> None:
    """Fill the nodes that triangles cover.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (n, 3)
        Corners in space.
    places : ndarray of float64, shape (n, 2)
        Their rows and columns on the grid, fractional.
    triangles : ndarray of int64, shape (m, 3)
        Corners of each triangle.
    out_xyz : ndarray of float64, shape (rows, cols, 3)
        Points; nodes that no triangle covers are left as they are. The last triangle wins.
    """
    rows, cols = out_xyz.shape[0], out_xyz.shape[1]
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        ar, ac = places[a, 0], places[a, 1]
        br, bc = places[b, 0] - ar, places[b, 1] - ac
        cr, cc = places[c, 0] - ar, places[c, 1] - ac
        size = br * cc - bc * cr
        if not abs(size) > 1e-12:
            continue
        first_row = max(0, math.ceil(min(ar, ar + br, ar + cr) - _ON_EDGE))
        last_row = min(rows - 1, math.floor(max(ar, ar + br, ar + cr) + _ON_EDGE))
        first_col = max(0, math.ceil(min(ac, ac + bc, ac + cc) - _ON_EDGE))
        last_col = min(cols - 1, math.floor(max(ac, ac + bc, ac + cc) + _ON_EDGE))
        for row in range(first_row, last_row + 1):
            for col in range(first_col, last_col + 1):
                s = ((row - ar) * cc - (col - ac) * cr) / size
                t = ((col - ac) * br - (row - ar) * bc) / size
                if s < -_ON_EDGE or t < -_ON_EDGE or s + t > 1.0 + _ON_EDGE:
                    continue
                for axis in range(3):
                    origin = points_xyz[a, axis]
                    out_xyz[row, col, axis] = (
                        origin
                        + s * (points_xyz[b, axis] - origin)
                        + t * (points_xyz[c, axis] - origin)
                    )
