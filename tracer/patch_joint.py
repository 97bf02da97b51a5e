"""Optimise all vertices of a settled patch together, window by window.

Settling moves one vertex at a time and is stuck with its neighbours; the joint optimisation
(:mod:`tracer.joint_optimisation`) is not. Windows keep memory bounded: their vertices move together
with a few beyond, inside a rim that stays, so that the next window mends the seam.

Nothing gets worse by it: vertices that afterwards would not be accepted go back to where they were.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.growing_grid import Box, GrowingGrid
from tracer.joint_optimisation import JointWeights, optimise_patch
from tracer.kernels.growth_grid import ACCEPT, N_REASONS, GrowthLimits
from tracer.kernels.growth_review import review_vertices
from tracer.kernels.placement import BRIDGED, ON_SHEET, PlacementWeights

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField

_WINDOW = 1280.0  # voxels: some 250 chunks of the field, 0.5 GB, at a time
_LARGEST_WINDOW = 64  # vertices: 20 MB of Ceres
_OVERLAP = 4  # vertices beyond a window that move with it
_RIM = 2  # fixed rings around them: a straight triple reaches that far


def optimise_jointly(
    field: "DistanceField",
    grid: GrowingGrid,
    weights: PlacementWeights,
    limits: GrowthLimits,
    iterations: int,
) -> int:
    """Return how many vertices were put back after moving all of a patch together.

    Parameters
    ----------
    field : DistanceField
        Signed distance field; chunks are loaded window by window.
    grid : GrowingGrid
        The patch; points, normals, costs, confidence and tilt change.
    weights : PlacementWeights
        Weights of the growth; the joint residuals get the same.
    limits : GrowthLimits
        Limits of acceptance.
    iterations : int
        Most steps per window.

    Returns
    -------
    int
        Vertices that would have been refused at their new place, and are where they were.
    """
    settled = grid.patch.points.copy()
    side = int(np.clip(_WINDOW / weights.step, 8, _LARGEST_WINDOW))
    for box in grid.tiles(side):
        _optimise_window(field, grid, weights, iterations, box)
    back = _refused(field, grid, settled, weights, limits)
    grid.patch.points[back] = settled[back]
    return int(back.sum())


def _optimise_window(
    field: "DistanceField",
    grid: GrowingGrid,
    weights: PlacementWeights,
    iterations: int,
    box: Box,
) -> None:
    """Move the vertices of a box and a few around it; the grid's margin holds the rim."""
    around = _OVERLAP + _RIM
    rows, cols = grid.patch.state.shape
    row0, row1 = max(box[0] - around, 0), min(box[1] + 1 + around, rows)
    col0, col1 = max(box[2] - around, 0), min(box[3] + 1 + around, cols)
    window = np.s_[row0:row1, col0:col1]
    valid = grid.patch.state[window] >= ON_SHEET
    fixed = np.ones_like(valid)
    inside = np.s_[
        max(box[0] - _OVERLAP, 0) - row0 : box[1] + 1 + _OVERLAP - row0,
        max(box[2] - _OVERLAP, 0) - col0 : box[3] + 1 + _OVERLAP - col0,
    ]
    fixed[inside] = False
    joint = JointWeights(
        straightness=weights.straightness,
        data=weights.data,
        edge_data=weights.data,
        edge_samples=weights.edge_samples,
        depth=weights.depth,
    )
    moved, _ = optimise_patch(
        grid.patch.points[window],
        valid,
        field,
        weights.step,
        weights=joint,
        fixed=fixed,
        guides=weights.guides._replace(axes=weights.guides.axes[window]),
        iterations=iterations,
    )
    grid.patch.points[window] = moved


def _refused(
    field: "DistanceField",
    grid: GrowingGrid,
    settled: NDArray[np.float64],
    weights: PlacementWeights,
    limits: GrowthLimits,
) -> NDArray[np.bool_]:
    """Return which vertices would not be accepted, or are bridged and further off than before."""
    reasons = np.full(grid.patch.state.shape, N_REASONS, np.uint8)
    reach = 2.0 * weights.step + limits.probe_reach + limits.probe_radius
    for box in grid.tiles():
        field.ensure(grid.chunks_of(box, reach))
        review_vertices(
            grid.patch,
            box,
            field.view(),
            float(grid.levels[1]),
            weights,
            limits,
            grid.work,
            reasons,
        )
    refused: NDArray[np.bool_] = (grid.patch.state == ON_SHEET) & (reasons != ACCEPT)
    bridged = grid.patch.state == BRIDGED
    distances = field.sample(grid.patch.points[bridged])
    before = field.sample(settled[bridged])
    refused[bridged] = distances > np.maximum(limits.worst_distance, before)
    return refused
