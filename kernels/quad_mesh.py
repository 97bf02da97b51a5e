"""Geometry of quad meshes: sampling, normals, areas, spacing.

A mesh is a grid of vertices ``points_xyz`` (rows, cols, 3) with a mask ``valid`` (rows, cols). Cell
(row, col) has the corners (row, col), (row, col + 1), (row + 1, col), (row + 1, col + 1); it is a
quad of the surface where all four are valid. Inside a quad the surface is the **bilinear patch** of
its corners, everywhere in this project: sampling, distances and rendering agree.

The normal of the surface is d/dcol x d/drow.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel


@inline_kernel
def sample_point(
    points_xyz: NDArray[np.float32], valid: NDArray[np.bool_], row: float, col: float
) -> tuple[float, float, float, bool]:
    """Return the surface point at a fractional grid position.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    row : float
        Fractional row.
    col : float
        Fractional column.

    Returns
    -------
    tuple
        (x, y, z, ok); NaN coordinates and ok False outside the grid or where a vertex with a
        non-zero weight is invalid. Exactly the vertex at whole positions.
    """
    n_rows, n_cols = valid.shape
    if not (row >= 0.0 and col >= 0.0 and row <= n_rows - 1 and col <= n_cols - 1):
        return math.nan, math.nan, math.nan, False
    r0 = int(row)
    c0 = int(col)
    fr = row - r0
    fc = col - c0
    r1 = r0 + 1 if fr > 0.0 else r0
    c1 = c0 + 1 if fc > 0.0 else c0
    if not (valid[r0, c0] and valid[r0, c1] and valid[r1, c0] and valid[r1, c1]):
        return math.nan, math.nan, math.nan, False
    w00 = (1.0 - fr) * (1.0 - fc)
    w01 = (1.0 - fr) * fc
    w10 = fr * (1.0 - fc)
    w11 = fr * fc
    x = (
        w00 * points_xyz[r0, c0, 0]
        + w01 * points_xyz[r0, c1, 0]
        + w10 * points_xyz[r1, c0, 0]
        + w11 * points_xyz[r1, c1, 0]
    )
    y = (
        w00 * points_xyz[r0, c0, 1]
        + w01 * points_xyz[r0, c1, 1]
        + w10 * points_xyz[r1, c0, 1]
        + w11 * points_xyz[r1, c1, 1]
    )
    z = (
        w00 * points_xyz[r0, c0, 2]
        + w01 * points_xyz[r0, c1, 2]
        + w10 * points_xyz[r1, c0, 2]
        + w11 * points_xyz[r1, c1, 2]
    )
    return x, y, z, True


@kernel
def sample_points(
    points_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    out_xyz: NDArray[np.float32],
    out_valid: NDArray[np.bool_],
) -> None:
    """Fill the surface points at fractional grid positions.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    rows : ndarray of float64, shape (n,)
        Fractional rows.
    cols : ndarray of float64, shape (n,)
        Fractional columns.
    out_xyz : ndarray of float32, shape (n, 3)
        Points; NaN where there is none.
    out_valid : ndarray of bool, shape (n,)
        Where there is a point.
    """
    for i in range(rows.shape[0]):
        x, y, z, ok = sample_point(points_xyz, valid, rows[i], cols[i])
        out_xyz[i, 0] = x
        out_xyz[i, 1] = y
        out_xyz[i, 2] = z
        out_valid[i] = ok


@inline_kernel
def _difference(
    points_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: int,
    col: int,
    d_row: int,
    d_col: int,
) -> tuple[float, float, float, bool]:
    """Return the central (else one-sided) difference per cell along one grid axis."""
    n_rows, n_cols = valid.shape
    r0, c0 = row - d_row, col - d_col
    r1, c1 = row + d_row, col + d_col
    if r0 < 0 or c0 < 0 or not valid[r0, c0]:
        r0, c0 = row, col
    if r1 >= n_rows or c1 >= n_cols or not valid[r1, c1]:
        r1, c1 = row, col
    n = (r1 - r0) + (c1 - c0)
    if n == 0:
        return 0.0, 0.0, 0.0, False
    x = (np.float64(points_xyz[r1, c1, 0]) - points_xyz[r0, c0, 0]) / n
    y = (np.float64(points_xyz[r1, c1, 1]) - points_xyz[r0, c0, 1]) / n
    z = (np.float64(points_xyz[r1, c1, 2]) - points_xyz[r0, c0, 2]) / n
    return x, y, z, True


@kernel
def vertex_normals(
    points_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    out_normals: NDArray[np.float32],
) -> None:
    """Fill unit normals d/dcol x d/drow at every vertex.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    out_normals : ndarray of float32, shape (rows, cols, 3)
        Unit normals; NaN at invalid vertices, at vertices without a valid neighbour along both
        grid axes, and where the differences are parallel.

    Notes
    -----
    Central differences where both neighbours along an axis are valid, else the one-sided one.
    """
    n_rows, n_cols = valid.shape
    for row in range(n_rows):
        for col in range(n_cols):
            out_normals[row, col, 0] = math.nan
            out_normals[row, col, 1] = math.nan
            out_normals[row, col, 2] = math.nan
            if not valid[row, col]:
                continue
            ux, uy, uz, has_u = _difference(points_xyz, valid, row, col, 0, 1)
            vx, vy, vz, has_v = _difference(points_xyz, valid, row, col, 1, 0)
            if not (has_u and has_v):
                continue
            nx = uy * vz - uz * vy
            ny = uz * vx - ux * vz
            nz = ux * vy - uy * vx
            length = math.sqrt(nx * nx + ny * ny + nz * nz)
            if length > 0.0:
                out_normals[row, col, 0] = nx / length
                out_normals[row, col, 1] = ny / length
                out_normals[row, col, 2] = nz / length


@inline_kernel
def _triangle_area(ax: float, ay: float, az: float, bx: float, by: float, bz: float) -> float:
    """Return half the length of the cross product of two edges."""
    x = ay * bz - az * by
    y = az * bx - ax * bz
    z = ax * by - ay * bx
    return 0.5 * math.sqrt(x * x + y * y + z * z)


@kernel
def quad_areas(
    points_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    out_areas: NDArray[np.float64],
) -> None:
    """Fill the area of every cell.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    out_areas : ndarray of float64, shape (rows - 1, cols - 1)
        Area in voxels squared; 0 where a corner is invalid.

    Notes
    -----
    Mean of the two ways to cut the quad into triangles: symmetric, exact for plane quads.
    """
    for row in range(out_areas.shape[0]):
        for col in range(out_areas.shape[1]):
            out_areas[row, col] = 0.0
            if not (
                valid[row, col]
                and valid[row, col + 1]
                and valid[row + 1, col]
                and valid[row + 1, col + 1]
            ):
                continue
            ax = np.float64(points_xyz[row, col, 0])
            ay = np.float64(points_xyz[row, col, 1])
            az = np.float64(points_xyz[row, col, 2])
            bx = points_xyz[row, col + 1, 0] - ax
            by = points_xyz[row, col + 1, 1] - ay
            bz = points_xyz[row, col + 1, 2] - az
            cx = points_xyz[row + 1, col, 0] - ax
            cy = points_xyz[row + 1, col, 1] - ay
            cz = points_xyz[row + 1, col, 2] - az
            dx = points_xyz[row + 1, col + 1, 0] - ax
            dy = points_xyz[row + 1, col + 1, 1] - ay
            dz = points_xyz[row + 1, col + 1, 2] - az
            out_areas[row, col] = 0.5 * (
                _triangle_area(bx, by, bz, cx, cy, cz)
                + _triangle_area(bx - dx, by - dy, bz - dz, cx - dx, cy - dy, cz - dz)
                + _triangle_area(bx, by, bz, dx, dy, dz)
                + _triangle_area(cx, cy, cz, dx, dy, dz)
            )
