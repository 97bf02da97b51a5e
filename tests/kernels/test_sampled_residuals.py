import field_views
import numpy as np
import pytest
from asserts import assert_jacobian
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tracer.kernels.sampled_residuals import (
    data_residual,
    edge_data_residual,
    locate_cell,
    location_value_residual,
    medial_distance,
    surface_residual,
)

CODES = field_views.sheet_codes()
VIEW = field_views.view_of_codes(CODES)
CAP_IN = 3.0

x_in = st.floats(1.0, 198.0)
y_in = st.floats(1.0, 98.0)
z_in = st.floats(20.0, 60.0)
point = st.tuples(x_in, y_in, z_in)
weight = st.floats(0.05, 4.0)


def _naive_signed(points_xyz):
    codes = CODES.astype(np.float64)
    return (map_coordinates(codes, np.asarray(points_xyz).T[::-1], order=1) - 64.0) / 8.0


def _away_from_kinks(points_xyz):
    """Trilinear cells meet in kinks, and so do the two branches of the medial distance."""
    fractions = np.asarray(points_xyz) % 1.0
    assume(((fractions > 1e-2) & (fractions < 1.0 - 1e-2)).all())
    assume((np.abs(_naive_signed(points_xyz) + CAP_IN) > 1e-2).all())


def _samples(a, b, n):
    t = np.arange(1, n + 1)[:, None] / (n + 1)
    return np.asarray(a) + (np.subtract(b, a)) * t


# medial distance


@pytest.mark.parametrize(
    ("signed", "expected"),
    [(5.0, (8.0, 1.0)), (0.0, (3.0, 1.0)), (-2.5, (0.5, 1.0)), (-3.0, (0.0, 0.0)), (-8.0, (0, 0))],
)
def test_medial_distance__grows_from_the_mid_line(signed, expected):
    assert medial_distance(signed, CAP_IN) == expected


# data at a vertex


@given(p=point, weight=weight)
def test_data_residual__jacobian(p, weight):
    _away_from_kinks([p])

    def evaluate(x):
        r, *g, ok = data_residual(VIEW, *x, CAP_IN, weight)
        assert ok
        return np.array([r]), np.array([g])

    assert_jacobian(evaluate, np.array(p), step=1e-3)


