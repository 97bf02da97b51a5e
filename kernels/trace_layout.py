"""What the layout of all patches says of a trace: where nodes are, which patches are elsewhere."""

import math

from tracer.kernels._jit import inline_kernel
from tracer.kernels.trace_location import sample_patch
from tracer.kernels.trace_state import EMPTY, PatchTable, TraceLimits, TraceState

_FAR = 2.0  # spacings; a patch that the layout has farther off is on another wrap


@inline_kernel
def flat_place(table: PatchTable, patch: int, row: float, col: float) -> tuple[float, float, bool]:
    """Return where the layout has a location of a patch.

    Parameters
    ----------
    table : PatchTable
        The patches.
    patch : int
        A patch.
    row : float
        Row there.
    col : float
        Column there.

    Returns
    -------
    tuple
        (u, v, known).
    """
    if table.guide_levels == 0:
        return math.nan, math.nan, False
    u, v, _, ok = sample_patch(
        table.guide.vertices,
        table.mesh.patch_start[patch],
        table.rows[patch],
        table.mesh.patch_cols[patch],
        row,
        col,
    )
    return u, v, ok


@inline_kernel
def flat_around(state: TraceState, rows: int, node: int) -> tuple[float, float]:
    """Return the mean place in the layout of the eight nodes around one.

    Parameters
    ----------
    state : TraceState
        The trace.
    rows : int
        Rows of the trace.
    node : int
        A node.

    Returns
    -------
    tuple of float
        (u, v); NaN where none is known.
    """
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    u = v = 0.0
    n = 0
    for c in range(max(col - 1, 0), min(col + 2, n_cols)):
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            other = c * rows + r
            if other == node or state.status[other] == EMPTY:
                continue
            if not math.isnan(state.flat[other, 0]):
                u += state.flat[other, 0]
                v += state.flat[other, 1]
                n += 1
    if n == 0:
        return math.nan, math.nan
    return u / n, v / n


@inline_kernel
def is_elsewhere(
    table: PatchTable,
    limits: TraceLimits,
    patch: int,
    row: float,
    col: float,
    u: float,
    v: float,
) -> bool:
    """Return whether the layout has a location of a patch far from a place.

    Parameters
    ----------
    table : PatchTable
        The patches.
    limits : TraceLimits
        Constants.
    patch : int
        A patch.
    row : float
        Row there.
    col : float
        Column there.
    u, v : float
        A place in the layout; NaN where it is not known.

    Returns
    -------
    bool
        False as well where one of both is not known.
    """
    other_u, other_v, known = flat_place(table, patch, row, col)
    if not known or math.isnan(u):
        return False
    far = _FAR * limits.spacing
    return bool((u - other_u) ** 2 + (v - other_v) ** 2 > far * far)
