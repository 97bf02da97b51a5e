"""`tracer expand` in-process."""

import json
import shutil

import pytest
from sheet_volume import contents_by_seed, on_sheet, small_params

from tracer.cli.main import main
from tracer.collection import PatchCollection
from tracer.expand import ExpandLimits, expand
from tracer.seed import seed

SMALL = {"step_size": 8, "generations": 8, "min_area_cm": 0.0, "rng_seed": 7}
HOLES = [on_sheet(0, 100, 100), on_sheet(2, 40, 100)]


def run(*args):
    """Return the exit status of a command line."""
    with pytest.raises(SystemExit) as status:
        main([str(arg) for arg in args])
    return status.value.code


@pytest.fixture(scope="module")
def one_patch(sheet_volume, tmp_path_factory):
    paths = tmp_path_factory.mktemp("one") / "paths"
    seed(sheet_volume, paths, small_params(), points=[on_sheet(1, 70, 64)])
    return paths


@pytest.fixture
def place(one_patch, tmp_path, monkeypatch):
    """The current folder, with a collection of one patch and a params file."""
    shutil.copytree(one_patch, tmp_path / "paths")
    (tmp_path / "expand.json").write_text(json.dumps(SMALL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_contents(paths, one_patch):
    shutil.rmtree(paths / PatchCollection(one_patch).names()[0])
    return contents_by_seed(paths)


def test_expand__is_the_python_call(sheet_prediction, sheet_volume, one_patch, place, capsys):
    shutil.copytree(one_patch, place / "python")
    expand(sheet_volume, place / "python", small_params(), ExpandLimits(count=4), round_size=2)
    words = (sheet_prediction, "paths", "expand.json", "--count", 4, "--round-size", 2)
    assert run("expand", *words) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 patches, 0.0")
    assert "stopped by count (rng_seed 7)" in out
    assert "\ncoverage 0." in out
    found, expected = (new_contents(place / name, one_patch) for name in ("paths", "python"))
    assert len(found) == 4
    assert found == expected


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--count", 1), "stopped by count"),
        (("--time", 0, "--round-size", 1), "stopped by time"),
        (("--coverage", 0.05), "stopped by coverage"),
    ],
)
def test_expand__stops_at_the_limit_given(sheet_prediction, place, capsys, words, reason):
    assert run("expand", sheet_prediction, "paths", "expand.json", *words) == 0
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize("wrapped", [False, True])
def test_expand__into_holes(sheet_prediction, place, wrapped):
    holes = [{"xyz": list(point), "area_vx2": 3.0} for point in HOLES]
    (place / "holes.json").write_text(json.dumps({"holes": holes} if wrapped else holes))
    words = ("paths", "expand.json", "--into", "holes.json", "--count", 2)
    assert run("expand", sheet_prediction, *words) == 0
    collection = PatchCollection(place / "paths")
    seeds = [tuple(collection.load(name).meta["seed"]) for name in collection.names()[1:]]
    assert seeds == HOLES


@pytest.mark.parametrize(
    "text", ["", "{}", "[1, 2]", '[{"xyz": [1, 2]}]', '[{"xyz": ["a", 1, 2]}]', '{"holes": 3}']
)
def test_expand__a_bad_holes_file_ends_with_2_and_one_line(sheet_prediction, place, capsys, text):
    (place / "holes.json").write_text(text)
    words = ("paths", "expand.json", "--into", "holes.json", "--count", 2)
    assert run("expand", sheet_prediction, *words) == 2
    err = capsys.readouterr().err
    assert 'holes.json: not a list of {"xyz": [x, y, z]}' in err
    assert err.count("\n") == 1
    assert len(PatchCollection(place / "paths")) == 1


def test_expand__an_empty_collection_ends_with_1(sheet_prediction, place, capsys):
    (place / "empty").mkdir()
    assert run("expand", sheet_prediction, "empty", "expand.json") == 1
    assert "empty: no patch to expand; run tracer seed first" in capsys.readouterr().err
    assert run("expand", sheet_prediction, "missing", "expand.json") == 2
    assert "missing: no such directory of patches" in capsys.readouterr().err


def test_expand__unknown_keys_name_the_nearest(sheet_prediction, place, capsys):
    (place / "bad.json").write_text(json.dumps({"tgt_overlap": 20}))
    assert run("expand", sheet_prediction, "paths", "bad.json") == 2
    assert "did you mean 'tgt_overlap_count'?" in capsys.readouterr().err
