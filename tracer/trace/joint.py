"""Joint optimisation of a window of the trace: positions and locations on all patches at once.

Growing places one node after the other. Here all nodes of a window move together, between the
columns before it, which hold still: in space they keep their distances and run straight, on every
patch their locations do the same, and both stay together. Holes are closed beforehand by nodes that
lie on no patch, so that the sheet hangs together across them; afterwards every node is asked anew
which patches support it, and those that none supports go.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tracer.kernels import ceres_blocks
from tracer.kernels.ceres_native import native_cost
from tracer.kernels.ceres_problem import NativeProblem, SolveOptions
from tracer.kernels.trace_regain import regain_support
from tracer.kernels.trace_state import (
    EMPTY,
    STRUCTURE,
    PatchTable,
    TraceWork,
)
from tracer.trace.params import TraceParams
from tracer.trace.state import Trace

SURFACE_WEIGHT = 0.1  # of staying where the patches are, per voxel
_CLOSING = 20  # nodes; wider holes are left to growth
_HELD = 2  # columns before the window that are part of the problem and do not move
_INNER = 1.0  # cells of a patch around a location that must exist for it to move
_STEPS = 30
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def optimise_window(
    trace: Trace, table: PatchTable, work: TraceWork, params: TraceParams
) -> tuple[int, int]:
    """Close the holes of the window, optimise it, and drop the nodes that nothing supports.

    Parameters
    ----------
    trace : Trace
        The trace; its window changes.
    table : PatchTable
        The patches.
    work : TraceWork
        Scratch.
    params : TraceParams
        Parameters.

    Returns
    -------
    tuple of int
        Nodes gained, nodes lost.
    """
    rows, state = trace.limits.n_rows, trace.state
    first = max(trace.first_col - _HELD, 0)
    last = min(trace.used_cols, trace.last_col)
    held = np.arange(first * rows, min(trace.first_col, last) * rows)
    begin = trace.first_col * rows
    if last - trace.first_col < 2:
        return 0, 0
    _close_holes(trace, first, last)
    nodes = np.arange(first * rows, last * rows)
    nodes = nodes[state.status[nodes] != EMPTY]
    solve_window(trace, table, params, nodes, held)
    gained = lost = 0
    for node in range(begin, last * rows):
        status = state.status[node]
        if status == EMPTY:
            continue
        if regain_support(table, state, trace.limits, work, node, params.consensus_limit_th):
            gained += status == STRUCTURE
        else:
            lost += status != STRUCTURE
    state.dirty[first * rows : (last + 2) * rows] = True
    return int(gained), int(lost)


def _close_holes(trace: Trace, first: int, last: int) -> None:
    """Put nodes on no patch into the holes of some columns."""
    from scipy import ndimage

    from tracer.trace.holes import close_holes

    rows, state = trace.limits.n_rows, trace.state
    there = (state.status[first * rows : last * rows] != EMPTY).reshape(last - first, rows).T
    disc = np.hypot(*np.mgrid[-_CLOSING : _CLOSING + 1, -_CLOSING : _CLOSING + 1]) <= _CLOSING
    closed = ndimage.binary_closing(np.pad(there, _CLOSING), disc)
    closed = closed[_CLOSING:-_CLOSING, _CLOSING:-_CLOSING]
    nodes = state.xyz[first * rows : last * rows].reshape(last - first, rows, 3)
    known = np.where(there[..., None], nodes.transpose(1, 0, 2), np.nan).astype(np.float32)
    spacing = trace.limits.spacing
    nothing = np.full(there.shape, np.nan)
    points, found = close_holes(known, nothing, spacing, 2 * _CLOSING * spacing)
    for row, col in zip(*np.nonzero(closed & ~there & (found > 0)), strict=True):
        node = (first + col) * rows + row
        if node // rows < trace.first_col:
            continue
        state.status[node] = STRUCTURE
        state.generation[node] = trace.generation
        state.xyz[node] = points[row, col]
        state.normal[node] = _normal(points, row, col)
        state.flat[node] = np.nan


def _normal(points: NDArray[np.float32], row: int, col: int) -> NDArray[np.float32]:
    """Return the unit normal d/dcol x d/drow at a point of a grid; zero where there is none."""
    slopes = []
    for axis, at in ((1, col), (0, row)):
        low, high = max(at - 1, 0), min(at + 1, points.shape[axis] - 1)
        pair = (
            (points[row, high], points[row, low]) if axis else (points[high, col], points[low, col])
        )
        slopes.append(pair[0] - pair[1])
    normal = np.cross(slopes[0], slopes[1])
    length = float(np.linalg.norm(normal))
    if not length > 0.0:
        return np.zeros(3, np.float32)
    return (normal / length).astype(np.float32)


def solve_window(
    trace: Trace,
    table: PatchTable,
    params: TraceParams,
    nodes: NDArray[np.int64],
    held: NDArray[np.int64],
) -> tuple[float, float]:
    """Optimise positions and locations of some nodes together.

    Parameters
    ----------
    trace : Trace
        The trace; positions and locations change.
    table : PatchTable
        The patches.
    params : TraceParams
        Weights.
    nodes : ndarray of int64
        The nodes, ascending.
    held : ndarray of int64
        Those that hold still.

    Returns
    -------
    tuple of float
        Cost before and after.
    """
    state, rows = trace.state, trace.limits.n_rows
    number = np.full(len(state.status), -1, np.int64)
    number[nodes] = np.arange(len(nodes))
    xyz = np.ascontiguousarray(state.xyz[nodes])
    problem = NativeProblem()
    for distance, pairs in _pairs(number, nodes, rows):
        target = trace.limits.spacing * distance
        cost = native_cost(
            ceres_blocks.evaluate_distance, 1, (3, 3), (target, params.dist_loss_3d_w)
        )
        problem.add_blocks(cost, (xyz, pairs[:, 0]), (xyz, pairs[:, 1]))
    triples = _triples(number, nodes, rows)
    cost = native_cost(
        ceres_blocks.evaluate_straightness, 1, (3, 3, 3), (params.straight_weight_3D,)
    )
    problem.add_blocks(cost, *((xyz, triples[:, k]) for k in range(3)))
    z_target = np.empty((len(nodes), 1), np.float64)
    z_target[:, 0] = trace.limits.top_z - (nodes % rows) * trace.limits.spacing
    cost = native_cost(ceres_blocks.evaluate_z, 1, (3, 1), (params.z_loc_loss_w,))
    every = np.arange(len(nodes), dtype=np.int64)
    problem.add_blocks(cost, (xyz, every), (z_target, every), loss="huber")
    problem.fix_blocks(z_target, every)
    locations = _add_patches(problem, trace, table, params, nodes, xyz)
    problem.fix_blocks(xyz, number[held][number[held] >= 0])
    summary = problem.solve(SolveOptions(max_iterations=_STEPS))
    if not summary.usable or not math.isfinite(summary.final_cost):
        return summary.initial_cost, summary.initial_cost
    moving = np.setdiff1d(nodes, held)
    state.xyz[moving] = xyz[number[moving]]
    for at, entry, values in locations:
        moves = np.isin(at, moving)
        state.entry_location[at[moves], entry[moves]] = values[moves]
    return summary.initial_cost, summary.final_cost


def _add_patches(
    problem: NativeProblem,
    trace: Trace,
    table: PatchTable,
    params: TraceParams,
    nodes: NDArray[np.int64],
    xyz: NDArray[np.float64],
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Add the residuals on every patch; return nodes, entries and locations of each."""
    state, rows = trace.state, trace.limits.n_rows
    used = np.arange(state.entry_patch.shape[1]) < state.n_entries[nodes][:, None]
    which, entry = np.nonzero(used)
    patch = state.entry_patch[nodes[which], entry]
    order = np.lexsort((which, patch))
    which, entry, patch = which[order], entry[order], patch[order]
    bounds = np.flatnonzero(np.diff(patch, prepend=-1, append=-1))
    straight = native_cost(
        ceres_blocks.evaluate_location_straightness, 1, (2, 2, 2), (params.straight_weight,)
    )
    found = []
    number = np.full(len(state.status), -1, np.int64)
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        p = int(patch[low])
        mine, slots = nodes[which[low:high]], entry[low:high]
        values = np.ascontiguousarray(state.entry_location[mine, slots])
        number[mine] = np.arange(len(mine))
        for distance, pairs in _pairs(number, mine, rows):
            cost = native_cost(
                ceres_blocks.evaluate_location_distance,
                1,
                (2, 2),
                (float(table.cells[p]) * distance, params.dist_loss_2d_w),
            )
            problem.add_blocks(cost, (values, pairs[:, 0]), (values, pairs[:, 1]))
        triples = _triples(number, mine, rows)
        problem.add_blocks(straight, *((values, triples[:, k]) for k in range(3)))
        grid, valid = _grid(table, p)
        on = _whole_quads(valid, values, 0.0)
        cost = native_cost(
            ceres_blocks.evaluate_surface, 3, (3, 2), (SURFACE_WEIGHT,), (grid, valid)
        )
        problem.add_blocks(
            cost, (xyz, which[low:high][on]), (values, np.flatnonzero(on)), loss="huber"
        )
        # a location that leaves its patch has no point: near the rim it holds still
        inner = _whole_quads(valid, values, _INNER)
        problem.fix_blocks(values, np.flatnonzero(~inner | (mine < trace.first_col * rows)))
        number[mine] = -1
        found.append((mine, slots, values))
    return found


