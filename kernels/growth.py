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

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.field_sampling import CHUNK, NOT_LOADED, FieldView, sample_field
from tracer.kernels.placement import (
    BRIDGED,
    COORDINATE,
    EMPTY,
    ON_SHEET,
    PlacementWeights,
    place_vertex,
)
from tracer.kernels.sheet_probe import probe_sheet, scan_across, tangents

MARGIN = 4  # unused cells on every side of the grid, so that stencils need no index test

# status of grow_generations
FINISHED = 0  # the fringe is empty
NEEDS_CHUNKS = 1  # load all chunks within reach of the active vertices and call again
ALL_GENERATIONS = 2  # the last generation asked for is done

# entries of the counters array
GENERATION = 0
ACCEPTED = 1
FRINGE = 2
ROW_MIN = 3
ROW_MAX = 4
COL_MIN = 5
COL_MAX = 6
THICKNESS_COUNT = 7
N_COUNTERS = 8

# why a candidate was refused: entries of the rejections array
ACCEPT = 0
NOT_COMPACT = 1  # too few neighbours
OUTSIDE = 2  # beyond the volume
OFF_PREDICTION = 3  # an edge leaves the prediction
COST = 4  # the structure is bent or stretched
THICK = 5  # merged sheets or a blob
TILT = 6  # the mesh cuts across the sheet
VALLEY = 7  # an edge passes between two sheets
FOLD = 8  # no mesh normal: a cell is folded
SLIP = 9  # a neighbour lies on another sheet
N_REASONS = 10
REASON_NAMES = {
    NOT_COMPACT: "not_compact",
    OUTSIDE: "outside_volume",
    OFF_PREDICTION: "off_prediction",
    COST: "cost",
    THICK: "thick",
    TILT: "tilt",
    VALLEY: "valley",
    FOLD: "fold",
    SLIP: "slip",
}

COMPACT_LIMIT = 6.0  # support a candidate needs; lowered to the other two when nothing else is left
_COMPACT_NOW_AND_THEN = 5.0
_COMPACT_LAST = 2.0
_MEAN_OVER = 200  # vertices that the running mean of the thickness remembers
_SLIP_FLOOR = 1.5  # voxels: what the noise of positions and scans amounts to at short steps
_PLACED = 0.05  # voxels: placement stops at shorter steps; relaxation follows
_RELAXED = 0.01
_ROWS4 = (0, 0, 1, -1)
_COLS4 = (1, -1, 0, 0)


