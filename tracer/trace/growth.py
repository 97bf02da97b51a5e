"""Growth of a trace: thresholds that relax only where it would end, and a window that slides."""

from collections.abc import Callable

import numpy as np

from tracer.kernels.trace_bridge import bridge_gaps
from tracer.kernels.trace_growth import grow_generation
from tracer.kernels.trace_state import PatchTable, TraceWork
from tracer.trace.params import TraceParams
from tracer.trace.state import Trace, most_columns

AfterGeneration = Callable[[Trace], bool]
"""Called after every generation; False stops the growth."""

_ALL = 1 << 62


def grow(
    trace: Trace,
    table: PatchTable,
    work: TraceWork,
    params: TraceParams,
    after_generation: AfterGeneration,
) -> None:
    """Grow a trace until nothing can be added or the caller stops it.

    Parameters
    ----------
    trace : Trace
        The trace; grows in place.
    table : PatchTable
        The patches.
    work : TraceWork
        Scratch.
    params : TraceParams
        Parameters.
    after_generation : callable
        Called with the trace after every generation; False stops.
    """
    most = most_columns(params)
    while not trace.finished:
        if _one_generation(trace, table, work, params):
            trace.generation += 1
            trace.joint_grown = True
            if not after_generation(trace):
                return
            continue
        if _optimise(trace, table, work, params):
            continue
        trace.joint_done = 0
        full = trace.used_cols >= trace.last_col
        if full and trace.last_col < most:
            # two columns stay in reach, so that the window's left rim is never a rim of the trace
            trace.first_col = max(trace.last_col - params.window // 2, trace.first_col)
            trace.last_col = min(trace.first_col + params.window, most)
        elif params.both_ways and trace.n_turned == 0:
            trace.turn_round()
            trace.first_col = max(trace.used_cols - params.window // 2, 0)
            trace.last_col = min(trace.first_col + params.window, most)
        else:
            trace.finished = True


def _optimise(trace: Trace, table: PatchTable, work: TraceWork, params: TraceParams) -> bool:
    """Optimise the window where that is due; return whether growth may go on after it."""
    if trace.joint_done >= params.global_steps_per_window or not trace.joint_grown:
        return False
    from tracer.trace.joint import optimise_window

    trace.joint_done += 1
    trace.joint_grown = False
    gained, lost = optimise_window(trace, table, work, params)
    trace.joint += (1, gained, lost)
    return True


def _one_generation(trace: Trace, table: PatchTable, work: TraceWork, params: TraceParams) -> int:
    """Return the number of nodes added at the strictest rules at which there are any."""
    trace.make_room(trace.last_col + 2)

    def attempt(
        threshold: int, *, only_right: bool = False, lenient: bool = False, most: int = _ALL
    ) -> int:
        counts = np.zeros(3, np.int64)
        n = grow_generation(
            table,
            trace.state,
            trace.limits,
            work,
            trace.first_col,
            trace.last_col,
            trace.generation + 1,
            threshold,
            only_right,
            lenient,
            most,
            counts,
        )
        trace.refused += counts
        return int(n)

    for threshold in sorted(
        {params.inlier_base_threshold, max(params.consensus_default_th, 1)}, reverse=True
    ):
        if added := attempt(threshold):
            return added
    # where the trace would end, to the right first; the rims are ends of the trace as well
    for only_right in (True, False):
        for threshold in range(params.consensus_default_th - 1, params.consensus_limit_th - 1, -1):
            if added := attempt(threshold, only_right=only_right, most=1):
                return added
    if not params.bridge:
        return 0
    if added := attempt(params.consensus_limit_th, lenient=True):
        return added
    for reach in range(2, int(params.bridge / params.spacing) + 2):
        added = bridge_gaps(
            table,
            trace.state,
            trace.limits,
            work,
            trace.first_col,
            trace.last_col,
            trace.generation + 1,
            reach,
        )
        if added:
            return int(added)
    return 0
