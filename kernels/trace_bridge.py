"""Bridges over gaps: nodes beyond the front of a trace, where the layout of all patches has them.

Growth ends where no patch reaches from the trace to the next node: a hole in the prediction, or a
belt that every patch ends at. The layout knows where the sheet goes on, because other patches lead
around the hole. A node that is missing near the trace is looked up there, and the patches found are
accepted if most of them agree on one place.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.spatial_index import query_points
from tracer.kernels.trace_consensus import place_node
from tracer.kernels.trace_location import patch_normal, patch_slopes, sample_patch
from tracer.kernels.trace_state import (
    EMPTY,
    PatchTable,
    TraceLimits,
    TraceState,
    TraceWork,
)

_EXACT = 0.05  # voxels; the layout is a plane, so that a patch either covers a point or does not
_MOST_STRETCH = 1.25  # of the distance in the grid, that two nodes may be apart in space
_FEWEST_NODES = 3  # near a bridge's end, that say where it should be
_MOST_CANDIDATES = 64
_NOT_ZERO = 1e-3  # square cells


@kernel
def layout_slopes(
    state: TraceState, rows: int, first_col: int, last_col: int
) -> tuple[float, float, float, float, int]:
    """Return how places in the layout change from node to node of a trace.

    Parameters
    ----------
    state : TraceState
        The trace.
    rows : int
        Rows of the trace.
    first_col : int
        First column to look at.
    last_col : int
        One past the last one.

    Returns
    -------
    tuple
        Mean change of u and v per row, per column, and the pairs of nodes that tell.
    """
    by_row_u = by_row_v = by_col_u = by_col_v = 0.0
    n_row = n_col = 0
    for col in range(first_col, last_col):
        for row in range(rows):
            node = col * rows + row
            if state.status[node] == EMPTY or math.isnan(state.flat[node, 0]):
                continue
            below, right = node + 1, node + rows
            if row + 1 < rows and state.status[below] != EMPTY:
                du = state.flat[below, 0] - state.flat[node, 0]
                dv = state.flat[below, 1] - state.flat[node, 1]
                if not math.isnan(du):
                    by_row_u += du
                    by_row_v += dv
                    n_row += 1
            if col + 1 < last_col and state.status[right] != EMPTY:
                du = state.flat[right, 0] - state.flat[node, 0]
                dv = state.flat[right, 1] - state.flat[node, 1]
                if not math.isnan(du):
                    by_col_u += du
                    by_col_v += dv
                    n_col += 1
    if n_row == 0 or n_col == 0:
        return 0.0, 0.0, 0.0, 0.0, 0
    return (
        by_row_u / n_row,
        by_row_v / n_row,
        by_col_u / n_col,
        by_col_v / n_col,
        min(n_row, n_col),
    )


@kernel
def _expected_place(
    state: TraceState,
    limits: TraceLimits,
    node: int,
    reach: int,
    slopes: tuple[float, float, float, float, int],
) -> tuple[float, float, int]:
    """Return where the layout should have a node by those at most `reach` cells away."""
    rows = limits.n_rows
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    total = u = v = 0.0
    n = 0
    for c in range(max(col - reach, 0), min(col + reach + 1, n_cols)):
        for r in range(max(row - reach, 0), min(row + reach + 1, rows)):
            other = c * rows + r
            if state.status[other] == EMPTY or math.isnan(state.flat[other, 0]):
                continue
            dr, dc = float(row - r), float(col - c)
            w = 1.0 / (dr * dr + dc * dc)
            total += w
            u += w * (state.flat[other, 0] + dr * slopes[0] + dc * slopes[2])
            v += w * (state.flat[other, 1] + dr * slopes[1] + dc * slopes[3])
            n += 1
    if n == 0:
        return math.nan, math.nan, 0
    return u / total, v / total, n


@inline_kernel
def _is_in_place(
    state: TraceState, limits: TraceLimits, node: int, reach: int, x: float, y: float, z: float
) -> bool:
    """Return whether no node nearby is farther from a place than the grid allows."""
    rows = limits.n_rows
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    for c in range(max(col - reach, 0), min(col + reach + 1, n_cols)):
        for r in range(max(row - reach, 0), min(row + reach + 1, rows)):
            other = c * rows + r
            if state.status[other] == EMPTY:
                continue
            dx, dy, dz = state.xyz[other, 0] - x, state.xyz[other, 1] - y, state.xyz[other, 2] - z
            apart = math.sqrt(float((row - r) ** 2 + (col - c) ** 2)) * limits.spacing
            if dx * dx + dy * dy + dz * dz > (_MOST_STRETCH * apart) ** 2:
                return False
    return True


@inline_kernel
def _side_in_layout(
    table: PatchTable,
    patch: int,
    row: float,
    col: float,
    slopes: tuple[float, float, float, float, int],
) -> int:
    """Return 1 or -1 by whether a patch shows the trace's side, 0 where the layout cannot tell."""
    ru, rv, _, cu, cv, _, ok = patch_slopes(
        table.guide.vertices,
        table.mesh.patch_start[patch],
        table.rows[patch],
        table.mesh.patch_cols[patch],
        row,
        col,
    )
    turn = (ru * cv - rv * cu) * (slopes[0] * slopes[3] - slopes[1] * slopes[2])
    if not ok or turn == 0.0:
        return 0
    return 1 if turn > 0.0 else -1


