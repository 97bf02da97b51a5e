"""What is outward: distances from an axis."""

import numpy as np

from tracer.predict.orientation import Outward


def test_least_radius__is_the_smallest_radius_of_the_box():
    rng = np.random.default_rng(1)
    axis = np.array([[0.0, 20.0, 30.0], [40.0, 28.0, 26.0]])
    outward = Outward(axis_zyx=axis, direction_zyx=np.zeros(3))
    inside = 0
    for _ in range(60):
        start = tuple(int(v) for v in rng.integers(0, 50, 3))
        stop = tuple(int(a + n) for a, n in zip(start, rng.integers(1, 16, 3), strict=True))
        radii = outward.radii(start, stop)
        assert radii.shape == tuple(b - a for a, b in zip(start, stop, strict=True))
        least = outward.least_radius(start, stop)
        assert radii.min() - np.sqrt(0.5) <= least <= radii.min()  # between voxels the axis is 0
        inside += least == 0
    assert 0 < inside < 50
