import gc
import subprocess
import sys
import warnings

import numpy as np
import pyceres
import pytest

from tracer.kernels import ceres_native
from tracer.kernels.ceres_blocks import evaluate_distance, evaluate_straightness, evaluate_z
from tracer.kernels.ceres_native import native_cost, native_status
from tracer.kernels.ceres_problem import NativeProblem, SolveOptions

pytestmark = pytest.mark.jit_only  # an address needs compiled code

BOTH_PATHS = pytest.mark.parametrize("native", [True, False], ids=["native", "callback"])


def _grid(n=8, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    rows, cols = np.meshgrid(np.arange(n) * 20.0, np.arange(n) * 20.0, indexing="ij")
    points = np.stack([cols, rows, np.zeros_like(rows)], axis=-1).reshape(-1, 3)
    return np.ascontiguousarray(points + noise * rng.normal(size=points.shape))


def _mesh_problem(points, n, native):
    """Distances of neighbours and straightness of rows."""
    index = np.arange(n * n).reshape(n, n)
    problem = NativeProblem()
    side = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0), native=native)
    line = native_cost(evaluate_straightness, 1, (3, 3, 3), (0.5,), native=native)
    for first, second in ((index[:-1], index[1:]), (index[:, :-1], index[:, 1:])):
        problem.add_blocks(side, (points, first.ravel()), (points, second.ravel()))
    triples = (index[:, :-2], index[:, 1:-1], index[:, 2:])
    problem.add_blocks(line, *((points, part.ravel()) for part in triples))
    return problem


def test_native_status__works_on_the_tested_platform():
    assert native_status() == ""


def test_native_cost__uses_the_direct_path_by_default():
    assert native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0)).native


@BOTH_PATHS
def test_native_cost__one_cost_serves_blocks_and_problems(native):
    cost = native_cost(evaluate_distance, 1, (3, 3), (5.0, 2.0), native=native)
    for _ in range(2):
        points = np.array([[0.0, 0, 0], [3, 4, 0], [0, 0, 10]])
        problem = NativeProblem()
        problem.add_blocks(cost, (points, np.array([0, 0])), (points, np.array([1, 2])))
        assert problem.residuals().tolist() == [0.0, 2.0]


@BOTH_PATHS
def test_native_problem__solves_in_place(native):
    n = 8
    points = _grid(n)
    before = points.copy()
    problem = _mesh_problem(points, n, native)
    summary = problem.solve(SolveOptions(gradient_tolerance=1e-5))
    assert summary.usable
    assert summary.converged
    assert summary.final_cost < 1e-3 * summary.initial_cost
    assert summary.n_blocks == problem.n_blocks == 2 * n * (n - 1) + n * (n - 2)
    assert not np.array_equal(points, before)
    assert 0.5 * (problem.residuals() ** 2).sum() == pytest.approx(summary.final_cost)


def test_native_problem__both_paths_agree_to_the_bit():
    n = 8
    results = []
    for native in (True, False):
        points = _grid(n)
        problem = _mesh_problem(points, n, native)
        problem.fix_blocks(points, np.arange(n))
        start = problem.residuals()
        jacobian = problem.jacobian()
        summary = problem.solve(SolveOptions(max_iterations=7))
        results.append((start, *jacobian, points, summary))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@BOTH_PATHS
def test_native_problem__fixed_rows_stay(native):
    n = 6
    points = _grid(n)
    before = points.copy()
    problem = _mesh_problem(points, n, native)
    fixed = np.array([0, 1, 7, n * n - 1])
    problem.fix_blocks(points, fixed)
    assert problem.solve().usable
    moved = (points != before).any(axis=1)
    assert not moved[fixed].any()
    assert moved.sum() == n * n - len(fixed)


@BOTH_PATHS
def test_native_problem__everything_fixed_changes_nothing(native):
    n = 3
    points = _grid(n)
    before = points.copy()
    problem = _mesh_problem(points, n, native)
    problem.fix_blocks(points, np.arange(n * n))
    summary = problem.solve()
    assert summary.n_steps == 0
    assert summary.final_cost == pytest.approx(summary.initial_cost)
    np.testing.assert_array_equal(points, before)


def test_native_problem__rows_without_residuals_are_left_alone():
    points = _grid(3)
    before = points.copy()
    problem = NativeProblem()
    cost = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0))
    problem.add_blocks(cost, (points, np.array([0])), (points, np.array([1])))
    problem.fix_blocks(points, np.arange(9))
    problem.solve()
    np.testing.assert_array_equal(points, before)


def test_native_problem__same_input_gives_the_same_bits():
    n = 10
    results = []
    for _ in range(2):
        points = _grid(n, noise=3.0)
        _mesh_problem(points, n, True).solve()
        results.append(points)
    np.testing.assert_array_equal(*results)


def test_native_problem__no_blocks_is_an_empty_solution():
    problem = NativeProblem()
    assert problem.residuals().shape == (0,)
    assert problem.n_blocks == 0


