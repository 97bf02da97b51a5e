"""The order of tiles and the slots of chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import ParamsError
from tracer.render.plan import TileChunks, hilbert_keys, schedule


def tiles_of(chunk_lists):
    """Return tiles that touch chunks given by number."""
    return [
        TileChunks(
            index=i,
            n_valid=1,
            chunks=np.array([(0, 0, c) for c in sorted(set(chunks))]).reshape(-1, 3),
        )
        for i, chunks in enumerate(chunk_lists)
    ]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=25),
    st.integers(4, 12),
    st.integers(1, 4),
)
def test_schedule__every_tile_finds_its_chunks(chunk_lists, slots, window):
    tiles = tiles_of(chunk_lists)
    steps, window = schedule(tiles, slots, window=window)
    assert [step.tile for step in steps] == tiles
    held = {}
    used_at = {}
    for t, step in enumerate(steps):
        chunks = [tuple(chunk) for chunk in step.tile.chunks.tolist()]
        for position in step.loads:
            slot = int(step.slots[position])
            assert 0 <= slot < slots
            # Nothing that a tile in work still needs is overwritten.
            assert used_at.get(slot, -window) <= t - window
            held[slot] = chunks[position]
        for chunk, slot in zip(chunks, step.slots.tolist(), strict=True):
            assert held[slot] == chunk
            used_at[slot] = t


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=25))
def test_schedule__reads_each_chunk_once_where_all_fit(chunk_lists):
    steps, _ = schedule(tiles_of(chunk_lists), 10)
    assert sum(len(step.loads) for step in steps) == len({c for tile in chunk_lists for c in tile})


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_schedule__no_policy_reads_less(sequence, slots):
    # Brute force over every choice of what to drop, one chunk per tile.
    states = {frozenset(): 0}
    for chunk in sequence:
        following = {}
        for held, reads in states.items():
            if chunk in held:
                options = [(held, reads)]
            elif len(held) < slots:
                options = [(held | {chunk}, reads + 1)]
            else:
                options = [(held - {gone} | {chunk}, reads + 1) for gone in held]
            for state, cost in options:
                following[state] = min(cost, following.get(state, cost))
        states = following
    steps, _ = schedule(tiles_of([[c] for c in sequence]), slots, window=1)
    assert sum(len(step.loads) for step in steps) == min(states.values())


def test_schedule__says_how_much_one_tile_needs():
    with pytest.raises(ParamsError, match=r"3 chunks.*touches 4"):
        schedule(tiles_of([[0, 1, 2, 3]]), 3)


def test_hilbert_keys__are_a_path_through_neighbours():
    cells = np.array(list(np.ndindex(8, 8, 8)))
    keys = hilbert_keys(cells, 3)
    assert sorted(keys.tolist()) == list(range(512))
    path = cells[np.argsort(keys)]
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all()


def test_hilbert_keys__of_nothing():
    assert hilbert_keys(np.empty((0, 3), dtype=np.int64), 12).shape == (0,)
