"""Growth of a consensus trace, one generation at a time."""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.trace_consensus import (
    APPROVED_SCORE,
    is_contradicted,
    place_node,
    try_node,
)
from tracer.kernels.trace_state import (
    EMPTY,
    PatchTable,
    TraceLimits,
    TraceState,
    TraceWork,
)

_LEAST_NEIGHBOURS = 2


@kernel
def _neighbours(state: TraceState, rows: int, node: int) -> tuple[int, int, int]:
    """Return how many of the eight neighbours exist, and how many left and right of the node."""
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    n = left = right = 0
    for c in range(max(col - 1, 0), min(col + 2, n_cols)):
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            if (r != row or c != col) and state.status[c * rows + r] != EMPTY:
                n += 1
                left += c < col
                right += c > col
    return n, left, right


@kernel
def _has_new(state: TraceState, rows: int, node: int, generation: int) -> bool:
    """Return whether a node within two cells was added in a generation."""
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    for c in range(max(col - 2, 0), min(col + 3, n_cols)):
        for r in range(max(row - 2, 0), min(row + 3, rows)):
            i = c * rows + r
            if state.status[i] != EMPTY and state.generation[i] == generation:
                return True
    return False


@kernel
def grow_generation(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    first_col: int,
    last_col: int,
    generation: int,
    threshold: int,
    only_right: bool,
    lenient: bool,
    most: int,
    out_counts: NDArray[np.int64],
) -> int:
    """Add all candidates that have enough consensus, best first.

    Parameters
    ----------
    table : PatchTable
        The patches.
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
        Number of this generation, larger than those before.
    threshold : int
        Residuals that have to agree at least.
    only_right : bool
        Take only candidates that lengthen their rows to the right.
    lenient : bool
        Listen to patches that merely contain the nodes around; all candidates are looked at again.
    most : int
        Nodes to add at most.
    out_counts : ndarray of int64, shape (3,)
        Candidates that were refused: contradicted, colliding, lacking consensus (added up).

    Returns
    -------
    int
        Nodes added.

    Notes
    -----
    All candidates are looked at before the first is added; one that got a new neighbour since is
    looked at again. Only candidates whose surroundings changed cost anything.
    """
    rows = limits.n_rows
    n_candidates = 0
    n_nodes = (last_col - first_col) * rows
    candidates = np.empty(max(n_nodes, 1), np.int64)
    scores = np.empty(max(n_nodes, 1), np.int64)
    for node in range(first_col * rows, last_col * rows):
        if state.status[node] != EMPTY:
            continue
        n, left, right = _neighbours(state, rows, node)
        if n < _LEAST_NEIGHBOURS or (only_right and (left == 0 or right > 0)):
            continue
        if state.dirty[node] or lenient:
            try_node(table, state, limits, work, node, lenient)
            state.dirty[node] = lenient
        if state.tried_score[node] < 0:
            continue
        if state.tried_score[node] < threshold:
            out_counts[2] += 1
            continue
        candidates[n_candidates] = node
        scores[n_candidates] = -np.int64(state.tried_score[node] - state.tried_against[node])
        n_candidates += 1
    order = np.argsort(scores[:n_candidates], kind="mergesort")
    n_added = 0
    for i in order:
        node = candidates[i]
        if n_added == most:
            break
        if state.dirty[node] and _has_new(state, rows, node, generation):
            try_node(table, state, limits, work, node, lenient)
            state.dirty[node] = lenient
            if state.tried_score[node] < threshold:
                continue
        approved = state.tried_score[node] >= APPROVED_SCORE
        if not approved and is_contradicted(state, limits, node):
            out_counts[0] += 1
            continue
        if not place_node(table, state, limits, work, node):
            state.tried_score[node] = -1
            out_counts[1] += 1
            continue
        state.generation[node] = generation
        n_added += 1
    return n_added
