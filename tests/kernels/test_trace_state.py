import numpy as np
import pytest

from tracer.kernels.trace_state import (
    CONTAINS,
    EMPTY,
    SUPPORTED,
    SUPPORTS,
    add_entry,
    clear_node,
    find_entry,
    gather_patch,
    gather_slots,
    mark_around,
    release_slots,
)
from tracer.trace.state import _empty_state, make_work

ROWS, COLS, PATCHES = 4, 6, 5


def filled(seed, share=0.5):
    """Return a trace with entries at random, and the same as {(node, patch): (row, col, state)}."""
    rng = np.random.default_rng([seed])
    state = _empty_state(ROWS * COLS, PATCHES)
    known = {}
    for node in range(ROWS * COLS):
        for patch in range(PATCHES):
            if rng.random() < share:
                row, col = rng.uniform(0, 9, 2)
                kind = int(rng.integers(1, 3))
                assert add_entry(state, node, patch, row, col, kind)
                known[node, patch] = (row, col, kind)
        state.status[node] = SUPPORTED if state.n_entries[node] else EMPTY
    return state, known


def listed(state, patch):
    """Return the nodes in the list of a patch."""
    room, entry, found = state.entry_patch.shape[1], int(state.patch_entry[patch]), []
    while entry >= 0:
        assert state.entry_patch[entry // room, entry % room] == patch
        found.append(entry // room)
        entry = int(state.entry_next[entry // room, entry % room])
        assert len(found) <= ROWS * COLS
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_entries__are_found_and_forgotten(seed):
    state, known = filled(seed)
    rng = np.random.default_rng([seed, 1])
    gone = rng.permutation(ROWS * COLS)[: ROWS * COLS // 2].tolist()
    for node in gone:
        clear_node(state, node)
        assert state.status[node] == EMPTY
        assert state.dirty[node]
    for patch in range(PATCHES):
        there = sorted(n for n, p in known if p == patch and n not in gone)
        assert listed(state, patch) == there
        for node in range(ROWS * COLS):
            k = find_entry(state, node, patch)
            assert (k >= 0) == (node in there)
            if k >= 0:
                assert tuple(state.entry_location[node, k]) == known[node, patch][:2]
                assert state.entry_state[node, k] == known[node, patch][2]


def test_add_entry__says_when_a_node_is_full():
    state = _empty_state(1, 100)
    room = state.entry_patch.shape[1]
    assert all(add_entry(state, 0, p, 0.0, 0.0, CONTAINS) for p in range(room))
    assert not add_entry(state, 0, room, 0.0, 0.0, CONTAINS)
    assert state.n_entries[0] == room


def test_mark_around__marks_five_by_five():
    state = _empty_state(ROWS * COLS, PATCHES)
    state.dirty[:] = False
    mark_around(state, ROWS, 1 * ROWS + 3)
    row, col = np.divmod(np.arange(ROWS * COLS), ROWS)[::-1]
    assert np.array_equal(state.dirty, (abs(row - 3) <= 2) & (abs(col - 1) <= 2))


@pytest.mark.parametrize("seed", range(3))
def test_gathering__sees_what_is_around(seed):
    state, known = filled(seed)
    work = make_work(PATCHES)
    out_known, out_location = np.zeros(25, bool), np.zeros((25, 2))
    for node in range(ROWS * COLS):
        row, col = node % ROWS, node // ROWS
        around = {}
        for i in range(25):
            r, c = row + i // 5 - 2, col + i % 5 - 2
            if i != 12 and 0 <= r < ROWS and 0 <= c < COLS:
                around[i] = c * ROWS + r
        n = gather_slots(state, work, ROWS, node)
        patches = {p for other in around.values() for p in range(PATCHES) if (other, p) in known}
        assert set(work.patch[:n].tolist()) == patches
        for slot in range(n):
            patch = int(work.patch[slot])
            there = {i: known[o, patch] for i, o in around.items() if (o, patch) in known}
            assert np.flatnonzero(work.known[slot]).tolist() == sorted(there)
            near = [i for i in there if abs(i // 5 - 2) <= 1 and abs(i % 5 - 2) <= 1]
            assert work.near[slot] == sum(there[i][2] == SUPPORTS for i in near)
            gather_patch(state, ROWS, node, patch, out_known, out_location)
            assert np.array_equal(out_known, work.known[slot])
            for i, value in there.items():
                assert tuple(work.location[slot, i]) == value[:2]
                assert tuple(out_location[i]) == value[:2]
        release_slots(work, n)
        assert (work.slot_of == -1).all()
