"""An optional last pass: all nodes of a window together, by native Ceres, data against isometry.

The pass along normals moves every node for itself and smooths afterwards. Here the distances to the
neighbours, straightness and the distance to the prediction's mid-line are weighed against each
other. Windows keep the memory bounded; their rims stay, and the next window mends the seam.

It is off unless asked for: a field of distances knows the mid-line to a fifth of a voxel, the
interpolated ends of the runs along a normal to a tenth, and chords that are asked to be as long as
arcs stretch a bent sheet. Figures in docs/unroll.md.

Nothing may get worse by it: a node that ends farther from the mid-line than it began, or that has
gone far, stays where it was. Nodes that were filled in without finding a prediction do not move.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.joint_optimisation import JointWeights, optimise_patch
from tracer.progress import Progress, silent
from tracer.unroll.inpaint import DATA

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField

_STRAIGHTNESS = 0.1
_DATA = 0.1  # per voxel
_DEEPER = 1.0  # voxel below the usual depth: without it the field is flat around the mid-line
_WINDOW = 48  # nodes along a side: some 20 MB of Ceres
_OVERLAP = 4  # nodes beyond a window that move with it
_RIM = 2  # fixed rings around them: a straight triple reaches that far
_FARTHEST = 2.0  # voxels; the nodes lie on the sheet already
_WORSE = 0.25  # voxels by which a node may end farther from the mid-line
_FOUND = 0.4  # confidence from which a filled node has found the prediction
_DEPTHS = (1.0, 4.0)  # voxels; half the thickness that a predicted sheet may have
_SAMPLED = 20_000  # nodes from which the thickness is taken


def optimise_sheet(
    points_xyz: NDArray[np.float64],
    state: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    field: "DistanceField",
    step: float,
    *,
    iterations: int,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Return the nodes of a sheet, moved together to the mid-line of the predicted one.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where there is none.
    state : ndarray of uint8, shape (rows, cols)
        100 on data, 80 filled, 0 none.
    confidence : ndarray of float32, shape (rows, cols)
        0 to 1.
    field : DistanceField
        Signed distance to the prediction; chunks are loaded window by window.
    step : float
        Distance of the nodes, voxels.
    iterations : int
        Most steps per window.
    progress : Progress
        Called after each window.

    Returns
    -------
    ndarray of float64, shape (rows, cols, 3)
        The input is unchanged.
    """
    valid = (state > 0) & np.isfinite(points_xyz[..., 0])
    free = valid & ((state == DATA) | (confidence >= _FOUND))
    if not free.any() or iterations <= 0:
        return points_xyz.copy()
    weights = JointWeights(
        straightness=_STRAIGHTNESS,
        data=_DATA,
        edge_data=0.0,  # chords lie inside a bend: along them the sheet is pulled outward
        edge_samples=1,
        depth=_usual_depth(points_xyz[free], field) + _DEEPER,
    )
    points = points_xyz.copy()
    rows, cols = valid.shape
    tiles = [(r, c) for c in range(0, cols, _WINDOW) for r in range(0, rows, _WINDOW)]
    around = _OVERLAP + _RIM
    for number, (row, col) in enumerate(tiles):
        window = np.s_[
            max(row - around, 0) : row + _WINDOW + around,
            max(col - around, 0) : col + _WINDOW + around,
        ]
        inner = np.zeros_like(valid)
        inner[
            max(row - _OVERLAP, 0) : row + _WINDOW + _OVERLAP,
            max(col - _OVERLAP, 0) : col + _WINDOW + _OVERLAP,
        ] = True
        fixed = ~(free & inner)[window]
        if fixed.all():
            continue
        moved, _ = optimise_patch(
            np.nan_to_num(points[window]),
            valid[window],
            field,
            step,
            weights=weights,
            fixed=fixed,
            iterations=iterations,
        )
        points[window] = np.where(valid[window][..., None], moved, points[window])
        progress(number + 1, len(tiles), "data and isometry")
    return _without_worse(points_xyz, points, free, field, weights.depth)


def _usual_depth(points: NDArray[np.float64], field: "DistanceField") -> float:
    """Return how deep the middle of the predicted sheet lies, where most nodes are."""
    sample = points[:: max(1, len(points) // _SAMPLED)]
    inside = -np.asarray(field.sample(sample), dtype=np.float64)
    inside = inside[inside > 0]
    if not len(inside):
        return JointWeights().depth
    return float(np.clip(np.percentile(inside, 75), *_DEPTHS))


def _without_worse(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    free: NDArray[np.bool_],
    field: "DistanceField",
    depth: float,
) -> NDArray[np.float64]:
    """Return the nodes after the pass, those that it made worse where they were."""
    from_middle = [
        np.maximum(np.asarray(field.sample(points[free]), np.float64), -depth) + depth
        for points in (before, after)
    ]
    gone = np.linalg.norm(after[free] - before[free], axis=1)
    worse = (from_middle[1] > from_middle[0] + _WORSE) | (gone > _FARTHEST)
    out = after.copy()
    back = free.copy()
    back[free] = worse
    out[back] = before[back]
    return out
