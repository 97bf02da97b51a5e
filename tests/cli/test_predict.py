"""`tracer predict` in-process: the default sub-command, all sub-commands, refusals."""

import json
import sys

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from fake_nnunet import install, make_fake_model

from tracer.cli.main import main, tracer
from tracer.errors import NothingFoundError, OutputError, ParamsError
from tracer.predict import stages
from tracer.predict.network_params import NetworkParams
from tracer.predict.network_stage import predict_with_network
from tracer.predict.params import PredictParams
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


def _run(*args):
    return CliRunner().invoke(tracer, [str(arg) for arg in args], catch_exceptions=False)


def _write(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


@pytest.fixture
def scroll(tmp_path, monkeypatch):
    y = np.arange(48)[None, :, None] + np.zeros((40, 48, 40))
    _write(tmp_path / "scroll/ct.zarr", (90 + 80 * np.cos(2 * np.pi * y / 12)).astype(np.uint8))
    labels = np.where(np.cos(2 * np.pi * y / 12) > 0.3, (1 + (y + 6) // 12), 0).astype(np.uint16)
    _write(tmp_path / "labels.zarr", labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predict__example_and_api_agree(scroll):
    result = _run("predict", "scroll/ct.zarr", "scroll/found.zarr", "--sigma", 4)
    assert "voxels predicted" in result.output
    stages.predict(Volume.open("scroll/ct.zarr"), scroll / "api.zarr", PredictParams(sigma=4))
    np.testing.assert_array_equal(_read("scroll/found.zarr"), _read("api.zarr"))
    _run("predict", "clean", "scroll/found.zarr", "scroll/clean.zarr", "--ct", "scroll/ct.zarr")
    assert _read("scroll/clean.zarr").any()


@pytest.mark.parametrize(
    "args",
    [
        ("scroll/ct.zarr", "o.zarr", "--method", "sheet-filter"),
        ("--method", "sheet-filter", "scroll/ct.zarr", "o.zarr"),
        ("from-ct", "scroll/ct.zarr", "o.zarr"),
    ],
)
def test_predict__default_sub_command(scroll, args):
    _run("predict", *args)
    assert _read("o.zarr").any()


def test_predict__params_file_and_outward(scroll):
    (scroll / "p.json").write_text(json.dumps({"face": "recto", "sigma": 3.0, "scales": 1}))
    args = ("scroll/ct.zarr", "o.zarr", "--params", "p.json", "--outward", 0, 1, 0)
    _run("predict", *args)
    made = json.loads((scroll / "o.zarr/meta.json").read_text())["params"]
    assert (made["face"], made["sigma"], made["outward"]) == ("recto", 3.0, [0.0, 1.0, 0.0])


def test_predict__umbilicus_file(scroll):
    points = [{"z": 0, "y": -100.0, "x": 20.0}, {"z": 40, "y": -100.0, "x": 20.0}]
    (scroll / "u.json").write_text(json.dumps({"control_points": points}))
    args = ("--face", "recto", "--inset", 0)
    _run("predict", "scroll/ct.zarr", "a.zarr", *args, "--umbilicus", "u.json")
    _run("predict", "scroll/ct.zarr", "b.zarr", *args, "--axis-x", 20, "--axis-y", -100)
    a, b = _read("a.zarr"), _read("b.zarr")
    np.testing.assert_array_equal(a, b)
    rows = np.flatnonzero(a[20, :, 20])
    assert set(rows % 12) <= {8, 9, 10}  # cosine rises fastest at 9 of 12


def test_predict__with_a_model(scroll, monkeypatch):
    install(monkeypatch)
    make_fake_model(scroll / "model")
    args = ("predict", "scroll/ct.zarr", "whole.zarr", "--model", "model", "--probabilities")
    assert "voxels predicted" in _run(*args).output
    api = NetworkParams(probabilities=True)
    predict_with_network(
        Volume.open("scroll/ct.zarr"), scroll / "api.zarr", [scroll / "model"], api
    )
    np.testing.assert_array_equal(_read("whole.zarr"), _read("api.zarr"))
    parts = ("--model=model", "--probabilities", "--block", 16, "--num-parts", 2, "--part-id")
    out = _run("predict", "scroll/ct.zarr", "parts.zarr", *parts, 1).output
    assert "left to the other parts" in out
    _run("predict", "scroll/ct.zarr", "parts.zarr", *parts, 0)
    np.testing.assert_array_equal(_read("whole.zarr"), _read("parts.zarr"))


def test_predict__without_nnunet_names_the_install_command(scroll, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    make_fake_model(scroll / "model")
    with pytest.raises(SystemExit) as status:
        main(["predict", "scroll/ct.zarr", "o.zarr", "--model", "model"])
    assert status.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'scroll-tracer[nnunet]'" in said


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_predict__a_missing_device_is_one_clear_line(scroll, monkeypatch, capsys, device):
    install(monkeypatch)
    make_fake_model(scroll / "model")
    with pytest.raises(SystemExit) as status:
        main(["predict", "scroll/ct.zarr", "o.zarr", "--model", "model", "--device", device])
    assert status.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"device = '{device}': torch finds none on this machine; use cpu or auto" in said
    assert not (scroll / "o.zarr").exists()


def test_predict__refusals(scroll):
    with pytest.raises(NothingFoundError, match="--axis-x with --axis-y, or --outward"):
        _run("predict", "scroll/ct.zarr", "o.zarr", "--face", "recto")  # flat sheets
    with pytest.raises(ParamsError, match="outward"):
        _run("predict", "from-labels", "labels.zarr", "o.zarr", "--face", "recto")
    _run("predict", "scroll/ct.zarr", "o.zarr")
    with pytest.raises(OutputError, match="exists already"):
        _run("predict", "scroll/ct.zarr", "o.zarr")
    _run("predict", "scroll/ct.zarr", "o.zarr", "--overwrite")


def test_from_labels__and_score(scroll):
    args = ("--face", "all", "--max-thickness", 10, "--normal-sigma", 2)
    _run("predict", "from-labels", "labels.zarr", "o.zarr", *args)
    found, labels = _read("o.zarr"), _read("labels.zarr")
    np.testing.assert_array_equal(found > 0, labels > 0)
    result = _run("predict", "score", "o.zarr", "labels.zarr", "--json")
    assert json.loads(result.output)["combined"] == pytest.approx(1.0)
    args = ("--stop", 20, 20, 20, "--ignore-label", 1)
    assert "combined" in _run("predict", "score", "o.zarr", "labels.zarr", *args).output


@pytest.mark.parametrize(
    "name",
    [
        "from-ct",
        "network",
        "export-blocks",
        "import-blocks",
        "make-dataset",
        "clean",
        "from-labels",
        "score",
    ],
)
def test_predict__help_ends_with_an_example(name):
    assert "Example:" in "".join(_run("predict", name, "--help").output.splitlines()[-3:])


def test_export_blocks__import_blocks__make_dataset(scroll):
    args = ("scroll/ct.zarr", "blocks", "--block", 32, "--overlap", 4)
    assert "8 of 8 blocks" in _run("predict", "export-blocks", *args).output
    (scroll / "out").mkdir()
    for path in (scroll / "blocks").glob("*.tif"):
        sheet = (tifffile.imread(path) > 120).astype(np.uint8)
        name = path.name.replace("_0000.tif", ".tif")
        tifffile.imwrite(scroll / "out" / name, sheet, photometric="minisblack")
    _run("predict", "import-blocks", "blocks", "out", "back.zarr", "--blend", "crop", "--label", 1)
    np.testing.assert_array_equal(_read("back.zarr") > 0, _read("scroll/ct.zarr") > 120)
    pairs = ("scroll/ct.zarr", "labels.zarr")
    args = ("predict", "make-dataset", "--id", 60, "--name", "Waves", "--raw", "raw")
    assert "1 cases" in _run(*args, *pairs).output
    assert (scroll / "raw/Dataset060_Waves/dataset.json").is_file()
    result = CliRunner().invoke(tracer, [str(arg) for arg in (*args, pairs[0])])
    assert "has no labels" in result.output
