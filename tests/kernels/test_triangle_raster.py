import numpy as np

from tracer.kernels.triangle_raster import raster_triangles


def test_raster_triangles__is_linear_on_a_triangle():
    places = np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    points = np.array([[0.0, 0.0, 5.0], [4.0, 0.0, 9.0], [0.0, 4.0, 1.0]])
    out = np.full((6, 6, 3), np.nan)
    raster_triangles(points, places, np.array([[0, 1, 2]]), out)
    rows, cols = np.indices((6, 6))
    inside = rows + cols <= 4
    assert np.array_equal(np.isfinite(out[..., 0]), inside)
    expected = np.stack([cols, rows, 5 + cols - rows], axis=-1)
    assert np.allclose(out[inside], expected[inside])


def test_raster_triangles__either_winding_and_degenerate_ones():
    places = np.array([[0.2, 0.1], [2.9, 3.2], [3.1, 0.4], [1.0, 1.0]])
    points = np.random.default_rng([3]).normal(size=(4, 3))
    one, other = (np.full((5, 5, 3), np.nan) for _ in range(2))
    raster_triangles(points, places, np.array([[0, 1, 2], [3, 3, 0]]), one)
    raster_triangles(points, places, np.array([[0, 2, 1]]), other)
    assert np.allclose(one, other, equal_nan=True)
    assert np.isfinite(one[..., 0]).sum() > 2
