"""Sampling the distance field between voxels."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tracer.kernels.field_sampling import (
    CHUNK,
    FAR,
    NOT_LOADED,
    FieldView,
    nearest_distance,
    sample_field,
    sample_points,
)

CAP = 8.0
SHAPE = (140, 20, 150)


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(3).integers(1, 129, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def view(codes):
    """Return all chunks of the codes, stored in reversed order."""
    grid = [-(-n // CHUNK) for n in SHAPE]
    padded = np.pad(codes, [(0, g * CHUNK + 1 - n) for g, n in zip(grid, SHAPE, strict=True)])
    table = np.arange(np.prod(grid), dtype=np.int32)[::-1].reshape(grid).copy()
    pool = np.empty((table.size, *(CHUNK + 1,) * 3), np.uint8)
    for index in np.ndindex(*grid):
        box = tuple(slice(i * CHUNK, (i + 1) * CHUNK + 1) for i in index)
        pool[table[index]] = padded[box]
    return _read_only(FieldView(pool, table, np.array(SHAPE, np.int64), CAP))


def _read_only(view):
    for array in view[:3]:
        array.flags.writeable = False
    return view


def _points(n, margin=0.0):
    rng = np.random.default_rng(4)
    points = rng.uniform(margin, np.array(SHAPE[::-1]) - 1 - margin, (n, 3))
    points[: n // 2, 0] = rng.uniform(CHUNK - 1, CHUNK + 1, n // 2)  # many next to a seam
    return points


def _linear(codes, points):
    return (map_coordinates(codes.astype(float), points.T[::-1], order=1) - 64) / 8


def _sampled(view, points):
    out = np.full((len(points), 4), np.nan)
    sample_points(view, points, out)
    return out


def test_sample_points__interpolate_linearly_across_seams(view, codes):
    points = _points(500)
    np.testing.assert_allclose(
        _sampled(view, points)[:, 0], _linear(codes, points), rtol=0, atol=1e-12
    )


def test_sample_points__equal_the_codes_at_voxels(view, codes):
    voxels = np.array([[0, 0, 0], [127, 0, 3], [128, 19, 127], [149, 19, 139], [149, 0, 128]])
    expected = (codes[tuple(voxels.T[::-1])].astype(float) - 64) / 8
    np.testing.assert_array_equal(_sampled(view, voxels.astype(float))[:, 0], expected)


def test_sample_points__give_the_derivatives_of_the_interpolation(view, codes):
    points = np.floor(_points(300, 1.0)) + np.random.default_rng(5).uniform(0.1, 0.9, (300, 3))
    points = points[(points < np.array(SHAPE[::-1]) - 1).all(axis=1)]
    got = _sampled(view, points)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 0.05
        slope = (_linear(codes, points + step) - _linear(codes, points - step)) / 0.1
        np.testing.assert_allclose(got[:, 1 + axis], slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize("point", [(-0.01, 5, 5), (5, 19.01, 5), (5, 5, 139.5), (np.nan, 5, 5)])
def test_sample_field__is_the_cap_outside_the_volume(view, point):
    assert sample_field(view, *map(float, point)) == (CAP, 0.0, 0.0, 0.0, False)


@pytest.mark.parametrize(("entry", "is_known"), [(FAR, True), (NOT_LOADED, False)])
def test_sample_field__tells_far_chunks_from_those_not_loaded(view, entry, is_known):
    table = np.full_like(view.table, entry)
    bare = view._replace(table=table, pool=view.pool[:0])
    assert sample_field(bare, 3.5, 4.5, 130.0) == (CAP, 0.0, 0.0, 0.0, is_known)
    assert nearest_distance(bare, 3.5, 4.5, 130.0) == CAP


def test_nearest_distance__takes_the_nearest_voxel_also_in_the_next_chunk(view, codes):
    for x, y, z in [(127.6, 3.2, 4.0), (127.4, 0.4, 127.5), (149.4, 19.4, 139.4), (-0.5, 0, 0)]:
        i, j, k = (int(np.floor(v + 0.5)) for v in (z, y, x))
        assert nearest_distance(view, x, y, z) == (float(codes[i, j, k]) - 64) / 8


@pytest.mark.parametrize("point", [(149.5, 0, 0), (0, -0.6, 0), (0, 0, 139.6)])
def test_nearest_distance__is_the_cap_outside_the_volume(view, point):
    assert nearest_distance(view, *map(float, point)) == CAP
