"""`tracer seeds-from-points` in-process."""

import io
import json
import sys

import pytest
from sheet_volume import on_sheet

from tracer.cli.main import main
from tracer.collection import PatchCollection

SMALL = {"step_size": 8, "generations": 8, "min_area_cm": 0.0, "rng_seed": 7}
CLICKS = [on_sheet(1, 70, 64), on_sheet(2, 40, 90)]
PASTED = "".join(f"vol p.zarr clicked {list(point)} value 255\n" for point in CLICKS)


def run(*args):
    """Return the exit status of a command line."""
    with pytest.raises(SystemExit) as status:
        main([str(arg) for arg in args])
    return status.value.code


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "seed.json").write_text(json.dumps(SMALL))
    (tmp_path / "clicks.txt").write_text(PASTED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seeds_of(paths):
    collection = PatchCollection(paths)
    return [tuple(collection.load(name).meta["seed"]) for name in collection.names()]


def test_seeds_from_points__grows_at_each_point(sheet_prediction, place, capsys):
    words = ("clicks.txt", sheet_prediction, "paths", "seed.json", "--offset", 0)
    assert run("seeds-from-points", *words) == 0
    assert seeds_of(place / "paths") == CLICKS
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3
    for line, (x, y, z), name in zip(
        out, CLICKS, PatchCollection(place / "paths").names(), strict=False
    ):
        assert line.startswith(f"[{x:g}, {y:g}, {z:g}] {name}: 0.00")
    assert out[-1].startswith("2 patches, 0.0")


def test_seeds_from_points__tries_offsets_and_says_which_failed(sheet_prediction, place, capsys):
    words = ("clicks.txt", sheet_prediction, "paths", "seed.json", "--offset", 7)
    assert run("seeds-from-points", *words) == 0
    assert seeds_of(place / "paths") == CLICKS
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 7
    assert sum("off the prediction" in line for line in out) == 4
    assert "not saved: 4 without a clean start" in out[-1]


def test_seeds_from_points__reads_standard_input(sheet_prediction, place, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASTED))
    words = ("-", sheet_prediction, "paths", "seed.json", "--offset", 0)
    assert run("seeds-from-points", *words) == 0
    assert seeds_of(place / "paths") == CLICKS


@pytest.mark.parametrize("text", ["", "nothing here", "[1, 2]"])
def test_seeds_from_points__without_points_ends_with_2(sheet_prediction, place, capsys, text):
    (place / "clicks.txt").write_text(text)
    assert run("seeds-from-points", "clicks.txt", sheet_prediction, "paths") == 2
    err = capsys.readouterr().err
    assert "clicks.txt: no point of the form [x, y, z] found" in err
    assert err.count("\n") == 1
    assert not (place / "paths").exists()


def test_seeds_from_points__a_missing_or_binary_file_ends_with_2(sheet_prediction, place, capsys):
    (place / "binary").write_bytes(b"\xff\xfe\x00[1, 2, 3]")
    for name in ("missing.txt", "binary"):
        assert run("seeds-from-points", name, sheet_prediction, "paths") == 2
        assert f"{name}: cannot read points" in capsys.readouterr().err


def test_seeds_from_points__when_no_point_is_good_ends_with_1(sheet_prediction, place, capsys):
    (place / "clicks.txt").write_text("[2, 150, 10] [3, 150, 10]")
    words = ("clicks.txt", sheet_prediction, "paths", "seed.json", "--offset", 0)
    assert run("seeds-from-points", *words) == 1
    assert "without a clean start" in capsys.readouterr().err
