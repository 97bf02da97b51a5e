"""`tracer seed` in-process."""

import json

import pytest
from sheet_volume import contents_by_seed, on_sheet, patch_content, small_params

from tracer.cli.main import main
from tracer.seed import seed

POINT = on_sheet(1, 70, 64)
SMALL = {"step_size": 8, "generations": 8, "min_area_cm": 0.0, "rng_seed": 7}


def run(*args):
    """Return the exit status of a command line."""
    with pytest.raises(SystemExit) as status:
        main([str(arg) for arg in args])
    return status.value.code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with a params file for small patches."""
    (tmp_path / "seed.json").write_text(json.dumps(SMALL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(paths):
    return sorted(path.parent for path in paths.glob("[!.]*/meta.json"))


def test_seed__every_way_to_say_it_is_the_same_patch_as_from_python(
    sheet_prediction, sheet_volume, place, capsys
):
    seed(sheet_volume, place / "python", small_params(), points=[POINT])
    (patch,) = finished(place / "python")
    expected = patch_content(patch)
    volume, point = sheet_prediction, [str(v) for v in POINT]
    options = ("--step-size", 8, "--generations", 8, "--min-area-cm", 0, "--rng-seed", 7)
    ways = {
        "positional": (volume, "positional", "seed.json", *point),
        "options": ("-v", volume, "-t", "options", "-p", "seed.json", "--seed", *point),
        "long": ("--volume", volume, "--target-dir", "long", "--params", "seed.json", "-s", *point),
        "mixed": (volume, "-p", "seed.json", "mixed", *point),
        "without": (volume, "without", *point, *options),
        "before": (*options, "-v", volume, "before", *point),
    }
    for name, words in ways.items():
        assert run("seed", *words) == 0, name
        (patch,) = finished(place / name)
        assert patch_content(patch) == expected, name
        out, err = capsys.readouterr()
        assert out.startswith(f"{patch.name}: 0.00")
        assert "vertices in 8 generations" in out
        assert err == ""


def test_seed__random_seeds_are_those_of_the_python_call(
    sheet_prediction, sheet_volume, place, capsys
):
    seed(sheet_volume, place / "python", small_params(), count=3)
    assert run("seed", sheet_prediction, "command", "seed.json", "--count", 3) == 0
    assert contents_by_seed(place / "command") == contents_by_seed(place / "python")
    assert "3 patches, 0.0" in capsys.readouterr().out
    assert run("-q", "seed", sheet_prediction, "quiet", "seed.json", "--count", 3) == 0
    assert capsys.readouterr().out == ""


def test_seed__options_win_over_the_file(sheet_prediction, place):
    words = (sheet_prediction, "paths", "seed.json", *POINT)
    assert run("seed", *words, "--generations", 3, "--step-size", 10) == 0
    (patch,) = finished(place / "paths")
    meta = json.loads((patch / "meta.json").read_text())
    assert meta["max_gen"] == 3
    assert meta["scale"] == [0.1, 0.1]
    effective = meta["vc_gsfs_params"]
    assert (effective["generations"], effective["step_size"]) == (3, 10.0)
    assert effective["rng_seed"] == 7


def test_seed__mode_expansion_grows_next_to_what_is_there(sheet_prediction, place, capsys):
    (place / "expand.json").write_text(json.dumps({**SMALL, "mode": "expansion"}))
    assert run("seed", sheet_prediction, "paths", "expand.json") == 2  # no collection yet
    assert run("seed", sheet_prediction, "paths", "seed.json", *POINT) == 0
    (first,) = finished(place / "paths")
    assert run("seed", sheet_prediction, "paths", "expand.json") == 0
    (second,) = set(finished(place / "paths")) - {first}
    meta = json.loads((second / "meta.json").read_text())
    assert meta["vc_gsfs_mode"] == "expansion"
    overlaps = {
        patch: json.loads((patch / "overlapping.json").read_text())["overlapping"]
        for patch in (first, second)
        if (patch / "overlapping.json").exists()
    }
    assert (second.name in overlaps.get(first, [])) == (first.name in overlaps.get(second, []))


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((300, 10, 10), "seed (300, 10, 10) lies outside the volume of 160 x 160 x 128 voxels"),
        ((-5, 10, 10), "seed (-5, 10, 10) lies outside the volume"),
        ((2, 150, 10), "seed (2, 150, 10) lies more than 4 voxels off the prediction"),
    ],
)
@pytest.mark.parametrize("as_option", [False, True])
def test_seed__a_bad_point_ends_with_2_and_one_line(
    sheet_prediction, place, capsys, point, message, as_option
):
    words = ("-s", *point) if as_option else point
    assert run("seed", sheet_prediction, "paths", "seed.json", *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not finished(place / "paths")


def test_seed__when_all_are_too_small_says_what_to_do(sheet_prediction, place, capsys):
    words = (sheet_prediction, "paths", "seed.json", "--count", 3, "--min-area-cm", 1.0)
    assert run("seed", *words) == 1
    err = capsys.readouterr().err
    assert "3 too small; lower min_area_cm, which is 1, or grow more generations" in err


def test_seed__too_small_ends_with_1_and_says_why(sheet_prediction, place, capsys):
    words = (sheet_prediction, "paths", "seed.json", *POINT, "--min-area-cm", 1.0)
    assert run("seed", *words) == 1
    err = capsys.readouterr().err
    assert "no patch was saved: 0.00" in err
    assert "cm2 is less than min_area_cm 1: " in err
    assert err.count("\n") == 1
    assert not (place / "paths").exists() or not list((place / "paths").iterdir())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"generation": 3}, "unknown key 'generation'; did you mean 'generations'?"),
        ({"generations": "many"}, "generations = 'many': "),
        ({"mode": "explict_seed"}, "mode = 'explict_seed': "),
    ],
)
def test_seed__bad_params_end_with_2_and_one_line(sheet_prediction, place, capsys, params, message):
    (place / "bad.json").write_text(json.dumps(params))
    assert run("seed", sheet_prediction, "paths", "bad.json", *POINT) == 2
    err = capsys.readouterr().err
    assert "bad.json" in err
    assert message in err
    assert err.count("\n") == 1
    assert not (place / "paths").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "VOLUME and PATHS are needed"),
        (("v.zarr",), "VOLUME and PATHS are needed"),
        (("-v", "v.zarr"), "VOLUME and PATHS are needed"),
        (("v.zarr", "paths", "seed.json", "and", "more"), "cannot make sense of: and more"),
        (("v.zarr", "paths", "--count", "0"), "--count"),
        (("v.zarr", "paths", "--wokers", "2"), "--workers"),
    ],
)
def test_seed__wrong_usage_ends_with_2(place, capsys, words, message):
    assert run("seed", *words) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["seed.json"]


@pytest.mark.parametrize(
    ("mode", "words", "message"),
    [
        ("explicit_seed", (), "mode = explicit_seed: no point to grow at; give x y z"),
        ("resume", (), "mode = resume: no segment to grow on; name it with --resume"),
        ("random_seed", (*POINT, "--count", 3), "count = 3: is for random seeds"),
    ],
)
def test_seed__a_mode_that_contradicts_the_arguments_ends_with_2(
    sheet_prediction, place, capsys, mode, words, message
):
    (place / "mode.json").write_text(json.dumps({**SMALL, "mode": mode}))
    assert run("seed", sheet_prediction, "paths", "mode.json", *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not finished(place / "paths")


@pytest.mark.parametrize("mode", ["seed", "random_seed", "expansion"])
def test_seed__a_point_wins_over_the_mode_of_the_file(sheet_prediction, place, mode):
    (place / "mode.json").write_text(json.dumps({**SMALL, "mode": mode}))
    assert run("seed", sheet_prediction, "paths", "mode.json", *POINT) == 0
    (patch,) = finished(place / "paths")
    meta = json.loads((patch / "meta.json").read_text())
    assert meta["vc_gsfs_mode"] == "explicit_seed"
    assert meta["seed"] == list(POINT)


def test_seed__mode_expansion_counts(sheet_prediction, place):
    assert run("seed", sheet_prediction, "paths", "seed.json", *POINT) == 0
    words = (sheet_prediction, "paths", "seed.json", "--mode", "expansion", "--count", 3)
    assert run("seed", *words) == 0
    assert len(finished(place / "paths")) == 4
