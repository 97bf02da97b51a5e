"""Growing on from a saved patch."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from sheet_volume import on_sheet, sheet_of, small_params

from tracer.cli.main import tracer
from tracer.distance_field import DistanceField
from tracer.errors import ParamsError, SurfaceError
from tracer.kernels import growth_grid
from tracer.kernels.placement import BRIDGED, ON_SHEET
from tracer.patch_growth import grow_patch, resume_patch
from tracer.patch_resume import resume_grid
from tracer.seed import seed
from tracer.surface import Surface

POINT = on_sheet(1, 70, 64)
GENERATIONS = 5


@pytest.fixture(scope="module")
def old_paths(sheet_volume, tmp_path_factory):
    """A collection of one small patch."""
    paths = tmp_path_factory.mktemp("resume") / "paths"
    seed(sheet_volume, paths, small_params(generations=GENERATIONS), points=[POINT])
    return paths


@pytest.fixture
def paths(old_paths, tmp_path):
    return shutil.copytree(old_paths, tmp_path / "paths")


@pytest.fixture(scope="module")
def old(old_paths):
    (name,) = [p.name for p in old_paths.iterdir() if not p.name.startswith(".")]
    return Surface.load(old_paths / name)


@pytest.fixture(scope="module")
def field(sheet_volume):
    return DistanceField(sheet_volume)


def changed(surface, **changes):
    return dataclasses.replace(surface, **changes)


def test_seed__a_resumed_patch_is_a_new_one_that_goes_on_where_the_old_one_ended(
    sheet_volume, paths, old
):
    before = {p: p.read_bytes() for p in sorted((paths / old.name).iterdir())}
    params = small_params(generations=4)
    result = seed(sheet_volume, paths, params, resume=paths / old.name)
    assert {p: p.read_bytes() for p in sorted((paths / old.name).iterdir())} == before
    (name,) = result.names
    assert name != old.name
    new = Surface.load(paths / name)
    assert new.meta["resumed_from"] == old.name
    assert new.meta["vc_gsfs_mode"] == "resume"
    assert new.meta["seed"] == old.meta["seed"]
    assert new.meta["max_gen"] == GENERATIONS + 4
    assert sorted(np.unique(new.channels["generations"][new.valid])) == list(range(1, 10))
    assert sheet_of(new) == sheet_of(old) == 1
    assert new.valid.sum() > 1.5 * old.valid.sum()


def test_resume_patch__grows_about_what_an_uninterrupted_run_does(field, old):
    whole = grow_patch(field, np.array(POINT), small_params(generations=GENERATIONS + 4))
    resumed = resume_patch(field, old, small_params(generations=4))
    assert resumed.points_xyz.shape == whole.points_xyz.shape
    both = (resumed.state > 0) & (whole.state > 0)
    assert both.sum() > 0.97 * (whole.state > 0).sum()
    apart = np.linalg.norm(resumed.points_xyz - whole.points_xyz, axis=-1)[both]
    assert np.median(apart) < 0.3
    np.testing.assert_allclose(resumed.thickness, whole.thickness, atol=0.5)


@pytest.mark.parametrize("rewind_gen", [1, 3, GENERATIONS])
def test_resume_grid__drops_what_is_younger_than_rewind_gen(field, old, rewind_gen):
    grid, _ = resume_grid(field, old, small_params(generations=2, rewind_gen=rewind_gen))
    kept = old.valid & (old.channels["generations"] <= rewind_gen)
    assert np.count_nonzero(grid.patch.state) == kept.sum()
    assert int(grid.counters[growth_grid.GENERATION]) == rewind_gen
    np.testing.assert_array_equal(grid.patch.points[grid.patch.state > 0], old.points_xyz[kept])


def test_resume_grid__renews_what_a_surface_does_not_store(field, old):
    grid, thickness = resume_grid(field, changed(old, channels={}), small_params())
    accepted = grid.patch.state == ON_SHEET
    assert accepted.sum() == old.valid.sum()
    assert (grid.patch.generation[accepted] == 1).all()
    assert (grid.patch.confidence[accepted] > 0.4).mean() > 0.95
    assert (grid.patch.cost[accepted] > 0.0).all()
    np.testing.assert_allclose(
        np.linalg.norm(grid.patch.normals[accepted], axis=-1), 1.0, atol=1e-5
    )
    assert thickness == pytest.approx(float(old.meta["sheet_thickness_vx"]), abs=0.7)


def test_resume_grid__the_fringe_is_all_that_has_a_free_neighbour(field, old):
    grid, _ = resume_grid(field, old, small_params())
    accepted = {tuple(at) for at in np.argwhere(grid.patch.state == ON_SHEET)}
    beside = ((0, 1), (1, 0), (0, -1), (-1, 0))
    expected = {
        (r, c) for r, c in accepted if any((r + i, c + j) not in accepted for i, j in beside)
    }
    fringe = grid.fringe[: grid.counters[growth_grid.FRINGE]]
    assert {tuple(at) for at in fringe} == expected
    assert 0 < len(expected) < len(accepted)


def test_resume_grid__a_vertex_without_confidence_is_bridged(field, old):
    row, col = (n // 2 for n in old.shape)
    confidence = np.where(old.valid, np.float32(1.0), np.float32(0.0))
    confidence[row, col] = 0.0
    grid, _ = resume_grid(field, changed(old, channels={"confidence": confidence}), small_params())
    assert np.count_nonzero(grid.patch.state == BRIDGED) == 1


def test_resume_grid__refuses_what_does_not_fit(field, old):
    with pytest.raises(SurfaceError, match="8 voxels apart but step_size is 10; set step_size"):
        resume_grid(field, old, small_params(step_size=10.0))
    beyond = changed(old, points_xyz=old.points_xyz + np.float32(100.0))
    with pytest.raises(SurfaceError, match=r"outside the volume of 160 x 160 x 128 voxels"):
        resume_grid(field, beyond, small_params())
    young = np.where(old.valid, 9, 0).astype(np.uint16)
    with pytest.raises(SurfaceError, match="no quad up to generation 3"):
        resume_grid(
            field, changed(old, channels={"generations": young}), small_params(rewind_gen=3)
        )
    wrong = np.where(old.valid, np.float32(np.nan), np.float32(0.0))
    with pytest.raises(SurfaceError, match="channel 'generations' must be a grid of numbers"):
        resume_grid(field, changed(old, channels={"generations": wrong}), small_params())


def test_resume_grid__refuses_a_place_without_a_sheet(field, old):
    rows, cols = np.mgrid[0:4, 0:4]
    points = np.stack([4.0 + 0.0 * rows, 68.0 + 8.0 * cols, 4.0 + 8.0 * rows], axis=-1)
    nowhere = changed(
        old, points_xyz=points.astype(np.float32), valid=np.ones((4, 4), bool), channels={}
    )
    with pytest.raises(SurfaceError, match="the prediction shows no sheet where the patch lies"):
        resume_grid(field, nowhere, small_params())


def test_seed__modes_and_segments_that_contradict_each_other_are_refused(sheet_volume, paths, old):
    with pytest.raises(ParamsError, match="name it with --resume"):
        seed(sheet_volume, paths, small_params(mode="resume"))
    with pytest.raises(ParamsError, match="leave the mode out"):
        seed(sheet_volume, paths, small_params(mode="random_seed"), resume=paths / old.name)
    with pytest.raises(ParamsError, match="give one or the other"):
        seed(sheet_volume, paths, small_params(), resume=paths / old.name, points=[POINT])
    with pytest.raises(SurfaceError, match="no such surface"):
        seed(sheet_volume, paths, small_params(), resume=paths / "none")
    assert [p.name for p in paths.iterdir()] == [old.name]


def test_seed_command__resumes_and_rewinds(sheet_volume, paths, old):
    options = ["--resume", str(paths / old.name), "--rewind-gen", "3", "--mode", "resume"]
    size = ["--step-size", "8", "--generations", "1", "--min-area-cm", "0"]
    arguments = ["seed", str(sheet_volume.path), str(paths), *options, *size]
    result = CliRunner().invoke(tracer, arguments, standalone_mode=False)
    assert result.exception is None
    (name,) = {p.name for p in paths.iterdir()} - {old.name}
    meta = json.loads((paths / name / "meta.json").read_text())
    assert meta["max_gen"] == 4
    assert meta["resumed_from"] == old.name
    assert meta["vc_gsfs_params"]["rewind_gen"] == 3
    assert name in result.output
