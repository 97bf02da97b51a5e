"""The residuals of a surface in a distance field as callbacks for Ceres.

Building a block costs some twenty times as much as evaluating it, so :func:`evaluate_cell` and
:func:`evaluate_edge` hold everything between the same vertices. Grouping adds no fill-in: the four
corners of a cell are coupled by its sides and diagonals anyway.

All take the pool, the table and the shape of a ``FieldView`` as arrays and its cap as constant 0.
Where the field is not loaded it counts as the cap: the caller loads a margin and checks the result.
"""

import math

import numpy as np
from numba import carray

from tracer.kernels._jit import inline_kernel
from tracer.kernels.ceres_blocks import point_parameter, set_distance
from tracer.kernels.ceres_native import (
    array_extent,
    array_pointer,
    constant,
    set_gradient,
    set_residual,
)
from tracer.kernels.field_sampling import FieldView
from tracer.kernels.sampled_residuals import data_residual, edge_data_residual


@inline_kernel
def _field_view(cost: int) -> FieldView:
    """Return the distance field of a cost: its arrays and its first constant."""
    pool = carray(
        array_pointer(cost, 0),
        (
            array_extent(cost, 0, 0),
            array_extent(cost, 0, 1),
            array_extent(cost, 0, 2),
            array_extent(cost, 0, 3),
        ),
        np.uint8,
    )
    table = carray(
        array_pointer(cost, 1),
        (array_extent(cost, 1, 0), array_extent(cost, 1, 1), array_extent(cost, 1, 2)),
        np.int32,
    )
    return FieldView(pool, table, carray(array_pointer(cost, 2), (3,), np.int64), constant(cost, 0))


@inline_kernel
def _set_edge_data(
    view: FieldView,
    parameters: int,
    residuals: int,
    jacobians: int,
    row: int,
    second: int,
    n_samples: int,
    cap_in: float,
    weight: float,
) -> None:
    """Store the data residual along the edge from the first point to another."""
    ax, ay, az = point_parameter(parameters, 0)
    bx, by, bz = point_parameter(parameters, second)
    residual, ux, uy, uz, vx, vy, vz, _ = edge_data_residual(
        view, ax, ay, az, bx, by, bz, n_samples, cap_in, weight
    )
    set_residual(residuals, row, residual)
    set_gradient(jacobians, 0, row, ux, uy, uz)
    set_gradient(jacobians, second, row, vx, vy, vz)


@inline_kernel
def _set_data(
    view: FieldView,
    parameters: int,
    residuals: int,
    jacobians: int,
    row: int,
    cap_in: float,
    weight: float,
) -> None:
    """Store the data residual at the first point."""
    x, y, z = point_parameter(parameters, 0)
    residual, gx, gy, gz, _ = data_residual(view, x, y, z, cap_in, weight)
    set_residual(residuals, row, residual)
    set_gradient(jacobians, 0, row, gx, gy, gz)


def evaluate_data(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate the data term at a vertex: 1 residual, blocks (3,).

    Constants: cap, cap_in, weight.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    cap_in, weight = constant(cost, 1), constant(cost, 2)
    _set_data(_field_view(cost), parameters, residuals, jacobians, 0, cap_in, weight)
    return 1


def evaluate_edge(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate distance and data of a side: 2 residuals, blocks (3, 3).

    Constants: cap, cap_in, length of a side, weight of the distance, samples, weight of the data
    along the edge.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    cap_in, side, weight = constant(cost, 1), constant(cost, 2), constant(cost, 3)
    n_samples, data_weight = int(constant(cost, 4)), constant(cost, 5)
    view = _field_view(cost)
    set_distance(parameters, residuals, jacobians, 0, 0, 1, side, weight)
    _set_edge_data(view, parameters, residuals, jacobians, 1, 1, n_samples, cap_in, data_weight)
    return 1


def evaluate_cell(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate a cell by its first corner: 7 residuals, blocks (3, 3, 3, 3).

    The corners are a, b (next column), c (next row), d (opposite). The residuals are the distances
    ab, ac, ad, bc, the data along ab and ac, the data at a.

    Constants: cap, cap_in, length of a side, weight of the distances, samples, weight of the data
    along an edge, weight of the data at a vertex.

    Parameters
    ----------
    cost, parameters, residuals, jacobians : int
        Addresses from Ceres.

    Returns
    -------
    int
        1.
    """
    cap_in, side, weight = constant(cost, 1), constant(cost, 2), constant(cost, 3)
    n_samples, edge_weight = int(constant(cost, 4)), constant(cost, 5)
    diagonal = side * math.sqrt(2.0)
    if jacobians != 0:
        for block in range(4):
            for row in range(7):
                set_gradient(jacobians, block, row, 0.0, 0.0, 0.0)
    view = _field_view(cost)
    set_distance(parameters, residuals, jacobians, 0, 0, 1, side, weight)
    set_distance(parameters, residuals, jacobians, 1, 0, 2, side, weight)
    set_distance(parameters, residuals, jacobians, 2, 0, 3, diagonal, weight)
    set_distance(parameters, residuals, jacobians, 3, 1, 2, diagonal, weight)
    for second in range(1, 3):
        _set_edge_data(
            view,
            parameters,
            residuals,
            jacobians,
            3 + second,
            second,
            n_samples,
            cap_in,
            edge_weight,
        )
    _set_data(view, parameters, residuals, jacobians, 6, cap_in, constant(cost, 6))
    return 1
