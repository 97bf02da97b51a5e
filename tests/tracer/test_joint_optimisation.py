import field_views
import numpy as np
import pytest

from tracer import joint_optimisation
from tracer.errors import SurfaceError, TracerWarning
from tracer.joint_optimisation import JointWeights, optimise_patch
from tracer.kernels import residuals as res
from tracer.kernels import sampled_residuals as sampled
from tracer.kernels.field_sampling import NOT_LOADED

STEP = 10.0
VIEW = field_views.view_of_codes(field_views.sheet_codes())
WEIGHTS = JointWeights(depth=2.0)  # of the test sheet


def _patch(rows=8, cols=16, noise=0.7, offset=2.0, seed=3):
    """Return a grid over the test sheet, off its mid-line."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(10.0 + STEP * np.arange(rows), 12.0 + STEP * np.arange(cols), indexing="ij")
    points = np.stack([x, y, field_views.sheet_height(x, y) + offset], axis=-1)
    return points + noise * rng.normal(size=points.shape), np.ones((rows, cols), dtype=np.bool_)


def _off_sheet(points):
    return np.abs(points[..., 2] - field_views.sheet_height(points[..., 0], points[..., 1]))


def _naive_cost(points, valid, free, weights=WEIGHTS):
    """Sum up the table's residuals vertex by vertex, every one that a free vertex takes part in."""
    rows, cols = valid.shape

    def vertex(r, c):
        return 0 <= r < rows and 0 <= c < cols and valid[r, c]

    total = 0.0
    for r, c in np.argwhere(valid):
        p = points[r, c]
        if free[r, c]:
            data = sampled.data_residual(VIEW, *p, weights.depth, weights.data)[0]
            total += data**2
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
            if not vertex(r + dr, c + dc):
                continue
            if not (free[r, c] or free[r + dr, c + dc]):
                continue
            q = points[r + dr, c + dc]
            target = STEP * np.hypot(dr, dc)
            total += res.distance_residual(*p, *q, target, weights.distance)[0] ** 2
            if dr * dc == 0:
                n, depth = weights.edge_samples, weights.depth
                along = sampled.edge_data_residual(VIEW, *p, *q, n, depth, weights.edge_data)
                total += along[0] ** 2
        for dr, dc in ((0, 1), (1, 0)):
            if not (vertex(r + dr, c + dc) and vertex(r + 2 * dr, c + 2 * dc)):
                continue
            triple = [(r + k * dr, c + k * dc) for k in range(3)]
            if any(free[at] for at in triple):
                a, b, d = (points[at] for at in triple)
                total += res.straightness_residual(*a, *b, *d, weights.straightness)[0] ** 2
    return 0.5 * total


class CountingField:
    """Hands out chunks of a view only when they are asked for."""

    def __init__(self, view):
        self._full = view
        self._table = np.full_like(view.table, NOT_LOADED)
        self.asked = []

    def ensure(self, chunks):
        self.asked.append(np.asarray(chunks))
        for index in self.asked[-1]:
            if ((index >= 0) & (index < self._table.shape)).all():
                self._table[tuple(index)] = self._full.table[tuple(index)]

    def view(self):
        return self._full._replace(table=self._table)


def _holes(valid, seed=5, share=0.2):
    return valid & (np.random.default_rng(seed).random(valid.shape) > share)


@pytest.mark.parametrize("holes", [False, True])
def test_optimise_patch__minimises_the_sum_of_the_table(holes):
    points, valid = _patch()
    if holes:
        valid = _holes(valid)
    moved, report = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    assert report.initial_cost == pytest.approx(_naive_cost(points, valid, valid), rel=1e-9)
    assert report.final_cost == pytest.approx(_naive_cost(moved, valid, valid), rel=1e-9)
    assert report.final_cost < 0.3 * report.initial_cost


