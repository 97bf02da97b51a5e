"""Judge the vertices of a patch where they are now, as growth judged them when it accepted them."""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, kernel
from tracer.kernels.field_sampling import FieldView, borrow_view
from tracer.kernels.growth_grid import ACCEPT, GrowthLimits, PatchGrid, borrow_grid
from tracer.kernels.growth_judgement import judge_vertex
from tracer.kernels.placement import ON_SHEET, PlacementWeights, borrow_weights, vertex_system


@kernel
def review_vertices(
    grid: PatchGrid,
    box: tuple[int, int, int, int],
    view: FieldView,
    thickness: float,
    weights: PlacementWeights,
    limits: GrowthLimits,
    work: NDArray[np.float64],
    out_reasons: NDArray[np.uint8],
) -> None:
    """Judge the accepted vertices of a box once more and renew what is known of them.

    Parameters
    ----------
    grid : PatchGrid
        The patch. Normal, cost, confidence and tilt of the vertices that pass are renewed, and the
        cost of those that do not; positions and states stay.
    box : tuple of int
        First and last row, first and last column.
    view : FieldView
        Signed distance field.
    thickness : float
        Thickness of the patch's sheet, voxels.
    weights : PlacementWeights
        Weights and constants of the cost.
    limits : GrowthLimits
        Limits of acceptance.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch.
    out_reasons : ndarray of uint8, shape (rows, cols)
        Filled with ACCEPT or why the vertex would be refused; untouched where none is accepted.
    """
    grid, view, weights = borrow_grid(grid), borrow_view(view), borrow_weights(weights)
    work = borrowed(work)
    system, normal, quality = work[0], work[3][6:9], work[4][:3]
    for r in range(box[0], box[1] + 1):
        for c in range(box[2], box[3] + 1):
            if grid.state[r, c] != ON_SHEET:
                continue
            position = grid.points[r, c]
            reason = judge_vertex(
                grid,
                r,
                c,
                view,
                position,
                thickness,
                weights.edge_samples,
                limits,
                work,
            )
            out_reasons[r, c] = reason
            grid.cost[r, c] = vertex_system(
                grid.points, grid.state, r, c, position, view, weights, True, system
            )
            if reason != ACCEPT:
                continue
            for a in range(3):
                grid.normals[r, c, a] = normal[a]
            grid.confidence[r, c] = quality[0]
            grid.tilt[r, c] = quality[1]
