import numpy as np
import pytest
from naive import quad_mesh as naive

from tracer.kernels.quad_mesh import quad_areas, sample_points, vertex_normals


def make_mesh(seed, rows=6, cols=7, holes=6):
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[:rows, :cols]
    points = np.stack([20 * c, 0 * r, 20 * r], axis=-1) + 500 + rng.normal(0, 4, (rows, cols, 3))
    valid = np.ones((rows, cols), dtype=bool)
    valid.ravel()[rng.choice(rows * cols, holes, replace=False)] = False
    return points.astype(np.float32), valid


def run_sample(points, valid, rows, cols):
    out, ok = np.empty((len(rows), 3), np.float32), np.empty(len(rows), bool)
    sample_points(points, valid, np.asarray(rows, float), np.asarray(cols, float), out, ok)
    return out, ok


@pytest.mark.parametrize("seed", range(4))
def test_sample_points__equals_oracle(seed):
    points, valid = make_mesh(seed, holes=3)
    rng = np.random.default_rng([seed, 1])
    rows, cols = rng.uniform(-0.5, 6, 300), rng.uniform(-0.5, 7, 300)
    out, ok = run_sample(points, valid, rows, cols)
    assert 30 < ok.sum() < 300
    for i in range(300):
        expected = naive.sample(points, valid, rows[i], cols[i])
        assert ok[i] == (expected is not None)
        if ok[i]:
            np.testing.assert_allclose(out[i], expected, rtol=1e-6)
        else:
            assert np.isnan(out[i]).all()


def test_sample_points__is_the_vertex_at_whole_positions_whatever_its_neighbours():
    points, valid = make_mesh(5)
    rows, cols = np.nonzero(valid)
    out, ok = run_sample(points, valid, rows, cols)
    assert ok.all()
    np.testing.assert_array_equal(out, points[valid])
    assert not run_sample(points, valid, *np.nonzero(~valid))[1].any()


def test_sample_points__rejects_nan_infinite_and_outside_positions():
    points, valid = make_mesh(6, holes=0)
    rows = [np.nan, 0, np.inf, -1e-9, 5.0000001, 0, -np.inf]
    cols = [0, np.nan, 0, 0, 0, 6.0000001, 0]
    out, ok = run_sample(points, valid, rows, cols)
    assert not ok.any()
    assert np.isnan(out).all()


@pytest.mark.parametrize("seed", range(4))
def test_vertex_normals__equal_oracle(seed):
    points, valid = make_mesh(seed, holes=14)
    normals = np.empty_like(points)
    vertex_normals(points, valid, normals)
    assert 5 < np.isfinite(normals[..., 0]).sum() < valid.size
    for row in range(valid.shape[0]):
        for col in range(valid.shape[1]):
            expected = naive.normal(points, valid, row, col)
            if expected is None:
                assert np.isnan(normals[row, col]).all()
            else:
                np.testing.assert_allclose(normals[row, col], expected, atol=1e-6)


def test_vertex_normals__of_a_plane_point_along_dcol_cross_drow():
    r, c = np.mgrid[:4, :5].astype(np.float32)
    points = np.stack([c, 0 * r + 3, r + 1], axis=-1)
    normals = np.empty_like(points)
    vertex_normals(points, np.ones((4, 5), bool), normals)
    # x cross z is -y
    np.testing.assert_array_equal(normals, np.broadcast_to(np.float32([0, -1, 0]), normals.shape))


def test_vertex_normals__are_nan_where_degenerate():
    points = np.ones((3, 3, 3), np.float32)
    normals = np.empty_like(points)
    vertex_normals(points, np.ones((3, 3), bool), normals)
    assert np.isnan(normals).all()
    row = np.empty((1, 4, 3), np.float32)
    vertex_normals(np.ones((1, 4, 3), np.float32), np.ones((1, 4), bool), row)
    assert np.isnan(row).all()


@pytest.mark.parametrize("seed", range(4))
def test_quad_areas__equal_oracle(seed):
    points, valid = make_mesh(seed)
    areas = np.empty((5, 6))
    quad_areas(points, valid, areas)
    assert 0 < (areas > 0).sum() < areas.size
    np.testing.assert_allclose(areas, naive.areas(points, valid), rtol=1e-12)


def test_quad_areas__of_a_plane_parallelogram_are_exact():
    r, c = np.mgrid[:3, :4].astype(np.float32)
    points = np.stack([2 * c + r, 0 * r, 3 * r + 1], axis=-1)
    areas = np.empty((2, 3))
    quad_areas(points, np.ones((3, 4), bool), areas)
    np.testing.assert_allclose(areas, 6.0, rtol=1e-14)


def test_kernels__accept_read_only_and_strided_input():
    points, valid = make_mesh(8, rows=12, cols=14)
    strided, strided_valid = points[::2, ::2], valid[::2, ::2]
    expected, compact_normals = np.empty_like(strided), np.empty_like(strided)
    vertex_normals(strided, strided_valid, expected)
    frozen, frozen_valid = strided.copy(), strided_valid.copy()
    frozen.setflags(write=False)
    frozen_valid.setflags(write=False)
    vertex_normals(frozen, frozen_valid, compact_normals)
    np.testing.assert_array_equal(expected, compact_normals)
