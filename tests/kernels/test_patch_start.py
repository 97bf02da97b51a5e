import numpy as np
import pytest
from field_views import far_view, sheet_codes, view_of_codes

from tracer.kernels.patch_start import (
    align_start,
    boundary_thicknesses,
    deepest_voxels,
    sheet_covariance,
    smallest_axis,
)

CENTRE = np.array([30.0, 32.0, 28.0])
ON_WAVE = np.array([30.0, 32.0, 42.0])  # near the sheet of sheet_codes
CAP = 8.0


def slab_codes(normal, middle=29.8, half=2.5, shape=(60, 60, 60)):
    """Return the codes of a flat sheet across a direction (x, y, z)."""
    z, y, x = np.indices(shape, dtype=float)
    height = np.tensordot(np.asarray(normal, float), [x, y, z], axes=1)
    signed = np.abs(height - middle) - half
    return (np.round(8.0 * np.clip(signed, -8.0, CAP)) + 64.0).astype(np.uint8)


def measured(view, centre=CENTRE, half=16, stride=4, n=4096):
    out = np.full(n, np.nan)
    found = boundary_thicknesses(view, centre, half, stride, 24.0, out)
    assert np.isnan(out[found:]).all()
    return out[:found]


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (0.6, 0.0, 0.8), (0.36, 0.48, 0.8)])
@pytest.mark.parametrize("half", [1.5, 2.5, 4.0])
def test_boundary_thicknesses__measure_a_slab_whatever_its_direction(normal, half):
    middle = float(np.dot(normal, CENTRE)) + 0.3
    view = view_of_codes(slab_codes(normal, middle, half), CAP)
    found = measured(view, stride=4)
    assert len(found) > 20
    assert np.median(found) == pytest.approx(2 * half, abs=0.7)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_boundary_thicknesses__do_not_miss_a_flat_sheet_between_lattice_planes(axis):
    normal = np.eye(3)[axis]
    for middle in range(26, 34):
        found = measured(view_of_codes(slab_codes(normal, middle, half=1.5), CAP))
        assert len(found) == 2 * 8**2 / 4  # a quarter of the cubes along each of its two faces
        assert np.median(found) == pytest.approx(3.0, abs=0.6)


def test_boundary_thicknesses__nothing_to_measure():
    assert len(measured(far_view())) == 0
    solid = np.zeros((60, 60, 60), np.uint8)  # deep inside everywhere
    assert len(measured(view_of_codes(solid, CAP))) == 0


def test_boundary_thicknesses__stop_when_the_list_is_full():
    view = view_of_codes(slab_codes((0, 0, 1)), CAP)
    everything = measured(view, stride=1)
    assert len(everything) > 50
    np.testing.assert_array_equal(measured(view, stride=1, n=50), everything[:50])
    assert len(measured(view, stride=1, n=0)) == 0


def test_boundary_thicknesses__at_the_volumes_corner():
    codes = slab_codes((0, 0, 1), middle=2.0, half=1.5)
    found = measured(view_of_codes(codes, CAP), centre=np.zeros(3), stride=1, half=8)
    assert len(found) > 20
    assert np.isfinite(found).all()


def ball_oracle(codes, centre, radius):
    """Return the offsets from a rounded centre to the sheet voxels of a ball."""
    middle = np.floor(np.asarray(centre) + 0.5)
    points = np.argwhere(codes < 64)[:, ::-1] - middle
    return points[(points**2).sum(axis=1) <= radius**2]


@pytest.mark.parametrize("centre", [ON_WAVE, ON_WAVE + 0.49, ON_WAVE + 0.5, (1.0, 58.6, 40.2)])
def test_sheet_covariance__agrees_with_numpy(centre):
    codes = sheet_codes((60, 60, 60), cap=CAP)
    out = np.full(9, np.nan)
    n = sheet_covariance(view_of_codes(codes, CAP), np.asarray(centre, float), 8, out)
    offsets = ball_oracle(codes, centre, 8)
    assert n == len(offsets) > 50
    covariance = np.cov(offsets.T, bias=True)
    expected = [*offsets.mean(axis=0), *covariance[np.triu_indices(3)]]
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_sheet_covariance__finds_the_normal_of_a_slab():
    normal = np.array([0.36, 0.48, 0.8])
    out = np.zeros(9)
    view = view_of_codes(slab_codes(normal, normal @ CENTRE), CAP)
    sheet_covariance(view, CENTRE, 8, out)
    xx, xy, xz, yy, yz, zz = out[3:]
    _, axes = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert abs(axes[:, 0] @ normal) > np.cos(np.radians(2.0))


def test_sheet_covariance__of_nothing_and_of_one_voxel():
    out = np.full(9, np.nan)
    assert sheet_covariance(far_view(), CENTRE, 8, out) == 0
    np.testing.assert_array_equal(out, np.zeros(9))
    codes = np.full((60, 60, 60), 128, np.uint8)
    codes[28, 33, 30] = 60
    assert sheet_covariance(view_of_codes(codes, CAP), CENTRE, 8, out) == 1
    np.testing.assert_array_equal(out, [0.0, 1.0, 0.0, *np.zeros(6)])


