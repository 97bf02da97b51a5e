"""Trilinear sampling of chunks against SciPy on the whole volume."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tracer.kernels import trilinear as kernels


def sample(view, points, offsets=(0.0,), directions=None):
    """Return what the kernel samples at points z, y, x, with a row per point."""
    lines = np.zeros((len(points), 6))
    lines[:, :3] = points
    if directions is not None:
        lines[:, 3:] = directions
    out = np.full(len(points) * len(offsets) + 1, -7.0)
    kernels.sample_lines(view, lines, len(lines), np.asarray(offsets), 1.0, out)
    assert out[-1] == -7.0
    return out[:-1].reshape(len(points), len(offsets))


def chunked_view(volume, chunk, missing=()):
    """Return a view whose chunks lie in shuffled slots, and the volume without `missing`."""
    rng = np.random.default_rng(5)
    grid = tuple(-(-n // c) for n, c in zip(volume.shape, chunk, strict=True))
    volume = volume.copy()
    padded = np.zeros([g * c for g, c in zip(grid, chunk, strict=True)], dtype=volume.dtype)
    for index in missing:
        box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
        volume[box] = 0
    padded[tuple(slice(n) for n in volume.shape)] = volume
    present = [index for index in np.ndindex(*grid) if index not in set(missing)]
    pool = np.zeros((len(present), *chunk), dtype=volume.dtype)
    table = np.full(grid, -1, dtype=np.int32)
    for slot, at in enumerate(rng.permutation(len(present))):
        index = present[at]
        box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
        pool[slot] = padded[box]
        table[index] = slot
    view = kernels.ChunkView(
        pool=pool.ravel(),
        table=table,
        origin=np.zeros(3, dtype=np.int64),
        chunk_shape=np.asarray(chunk, dtype=np.int64),
        shape_zyx=np.asarray(volume.shape, dtype=np.int64),
        fill=0.0,
    )
    return view, volume


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("missing", [(), [(0, 1, 0), (1, 1, 1)]])
def test_sample_lines__equals_scipy(dtype, missing):
    rng = np.random.default_rng(2)
    volume = rng.integers(0, np.iinfo(dtype).max, (9, 11, 14)).astype(dtype)
    view, volume = chunked_view(volume, (4, 5, 6), missing)
    points = rng.uniform(-2.5, 16.0, (400, 3))
    directions = rng.normal(size=(400, 3))
    offsets = np.array([-2.0, -0.5, 1.0])
    out = sample(view, points, offsets, directions)
    points = points[:, None] + offsets[:, None] * directions[:, None]
    expected = map_coordinates(
        volume.astype(np.float64),
        np.moveaxis(points, -1, 0),
        order=1,
        mode="grid-constant",
        cval=0.0,
    )
    assert (expected > 0).sum() > 200
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-9)


def test_sample_lines__whole_positions_are_voxels():
    volume = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    view, _ = chunked_view(volume, (2, 2, 4))
    points = np.argwhere(volume >= 0).astype(np.float64)
    assert (sample(view, points)[:, 0] == volume.ravel()).all()


def test_sample_lines__nan_and_far_away_are_zero():
    view, _ = chunked_view(np.full((3, 3, 3), 9, dtype=np.uint8), (2, 2, 2))
    points = np.array([[np.nan, 1, 1], [1e9, 1, 1], [1, -1e9, 1], [1, 1, np.inf], [-1, 1, 1]])
    assert (sample(view, points) == 0).all()


def test_sample_lines__chunks_outside_the_table_are_fill():
    view, _ = chunked_view(np.full((4, 4, 4), 9, dtype=np.uint8), (2, 2, 2))
    view = view._replace(table=view.table[1:2], origin=np.array([1, 0, 0]), fill=3.0)
    assert sample(view, [[0.0, 0, 0], [3.0, 3, 3]]).tolist() == [[3.0], [9.0]]
