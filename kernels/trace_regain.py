"""Which patches support a node that was moved, asked anew."""

from tracer.kernels._jit import kernel
from tracer.kernels.trace_consensus import hits_near, place_node
from tracer.kernels.trace_location import location_cost
from tracer.kernels.trace_state import (
    PatchTable,
    TraceLimits,
    TraceState,
    TraceWork,
    clear_node,
    gather_slots,
    release_slots,
)


@kernel
def regain_support(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    node: int,
    threshold: int,
) -> bool:
    """Forget the patches of a node and find those that support it where it is now.

    Parameters
    ----------
    table : PatchTable
        The patches.
    state : TraceState
        The trace; the node keeps its position.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    node : int
        A node, on patches or closing a hole.
    threshold : int
        Residuals of supporting patches that it needs.

    Returns
    -------
    bool
        False where too few support it, or the trace is there already; the node is empty then.
    """
    x, y, z = state.xyz[node, 0], state.xyz[node, 1], state.xyz[node, 2]
    generation = state.generation[node]
    clear_node(state, node)
    if z < limits.z_min or z > limits.z_max:
        return False
    n_slots = gather_slots(state, work, limits.n_rows, node)
    n_hits = hits_near(table, work, x, y, z, limits.same_surface)
    best = -1
    best_n = 0
    support = 0
    for hit in range(n_hits):
        patch = work.hit_patch[hit]
        slot = work.slot_of[patch]
        if slot < 0 or state.hand[patch] == 0:
            continue
        cost, n, _ = location_cost(
            work.location[slot],
            work.known[slot],
            work.hit_place[hit, 0],
            work.hit_place[hit, 1],
            table.cells[patch],
            limits.distance_weight,
            limits.straight_weight,
        )
        if n >= 1 and cost < limits.inlier_cost:
            support += n
            if n > best_n:
                best, best_n = hit, n
    release_slots(work, n_slots)
    if best < 0 or support < threshold:
        return False
    state.tried_patch[node] = work.hit_patch[best]
    state.tried_against[node] = 0
    state.tried_place[node, 0] = x
    state.tried_place[node, 1] = y
    state.tried_place[node, 2] = z
    state.tried_place[node, 3] = work.hit_place[best, 0]
    state.tried_place[node, 4] = work.hit_place[best, 1]
    if not place_node(table, state, limits, work, node):
        return False
    state.generation[node] = generation
    return True
