import numpy as np
import pytest
from naive import quad_distance as naive

from tracer.kernels._jit import kernel
from tracer.kernels.quad_distance import closest_on_quad, is_beyond


@kernel
def run(corners, point, tolerance):
    ax, ay, az = corners[0, 0] - point
    bx, by, bz = corners[0, 1] - corners[0, 0]
    cx, cy, cz = corners[1, 0] - corners[0, 0]
    dx, dy, dz = corners[1, 1] - corners[0, 1] - corners[1, 0] + corners[0, 0]
    beyond = is_beyond(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz, tolerance)
    f, u, v = closest_on_quad(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz)
    return np.sqrt(f), v, u, beyond


def random_quad(rng, noise, step=20.0):
    flat = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 0, 1], [1, 0, 1]]]) * step
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return (flat + rng.normal(0, noise * step, (2, 2, 3))) @ turn


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.15, 0.5, 2.0])
@pytest.mark.parametrize("reach", [2.0, 30.0])
def test_closest_on_quad__equals_dense_search(noise, reach):
    rng = np.random.default_rng([int(100 * noise), int(reach)])
    on_rim = 0
    for _ in range(60):
        corners = random_quad(rng, noise)
        point = corners.mean(axis=(0, 1)) + rng.uniform(-1, 1, 3) * (10 + reach)
        distance, row, col, _ = run(corners, point, 1.0)
        expected = naive.closest(corners, point)
        assert distance == pytest.approx(expected[0], abs=1e-6)
        assert 0 <= row <= 1
        assert 0 <= col <= 1
        on_rim += row in (0, 1) or col in (0, 1)
        back = np.linalg.norm(
            (1 - row) * ((1 - col) * corners[0, 0] + col * corners[0, 1])
            + row * ((1 - col) * corners[1, 0] + col * corners[1, 1])
            - point
        )
        assert back == pytest.approx(distance, abs=1e-9)
    assert 5 < on_rim <= 60


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_closest_on_quad__finds_points_of_the_quad(noise):
    rng = np.random.default_rng(int(10 * noise))
    for _ in range(100):
        corners = random_quad(rng, noise)
        v, u = rng.choice([0.0, 0.25, 0.7, 1.0], 2)
        point = (1 - v) * ((1 - u) * corners[0, 0] + u * corners[0, 1]) + v * (
            (1 - u) * corners[1, 0] + u * corners[1, 1]
        )
        distance, row, col, beyond = run(corners, point, 1e-6)
        assert distance < 1e-5 if noise == 1.0 else distance < 1e-10
        assert not beyond
        if noise == 0.0:
            assert (row, col) == pytest.approx((v, u), abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_is_beyond__never_rejects_what_is_near(noise):
    rng = np.random.default_rng(int(10 * noise) + 5)
    rejected = 0
    for _ in range(2000):
        corners = random_quad(rng, noise)
        point = corners.mean(axis=(0, 1)) + rng.uniform(-15, 15, 3)
        distance, _, _, beyond = run(corners, point, 2.0)
        assert not (beyond and distance <= 2.0)
        rejected += beyond
    assert rejected > 20


def test_is_beyond__keeps_a_quad_at_exactly_the_tolerance():
    corners = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 1, 0]]], float) * 20 / 3
    for height in (2.0, -2.0, 0.1, 1 / 3):
        assert not run(corners, np.array([3.0, 3.0, height]), abs(height))[3]
        assert run(corners, np.array([3.0, 3.0, height]), abs(height) * (1 - 1e-6))[3]


@pytest.mark.parametrize(
    "corners",
    [
        np.zeros((2, 2, 3)),
        np.array([[[0, 0, 0], [5, 0, 0]], [[0, 0, 0], [5, 0, 0]]], float),
        np.array([[[0, 0, 0], [5, 0, 0]], [[10, 0, 0], [5, 0, 0]]], float),
        np.array([[[0, 0, 0], [9, 0, 0]], [[0, 9, 0], [0, 0, 0]]], float),
    ],
    ids=["point", "line", "overlapping line", "folded"],
)
def test_closest_on_quad__survives_degenerate_quads(corners):
    rng = np.random.default_rng(3)
    for _ in range(30):
        point = rng.uniform(-10, 15, 3)
        distance, _, _, _ = run(corners, point, 1.0)
        assert distance == pytest.approx(naive.closest(corners, point)[0], abs=1e-5)
