"""Bad input, command by command: one line that names the file and the remedy, exit 2, no debris."""

import json

import numpy as np
import pytest
import tifffile

from tracer.cli.main import main
from tracer.surface import Surface
from tracer.volume_writer import VolumeWriter

SIZE = 64
REMEDY = (";", "did you mean", "should be", "must be")  # what to do, or what is right
COMMANDS_ON_A_PREDICTION = {
    "seed": ("seed", "pred.zarr", "new", "20", "32", "32", "--cache-root", "cache"),
    "random seed": ("seed", "pred.zarr", "new", "--cache-root", "cache"),
    "expand": ("expand", "pred.zarr", "paths", "--cache-root", "cache"),
    "seeds-from-points": ("seeds-from-points", "points.txt", "pred.zarr", "new"),
    "render": ("render", "pred.zarr", "layers", "paths/a"),
    "predict": ("predict", "pred.zarr", "out.zarr"),
    "predict clean": ("predict", "clean", "pred.zarr", "out.zarr"),
    "predict from-labels": ("predict", "from-labels", "pred.zarr", "out.zarr"),
}
COMMANDS_ON_A_SURFACE = {
    "render": ("render", "pred.zarr", "layers", "paths/a"),
    "score": ("score", "paths/a", "--labels", "pred.zarr"),
    "overlap": ("overlap", "paths", "a"),
    "mask": ("mask", "paths/a", "--template", "pred.zarr"),
}
UNROLL = ("unroll", "paths", "unrolled")


def write_volume(path, voxels):
    writer = VolumeWriter.create(path, voxels.shape, voxels.dtype, 7.91, chunk=32)
    writer.write((0, 0, 0), voxels)
    writer.finish("max")


def sheet():
    """Points on the plane x = 20."""
    rows, cols = np.mgrid[8:56:8, 8:56:8]
    return np.stack([np.full_like(rows, 20), cols, rows], axis=-1).astype(np.float32)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder: a prediction, a collection of two surfaces, pasted points."""
    voxels = np.zeros((SIZE,) * 3, np.uint8)
    voxels[:, :, 19:22] = 255
    write_volume(tmp_path / "pred.zarr", voxels)
    for name in "ab":
        points = sheet()
        surface = Surface(
            points_xyz=points, valid=np.ones(points.shape[:2], bool), scale=(1 / 8, 1 / 8)
        )
        surface.save(tmp_path / "paths" / name)
    (tmp_path / "points.txt").write_text("[20, 32, 32]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder):
    """Return every file and folder with the content of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "cache"
    }


def refuse(place, capsys, arguments, *parts):
    """Assert that a command refuses its input as it should; return the message."""
    before = listing(place)
    with pytest.raises(SystemExit) as caught:
        main(["-q", *arguments])  # no progress lines on a slow machine
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, ""), err
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    assert any(word in err for word in REMEDY), "no remedy"
    assert listing(place) == before, "something was left behind"
    return err


def edit_json(path, **changes):
    values = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            values.pop(key)
        else:
            values[key] = value
    path.write_text(json.dumps(values))


@pytest.fixture(params=COMMANDS_ON_A_PREDICTION)
def on_a_prediction(request):
    return COMMANDS_ON_A_PREDICTION[request.param]


@pytest.fixture(params=COMMANDS_ON_A_SURFACE)
def on_a_surface(request):
    return COMMANDS_ON_A_SURFACE[request.param]


@pytest.mark.parametrize("size", [None, 0, -1.0, float("nan"), "7.91 um"])
def test_voxel_size__missing_or_unusable(place, capsys, size, on_a_prediction):
    edit_json(place / "pred.zarr" / "meta.json", voxelsize=size)
    refuse(place, capsys, on_a_prediction, "pred.zarr", "meta.json", "voxelsize")


def test_volume__without_meta_json(place, capsys, on_a_prediction):
    (place / "pred.zarr" / "meta.json").unlink()
    refuse(place, capsys, on_a_prediction, "pred.zarr", "meta.json")


def test_volume__with_damaged_meta_json(place, capsys, on_a_prediction):
    meta = place / "pred.zarr" / "meta.json"
    meta.write_text(meta.read_text()[:20])
    refuse(place, capsys, on_a_prediction, "pred.zarr", "meta.json")


