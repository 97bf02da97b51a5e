"""Where windows and blocks lie."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.predict.overlapping_blocks import BlockGrid, core_spans, overlapping_spans
from tracer.predict.window_grid import WindowGrid, gaussian_window, split_axis, window_starts


@given(
    extent=st.integers(1, 900),
    patch=st.integers(1, 300),
    step=st.floats(0.1, 1.0),
    edge=st.integers(1, 700),
)
def test_window_starts__cover_the_axis_evenly(extent, patch, step, edge):
    starts = window_starts(extent, patch, step)
    if extent <= patch:
        assert len(starts) == 1
        assert starts[0] <= 0
        assert starts[0] + patch >= extent
    else:
        assert starts[0] == 0
        assert starts[-1] == extent - patch
        distances = np.diff(starts)
        assert (distances >= 1).all()
        assert distances.max() <= max(1, math.ceil(patch * step))
        assert np.ptp(distances) <= 1
    borders = split_axis(starts, extent, edge)
    assert borders[0] == 0
    assert borders[-1] == extent
    assert (np.diff(borders) > 0).all()
    assert set(borders[1:-1]) <= set(starts)
    for (a, _), (_, b) in itertools.pairwise(itertools.pairwise(borders)):
        assert b - a > edge  # no two blocks would fit into one


def test_window_starts__of_slices_are_all_slices():
    assert window_starts(7, 1, 0.5) == tuple(range(7))


def test_window_starts__are_those_of_nnunet():
    # From the description of compute_steps_for_sliding_window in nnU-Net.
    assert window_starts(110, 64, 0.5) == (0, 23, 46)
    assert window_starts(50, 64, 0.5) == (-7,)


def test_window_grid__touching_windows_are_all_that_reach_into_a_box():
    grid = WindowGrid.of((40, 33, 50), (16, 8, 20), 0.5)
    windows = grid.touching((10, 20, 49), (12, 33, 50))
    every = list(itertools.product(*grid.starts))
    expected = [
        w
        for w in every
        if all(
            s < b and s + n > a
            for s, n, a, b in zip(w, (16, 8, 20), (10, 20, 49), (12, 33, 50), strict=True)
        )
    ]
    assert windows == expected
    low, high = grid.bounds(windows)
    np.testing.assert_array_equal(low, np.min(windows, axis=0))
    np.testing.assert_array_equal(high, np.add(np.max(windows, axis=0), (16, 8, 20)))


def test_gaussian_window__is_symmetric_and_positive():
    weights = gaussian_window((16, 9))
    assert weights.shape == (16, 9)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert weights.min() > 0
    assert weights[7, 4] == pytest.approx(weights.max())


@given(extent=st.integers(1, 900), edge=st.integers(2, 300), share=st.floats(0.0, 0.5))
def test_overlapping_spans__cover_and_overlap(extent, edge, share):
    overlap = int(share * edge)
    spans = overlapping_spans(extent, edge, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == extent
    for (a, b), (c, d) in itertools.pairwise(spans):
        assert a < c
        assert b - c >= overlap
        assert d - c == edge
    cores = core_spans(spans)
    assert [a for a, _ in cores] == [0, *(b for _, b in cores)][:-1]
    assert cores[-1][1] == extent
    for (a, b), (c, d) in zip(spans, cores, strict=True):
        assert a <= c <= d <= b


def test_block_grid__numbers_and_neighbours():
    grid = BlockGrid.overlapping((10, 30, 20), 12, 4)
    assert grid.counts == (1, 4, 2)
    assert len(grid) == 8
    assert grid.box(3) == ((0, 8, 8), (10, 20, 20))
    assert list(grid.reaching((0, 19, 0), (5, 21, 3))) == [2, 4, 6]
    cores = np.zeros((10, 30, 20), int)
    for number in range(len(grid)):
        start, stop = grid.core(number)
        cores[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] += 1
    assert (cores == 1).all()
