import dataclasses
import math

import numpy as np
import pytest

from tracer.unroll.confirm import (
    CONFIRMED,
    UNSEEN,
    WRONG,
    Witness,
    drop_unconfirmed,
    proven_reach,
)
from tracer.unroll.inpaint import DATA, FILLED
from tracer.unroll.sheet import Sheet

STEP, PITCH, ROWS = 10.0, 14.0, 30


def wound(turns=3.0, first=4.0):
    """Return a sheet on a spiral, all nodes known; winding grows outward and along the columns."""
    theta, at = [], 2 * np.pi * first
    while at < 2 * np.pi * (first + turns):
        theta.append(at)
        at += STEP / (PITCH * at / (2 * np.pi))
    theta = np.array(theta)
    radius = PITCH * theta / (2 * np.pi)
    points = np.empty((ROWS, len(theta), 3))
    points[..., 0], points[..., 1] = radius * np.cos(theta) + 300, radius * np.sin(theta) + 300
    points[..., 2] = STEP * np.arange(1, ROWS + 1)[:, None]
    shape = points.shape[:2]
    return Sheet(
        points_xyz=points,
        winding=np.broadcast_to(theta / (2 * np.pi), shape).copy(),
        confidence=np.ones(shape, np.float32),
        agreeing=np.ones(shape, np.float32),
        origin_uv=(0.0, 0.0),
        step=STEP,
        outliers=np.zeros(0, np.int64),
        samples=np.zeros(0, np.int64),
    )


def pushed(sheet, where, voxels):
    """Return the sheet with some nodes pushed outward."""
    points = sheet.points_xyz.copy()
    out = points[..., :2] - 300.0
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    points[where, :2] += voxels * out[where]
    return dataclasses.replace(sheet, points_xyz=points)


def middle_column(sheet):
    return sheet.points_xyz.shape[1] // 2


@pytest.fixture(scope="module")
def sheet():
    return wound()


@pytest.mark.parametrize("flip", [False, True])
def test_witness__measures_the_gap_and_which_side_is_outward(sheet, flip):
    if flip:
        sheet = dataclasses.replace(
            sheet, points_xyz=sheet.points_xyz[::-1], winding=sheet.winding[::-1]
        )
    witness = Witness.of(sheet, sheet.valid)
    assert np.nanmedian(witness.gap) == pytest.approx(PITCH, abs=0.5)
    outward = np.einsum(
        "ij,ij->i", witness.normals[:, :2], sheet.points_xyz[sheet.valid][:, :2] - 300
    )
    assert (np.sign(outward) == witness.outward).all()


def test_witness__is_none_for_a_single_turn():
    sheet = wound(turns=0.8)
    assert Witness.of(sheet, sheet.valid) is None


@pytest.mark.parametrize(
    ("voxels", "expected"), [(0.0, CONFIRMED), (2.0, CONFIRMED), (PITCH, WRONG), (-PITCH, WRONG)]
)
def test_judge__tells_the_right_wrap_from_the_next(sheet, voxels, expected):
    state = np.full(sheet.valid.shape, DATA, np.uint8)
    at = middle_column(sheet)
    state[10:16, at : at + 6] = FILLED
    witness = Witness.of(sheet, state == DATA)
    asked = np.zeros(state.shape, bool)
    asked[12:14, at + 2 : at + 4] = True
    verdict = witness.judge(pushed(sheet, state == FILLED, voxels), state, asked)
    assert (verdict[asked] == expected).all()
    assert (verdict[~asked] == UNSEEN).all()


def test_drop_unconfirmed__keeps_data_and_what_hangs_on_it(sheet):
    state = np.full(sheet.valid.shape, DATA, np.uint8)
    at = middle_column(sheet)
    state[:, at : at + 12] = FILLED
    bad = np.zeros(state.shape, bool)
    bad[:, at + 3] = bad[:, at + 9] = True
    crooked = pushed(sheet, bad, PITCH)
    kept, left = drop_unconfirmed(crooked, state, Witness.of(sheet, state == DATA))
    assert (left[state == DATA] == DATA).all()
    assert (left[:, at + 3] == 0).all()
    assert (left[:, at + 6] == 0).all()  # right, but nothing leads there
    assert (left[5:-5, at] == FILLED).all()
    assert np.array_equal(kept.valid, left > 0)
    assert np.array_equal(np.isfinite(kept.winding), left > 0)


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_drop_unconfirmed__without_witness_keeps_what_is_enclosed_or_in_reach(reach):
    sheet = wound(turns=0.8)
    state = np.full(sheet.valid.shape, DATA, np.uint8)
    state[10:13, 10:13] = FILLED
    state[:, -3:] = FILLED
    _, left = drop_unconfirmed(sheet, state, None, reach)
    assert (left[10:13, 10:13] == FILLED).all()
    assert (left[:, -3:] > 0).any(axis=0).tolist() == [reach > 0, reach > 1, False]


def test_proven_reach__follows_the_errors_of_the_guess(sheet):
    is_data = sheet.valid
    witness = Witness.of(sheet, is_data)
    rows, cols = np.indices(is_data.shape)
    rim = np.minimum(
        np.minimum(rows, rows[::-1]), np.minimum(cols, cols[:, ::-1])
    )  # nodes from the rim

    def guess(wrong_within):
        return lambda part: pushed(sheet, ~part.valid & (rim < wrong_within), PITCH)

    assert proven_reach(sheet, is_data, witness, guess(0)) == math.inf
    assert proven_reach(sheet, is_data, witness, guess(99)) == 0
    assert 0 < proven_reach(sheet, is_data, witness, guess(2)) < 6


def test_proven_reach__is_nothing_where_there_is_little_data():
    sheet = wound(turns=0.2)
    few = np.zeros(sheet.valid.shape, bool)
    few[10:16, 5:12] = True
    assert proven_reach(sheet, few, None, lambda part: sheet) == 0
