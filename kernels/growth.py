"""Grow one patch over the prediction, generation by generation.

A patch is a square grid of vertices with a margin; growth starts from a 2x2 quad in its middle.
In every generation the 4-neighbours of the fringe are candidates. A candidate is placed by its
neighbours' structure, then pulled to the sheet's mid-line, then judged. Accepted ones form the next
fringe; rejected ones keep their structural position, take part in structure but do not expand,
and are tried again whenever one of their neighbours is accepted. After each generation the outer
rings are relaxed in a fixed 4-colouring, so that the result depends on nothing but the input.

The kernel reads the distance field through a chunk table. It never samples a chunk that is not
loaded: before each generation it looks whether all chunks that the generation can touch are there
and otherwise returns :data:`NEEDS_CHUNKS`, to be called again.

Coordinates are voxels in the order x, y, z; grids are indexed ``[row, col]``.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel, kernel
from tracer.kernels.field_sampling import FieldView, borrow_view
from tracer.kernels.growth_chunks import lacks_chunks
from tracer.kernels.growth_grid import (
    ACCEPT,
    ACCEPTED,
    ALL_GENERATIONS,
    COL_MAX,
    COL_MIN,
    COST,
    FINISHED,
    FRINGE,
    GENERATION,
    MARGIN,
    NEEDS_CHUNKS,
    NOT_COMPACT,
    ROW_MAX,
    ROW_MIN,
    THICKNESS_COUNT,
    GrowthLimits,
    PatchGrid,
    borrow_grid,
)
from tracer.kernels.growth_judgement import judge_vertex
from tracer.kernels.growth_settling import relax
from tracer.kernels.placement import (
    COORDINATE,
    MAX_SHIFT,
    ON_SHEET,
    PlacementWeights,
    borrow_weights,
    place_vertex,
)

COMPACT_LIMIT = 6.0  # support a candidate needs; lowered to the other two when nothing else is left
_COMPACT_NOW_AND_THEN = 5.0
_COMPACT_LAST = 2.0
_MEAN_OVER = 200  # vertices that the running mean of the thickness remembers
_PLACED = 0.05  # voxels: placement stops at shorter steps; relaxation follows
_LEASH = 1.5  # steps between a candidate, placed by structure, and its fringe vertex
# beyond an active vertex: how far edges can lead, in steps, and how far their scans look
REACH_STEPS = _LEASH + MAX_SHIFT
_ROWS4 = (0, 0, 1, -1)
_COLS4 = (1, -1, 0, 0)


@inline_kernel
def _extrapolate(grid: PatchGrid, row: int, col: int, position: NDArray[np.float64]) -> bool:
    """Fill `position` with the mean of all linear extrapolations and parallelograms."""
    n = 0
    x = y = z = 0.0
    for k in range(9):
        if k == 4:
            continue
        dr, dc = k // 3 - 1, k % 3 - 1
        r, c = row + dr, col + dc
        if grid.state[r, c] != ON_SHEET:
            continue
        if grid.state[r + dr, c + dc] == ON_SHEET:
            x += 2.0 * grid.points[r, c, 0] - grid.points[r + dr, c + dc, 0]
            y += 2.0 * grid.points[r, c, 1] - grid.points[r + dr, c + dc, 1]
            z += 2.0 * grid.points[r, c, 2] - grid.points[r + dr, c + dc, 2]
            n += 1
        if (
            dr != 0
            and dc != 0
            and grid.state[r, col] == ON_SHEET
            and grid.state[row, c] == ON_SHEET
        ):
            x += grid.points[r, col, 0] + grid.points[row, c, 0] - grid.points[r, c, 0]
            y += grid.points[r, col, 1] + grid.points[row, c, 1] - grid.points[r, c, 1]
            z += grid.points[r, col, 2] + grid.points[row, c, 2] - grid.points[r, c, 2]
            n += 1
    if n == 0:
        return False
    position[0], position[1], position[2] = x / n, y / n, z / n
    return True


@inline_kernel
def _is_compact(grid: PatchGrid, row: int, col: int, limit: float) -> bool:
    """Return whether a candidate has enough well-connected neighbours."""
    count = 0
    support = 0
    for k in range(9):
        r, c = row - 1 + k // 3, col - 1 + k % 3
        if grid.state[r, c] != ON_SHEET:
            continue
        count += 1
        for j in range(9):
            if grid.state[r - 1 + j // 3, c - 1 + j % 3] == ON_SHEET:
                support += 1
    return count >= 2 and count + 0.35 * support >= limit


@inline_kernel
def _collect_candidates(
    grid: PatchGrid,
    fringe: NDArray[np.int64],
    n_fringe: int,
    round_number: int,
    tried: NDArray[np.int32],
    out_candidates: NDArray[np.int64],
) -> int:
    """Fill in the free 4-neighbours of the fringe, each once, with whose they are; return how many.

    A candidate that would need chunks beyond the reach of its fringe vertex is none.
    """
    rows, cols = grid.state.shape
    n = 0
    for i in range(n_fringe):
        for k in range(4):
            r, c = fringe[i, 0] + _ROWS4[k], fringe[i, 1] + _COLS4[k]
            if (
                grid.state[r, c] != ON_SHEET
                and tried[r, c] != round_number
                and MARGIN <= r < rows - MARGIN
                and MARGIN <= c < cols - MARGIN
            ):
                tried[r, c] = round_number
                out_candidates[n, 0], out_candidates[n, 1] = r, c
                out_candidates[n, 2], out_candidates[n, 3] = fringe[i, 0], fringe[i, 1]
                n += 1
    return n


@inline_kernel
def _is_leashed(
    grid: PatchGrid,
    candidate: NDArray[np.int64],
    position: NDArray[np.float64],
    step: float,
) -> bool:
    """Return whether a candidate and its accepted 4-neighbours lie near its fringe vertex."""
    pr, pc = candidate[2], candidate[3]
    for k in range(5):
        square = 0.0
        r, c = candidate[0], candidate[1]
        leash = _LEASH * step
        if k < 4:
            r, c = r + _ROWS4[k], c + _COLS4[k]
            leash = (_LEASH + MAX_SHIFT) * step
            if grid.state[r, c] != ON_SHEET:
                continue
        for a in range(3):
            at = grid.points[r, c, a] if k < 4 else position[a]
            away = at - grid.points[pr, pc, a]
            square += away * away
        if square > leash * leash:
            return False
    return True


@kernel
def try_candidate(
    grid: PatchGrid,
    candidate: NDArray[np.int64],
    generation: int,
    compactness: float,
    thickness: float,
    view: FieldView,
    weights: PlacementWeights,
    limits: GrowthLimits,
    work: NDArray[np.float64],
) -> int:
    """Place and judge one candidate; return why it was refused, or ACCEPT.

    Parameters
    ----------
    grid : PatchGrid
        The patch; the candidate's entries change.
    candidate : ndarray of int64, shape (4,)
        Row and column of the candidate, and of the fringe vertex beside it.
    generation : int
        Current generation.
    compactness : float
        Support that it needs.
    thickness : float
        Mean thickness of the patch's sheet so far, voxels.
    view : FieldView
        Signed distance field.
    weights : PlacementWeights
        Weights and constants of the placement.
    limits : GrowthLimits
        Limits of acceptance.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch; afterwards ``work[4, :3]`` holds confidence, tilt and thickness.

    Returns
    -------
    int
        ACCEPT or the reason.
    """
    row, col = candidate[0], candidate[1]
    position, structural, normal = work[3][:3], work[3][3:6], work[3][6:9]
    quality = work[4][:3]
    if not _is_compact(grid, row, col, compactness):
        return NOT_COMPACT
    if not _extrapolate(grid, row, col, position):
        return NOT_COMPACT
    points, state = grid.points, grid.state
    place_vertex(points, state, row, col, position, view, weights, False, 12, 6, _PLACED, work)
    reason = COST
    cost = 0.0
    for a in range(3):
        structural[a] = position[a]
    if _is_leashed(grid, candidate, position, weights.step):
        cost = place_vertex(
            points, state, row, col, position, view, weights, True, 12, 6, _PLACED, work
        )
        if cost <= limits.max_cost:
            reason = judge_vertex(
                grid, row, col, view, position, thickness, weights.edge_samples, limits, work
            )
    if reason != ACCEPT:
        state[row, col] = COORDINATE
        for a in range(3):
            points[row, col, a] = structural[a]
        return reason
    state[row, col] = ON_SHEET
    for a in range(3):
        points[row, col, a] = position[a]
        grid.normals[row, col, a] = normal[a]
    grid.generation[row, col] = generation
    grid.cost[row, col] = cost
    grid.confidence[row, col] = quality[0]
    grid.tilt[row, col] = quality[1]
    return ACCEPT


@inline_kernel
def _refill_fringe(
    grid: PatchGrid, counters: NDArray[np.int64], out_fringe: NDArray[np.int64]
) -> int:
    """Fill in all accepted vertices that have a free neighbour and return their number."""
    n = 0
    for r in range(counters[ROW_MIN], counters[ROW_MAX] + 1):
        for c in range(counters[COL_MIN], counters[COL_MAX] + 1):
            if grid.state[r, c] != ON_SHEET:
                continue
            # the others offer no candidates, but would keep the chunks of the whole patch loaded
            if (
                grid.state[r, c + 1] != ON_SHEET
                or grid.state[r, c - 1] != ON_SHEET
                or grid.state[r + 1, c] != ON_SHEET
                or grid.state[r - 1, c] != ON_SHEET
            ):
                out_fringe[n, 0] = r
                out_fringe[n, 1] = c
                n += 1
    return n


@kernel
def grow_generations(
    grid: PatchGrid,
    fringe: NDArray[np.int64],
    counters: NDArray[np.int64],
    levels: NDArray[np.float64],
    rejections: NDArray[np.int64],
    view: FieldView,
    weights: PlacementWeights,
    limits: GrowthLimits,
    reach: float,
    work: NDArray[np.float64],
) -> int:
    """Return a status after growing until something is needed or nothing is left.

    Parameters
    ----------
    grid : PatchGrid
        The patch; changes.
    fringe : ndarray of int64, shape (n, 2)
        Vertices whose neighbours are the next candidates; changes.
    counters : ndarray of int64, shape (N_COUNTERS,)
        See the constants of this module; changes.
    levels : ndarray of float64, shape (2,)
        Compactness limit and mean sheet thickness so far; changes.
    rejections : ndarray of int64, shape (N_REASONS,)
        Number of refusals per reason; changes.
    view : FieldView
        Signed distance field.
    weights : PlacementWeights
        Weights and constants of the placement.
    limits : GrowthLimits
        Limits of acceptance.
    reach : float
        Distance from an active vertex within which every chunk must be loaded, voxels: at least
        REACH_STEPS steps and what scans need beyond.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch.

    Returns
    -------
    int
        FINISHED, NEEDS_CHUNKS or ALL_GENERATIONS.

    Notes
    -----
    The neighbour of a candidate that is not compact yet stays on the fringe: the candidate is asked
    again when more has grown around it, so that a patch grows round instead of into a strip.
    """
    grid, view, weights = borrow_grid(grid), borrow_view(view), borrow_weights(weights)
    work, fringe, counters = borrowed(work), borrowed(fringe), borrowed(counters)
    candidates = np.empty((fringe.shape[0], 4), np.int64)
    tried = np.full(grid.state.shape, -1, np.int32)
    kept = np.full(grid.state.shape, -1, np.int32)
    round_number = 0
    while True:
        generation = counters[GENERATION] + 1
        if generation > limits.generations:
            return ALL_GENERATIONS
        oldest = generation - limits.relax_rings
        if lacks_chunks(grid, fringe, counters, view, oldest, reach):
            return NEEDS_CHUNKS
        counters[GENERATION] = generation
        round_number += 1
        n_candidates = _collect_candidates(
            grid, fringe, counters[FRINGE], round_number, tried, candidates
        )
        if generation % 10 == 0:
            levels[0] = min(levels[0], _COMPACT_NOW_AND_THEN)
        n_fringe = 0
        n_accepted = 0
        for i in range(n_candidates):
            r, c = candidates[i, 0], candidates[i, 1]
            reason = try_candidate(
                grid,
                candidates[i],
                generation,
                levels[0],
                levels[1],
                view,
                weights,
                limits,
                work,
            )
            rejections[reason] += 1
            if reason == NOT_COMPACT:
                for k in range(4):
                    nr, nc = r + _ROWS4[k], c + _COLS4[k]
                    if grid.state[nr, nc] == ON_SHEET and kept[nr, nc] != round_number:
                        kept[nr, nc] = round_number
                        fringe[n_fringe, 0] = nr
                        fringe[n_fringe, 1] = nc
                        n_fringe += 1
                        break
            if reason != ACCEPT:
                continue
            n_accepted += 1
            counters[ACCEPTED] += 1
            counters[THICKNESS_COUNT] += 1
            levels[1] += (work[4, 2] - levels[1]) / min(counters[THICKNESS_COUNT], _MEAN_OVER)
            counters[ROW_MIN] = min(counters[ROW_MIN], r)
            counters[ROW_MAX] = max(counters[ROW_MAX], r)
            counters[COL_MIN] = min(counters[COL_MIN], c)
            counters[COL_MAX] = max(counters[COL_MAX], c)
            if kept[r, c] != round_number:
                kept[r, c] = round_number
                fringe[n_fringe, 0] = r
                fringe[n_fringe, 1] = c
                n_fringe += 1
        counters[FRINGE] = n_fringe
        if n_accepted > 0:
            levels[0] = COMPACT_LIMIT
            box = (counters[ROW_MIN], counters[ROW_MAX], counters[COL_MIN], counters[COL_MAX])
            relax(grid, box, oldest, view, weights, limits.relax_sweeps, work)
        elif levels[0] > _COMPACT_LAST:
            levels[0] -= 1.0
            counters[GENERATION] -= 1  # a dry round is no generation
            counters[FRINGE] = _refill_fringe(grid, counters, fringe)
        else:
            return FINISHED
