"""Consensus of patches on a node of a trace: where it should be, who agrees, who leads elsewhere.

A candidate node is placed by every patch that supports two of its direct neighbours. The patches
that contain that place, and whose own grid then fits the nodes around, vote for it with their
residuals. A patch that has an opinion of its own but does not pass near the place leads elsewhere:
one of the two has left the sheet, and a node where such patches weigh too much is not accepted.
"""

import math

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.spatial_index import query_points
from tracer.kernels.trace_layout import flat_around, flat_place, is_elsewhere
from tracer.kernels.trace_location import (
    fit_location,
    location_cost,
    patch_normal,
    sample_patch,
    solve_location,
)
from tracer.kernels.trace_state import (
    CONTAINS,
    SUPPORTED,
    SUPPORTS,
    PatchTable,
    TraceLimits,
    TraceState,
    TraceWork,
    add_entry,
    find_entry,
    gather_patch,
    gather_slots,
    mark_around,
    release_slots,
)

APPROVED_SCORE = 1 << 20
"""Added to the consensus where an approved patch supports the node with two straight triples."""

_WIDE = 2.0  # times `same_surface`: farther patches lead elsewhere, between the two they abstain
_MARGIN = 1.5  # cells of a patch around a location that must exist before it counts against others
_SAME_SIDE = 0.7  # least cosine between normals of a patch and the trace
_COLLIDES = 0.6  # of the spacing, on one patch, between nodes that are no neighbours
_FEWEST_CONTAINED = 3  # nodes around that a patch has to contain where two need not support it
_LOOSEST_FIT = 0.2  # spacings by which the locations of those may be off


@inline_kernel
def hits_near(
    table: PatchTable, work: TraceWork, x: float, y: float, z: float, reach: float
) -> int:
    """Return how many patches pass within reach of a point; they are in the work arrays.

    Parameters
    ----------
    table : PatchTable
        The patches.
    work : TraceWork
        Scratch; ``hit_patch`` and ``hit_place`` are filled, ``hit_point`` is 0.
    x, y, z : float
        The point, voxels.
    reach : float
        Largest distance, voxels.

    Returns
    -------
    int
        Patches found.
    """
    work.point[0, 0] = x
    work.point[0, 1] = y
    work.point[0, 2] = z
    _, n = query_points(
        table.mesh,
        table.ids,
        table.levels,
        work.point,
        reach,
        0,
        work.hit_point,
        work.hit_patch,
        work.hit_place,
    )
    return n


@inline_kernel
def _is_inner(table: PatchTable, patch: int, row: float, col: float) -> bool:
    """Return whether a patch exists all around a location."""
    first, rows, cols = (
        table.mesh.patch_start[patch],
        table.rows[patch],
        table.mesh.patch_cols[patch],
    )
    for i in range(4):
        _, _, _, ok = sample_patch(
            table.mesh.vertices,
            first,
            rows,
            cols,
            row + (_MARGIN if i & 1 else -_MARGIN),
            col + (_MARGIN if i & 2 else -_MARGIN),
        )
        if not ok:
            return False
    return True


@inline_kernel
def _is_judged(limits: TraceLimits, n: int, n_straight: int, lenient: bool) -> bool:
    """Return whether a patch has enough residuals around a node to speak of it."""
    return bool(n >= 1 if lenient else n >= 2 and n_straight >= limits.straight_min)


