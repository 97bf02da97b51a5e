"""The hash grid as such; answers are compared with brute force in tests/tracer."""

import numpy as np
import pytest

from tracer.kernels.spatial_index import (
    CELL,
    MAX_COORDINATE,
    SegmentView,
    count_entries,
    fill_entries,
    move_cells,
    query_points,
    sort_all_hits,
)


def flat_grid(rows, cols, step, origin):
    r, c = np.mgrid[:rows, :cols]
    return (np.stack([step * c, 0 * c, step * r], -1) + np.asarray(origin)).reshape(-1, 3)


def build(grids, cols, slots=1024):
    vertices = np.concatenate(grids).astype(np.float32)
    start = np.concatenate([[0], np.cumsum([len(g) for g in grids])]).astype(np.int64)
    cols = np.asarray(cols, np.int64)
    table = np.full((slots, 2), -1, np.int64)
    vertex, n_cells, rejected = count_entries(vertices, start, cols, 0, 0, table)
    assert vertex == len(vertices)
    assert n_cells == (table[:, 0] >= 0).sum()
    entries = np.empty(table[table[:, 0] >= 0, 1].sum(), np.int64)
    fill_entries(vertices, start, cols, table, entries)
    of_block = np.searchsorted(start, np.arange(0, len(vertices), 64), side="right") - 1
    levels = sum(1 << int(k) for k in np.unique(table[table[:, 0] >= 0, 0] >> 60))
    view = SegmentView(table, entries, vertices, start, cols, of_block.astype(np.int32))
    return view, levels, rejected


def query(view, levels, points, tolerance, capacity=1000):
    points = np.asarray(points, np.float64).reshape(-1, 3)
    ids = np.arange(len(view.patch_cols), dtype=np.int32)
    out = np.empty(capacity, np.int64), np.empty(capacity, np.int32), np.empty((capacity, 3))
    done, n = query_points(view, ids, levels, points, tolerance, 0, *out)
    return done, tuple(column[:n] for column in out)


@pytest.mark.parametrize(
    ("step", "level"), [(5, 0), (20, 0), (32, 0), (33, 1), (128, 1), (2000, 3)]
)
def test_count_entries__puts_quads_on_the_finest_level_that_takes_them(step, level):
    view, levels, rejected = build([flat_grid(4, 5, step, (-70.0, 3.0, 100.0))], [5])
    assert (levels, rejected) == (1 << level, 0)
    assert len(view.entries) <= 8 * 12
    done, (_, patch, place) = query(view, levels, [-70 + 1.5 * step, 4, 100 + 2.25 * step], 2.0)
    assert (done, patch.tolist()) == (1, [0])
    np.testing.assert_allclose(place, [[2.25, 1.5, 1.0]], atol=1e-12)


def test_count_entries__rejects_absurd_quads_and_skips_invalid_ones():
    grid = flat_grid(2, 6, 20.0, (0.0, 5.0, 0.0))
    grid[1] = (1e30, 0, 0)  # corner of two quads
    grid[4] = np.nan  # corner of the other two and of the last
    view, levels, rejected = build([grid], [6])
    assert rejected == 2
    assert levels == 1
    assert set(view.entries >> 36) == {2}
    assert len(query(view, levels, [50, 5, 10], 1.0)[1][0]) == 1
    assert len(query(view, levels, [10, 5, 10], 1.0)[1][0]) == 0


def test_count_entries__stops_when_the_table_is_half_full_and_goes_on():
    grid = flat_grid(30, 40, 20.0, (0.0, 5.0, 0.0))
    whole, levels, _ = build([grid], [40], slots=4096)
    vertices, start, cols = grid.astype(np.float32), np.array([0, 1200]), np.array([40])
    table = np.full((64, 2), -1, np.int64)
    vertex, n_cells, growths = 0, 0, 0
    while True:
        vertex, n_cells, _ = count_entries(vertices, start, cols, vertex, n_cells, table)
        assert 2 * n_cells <= len(table)
        if vertex == len(vertices):
            break
        larger = np.full((2 * len(table), 2), -1, np.int64)
        move_cells(table, larger)
        table, growths = larger, growths + 1
    assert growths > 2
    entries = np.empty(table[table[:, 0] >= 0, 1].sum(), np.int64)
    fill_entries(vertices, start, cols, table, entries)
    np.testing.assert_array_equal(entries, whole.entries)
    view = whole._replace(table=table)
    points = np.random.default_rng(0).uniform(0, 700, (50, 3)) * (1, 0.01, 1)
    for a, b in zip(
        query(view, levels, points, 3.0)[1], query(whole, levels, points, 3.0)[1], strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["cell faces", "negative", "far"])
def test_query_points__finds_points_on_the_faces_of_cells(where):
    origin = {"cell faces": 0.0, "negative": -10 * CELL, "far": MAX_COORDINATE - 40 * CELL}[where]
    view, levels, rejected = build([flat_grid(9, 9, 16.0, (origin, origin, origin))], [9])
    assert rejected == 0
    axis = origin + np.arange(0, 129, 8.0)
    points = np.stack(np.meshgrid(axis, [origin], axis), -1).reshape(-1, 3)
    _, (at, _, place) = query(view, levels, points, 0.0)
    np.testing.assert_array_equal(at, np.arange(len(points)))
    assert (place[:, 2] == 0).all()


def test_query_points__stops_before_the_output_overflows():
    grids = [flat_grid(3, 3, 20.0, (0, 0.1 * k, 0)) for k in range(7)]
    view, levels, _ = build(grids, [3] * 7)
    points = np.tile([[10.0, 0.3, 10.0]], (4, 1))
    done, (at, patch, _) = query(view, levels, points, 2.0, capacity=16)
    assert done == 2
    np.testing.assert_array_equal(at, np.repeat([0, 1], 7))
    np.testing.assert_array_equal(patch, np.tile(np.arange(7), 2))
    assert query(view, levels, points, 2.0, capacity=6)[0] == 0


def test_query_points__ignores_points_that_are_not_finite_or_absurd():
    view, levels, _ = build([flat_grid(3, 3, 20.0, (0, 0, 0))], [3])
    bad = [[np.nan, 0, 0], [0, np.nan, 0], [0, 0, np.inf], [-np.inf, 0, 0], [1e300, 0, 0]]
    done, (at, _, _) = query(view, levels, [*bad, [1, 0, 1]], 2.0)
    assert done == 6
    np.testing.assert_array_equal(at, [5])


def test_query_points__takes_the_lowest_of_equal_places():
    """A tube of four quads: its axis is equally far from all of them."""
    ring = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], float)
    grid = np.stack([np.column_stack([ring, np.full(5, z)]) for z in (0.0, 10.0)])
    view, levels, _ = build([grid.reshape(-1, 3)], [5])
    _, (_, _, place) = query(view, levels, [5, 5, 5], 6.0)
    np.testing.assert_array_equal(place, [[0.5, 0.5, 25.0]])


def test_sort_all_hits__sorts_within_points_only():
    offsets = np.array([0, 3, 3, 5])
    patch = np.array([4, 1, 2, 9, 0], np.int32)
    place = np.arange(15.0).reshape(5, 3)
    expected = place[[1, 2, 0, 4, 3]].copy()
    sort_all_hits(offsets, patch, place)
    assert patch.tolist() == [1, 2, 4, 0, 9]
    np.testing.assert_array_equal(place, expected)