class PatchGrid(NamedTuple):
    """State of a growing patch; every array has the grid's shape (rows, cols).

    Attributes
    ----------
    points : ndarray of float64, shape (rows, cols, 3)
        Vertices, x, y, z, in voxels.
    normals : ndarray of float64, shape (rows, cols, 3)
        Sheet normal of each accepted vertex.
    state : ndarray of uint8
        See :mod:`tracer.kernels.placement`.
    generation : ndarray of int32
        Generation at which the vertex was accepted.
    cost : ndarray of float64
        Cost at acceptance.
    confidence : ndarray of float64
        Share of the scans around the vertex that saw one clean sheet.
    tilt : ndarray of float64
        Sine of the angle between mesh and sheet normal.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    state: NDArray[np.uint8]
    generation: NDArray[np.int32]
    cost: NDArray[np.float64]
    confidence: NDArray[np.float64]
    tilt: NDArray[np.float64]


class GrowthLimits(NamedTuple):
    """Limits of acceptance.

    Attributes
    ----------
    generations : int
        Last generation.
    worst_distance : float
        Largest signed distance along the new edges, voxels.
    max_cost : float
        Largest cost.
    thickness_factor : float
        A run thicker than this times the patch's own thickness, plus one voxel, is a merger.
    max_thick : int
        Number of thick scans, of nine, that are tolerated.
    max_tilt : float
        Largest sine of the angle between mesh and sheet normal.
    max_turn : float
        Largest sine of the angle between the sheet normals of neighbours.
    max_slip : float
        Largest offset of neighbours along their mean normal, as a share of their distance. It is
        zero on any circle, whatever its radius, so it can be far smaller than a jump.
    probe_radius : float
        Radius of the ring of scans, voxels.
    probe_reach : float
        Reach of a scan to either side, voxels.
    relax_rings : int
        Generations that relaxation still moves.
    relax_sweeps : int
        Relaxation sweeps per generation.
    final_sweeps : int
        Relaxation sweeps over the finished patch.
    """

    generations: int
    worst_distance: float
    max_cost: float
    thickness_factor: float
    max_thick: int
    max_tilt: float
    max_turn: float
    max_slip: float
    probe_radius: float
    probe_reach: float
    relax_rings: int
    relax_sweeps: int
    final_sweeps: int


@inline_kernel
def _mesh_normal(
    grid: PatchGrid, row: int, col: int, px: float, py: float, pz: float
) -> tuple[float, float, float, bool]:
    """Return the unit normal (d/dcol x d/drow) of the mesh around a vertex placed at p."""
    nx = ny = nz = 0.0
    for k in range(4):
        dr = 1 if k < 2 else -1
        dc = 1 if k % 2 == 0 else -1
        if grid.state[row + dr, col] == EMPTY or grid.state[row, col + dc] == EMPTY:
            continue
        ax = dc * (grid.points[row, col + dc, 0] - px)
        ay = dc * (grid.points[row, col + dc, 1] - py)
        az = dc * (grid.points[row, col + dc, 2] - pz)
        bx = dr * (grid.points[row + dr, col, 0] - px)
        by = dr * (grid.points[row + dr, col, 1] - py)
        bz = dr * (grid.points[row + dr, col, 2] - pz)
        nx += ay * bz - az * by
        ny += az * bx - ax * bz
        nz += ax * by - ay * bx
    if nx == 0.0 and ny == 0.0 and nz == 0.0:
        for k in range(9):
            r, c = row - 1 + k // 3, col - 1 + k % 3
            if grid.state[r, c] == ON_SHEET and k != 4:
                nx += grid.normals[r, c, 0]
                ny += grid.normals[r, c, 1]
                nz += grid.normals[r, c, 2]
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if length < 1e-9:
        return 0.0, 0.0, 1.0, False
    return nx / length, ny / length, nz / length, True


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


@kernel
def judge_edges(
    grid: PatchGrid,
    row: int,
    col: int,
    view: FieldView,
    position: NDArray[np.float64],
    normal: NDArray[np.float64],
    thickness_limit: float,
    samples: int,
    limits: GrowthLimits,
) -> int:
    """Return why the edges from a vertex to its accepted 4-neighbours are refused.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    view : FieldView
        Signed distance field around it.
    position : ndarray of float64, shape (3,)
        Where the vertex is.
    normal : ndarray of float64, shape (3,)
        Unit normal of the mesh there.
    thickness_limit : float
        Thickest run of a single sheet, voxels.
    samples : int
        Interior samples per edge.
    limits : GrowthLimits
        Limits of acceptance.

    Returns
    -------
    int
        ACCEPT, OFF_PREDICTION, THICK or VALLEY.
    """
    thick = 0
    signed, _, _, _, _ = sample_field(view, position[0], position[1], position[2])
    if signed > limits.worst_distance:
        return OFF_PREDICTION
    for k in range(4):
        r, c = row + _ROWS4[k], col + _COLS4[k]
        if grid.state[r, c] != ON_SHEET:
            continue
        for i in range(1, samples + 1):
            t = i / (samples + 1)
            x = position[0] * (1.0 - t) + grid.points[r, c, 0] * t
            y = position[1] * (1.0 - t) + grid.points[r, c, 1] * t
            z = position[2] * (1.0 - t) + grid.points[r, c, 2] * t
            signed, _, _, _, _ = sample_field(view, x, y, z)
            if signed > limits.worst_distance:
                return OFF_PREDICTION
            if i % 2 == 1:
                continue
            scan = scan_across(view, x, y, z, normal[0], normal[1], normal[2], limits.probe_reach)
            if scan.found and scan.other < 0.5 * limits.probe_reach:
                return VALLEY
            if scan.thickness > thickness_limit:
                thick += 1
    if thick > 1:
        return THICK
    return ACCEPT


@kernel
def judge_vertex(
    grid: PatchGrid,
    row: int,
    col: int,
    view: FieldView,
    position: NDArray[np.float64],
    thickness: float,
    samples: int,
    limits: GrowthLimits,
    work: NDArray[np.float64],
    out_normal: NDArray[np.float64],
    out_quality: NDArray[np.float64],
) -> int:
    """Return whether a vertex lies on a single sheet, along it, and is connected by it.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    view : FieldView
        Signed distance field around it.
    position : ndarray of float64, shape (3,)
        Where the vertex is.
    thickness : float
        Thickness of the patch's sheet so far, voxels.
    samples : int
        Interior samples per edge.
    limits : GrowthLimits
        Limits of acceptance.
    work : ndarray of float64, shape (9, 3)
        Scratch.
    out_normal : ndarray of float64, shape (3,)
        Filled with the sheet normal.
    out_quality : ndarray of float64, shape (3,)
        Filled with confidence, sine of the tilt and thickness of the sheet here.

    Returns
    -------
    int
        ACCEPT or the reason.
    """
    px, py, pz = position[0], position[1], position[2]
    _, _, _, _, inside_volume = sample_field(view, px, py, pz)
    if not inside_volume:
        return OUTSIDE
    nx, ny, nz, known = _mesh_normal(grid, row, col, px, py, pz)
    if not known:
        return FOLD
    limit = limits.thickness_factor * thickness + 1.0
    out_normal[0], out_normal[1], out_normal[2] = nx, ny, nz
    reason = judge_edges(grid, row, col, view, position, out_normal, limit, samples, limits)
    if reason != ACCEPT:
        return reason
    probe = probe_sheet(
        view, px, py, pz, nx, ny, nz, limits.probe_radius, limits.probe_reach, limit, work
    )
    out_quality[0] = probe.clean / 9.0
    out_quality[1] = 0.0
    out_quality[2] = probe.thickness
    if probe.thick > limits.max_thick or probe.centre_thick:
        return THICK
    if probe.clean < 4:
        return OFF_PREDICTION
    ux, uy, uz, vx, vy, vz = tangents(nx, ny, nz)
    sx = nx - probe.slope_u * ux - probe.slope_v * vx
    sy = ny - probe.slope_u * uy - probe.slope_v * vy
    sz = nz - probe.slope_u * uz - probe.slope_v * vz
    length = math.sqrt(sx * sx + sy * sy + sz * sz)
    sx, sy, sz = sx / length, sy / length, sz / length
    tilt = math.sqrt(max(0.0, 1.0 - 1.0 / (length * length)))
    out_normal[0], out_normal[1], out_normal[2] = sx, sy, sz
    out_quality[1] = tilt
    if tilt > limits.max_tilt:
        return TILT
    return judge_neighbours(grid, row, col, position, out_normal, limits)


@kernel
def judge_neighbours(
    grid: PatchGrid,
    row: int,
    col: int,
    position: NDArray[np.float64],
    normal: NDArray[np.float64],
    limits: GrowthLimits,
) -> int:
    """Return whether a vertex continues the sheet of its accepted neighbours.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    position : ndarray of float64, shape (3,)
        Where it is.
    normal : ndarray of float64, shape (3,)
        Its unit sheet normal.
    limits : GrowthLimits
        Limits of acceptance.

    Returns
    -------
    int
        ACCEPT, TILT where the normals turn too much, SLIP where a neighbour lies on another sheet.
    """
    for k in range(9):
        r, c = row - 1 + k // 3, col - 1 + k % 3
        if k == 4 or grid.state[r, c] != ON_SHEET:
            continue
        cos = along = edge2 = mean2 = 0.0
        for a in range(3):
            edge = grid.points[r, c, a] - position[a]
            mean = grid.normals[r, c, a] + normal[a]
            cos += grid.normals[r, c, a] * normal[a]
            along += edge * mean
            edge2 += edge * edge
            mean2 += mean * mean
        if cos < 0.0 or (k % 2 == 1 and 1.0 - cos * cos > limits.max_turn * limits.max_turn):
            return TILT
        offset = abs(along) / math.sqrt(max(mean2, 1e-12))
        if offset > max(_SLIP_FLOOR, limits.max_slip * math.sqrt(edge2)):
            return SLIP
    return ACCEPT


@inline_kernel
def _chunk_range(centre: float, reach: float, n_chunks: int) -> tuple[int, int]:
    """Return the half-open range of chunks within reach of a coordinate."""
    first = max(0, math.floor((centre - reach) / CHUNK))
    last = min(n_chunks - 1, math.floor((centre + reach) / CHUNK))
    return first, last + 1


@inline_kernel
def _lacks_chunk_near(view: FieldView, x: float, y: float, z: float, reach: float) -> bool:
    """Return whether a chunk within reach of a point is not loaded."""
    shape = view.table.shape
    i0, i1 = _chunk_range(z, reach, shape[0])
    j0, j1 = _chunk_range(y, reach, shape[1])
    k0, k1 = _chunk_range(x, reach, shape[2])
    for i in range(i0, i1):
        for j in range(j0, j1):
            for k in range(k0, k1):
                if view.table[i, j, k] == NOT_LOADED:
                    return True
    return False


@kernel
def lacks_chunks(
    grid: PatchGrid,
    fringe: NDArray[np.int64],
    counters: NDArray[np.int64],
    view: FieldView,
    oldest: int,
    reach: float,
) -> bool:
    """Return whether a chunk near the active vertices is not loaded.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    fringe : ndarray of int64, shape (n, 2)
        Vertices that are active whatever their generation.
    counters : ndarray of int64, shape (N_COUNTERS,)
        The patch's counters (length of the fringe, rows and columns in use).
    view : FieldView
        Signed distance field.
    oldest : int
        Vertices of this generation or later are active too.
    reach : float
        Distance from an active vertex that will be sampled, voxels.

    Returns
    -------
    bool
        True where growth has to wait for chunks.
    """
    points = grid.points
    for i in range(counters[FRINGE]):
        r, c = fringe[i, 0], fringe[i, 1]
        if _lacks_chunk_near(view, points[r, c, 0], points[r, c, 1], points[r, c, 2], reach):
            return True
    for r in range(counters[ROW_MIN], counters[ROW_MAX] + 1):
        for c in range(counters[COL_MIN], counters[COL_MAX] + 1):
            if grid.state[r, c] != ON_SHEET or grid.generation[r, c] < oldest:
                continue
            if _lacks_chunk_near(view, points[r, c, 0], points[r, c, 1], points[r, c, 2], reach):
                return True
    return False


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
    work : ndarray of float64, shape (n, 9)
        Scratch, at least four rows.
    """
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
                        2,
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
    work : ndarray of float64, shape (4, 9)
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
            nx, ny, nz, known = _mesh_normal(grid, r, c, position[0], position[1], position[2])
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


