import numpy as np
import pytest

from tracer.kernels.surface_band import paint_distance

INF = np.float32(np.inf)


def _plane(rows=5, cols=6, step=4.0, tilt=0.0):
    """Return a plane z = 10 + tilt x, with rows along y."""
    y, x = np.meshgrid(step * np.arange(rows) + 4, step * np.arange(cols) + 4, indexing="ij")
    points = np.stack([x, y, 10 + tilt * x], axis=-1).astype(np.float32)
    normal = np.array([-tilt, 0.0, 1.0]) / np.hypot(1.0, tilt)
    return points, np.broadcast_to(normal, points.shape).astype(np.float32)


def _paint(points, normals, shape=(24, 26, 30), origin=(0, 0, 0), reach=5.0, valid=None):
    out = np.full(shape, INF)
    valid = np.ones(points.shape[:2], np.bool_) if valid is None else valid
    paint_distance(points, normals, valid, np.array(origin, np.int64), reach, out)
    return out


@pytest.mark.parametrize("tilt", [0.0, 0.35])
def test_paint_distance__is_the_distance_to_a_plane(tilt):
    points, normals = _plane(tilt=tilt)
    out = _paint(points, normals)
    z, y, x = np.meshgrid(*(np.arange(n) for n in out.shape), indexing="ij")
    expected = np.abs(z - 10 - tilt * x) / np.hypot(1, tilt)
    core = (y > 5) & (y < 19) & (x > 7) & (x < 20)
    near = core & (expected <= 4.5)
    assert near.sum() > 1400
    assert np.isfinite(out[near]).all()
    assert np.abs(out - expected)[near].max() <= 1e-5
    assert np.isinf(out[core & (expected > 6)]).all()


def test_paint_distance__nothing_beyond_the_edge():
    out = _paint(*_plane())
    painted = np.argwhere(np.isfinite(out))
    np.testing.assert_array_equal(painted.min(0), (5, 4, 4))
    np.testing.assert_array_equal(painted.max(0), (15, 20, 24))


def test_paint_distance__boxes_are_parts_of_the_whole():
    points, normals = _plane(tilt=0.2)
    whole = _paint(points, normals)
    part = _paint(points, normals, shape=(9, 11, 12), origin=(7, 6, 10))
    np.testing.assert_array_equal(part, whole[7:16, 6:17, 10:22])


def test_paint_distance__no_gaps_around_a_bend():
    angle = np.linspace(0.2, 1.3, 5)
    radial = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    heights = np.arange(4, 25, 10.0)
    points = np.empty((3, 5, 3), np.float32)
    normals = np.zeros((3, 5, 3), np.float32)
    points[..., :2], points[..., 2] = 30 * radial, heights[:, None]
    normals[..., :2] = radial
    out = _paint(points, normals, shape=(28, 45, 45), reach=6.0)
    y, x = np.meshgrid(np.arange(45), np.arange(45), indexing="ij")
    radius, direction = np.hypot(x, y), np.arctan2(y, x)
    inside = (np.abs(radius - 30) < 4.5) & (direction > 0.25) & (direction < 1.25)
    assert inside.sum() > 200
    assert np.isfinite(out[10][inside]).all()


def test_paint_distance__leaves_out_holes_and_undefined_normals():
    points, normals = _plane()
    valid = np.ones(points.shape[:2], np.bool_)
    valid[2, 3] = False
    normals = normals.copy()
    normals[1, 1] = np.nan
    out = _paint(points, normals, valid=valid)
    assert np.isinf(out[10, 10:14, 13:20]).all()
    assert np.isinf(out[10, 6:10, 6:10]).all()
    assert np.isfinite(out[10, 17:20, 5:8]).all()


def test_paint_distance__degenerate_input():
    points, normals = _plane()
    assert np.isinf(_paint(points[:1], normals[:1])).all()
    assert np.isinf(_paint(points, np.zeros_like(normals))).all()
    assert np.isinf(_paint(points + 1000, normals)).all()
    same = np.repeat(points[:, :1], 2, axis=1)  # quads without width
    assert np.isfinite(_paint(same, normals[:, :2])).sum() > 0
    points.setflags(write=False)
    np.testing.assert_array_equal(
        _paint(points[::-1, ::-1], normals[::-1, ::-1]), _paint(points, normals)
    )