def _grid(table: PatchTable, patch: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vertices of a patch and which of them exist."""
    first, rows = int(table.mesh.patch_start[patch]), int(table.rows[patch])
    cols = int(table.mesh.patch_cols[patch])
    grid = np.array(table.mesh.vertices[first : first + rows * cols]).reshape(rows, cols, 3)
    valid = np.isfinite(grid[..., 0])
    return np.nan_to_num(grid), valid


def _whole_quads(
    valid: NDArray[np.bool_], locations: NDArray[np.float64], margin: float
) -> NDArray[np.bool_]:
    """Return which locations lie in whole quads, at the corners of a margin around them."""
    quads = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]
    whole = np.ones(len(locations), bool)
    for d_row in (-margin, margin):
        for d_col in (-margin, margin):
            row, col = locations[:, 0] + d_row, locations[:, 1] + d_col
            inside = (row >= 0) & (col >= 0) & (row <= quads.shape[0]) & (col <= quads.shape[1])
            r = np.clip(row.astype(np.int64), 0, quads.shape[0] - 1)
            c = np.clip(col.astype(np.int64), 0, quads.shape[1] - 1)
            whole &= inside & quads[r, c]
    return whole


def _pairs(
    number: NDArray[np.int64], nodes: NDArray[np.int64], rows: int
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Yield the pairs of neighbouring nodes by their numbers, and how far apart they are."""
    n_cols = len(number) // rows
    row, col = nodes % rows, nodes // rows
    for straight in (True, False):
        found = []
        for d_row, d_col in _NEIGHBOURS:
            if straight != (d_row == 0 or d_col == 0):
                continue
            r, c = row + d_row, col + d_col
            inside = (r >= 0) & (r < rows) & (c >= 0) & (c < n_cols)
            other = np.where(inside, c * rows + r, 0)
            both = inside & (number[other] >= 0)
            found.append(np.stack([number[nodes[both]], number[other[both]]], axis=1))
        pairs = np.concatenate(found)
        if len(pairs):
            yield (1.0 if straight else math.sqrt(2.0)), pairs


def _triples(number: NDArray[np.int64], nodes: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return three nodes in line, by their numbers, shape (n, 3)."""
    n_cols = len(number) // rows
    row, col = nodes % rows, nodes // rows
    found = []
    for d_row, d_col in ((1, 0), (0, 1)):
        inside = (row + 2 * d_row < rows) & (col + 2 * d_col < n_cols)
        step = d_col * rows + d_row
        second = np.where(inside, nodes + step, 0)
        third = np.where(inside, nodes + 2 * step, 0)
        use = inside & (number[second] >= 0) & (number[third] >= 0)
        found.append(
            np.stack([number[nodes[use]], number[second[use]], number[third[use]]], axis=1)
        )
    return np.concatenate(found)
