"""The residuals of :mod:`tracer.kernels.residuals` as callbacks for Ceres.

Each function is given to :func:`tracer.kernels.ceres_native.native_cost` together with the number
of residuals, the sizes of its parameter blocks, its constants and its arrays, in the order of its
docstring. What differs from block to block (a normal, a target) is a parameter block as well, which
the caller fixes: one cost object then serves them all.

Those that sample a distance field are in :mod:`tracer.kernels.ceres_field_blocks`.
"""

import numpy as np
from numba import carray

from tracer.kernels._jit import inline_kernel
from tracer.kernels.ceres_native import (
    array_extent,
    array_pointer,
    constant,
    parameter,
    set_derivative,
    set_gradient,
    set_residual,
)
from tracer.kernels.residuals import (
    cosine_gradient,
    direction_residual,
    distance_residual,
    linear_straightness_residual,
    normal_direction_residual,
    straightness_residual,
    z_residual,
)
from tracer.kernels.sampled_residuals import location_value_residual, surface_residual


@inline_kernel
def point_parameter(parameters: int, block: int) -> tuple[float, float, float]:
    """Return a point that is a parameter block.

    Parameters
    ----------
    parameters : int
        Second argument of the callback.
    block : int
        Parameter block of three values.

    Returns
    -------
    tuple of float
        The point.
    """
    return (
        parameter(parameters, block, 0),
        parameter(parameters, block, 1),
        parameter(parameters, block, 2),
    )


@inline_kernel
def set_distance(
    parameters: int,
    residuals: int,
    jacobians: int,
    row: int,
    first: int,
    second: int,
    target: float,
    weight: float,
) -> None:
    """Store the distance residual of two of the points and its gradients there.

    Parameters
    ----------
    parameters, residuals, jacobians : int
        Arguments of the callback.
    row : int
        Which residual of the block.
    first, second : int
        Parameter blocks of the points.
    target : float
        Wanted distance.
    weight : float
        Factor on the residual.
    """
    ax, ay, az = point_parameter(parameters, first)
    bx, by, bz = point_parameter(parameters, second)
    residual, gx, gy, gz = distance_residual(ax, ay, az, bx, by, bz, target, weight)
    set_residual(residuals, row, residual)
    set_gradient(jacobians, first, row, gx, gy, gz)
    set_gradient(jacobians, second, row, -gx, -gy, -gz)