@kernel
def count_votes(
    table: PatchTable,
    limits: TraceLimits,
    work: TraceWork,
    n_slots: int,
    mark: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    lenient: bool,
) -> tuple[int, int, bool]:
    """Return how many residuals speak for a place of the node, and against it.

    Parameters
    ----------
    table : PatchTable
        The patches.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Slots of the node, with their own opinions.
    n_slots : int
        Slots in use.
    mark : int
        A number that is not in ``work.seen``.
    x, y, z : float
        The place, voxels.
    u, v : float
        Where the layout has the nodes around, or NaN; patches elsewhere have no vote.
    lenient : bool
        Let patches support it that have no straight triple.

    Returns
    -------
    tuple
        Residuals of the patches that support it, residuals of those that lead elsewhere, and
        whether an approved patch supports it with two straight triples.
    """
    n_hits = hits_near(table, work, x, y, z, _WIDE * limits.same_surface)
    near = limits.same_surface * limits.same_surface
    support = 0
    approved = trusted = False
    for hit in range(n_hits):
        patch = work.hit_patch[hit]
        slot = work.slot_of[patch]
        if slot < 0:
            continue
        work.seen[slot] = mark
        if work.hit_place[hit, 2] > near or is_elsewhere(
            table, limits, patch, work.hit_place[hit, 0], work.hit_place[hit, 1], u, v
        ):
            continue
        cost, n, n_straight = location_cost(
            work.location[slot],
            work.known[slot],
            work.hit_place[hit, 0],
            work.hit_place[hit, 1],
            table.cells[patch],
            limits.distance_weight,
            limits.straight_weight,
        )
        if _is_judged(limits, n, n_straight, lenient) and cost < limits.inlier_cost:
            support += n
            trusted = trusted or table.approved[patch]
            approved = approved or (table.approved[patch] and n_straight >= 2)
    against = 0
    for slot in range(n_slots):
        absent = work.seen[slot] != mark and work.n_residuals[slot] > 0
        # a person looked at an approved patch: only another one can contradict it
        absent = absent and (table.approved[work.patch[slot]] or not trusted)
        if absent and _is_inner(
            table, work.patch[slot], work.solved[slot, 3], work.solved[slot, 4]
        ):
            against += work.n_residuals[slot]
    return support, against, approved


@inline_kernel
def _form_opinions(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    n_slots: int,
    z_target: float,
    u: float,
    v: float,
    lenient: bool,
) -> None:
    """Place the node on every patch of the slots by the patch's own grid."""
    view = table.mesh
    for slot in range(n_slots):
        patch = work.patch[slot]
        work.n_residuals[slot] = 0
        if state.hand[patch] == 0 or (work.near[slot] < 2 and not lenient):
            continue
        known, location = work.known[slot], work.location[slot]
        row, col, misfit, n_known = fit_location(
            location, known, table.cells[patch], float(state.hand[patch])
        )
        if n_known < 2:
            continue
        loose = n_known < _FEWEST_CONTAINED or misfit > _LOOSEST_FIT * table.cells[patch]
        if work.near[slot] < 2 and loose:
            continue
        first, rows, cols = view.patch_start[patch], table.rows[patch], view.patch_cols[patch]
        row, col = solve_location(
            view.vertices,
            first,
            rows,
            cols,
            location,
            known,
            row,
            col,
            z_target,
            table.cells[patch],
            limits.distance_weight,
            limits.straight_weight,
            limits.z_weight,
        )
        x, y, z, ok = sample_patch(view.vertices, first, rows, cols, row, col)
        if not ok or z < limits.z_min or z > limits.z_max:
            continue
        if is_elsewhere(table, limits, patch, row, col, u, v):
            continue
        cost, n, n_straight = location_cost(
            location,
            known,
            row,
            col,
            table.cells[patch],
            limits.distance_weight,
            limits.straight_weight,
        )
        if _is_judged(limits, n, n_straight, lenient) and cost < limits.inlier_cost:
            work.n_residuals[slot] = n
            work.solved[slot, 0] = x
            work.solved[slot, 1] = y
            work.solved[slot, 2] = z
            work.solved[slot, 3] = row
            work.solved[slot, 4] = col