def cubes(view, centre=CENTRE, half=12, stride=4, depth=1.0, n=4096):
    out = np.full((n, 3), np.nan)
    found = deepest_voxels(view, np.asarray(centre, float), half, stride, depth, out)
    assert np.isnan(out[found:]).all()
    return out[:found]


@pytest.mark.parametrize("depth", [0.0, 1.0, 2.0])
def test_deepest_voxels__are_those_of_every_cube_in_order(depth):
    codes = sheet_codes((60, 60, 60), cap=CAP)
    found = cubes(view_of_codes(codes, CAP), ON_WAVE, half=16, stride=4, depth=depth)
    starts = 4 * np.arange(-4, 4)
    expected = []
    for z in 42 + starts:
        for y in 32 + starts:
            for x in 30 + starts:
                cube = (codes[z : z + 4, y : y + 4, x : x + 4] - 64.0) / 8.0
                if cube.min() <= -depth:
                    k, j, i = np.unravel_index(cube.argmin(), cube.shape)
                    expected.append((x + i, y + j, z + k))
    assert len(expected) > 15
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_deepest_voxels__find_the_middle_of_a_thin_flat_sheet_wherever_it_lies(axis):
    for middle in range(26, 34):
        codes = slab_codes(np.eye(3)[axis], float(middle), 1.5)
        found = cubes(view_of_codes(codes, CAP), half=12, stride=4)
        assert len(found) == 6 * 6
        np.testing.assert_array_equal(found[:, axis], middle)


def test_deepest_voxels__leave_out_what_is_outside_the_volume():
    solid = view_of_codes(np.zeros((60, 60, 60), np.uint8), CAP)
    found = cubes(solid, (1.0, 1.0, 59.0), half=8, stride=4)
    assert len(found) == 3**3
    assert (found >= 0).all()
    assert (found <= 59).all()
    assert len(cubes(far_view())) == 0


def test_deepest_voxels__stop_when_the_list_is_full():
    solid = view_of_codes(np.zeros((60, 60, 60), np.uint8), CAP)
    assert len(cubes(solid, n=10)) == 10
    np.testing.assert_array_equal(cubes(solid, n=10), cubes(solid)[:10])


def test_kernels__take_read_only_arrays():
    view = view_of_codes(slab_codes((0, 0, 1)), CAP)
    view.pool.setflags(write=False)
    centre = CENTRE.copy()
    centre.setflags(write=False)
    assert boundary_thicknesses(view, centre, 8, 1, 24.0, np.zeros(2048)) > 0
    assert sheet_covariance(view, centre, 8, np.zeros(9)) > 0
    assert deepest_voxels(view, centre, 8, 4, 0.0, np.zeros((512, 3))) > 0


def test_smallest_axis__is_that_of_numpy():
    rng = np.random.default_rng(5)
    for _ in range(200):
        a = rng.normal(size=(3, 3)) * 10.0 ** rng.uniform(-1, 1, 3)
        matrix = a @ a.T
        xx, xy, xz, _, yy, yz, _, _, zz = matrix.ravel()
        axis = np.array(smallest_axis(xx, xy, xz, yy, yz, zz)[:3])
        values, vectors = np.linalg.eigh(matrix)
        assert axis[np.abs(axis).argmax()] > 0.0
        assert np.linalg.norm(axis) == pytest.approx(1.0)
        if values[1] - values[0] > 1e-3 * values[2]:  # else the axis is ill-conditioned
            assert abs(axis @ vectors[:, 0]) > 1.0 - 1e-9


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_smallest_axis__of_sheets_along_an_axis_and_of_what_has_none(axis):
    diagonal = np.full(3, 7.0)
    diagonal[axis] = 1.0
    x, y, z, known = smallest_axis(diagonal[0], 0.0, 0.0, diagonal[1], 0.0, diagonal[2])
    assert known
    np.testing.assert_allclose([x, y, z], np.eye(3)[axis], atol=1e-12)
    diagonal = np.full(3, 1.0)
    diagonal[axis] = 7.0
    assert not smallest_axis(diagonal[0], 0.0, 0.0, diagonal[1], 0.0, diagonal[2])[3]
    assert not smallest_axis(2.0, 0.0, 0.0, 2.0, 0.0, 2.0)[3]
    assert not smallest_axis(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)[3]


def aligned(view, point, limit=9.0):
    origin, normal = np.full(3, np.nan), np.full(3, np.nan)
    found = align_start(view, np.asarray(point, float), 8, 20, 8.0, 10.0, limit, 2, origin, normal)
    return found, origin, normal


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.6, 0.0, 0.8), (0.36, 0.48, 0.8)])
def test_align_start__finds_the_mid_line_and_the_normal(normal):
    middle = float(np.dot(normal, CENTRE)) + 1.4
    view = view_of_codes(slab_codes(normal, middle, 2.0), CAP)
    found, origin, axis = aligned(view, CENTRE)
    assert found
    assert abs(np.dot(normal, origin) - middle) < 0.5
    assert np.dot(normal, axis) > 0.99


def test_align_start__refuses_thick_sheets_and_nothing():
    view = view_of_codes(slab_codes((0, 0, 1), 28.0, 6.0), CAP)
    assert aligned(view, CENTRE, limit=14.0)[0]
    assert not aligned(view, CENTRE, limit=9.0)[0]
    assert not aligned(far_view(), CENTRE)[0]
