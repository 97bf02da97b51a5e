import numpy as np
import pytest

from tracer.errors import NothingFoundError, SurfaceError
from tracer.phantom import Truth
from tracer.phantom.levels import plan_phantom
from tracer.phantom.params import PhantomParams
from tracer.score import find_surfaces, score_paths, score_surfaces, wrap_offsets
from tracer.surface import Surface

STEP = 5.0


@pytest.fixture(scope="module")
def truth():
    return plan_phantom(PhantomParams(size_zyx=(128, 320, 320), level="normal"))


def patch(truth, theta, z, shift=0.0, scale=1.0 / STEP):
    """A surface at given angles and heights, `shift` voxels outside of the recto."""
    theta, z = np.broadcast_arrays(theta, z)
    points = truth.point(theta, z)
    points = points + truth.normal(points) * np.asarray(shift)[..., None]
    return Surface(points_xyz=points, valid=truth.inside(points), scale=(scale, scale))


def grid_of(truth, step=STEP):
    _, _, theta, z = truth.recto_grid(step)
    return theta[None, :], z[:, None]


def test_score_surfaces__of_the_true_recto_is_perfect(truth):
    score = score_surfaces([truth.recto_surface(STEP)], truth)
    assert score.coverage > 0.99
    assert score.distance_p95 < 1e-3
    assert score.within == 1.0
    assert score.switch_rate == 0.0
    assert score.n_switched == score.switch_edges == 0
    assert score.normal_median_deg < 1.0
    assert score.length_distortion < 0.1
    assert score.outside < 0.02
    assert score.hole_vx2 == 0.0
    assert score.self_intersections == 0
    assert score.area_cm2 == pytest.approx(score.area_vx2 * 7.91e-4**2)
    assert len(score.surfaces) == score.n_surfaces == 1


@pytest.mark.parametrize("shift", [-2.0, 1.0, 5.0])
def test_score_surfaces__measures_the_distance(truth, shift):
    theta, z = grid_of(truth)
    shifts = np.broadcast_to(shift, np.broadcast_shapes(theta.shape, z.shape))
    score = score_surfaces([patch(truth, theta, z, shifts)], truth)
    assert score.distance_median == pytest.approx(abs(shift), abs=0.1)
    assert (score.within > 0.99) == (abs(shift) < 3.0)
    assert (score.coverage > 0.97) == (abs(shift) < 3.0)
    assert score.coverage > 0.97 or score.coverage < 0.05
    assert score.switch_rate == 0.0


@pytest.mark.parametrize("degrees", [5.0, 20.0])
def test_score_surfaces__measures_the_deviation_of_normals(truth, degrees):
    theta, z = grid_of(truth)
    lean = np.tan(np.radians(degrees)) * (np.broadcast_to(z, (z.size, theta.size)) % 10.0 - 5.0)
    level = patch(truth, theta, z, np.zeros_like(lean))
    leaning = patch(truth, theta, z[:2], lean[:2])  # two rows: the outward shift grows with z
    base = score_surfaces([level], truth)
    score = score_surfaces([leaning], truth)
    rise = np.degrees(np.arctan((lean[1, 0] - lean[0, 0]) / (z[1, 0] - z[0, 0])))
    assert base.normal_median_deg < 1.0
    assert score.normal_median_deg == pytest.approx(abs(rise), abs=1.0)
    assert score.normal_p95_deg == pytest.approx(abs(rise), abs=3.0)


