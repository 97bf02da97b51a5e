"""Render kernels against SciPy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import render as naive

from tracer.kernels import render as kernels
from tracer.kernels import trilinear
from tracer.kernels.quad_mesh import vertex_normals


def make_case(seed, *, level=0, holes=0, dtype=np.uint8, spread=30.0):
    """Return a random volume and a bumpy surface that mostly lies in it."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 26, 3)
    volume = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    rows, cols = rng.integers(2, 6, 2)
    r, c = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    axes = rng.normal(size=(3, 3))
    unit = np.linalg.qr(axes)[0]
    points = (r[..., None] * unit[0] + c[..., None] * unit[1]) * spread / 8
    points += rng.normal(0, 0.7, points.shape) + shape[::-1] * 2**level / 2 - points.mean((0, 1))
    points = points.astype(np.float32)
    valid = np.ones((rows, cols), dtype=bool)
    valid.ravel()[rng.choice(rows * cols, size=min(holes, rows * cols), replace=False)] = False
    normals = np.empty_like(points)
    vertex_normals(points, valid, normals)
    return volume, points, normals, valid


def view_of(volume, chunk):
    """Return a view with every chunk of a volume in order."""
    grid = tuple(-(-n // c) for n, c in zip(volume.shape, chunk, strict=True))
    padded = np.zeros([g * c for g, c in zip(grid, chunk, strict=True)], dtype=volume.dtype)
    padded[tuple(slice(n) for n in volume.shape)] = volume
    blocks = padded.reshape([n for pair in zip(grid, chunk, strict=True) for n in pair])
    return trilinear.ChunkView(
        pool=np.ascontiguousarray(blocks.transpose(0, 2, 4, 1, 3, 5)).ravel(),
        table=np.arange(np.prod(grid), dtype=np.int32).reshape(grid),
        origin=np.zeros(3, dtype=np.int64),
        chunk_shape=np.asarray(chunk, dtype=np.int64),
        shape_zyx=np.asarray(volume.shape, dtype=np.int64),
        fill=0.0,
    )


def render(volume, points, normals, valid, rows, cols, offsets, *, chunk, level=0, gain=1.0):
    """Return what the kernel renders, (layers, height, width)."""
    out = np.full((len(rows), len(offsets), len(cols)), 77, dtype=np.uint8)
    n = kernels.render_tile(
        points,
        normals,
        valid,
        rows,
        cols,
        np.asarray(offsets, dtype=np.float64),
        (0.5**level, 0.5 * 0.5**level - 0.5),
        view_of(volume, chunk),
        gain,
        out,
    )
    return out.transpose(1, 0, 2), n


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 4),
    st.sampled_from([(4, 4, 4), (8, 5, 6), (32, 32, 32)]),
    st.sampled_from([1, 2, 5]),
)
def test_render_tile__equals_direct_sampling(seed, level, holes, chunk, layers):
    volume, points, normals, valid = make_case(seed, level=level, holes=holes)
    rows = (np.arange(11) + 0.5) * (valid.shape[0] / 11)
    cols = (np.arange(13) + 0.5) * (valid.shape[1] / 13)
    offsets = np.arange(layers) - (layers - 1) / 2
    out, n = render(volume, points, normals, valid, rows, cols, offsets, chunk=chunk, level=level)
    expected, ok = naive.render(volume, points, normals, valid, rows, cols, offsets, level)
    assert n == ok.sum()
    assert np.abs(out - expected).max() <= 0.5 + 1e-6
    assert (out[:, ~ok] == 0).all()


def test_render_tile__whole_positions_are_voxels():
    rng = np.random.default_rng(3)
    volume = rng.integers(0, 256, (6, 7, 8)).astype(np.uint8)
    r, c = np.meshgrid(np.arange(5), np.arange(6), indexing="ij")
    points = np.stack([c, r, np.full_like(r, 3)], axis=-1).astype(np.float32)
    valid = np.ones((5, 6), dtype=bool)
    normals = np.empty_like(points)
    vertex_normals(points, valid, normals)
    assert (normals == (0, 0, 1)).all()
    out, n = render(
        volume, points, normals, valid, np.arange(5.0), np.arange(6.0), [-2, 0, 1], chunk=(4, 4, 4)
    )
    assert n == 30
    np.testing.assert_array_equal(out, volume[[1, 3, 4], :5, :6])


