"""Exact distances below a cap."""

import numpy as np
import pytest
from naive import distance_transform as naive

from tracer.kernels.distance_transform import (
    _encode,
    pack_mask,
    signed_codes,
    squared_distances,
    squared_limit,
    window_dtype,
    window_radius,
)


def _packed(mask):
    out = np.full((-(-mask.shape[0] // 8), *mask.shape[1:]), 255, np.uint8)
    pack_mask(mask.astype(np.uint8), 1, out)
    return out


def _squares(mask, is_foreground, border, limit, low=(0, 0, 0), high=None, dtype=np.uint8):
    """Return the squared distances of the inner part of a block."""
    work, out = (np.full(n, np.iinfo(dtype).max, dtype) for n in ((2, mask.size), mask.size))
    low, high = np.array(low, np.int64), np.array(high or mask.shape, np.int64)
    squared_distances(_packed(mask), is_foreground, low, high, border, limit, work, out)
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


@pytest.mark.parametrize("cap", [1.0, 3.9, 4.0, 7.9, 8.0, 11.0, 22.5, 23.0])
def test_window_radius__covers_every_square_below_the_limit_of_a_cap(cap):
    limit = squared_limit(cap)
    assert np.sqrt(limit) - 0.5 >= cap > np.sqrt(limit - 1) - 0.5
    assert window_radius(limit) ** 2 < limit <= (window_radius(limit) + 1) ** 2


@pytest.mark.parametrize("limit", [1, 2, 7, 9, 16, 21])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("is_foreground", [True, False])
def test_squared_distances__equal_scipy_below_the_limit(limit, fraction, is_foreground):
    border = 4
    mask = _mask((15, 13, 18), fraction, limit)
    side = mask if is_foreground else ~mask
    got = _squares(mask, is_foreground, border, limit)
    np.testing.assert_array_equal(got, _inner(naive.squared_distances(side, limit), border))


@pytest.mark.parametrize(
    ("radius", "dtype"),
    [(11, np.uint8), (12, np.uint16), pytest.param(23, np.uint16, marks=pytest.mark.slow)],
)
def test_squared_distances__are_exact_up_to_the_largest_window(radius, dtype):
    limit = squared_limit(radius)
    assert window_dtype(radius) is dtype
    assert window_radius(limit) == radius
    mask = np.zeros((2 * radius + 3, 2 * radius + 1, 2 * radius + 1), bool)
    mask[0, radius, radius] = mask[-1, -1, -1] = True
    got = _squares(mask, True, radius, limit, dtype=dtype)
    np.testing.assert_array_equal(got, _inner(naive.squared_distances(mask, limit), radius))
    np.testing.assert_array_equal(got[:2, 0, 0], [radius**2, limit])


def test_squared_distances__are_the_same_for_both_integer_types():
    mask = _mask((14, 14, 14), 0.02, 5)
    narrow = _squares(mask, True, 3, 16, dtype=np.uint8)
    np.testing.assert_array_equal(narrow, _squares(mask, True, 3, 16, dtype=np.uint16))


def test_squared_distances__measure_to_nothing_outside_the_box():
    mask = _mask((14, 12, 13), 0.9, 6)
    low, high = (4, 2, 5), (14, 9, 11)
    known = np.zeros_like(mask)
    known[4:14, 2:9, 5:11] = True
    for is_foreground in (True, False):
        side = (mask == is_foreground) & known
        got = _squares(mask, is_foreground, 3, 16, low, high)
        np.testing.assert_array_equal(got, _inner(naive.squared_distances(side, 16), 3))


@pytest.mark.parametrize("value", [False, True])
def test_squared_distances__of_a_uniform_block_are_zero_or_the_limit(value):
    mask = np.full((8, 8, 8), value)
    assert (_squares(mask, value, 2, 9) == 0).all()
    assert (_squares(mask, not value, 2, 9) == 9).all()


def _signed(mask, border, cap, deepest, dtype=np.uint8):
    """Return the codes of the inner part of a block."""
    work = np.empty((3, mask.size), dtype)
    out = np.empty(_inner(mask, border).shape, np.uint8)
    low, high = np.zeros(3, np.int64), np.array(mask.shape, np.int64)
    signed_codes(_packed(mask), low, high, border, cap, deepest, work, out)
    return out


@pytest.mark.parametrize(("cap", "deepest"), [(3.0, 3.0), (2.625, 1.0), (1.0, 3.25)])
def test_signed_codes__equal_the_signed_distance_by_scipy(cap, deepest):
    mask = _mask((13, 14, 15), 0.3, 8)
    signed = naive.signed_distances(mask, cap, deepest)
    np.testing.assert_array_equal(
        _signed(mask, 3, cap, deepest), _inner(np.round(8 * signed) + 64, 3)
    )


def test_signed_codes__of_a_flat_sheet_are_analytic():
    mask = np.zeros((16, 5, 5), bool)
    mask[6:9] = True
    profile = (_signed(mask, 2, 1.75, 1.75)[:, 0, 0].astype(float) - 64) / 8
    np.testing.assert_array_equal(profile[2:9], [1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5])


def test_encode__rounds_every_square_as_double_precision_does():
    squares = np.arange(1, 600)
    signed = np.sqrt(squares) - 0.5
    for dtype in (np.uint16, np.uint8):
        ours = squares[squares <= np.iinfo(dtype).max].astype(dtype)
        out, none = np.empty(ours.size, np.uint8), np.zeros(ours.size, dtype)
        _encode(ours, none, 23.0, 7.9, out)
        expected = np.round(8 * np.minimum(signed[: ours.size], 23)) + 64
        np.testing.assert_array_equal(out, expected)
        _encode(none, ours, 23.0, 7.9, out)
        expected = 64 - np.round(8 * np.minimum(signed[: ours.size], 7.9))
        np.testing.assert_array_equal(out, expected)