@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_native_problem__loss_pulls_less_at_an_outlier(loss):
    heights, targets = np.zeros((1, 3)), np.array([[0.0], [0.1], [50.0]])
    rows = np.zeros(3, dtype=np.int64)
    results = []
    for name in (None, loss):
        heights[:] = 0.0
        problem = NativeProblem()
        cost = native_cost(evaluate_z, 1, (3, 1), (1.0,))
        problem.add_blocks(cost, (heights, rows), (targets, np.arange(3)), loss=name)
        problem.fix_blocks(targets, np.arange(3))
        assert problem.solve(SolveOptions(function_tolerance=1e-14)).usable
        results.append(heights[0, 2])
    assert results[0] == pytest.approx(50.1 / 3)
    assert results[1] < 2.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 3), dtype=np.float32), "C-contiguous float64"),
        (np.zeros((4, 6))[:, ::2], "C-contiguous float64"),
        (np.zeros((4, 2)), "blocks of 3 values"),
    ],
)
def test_native_problem__refuses_arrays_it_could_not_change_in_place(values, message):
    cost = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0))
    with pytest.raises(ValueError, match=message):
        NativeProblem().add_blocks(cost, (values, np.array([0])), (values, np.array([1])))


def test_native_problem__refuses_read_only_arrays():
    values = np.zeros((4, 3))
    values.flags.writeable = False
    cost = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0))
    with pytest.raises(ValueError, match="writeable"):
        NativeProblem().add_blocks(cost, (values, np.array([0])), (values, np.array([1])))


def test_native_problem__refuses_a_wrong_number_of_columns():
    values = np.zeros((4, 3))
    cost = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0))
    with pytest.raises(ValueError, match="2 blocks, not 1"):
        NativeProblem().add_blocks(cost, (values, np.array([0])))


def test_native_cost__refuses_strided_arrays():
    with pytest.raises(ValueError, match="C-contiguous"):
        native_cost(evaluate_distance, 1, (3, 3), (), (np.zeros((4, 6))[:, ::2],))


def test_native_cost__memory_lives_and_dies_with_the_cost():
    array = np.zeros(1000)
    references = sys.getrefcount(array)
    cost = native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0), (array,))
    points = _grid(2)
    problem = NativeProblem()
    problem.add_blocks(cost, (points, np.array([0])), (points, np.array([1])))
    del cost
    gc.collect()
    assert sys.getrefcount(array) > references
    assert problem.solve().usable
    del problem
    gc.collect()
    assert sys.getrefcount(array) == references


def test_native_problem__survives_being_built_and_dropped():
    points = _grid(5)
    kept = []
    for round_ in range(200):
        problem = _mesh_problem(points, 5, round_ % 4 != 3)
        if round_ % 3 == 0:
            problem.solve(SolveOptions(max_iterations=2))
        if round_ % 10 == 0:
            kept.append(problem)
        if round_ % 25 == 0:
            del kept[::2]
            gc.collect()
    del problem, kept
    gc.collect()
    assert np.isfinite(points).all()


@pytest.mark.slow
def test_native_cost__leaves_quietly_at_exit():
    code = (
        "import numpy as np\n"
        "from tracer.kernels.ceres_blocks import evaluate_distance as f\n"
        "from tracer.kernels.ceres_native import native_cost\n"
        "from tracer.kernels.ceres_problem import NativeProblem\n"
        "import builtins\n"
        "points = np.zeros((2, 3)); problem = NativeProblem()\n"
        "cost = native_cost(f, 1, (3, 3), (20.0, 1.0))\n"
        "problem.add_blocks(cost, (points, np.array([0])), (points, np.array([1])))\n"
        "builtins.kept = (problem, cost)\n"
        "print(problem.solve().usable)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


# the way back


@pytest.fixture
def forgotten_status():
    """Let the module decide anew, and again after the test."""
    native_status.cache_clear()
    ceres_native._warn_once.cache_clear()
    yield
    native_status.cache_clear()
    ceres_native._warn_once.cache_clear()


@pytest.mark.usefixtures("forgotten_status")
@pytest.mark.parametrize(
    ("target", "value", "reason"),
    [
        ("pyceres.__version__", "9.9", "pyceres 9.9 is not one of 2.6"),
        ("sys.platform", "win32", "C\\+\\+ ABI of win32"),
        ("platform.machine", lambda: "riscv64", "riscv64"),
        ("_proves_itself", lambda: False, "self-test"),
    ],
)
def test_native_cost__falls_back_with_one_warning(monkeypatch, target, value, reason):
    monkeypatch.setattr(f"tracer.kernels.ceres_native.{target}", value)
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        costs = [native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0)) for _ in range(3)]
    assert len(caught) == 1
    assert not any(cost.native for cost in costs)


def test_native_cost__asking_for_the_callback_path_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not native_cost(evaluate_distance, 1, (3, 3), (20.0, 1.0), native=False).native


@pytest.mark.usefixtures("forgotten_status")
def test_native_status__self_test_notices_a_wrong_function(monkeypatch):
    monkeypatch.setattr(ceres_native, "_self_test_residual", evaluate_distance)
    assert "self-test" in native_status()


@pytest.mark.usefixtures("forgotten_status")
def test_native_status__notices_another_object_layout(monkeypatch):
    class Moved(pyceres.CostFunction):
        """Its residual count is not where it was asked to be."""

        def set_num_residuals(self, n):
            super().set_num_residuals(n + 1)

    monkeypatch.setattr(ceres_native.pyceres, "CostFunction", Moved)
    assert "self-test" in native_status()


def test_native_problem__callback_path_survives_residuals_first():
    points = _grid(3)
    direct, callback = (_mesh_problem(points, 3, native).residuals() for native in (True, False))
    np.testing.assert_array_equal(direct, callback)