@given(p=point, weight=weight)
def test_data_residual__equals_the_naive_field(p, weight):
    expected = weight * max(_naive_signed([p])[0] + CAP_IN, 0.0)
    assert data_residual(VIEW, *p, CAP_IN, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_data_residual__is_smallest_on_the_mid_line():
    x, y = 60.0, 40.0
    heights = np.arange(25.0, 55.0, 0.25)
    values = [data_residual(VIEW, x, y, z, CAP_IN, 1.0)[0] for z in heights]
    assert abs(heights[np.argmin(values)] - field_views.sheet_height(x, y)) <= 0.75


@pytest.mark.parametrize("p", [(-1.0, 5.0, 5.0), (5.0, 500.0, 5.0), (np.nan, 5.0, 5.0)])
def test_data_residual__is_the_cap_without_a_slope_outside(p):
    assert data_residual(VIEW, *p, CAP_IN, 0.5) == (0.5 * (16.0 + CAP_IN), 0.0, 0.0, 0.0, False)


def test_data_residual__is_the_cap_far_from_everything():
    view = field_views.far_view()
    assert data_residual(view, 150.0, 5.0, 5.0, CAP_IN, 1.0) == (19.0, 0.0, 0.0, 0.0, True)


# data along an edge


@given(a=point, b=point, n=st.integers(1, 7), weight=weight)
def test_edge_data_residual__jacobian(a, b, n, weight):
    _away_from_kinks(_samples(a, b, n))

    def evaluate(x):
        r, *g, ok = edge_data_residual(VIEW, *x, n, CAP_IN, weight)
        assert ok
        return np.array([r]), np.array([g])

    assert_jacobian(evaluate, np.array([*a, *b]), step=1e-3)


@given(a=point, b=point, n=st.integers(1, 19), weight=weight)
def test_edge_data_residual__is_the_mean_over_the_interior(a, b, n, weight):
    expected = weight * np.maximum(_naive_signed(_samples(a, b, n)) + CAP_IN, 0.0).mean()
    actual = edge_data_residual(VIEW, *a, *b, n, CAP_IN, weight)[0]
    assert actual == pytest.approx(expected, abs=1e-9)


def test_edge_data_residual__coincident_ends_equal_the_vertex():
    p = (60.3, 40.4, 44.7)
    edge = edge_data_residual(VIEW, *p, *p, 5, CAP_IN, 1.0)
    vertex = data_residual(VIEW, *p, CAP_IN, 1.0)
    assert edge[0] == pytest.approx(vertex[0])
    np.testing.assert_allclose(np.add(edge[1:4], edge[4:7]), vertex[1:4])


def test_edge_data_residual__says_when_a_sample_is_outside():
    assert not edge_data_residual(VIEW, 5.0, 5.0, 5.0, -50.0, 5.0, 5.0, 5, CAP_IN, 1.0)[-1]


# locations on a surface

ROWS, COLS = 6, 8
GRID = np.random.default_rng(7).normal(size=(ROWS, COLS, 3)).astype(np.float32) * 10.0
ALL = np.ones((ROWS, COLS), dtype=np.bool_)
row_in = st.floats(0.0, ROWS - 1.0)
col_in = st.floats(0.0, COLS - 1.0)


def _off_the_lines(row, col):
    assume(min(row % 1.0, 1.0 - row % 1.0, col % 1.0, 1.0 - col % 1.0) > 1e-2)


@given(row=row_in, col=col_in, p=point, weight=weight)
def test_surface_residual__jacobian(row, col, p, weight):
    _off_the_lines(row, col)

    def evaluate(x):
        parts = [surface_residual(GRID, ALL, x[0], x[1], k, x[2 + k], weight) for k in range(3)]
        jacobian = np.zeros((3, 5))
        for k, (_, by_row, by_col, ok) in enumerate(parts):
            assert ok
            jacobian[k, :2] = by_row, by_col
            jacobian[k, 2 + k] = -weight
        return np.array([part[0] for part in parts]), jacobian

    assert_jacobian(evaluate, np.array([row, col, *p]), step=1e-3)


@given(row=row_in, col=col_in)
def test_surface_residual__equals_bilinear_interpolation(row, col):
    for axis in range(3):
        expected = map_coordinates(GRID[..., axis].astype(np.float64), [[row], [col]], order=1)[0]
        residual, _, _, ok = surface_residual(GRID, ALL, row, col, axis, 2.0, 1.0)
        assert ok
        assert residual == pytest.approx(expected - 2.0, abs=1e-9)


@given(row=row_in, col=col_in, target=st.floats(-5.0, 5.0), weight=weight)
def test_location_value_residual__jacobian_and_value(row, col, target, weight):
    _off_the_lines(row, col)
    values = np.ascontiguousarray(GRID[..., 0])

    def evaluate(x):
        r, by_row, by_col, ok = location_value_residual(values, ALL, x[0], x[1], target, weight)
        assert ok
        return np.array([r]), np.array([[by_row, by_col]])

    assert_jacobian(evaluate, np.array([row, col]), step=1e-3)
    expected = map_coordinates(values.astype(np.float64), [[row], [col]], order=1)[0] - target
    assert evaluate(np.array([row, col]))[0][0] == pytest.approx(weight * expected, abs=1e-9)


@pytest.mark.parametrize(
    ("row", "col"), [(-0.1, 1.0), (1.0, COLS - 0.9), (np.nan, 1.0), (1.0, np.inf), (1.0, -1e300)]
)
def test_surface_residual__is_zero_off_the_surface(row, col):
    assert surface_residual(GRID, ALL, row, col, 0, 2.0, 1.0) == (0.0, 0.0, 0.0, False)
    values = np.ascontiguousarray(GRID[..., 0])
    assert location_value_residual(values, ALL, row, col, 2.0, 1.0) == (0.0, 0.0, 0.0, False)


def test_locate_cell__last_vertex_belongs_to_the_last_cell():
    assert locate_cell(ALL, ROWS - 1.0, COLS - 1.0) == (ROWS - 2, COLS - 2, 1.0, 1.0, True)


def test_locate_cell__needs_four_valid_corners():
    valid = ALL.copy()
    valid[3, 3] = False
    assert not locate_cell(valid, 2.5, 2.5)[4]
    assert locate_cell(valid, 1.5, 2.5)[4]


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_locate_cell__a_single_line_has_no_cells(shape):
    assert not locate_cell(np.ones(shape, dtype=np.bool_), 0.0, 0.0)[4]
