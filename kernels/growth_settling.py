"""Settle a patch: relax its vertices, close small holes, lay the first quad.

Coordinates are voxels in the order x, y, z; grids are indexed ``[row, col]``.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, kernel
from tracer.kernels.field_sampling import FieldView, borrow_view
from tracer.kernels.growth_grid import ACCEPT, GrowthLimits, PatchGrid, borrow_grid, mesh_normal
from tracer.kernels.growth_judgement import judge_neighbours, judge_vertex
from tracer.kernels.placement import (
    BRIDGED,
    EMPTY,
    ON_SHEET,
    PlacementWeights,
    borrow_weights,
    place_vertex,
)

_PLACED = 0.05  # voxels: placement stops at shorter steps; relaxation follows
_RELAXED = 0.01
_QUAD_SWEEPS = 8


@kernel
def relax(
    grid: PatchGrid,
    box: tuple[int, int, int, int],
    oldest: int,
    view: FieldView,
    weights: PlacementWeights,
    sweeps: int,
    work: NDArray[np.float64],
) -> None:
    """Move accepted vertices towards their joint minimum, one at a time, in a 4-colouring.

    Parameters
    ----------
    grid : PatchGrid
        The patch; `points` change.
    box : tuple of int
        First and last row, first and last column.
    oldest : int
        Vertices of an earlier generation stay.
    view : FieldView
        Signed distance field.
    weights : PlacementWeights
        Weights and constants.
    sweeps : int
        Number of sweeps over the box.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch.
    """
    grid, view, weights = borrow_grid(grid), borrow_view(view), borrow_weights(weights)
    work = borrowed(work)
    position = work[3][:3]
    for _ in range(sweeps):
        for colour in range(4):
            for r in range(box[0] + (box[0] + colour // 2) % 2, box[1] + 1, 2):
                for c in range(box[2] + (box[2] + colour % 2) % 2, box[3] + 1, 2):
                    if grid.state[r, c] != ON_SHEET or grid.generation[r, c] < oldest:
                        continue
                    for i in range(3):
                        position[i] = grid.points[r, c, i]
                    place_vertex(
                        grid.points,
                        grid.state,
                        r,
                        c,
                        position,
                        view,
                        weights,
                        True,
                        1,
                        1,
                        _RELAXED,
                        work,
                    )
                    for i in range(3):
                        grid.points[r, c, i] = position[i]


@kernel
def close_holes(
    grid: PatchGrid,
    box: tuple[int, int, int, int],
    view: FieldView,
    weights: PlacementWeights,
    limits: GrowthLimits,
    work: NDArray[np.float64],
) -> int:
    """Return how many vertices of small holes were filled by structure and data.

    Parameters
    ----------
    grid : PatchGrid
        The patch; changes.
    box : tuple of int
        First and last row, first and last column.
    view : FieldView
        Signed distance field.
    weights : PlacementWeights
        Weights and constants.
    limits : GrowthLimits
        Limits of acceptance; only `max_cost` counts here.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch.

    Returns
    -------
    int
        Number of vertices that became BRIDGED.

    Notes
    -----
    A vertex is filled where at least six of its eight neighbours are placed, three of the
    4-neighbours among them, where its cost is as low as elsewhere and it continues their sheet.
    """
    grid, view, weights = borrow_grid(grid), borrow_view(view), borrow_weights(weights)
    work = borrowed(work)
    position = work[3][:3]
    normal = work[3][3:6]
    n = 0
    for r in range(box[0], box[1] + 1):
        for c in range(box[2], box[3] + 1):
            if grid.state[r, c] >= ON_SHEET:
                continue
            around = 0
            beside = 0
            position[:] = 0.0
            for k in range(9):
                if k == 4 or grid.state[r - 1 + k // 3, c - 1 + k % 3] < ON_SHEET:
                    continue
                around += 1
                if k % 2 == 1:
                    beside += 1
                    for a in range(3):
                        position[a] += grid.points[r - 1 + k // 3, c - 1 + k % 3, a]
            if around < 6 or beside < 3:
                continue
            for a in range(3):
                position[a] /= beside
            cost = place_vertex(
                grid.points, grid.state, r, c, position, view, weights, True, 12, 6, _PLACED, work
            )
            if cost > limits.max_cost:
                continue
            nx, ny, nz, known = mesh_normal(grid, r, c, position[0], position[1], position[2])
            normal[0], normal[1], normal[2] = nx, ny, nz
            if not known or judge_neighbours(grid, r, c, position, normal, limits) != ACCEPT:
                continue
            for a in range(3):
                grid.points[r, c, a] = position[a]
                grid.normals[r, c, a] = normal[a]
            grid.state[r, c] = BRIDGED
            grid.generation[r, c] = grid.generation[r, c - 1]
            n += 1
    return n


@kernel
def settle_quad(
    grid: PatchGrid,
    box: tuple[int, int, int, int],
    view: FieldView,
    thickness: float,
    weights: PlacementWeights,
    limits: GrowthLimits,
    least_clean: float,
    work: NDArray[np.float64],
) -> float:
    """Return how clean the first quad of a patch is after it was relaxed, 0 where it is refused.

    Parameters
    ----------
    grid : PatchGrid
        The patch; changes.
    box : tuple of int
        First and last row, first and last column of the quad.
    view : FieldView
        Signed distance field.
    thickness : float
        Thickness of the sheets around, voxels.
    weights : PlacementWeights
        Weights and constants of the placement.
    limits : GrowthLimits
        Limits of acceptance.
    least_clean : float
        Share of clean scans that each vertex needs.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch.

    Returns
    -------
    float
        Mean share of clean scans; 1 where all scans of all vertices see one sheet.
    """
    grid, view, weights = borrow_grid(grid), borrow_view(view), borrow_weights(weights)
    work = borrowed(work)
    relax(grid, box, 0, view, weights, _QUAD_SWEEPS, work)
    position, normal, quality = work[3][:3], work[3][6:9], work[4][:3]
    total = 0.0
    for r in range(box[0], box[1] + 1):
        for c in range(box[2], box[3] + 1):
            grid.state[r, c] = EMPTY
            for a in range(3):
                position[a] = grid.points[r, c, a]
            reason = judge_vertex(
                grid, r, c, view, position, thickness, weights.edge_samples, limits, work
            )
            if reason != ACCEPT or quality[0] < least_clean:
                return 0.0
            grid.state[r, c] = ON_SHEET
            for a in range(3):
                grid.normals[r, c, a] = normal[a]
            grid.confidence[r, c] = quality[0]
            grid.tilt[r, c] = quality[1]
            total += quality[0]
    return total / ((box[1] - box[0] + 1) * (box[3] - box[2] + 1))
