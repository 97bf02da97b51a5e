"""What a consensus trace is made of: nodes, the patches they lie on, and the tables for growing.

A node is numbered ``col * rows + row``, so that appending columns moves nothing. Each node holds up
to K *entries*: a patch, a location on it, and whether the patch *supports* the node (its grid fits
the nodes around) or merely *contains* it (passes through its position). The entries of one patch
form a linked list, which tells where on a patch the trace has been.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.spatial_index import SegmentView

EMPTY, SUPPORTED, STRUCTURE = 0, 1, 2
"""States of a node: none, lies on patches, closes a hole without one."""

CONTAINS, SUPPORTS = 1, 2
"""States of an entry."""


class PatchTable(NamedTuple):
    """The patches that a trace is laid over.

    Attributes
    ----------
    mesh : SegmentView
        Their quads, indexed; `ids` below numbers them in order.
    levels : int
        Bit k is set where level k of the index has entries.
    ids : ndarray of int32, shape (p,)
        0, 1, 2, …
    rows : ndarray of int64, shape (p,)
        Rows of each grid.
    cells : ndarray of float64, shape (p,)
        Cells of each patch between neighbouring nodes of the trace.
    approved : ndarray of bool, shape (p,)
        Patches that a person approved.
    guide : SegmentView
        The same grids laid out flat: vertices are (u, v, 0), NaN where that is not known.
    guide_levels : int
        As `levels`; 0 where nothing is known.
    """

    mesh: SegmentView
    levels: int
    ids: NDArray[np.int32]
    rows: NDArray[np.int64]
    cells: NDArray[np.float64]
    approved: NDArray[np.bool_]
    guide: SegmentView
    guide_levels: int


class TraceState(NamedTuple):
    """A trace while it grows; n nodes with K entries each, p patches.

    Attributes
    ----------
    xyz : ndarray of float64, shape (n, 3)
        Positions in voxels.
    normal : ndarray of float32, shape (n, 3)
        Unit normals d/dcol x d/drow of the trace.
    flat : ndarray of float64, shape (n, 2)
        Where the patches' layout has the node; NaN where it is not known.
    status : ndarray of uint8, shape (n,)
        EMPTY, SUPPORTED or STRUCTURE.
    generation : ndarray of int32, shape (n,)
        When the node was accepted.
    support : ndarray of int32, shape (n,)
        Residuals of the patches that support the node, when it was accepted.
    against : ndarray of int32, shape (n,)
        Residuals of the patches that led elsewhere.
    n_entries : ndarray of int32, shape (n,)
        Entries in use.
    entry_patch : ndarray of int32, shape (n, K)
        Patch of each entry.
    entry_location : ndarray of float64, shape (n, K, 2)
        Row and column there.
    entry_state : ndarray of uint8, shape (n, K)
        CONTAINS or SUPPORTS.
    entry_next : ndarray of int64, shape (n, K)
        Next entry of the same patch as ``node * K + k``, or -1.
    patch_entry : ndarray of int64, shape (p,)
        First entry of each patch, or -1.
    hand : ndarray of int8, shape (p,)
        1 where the patch shows the same side as the trace, -1 where it is mirrored, 0 unknown.
    dirty : ndarray of bool, shape (n,)
        Candidates that have to be looked at again.
    tried_score : ndarray of int32, shape (n,)
        Consensus of the last look; -1 where nothing was possible.
    tried_place : ndarray of float64, shape (n, 5)
        Its position and the location on its patch.
    tried_patch : ndarray of int32, shape (n,)
        Its patch.
    tried_against : ndarray of int32, shape (n,)
        Residuals of the patches that led elsewhere.
    """

    xyz: NDArray[np.float64]
    normal: NDArray[np.float32]
    flat: NDArray[np.float64]
    status: NDArray[np.uint8]
    generation: NDArray[np.int32]
    support: NDArray[np.int32]
    against: NDArray[np.int32]
    n_entries: NDArray[np.int32]
    entry_patch: NDArray[np.int32]
    entry_location: NDArray[np.float64]
    entry_state: NDArray[np.uint8]
    entry_next: NDArray[np.int64]
    patch_entry: NDArray[np.int64]
    hand: NDArray[np.int8]
    dirty: NDArray[np.bool_]
    tried_score: NDArray[np.int32]
    tried_place: NDArray[np.float64]
    tried_patch: NDArray[np.int32]
    tried_against: NDArray[np.int32]


class TraceLimits(NamedTuple):
    """Constants of one trace.

    Attributes
    ----------
    n_rows : int
        Rows of the trace.
    spacing : float
        Voxels between neighbouring nodes.
    top_z : float
        Height that row 0 should have; every row is `spacing` lower.
    z_min, z_max : float
        Heights between which nodes are accepted.
    same_surface : float
        Voxels within which a patch contains a point.
    inlier_cost : float
        Cost below which a patch supports a node.
    straight_min : int
        Straight triples that support needs at least.
    distance_weight, straight_weight, z_weight : float
        Weights of the residuals in two dimensions.
    max_against : float
        Largest share of the residuals that may belong to patches that lead elsewhere.
    """

    n_rows: int
    spacing: float
    top_z: float
    z_min: float
    z_max: float
    same_surface: float
    inlier_cost: float
    straight_min: int
    distance_weight: float
    straight_weight: float
    z_weight: float
    max_against: float


class TraceWork(NamedTuple):
    """Scratch memory of the kernels: slots hold the patches known around one node.

    Attributes
    ----------
    slot_of : ndarray of int32, shape (p,)
        Slot of each patch, or -1; all -1 between calls.
    patch : ndarray of int32, shape (s,)
        Patch of each slot.
    near : ndarray of int32, shape (s,)
        Direct neighbours that it supports.
    known : ndarray of bool, shape (s, 25)
        Which of the neighbourhood have a location on it.
    location : ndarray of float64, shape (s, 25, 2)
        Their locations.
    solved : ndarray of float64, shape (s, 5)
        Position and location of the node according to the patch.
    n_residuals : ndarray of int32, shape (s,)
        Residuals of that; 0 where the patch has no opinion.
    seen : ndarray of int32, shape (s,)
        Marks.
    point : ndarray of float64, shape (1, 3)
        Query point.
    hit_point : ndarray of int64, shape (h,)
        For queries.
    hit_patch : ndarray of int32, shape (h,)
        Patches found.
    hit_place : ndarray of float64, shape (h, 3)
        Row, column and squared distance of each.
    one_known : ndarray of bool, shape (25,)
        A neighbourhood on a single patch.
    one_location : ndarray of float64, shape (25, 2)
        Its locations.
    """

    slot_of: NDArray[np.int32]
    patch: NDArray[np.int32]
    near: NDArray[np.int32]
    known: NDArray[np.bool_]
    location: NDArray[np.float64]
    solved: NDArray[np.float64]
    n_residuals: NDArray[np.int32]
    seen: NDArray[np.int32]
    point: NDArray[np.float64]
    hit_point: NDArray[np.int64]
    hit_patch: NDArray[np.int32]
    hit_place: NDArray[np.float64]
    one_known: NDArray[np.bool_]
    one_location: NDArray[np.float64]


@inline_kernel
def find_entry(state: TraceState, node: int, patch: int) -> int:
    """Return the entry of a patch at a node, or -1.

    Parameters
    ----------
    state : TraceState
        The trace.
    node : int
        A node.
    patch : int
        A patch.

    Returns
    -------
    int
        Number of the entry.
    """
    for k in range(state.n_entries[node]):
        if state.entry_patch[node, k] == patch:
            return k
    return -1


@kernel
def add_entry(
    state: TraceState, node: int, patch: int, row: float, col: float, entry_state: int
) -> bool:
    """Note that a node lies on a patch.

    Parameters
    ----------
    state : TraceState
        The trace; changed.
    node : int
        A node without an entry of the patch.
    patch : int
        The patch.
    row : float
        Row of its location there.
    col : float
        Column of its location there.
    entry_state : int
        CONTAINS or SUPPORTS.

    Returns
    -------
    bool
        False where the node has no room left.
    """
    k = state.n_entries[node]
    room = state.entry_patch.shape[1]
    if k == room:
        return False
    state.entry_patch[node, k] = patch
    state.entry_location[node, k, 0] = row
    state.entry_location[node, k, 1] = col
    state.entry_state[node, k] = entry_state
    state.entry_next[node, k] = state.patch_entry[patch]
    state.patch_entry[patch] = node * room + k
    state.n_entries[node] = k + 1
    return True


@kernel
def clear_node(state: TraceState, node: int) -> None:
    """Remove a node with its entries.

    Parameters
    ----------
    state : TraceState
        The trace; changed.
    node : int
        The node.
    """
    room = state.entry_patch.shape[1]
    for k in range(state.n_entries[node]):
        patch = state.entry_patch[node, k]
        entry = node * room + k
        if state.patch_entry[patch] == entry:
            state.patch_entry[patch] = state.entry_next[node, k]
            continue
        before = state.patch_entry[patch]
        while before >= 0 and state.entry_next[before // room, before % room] != entry:
            before = state.entry_next[before // room, before % room]
        if before >= 0:
            state.entry_next[before // room, before % room] = state.entry_next[node, k]
    state.n_entries[node] = 0
    state.status[node] = EMPTY
    state.support[node] = 0
    state.against[node] = 0
    state.dirty[node] = True


@kernel
def mark_around(state: TraceState, rows: int, node: int) -> None:
    """Mark the 5 x 5 nodes around one for another look.

    Parameters
    ----------
    state : TraceState
        The trace; changed.
    rows : int
        Rows of the trace.
    node : int
        The node.
    """
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    for c in range(max(col - 2, 0), min(col + 3, n_cols)):
        for r in range(max(row - 2, 0), min(row + 3, rows)):
            state.dirty[c * rows + r] = True


@kernel
def gather_patch(
    state: TraceState,
    rows: int,
    node: int,
    patch: int,
    out_known: NDArray[np.bool_],
    out_location: NDArray[np.float64],
) -> None:
    """Fill the neighbourhood of a node on one patch.

    Parameters
    ----------
    state : TraceState
        The trace.
    rows : int
        Rows of the trace.
    node : int
        The node, number 12 of the neighbourhood; its own location is left out.
    patch : int
        The patch.
    out_known : ndarray of bool, shape (25,)
        Which nodes have a location on it.
    out_location : ndarray of float64, shape (25, 2)
        Their locations.
    """
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    for i in range(25):
        out_known[i] = False
        r, c = row + i // 5 - 2, col + i % 5 - 2
        if i == 12 or r < 0 or c < 0 or r >= rows or c >= n_cols:
            continue
        other = c * rows + r
        k = find_entry(state, other, patch)
        if k >= 0:
            out_known[i] = True
            out_location[i, 0] = state.entry_location[other, k, 0]
            out_location[i, 1] = state.entry_location[other, k, 1]


@kernel
def gather_slots(state: TraceState, work: TraceWork, rows: int, node: int) -> int:
    """Fill the slots with the patches known around a node.

    Parameters
    ----------
    state : TraceState
        The trace.
    work : TraceWork
        Scratch; its slots are filled.
    rows : int
        Rows of the trace.
    node : int
        The node.

    Returns
    -------
    int
        Number of slots; give them back with :func:`release_slots`.
    """
    n_cols = state.status.shape[0] // rows
    row, col = node % rows, node // rows
    n_slots = 0
    for i in range(25):
        r, c = row + i // 5 - 2, col + i % 5 - 2
        if i == 12 or r < 0 or c < 0 or r >= rows or c >= n_cols:
            continue
        other = c * rows + r
        direct = abs(i // 5 - 2) <= 1 and abs(i % 5 - 2) <= 1
        for k in range(state.n_entries[other]):
            patch = state.entry_patch[other, k]
            slot = work.slot_of[patch]
            if slot < 0:
                if n_slots == work.patch.shape[0]:
                    continue
                slot = n_slots
                n_slots += 1
                work.slot_of[patch] = slot
                work.patch[slot] = patch
                work.near[slot] = 0
                work.n_residuals[slot] = 0
                work.seen[slot] = -1
                for j in range(25):
                    work.known[slot, j] = False
            work.known[slot, i] = True
            work.location[slot, i, 0] = state.entry_location[other, k, 0]
            work.location[slot, i, 1] = state.entry_location[other, k, 1]
            if direct and state.entry_state[other, k] == SUPPORTS:
                work.near[slot] += 1
    return n_slots


@inline_kernel
def release_slots(work: TraceWork, n_slots: int) -> None:
    """Empty the slots.

    Parameters
    ----------
    work : TraceWork
        Scratch.
    n_slots : int
        Slots in use.
    """
    for slot in range(n_slots):
        work.slot_of[work.patch[slot]] = -1