@inline_kernel
def _collect_candidates(
    grid: PatchGrid,
    fringe: NDArray[np.int64],
    n_fringe: int,
    round_number: int,
    tried: NDArray[np.int32],
    out_candidates: NDArray[np.int64],
) -> int:
    """Fill in the free 4-neighbours of the fringe, each once, and return their number."""
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
                out_candidates[n, 0] = r
                out_candidates[n, 1] = c
                n += 1
    return n


@kernel
def try_candidate(
    grid: PatchGrid,
    row: int,
    col: int,
    generation: int,
    compactness: float,
    thickness: float,
    view: FieldView,
    weights: PlacementWeights,
    limits: GrowthLimits,
    work: NDArray[np.float64],
    probe_work: NDArray[np.float64],
) -> int:
    """Place and judge one candidate; return why it was refused, or ACCEPT.

    Parameters
    ----------
    grid : PatchGrid
        The patch; the candidate's entries change.
    row, col : int
        The candidate.
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
    work : ndarray of float64, shape (5, 9)
        Scratch; afterwards ``work[4, :3]`` holds confidence, tilt and thickness.
    probe_work : ndarray of float64, shape (9, 3)
        Scratch.

    Returns
    -------
    int
        ACCEPT or the reason.
    """
    position, structural, normal = work[3][:3], work[3][3:6], work[3][6:9]
    quality = work[4][:3]
    if not _is_compact(grid, row, col, compactness):
        return NOT_COMPACT
    if not _extrapolate(grid, row, col, position):
        return NOT_COMPACT
    points, state = grid.points, grid.state
    place_vertex(points, state, row, col, position, view, weights, False, 12, 6, _PLACED, work)
    structural[:] = position
    cost = place_vertex(
        points, state, row, col, position, view, weights, True, 12, 6, _PLACED, work
    )
    reason = COST
    if cost <= limits.max_cost:
        reason = judge_vertex(
            grid,
            row,
            col,
            view,
            position,
            thickness,
            weights.edge_samples,
            limits,
            probe_work,
            normal,
            quality,
        )
    if reason != ACCEPT:
        state[row, col] = COORDINATE
        points[row, col] = structural
        return reason
    state[row, col] = ON_SHEET
    points[row, col] = position
    grid.normals[row, col] = normal
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
        Distance from an active vertex within which every chunk must be loaded, voxels.

    Returns
    -------
    int
        FINISHED, NEEDS_CHUNKS or ALL_GENERATIONS.

    Notes
    -----
    The neighbour of a candidate that is not compact yet stays on the fringe: the candidate is asked
    again when more has grown around it, so that a patch grows round instead of into a strip.
    """
    work = np.zeros((5, 9))
    probe_work = np.zeros((9, 3))
    candidates = np.zeros((4 * fringe.shape[0], 2), np.int64)
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
                r,
                c,
                generation,
                levels[0],
                levels[1],
                view,
                weights,
                limits,
                work,
                probe_work,
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