def test_score_surfaces__percentiles_of_the_distance(truth):
    theta, z = grid_of(truth)
    shifts = np.zeros((z.size, theta.size))
    shifts[:, : theta.size // 10] = 4.0  # a tenth is 4 voxels off, the rest 1
    shifts[:, theta.size // 10 :] = 1.0
    score = score_surfaces([patch(truth, theta, z, shifts)], truth)
    assert score.distance_median == pytest.approx(1.0, abs=0.05)
    assert score.distance_p95 == pytest.approx(4.0, abs=0.1)
    assert score.within == pytest.approx(0.9, abs=0.02)


def test_score_surfaces__has_every_figure_of_a_surface(truth):
    values = score_surfaces([truth.recto_surface(STEP)], truth).to_json()
    wanted = {"switch_rate", "distance_median", "distance_p95", "normal_median_deg", "hole_vx2"}
    wanted |= {"length_distortion", "area_distortion", "self_intersections", "coverage"}
    assert wanted <= set(values)
    assert wanted <= set(values["surfaces"][0])


def test_score_surfaces__coverage_is_the_share_of_the_area(truth):
    surface = truth.recto_surface(STEP)
    whole = surface.area_vx2
    cols = surface.shape[1]
    left = Surface(
        points_xyz=surface.points_xyz[:, : cols // 3],
        valid=surface.valid[:, : cols // 3],
        scale=surface.scale,
    )
    score = score_surfaces([left, left], truth)
    assert score.coverage == pytest.approx(left.area_vx2 / whole, abs=0.02)
    assert [one.coverage for one in score.surfaces] == [score.coverage] * 2
    rows = surface.shape[0] // 2
    lower = Surface(
        points_xyz=surface.points_xyz[:rows], valid=surface.valid[:rows], scale=surface.scale
    )
    both = score_surfaces([left, lower], truth)
    first, second = (one.coverage for one in both.surfaces)
    assert first == score.coverage
    assert second == pytest.approx(lower.area_vx2 / whole, abs=0.04)
    assert both.coverage == pytest.approx(first + second - first * second, abs=0.02)
    assert score.area_vx2 == pytest.approx(2 * left.area_vx2)


def test_score_surfaces__finds_a_planted_switch(truth):
    _, _, theta, z = truth.recto_grid(STEP)
    theta = theta[theta < truth.theta_range[1] - 2 * np.pi]
    share = 0.3
    turned = theta + np.where(np.arange(len(theta)) >= (1 - share) * len(theta), 2 * np.pi, 0)
    switched = patch(truth, turned[None, :], z[:, None])
    score = score_surfaces([switched, truth.recto_surface(STEP)], truth)
    assert score.n_switched == 1
    assert score.switch_edges > 0.8 * len(z)
    first, second = score.surfaces
    area = switched.quad_areas()
    beyond = area[:, int((1 - share) * len(theta)) :].sum() / area.sum()
    assert first.switch_rate == pytest.approx(beyond, abs=0.03)
    assert second.switch_rate == 0.0
    pooled = first.switch_rate * first.area_vx2 / score.area_vx2
    assert score.switch_rate == pytest.approx(pooled, rel=1e-3)


def test_score_surfaces__counts_self_intersections(truth):
    first = truth.theta_range[0] + 2.5 * np.pi
    theta, z = np.meshgrid(first + np.linspace(0, 2.4 * np.pi, 160), np.arange(30, 90, STEP))
    lean = 0.2 * (z - 60) / 30  # over one turn it falls back through its own beginning
    falls = patch(truth, theta, z, truth.pitch * (lean - 1) * (theta - first) / (2 * np.pi))
    assert falls.valid.mean() > 0.9
    score = score_surfaces([falls, truth.recto_surface(STEP)], truth)
    assert score.self_intersections == score.surfaces[0].self_intersections > 0
    assert "cross their own surface" in score.summary()


def test_score_surfaces__finds_a_gradual_switch(truth):
    _, _, theta, z = truth.recto_grid(STEP)
    theta = theta[theta < truth.theta_range[1] - 2 * np.pi]
    rise = np.clip((np.arange(len(theta)) - 40) / 8.0, 0, 1) * truth.pitch
    surface = patch(truth, theta[None, :], z[:, None], np.broadcast_to(rise, (len(z), len(theta))))
    score = score_surfaces([surface], truth)
    assert score.n_switched == 1
    far = np.arange(len(theta)) >= 44
    expected = min(far.mean(), 1 - far.mean())
    assert score.switch_rate == pytest.approx(expected, abs=0.05)


def test_score_surfaces__knows_the_wrap_of_an_island(truth):
    _, _, theta, z = truth.recto_grid(STEP)
    theta = theta[theta < truth.theta_range[1] - 2 * np.pi]
    for turns, switched in ((0, False), (1, True)):
        turned = theta + np.where(np.arange(len(theta)) >= 60, 2 * np.pi * turns, 0)
        surface = patch(truth, turned[None, :], z[:, None])
        valid = surface.valid.copy()
        valid[:, 58:62] = False
        islands = Surface(points_xyz=surface.points_xyz, valid=valid, scale=surface.scale)
        score = score_surfaces([islands], truth)
        assert (score.switch_rate > 0.1) == switched
        assert score.switch_edges == 0  # no edge joins the islands


def test_wrap_offsets__ignores_turns_that_a_surface_makes_itself(truth):
    theta, z = grid_of(truth)
    surface = patch(truth, theta, z)
    located = truth.locate(surface.points_xyz)
    assert np.ptp(located.theta[surface.valid]) > 2 * np.pi
    offsets = wrap_offsets(located, surface.valid, STEP, np.ones(surface.shape))
    assert (offsets == 0).all()


def test_score_surfaces__measures_distortion_and_holes(truth):
    theta, z = grid_of(truth)
    surface = patch(truth, theta, z)
    valid = surface.valid.copy()
    valid[5:8, 20:24] = False
    stretched = Surface(points_xyz=surface.points_xyz, valid=valid, scale=(0.8 / STEP, 0.8 / STEP))
    score = score_surfaces([stretched], truth)
    assert score.hole_vx2 == pytest.approx(12 * (STEP / 0.8) ** 2)
    assert score.length_distortion == pytest.approx(0.2, abs=0.06)
    assert score.area_distortion == pytest.approx(0.36, abs=0.1)


def test_score_surfaces__counts_what_lies_beyond_the_sheet(truth):
    theta = np.linspace(truth.theta_range[1] + 0.2, truth.theta_range[1] + 2.0, 40)
    beyond = truth.point(theta[None, :], np.linspace(40, 80, 9)[:, None])
    surface = Surface(points_xyz=beyond, valid=np.ones((9, 40), bool), scale=(0.2, 0.2))
    score = score_surfaces([surface], truth)
    assert score.outside == 1.0
    assert score.distance_median < 0.01


def test_score_surfaces__takes_degenerate_surfaces(truth):
    empty = Surface(points_xyz=np.ones((3, 3, 3)), valid=np.zeros((3, 3), bool))
    with pytest.raises(NothingFoundError):
        score_surfaces([empty], truth)
    with pytest.raises(NothingFoundError):
        score_surfaces([], truth)
    line = patch(truth, np.linspace(20, 21, 5)[None, :], np.array([[60.0]]))
    score = score_surfaces([empty, line], truth)
    assert score.n_surfaces == 1
    assert score.to_json()["area_distortion"] is None
    assert score.to_json()["surfaces"][0]["normal_p95_deg"] is None
    assert "1 surfaces" in score.summary()


def test_score_paths__takes_surfaces_and_folders(truth, tmp_path):
    surface = truth.recto_surface(STEP)
    for name in ("b", "a"):
        surface.save(tmp_path / "paths" / name)
    (tmp_path / "paths" / "unfinished").mkdir()
    found = find_surfaces([tmp_path / "paths", tmp_path / "paths" / "b"])
    assert [path.name for path in found] == ["a", "b", "b"]
    calls = []
    score = score_paths([tmp_path / "paths"], truth, progress=lambda *args: calls.append(args))
    assert [one.name for one in score.surfaces] == ["a", "b"]
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
    assert score.coverage == score_surfaces([surface], truth).coverage
    with pytest.raises(SurfaceError, match="no such directory"):
        find_surfaces([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("folder", "n", "switched", "edges", "coverage", "median", "p95"),
    [
        ("patches_seeded", 20, 4, 28, 0.295, 0.94, 2.26),
        ("patches_expanded", 248, 24, 126, 0.882, 0.94, 1.95),
        ("trace", 1, 0, 0, 0.261, 0.35, 1.06),
        ("fuse", 1, 1, 34, 0.292, 1.02, 9.23),
    ],
)
def test_score_paths__agrees_with_the_stored_figures(
    shared_data, folder, n, switched, edges, coverage, median, p95
):
    # Switches are as stored. The stored coverage (0.878, 0.258) is by samples of the surfaces and
    # their median (0.96, 0.95) takes the pitch as the same everywhere.
    truth = Truth.load(shared_data / "vc3d" / "truth.json")
    score = score_paths([shared_data / "vc3d" / folder], truth)
    assert (score.n_surfaces, score.n_switched, score.switch_edges) == (n, switched, edges)
    assert score.coverage == pytest.approx(coverage, abs=0.002)
    assert score.distance_median == pytest.approx(median, abs=0.01)
    assert score.distance_p95 == pytest.approx(p95, abs=0.02)