@inline_kernel
def _off_plane(places: NDArray[np.float64], i: int, j: int) -> float:
    """Return how far place j is from the tangent plane of place i."""
    dx = places[j, 0] - places[i, 0]
    dy = places[j, 1] - places[i, 1]
    dz = places[j, 2] - places[i, 2]
    return float(abs(dx * places[i, 3] + dy * places[i, 4] + dz * places[i, 5]))


@kernel
def _look_up(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    u: float,
    v: float,
    slopes: tuple[float, float, float, float, int],
    places: NDArray[np.float64],
    patches: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Return which of the patches at a place of the layout most agree with, how many, of how many.

    The first is -1 where patches contradict one another, or there is none.
    """
    view = table.mesh
    work.point[0, 0] = u
    work.point[0, 1] = v
    work.point[0, 2] = 0.0
    _, n_hits = query_points(
        table.guide,
        table.ids,
        table.guide_levels,
        work.point,
        _EXACT,
        0,
        work.hit_point,
        work.hit_patch,
        work.hit_place,
    )
    n = 0
    for hit in range(n_hits):
        q = work.hit_patch[hit]
        row, col = work.hit_place[hit, 0], work.hit_place[hit, 1]
        first, p_rows, p_cols = view.patch_start[q], table.rows[q], view.patch_cols[q]
        x, y, z, ok = sample_patch(view.vertices, first, p_rows, p_cols, row, col)
        nx, ny, nz, sloped = patch_normal(view.vertices, first, p_rows, p_cols, row, col)
        side = _side_in_layout(table, q, row, col, slopes)
        known_side = state.hand[q]
        if not (ok and sloped) or side == 0 or (known_side != 0 and known_side != side):
            continue
        if z < limits.z_min or z > limits.z_max or n == patches.shape[0]:
            continue
        places[n, 0], places[n, 1], places[n, 2] = x, y, z
        places[n, 3], places[n, 4], places[n, 5] = side * nx, side * ny, side * nz
        places[n, 6], places[n, 7] = row, col
        patches[n] = side * (q + 1)
        n += 1
    best, chosen = 0, -1
    for i in range(n):
        votes = 0
        for j in range(n):
            votes += _off_plane(places, i, j) <= limits.same_surface
        if votes > best:
            best, chosen = votes, i
    if chosen < 0 or n - best > limits.max_against * n:
        return -1, 0, n
    return chosen, best, n


@kernel
def _try_place(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    node: int,
    u: float,
    v: float,
    slopes: tuple[float, float, float, float, int],
    places: NDArray[np.float64],
    patches: NDArray[np.int64],
) -> int:
    """Look a node up in the layout; return the votes for the place tried, 0 where there is none."""
    chosen, best, n = _look_up(table, state, limits, work, u, v, slopes, places, patches)
    if chosen < 0:
        return 0
    patch = abs(patches[chosen]) - 1
    state.hand[patch] = 1 if patches[chosen] > 0 else -1
    state.tried_patch[node] = patch
    state.tried_against[node] = n - best
    for i in range(3):
        state.tried_place[node, i] = places[chosen, i]
    state.tried_place[node, 3] = places[chosen, 6]
    state.tried_place[node, 4] = places[chosen, 7]
    return best


@kernel
def bridge_gaps(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    first_col: int,
    last_col: int,
    generation: int,
    reach: int,
) -> int:
    """Add the nodes near a trace that the layout finds on patches.

    Parameters
    ----------
    table : PatchTable
        The patches, with their layout.
    state : TraceState
        The trace; nodes are added.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    first_col : int
        First column that may change.
    last_col : int
        One past the last column that may change.
    generation : int
        Number of this generation.
    reach : int
        Cells between a node that is added and those it follows from, at most.

    Returns
    -------
    int
        Nodes added.
    """
    rows = limits.n_rows
    slopes = layout_slopes(state, rows, max(first_col - reach, 0), last_col)
    if table.guide_levels == 0 or slopes[4] == 0:
        return 0
    places = np.empty((_MOST_CANDIDATES, 8), np.float64)
    patches = np.empty(_MOST_CANDIDATES, np.int64)
    n_added = 0
    for node in range(first_col * rows, last_col * rows):
        if state.status[node] != EMPTY:
            continue
        u, v, n = _expected_place(state, limits, node, reach, slopes)
        if n < _FEWEST_NODES:
            continue
        votes = _try_place(table, state, limits, work, node, u, v, slopes, places, patches)
        x, y, z = state.tried_place[node, 0], state.tried_place[node, 1], state.tried_place[node, 2]
        if votes == 0 or not _is_in_place(state, limits, node, reach, x, y, z):
            continue
        if place_node(table, state, limits, work, node):
            state.generation[node] = generation
            n_added += 1
    return n_added


@kernel
def fill_from_layout(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    last_col: int,
    step: int,
    reach: int,
    out_xyz: NDArray[np.float32],
    out_support: NDArray[np.uint16],
    out_confidence: NDArray[np.float32],
) -> int:
    """Look up the points of the fine surface that its cells did not give, near the nodes.

    Parameters
    ----------
    table : PatchTable
        The patches, with their layout.
    state : TraceState
        The trace.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    last_col : int
        One past the last column.
    step : int
        Fine cells per coarse cell.
    reach : int
        Coarse cells from a node within which points are looked up.
    out_xyz : ndarray of float32, shape ((rows + 1) * step + 1, (last_col + 1) * step + 1, 3)
        Points, NaN where there is none; one coarse cell more than the trace on each side.
    out_support : ndarray of uint16, same grid
        Patches averaged.
    out_confidence : ndarray of float32, same grid
        As in `fill_surface`, with half the weight.

    Returns
    -------
    int
        Points added.
    """
    rows = limits.n_rows
    slopes = layout_slopes(state, rows, 0, last_col)
    if table.guide_levels == 0 or slopes[4] == 0:
        return 0
    places = np.empty((_MOST_CANDIDATES, 8), np.float64)
    patches = np.empty(_MOST_CANDIDATES, np.int64)
    n_added = 0
    for fine_row in range(out_xyz.shape[0]):
        for fine_col in range(out_xyz.shape[1]):
            if not math.isnan(out_xyz[fine_row, fine_col, 0]):
                continue
            at_row, at_col = fine_row / step - 1.0, fine_col / step - 1.0
            total = u = v = 0.0
            for c in range(
                max(math.ceil(at_col - reach), 0), min(math.floor(at_col + reach) + 1, last_col)
            ):
                for r in range(
                    max(math.ceil(at_row - reach), 0), min(math.floor(at_row + reach) + 1, rows)
                ):
                    other = c * rows + r
                    if state.status[other] == EMPTY or math.isnan(state.flat[other, 0]):
                        continue
                    dr, dc = at_row - r, at_col - c
                    w = 1.0 / (dr * dr + dc * dc + _NOT_ZERO)
                    total += w
                    u += w * (state.flat[other, 0] + dr * slopes[0] + dc * slopes[2])
                    v += w * (state.flat[other, 1] + dr * slopes[1] + dc * slopes[3])
            if total == 0.0:
                continue
            chosen, best, n = _look_up(
                table, state, limits, work, u / total, v / total, slopes, places, patches
            )
            if chosen < 0:
                continue
            for axis in range(3):
                mean = 0.0
                n_used = 0
                for j in range(n):
                    if _off_plane(places, chosen, j) <= limits.same_surface:
                        mean += places[j, axis]
                        n_used += 1
                out_xyz[fine_row, fine_col, axis] = mean / n_used
            out_support[fine_row, fine_col] = best
            out_confidence[fine_row, fine_col] = 0.5 * best / n * best / (best + 1.0)
            n_added += 1
    return n_added
