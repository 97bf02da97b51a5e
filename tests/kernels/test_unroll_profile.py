import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tracer.kernels.unroll_profile import sample_mask


def test_sample_mask__equals_map_coordinates_inside():
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (7, 8, 9)).astype(np.uint8)
    low = np.array([10, 20, 30])
    points = low + rng.uniform(0, 1, (50, 3)) * (np.array([9, 8, 7]) - 1.001)
    share = np.full(50, -1.0, np.float32)
    sample_mask(block, 170, low, points, np.arange(0, 50, 2), share)
    expected = map_coordinates(
        (block >= 170).astype(float), (points - low)[:, ::-1].T, order=1, mode="nearest"
    )
    assert share[::2] == pytest.approx(expected[::2], abs=1e-6)
    assert (share[1::2] == -1).all()


def test_sample_mask__outside_counts_as_background():
    block = np.full((2, 2, 2), 255, np.uint8)
    share = np.zeros(3, np.float32)
    points = np.array([[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [9.0, 9.0, 9.0]])
    sample_mask(block, 170, np.zeros(3, np.int64), points, np.arange(3), share)
    assert share.tolist() == [1.0, 0.5, 0.0]
