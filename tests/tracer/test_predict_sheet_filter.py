"""The sheet filter on blocks: seamless, and right on sheets with known places."""

import itertools

import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.predict.blocks import iterate_blocks, read_with_halo
from tracer.predict.orientation import Outward
from tracer.predict.params import PredictParams
from tracer.predict.sheet_filter import FilterReach, filter_block, gaussian_weights

SMALL = {"sigma": 1.0, "scales": 2, "normal_sigma": 2.0, "disc_radius": 2.0}


def _filter(array, params, edge, contrast=20.0, outward=None):
    """Return the prediction of a whole array, made block by block."""
    out = np.empty(array.shape, np.uint8)
    halo = FilterReach.of(params).halo
    for block in iterate_blocks(array.shape, edge):
        grey = read_with_halo(ArrayVolume(array), block, halo)
        part = filter_block(grey, params, contrast, start_zyx=block.start_zyx, outward=outward)
        z, y, x = block.shape_zyx
        box = tuple(slice(a, b) for a, b in zip(block.start_zyx, block.stop_zyx, strict=True))
        out[box] = part[:z, :y, :x]
    return out


def _spiral(size=72, depth=12, pitch=12.0, thickness=4.0, seed=0):
    """Return the CT of an Archimedean spiral and the distance to its mid-line, in wraps."""
    _, y, x = np.meshgrid(np.arange(depth), np.arange(size), np.arange(size), indexing="ij")
    centre = size / 2 - 0.5
    radius = np.hypot(y - centre, x - centre)
    turns = radius / pitch - np.arctan2(y - centre, x - centre) / (2 * np.pi)
    away = (turns - np.round(turns)) * pitch
    sheet = 1 / (1 + np.exp((np.abs(away) - thickness / 2) / 0.4))
    rng = np.random.default_rng(seed)
    grey = 60 + 100 * sheet + rng.normal(0, 15, sheet.shape)
    return np.clip(grey, 1, 255).astype(np.uint8), away, radius


def test_gaussian_weights__are_symmetric_and_sum_to_one():
    weights = gaussian_weights(1.7)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.sum() == pytest.approx(1.0)
    assert len(weights) == 2 * 6 + 1


@pytest.mark.parametrize("face", ["mid-line", "recto"])
@pytest.mark.parametrize("output", ["binary", "probability"])
def test_filter_block__blocks_give_the_bits_of_the_whole(face, output):
    rng = np.random.default_rng(2)
    array = rng.integers(1, 255, (23, 26, 30)).astype(np.uint8)
    array[5:9, 5:9, 5:9] = 0
    params = PredictParams(**SMALL, face=face, output=output, threshold=0.05, axis_x=8, axis_y=9)
    outward = Outward.straight(8, 9)
    whole = _filter(array, params, 64, outward=outward)
    assert 0.02 < (whole > 0).mean() < 0.98
    for edge in (8, 14):
        np.testing.assert_array_equal(_filter(array, params, edge, outward=outward), whole)


def test_filter_block__follows_a_spiral_on_its_mid_line():
    grey, away, radius = _spiral()
    out = _filter(grey, PredictParams(sigma=1.5, scales=1, half_width=1.0), 72) > 0
    judged = (radius > 15) & (radius < 33)
    assert np.abs(away[out & judged]).max() < 3.0
    assert np.percentile(np.abs(away[out & judged]), 95) < 1.8
    on_sheet = judged & (np.abs(away) < 0.5)
    assert out[on_sheet].mean() > 0.98


def test_filter_block__recto_is_the_inner_and_verso_the_outer_side():
    grey, away, radius = _spiral()
    judged = (radius > 15) & (radius < 33)
    # A disc shifts a ridge towards the axis by about radius² / (8 curvature radius): keep it small.
    options = {"sigma": 1.2, "scales": 1, "half_width": 1.0, "disc_radius": 1.5}
    options |= {"axis_x": 35.5, "axis_y": 35.5}
    cases = (("recto", 0.0, -2.2), ("verso", 0.0, 2.2), ("recto", None, -0.9), ("verso", 1.0, 1.2))
    for face, inset, place in cases:
        params = PredictParams(**options, face=face, inset=inset)
        out = _filter(grey, params, 72, outward=Outward.straight(35.5, 35.5)) > 0
        assert np.median(away[out & judged]) == pytest.approx(place, abs=0.3)
        assert out[judged & (np.abs(away - place) < 0.5)].mean() > 0.93


def test_filter_block__dark_polarity_is_bright_of_the_negative():
    grey, _, _ = _spiral(48, 6)
    params = PredictParams(**SMALL)
    dark = _filter(255 - grey, params.model_copy(update={"polarity": "dark"}), 64)
    np.testing.assert_array_equal(dark > 0, _filter(grey, params, 64) > 0)


def test_filter_block__probability_is_above_a_half_exactly_where_binary_is_set():
    grey, _, _ = _spiral(48, 6)
    binary = _filter(grey, PredictParams(**SMALL), 64)
    share = _filter(grey, PredictParams(**SMALL, output="probability"), 64)
    assert set(np.unique(binary)) == {0, 255}
    np.testing.assert_array_equal(share >= 128, binary == 255)
    np.testing.assert_array_equal(share > 0, binary == 255)


def test_filter_block__nothing_in_flat_or_masked_ct():
    params = PredictParams(**SMALL)
    assert not _filter(np.full((16, 16, 16), 90, np.uint8), params, 16).any()
    assert not _filter(np.zeros((16, 16, 16), np.uint8), params, 16).any()
    grey, _, _ = _spiral(48, 6)
    grey[:, :, :24] = 0
    assert not _filter(grey, params, 64)[:, :, :24].any()


def test_filter_reach__is_enough_and_even():
    for sigma, normal_sigma, disc, width in itertools.product(
        (0.7, 2.0, 5.0), (1.0, 4.0, 9.0), (0.0, 3.5), (0.5, 3.0)
    ):
        reach = FilterReach.of(
            PredictParams(
                sigma=sigma, normal_sigma=normal_sigma, disc_radius=disc, half_width=width
            )
        )
        assert reach.halo % 2 == reach.ridge % 2 == reach.disc % 2 == 0
        assert reach.ridge >= width + 2
        assert reach.disc == 0 or reach.disc >= disc + 1


@pytest.mark.parametrize("face", ["mid-line", "recto"])
def test_filter_block__nothing_beyond_the_largest_radius(face):
    grey, _, _ = _spiral()
    outward = Outward(
        axis_zyx=np.array([[0.0, 35.5, 33.5], [11.0, 35.5, 37.5]]), direction_zyx=np.zeros(3)
    )
    params = PredictParams(**SMALL, face=face, max_radius=24.0)
    everything = params.model_copy(update={"max_radius": 0.0})
    centre = np.linspace(33.5, 37.5, 12)[:, None, None]
    y, x = np.meshgrid(np.arange(72), np.arange(72), indexing="ij")
    near = np.hypot(y - 35.5, x - centre) < 24.0
    whole = _filter(grey, everything, 72, outward=outward)
    assert whole[~near].any()
    for edge in (14, 72):
        out = _filter(grey, params, edge, outward=outward)
        np.testing.assert_array_equal(out, np.where(near, whole, 0))