def test_volume__that_does_not_exist(place, capsys, on_a_prediction):
    arguments = ["gone.zarr" if word == "pred.zarr" else word for word in on_a_prediction]
    refuse(place, capsys, arguments, "gone.zarr", "check the path")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint32])
def test_volume__of_a_wrong_dtype(place, capsys, dtype, on_a_prediction):
    array = place / "pred.zarr" / "0" / ".zarray"
    edit_json(array, dtype=np.dtype(dtype).str)
    refuse(place, capsys, on_a_prediction, "pred.zarr", np.dtype(dtype).name)


@pytest.mark.parametrize("command", ["seed", "random seed", "expand", "seeds-from-points"])
def test_prediction__of_sixteen_bits(place, capsys, command):
    write_volume(place / "wide.zarr", np.full((SIZE,) * 3, 1000, np.uint16))
    arguments = COMMANDS_ON_A_PREDICTION[command]
    arguments = ["wide.zarr" if word == "pred.zarr" else word for word in arguments]
    refuse(place, capsys, arguments, "wide.zarr", "uint16", "tracer prepare")


@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_prepare__float_scan(place, capsys, suffix):
    voxels = np.linspace(0, 1, 8**3, dtype=np.float32).reshape(8, 8, 8)
    path = place / f"scan.{suffix}"
    np.save(path, voxels) if suffix == "npy" else tifffile.imwrite(path, voxels)
    arguments = ["prepare", path.name, "out.zarr", "--voxel-size-um", "7.91"]
    refuse(place, capsys, arguments, path.name, "float32", "--window-min")


def test_prepare__scan_without_voxel_size(place, capsys):
    np.save(place / "scan.npy", np.zeros((8, 8, 8), np.uint8))
    refuse(place, capsys, ["prepare", "scan.npy", "out.zarr"], "scan.npy", "--voxel-size-um")


@pytest.mark.parametrize("keep", [0, 100, 900])
def test_prepare__truncated_tif(place, capsys, keep):
    (place / "slices").mkdir()
    for z in range(3):
        tifffile.imwrite(place / "slices" / f"{z:03d}.tif", np.full((64, 64), z, np.uint8))
    cut = place / "slices" / "001.tif"
    cut.write_bytes(cut.read_bytes()[:keep])
    arguments = ["prepare", "slices", "out.zarr", "--voxel-size-um", "7.91"]
    refuse(place, capsys, arguments, "001.tif")


def test_render__level_that_is_missing(place, capsys):
    arguments = ["render", "pred.zarr", "layers", "paths/a", "--level", "7"]
    refuse(place, capsys, arguments, "pred.zarr", "level 7", "choose")


def test_volume__without_level_0(place, capsys, on_a_prediction):
    (place / "pred.zarr" / "0").rename(place / "pred.zarr" / "elsewhere")
    refuse(place, capsys, on_a_prediction, "pred.zarr")


@pytest.mark.parametrize("command", ["seed", "random seed"])
def test_volume__with_a_damaged_chunk(place, capsys, command):
    damaged = [path for path in (place / "pred.zarr" / "0").rglob("[0-9]*") if path.is_file()]
    for chunk in damaged:
        chunk.write_bytes(b"no blosc")
    assert damaged
    refuse(place, capsys, COMMANDS_ON_A_PREDICTION[command], "pred.zarr/0/")


def test_surface__without_meta_json(place, capsys, on_a_surface):
    (place / "paths" / "a" / "meta.json").unlink()
    refuse(place, capsys, on_a_surface, "a", "finished")


