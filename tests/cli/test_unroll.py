import json

import pytest
from click.testing import CliRunner
from unroll_cases import collection

from tracer.cli.main import tracer
from tracer.errors import CollectionError, OutputError
from tracer.surface import Surface


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    for surface in collection(60, jumping=(5, 30)):
        surface.save(folder / surface.name)
    return folder


def run(*arguments):
    return CliRunner().invoke(tracer, [str(argument) for argument in arguments])


def test_unroll__writes_a_surface_and_says_so(paths, tmp_path):
    done = run("unroll", paths, tmp_path / "flat", "--step", 10, "--axis", "150,150")
    assert done.exit_code == 0, done.output
    assert "cut at jumps" in done.output
    surface = Surface.load(tmp_path / "flat")
    assert surface.step == pytest.approx(10)
    assert surface.meta["axis"] == [[150.0, 150.0, 0.0]]


def test_unroll__umbilicus_and_ranges(paths, tmp_path):
    (tmp_path / "umbilicus.txt").write_text("0, 150, 150\n160, 150, 151\n")
    done = run(
        *("unroll", paths, tmp_path / "part", "--step", 10, "--no-pictures", "--z", "40:120"),
        *("--turns", "1:", "--umbilicus", tmp_path / "umbilicus.txt"),
    )
    assert done.exit_code == 0, done.output
    points = Surface.load(tmp_path / "part")
    assert points.bbox_xyz[0, 2] >= 40
    assert points.bbox_xyz[1, 2] <= 120


def test_unroll__bad_input_is_refused_before_work(paths, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert isinstance(run("unroll", paths, tmp_path / "there").exception, OutputError)
    (tmp_path / "empty").mkdir()
    missing = run("unroll", tmp_path / "empty", tmp_path / "out")
    assert isinstance(missing.exception, CollectionError)
    assert not (tmp_path / "out").exists()


def test_suspects__lists_jumps_and_masks_them(paths, tmp_path):
    done = run("suspects", paths, "--out", tmp_path / "report", "--no-pictures")
    assert done.exit_code == 0, done.output
    assert "jump" in done.output
    listed = json.loads((tmp_path / "report" / "suspects.json").read_text())["suspects"]
    assert {s["patch"] for s in listed if s["kind"] == "jump"} >= {"patch_005", "patch_030"}
    masked = run("suspects", paths, "--auto-mask")
    assert "masked" in masked.output
    again = run("suspects", paths)
    assert " jump" not in again.output.splitlines()[-1]
