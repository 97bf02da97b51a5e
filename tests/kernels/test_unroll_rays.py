import numpy as np
import pytest
from naive.unroll import bilinear
from naive.unroll import cross_quad as naive_cross
from unroll_cases import PITCH, patch

from tracer.kernels.unroll_rays import cross_quad
from tracer.unroll.overlaps import QuadCells, cast_to_next
from tracer.unroll.patches import Patches


@pytest.mark.parametrize("seed", range(8))
def test_cross_quad__equals_root_finding(seed):
    rng = np.random.default_rng(seed)
    flat = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]], float)
    corners = (flat + rng.normal(0, 1, (4, 3))).astype(np.float32)
    target = bilinear(corners.astype(float), *rng.uniform(0.1, 0.9, 2))
    direction = np.array([0.2, -0.3, 1.0]) + rng.normal(0, 0.1, 3)
    direction /= np.linalg.norm(direction)
    origin = target - 12.0 * direction
    found = cross_quad(corners, 0, 1, 2, 3, tuple(origin), tuple(direction))
    assert found == pytest.approx(naive_cross(corners.astype(float), origin, direction), abs=1e-4)
    assert found[2] == pytest.approx(12.0, abs=1e-4)


def test_cross_quad__parallel_line_gives_nan():
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    assert np.isnan(cross_quad(corners, 0, 1, 2, 3, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))).all()


def test_cast_to_next__sees_the_next_wrap_one_gap_away():
    patches = Patches.from_surfaces(
        [patch(14.0 + 2 * np.pi * k, 80.0, rows=16, cols=20, seed=k) for k in range(3)]
    )
    cells = QuadCells.build(patches, 2.0)
    inner = patches.points_xyz[patches.grid[:, 0] == 0]
    inner = inner[np.linalg.norm(inner - inner.mean(axis=0), axis=1) < 40]
    outward = inner - np.array([150, 150, 0], np.float32)
    outward[:, 2] = 0
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    quad, distance = cast_to_next(patches, cells, inner, outward, nearest=4.0, farthest=60.0)
    assert len(inner) > 20
    assert (patches.grid[patches.quads[quad, 0], 0] == 1).all()
    assert np.abs(distance - PITCH).max() < 2.0


def test_cast_to_next__says_when_there_is_nothing():
    patches = Patches.from_surfaces([patch(14.0, 80.0)])
    cells = QuadCells.build(patches, 2.0)
    away = np.array([[1.0, 0.0, 0.0]], np.float32)
    quad, _ = cast_to_next(
        patches, cells, np.array([[500, 500, 500]], np.float32), away, nearest=4.0, farthest=60.0
    )
    assert quad.tolist() == [-1]