def test_unroll__leaves_out_a_damaged_patch_and_says_so(place, capsys):
    cut = place / "paths" / "a" / "y.tif"
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(SystemExit) as caught:
        main(["-q", *UNROLL])
    assert caught.value.code == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: ")
    assert err.count("\n") == 1
    assert "y.tif" in err
    cut.unlink()
    (place / "paths" / "b" / "y.tif").unlink()
    with pytest.raises(SystemExit) as caught:
        main(["-q", *UNROLL, "--overwrite"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("keep", [0, 100, 200])
def test_surface__with_a_truncated_tif(place, capsys, keep, on_a_surface):
    cut = place / "paths" / "a" / "y.tif"
    cut.write_bytes(cut.read_bytes()[:keep])
    refuse(place, capsys, on_a_surface, "y.tif")


def test_surface__with_a_missing_tif(place, capsys, on_a_surface):
    (place / "paths" / "a" / "y.tif").unlink()
    refuse(place, capsys, on_a_surface, "y.tif")


def test_surface__with_grids_of_different_shapes(place, capsys, on_a_surface):
    tifffile.imwrite(place / "paths" / "a" / "y.tif", np.ones((5, 6), np.float32))
    refuse(place, capsys, on_a_surface, "paths/a", "y.tif (5, 6)", "restore")


def test_surface__with_whole_numbers(place, capsys, on_a_surface):
    tifffile.imwrite(place / "paths" / "a" / "y.tif", np.ones((6, 6), np.uint16))
    refuse(place, capsys, on_a_surface, "y.tif", "uint16", "float32")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_surface__with_nan(place, capsys, value, on_a_surface):
    path = place / "paths" / "a" / "y.tif"
    grid = tifffile.imread(path).copy()
    grid[2, 3] = value
    tifffile.imwrite(path, grid)
    refuse(place, capsys, on_a_surface, "y.tif", "(2, 3)", "-1")


@pytest.mark.parametrize("scale", [None, [0.0, 0.1], [float("nan"), 0.1], 0.125])
def test_surface__with_an_unusable_scale(place, capsys, scale, on_a_surface):
    edit_json(place / "paths" / "a" / "meta.json", scale=scale)
    refuse(place, capsys, on_a_surface, "meta.json", "scale")


@pytest.mark.parametrize("command", ["seed", "expand", "predict", "render", "unroll"])
def test_params__unknown_key(place, capsys, command):
    known = {
        "seed": "step_size",
        "expand": "step_size",
        "predict": "threshold",
        "render": "scale",
        "unroll": "extend",
    }[command]
    wrong = known[:-1] + "_" + known[-1]
    (place / "p.json").write_text(json.dumps({wrong: 1}))
    table = {**COMMANDS_ON_A_PREDICTION, **COMMANDS_ON_A_SURFACE, "unroll": UNROLL}
    arguments = [*table[command], *(() if command == "expand" else ("--params",)), "p.json"]
    refuse(place, capsys, arguments, "p.json", f"'{wrong}'", f"did you mean '{known}'")


@pytest.mark.parametrize("text", ["", "[1]", '{"step_size": }', '{"step_size": NaN}'])
def test_params__damaged_file(place, capsys, text):
    (place / "p.json").write_text(text)
    arguments = [*COMMANDS_ON_A_PREDICTION["seed"], "--params", "p.json"]
    refuse(place, capsys, arguments, "p.json")


@pytest.mark.parametrize(
    ("point", "parts"),
    [
        (("20", "32", "64"), ["(20, 32, 64)", "outside"]),
        (("-1", "32", "32"), ["(-1, 32, 32)", "outside"]),
        (("1e9", "32", "32"), ["outside"]),
        (("nan", "32", "32"), ["nan"]),
        (("30", "32", "32"), ["(30, 32, 32)", "off the prediction", "seed_tolerance"]),
    ],
)
def test_seed__at_a_bad_point(place, capsys, point, parts):
    arguments = ["seed", "pred.zarr", "new", *point, "--cache-root", "cache"]
    refuse(place, capsys, arguments, "pred.zarr", *parts)


@pytest.mark.parametrize("command", ["seed", "random seed", "expand"])
def test_cache__that_cannot_be_written(place, capsys, command):
    (place / "blocked").write_text("a file where a folder should be")
    arguments = [*COMMANDS_ON_A_PREDICTION[command], "--cache-root", "blocked"]
    refuse(place, capsys, arguments, "blocked", "cache", "give")


@pytest.mark.parametrize(
    "arguments",
    [
        ("seed", "pred.zarr", "blocked/new", "20", "32", "32", "--cache-root", "cache"),
        ("render", "pred.zarr", "blocked/layers", "paths/a"),
        ("predict", "pred.zarr", "blocked/out.zarr", "--contrast", "20"),
        ("prepare", "scan.npy", "blocked/out.zarr", "--voxel-size-um", "1"),
        ("unroll", "paths", "blocked/out"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_output__that_cannot_be_written(place, capsys, arguments):
    (place / "blocked").write_text("a file where a folder should be")
    np.save(place / "scan.npy", np.zeros((8, 8, 8), np.uint8))
    refuse(place, capsys, arguments, "blocked")