def test_optimise_patch__counts_no_residual_of_fixed_vertices_only():
    points, valid = _patch()
    valid = _holes(valid)
    fixed = np.random.default_rng(1).random(valid.shape) < 0.5
    moved, report = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS, fixed=fixed)
    kept = [
        (points, report.initial_cost),
        (moved, report.final_cost),
    ]
    for at, cost in kept:
        # a cell holds residuals of its fixed vertices too; they are constant
        least = _naive_cost(at, valid, valid & ~fixed)
        assert least * (1 - 1e-9) <= cost <= _naive_cost(at, valid, valid) * (1 + 1e-9)
    change = _naive_cost(points, valid, valid & ~fixed) - _naive_cost(moved, valid, valid & ~fixed)
    assert report.initial_cost - report.final_cost == pytest.approx(change, rel=1e-9)


def test_optimise_patch__pulls_to_the_mid_line():
    points, valid = _patch()
    moved, report = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    assert np.median(_off_sheet(points)) > 1.5
    assert np.median(_off_sheet(moved)) < 0.15
    assert report.n_free == points[..., 0].size
    assert report.rounds == 1
    assert "128 vertices" in report.summary()


def test_optimise_patch__a_patch_at_rest_stays():
    flat = np.full((80, 100, 200), 64 - 20, dtype=np.uint8)  # as deep as the mid-line everywhere
    view = field_views.view_of_codes(flat)
    y, x = np.meshgrid(10.0 + STEP * np.arange(5), 10.0 + STEP * np.arange(5), indexing="ij")
    points = np.stack([x, y, np.full_like(x, 30.0)], axis=-1)
    moved, report = optimise_patch(points, np.ones((5, 5), dtype=np.bool_), view, STEP)
    np.testing.assert_array_equal(moved, points)
    assert report.initial_cost == 0.0
    assert report.converged


def test_optimise_patch__does_not_touch_its_input_nor_invalid_and_fixed_vertices():
    points, valid = _patch()
    valid = _holes(valid)
    points[~valid] = np.nan
    before = points.copy()
    fixed = np.zeros_like(valid)
    fixed[:2] = True
    moved, report = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS, fixed=fixed)
    np.testing.assert_array_equal(points, before)
    np.testing.assert_array_equal(moved[~valid | fixed], before[~valid | fixed])
    assert (moved[valid & ~fixed] != before[valid & ~fixed]).any(axis=1).all()
    assert report.n_free == (valid & ~fixed).sum()


def test_optimise_patch__a_window_with_two_fixed_rings_is_a_part_of_the_whole():
    points, valid = _patch(rows=8, cols=16)
    fixed = np.ones_like(valid)
    fixed[2:6, 4:10] = False
    whole, _ = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS, fixed=fixed)
    window = np.s_[:, 2:12]
    part, _ = optimise_patch(
        points[window], valid[window], VIEW, STEP, weights=WEIGHTS, fixed=fixed[window]
    )
    np.testing.assert_allclose(part, whole[window], atol=1e-6)


def test_optimise_patch__same_bits_every_time():
    points, valid = _patch()
    first, _ = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    second, _ = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    np.testing.assert_array_equal(first, second)


def test_optimise_patch__threads_agree_but_for_rounding():
    points, valid = _patch()
    one, _ = optimise_patch(points, valid, VIEW, STEP, num_threads=1)
    two, _ = optimise_patch(points, valid, VIEW, STEP, num_threads=2)
    np.testing.assert_allclose(one, two, rtol=0.0, atol=1e-6)


def test_optimise_patch__loads_what_it_needs():
    points, valid = _patch()
    field = CountingField(VIEW)
    moved, report = optimise_patch(points, valid, field, STEP, weights=WEIGHTS)
    np.testing.assert_array_equal(
        moved, optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)[0]
    )
    assert report.rounds == len(field.asked) == 1


def test_optimise_patch__solves_again_where_vertices_leave_the_loaded_chunks(monkeypatch):
    monkeypatch.setattr(joint_optimisation, "_MARGIN", 0.0)
    points, valid = _patch(cols=11)  # its last column ends just before the second chunk
    assert points[..., 0].max() < 128.0
    points[..., 0] += 127.5 - points[..., 0].max()
    field = CountingField(VIEW)
    _, report = optimise_patch(points, valid, field, STEP)
    assert report.rounds == len(field.asked) > 1


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 5), (5, 1), (2, 2)])
def test_optimise_patch__tiny_grids(shape):
    points, valid = _patch(rows=max(shape[0], 1), cols=max(shape[1], 1))
    points, valid = points[: shape[0], : shape[1]], valid[: shape[0], : shape[1]]
    moved, report = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    assert moved.shape == points.shape
    assert np.isfinite(moved).all()
    assert report.final_cost <= report.initial_cost