def test_render_tile__scales_sixteen_bits():
    volume, points, normals, valid = make_case(11, dtype=np.uint16)
    rows, cols = np.linspace(0, valid.shape[0] - 1, 9), np.linspace(0, valid.shape[1] - 1, 9)
    out, _ = render(
        volume, points, normals, valid, rows, cols, [0.0], chunk=(8, 8, 8), gain=1 / 257
    )
    expected, _ = naive.render(volume, points, normals, valid, rows, cols, [0.0], gain=1 / 257)
    assert expected.max() > 100
    assert np.abs(out - expected).max() <= 0.5 + 1e-6


def test_render_tile__outside_the_volume_is_zero_but_valid():
    volume, points, normals, valid = make_case(4)
    out, n = render(
        volume,
        points + np.float32(1e4),
        normals,
        valid,
        np.array([0.5]),
        np.array([0.5]),
        [0.0],
        chunk=(8, 8, 8),
    )
    assert n == 1
    assert (out == 0).all()


def test_render_tile__undefined_normals_are_invalid():
    volume, points, normals, valid = make_case(4)
    normals = normals.copy()
    normals[0, 0] = np.nan
    out, n = render(
        volume,
        points,
        normals,
        valid,
        np.array([0.5, valid.shape[0] + 3.0]),
        np.array([0.5]),
        [0.0],
        chunk=(8, 8, 8),
    )
    assert n == 0
    assert (out == 0).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0, 1]), st.integers(0, 3), st.integers(1, 7))
def test_mark_chunks__marks_exactly_what_samples_touch(seed, level, holes, layers):
    volume, points, normals, valid = make_case(seed, level=level, holes=holes, spread=60.0)
    rows = (np.arange(7) + 0.5) * (valid.shape[0] / 7)
    cols = (np.arange(9) + 0.5) * (valid.shape[1] / 9)
    offsets = 2.0 * (np.arange(layers) - (layers - 1) / 2)
    chunk = np.array([4, 3, 5])
    grid = -(-np.array(volume.shape) // chunk)
    touched = np.zeros(grid, dtype=bool)
    n = kernels.mark_chunks(
        points,
        normals,
        valid,
        rows,
        cols,
        offsets,
        (0.5**level, 0.5 * 0.5**level - 0.5),
        np.array(volume.shape),
        chunk,
        np.zeros(3, dtype=np.int64),
        touched,
    )
    where, ok = naive.sample_points(points, normals, valid, rows, cols, offsets, level)
    assert n == ok.sum()
    # A sample on a cell's boundary may fall to either side by rounding: those cells are apart.
    fraction = where[:, ok] - np.floor(where[:, ok])
    if ((fraction > 1e-6) & (fraction < 1 - 1e-6)).all():
        expected = naive.touched_chunks(np.array(volume.shape), chunk, where, ok)
        assert {tuple(int(i) for i in at) for at in np.argwhere(touched)} == expected


def test_mark_chunks__ignores_chunks_outside_the_box():
    volume, points, normals, valid = make_case(8)
    touched = np.zeros((1, 1, 1), dtype=bool)
    kernels.mark_chunks(
        points,
        normals,
        valid,
        np.array([0.5]),
        np.array([0.5]),
        np.zeros(1),
        (1.0, 0.0),
        np.array(volume.shape),
        np.array([4, 4, 4]),
        np.array([100, 100, 100]),
        touched,
    )
    assert not touched.any()


def test_mark_valid_pixels__agrees_with_render_tile():
    volume, points, normals, valid = make_case(21, holes=2)
    rows = (np.arange(15) + 0.5) * (valid.shape[0] / 15)
    cols = (np.arange(15) + 0.5) * (valid.shape[1] / 15)
    mask = np.empty((15, 15), dtype=np.uint8)
    kernels.mark_valid_pixels(normals, valid, rows, cols, mask)
    _, n = render(volume, points, normals, valid, rows, cols, [0.0], chunk=(8, 8, 8))
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask > 0).sum() == n


@pytest.mark.parametrize("cutoff", [0.5, 0.9, 1.0])
def test_composite_alpha__equals_loops(cutoff):
    rng = np.random.default_rng(9)
    layers = rng.integers(0, 256, (6, 5, 7)).astype(np.uint8)
    out = np.empty((6, 7), dtype=np.uint8)
    kernels.composite_alpha(layers, 20.0, 200.0, 0.6, cutoff, out)
    expected = naive.alpha_composite(layers.transpose(1, 0, 2), 20.0, 200.0, 0.6, cutoff)
    assert np.abs(out - expected).max() <= 0.5 + 1e-9


def test_composite_alpha__transparent_is_black():
    out = np.full((2, 2), 9, dtype=np.uint8)
    kernels.composite_alpha(np.full((2, 3, 2), 40, dtype=np.uint8), 40.0, 255.0, 1.0, 1.0, out)
    assert (out == 0).all()
