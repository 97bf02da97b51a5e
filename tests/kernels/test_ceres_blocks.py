import field_views
import numpy as np
import pytest
from asserts import assert_jacobian

from tracer.kernels import ceres_blocks as blocks
from tracer.kernels import ceres_field_blocks as field_blocks
from tracer.kernels import residuals as res
from tracer.kernels import sampled_residuals as sampled
from tracer.kernels.ceres_native import native_cost
from tracer.kernels.ceres_problem import NativeProblem

pytestmark = pytest.mark.jit_only  # an address needs compiled code

VIEW = field_views.view_of_codes(field_views.sheet_codes())
FIELD = (VIEW.pool, VIEW.table, VIEW.shape_zyx)
GRID = np.random.default_rng(7).normal(size=(6, 8, 3)).astype(np.float32) * 10.0
CHANNEL = np.ascontiguousarray(GRID[..., 0])
ALL = np.ones((6, 8), dtype=np.bool_)
A, B = np.array([60.31, 40.42, 42.73]), np.array([79.24, 43.17, 43.61])
C, D = np.array([58.13, 60.22, 43.36]), np.array([78.44, 61.71, 44.27])
NORMAL = np.array([0.1, -0.3, 1.2])
HERE, NEAR, NEXT = np.array([2.3, 3.6]), np.array([2.9, 5.2]), np.array([3.7, 6.4])

CASES = {
    "distance": (blocks.evaluate_distance, 1, (A, B), (25.0, 2.0), ()),
    "straightness": (blocks.evaluate_straightness, 1, (A, B, D), (0.5,), ()),
    "linear straightness": (blocks.evaluate_linear_straightness, 3, (A, B, D), (0.7,), ()),
    "location distance": (blocks.evaluate_location_distance, 1, (HERE, NEAR), (2.0, 1.5), ()),
    "location straightness": (
        blocks.evaluate_location_straightness,
        1,
        (HERE, NEAR, NEXT),
        (0.7,),
        (),
    ),
    "surface": (blocks.evaluate_surface, 3, (A, HERE), (0.1,), (GRID, ALL)),
    "location value": (
        blocks.evaluate_location_value,
        1,
        (HERE, np.array([4.0])),
        (10.0,),
        (CHANNEL, ALL),
    ),
    "z": (blocks.evaluate_z, 1, (A, np.array([40.0])), (0.3,), ()),
    "normal": (blocks.evaluate_normal, 1, (A, B, NORMAL), (0.3,), ()),
    "direction": (blocks.evaluate_direction, 1, (A, B, NORMAL), (1.0,), ()),
    "normal direction": (blocks.evaluate_normal_direction, 1, (A, B, C, NORMAL), (0.6,), ()),
    "data": (field_blocks.evaluate_data, 1, (A,), (16.0, 3.0, 0.1), FIELD),
    "edge": (field_blocks.evaluate_edge, 2, (A, B), (16.0, 3.0, 20.0, 1.0, 5.0, 0.1), FIELD),
    "cell": (
        field_blocks.evaluate_cell,
        7,
        (A, B, C, D),
        (16.0, 3.0, 20.0, 1.0, 5.0, 0.1, 0.2),
        FIELD,
    ),
}


def _problem(name, points, native):
    function, n_residuals, start, constants, arrays = CASES[name]
    sizes = tuple(len(block) for block in start)
    cost = native_cost(function, n_residuals, sizes, constants, arrays, native=native)
    problem = NativeProblem()
    problem.add_blocks(cost, *((point, np.array([0])) for point in points))
    return problem


def _evaluate(name, native):
    """Return a function of all parameters, and their values."""
    points = [np.ascontiguousarray(block[None], dtype=np.float64) for block in CASES[name][2]]
    problem = _problem(name, points, native)
    splits = np.cumsum([point.size for point in points])[:-1]

    def evaluate(x):
        for point, part in zip(points, np.split(x, splits), strict=True):
            point[0] = part
        residuals = problem.residuals()
        jacobian = np.zeros((len(residuals), len(x)))
        rows, cols, values = problem.jacobian()
        jacobian[rows, cols] = values
        return residuals, jacobian

    return evaluate, np.concatenate([point[0] for point in points])


@pytest.mark.parametrize("name", CASES)
def test_evaluate__jacobian_as_ceres_sees_it(name):
    evaluate, start = _evaluate(name, True)
    assert_jacobian(evaluate, start, step=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_evaluate__both_paths_agree_to_the_bit(name):
    direct, start = _evaluate(name, True)
    callback, _ = _evaluate(name, False)
    for one, other in zip(direct(start), callback(start), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_evaluate__skips_fixed_blocks(name):
    start = CASES[name][2]
    full, at = _evaluate(name, True)
    expected = full(at)[1]
    splits = np.cumsum([block.size for block in start])[:-1]
    for fixed in range(len(start)):
        points = [np.ascontiguousarray(block[None], dtype=np.float64) for block in start]
        problem = _problem(name, points, True)
        problem.fix_blocks(points[fixed], np.array([0]))
        rows, cols, values = problem.jacobian()
        kept = expected.copy()
        kept[:, np.split(np.arange(len(at)), splits)[fixed]] = 0.0
        actual = np.zeros_like(kept)
        actual[rows, cols] = values
        np.testing.assert_array_equal(actual, kept)
        assert len(values) == expected.size - expected.shape[0] * start[fixed].size


def test_evaluate_edge__is_the_scalar_cores():
    evaluate, start = _evaluate("edge", True)
    residuals, _ = evaluate(start)
    assert residuals[0] == res.distance_residual(*A, *B, 20.0, 1.0)[0]
    assert residuals[1] == sampled.edge_data_residual(VIEW, *A, *B, 5, 3.0, 0.1)[0]


def test_evaluate_cell__is_its_parts():
    evaluate, start = _evaluate("cell", True)
    residuals, _ = evaluate(start)
    diagonal = 20.0 * np.sqrt(2.0)
    expected = [
        res.distance_residual(*A, *B, 20.0, 1.0)[0],
        res.distance_residual(*A, *C, 20.0, 1.0)[0],
        res.distance_residual(*A, *D, diagonal, 1.0)[0],
        res.distance_residual(*B, *C, diagonal, 1.0)[0],
        sampled.edge_data_residual(VIEW, *A, *B, 5, 3.0, 0.1)[0],
        sampled.edge_data_residual(VIEW, *A, *C, 5, 3.0, 0.1)[0],
        sampled.data_residual(VIEW, *A, 3.0, 0.2)[0],
    ]
    np.testing.assert_allclose(residuals, expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["surface", "location value"])
def test_evaluate__a_location_off_the_surface_is_refused(name):
    points = [np.ascontiguousarray(block[None], dtype=np.float64) for block in CASES[name][2]]
    location = points[1] if name == "surface" else points[0]
    location[:] = 100.0
    before = [point.copy() for point in points]
    for native in (True, False):
        assert not _problem(name, points, native).solve().usable
    for one, other in zip(points, before, strict=True):
        np.testing.assert_array_equal(one, other)
