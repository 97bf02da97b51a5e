import numpy as np
import pytest
from array_volume import ArrayVolume
from trace_cases import begun, plane
from unroll_cases import patch

from tracer.trace.holes import close_holes, finer, node_windings, pull_holes


def sheet():
    surface = patch(20.0, 80.0, rows=14, cols=40)
    assert surface.valid.all()
    return surface.points_xyz.astype(np.float64)


def test_close_holes__finds_the_sheet_again():
    whole = sheet()
    points = whole.astype(np.float32)
    points[5:8, 10:13] = np.nan
    winding = np.full(points.shape[:2], np.nan)
    filled, state = close_holes(points, winding, 10.0, 60.0)
    assert (state[5:8, 10:13] == 80).all()
    assert (np.delete(state.ravel(), np.flatnonzero(state.ravel() == 80)) == 100).all()
    known = state == 100
    assert np.array_equal(filled[known], points[known])
    off = np.linalg.norm(filled[~known] - whole[~known], axis=-1)
    assert off.max() < 0.6


def test_close_holes__leaves_wide_ones_open():
    points = sheet().astype(np.float32)
    points[2:12, 10:24] = np.nan
    points[5, 32] = np.nan
    filled, state = close_holes(points, np.full(points.shape[:2], np.nan), 10.0, 60.0)
    assert np.isnan(filled[2:12, 10:24]).all()
    assert (state[2:12, 10:24] == 0).all()
    assert state[5, 32] == 80
    same, state = close_holes(points, np.full(points.shape[:2], np.nan), 10.0, 0.0)
    assert same is points
    assert not (state == 80).any()


def test_close_holes__does_not_join_two_wraps():
    points = sheet().astype(np.float32)
    points[:, 20:] += np.float32([0.0, 24.0, 0.0])
    points[3:10, 19:21] = np.nan
    _, state = close_holes(points, np.full(points.shape[:2], np.nan), 10.0, 60.0)
    assert not (state == 80).any()


def band(middle):
    """Return a prediction five voxels thick at y = middle."""
    array = np.zeros((140, 80, 140), np.uint8)
    array[:, middle - 2 : middle + 3] = 255
    return ArrayVolume(array)


@pytest.mark.parametrize(("middle", "expected"), [(40, 40.0), (60, 41.5)])
def test_pull_holes__moves_what_was_filled_if_the_trace_is_on_the_prediction(middle, expected):
    z, x = np.meshgrid(*2 * (np.arange(12) * 10.0 + 15,), indexing="ij")
    points = np.stack([x, np.full_like(x, 41.5), z], axis=-1).astype(np.float32)
    state = np.full((12, 12), 100, np.uint8)
    state[4:7, 4:8] = 80
    pulled = pull_holes(points, state, band(middle), 10.0, threshold=1, gap=24.0)
    np.testing.assert_allclose(pulled[state == 80][:, 1], expected, atol=0.1)
    np.testing.assert_array_equal(pulled[state == 100], points[state == 100])


@pytest.mark.parametrize("shape", [(1, 4), (3, 5)])
def test_finer__is_linear(shape):
    row, col = np.mgrid[: shape[0], : shape[1]].astype(float)
    values = 2.0 * row * (shape[0] > 1) + 3.0 * col
    fine = finer(values, 4)
    assert fine.shape == (4 * (shape[0] + 1) + 1, 4 * (shape[1] + 1) + 1)
    assert np.array_equal(fine[4:-4:4, 4:-4:4], values)
    if shape[0] > 1:
        row, col = np.mgrid[: fine.shape[0], : fine.shape[1]] / 4.0 - 1.0
        assert np.allclose(fine, 2.0 * row + 3.0 * col)


def test_node_windings__are_turns_of_the_layout():
    trace, _, _, _, patches = begun([plane(0, 400, name="a")])
    winding = node_windings(trace, patches)
    x = trace.state.xyz[: winding.size, 0].reshape(winding.shape[::-1]).T
    known = trace.state.status[: winding.size].reshape(winding.shape[::-1]).T > 0
    np.testing.assert_allclose(winding[known], x[known] / 1000.0, atol=0.006)


def test_node_windings__are_unknown_without_a_layout():
    trace, _, _, _, patches = begun([plane(0, 400, name="a")], layout=False)
    assert np.isnan(node_windings(trace, patches)).all()