@kernel
def try_node(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    node: int,
    lenient: bool,
) -> None:
    """Find the best place of a candidate node; it is stored with the node as tried.

    Parameters
    ----------
    table : PatchTable
        The patches.
    state : TraceState
        The trace; the tried fields of the node change.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    node : int
        An empty node.
    lenient : bool
        Listen to patches as well that merely contain nodes around it, and to those that have no
        straight triple there.

    Notes
    -----
    Among places with equal votes the patch of the lower number wins.
    """
    n_slots = gather_slots(state, work, limits.n_rows, node)
    z_target = limits.top_z - (node % limits.n_rows) * limits.spacing
    u, v = flat_around(state, limits.n_rows, node)
    _form_opinions(table, state, limits, work, n_slots, z_target, u, v, lenient)
    state.dirty[node] = False
    state.tried_score[node] = -1
    best = -math.inf
    for slot in range(n_slots):
        if work.n_residuals[slot] == 0:
            continue
        x, y, z = work.solved[slot, 0], work.solved[slot, 1], work.solved[slot, 2]
        support, against, approved = count_votes(
            table, limits, work, n_slots, slot, x, y, z, u, v, lenient
        )
        score = support + (APPROVED_SCORE if approved else 0)
        patch = work.patch[slot]
        if score - against > best or (score - against == best and patch < state.tried_patch[node]):
            best = score - against
            state.tried_score[node] = score
            state.tried_against[node] = against
            state.tried_patch[node] = patch
            for i in range(5):
                state.tried_place[node, i] = work.solved[slot, i]
    release_slots(work, n_slots)


@inline_kernel
def is_contradicted(state: TraceState, limits: TraceLimits, node: int) -> bool:
    """Return whether too many patches lead away from the place tried for a node.

    Parameters
    ----------
    state : TraceState
        The trace.
    limits : TraceLimits
        Constants.
    node : int
        A node that was tried.

    Returns
    -------
    bool
        True if the node must not be accepted.
    """
    support = state.tried_score[node] & (APPROVED_SCORE - 1)
    against = state.tried_against[node]
    return bool(against > limits.max_against * (support + against))


