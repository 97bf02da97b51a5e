import numpy as np
import pytest
from asserts import assert_jacobian
from field_views import far_view, sheet_codes, sheet_height, view_of_codes

from tracer.kernels.placement import (
    EMPTY,
    ON_SHEET,
    PlacementWeights,
    place_vertex,
    vertex_system,
)

WEIGHTS = PlacementWeights(step=10.0, straightness=0.5, data=0.2, depth=2.0, edge_samples=5)


def flat_grid(size=9, step=10.0):
    rows, cols = np.mgrid[0:size, 0:size]
    points = np.stack([30.0 + step * cols, 10.0 + step * rows, np.full(rows.shape, 40.0)], -1)
    return points, np.full((size, size), ON_SHEET, np.uint8)


def cost_of(points, state, position, view, use_data):
    return vertex_system(points, state, 4, 4, position, view, WEIGHTS, use_data, np.zeros(9))


@pytest.mark.parametrize("use_data", [False, True])
def test_vertex_system__gradient_agrees_with_finite_differences(use_data):
    rng = np.random.default_rng(2)
    points, state = flat_grid()
    points += rng.normal(size=points.shape)
    view = view_of_codes(sheet_codes())

    def evaluate(position):
        system = np.zeros(9)
        cost = vertex_system(points, state, 4, 4, position, view, WEIGHTS, use_data, system)
        return np.array([cost]), system[None, 6:].copy()

    # the trilinear field is smooth inside a cell only: differences must stay inside it
    assert_jacobian(evaluate, points[4, 4] + [0.31, 0.22, 0.43], step=1e-5, rtol=1e-4, atol=1e-5)


def test_vertex_system__rest_state_has_no_cost_and_no_gradient():
    points, state = flat_grid()
    system = np.ones(9)
    cost = vertex_system(
        points, state, 4, 4, points[4, 4].copy(), far_view(), WEIGHTS, False, system
    )
    assert cost == pytest.approx(0.0, abs=1e-18)
    np.testing.assert_allclose(system[6:], 0.0, atol=1e-9)


def test_vertex_system__ignores_empty_neighbours():
    points, state = flat_grid()
    state[:] = EMPTY
    system = np.ones(9)
    assert (
        vertex_system(points, state, 4, 4, points[4, 4] + 3.0, far_view(), WEIGHTS, False, system)
        == 0.0
    )
    assert (system == 0.0).all()


def test_vertex_system__coincident_vertices_stay_finite():
    points, state = flat_grid()
    points[:] = points[4, 4]
    system = np.zeros(9)
    cost = vertex_system(
        points, state, 4, 4, points[4, 4].copy(), far_view(), WEIGHTS, True, system
    )
    assert np.isfinite(cost)
    assert np.isfinite(system).all()


def test_place_vertex__finds_the_regular_position():
    points, state = flat_grid()
    position = points[4, 4] + [2.0, -1.5, 1.0]
    before = cost_of(points, state, position, far_view(), False)
    cost = place_vertex(
        points, state, 4, 4, position, far_view(), WEIGHTS, False, 30, 6, 1e-6, np.zeros((3, 9))
    )
    assert cost < 1e-3 * before
    np.testing.assert_allclose(position, points[4, 4], atol=0.2)


def test_place_vertex__is_pulled_to_the_mid_line():
    view = view_of_codes(sheet_codes())
    points, state = flat_grid(size=9, step=10.0)
    points[..., 2] = sheet_height(points[..., 0], points[..., 1])
    position = points[4, 4] + [0.0, 0.0, 3.0]
    place_vertex(points, state, 4, 4, position, view, WEIGHTS, True, 30, 6, 1e-4, np.zeros((3, 9)))
    assert abs(position[2] - sheet_height(position[0], position[1])) < 0.3


def test_place_vertex__does_not_read_its_own_entry():
    points, state = flat_grid()
    results = []
    for own in (np.nan, -1.0):
        points[4, 4] = own
        position = np.array([71.0, 51.0, 41.0])
        place_vertex(
            points, state, 4, 4, position, far_view(), WEIGHTS, True, 5, 6, 0.0, np.zeros((3, 9))
        )
        results.append(position)
    np.testing.assert_array_equal(*results)
