"""Cells in pairs: each in one pair or critical, no cycles, and as few critical as there can be."""

import numpy as np
import pytest

from tracer.kernels import cell_homology as ch

OFFSETS = np.array([(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)])


def _dimension(cells):
    return (np.asarray(cells) % 2).sum(axis=-1)


def _body(name):
    levels = np.full((6, 7, 8), 2, np.uint8)
    if name == "solid":
        levels[1:5, 1:6, 1:7] = 0
    elif name == "ring":
        levels[2, 1:6, 1:6] = 0
        levels[2, 3, 3] = 2
    elif name == "shell":
        levels[1:5, 1:6, 1:7] = 0
        levels[2:4, 2:5, 2:6] = 2
    elif name == "filled ring":
        levels[2, 1:6, 1:6] = 0
        levels[2, 3, 3] = 1
    elif name == "noise":
        levels[:] = np.random.default_rng(2).integers(0, 3, levels.shape)
    return levels


def test_cell_levels__is_the_lowest_of_the_voxels_around():
    levels = _body("noise")
    cells = ch.cell_levels(levels)
    padded = np.pad(levels, 1, constant_values=2)
    for cell in np.ndindex(cells.shape):
        around = tuple(slice((c + 1) // 2, c // 2 + 2) for c in cell)
        assert cells[cell] == padded[around].min()


@pytest.mark.parametrize("name", ["nothing", "solid", "ring", "shell", "filled ring", "noise"])
def test_collapse_cells__pairs_all_cells_within_a_level(name):
    levels = ch.cell_levels(_body(name))
    states, ranks, edges, critical = ch.collapse_cells(levels)
    taken = np.zeros(levels.shape, int)
    for cell in np.argwhere((states >= ch.UP) & (states < ch.TAKEN)):
        other = cell + OFFSETS[states[tuple(cell)] - ch.UP]
        assert _dimension(other) == _dimension(cell) + 1
        assert levels[tuple(other)] == levels[tuple(cell)]
        taken[tuple(other)] += 1
    np.testing.assert_array_equal(taken, states == ch.TAKEN)
    np.testing.assert_array_equal(states == ch.FREE, levels == ch.OUTSIDE)
    np.testing.assert_array_equal(np.sort(critical), np.flatnonzero(states == ch.CRITICAL))
    # A pair's face has no other edge that was removed before its own: no cycles.
    order = ranks.reshape(-1)
    assert order[edges].tolist() == list(range(len(edges)))
    for edge in edges:
        cell = np.array(np.unravel_index(edge, levels.shape))
        face = cell + OFFSETS[states[tuple(cell)] - ch.UP]
        for offset in OFFSETS[np.abs(OFFSETS) @ (face % 2) > 0]:
            assert not -1 < ranks[tuple(face + offset)] < ranks[tuple(cell)]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("nothing", (0, 0, 0, 0)),
        ("solid", (1, 0, 0, 0)),
        ("ring", (1, 1, 0, 0)),
        ("shell", (1, 0, 1, 0)),
        ("filled ring", (1, 1, 1, 0)),  # the ring has a loop, which the outer body fills
    ],
)
def test_collapse_cells__leaves_as_few_as_there_are_features(name, counts):
    levels = ch.cell_levels(_body(name))
    critical = np.argwhere(ch.collapse_cells(levels)[0] == ch.CRITICAL)
    assert tuple(np.bincount(_dimension(critical), minlength=4)) == counts


def _boundaries(name):
    levels = ch.cell_levels(_body(name))
    states, ranks, edges, critical = ch.collapse_cells(levels)
    cells = np.stack(np.unravel_index(critical, levels.shape), axis=-1)
    ends = critical[_dimension(cells) == 1]
    faces = critical[_dimension(cells) == 2]
    ranks.reshape(-1)[ends] = len(edges) + np.arange(len(ends))
    return ch.critical_boundaries(states, ranks, edges, len(ends), faces), len(faces), len(ends)


def test_critical_boundaries__of_a_patch_is_the_loop_and_of_a_shell_nothing():
    words, faces, ends = _boundaries("filled ring")
    assert (faces, ends) == (1, 1)
    assert words.tolist() == [[1]]
    words, faces, ends = _boundaries("shell")
    assert (words.shape, faces, ends) == ((1, 0), 1, 0)


def test_critical_boundaries__many_faces_take_many_words():
    rng = np.random.default_rng(5)
    levels = ch.cell_levels(np.where(rng.random((16, 16, 16)) < 0.2, 0, 1).astype(np.uint8))
    states, ranks, edges, critical = ch.collapse_cells(levels)
    cells = np.stack(np.unravel_index(critical, levels.shape), axis=-1)
    ends, faces = (critical[_dimension(cells) == k] for k in (1, 2))
    assert len(faces) > 128
    ranks.reshape(-1)[ends] = len(edges) + np.arange(len(ends))
    words = ch.critical_boundaries(states, ranks, edges, len(ends), faces)
    assert words.shape == (-(-len(faces) // 64), len(ends))
    for n in (0, 63, 64, 130):
        alone = ch.critical_boundaries(states, ranks, edges, len(ends), faces[n : n + 1])
        np.testing.assert_array_equal(alone[0], words[n // 64] >> np.uint64(n % 64) & np.uint64(1))