@inline_kernel
def _collides(
    table: PatchTable, state: TraceState, rows: int, node: int, patch: int, row: float, col: float
) -> bool:
    """Return whether the trace is at a location of a patch already, with another part of it."""
    room = state.entry_patch.shape[1]
    limit = _COLLIDES * table.cells[patch]
    entry = state.patch_entry[patch]
    while entry >= 0:
        other, k = entry // room, entry % room
        apart = max(abs(other % rows - node % rows), abs(other // rows - node // rows))
        if apart > 1:
            dr = state.entry_location[other, k, 0] - row
            dc = state.entry_location[other, k, 1] - col
            if dr * dr + dc * dc < limit * limit:
                return True
        entry = state.entry_next[other, k]
    return False


@inline_kernel
def _side(
    table: PatchTable, state: TraceState, node: int, patch: int, row: float, col: float
) -> int:
    """Return 1 or -1 by the side of a patch that shows at a node, 0 where it stands across."""
    x, y, z, ok = patch_normal(
        table.mesh.vertices,
        table.mesh.patch_start[patch],
        table.rows[patch],
        table.mesh.patch_cols[patch],
        row,
        col,
    )
    if not ok:
        return 0
    cosine = x * state.normal[node, 0] + y * state.normal[node, 1] + z * state.normal[node, 2]
    if abs(cosine) < _SAME_SIDE:
        return 0
    return 1 if cosine > 0.0 else -1


@kernel
def place_node(
    table: PatchTable, state: TraceState, limits: TraceLimits, work: TraceWork, node: int
) -> bool:
    """Accept a node at the place that was tried, with all patches that contain it there.

    Parameters
    ----------
    table : PatchTable
        The patches.
    state : TraceState
        The trace; the node is added.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    node : int
        An empty node that was tried.

    Returns
    -------
    bool
        False where the trace is there already with another part, and the node is refused.
    """
    view = table.mesh
    patch = state.tried_patch[node]
    x, y, z = state.tried_place[node, 0], state.tried_place[node, 1], state.tried_place[node, 2]
    nx, ny, nz, ok = patch_normal(
        view.vertices,
        view.patch_start[patch],
        table.rows[patch],
        view.patch_cols[patch],
        state.tried_place[node, 3],
        state.tried_place[node, 4],
    )
    if not ok:
        return False
    hand = float(state.hand[patch])
    state.normal[node, 0] = hand * nx
    state.normal[node, 1] = hand * ny
    state.normal[node, 2] = hand * nz
    n_slots = gather_slots(state, work, limits.n_rows, node)
    n_hits = hits_near(table, work, x, y, z, limits.same_surface)
    colliding = 0
    for hit in range(n_hits):
        if _collides(
            table,
            state,
            limits.n_rows,
            node,
            work.hit_patch[hit],
            work.hit_place[hit, 0],
            work.hit_place[hit, 1],
        ):
            work.hit_point[hit] = 1  # marks the hit; the query left 0
            colliding += 1
    if 2 * colliding > n_hits:
        release_slots(work, n_slots)
        return False
    support = 0
    u, v, known = flat_place(table, patch, state.tried_place[node, 3], state.tried_place[node, 4])
    if not known:
        u, v = flat_around(state, limits.n_rows, node)
    state.flat[node, 0] = u if known else math.nan
    state.flat[node, 1] = v if known else math.nan
    for hit in range(n_hits):
        if work.hit_point[hit] != 0:
            continue
        q = work.hit_patch[hit]
        row, col = work.hit_place[hit, 0], work.hit_place[hit, 1]
        if is_elsewhere(table, limits, q, row, col, u, v):
            continue
        side = _side(table, state, node, q, row, col)
        if side == 0 or side == -state.hand[q]:
            continue
        n, n_straight, cost = 0, 0, 0.0
        slot = work.slot_of[q]
        if slot >= 0:
            cost, n, n_straight = location_cost(
                work.location[slot],
                work.known[slot],
                row,
                col,
                table.cells[q],
                limits.distance_weight,
                limits.straight_weight,
            )
        judged = n >= 2 and n_straight >= limits.straight_min
        if judged and cost >= limits.inlier_cost:
            continue
        if add_entry(state, node, q, row, col, SUPPORTS if judged else CONTAINS):
            state.hand[q] = side
            support += n if judged else 0
    release_slots(work, n_slots)
    for axis in range(3):
        state.xyz[node, axis] = state.tried_place[node, axis]
    state.status[node] = SUPPORTED
    state.support[node] = support
    state.against[node] = state.tried_against[node]
    promote_around(table, state, limits, work, node, limits.straight_min)
    mark_around(state, limits.n_rows, node)
    return True


@kernel
def promote_around(
    table: PatchTable,
    state: TraceState,
    limits: TraceLimits,
    work: TraceWork,
    node: int,
    straight_min: int,
) -> None:
    """Let patches that contain the nodes around one support them where they can by now.

    Parameters
    ----------
    table : PatchTable
        The patches.
    state : TraceState
        The trace; states of entries change.
    limits : TraceLimits
        Constants.
    work : TraceWork
        Scratch.
    node : int
        A node that was added; only its patches are looked at.
    straight_min : int
        Straight triples that support needs at least.
    """
    rows = limits.n_rows
    n_cols = state.status.shape[0] // rows
    for i in range(25):
        r, c = node % rows + i // 5 - 2, node // rows + i % 5 - 2
        if r < 0 or c < 0 or r >= rows or c >= n_cols:
            continue
        other = c * rows + r
        for k in range(state.n_entries[other]):
            if state.entry_state[other, k] == SUPPORTS:
                continue
            patch = state.entry_patch[other, k]
            if other != node and find_entry(state, node, patch) < 0:
                continue
            gather_patch(state, rows, other, patch, work.one_known, work.one_location)
            cost, n, n_straight = location_cost(
                work.one_location,
                work.one_known,
                state.entry_location[other, k, 0],
                state.entry_location[other, k, 1],
                table.cells[patch],
                limits.distance_weight,
                limits.straight_weight,
            )
            if n >= 2 and n_straight >= straight_min and cost < limits.inlier_cost:
                state.entry_state[other, k] = SUPPORTS
                state.support[other] += n