def test_optimise_patch__nothing_to_move():
    points, valid = _patch()
    moved, report = optimise_patch(points, valid, VIEW, STEP, fixed=valid)
    np.testing.assert_array_equal(moved, points)
    assert (report.n_free, report.rounds) == (0, 0)


def test_optimise_patch__coincident_vertices_come_apart():
    points, valid = _patch(rows=3, cols=3, noise=0.0)
    points[1, 1] = points[1, 2]
    moved, report = optimise_patch(points, valid, VIEW, STEP, iterations=60)
    assert report.final_cost < 0.01 * report.initial_cost
    assert np.linalg.norm(moved[1, 1] - moved[1, 2]) > 0.5 * STEP


def test_optimise_patch__outside_the_volume_only_structure_counts():
    points, valid = _patch()
    points[..., 2] += 500.0
    moved, _ = optimise_patch(points, valid, VIEW, STEP, weights=WEIGHTS)
    assert np.isfinite(moved).all()
    gaps = np.linalg.norm(np.diff(moved, axis=1), axis=2)
    np.testing.assert_allclose(gaps, STEP, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(valid=a["valid"][:-1]), "not one grid"),
        (lambda a: a.update(fixed=a["valid"][:-1]), "not one grid"),
        (lambda a: a.update(points_xyz=a["points_xyz"][..., :2]), "not one grid"),
        (lambda a: a.update(step=0.0), "step is 0.0"),
        (lambda a: a["points_xyz"].__setitem__((2, 3, 1), np.nan), r"\(2, 3\) is not finite"),
    ],
    ids=["valid", "fixed", "points", "step", "nan"],
)
def test_optimise_patch__refuses_bad_input(change, message):
    points, valid = _patch()
    arguments = {"points_xyz": points, "valid": valid, "step": STEP, "field": VIEW}
    change(arguments)
    with pytest.raises(SurfaceError, match=message):
        optimise_patch(**arguments)


@pytest.mark.parametrize(
    ("name", "value"), [("data", -1.0), ("depth", np.nan), ("edge_samples", 0)]
)
def test_joint_weights__refuses_nonsense(name, value):
    with pytest.raises(ValueError, match=name):
        JointWeights(**{name: value})


@pytest.mark.slow
def test_optimise_patch__callback_path_gives_the_same_bits_with_one_warning(monkeypatch):
    points, valid = _patch(rows=4, cols=5)
    expected, _ = optimise_patch(points, valid, VIEW, STEP, iterations=4)
    monkeypatch.setattr(joint_optimisation, "native_status", lambda: "not today")
    joint_optimisation._warn_slow.cache_clear()
    with pytest.warns(TracerWarning, match="not today"):
        actual, _ = optimise_patch(points, valid, VIEW, STEP, iterations=4)
    again, _ = optimise_patch(points, valid, VIEW, STEP, iterations=4)  # warnings are errors here
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(again, expected)
    joint_optimisation._warn_slow.cache_clear()


@pytest.mark.slow
def test_optimise_patch__halves_the_distance_of_stored_patches_to_the_truth(shared_data):
    from tracer.distance_field import DistanceField
    from tracer.phantom.truth import Truth
    from tracer.surface import Surface
    from tracer.volume import Volume

    folder = shared_data / "vc3d"
    truth = Truth.load(folder / "truth.json")
    field = DistanceField(Volume.open(folder / "volume" / "pred.zarr"))
    before, after = [], []
    for path in sorted((folder / "patches_seeded").iterdir())[:4]:
        surface = Surface.load(path)
        moved, report = optimise_patch(surface.points_xyz, surface.valid, field, surface.step)
        assert report.final_cost < report.initial_cost
        before.append(truth.distance(surface.points_xyz[surface.valid]))
        after.append(truth.distance(moved[surface.valid]))
    median = [np.median(np.abs(np.concatenate(part))) for part in (before, after)]
    assert median[0] > 0.8
    assert median[1] < 0.25
