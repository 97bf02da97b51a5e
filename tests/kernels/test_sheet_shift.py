import numpy as np
import pytest

from tracer.kernels.sheet_shift import shift_along_normals


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, [5]), (1.0, [6]), (1.4, [6]), (1.5, [6, 7]), (-2.2, [3])]
)
def test_shift_along_normals__moves_what_is_marked(shift, expected):
    ridges = np.zeros((20, 16, 18), np.float32)
    ridges[9] = 0.7
    normals = np.zeros((10, 8, 9, 3), np.float32)
    normals[..., 0] = 1.0
    out = shift_along_normals(ridges, normals, shift, 4)
    assert out.shape == (12, 8, 10)
    assert np.flatnonzero(out[:, 3, 3]).tolist() == expected
    np.testing.assert_allclose(out[expected], 0.7, rtol=1e-6)
    assert np.count_nonzero(out) == len(expected) * 8 * 10


def test_shift_along_normals__stays_where_there_is_no_normal():
    ridges = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    out = shift_along_normals(ridges, np.zeros((6, 6, 6, 3), np.float32), 1.5, 4)
    np.testing.assert_array_equal(out, ridges[4:-4, 4:-4, 4:-4])