def evaluate_distance(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the distance of two points: 1 residual, blocks (3, 3).

    Constants: target distance, weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    target, weight = constant(cost, 0), constant(cost, 1)
    set_distance(parameters, residuals, jacobians, 0, 0, 1, target, weight)
    return 1


def evaluate_straightness(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the straightness of three points: 1 residual, blocks (3, 3, 3).

    Constants: weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    ax, ay, az = point_parameter(parameters, 0)
    bx, by, bz = point_parameter(parameters, 1)
    cx, cy, cz = point_parameter(parameters, 2)
    residual, ux, uy, uz, vx, vy, vz = straightness_residual(
        ax, ay, az, bx, by, bz, cx, cy, cz, constant(cost, 0)
    )
    set_residual(residuals, 0, residual)
    set_gradient(jacobians, 0, 0, ux, uy, uz)
    set_gradient(jacobians, 1, 0, -ux - vx, -uy - vy, -uz - vz)
    set_gradient(jacobians, 2, 0, vx, vy, vz)
    return 1


def evaluate_linear_straightness(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate how far a point is from the middle of two: 3 residuals, blocks (3, 3, 3).

    Constants: weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    weight = constant(cost, 0)
    for axis in range(3):
        a, b, c = (
            parameter(parameters, 0, axis),
            parameter(parameters, 1, axis),
            parameter(parameters, 2, axis),
        )
        set_residual(residuals, axis, linear_straightness_residual(a, b, c, weight))
        for other in range(3):
            unit = weight if other == axis else 0.0
            set_derivative(jacobians, 0, 3 * axis + other, -0.5 * unit)
            set_derivative(jacobians, 1, 3 * axis + other, unit)
            set_derivative(jacobians, 2, 3 * axis + other, -0.5 * unit)
    return 1


def evaluate_location_distance(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the distance of two locations on a surface: 1 residual, blocks (2, 2).

    Constants: target distance in cells, weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    ar, ac = parameter(parameters, 0, 0), parameter(parameters, 0, 1)
    br, bc = parameter(parameters, 1, 0), parameter(parameters, 1, 1)
    residual, gr, gc, _ = distance_residual(
        ar, ac, 0.0, br, bc, 0.0, constant(cost, 0), constant(cost, 1)
    )
    set_residual(residuals, 0, residual)
    set_derivative(jacobians, 0, 0, gr)
    set_derivative(jacobians, 0, 1, gc)
    set_derivative(jacobians, 1, 0, -gr)
    set_derivative(jacobians, 1, 1, -gc)
    return 1


def evaluate_location_straightness(
    cost: int, parameters: int, residuals: int, jacobians: int
) -> int:
    """Evaluate the straightness of three locations on a surface: 1 residual, blocks (2, 2, 2).

    Constants: weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    ar, ac = parameter(parameters, 0, 0), parameter(parameters, 0, 1)
    br, bc = parameter(parameters, 1, 0), parameter(parameters, 1, 1)
    cr, cc = parameter(parameters, 2, 0), parameter(parameters, 2, 1)
    residual, ur, uc, _, vr, vc, _ = straightness_residual(
        ar, ac, 0.0, br, bc, 0.0, cr, cc, 0.0, constant(cost, 0)
    )
    set_residual(residuals, 0, residual)
    set_derivative(jacobians, 0, 0, ur)
    set_derivative(jacobians, 0, 1, uc)
    set_derivative(jacobians, 1, 0, -ur - vr)
    set_derivative(jacobians, 1, 1, -uc - vc)
    set_derivative(jacobians, 2, 0, vr)
    set_derivative(jacobians, 2, 1, vc)
    return 1


def evaluate_surface(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate a point against its location on a surface: 3 residuals, blocks (3, 2).

    Constants: weight. Arrays: vertices (float32, rows, cols, 3), valid (bool, rows, cols).

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        0 where the location is not on the surface, else 1.
    """
    rows, cols = array_extent(cost, 0, 0), array_extent(cost, 0, 1)
    points_xyz = carray(array_pointer(cost, 0), (rows, cols, 3), np.float32)
    valid = carray(array_pointer(cost, 1), (rows, cols), np.bool_)
    row, col = parameter(parameters, 1, 0), parameter(parameters, 1, 1)
    weight = constant(cost, 0)
    for axis in range(3):
        residual, by_row, by_col, ok = surface_residual(
            points_xyz, valid, row, col, axis, parameter(parameters, 0, axis), weight
        )
        if not ok:
            return 0
        set_residual(residuals, axis, residual)
        for other in range(3):
            set_derivative(jacobians, 0, 3 * axis + other, -weight if other == axis else 0.0)
        set_derivative(jacobians, 1, 2 * axis, by_row)
        set_derivative(jacobians, 1, 2 * axis + 1, by_col)
    return 1


def evaluate_location_value(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate a channel at a location against a target: 1 residual, blocks (2, 1).

    Constants: weight. Arrays: channel (float32, rows, cols), valid (bool, rows, cols). The second
    block is the target.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        0 where the location is not on the surface, else 1.
    """
    shape = (array_extent(cost, 0, 0), array_extent(cost, 0, 1))
    values = carray(array_pointer(cost, 0), shape, np.float32)
    valid = carray(array_pointer(cost, 1), shape, np.bool_)
    weight = constant(cost, 0)
    residual, by_row, by_col, ok = location_value_residual(
        values,
        valid,
        parameter(parameters, 0, 0),
        parameter(parameters, 0, 1),
        parameter(parameters, 1, 0),
        weight,
    )
    if not ok:
        return 0
    set_residual(residuals, 0, residual)
    set_derivative(jacobians, 0, 0, by_row)
    set_derivative(jacobians, 0, 1, by_col)
    set_derivative(jacobians, 1, 0, -weight)
    return 1


def evaluate_z(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the height of a point against a target: 1 residual, blocks (3, 1).

    Constants: weight. The second block is the target.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    weight = constant(cost, 0)
    z, target = parameter(parameters, 0, 2), parameter(parameters, 1, 0)
    set_residual(residuals, 0, z_residual(z, target, weight))
    set_gradient(jacobians, 0, 0, 0.0, 0.0, weight)
    set_derivative(jacobians, 1, 0, -weight)
    return 1


def evaluate_normal(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate an edge against an expected normal: 1 residual, blocks (3, 3, 3).

    Constants: weight. The third block is the normal.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    weight = constant(cost, 0)
    ax, ay, az = point_parameter(parameters, 0)
    bx, by, bz = point_parameter(parameters, 1)
    nx, ny, nz = point_parameter(parameters, 2)
    cosine, ux, uy, uz, vx, vy, vz = cosine_gradient(bx - ax, by - ay, bz - az, nx, ny, nz)
    set_residual(residuals, 0, weight * cosine)
    set_gradient(jacobians, 0, 0, -weight * ux, -weight * uy, -weight * uz)
    set_gradient(jacobians, 1, 0, weight * ux, weight * uy, weight * uz)
    set_gradient(jacobians, 2, 0, weight * vx, weight * vy, weight * vz)
    return 1


def evaluate_direction(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate an edge against an axis without sign: 1 residual, blocks (3, 3, 3).

    Constants: weight. The third block is the axis.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    ax, ay, az = point_parameter(parameters, 0)
    bx, by, bz = point_parameter(parameters, 1)
    fx, fy, fz = point_parameter(parameters, 2)
    residual, ux, uy, uz, vx, vy, vz = direction_residual(
        bx - ax, by - ay, bz - az, fx, fy, fz, constant(cost, 0)
    )
    set_residual(residuals, 0, residual)
    set_gradient(jacobians, 0, 0, -ux, -uy, -uz)
    set_gradient(jacobians, 1, 0, ux, uy, uz)
    set_gradient(jacobians, 2, 0, vx, vy, vz)
    return 1


def evaluate_normal_direction(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the normal of two edges against an axis: 1 residual, blocks (3, 3, 3, 3).

    The edges go from the first point to the second, along the row, and to the third, along the
    column. Constants: weight. The fourth block is the axis.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    ax, ay, az = point_parameter(parameters, 0)
    bx, by, bz = point_parameter(parameters, 1)
    cx, cy, cz = point_parameter(parameters, 2)
    fx, fy, fz = point_parameter(parameters, 3)
    weight = constant(cost, 0)
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    residual, gux, guy, guz, gvx, gvy, gvz = normal_direction_residual(
        ux, uy, uz, vx, vy, vz, fx, fy, fz, weight
    )
    _, _, _, _, gfx, gfy, gfz = direction_residual(
        uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx, fx, fy, fz, weight
    )
    set_residual(residuals, 0, residual)
    set_gradient(jacobians, 0, 0, -gux - gvx, -guy - gvy, -guz - gvz)
    set_gradient(jacobians, 1, 0, gux, guy, guz)
    set_gradient(jacobians, 2, 0, gvx, gvy, gvz)
    set_gradient(jacobians, 3, 0, gfx, gfy, gfz)
    return 1
