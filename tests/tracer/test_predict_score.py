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


@pytest.mark.parametrize(
    ("build", "betti"),
    [
        (lambda m: None, (0, 0, 0)),
        (lambda m: m.__setitem__((2, 2, 2), True), (1, 0, 0)),
        (lambda m: (m.__setitem__((2, 2, 2), True), m.__setitem__((3, 3, 3), True)), (1, 0, 0)),
        (lambda m: (m.__setitem__((1, 1, 1), True), m.__setitem__((5, 5, 5), True)), (2, 0, 0)),
        (
            lambda m: (m.__setitem__(np.s_[2, 1:6, 1:6], True), m.__setitem__((2, 3, 3), False)),
            (1, 1, 0),
        ),
        (
            lambda m: (m.__setitem__(np.s_[1:6, 1:6, 1:6], True), m.__setitem__((3, 3, 3), False)),
            (1, 0, 1),
        ),
    ],
)
def test_match_features__betti_numbers_of_simple_bodies(build, betti):
    mask = np.zeros((8, 8, 8), bool)
    build(mask)
    assert score.match_features(mask, mask) == (betti, betti, betti)
    assert score.euler_characteristic(mask) == betti[0] - betti[1] + betti[2]


def test_match_features__far_features_do_not_match():
    a, b = np.zeros((2, 12, 12, 12), bool)
    a[1, 1, 1] = True
    b[9, 9, 9] = True
    assert score.match_features(a, b)[2] == (0, 0, 0)


def test_match_features__a_merge_costs_a_component():
    label = _sheets(5, 9)
    prediction = label.copy()
    prediction[10, 10, 7:9] = True
    assert score.match_features(prediction, label) == ((1, 0, 0), (2, 0, 0), (1, 0, 0))


def test_match_features__a_hole_is_matched_where_both_have_it():
    label = _sheets(5)
    label[8:11, 8:11] = False
    moved = _sheets(5)
    moved[2:4, 2:4] = False
    assert score.match_features(label, label)[2] == (1, 1, 0)
    assert score.match_features(_sheets(5), label) == ((1, 0, 0), (1, 1, 0), (1, 0, 0))
    assert score.match_features(moved, label)[:2] == ((1, 1, 0), (1, 1, 0))


def test_match_features__cavities_match_in_place_only():
    solid = np.zeros((12, 12, 12), bool)
    solid[1:11, 1:11, 1:11] = True
    a, b, both = solid.copy(), solid.copy(), solid.copy()
    a[3, 3, 3] = False
    b[8, 8, 8] = False
    both[3, 3, 3] = both[8, 8, 8] = False
    assert score.match_features(a, b) == ((1, 0, 1), (1, 0, 1), (1, 0, 0))
    assert score.match_features(both, a) == ((1, 0, 2), (1, 0, 1), (1, 0, 1))
