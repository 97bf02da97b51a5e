import numpy as np
import pytest
from naive import phantom as naive

from tracer.kernels.score import mark_near_points, triangle_distance2, unwrap_angles

TWO_PI = 2 * np.pi


def unwrap(angle, valid, limit=0.0):
    turns = np.zeros(valid.shape, np.int64)
    component = np.empty(valid.shape, np.int64)
    limits = np.full(valid.shape, limit)
    work = np.empty((4, valid.size), np.int64)
    n = unwrap_angles(np.mod(angle, TWO_PI), valid, limits, work, turns, component)
    return n, turns, component


def spiral_angles(rows=12, cols=90):
    return 0.3 * np.arange(cols)[None, :] + 0.05 * np.arange(rows)[:, None]


def test_unwrap_angles__restores_a_continuous_angle():
    angle = spiral_angles()
    n, turns, component = unwrap(angle, np.ones(angle.shape, bool))
    assert n == 1
    assert (component == 0).all()
    restored = np.mod(angle, TWO_PI) + TWO_PI * turns
    np.testing.assert_allclose(restored - restored[0, 0], angle - angle[0, 0], atol=1e-9)


def test_unwrap_angles__goes_around_holes():
    angle = spiral_angles()
    valid = np.ones(angle.shape, bool)
    valid[3:, 30:50] = False
    n, turns, component = unwrap(angle, valid)
    assert n == 1
    assert (component[~valid] == -1).all()
    restored = np.mod(angle, TWO_PI) + TWO_PI * turns
    np.testing.assert_allclose((restored - angle)[valid], restored[0, 0] - angle[0, 0], atol=1e-9)


@pytest.mark.parametrize(("limit", "parts"), [(0.0, 2), (3.9, 2), (4.0, 1), (20.0, 1)])
def test_unwrap_angles__crosses_gaps_up_to_the_limit(limit, parts):
    angle = spiral_angles()
    valid = np.ones(angle.shape, bool)
    valid[:, 40:43] = False  # three invalid columns: four steps from shore to shore
    n, turns, component = unwrap(angle, valid, limit)
    assert n == parts
    assert component.max() == parts - 1
    if parts == 1:
        restored = np.mod(angle, TWO_PI) + TWO_PI * turns
        gap = (restored - angle)[valid]
        np.testing.assert_allclose(gap, gap[0], atol=1e-9)


def test_unwrap_angles__of_an_empty_grid_finds_nothing():
    n, _, component = unwrap(np.zeros((3, 4)), np.zeros((3, 4), bool), 9.0)
    assert n == 0
    assert (component == -1).all()


def test_unwrap_angles__equals_a_plain_flood_on_random_masks():
    rng = np.random.default_rng(0)
    angle = spiral_angles(15, 40)
    for _ in range(10):
        valid = rng.random(angle.shape) < 0.6
        n, turns, component = unwrap(angle, valid)
        from scipy import ndimage

        labels, expected = ndimage.label(valid)
        assert n == expected
        restored = np.mod(angle, TWO_PI) + TWO_PI * turns - angle
        for label in range(1, expected + 1):
            part = labels == label
            assert len(np.unique(component[part])) == 1
            assert np.ptp(restored[part]) < 1e-9


def test_triangle_distance2__equals_dense_sampling():
    rng = np.random.default_rng(1)
    for _ in range(30):
        p, a, b, c = rng.normal(size=(4, 3))
        found = triangle_distance2(tuple(p), tuple(a), tuple(b), tuple(c)) ** 0.5
        sampled = naive.triangle_distance(p, a, b, c)
        assert found <= sampled + 1e-12
        assert sampled - found < 0.02


def test_triangle_distance2__takes_degenerate_triangles():
    p, a, b = (0.0, 3.0, 0.0), (-1.0, 0.0, 0.0), (1.0, 0.0, 0.0)
    assert triangle_distance2(p, a, b, a) == pytest.approx(9.0)
    assert triangle_distance2(p, a, a, a) == pytest.approx(10.0)


def near(points, valid, samples, limit, cell=8.0):
    cells = np.floor(samples / cell).astype(np.int64)
    shape = cells.max(axis=0) + 1
    flat = (cells[:, 2] * shape[1] + cells[:, 1]) * shape[0] + cells[:, 0]
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], np.arange(np.prod(shape) + 1))
    marks = np.zeros(len(samples), bool)
    mark_near_points(
        points, valid, np.ascontiguousarray(samples[order]), first, shape, cell, limit, marks
    )
    out = np.empty_like(marks)
    out[order] = marks
    return out


def test_mark_near_points__equals_dense_sampling():
    rng = np.random.default_rng(2)
    rows, cols = np.meshgrid(np.arange(4), np.arange(5), indexing="ij")
    points = np.stack([10.0 * cols, 10.0 * rows, 6.0 + 4.0 * np.sin(rows + cols)], axis=-1)
    points += rng.normal(0, 0.7, points.shape)
    valid = np.ones((4, 5), bool)
    valid[1, 1] = False
    samples = rng.uniform(0.0, (45.0, 35.0, 16.0), (80, 3))
    limit = 2.5
    found = near(points, valid, samples, limit)
    sure = naive.near_points(points, valid, samples, limit - 0.25)
    possible = naive.near_points(points, valid, samples, limit + 0.25)
    assert sure.sum() > 10
    assert (~possible).sum() > 10
    assert found[sure].all()
    assert not found[~possible].any()


def test_mark_near_points__leaves_other_marks_and_ignores_far_quads():
    samples = np.array([[1.0, 1.0, 1.0], [30.0, 30.0, 30.0]])
    points = np.full((2, 2, 3), 500.0)
    assert not near(points, np.ones((2, 2), bool), samples, 3.0).any()
    points = -points
    assert not near(points, np.ones((2, 2), bool), samples, 3.0).any()
