"""Grow one patch from one point: start on a clean spot, grow, settle, close small holes, crop.

The work is done by the kernels; this module prepares the start, feeds them chunks of the distance
field and turns the grid into a :class:`~tracer.surface.Surface`.

Conventions
-----------
Rows follow the volume's z axis projected into the sheet, columns run across it, so that all patches
of a scroll share an orientation. The normal is d/dcol x d/drow.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.direction_volume import open_guides
from tracer.growing_grid import GrowingGrid
from tracer.kernels import growth, growth_grid, growth_settling
from tracer.kernels.placement import ON_SHEET, PlacementWeights
from tracer.patch_resume import resume_grid
from tracer.patch_start import Start, find_starts

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.seed_params import SeedParams
    from tracer.surface import Surface

ON_PREDICTION = 1.0  # voxels beyond the sheet's boundary that still count as on it
_ATTEMPTS = 3  # starts near a seed that are grown from, where the patch is too small to be kept
_CLOSING_ROUNDS = 2  # a hole that two rounds do not close is a hole of the sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrownPatch:
    """A finished patch and what happened while it grew.

    Attributes
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Vertices in voxels.
    state : ndarray of uint8, shape (rows, cols)
        ``ON_SHEET``, ``BRIDGED`` or 0.
    generations : ndarray of uint16, shape (rows, cols)
        Generation at which each vertex was accepted.
    confidence : ndarray of float32, shape (rows, cols)
        0 to 1: how clearly the prediction shows one single sheet there.
    start_xyz : ndarray of float64, shape (3,)
        Where growth started.
    thickness : float
        Mean thickness of the patch's sheet, voxels.
    max_gen : int
        Last generation.
    mean_cost, max_cost : float
        Placement cost of the accepted vertices when they were judged last: at acceptance, or on
        resuming or after a joint optimisation, where more neighbours count.
    median_tilt : float
        Median sine of the angle between mesh and sheet normal.
    on_prediction : float
        Share of the vertices within one voxel of the prediction.
    rejections : dict of str to int
        Candidates refused, per reason.
    """

    points_xyz: NDArray[np.float64]
    state: NDArray[np.uint8]
    generations: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    start_xyz: NDArray[np.float64]
    thickness: float
    max_gen: int
    mean_cost: float
    max_cost: float
    median_tilt: float
    on_prediction: float
    rejections: dict[str, int]

    def summary(self) -> str:
        """Return one line about the patch.

        Returns
        -------
        str
            Vertices, generations and the most frequent reason of refusal.
        """
        asked_again = "not_compact"  # no verdict: the candidate waits for more neighbours
        reasons = {k: n for k, n in self.rejections.items() if n > 0 and k != asked_again}
        refused = max(reasons, key=lambda reason: reasons[reason], default="")
        return f"{int((self.state > 0).sum())} vertices in {self.max_gen} generations" + (
            f", mostly stopped by: {refused}" if refused else ""
        )


def grow_patch(
    field: "DistanceField", seed_xyz: NDArray[np.float64], params: "SeedParams"
) -> GrownPatch:
    """Return the patch that grows from a point.

    Parameters
    ----------
    field : DistanceField
        Signed distance field of the prediction; chunks are loaded as they are needed.
    seed_xyz : ndarray of float64, shape (3,)
        Seed in voxels, x, y, z.
    params : SeedParams
        Growth parameters.

    Returns
    -------
    GrownPatch
        The cropped patch; it may be as small as the first quad.

    Raises
    ------
    SeedError
        If the seed lies outside the volume, off the prediction, or nowhere near a clean sheet.
    VolumeError
        If the volume or a direction field cannot be read.

    Notes
    -----
    Growth follows VC3D's scheme (fringe, compactness, placement, acceptance) as laid down in the
    specification; the acceptance by scans across the sheet (:mod:`tracer.kernels.sheet_probe`), the
    clean start and the relaxation in a fixed colouring are ours.
    """
    limits = params.limits()
    enough = params.min_area_cm / (params.step_size * field.volume.voxel_size_um * 1e-4) ** 2
    taken: list[NDArray[np.float64]] = []
    best: tuple[int, GrowingGrid, Start, PlacementWeights] | None = None
    starts = find_starts(field, seed_xyz, params, limits, taken)
    for grid, start in itertools.islice(starts, _ATTEMPTS):
        weights = _grow(field, grid, params.weights(start.thickness), limits, params)
        n_quads = _n_quads(grid)
        if best is None or n_quads > best[0]:
            best = n_quads, grid, start, weights
        if n_quads >= enough:
            break
        taken.append(grid.patch.points[grid.patch.state == ON_SHEET])
    assert best is not None  # else there was a SeedError
    _, grid, start, weights = best
    return _finish(field, grid, start.origin_xyz, weights, limits, params)


def _n_quads(grid: GrowingGrid) -> int:
    """Return how many quads of a grid have four accepted corners."""
    row0, row1, col0, col1 = grid.box
    grown = grid.patch.state[row0 : row1 + 1, col0 : col1 + 1] == ON_SHEET
    return int((grown[:-1, :-1] & grown[1:, :-1] & grown[:-1, 1:] & grown[1:, 1:]).sum())


def resume_patch(field: "DistanceField", surface: "Surface", params: "SeedParams") -> GrownPatch:
    """Return the patch that a saved one grows into.

    Parameters
    ----------
    field : DistanceField
        Signed distance field of the prediction; chunks are loaded as they are needed.
    surface : Surface
        The saved patch; vertices of a generation after ``rewind_gen`` are dropped.
    params : SeedParams
        Growth parameters: ``generations`` more are grown.

    Returns
    -------
    GrownPatch
        The cropped patch, old and new vertices settled together.

    Raises
    ------
    SurfaceError
        If the surface does not fit the parameters or the volume, see
        :func:`tracer.patch_resume.resume_grid`.
    VolumeError
        If the volume or a direction field cannot be read.
    """
    grid, thickness = resume_grid(field, surface, params)
    row, col = np.argwhere(grid.patch.state == ON_SHEET)[0]
    start_xyz = grid.patch.points[row, col].copy()
    limits = params.limits()
    last = int(grid.counters[growth_grid.GENERATION]) + params.generations
    limits = limits._replace(generations=min(last, np.iinfo(np.uint16).max))
    weights = params.weights(thickness)
    weights = _grow(field, grid, weights, limits, params)
    return _finish(field, grid, start_xyz, weights, limits, params)


def _grow(
    field: "DistanceField",
    grid: GrowingGrid,
    weights: PlacementWeights,
    limits: growth_grid.GrowthLimits,
    params: "SeedParams",
) -> PlacementWeights:
    """Grow a grid as far as it goes; return the weights with the guides that it followed."""
    directions = open_guides(params.direction_fields)
    if directions is None:
        _grow_generations(field, grid, weights, limits)
        return weights
    guides = directions.new_guides(grid.shape)
    weights = weights._replace(guides=guides)
    directions.update(grid, guides, 0)
    last = limits.generations
    while grid.generation < last:  # the guides are looked up between the generations
        limits = limits._replace(generations=grid.generation + 1)
        if _grow_generations(field, grid, weights, limits) == growth_grid.FINISHED:
            break
        directions.update(grid, guides, grid.generation - limits.relax_rings)
    return weights


def _finish(
    field: "DistanceField",
    grid: GrowingGrid,
    start_xyz: NDArray[np.float64],
    weights: PlacementWeights,
    limits: growth_grid.GrowthLimits,
    params: "SeedParams",
) -> GrownPatch:
    """Settle a grown grid, close small holes and crop it."""
    _settle(field, grid, weights, limits)
    if params.joint_iterations > 0:
        from tracer.patch_joint import optimise_jointly  # loads Ceres, a third of a second

        directions = open_guides(params.direction_fields)
        if directions is not None:
            directions.update(grid, weights.guides, 0)
        optimise_jointly(field, grid, weights, limits, params.joint_iterations)
    return _crop(field, grid, start_xyz)


def _grow_generations(
    field: "DistanceField",
    grid: GrowingGrid,
    weights: PlacementWeights,
    limits: growth_grid.GrowthLimits,
) -> int:
    """Grow a grid up to the last generation of the limits; return why it ended."""
    reach = _reach(weights, limits)
    while True:
        status = growth.grow_generations(
            grid.patch,
            grid.fringe,
            grid.counters,
            grid.levels,
            grid.rejections,
            field.view(),
            weights,
            limits,
            reach,
            grid.work,
        )
        if status != growth_grid.NEEDS_CHUNKS:
            return status
        field.ensure(grid.active_chunks(reach, limits.relax_rings))


def _reach(weights: PlacementWeights, limits: growth_grid.GrowthLimits) -> float:
    """Return how far from a vertex the field is sampled, voxels, with one for interpolation."""
    scans = float(np.hypot(limits.probe_reach, limits.probe_radius))
    return growth.REACH_STEPS * weights.step + scans + 1.0


def _settle(
    field: "DistanceField",
    grid: GrowingGrid,
    weights: PlacementWeights,
    limits: growth_grid.GrowthLimits,
) -> None:
    """Relax the whole patch, close small holes and judge every vertex once more, tile by tile."""
    reach, work = _reach(weights, limits), grid.work
    tiles = list(grid.tiles())
    for box in tiles:
        field.ensure(grid.chunks_of(box, reach))
        growth_settling.relax(grid.patch, box, 0, field.view(), weights, limits.final_sweeps, work)
    for _ in range(_CLOSING_ROUNDS):
        for box in tiles:
            field.ensure(grid.chunks_of(box, reach))
            growth_settling.close_holes(grid.patch, box, field.view(), weights, limits, work)


def _crop(field: "DistanceField", grid: GrowingGrid, start_xyz: NDArray[np.float64]) -> GrownPatch:
    """Return the used part of a grid with its statistics."""
    row0, row1, col0, col1 = grid.box
    window = np.s_[row0 : row1 + 1, col0 : col1 + 1]
    patch = grid.patch
    state = np.where(patch.state[window] >= ON_SHEET, patch.state[window], 0).astype(np.uint8)
    placed = state > 0
    grown = state == ON_SHEET
    points = np.where(placed[..., None], patch.points[window], -1.0)
    distances = field.sample(points[placed])
    return GrownPatch(
        points_xyz=points,
        state=state,
        generations=np.where(placed, patch.generation[window], 0).astype(np.uint16),
        confidence=np.where(grown, patch.confidence[window], 0.0).astype(np.float32),
        start_xyz=start_xyz,
        thickness=float(grid.levels[1]),
        max_gen=int(grid.counters[growth_grid.GENERATION]),
        mean_cost=float(patch.cost[window][grown].mean()),
        max_cost=float(patch.cost[window][grown].max()),
        median_tilt=float(np.median(patch.tilt[window][grown])),
        on_prediction=float((distances <= ON_PREDICTION).mean()),
        rejections={
            name: int(grid.rejections[reason]) for reason, name in growth_grid.REASON_NAMES.items()
        },
    )
