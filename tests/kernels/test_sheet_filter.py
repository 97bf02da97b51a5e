"""Sheet filter kernels against SciPy and plain loops."""

import numpy as np
import pytest
from naive import sheet_filter as naive

from tracer.kernels import sheet_filter as kernels


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _sheet(shape, normal, offset, width=1.5):
    """Return a Gaussian sheet: grey value 100 on the plane normal . p = offset."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distance = grid @ np.asarray(normal) - offset
    return (100.0 * np.exp(-0.5 * (distance / width) ** 2)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_convolve_axis__equals_scipy(axis, dtype):
    rng = np.random.default_rng(1)
    volume = rng.integers(0, 255, (7, 8, 9)).astype(dtype)
    weights = rng.random(5)
    out = kernels.convolve_axis(volume, weights, axis)
    np.testing.assert_allclose(out, naive.correlate(volume, weights, axis), rtol=1e-6)


def test_convolve_axis__unit_weight_is_the_identity():
    volume = np.random.default_rng(2).random((4, 5, 6)).astype(np.float32)
    for axis in range(3):
        np.testing.assert_array_equal(kernels.convolve_axis(volume, np.ones(1), axis), volume)


def test_convolve_axis__does_not_depend_on_where_a_block_starts():
    rng = np.random.default_rng(3)
    volume = rng.random((9, 10, 17)).astype(np.float32)
    weights = rng.random(5)
    for axis in range(3):
        whole = kernels.convolve_axis(volume, weights, axis)
        part = kernels.convolve_axis(volume[1:, 2:, 3:], weights, axis)
        np.testing.assert_array_equal(part, whole[1:, 2:, 3:])


def test_largest_eigenvalue__equals_numpy():
    rng = np.random.default_rng(4)
    for _ in range(50):
        matrix = rng.normal(size=(3, 3))
        matrix = matrix @ matrix.T
        value = kernels.largest_eigenvalue(
            *np.diag(matrix), matrix[0, 1], matrix[0, 2], matrix[1, 2]
        )
        assert value == pytest.approx(np.linalg.eigvalsh(matrix)[2], rel=1e-9)


def test_main_axis__equals_numpy_up_to_sign():
    rng = np.random.default_rng(5)
    for _ in range(50):
        matrix = rng.normal(size=(3, 3))
        matrix = matrix @ matrix.T
        axis = kernels.main_axis(*np.diag(matrix), matrix[0, 1], matrix[0, 2], matrix[1, 2])
        assert abs(np.linalg.eigh(matrix)[1][:, 2] @ axis) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("diagonal", [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0), (3.0, 3.0, 1.0)])
def test_main_axis__zero_where_not_unique(diagonal):
    assert kernels.main_axis(*diagonal, 0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)


def test_structure_tensor__equals_numpy():
    smooth = np.random.default_rng(6).random((8, 10, 6)).astype(np.float32)
    out = kernels.structure_tensor(smooth)
    np.testing.assert_allclose(out, naive.structure_tensor(smooth), rtol=1e-5, atol=1e-7)


def test_cell_normals__is_the_normal_of_a_plane_sheet():
    normal = _unit(np.array([1.0, 2.0, -0.5]))
    tensor = kernels.structure_tensor(_sheet((14, 14, 14), normal, 8.0, 3.0))
    out = kernels.cell_normals(tensor, 0.0)
    strong = tensor[:3].sum(0) > 1.0
    assert strong.sum() > 50
    assert np.abs(out[strong] @ normal).min() > 0.995


def test_cell_normals__none_where_directions_disagree():
    tensor = np.zeros((6, 1, 1, 3), np.float32)
    tensor[0], tensor[1] = 3.0, (1.0, 2.9, 3.0)  # coherence 0.5, 0.017 and 0
    some = np.abs(kernels.cell_normals(tensor, 0.3)[0, 0]).tolist()
    assert some == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert np.abs(kernels.cell_normals(tensor, 0.0)[0, 0, :, 0]).tolist() == [1.0, 1.0, 0.0]


def test_orient_normals__away_from_the_axis():
    normals = _unit(np.random.default_rng(7).normal(size=(2, 3, 4, 3))).astype(np.float32)
    out = normals.copy()
    centres = np.array([[3.0, 40.0], [4.0, 41.0]])
    kernels.orient_normals(out, np.array([10, 20, 30]), centres, np.zeros(3))
    for i, j, k in np.ndindex(2, 3, 4):
        away = np.array([0, 20 + 2 * j + 0.5 - centres[i, 0], 30 + 2 * k + 0.5 - centres[i, 1]])
        assert out[i, j, k] @ away >= 0
        assert (out[i, j, k] == normals[i, j, k]).all() or (out[i, j, k] == -normals[i, j, k]).all()


def test_orient_normals__along_a_fixed_direction():
    normals = _unit(np.random.default_rng(8).normal(size=(2, 2, 2, 3))).astype(np.float32)
    kernels.orient_normals(normals, np.zeros(3, np.int64), np.zeros((0, 2)), np.array([1.0, 2, 3]))
    assert (normals @ np.array([1.0, 2.0, 3.0]) >= 0).all()


def test_ridge_response__equals_loops_and_keeps_the_larger():
    rng = np.random.default_rng(9)
    smooth = rng.random((6, 7, 8)).astype(np.float32)
    normals = _unit(rng.normal(size=(2, 3, 3, 3))).astype(np.float32)
    before = np.full((4, 5, 6), 0.2, np.float32)
    out = before.copy()
    kernels.ridge_response(smooth, normals, 3.0, 0.4, out)
    for z, y, x in np.ndindex(out.shape):
        normal = normals[z // 2, y // 2, x // 2].astype(np.float64)
        value = naive.ridge_value(smooth, z + 1, y + 1, x + 1, normal, 3.0, 0.4)
        assert out[z, y, x] == pytest.approx(max(0.2, value), rel=1e-5, abs=1e-6)
    assert (out > 0.2).sum() > 10


def test_ridge_response__nothing_without_a_normal_or_on_a_slope():
    out = np.zeros((4, 4, 4), np.float32)
    rng = np.random.default_rng(10)
    smooth = rng.random((6, 6, 6)).astype(np.float32)
    kernels.ridge_response(smooth, np.zeros((2, 2, 2, 3), np.float32), 1.0, 0.0, out)
    assert not out.any()
    slope = np.broadcast_to(np.arange(6, dtype=np.float32), (6, 6, 6))
    normals = np.zeros((2, 2, 2, 3), np.float32)
    normals[..., 2] = 1.0
    kernels.ridge_response(slope, normals, 1.0, 0.5, out)
    assert not out.any()


def test_face_response__is_the_slope_along_the_normal():
    rng = np.random.default_rng(11)
    smooth = rng.random((6, 6, 6)).astype(np.float32)
    normals = _unit(rng.normal(size=(2, 2, 2, 3))).astype(np.float32)
    out = np.full((4, 4, 4), -np.inf, np.float32)
    kernels.face_response(smooth, normals, 2.0, out)
    gradient = np.stack(np.gradient(smooth.astype(np.float64)), axis=-1)[1:-1, 1:-1, 1:-1]
    wide = np.repeat(np.repeat(np.repeat(normals, 2, 0), 2, 1), 2, 2)
    np.testing.assert_allclose(out, 2.0 * (gradient * wide).sum(-1), rtol=1e-4, atol=1e-6)


def test_sample_offset__equals_scipy():
    rng = np.random.default_rng(12)
    volume = rng.random((8, 8, 8)).astype(np.float32)
    for _ in range(50):
        offset = rng.uniform(-2.5, 2.5, 3)
        value = kernels.sample_offset(volume, 4, 4, 4, *offset)
        assert value == pytest.approx(naive.sample(volume, 4 + offset), rel=1e-6)


def test_tangents__are_orthonormal():
    for normal in _unit(np.random.default_rng(13).normal(size=(30, 3))):
        basis = np.array([normal, *np.reshape(kernels.tangents(*normal), (2, 3))])
        np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)


def test_average_along_sheet__equals_loops():
    rng = np.random.default_rng(14)
    response = rng.random((10, 10, 12)).astype(np.float32)
    response[4, 4, 4] = 0.0
    normals = _unit(rng.normal(size=(5, 5, 6, 3))).astype(np.float32)
    out = kernels.average_along_sheet(response, normals, 2.5, 4)
    assert out.shape == (2, 2, 4)
    assert out[0, 0, 0] == 0.0
    for z, y, x in list(np.ndindex(out.shape))[1:]:
        voxel = np.array([z, y, x]) + 4
        normal = normals[tuple(voxel // 2)].astype(np.float64)
        assert out[z, y, x] == pytest.approx(
            naive.disc_mean(response, voxel, normal, 2.5), rel=1e-5
        )


def test_average_along_sheet__keeps_a_constant():
    response = np.full((8, 8, 8), 0.7, np.float32)
    normals = np.zeros((4, 4, 4, 3), np.float32)
    normals[..., 0] = 1.0
    np.testing.assert_allclose(
        kernels.average_along_sheet(response, normals, 2.0, 3), 0.7, rtol=1e-6
    )


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (1.0, 1.0, 0.3)])
def test_mark_ridges__is_a_band_around_the_ridge(direction):
    normal = _unit(np.array(direction))
    shape, margin, half_width = (22, 22, 22), 4, 1.5
    offset = float(normal @ np.array([10.2, 10.7, 10.4]))
    response = _sheet(shape, normal, offset, 3.0) / 100.0
    normals = np.broadcast_to(normal.astype(np.float32), (11, 11, 11, 3))
    out = kernels.mark_ridges(response, normals, 0.5, half_width, margin)
    grid = np.stack(np.meshgrid(*(np.arange(4, 18),) * 3, indexing="ij"), axis=-1)
    distance = np.abs(grid @ normal - offset)
    assert (out[distance < half_width - 0.5] > 0).all()
    assert not out[distance > half_width + 0.5].any()
    assert (out > 0).sum() > 100


def test_mark_ridges__valley_between_two_ridges_stays_empty():
    z = np.arange(24, dtype=np.float64)
    profile = np.exp(-0.5 * ((z - 10) / 1.2) ** 2) + np.exp(-0.5 * ((z - 14) / 1.2) ** 2)
    response = np.broadcast_to(profile[:, None, None].astype(np.float32), (24, 12, 12))
    normals = np.zeros((12, 6, 6, 3), np.float32)
    normals[..., 0] = -1.0
    out = kernels.mark_ridges(np.ascontiguousarray(response), normals, 0.3, 2.5, 4)
    marked = out[:, 0, 0] > 0
    assert marked.tolist() == [4 + i in (8, 9, 10, 11, 13, 14, 15, 16) for i in range(16)]


def test_mark_ridges__weak_ridges_are_dropped():
    response = _sheet((20, 12, 12), (1.0, 0.0, 0.0), 10.0, 2.0) / 100.0
    normals = np.zeros((10, 6, 6, 3), np.float32)
    normals[..., 0] = 1.0
    assert not kernels.mark_ridges(response, normals, 1.01, 1.5, 4).any()
    assert kernels.mark_ridges(response, normals, 0.99, 1.5, 4).any()
