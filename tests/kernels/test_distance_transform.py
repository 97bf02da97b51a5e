"""Exact distances below a cap."""

import numpy as np
import pytest
from naive import distance_transform as naive

from tracer.kernels.distance_transform import (
    pack_mask,
    signed_codes,
    squared_distances,
    window_dtype,
)


def _packed(mask):
    out = np.full((-(-mask.shape[0] // 8), *mask.shape[1:]), 255, np.uint8)
    pack_mask(mask.astype(np.uint8), 1, out)
    return out


def _squares(mask, is_foreground, border, radius, limit, low=(0, 0, 0), high=None, dtype=None):
    """Return the squared distances of the inner part of a block."""
    dtype = dtype or window_dtype(limit, radius)
    work, out = (np.full(mask.size, np.iinfo(dtype).max, dtype) for _ in range(2))
    low, high = np.array(low, np.int64), np.array(high or mask.shape, np.int64)
    squared_distances(_packed(mask), is_foreground, low, high, border, radius, limit, work, out)
    planes, rows, cols = mask.shape
    kept = out[: (planes - 2 * border) * (rows - 2 * border) * cols]
    kept = kept.reshape(planes - 2 * border, rows - 2 * border, cols)
    return kept[:, :, border : cols - border].astype(np.int64)


def _inner(array, border):
    return array[tuple(slice(border, n - border) for n in array.shape)]


def _mask(shape, fraction, seed):
    return np.random.default_rng(seed).random(shape) < fraction


@pytest.mark.parametrize("shape", [(16, 5, 7), (9, 3, 4), (1, 1, 1), (17, 2, 40)])
def test_pack_mask__equals_packbits_along_z(shape):
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    out = np.full((-(-shape[0] // 8), *shape[1:]), 255, np.uint8)
    assert pack_mask(values, 170, out) == (values >= 170).any()
    np.testing.assert_array_equal(out, np.packbits(values >= 170, axis=0))


def test_pack_mask__reports_an_empty_mask_and_takes_strided_input():
    values = np.full((8, 6, 8), 169, np.uint8)[:, ::2, ::2]
    values.flags.writeable = False
    out = np.full((1, 3, 4), 255, np.uint8)
    assert not pack_mask(values, 170, out)
    assert not out.any()


@pytest.mark.parametrize("radius", [1, 2, 3, 4])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("is_foreground", [True, False])
def test_squared_distances__equal_scipy_below_the_limit(radius, fraction, is_foreground):
    border, limit = 4, (radius + 1) ** 2
    mask = _mask((15, 13, 18), fraction, radius)
    side = mask if is_foreground else ~mask
    got = _squares(mask, is_foreground, border, radius, limit)
    np.testing.assert_array_equal(got, _inner(naive.squared_distances(side, limit), border))


@pytest.mark.parametrize(
    ("radius", "dtype"),
    [(11, np.uint8), (12, np.uint16), pytest.param(23, np.uint16, marks=pytest.mark.slow)],
)
def test_squared_distances__are_exact_up_to_the_largest_window(radius, dtype):
    limit = radius * radius + radius + 1
    assert window_dtype(limit, radius) is dtype
    mask = np.zeros((2 * radius + 3, 2 * radius + 1, 2 * radius + 1), bool)
    mask[0, radius, radius] = mask[-1, -1, -1] = True
    got = _squares(mask, True, radius, radius, limit)
    np.testing.assert_array_equal(got, _inner(naive.squared_distances(mask, limit), radius))
    np.testing.assert_array_equal(got[:2, 0, 0], [radius**2, limit])


def test_squared_distances__are_the_same_for_both_integer_types():
    mask = _mask((14, 14, 14), 0.02, 5)
    narrow = _squares(mask, True, 3, 3, 16, dtype=np.uint8)
    np.testing.assert_array_equal(narrow, _squares(mask, True, 3, 3, 16, dtype=np.uint16))


def test_squared_distances__measure_to_nothing_outside_the_box():
    mask = _mask((14, 12, 13), 0.9, 6)
    low, high = (4, 2, 5), (14, 9, 11)
    known = np.zeros_like(mask)
    known[4:14, 2:9, 5:11] = True
    for is_foreground in (True, False):
        side = (mask == is_foreground) & known
        got = _squares(mask, is_foreground, 3, 3, 16, low, high)
        np.testing.assert_array_equal(got, _inner(naive.squared_distances(side, 16), 3))


@pytest.mark.parametrize("value", [False, True])
def test_squared_distances__of_a_uniform_block_are_zero_or_the_limit(value):
    mask = np.full((8, 8, 8), value)
    assert (_squares(mask, value, 2, 2, 9) == 0).all()
    assert (_squares(mask, not value, 2, 2, 9) == 9).all()


def test_signed_codes__equal_the_signed_distance_by_scipy():
    cap, border = 3, 3
    mask = _mask((13, 14, 15), 0.3, 8)
    squares = np.arange(cap * cap + cap + 2)
    outside = np.minimum(np.round(8 * (np.sqrt(squares) - 0.5)), 8 * cap) + 64
    inside = 64 - np.minimum(np.round(8 * (np.sqrt(squares) - 0.5)), 8 * cap)
    work = np.empty((3, mask.size), np.uint8)
    out = np.empty(_inner(mask, border).shape, np.uint8)
    signed_codes(
        _packed(mask),
        np.zeros(3, np.int64),
        np.array(mask.shape, np.int64),
        border,
        (cap, cap),
        outside.astype(np.uint8),
        inside.astype(np.uint8),
        work,
        out,
    )
    signed = naive.signed_distances(mask, cap, deepest=cap)
    np.testing.assert_array_equal(out, _inner(np.round(8 * signed) + 64, border))


def test_signed_codes__of_a_flat_sheet_are_analytic():
    mask = np.zeros((16, 5, 5), bool)
    mask[6:9] = True
    table = np.round(8 * (np.sqrt(np.arange(14)) - 0.5))
    work, out = np.empty((3, mask.size), np.uint8), np.empty((12, 1, 1), np.uint8)
    signed_codes(
        _packed(mask),
        np.zeros(3, np.int64),
        np.array(mask.shape, np.int64),
        2,
        (2, 2),
        (64 + table[:6]).astype(np.uint8),
        (64 - table[:6]).astype(np.uint8),
        work,
        out,
    )
    profile = (out[:, 0, 0].astype(float) - 64) / 8
    np.testing.assert_allclose(profile[2:9], [1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5])
