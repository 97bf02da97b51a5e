import numpy as np
import pytest
from field_views import far_view, view_of_codes

from tracer.kernels.sheet_probe import RING, probe_sheet, scan_across, tangents

Z = np.array([0.0, 0.0, 1.0])


def slab_view(*slabs, shape=(60, 60, 60), cap=8.0):
    """Return a field with flat sheets at the given (middle, half thickness) along z."""
    z = np.arange(shape[0], dtype=float)
    signed = np.min([np.abs(z - middle) - half for middle, half in slabs], axis=0)
    codes = np.round(8.0 * np.clip(signed, -8.0, cap)) + 64.0
    return view_of_codes(np.broadcast_to(codes[:, None, None], shape).astype(np.uint8), cap)


@pytest.mark.parametrize("start", [24.0, 27.0, 30.0, 32.0, 37.0])
def test_scan_across__finds_middle_and_thickness(start):
    scan = scan_across(slab_view((30.0, 2.5)), 30.0, 30.0, start, *Z, 10.0)
    assert scan.found
    assert start + scan.centre == pytest.approx(30.0, abs=0.6)
    assert scan.thickness == pytest.approx(5.0, abs=1.0)
    assert scan.other == np.inf


def test_scan_across__sees_the_sheet_on_the_other_side():
    scan = scan_across(slab_view((20.0, 2.0), (32.0, 2.0)), 30.0, 30.0, 25.0, *Z, 10.0)
    assert scan.found
    assert scan.centre < 0.0
    assert scan.other == pytest.approx(6.0, abs=1.1)


def test_scan_across__finds_nothing_beyond_its_reach():
    assert not scan_across(slab_view((50.0, 2.0)), 30.0, 30.0, 10.0, *Z, 10.0).found
    assert not scan_across(far_view(), 30.0, 30.0, 30.0, *Z, 10.0).found


def test_scan_across__direction_does_not_matter():
    view = slab_view((30.0, 2.5))
    up, down = (scan_across(view, 30.0, 30.0, 27.0, *n, 10.0) for n in (Z, -Z))
    assert up.centre == pytest.approx(-down.centre)
    assert up.thickness == pytest.approx(down.thickness)


@pytest.mark.parametrize("normal", [Z, [1.0, 0.0, 0.0], [0.6, 0.0, 0.8], [0.0, -1.0, 0.0]])
def test_tangents__complete_an_orthonormal_frame(normal):
    values = tangents(*np.asarray(normal, float))
    frame = np.array([values[:3], values[3:], normal])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)


def probe(view, normal=Z, limit=8.0):
    return probe_sheet(view, 30.0, 30.0, 30.0, *normal, 8.0, 10.0, limit, np.zeros((RING + 1, 3)))


def test_probe_sheet__a_single_sheet_is_clean_all_around():
    found = probe(slab_view((30.0, 2.5)))
    assert (found.clean, found.thick, found.empty) == (RING + 1, 0, 0)
    assert not found.centre_thick
    assert found.thickness == pytest.approx(5.0, abs=1.0)
    np.testing.assert_allclose([found.slope_u, found.slope_v, found.rms], 0.0, atol=1e-9)


def test_probe_sheet__a_merger_is_thick():
    found = probe(slab_view((27.0, 4.0), (33.0, 4.0)))
    assert found.thick == RING + 1
    assert found.centre_thick


def test_probe_sheet__nothing_is_empty():
    assert probe(far_view()).empty == RING + 1


@pytest.mark.parametrize("degrees", [5.0, 15.0, -20.0])
def test_probe_sheet__measures_the_tilt(degrees):
    tilt = np.radians(degrees)
    found = probe(slab_view((30.0, 2.5)), (np.sin(tilt), 0.0, np.cos(tilt)))
    assert np.hypot(found.slope_u, found.slope_v) == pytest.approx(abs(np.tan(tilt)), abs=0.06)
