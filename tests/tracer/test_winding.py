import numpy as np
import pytest
import tifffile
from spirals import PITCH, STEP, spiral

from tracer.cli.main import main
from tracer.surface import Surface
from tracer.winding import solve_winding
from tracer.winding.output import point_collections


def flipped(surface, truth, rows, cols):
    turned = Surface(
        points_xyz=surface.points_xyz[::rows, ::cols].copy(),
        valid=surface.valid[::rows, ::cols].copy(),
        scale=surface.scale,
    )
    return turned, truth[::rows, ::cols]


def run_tracer(*arguments):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def error(found, truth, valid):
    off = (found.values - truth)[valid]
    return np.abs(off - np.median(off)).mean()


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_solve_winding__any_orientation(rows, cols):
    surface, truth = flipped(*spiral(3, noise=0.3, holes=True), rows, cols)
    found = solve_winding(surface)
    assert found.verdict == "continuous"
    assert found.n_components == 1
    assert found.n_wraps == pytest.approx(3.0, abs=0.05)
    assert found.gap == pytest.approx(PITCH, rel=0.05)
    assert error(found, truth, surface.valid) < 0.01
    assert np.array_equal(np.isnan(found.values), ~surface.valid)


def test_solve_winding__less_than_a_wrap():
    surface, truth = spiral(0.6)
    found = solve_winding(surface)
    assert found.verdict == "less than one wrap"
    assert "less than one wrap" in found.summary()
    assert np.isnan(found.gap)
    assert error(found, truth, surface.valid) < 0.02


def test_solve_winding__is_the_same_every_time():
    surface, _ = spiral(2, noise=0.3, jump=25)
    first, second = solve_winding(surface), solve_winding(surface)
    assert first.values.tobytes() == second.values.tobytes()
    assert first.discontinuities == second.discontinuities


@pytest.mark.parametrize("at", [25, 45])
def test_solve_winding__finds_a_jump_outward(at):
    surface, truth = spiral(3, noise=0.3, jump=at)
    found = solve_winding(surface)
    assert found.verdict == "jumps"
    jump = found.discontinuities[0]
    assert jump.turns == 1
    assert jump.cols[0] - 2 <= at <= jump.cols[1] + 2
    assert jump.rows == (0, 13)
    away = np.ones(truth.shape, bool)
    away[:, at - 4 : at + 8] = False
    assert error(found, truth, away) < 0.02  # the wrap that was jumped over counts


def test_solve_winding__components_are_told():
    surface, _ = spiral(0.8)
    valid = surface.valid.copy()
    valid[:, 9:13] = False
    split = Surface(points_xyz=surface.points_xyz, valid=valid, scale=surface.scale)
    found = solve_winding(split)
    assert found.n_components == 2
    assert set(np.unique(found.component)) == {-1, 0, 1}


def test_point_collections__differences_are_windings():
    surface, truth = spiral(2)
    found = solve_winding(surface)
    collections = point_collections(surface, found)
    assert collections["vc_pointcollections_json_version"] == "1"
    first = collections["collections"]["0"]
    assert first["metadata"] == {"winding_is_absolute": False}
    windings = [point["wind_a"] for point in first["points"].values()]
    assert windings[-1] - windings[0] == pytest.approx(np.ptp(truth[0, ::4]), abs=0.01)


def test_winding_command__writes_into_the_surface(tmp_path):
    surface, _ = spiral(2)
    directory = surface.save(tmp_path / "spiral")
    assert run_tracer("winding", directory) == 0
    stored = Surface.load(directory)
    assert set(stored.channels) == {"winding", "wind_vis"}
    assert stored.channels["wind_vis"].shape == (*stored.shape, 3)
    assert stored.meta["winding"]["verdict"] == "continuous"
    first = (directory / "winding.tif").read_bytes()
    assert run_tracer("winding", directory) == 0
    assert (directory / "winding.tif").read_bytes() == first


def test_winding_command__exits_with_1_for_a_jump(tmp_path, capsys):
    directory = spiral(3, jump=30)[0].save(tmp_path / "jumping")
    assert run_tracer("winding", directory) == 1
    assert "jump of +1" in capsys.readouterr().out


def test_solve_winding__of_a_trace_of_vc3d(shared_data):
    path = next((shared_data / "vc3d" / "trace").glob("*/meta.json")).parent
    surface = Surface.load(path)
    truth = tifffile.imread(shared_data / "vc3d" / "winding" / "winding_true.tif")
    found = solve_winding(surface)
    assert found.verdict == "continuous"
    signed = truth * np.sign(np.corrcoef(truth[surface.valid], found.values[surface.valid])[0, 1])
    assert error(found, signed, surface.valid) < 0.01


def test_solve_winding__of_a_fine_grid():
    coarse, _ = spiral(2)
    rows, cols = np.meshgrid(np.arange(0, 13, 0.2), np.arange(0, coarse.shape[1] - 1, 0.2))
    points, valid = coarse.sample(rows.T, cols.T)
    fine = Surface(points_xyz=points, valid=valid, scale=(5 / STEP, 5 / STEP))
    found = solve_winding(fine)
    assert found.values.shape == fine.shape
    assert found.verdict == "continuous"
    offset = np.median(found.values[::5, ::5] - solve_winding(coarse).values[:13, :-1])
    off = found.values[::5, ::5] - solve_winding(coarse).values[:13, :-1] - offset
    assert np.abs(off).max() < 0.02
    assert np.abs(np.diff(found.values, axis=1)).max() < 0.05
