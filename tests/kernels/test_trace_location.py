import math

import numpy as np
import pytest
from naive import trace as naive
from scipy import ndimage

from tracer.kernels.trace_location import (
    fit_location,
    location_cost,
    patch_normal,
    patch_slopes,
    predict_location,
    sample_patch,
    solve_location,
)

TARGET = 2.0
ROWS, COLS = 7, 8


def grid(seed=0, hole=None):
    """Return a bent patch behind another one's five vertices: (vertices, first vertex)."""
    rng = np.random.default_rng([seed])
    row, col = np.mgrid[:ROWS, :COLS].astype(float)
    points = np.stack([20 * col + row, 5 * np.sin(row + col / 2), 300 - 20 * row], axis=-1)
    points += rng.normal(0, 0.5, points.shape)
    if hole:
        points[hole] = np.nan
    vertices = np.concatenate([np.zeros((5, 3)), points.reshape(-1, 3)]).astype(np.float32)
    return vertices, 5


def neighbourhood(seed, share=0.6, turn=0.4, noise=0.1, hand=1.0):
    """Return locations of the nodes around one at (3, 4), as arrays and as a dictionary."""
    rng = np.random.default_rng([seed])
    known = rng.random(25) < share
    known[12] = False
    rotation = TARGET * np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    offsets = np.array([(r, hand * c) for r, c in naive.OFFSETS], float)
    locations = np.array([3.0, 4.0]) + offsets @ rotation.T + rng.normal(0, noise, (25, 2))
    locations[~known] = np.nan  # must not be looked at
    around = {naive.OFFSETS[i]: locations[i] for i in np.flatnonzero(known)}
    return locations, known, around


@pytest.mark.parametrize("seed", range(5))
def test_sample_patch__is_bilinear(seed):
    vertices, first = grid(seed)
    points = vertices[first:].reshape(ROWS, COLS, 3).astype(float)
    rng = np.random.default_rng([seed])
    for row, col in [*rng.uniform(0, (ROWS - 1, COLS - 1), (20, 2)), (ROWS - 1, COLS - 1), (0, 0)]:
        x, y, z, ok = sample_patch(vertices, first, ROWS, COLS, row, col)
        assert ok
        expected = [
            ndimage.map_coordinates(points[..., k], [[row], [col]], order=1)[0] for k in range(3)
        ]
        assert np.allclose((x, y, z), expected, atol=1e-9)


def test_sample_patch__says_where_there_is_nothing():
    vertices, first = grid(hole=(2, 3))
    for row, col in ((-0.01, 1), (1, -0.01), (6.01, 1), (1, 7.01), (1.5, 2.5), (np.nan, 1)):
        assert sample_patch(vertices, first, ROWS, COLS, row, col) == (0.0, 0.0, 0.0, False)
        assert not patch_slopes(vertices, first, ROWS, COLS, row, col)[6]
        assert not patch_normal(vertices, first, ROWS, COLS, row, col)[3]
    assert not sample_patch(vertices, first, 1, COLS, 0.0, 1.0)[3]
    assert not patch_slopes(vertices, first, 1, COLS, 0.0, 1.0)[6]


def test_patch_slopes__are_the_derivatives():
    vertices, first = grid()
    at, h = (2.3, 4.6), 0.1  # within one cell, where the surface is bilinear
    *slopes, ok = patch_slopes(vertices, first, ROWS, COLS, *at)
    assert ok
    expected = []
    for step in ((h, 0.0), (0.0, h)):
        ends = [
            np.array(
                sample_patch(vertices, first, ROWS, COLS, at[0] + s * step[0], at[1] + s * step[1])[
                    :3
                ]
            )
            for s in (1, -1)
        ]
        expected += list((ends[0] - ends[1]) / (2 * h))
    assert np.allclose(slopes, expected, atol=1e-3)
    normal = np.array(patch_normal(vertices, first, ROWS, COLS, *at)[:3])
    across = np.cross(expected[3:], expected[:3])
    assert np.allclose(normal, across / np.linalg.norm(across), atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_location_cost__is_that_of_the_oracle(seed):
    locations, known, around = neighbourhood(seed)
    distances, bends = naive.residuals(around, (3.2, 3.9), TARGET, 1.0, 0.7)
    cost, n, n_straight = location_cost(locations, known, 3.2, 3.9, TARGET, 1.0, 0.7)
    every = np.array([*distances, *bends])
    assert (n, n_straight) == (len(every), len(bends))
    assert n >= 3
    assert cost == pytest.approx(math.sqrt((every**2).mean()), rel=1e-9)


def test_location_cost__is_zero_at_rest_and_infinite_alone():
    locations, known, _ = neighbourhood(0, share=1.0, noise=0.0)
    cost, n, n_straight = location_cost(locations, known, 3.0, 4.0, TARGET, 1.0, 0.7)
    assert (n, n_straight) == (14, 6)
    assert cost == pytest.approx(0.0, abs=1e-9)
    nothing = np.zeros(25, bool)
    assert location_cost(locations, nothing, 3.0, 4.0, TARGET, 1.0, 0.7) == (math.inf, 0, 0)
    twice = locations.copy()
    twice[11] = (3.0, 4.0)  # a neighbour at the node's own place
    assert location_cost(twice, known, 3.0, 4.0, TARGET, 1.0, 0.7)[0] > 1.0


@pytest.mark.parametrize("hand", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(6))
def test_fit_location__is_the_best_rotation(seed, hand):
    locations, known, around = neighbourhood(seed, turn=2.0 * seed, hand=hand)
    row, col, misfit, n = fit_location(locations, known, TARGET, hand)
    place, expected = naive.best_rotation(around, TARGET, hand)
    assert n == len(around)
    assert np.allclose((row, col), place, atol=1e-9)
    assert misfit == pytest.approx(expected, abs=1e-9)
    assert predict_location(locations, known, TARGET, hand) == (row, col, True)


def test_fit_location__needs_two_places():
    locations, known, _ = neighbourhood(0, share=1.0)
    few = np.zeros(25, bool)
    few[7] = True
    assert fit_location(locations, few, TARGET, 1.0) == (0.0, 0.0, 0.0, 0)
    same = np.ones((25, 2))
    assert fit_location(same, known, TARGET, 1.0)[3] == 0
    assert not predict_location(same, known, TARGET, 1.0)[2]


@pytest.mark.parametrize("seed", range(4))
def test_solve_location__finds_the_least_cost(seed):
    vertices, first = grid(seed)
    locations, known, around = neighbourhood(seed, noise=0.05)
    z_target, z_weight = 241.0, 0.1

    def height(row, col):
        return z_weight * (sample_patch(vertices, first, ROWS, COLS, row, col)[2] - z_target)

    found = solve_location(
        vertices,
        first,
        ROWS,
        COLS,
        locations,
        known,
        3.1,
        4.1,
        z_target,
        TARGET,
        1.0,
        0.7,
        z_weight,
    )
    expected = naive.best_location(around, (3.1, 4.1), TARGET, (1.0, 0.7), height)
    assert np.allclose(found, expected, atol=5e-3)


def test_solve_location__stays_finite_without_anything():
    vertices, first = grid()
    nothing = np.zeros(25, bool)
    found = solve_location(
        vertices,
        first,
        ROWS,
        COLS,
        np.full((25, 2), np.nan),
        nothing,
        -5.0,
        4.0,
        200.0,
        TARGET,
        1.0,
        0.7,
        0.1,
    )
    assert found == (-5.0, 4.0)
