"""Features that two masks have in common: elimination on all cells as the oracle; simple bodies."""

import numpy as np
import pytest
from naive.homology import common_homology

from tracer.predict.topology import count_features, euler_characteristic, match_features


def _sheets(*positions, shape=(20, 20, 20), thickness=2):
    mask = np.zeros(shape, bool)
    for position in positions:
        mask[:, :, position : position + thickness] = True
    return mask


@pytest.mark.slow
def test_match_features__is_what_elimination_on_all_cells_says():
    rng = np.random.default_rng(7)
    common, partly = np.zeros(3, int), 0
    for case in range(64):
        shape = rng.integers(2, 6, 3) + (case % 4 == 3)
        density = (0.15, 0.35, 0.6, 0.9)[case % 4]
        a = rng.random(shape) < density
        b = a ^ (rng.random(shape) < 0.1) if case % 3 else rng.random(shape) < density
        of_a, of_b, of_union, matched = common_homology(a, b)
        assert match_features(a, b) == (of_a, of_b, matched)
        assert count_features(a | b) == of_union
        common += np.array(matched) > 0
        partly += any(0 < m < min(x, y) for m, x, y in zip(matched, of_a, of_b, strict=True))
    assert (common >= (60, 5, 2)).all()
    assert partly >= 5


def test_match_features__two_halves_of_a_ring_close_it_but_neither_has_it():
    ring = np.zeros((3, 9, 9), bool)
    ring[1, 1:8, 1:8] = True
    ring[1, 3:6, 3:6] = False
    left, right = ring.copy(), ring.copy()
    left[:, :, 5:] = False
    right[:, :, :4] = False
    assert match_features(left, right) == ((1, 0, 0), (1, 0, 0), (1, 0, 0))
    assert match_features(left, ring)[2] == (1, 0, 0)
    assert match_features(ring, ring)[2] == (1, 1, 0)


def test_match_features__a_tunnel_that_the_other_fills_is_not_in_common():
    # Both have a hole, at different places; the union has none. Counting per tile would match them.
    a, b = _sheets(5), _sheets(5)
    a[8:11, 8:11] = False
    b[2:4, 2:4] = False
    assert match_features(a, b) == ((1, 1, 0), (1, 1, 0), (1, 0, 0))


def test_match_features__the_same_handle_between_sheets():
    label = _sheets(5, 11)
    one, two = label.copy(), label.copy()
    one[4, 4, 5:13] = one[14, 14, 5:13] = True
    two[4, 5, 5:13] = two[14, 14, 5:13] = two[14, 4, 5:13] = True
    assert match_features(one, two) == ((1, 1, 0), (1, 2, 0), (1, 1, 0))
    assert match_features(one, label) == ((1, 1, 0), (2, 0, 0), (1, 0, 0))


def test_match_features__order_of_the_masks_does_not_matter():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 12, 11, 10)) < 0.4
    one, two = match_features(a, b), match_features(b, a)
    assert (one[0], one[1], one[2]) == (two[1], two[0], two[2])
    flipped = match_features(a[::-1, :, ::-1], b[::-1, :, ::-1])
    assert flipped == one


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
    assert match_features(mask, mask) == (betti, betti, betti)
    assert euler_characteristic(mask) == betti[0] - betti[1] + betti[2]


def test_match_features__far_features_do_not_match():
    a, b = np.zeros((2, 12, 12, 12), bool)
    a[1, 1, 1] = True
    b[9, 9, 9] = True
    assert match_features(a, b)[2] == (0, 0, 0)


def test_match_features__a_merge_costs_a_component():
    label = _sheets(5, 9)
    prediction = label.copy()
    prediction[10, 10, 7:9] = True
    assert match_features(prediction, label) == ((1, 0, 0), (2, 0, 0), (1, 0, 0))


def test_match_features__a_hole_is_matched_where_both_have_it():
    label = _sheets(5)
    label[8:11, 8:11] = False
    moved = _sheets(5)
    moved[2:4, 2:4] = False
    assert match_features(label, label)[2] == (1, 1, 0)
    assert match_features(_sheets(5), label) == ((1, 0, 0), (1, 1, 0), (1, 0, 0))
    assert match_features(moved, label)[:2] == ((1, 1, 0), (1, 1, 0))


def test_match_features__cavities_match_in_place_only():
    solid = np.zeros((12, 12, 12), bool)
    solid[1:11, 1:11, 1:11] = True
    a, b, both = solid.copy(), solid.copy(), solid.copy()
    a[3, 3, 3] = False
    b[8, 8, 8] = False
    both[3, 3, 3] = both[8, 8, 8] = False
    assert match_features(a, b) == ((1, 0, 1), (1, 0, 1), (1, 0, 0))
    assert match_features(both, a) == ((1, 0, 2), (1, 0, 1), (1, 0, 1))
