"""Mending a prediction block by block."""

import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.predict.blocks import iterate_blocks, read_with_halo
from tracer.predict.clean import CleanParams, CleanReach, clean_block

SMALL = {"normal_sigma": 2.0, "hole_radius": 4}


def _clean(prediction, params, edge=64, support=None):
    out = np.empty(prediction.shape, np.uint8)
    halo = CleanReach.of(params).halo
    for block in iterate_blocks(prediction.shape, edge):
        part = clean_block(
            read_with_halo(ArrayVolume(prediction), block, halo),
            params,
            support=None
            if support is None
            else read_with_halo(ArrayVolume(support), block, halo) != 0,
        )
        z, y, x = block.shape_zyx
        box = tuple(slice(a, b) for a, b in zip(block.start_zyx, block.stop_zyx, strict=True))
        out[box] = part[:z, :y, :x]
    return out


def _wavy(holes=True, half=2.0):
    """Return two wavy sheets 9 voxels apart, with holes, and the distance to the nearer middle."""
    z, y, x = np.meshgrid(np.arange(30), np.arange(34), np.arange(36), indexing="ij")
    height = z - 10 - 1.5 * np.sin(y / 9) - 1.0 * np.cos(x / 8)
    away = np.minimum(np.abs(height), np.abs(height - 9))
    sheet = away <= half
    if holes:
        for cy, cx in ((7, 8), (7, 24), (17, 16), (26, 7), (26, 27)):
            sheet &= np.hypot(y - cy, x - cx) > 2.2
    return np.where(sheet, np.uint8(255), np.uint8(0)), away


@pytest.mark.parametrize("thin", [False, True])
def test_clean_block__blocks_give_the_bits_of_the_whole(thin):
    prediction, _ = _wavy()
    rng = np.random.default_rng(2)
    prediction[rng.random(prediction.shape) < 0.02] = 200
    support = (rng.random(prediction.shape) > 0.05).astype(np.uint8)
    params = CleanParams(**SMALL, thin=thin)
    whole = _clean(prediction, params, 64, support)
    assert (whole > 0).any()
    np.testing.assert_array_equal(_clean(prediction, params, 12, support), whole)


def test_clean_block__closes_holes_and_keeps_the_gap_between_sheets():
    holed, away = _wavy()
    solid, _ = _wavy(holes=False)
    out = _clean(holed, CleanParams(**SMALL))
    assert (holed[away < 1] == 0).mean() > 0.02
    assert out[away < 1].all()
    assert not out[(away > 3.0)].any()
    assert (out[solid > 0] > 0).mean() > 0.98


def test_clean_block__thinning_leaves_a_band_around_the_middle():
    prediction, away = _wavy(holes=False, half=3.0)
    params = CleanParams(**SMALL, thin=True, half_width=1.0)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    out = _clean(prediction, params)[inner] > 0
    assert out[away[inner] < 0.5].mean() > 0.99
    assert not out[away[inner] > 2.0].any()


def test_clean_block__nothing_without_ct():
    prediction, _ = _wavy()
    support = np.zeros(prediction.shape, np.uint8)
    support[:, :17] = 1
    out = _clean(prediction, CleanParams(**SMALL), support=support)
    assert not out[:, 17:].any()
    assert out[:, :17].any()


def test_clean_block__values_are_kept_and_weak_ones_dropped():
    prediction = np.full((12, 12, 12), 200, np.uint8)
    prediction[:, :, :6] = 100
    params = CleanParams(hole_radius=0)
    assert CleanReach.of(params).halo == 0
    out = _clean(prediction, params)
    assert (out[:, :, 6:] == 200).all()
    assert not out[:, :, :6].any()
