"""Residuals that sample a distance field or a surface, as scalar cores with analytic Jacobians.

The companion of :mod:`tracer.kernels.residuals`. Each returns its weighted residual, derivatives,
and a last item ``ok`` that is False where there is nothing to sample: a field then counts as its
cap without a slope, a location off a surface gives zeros.

The data term is attracted to the mid-line of a sheet: the boundary alone would leave a surface free
to wander by the thickness of the sheet, three to six voxels.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import fused_kernel, inline_kernel
from tracer.kernels.field_sampling import FieldView, sample_field


@inline_kernel
def medial_distance(signed_distance: float, cap_in: float) -> tuple[float, float]:
    """Return a distance that is smallest on the mid-line of a sheet, and its slope.

    Parameters
    ----------
    signed_distance : float
        Signed distance to the boundary of the sheet in voxels, negative inside.
    cap_in : float
        Depth in voxels at which the result is zero; deeper voxels count as that deep.

    Returns
    -------
    tuple of float
        ``max(signed_distance + cap_in, 0)`` and its derivative, 1 or 0.
    """
    value = signed_distance + cap_in
    if value > 0.0:
        return value, 1.0
    return 0.0, 0.0


@fused_kernel
def data_residual(
    view: FieldView, x: float, y: float, z: float, cap_in: float, weight: float
) -> tuple[float, float, float, float, bool]:
    """Return the distance of a point from the mid-line of the sheet, and its gradient.

    Parameters
    ----------
    view : FieldView
        Signed distance to the sheet.
    x, y, z : float
        Point in voxels.
    cap_in : float
        As for :func:`medial_distance`.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple
        Residual, gradient at the point, and whether the field is known there (the cap without a
        slope where it is not).
    """
    signed, gx, gy, gz, ok = sample_field(view, x, y, z)
    value, slope = medial_distance(signed, cap_in)
    slope *= weight
    return weight * value, slope * gx, slope * gy, slope * gz, ok


@inline_kernel
def edge_data_residual(
    view: FieldView,
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    n_samples: int,
    cap_in: float,
    weight: float,
) -> tuple[float, float, float, float, float, float, float, bool]:
    """Return the mean distance of an edge's interior from the mid-line, and its gradients.

    Parameters
    ----------
    view : FieldView
        Signed distance to the sheet.
    ax, ay, az : float
        One end in voxels.
    bx, by, bz : float
        The other end in voxels.
    n_samples : int
        Number of samples, evenly spaced between the ends; at least one.
    cap_in : float
        As for :func:`medial_distance`.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple
        Residual, gradient at `a`, gradient at `b`, and whether the field is known everywhere.
    """
    total = 0.0
    fx = fy = fz = 0.0
    sx = sy = sz = 0.0
    known = True
    for i in range(1, n_samples + 1):
        t = i / (n_samples + 1.0)
        value, gx, gy, gz, ok = data_residual(
            view, ax + (bx - ax) * t, ay + (by - ay) * t, az + (bz - az) * t, cap_in, 1.0
        )
        known = known and ok
        total += value
        sx += gx
        sy += gy
        sz += gz
        fx += t * gx
        fy += t * gy
        fz += t * gz
    k = weight / n_samples
    return k * total, k * (sx - fx), k * (sy - fy), k * (sz - fz), k * fx, k * fy, k * fz, known


@inline_kernel
def locate_cell(
    valid: NDArray[np.bool_], row: float, col: float
) -> tuple[int, int, float, float, bool]:
    """Return the grid cell that a location lies in.

    Parameters
    ----------
    valid : ndarray of bool, shape (rows, cols)
        Vertices that exist.
    row, col : float
        Location in cells.

    Returns
    -------
    tuple
        Row and column of the cell's first corner, the fractions within it, and whether it lies on
        the grid with four valid corners. The last row and column belong to the cells before them.
    """
    rows, cols = valid.shape
    if not (row >= 0.0 and col >= 0.0 and row <= rows - 1.0 and col <= cols - 1.0):
        return 0, 0, 0.0, 0.0, False
    r = max(min(int(row), rows - 2), 0)
    c = max(min(int(col), cols - 2), 0)
    if rows < 2 or cols < 2:
        return 0, 0, 0.0, 0.0, False
    ok = valid[r, c] and valid[r, c + 1] and valid[r + 1, c] and valid[r + 1, c + 1]
    return r, c, row - r, col - c, ok


@inline_kernel
def surface_residual(
    points_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: float,
    col: float,
    axis: int,
    coordinate: float,
    weight: float,
) -> tuple[float, float, float, bool]:
    """Return one component of the offset of a point from its location on a surface.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices of the surface in voxels.
    valid : ndarray of bool, shape (rows, cols)
        Vertices that exist.
    row, col : float
        Location on the surface in cells.
    axis : int
        Component: 0 for x, 1 for y, 2 for z.
    coordinate : float
        That component of the point; the derivative there is ``-weight``.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple
        ``weight * (S(row, col) - point)[axis]`` with S bilinear, its derivatives by row and by
        column, and whether the location is on the surface.
    """
    r, c, fr, fc, ok = locate_cell(valid, row, col)
    if not ok:
        return 0.0, 0.0, 0.0, False
    p00 = np.float64(points_xyz[r, c, axis])
    p01 = np.float64(points_xyz[r, c + 1, axis])
    p10 = np.float64(points_xyz[r + 1, c, axis])
    p11 = np.float64(points_xyz[r + 1, c + 1, axis])
    upper = p00 + (p01 - p00) * fc
    lower = p10 + (p11 - p10) * fc
    by_col = (p01 - p00) * (1.0 - fr) + (p11 - p10) * fr
    value = upper + (lower - upper) * fr
    return weight * (value - coordinate), weight * (lower - upper), weight * by_col, True


@inline_kernel
def location_value_residual(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: float,
    col: float,
    target: float,
    weight: float,
) -> tuple[float, float, float, bool]:
    """Return how far a scalar channel of a surface is from a target at a location.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, cols)
        Channel, e.g. winding numbers.
    valid : ndarray of bool, shape (rows, cols)
        Vertices that exist.
    row, col : float
        Location on the surface in cells.
    target : float
        Wanted value.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple
        ``weight * (values(row, col) - target)``, bilinear, its derivatives by row and by column,
        and whether the location is on the surface.
    """
    r, c, fr, fc, ok = locate_cell(valid, row, col)
    if not ok:
        return 0.0, 0.0, 0.0, False
    v00 = np.float64(values[r, c])
    v01 = np.float64(values[r, c + 1])
    v10 = np.float64(values[r + 1, c])
    v11 = np.float64(values[r + 1, c + 1])
    upper = v00 + (v01 - v00) * fc
    lower = v10 + (v11 - v10) * fc
    by_col = (v01 - v00) * (1.0 - fr) + (v11 - v10) * fr
    value = upper + (lower - upper) * fr
    return weight * (value - target), weight * (lower - upper), weight * by_col, True
