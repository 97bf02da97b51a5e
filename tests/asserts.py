"""Assertions that several tests share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def assert_jacobian(
    evaluate: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]],
    at: NDArray[np.float64],
    *,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 1e-7,
) -> None:
    """Assert that an analytic Jacobian agrees with finite differences of the residuals.

    Central differences of fourth order: exact for a smooth function to about ``step**4``. The point
    must be further than two steps from any kink.

    Parameters
    ----------
    evaluate : callable
        Takes the parameters, shape (n,), returns residuals (m,) and Jacobian (m, n).
    at : ndarray of float64, shape (n,)
        Where to compare.
    step : float
        Step of the differences, in units of the parameters.
    rtol : float
        Allowed deviation relative to the largest entry of the Jacobian.
    atol : float
        Allowed deviation of an entry.
    """
    residuals, jacobian = evaluate(at)
    assert np.isfinite(residuals).all()
    assert jacobian.shape == (len(residuals), len(at))
    expected = np.empty_like(jacobian)
    for column in range(len(at)):
        values = []
        for multiple in (-2, -1, 1, 2):
            moved = at.copy()
            moved[column] += multiple * step
            values.append(evaluate(moved)[0])
        far_below, below, above, far_above = values
        expected[:, column] = (8.0 * (above - below) - (far_above - far_below)) / (12.0 * step)
    limit = atol + rtol * np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(jacobian, expected, rtol=0.0, atol=limit)


def assert_same_surface(actual: Any, expected: Any) -> None:
    """Assert that points, validity, scale and channels agree bit for bit.

    Parameters
    ----------
    actual : Surface
        What was computed.
    expected : Surface
        What it should be.
    """
    assert actual.points_xyz.dtype == np.float32
    assert actual.points_xyz.tobytes() == expected.points_xyz.tobytes()
    np.testing.assert_array_equal(actual.valid, expected.valid)
    assert actual.scale == expected.scale
    assert sorted(actual.channels) == sorted(expected.channels)
    for name, grid in expected.channels.items():
        assert actual.channels[name].dtype == grid.dtype
        assert actual.channels[name].tobytes() == grid.tobytes()
