"""Scores of predictions: hand-made masks with known answers."""

import numpy as np
import pytest

from tracer.errors import TracerWarning, VolumeError
from tracer.predict import score


def _sheets(*positions, shape=(20, 20, 20), thickness=2):
    mask = np.zeros(shape, bool)
    for position in positions:
        mask[:, :, position : position + thickness] = True
    return mask


def test_score_masks__a_mask_against_itself_is_perfect():
    mask = np.random.default_rng(1).random((24, 24, 24)) > 0.7
    out = score.score_masks(mask * 255, mask.astype(np.uint8))
    assert (out.dice, out.surface_dice, out.voi_score, out.topology_score) == (1, 1, 1, 1)
    assert out.combined == pytest.approx(1.0, abs=1e-15)


def test_score_masks__nothing_against_nothing_is_perfect():
    empty = np.zeros((8, 8, 8), np.uint8)
    assert score.score_masks(empty, empty).combined == pytest.approx(1.0)


def test_score_masks__nothing_against_a_sheet():
    out = score.score_masks(np.zeros((20, 20, 20), np.uint8), _sheets(5).astype(np.uint8))
    assert (out.dice, out.surface_dice, out.topology_score) == (0.0, 0.0, 0.0)
    assert (out.voi_split, out.voi_merge) == (0.0, 0.0)  # one component against one background


def test_score_masks__ignored_voxels_count_for_nothing():
    label = _sheets(5).astype(np.uint8)
    prediction = _sheets(5, 12) * 255
    label[:, :, 10:] = 2
    out = score.score_masks(prediction, label, ignore_label=2)
    assert out.combined == pytest.approx(1.0)
    with pytest.warns(TracerWarning, match="ignore_label 2"):
        assert score.score_masks(prediction, label).dice < 0.8


def test_score_masks__shapes_must_agree():
    with pytest.raises(VolumeError, match="differ in shape"):
        score.score_masks(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))


def test_score_masks__shifted_sheet_within_the_tolerance():
    out = score.score_masks(_sheets(7) * 255, _sheets(5).astype(np.uint8))
    assert (out.dice, out.surface_dice) == (0.0, 1.0)
    out = score.score_masks(_sheets(10) * 255, _sheets(5).astype(np.uint8))
    assert out.surface_dice == 0.0


def test_variation_of_information__one_merge_of_two_equal_sheets_is_one_bit():
    label = np.zeros((4, 4, 4), np.int32)
    label[:, :, 0], label[:, :, 2] = 1, 2
    prediction = (label > 0).astype(np.int32)
    assert score.variation_of_information(prediction, label) == pytest.approx((0.0, 1.0))
    assert score.variation_of_information(label, prediction) == pytest.approx((1.0, 0.0))
