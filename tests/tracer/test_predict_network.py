"""Prediction with networks: windows, blocks, parts, restarts; the network itself is a formula."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_nnunet import FIGURES, Predictor, install, make_fake_model

from tracer.errors import FormatError, MissingDependencyError, OutputError, ParamsError
from tracer.predict import network_stage
from tracer.predict.network_params import NetworkParams
from tracer.predict.network_stage import Part, PartResult, predict_with_network
from tracer.predict.output import Existing
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

ODDS = NetworkParams(probabilities=True, block=600)


@pytest.fixture
def predictors(monkeypatch):
    return install(monkeypatch)


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return Volume.open(path)


def _noise(shape=(30, 37, 26), seed=1):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


def _with(**changes):
    return ODDS.model_copy(update=changes)


@pytest.fixture
def ct(tmp_path):
    return _volume(tmp_path / "ct.zarr", _noise())


CASES = {
    "cubes": {},
    "slabs": {"patch": (4, 16, 8)},
    "larger than the volume": {"patch": (40, 16, 64)},
    "slices": {"patch": (8, 12)},
    "other axes": {"patch": (4, 8, 12), "transpose_forward": [2, 0, 1]},
    "slices across x": {"patch": (8, 12), "transpose_forward": [2, 0, 1]},
    "coarser": {"spacing": 1.7},
    "finer": {"spacing": 0.8},
    "z-score": {"scheme": "ZScoreNormalization"},
    "rescaled": {"scheme": "RescaleTo01Normalization"},
}


@pytest.mark.parametrize("case", CASES)
def test_predict_with_network__blocks_change_nothing(case, tmp_path, ct, predictors):
    model = make_fake_model(tmp_path / "m", **CASES[case])
    whole = predict_with_network(ct, tmp_path / "whole.zarr", [model], ODDS)
    parts = predict_with_network(ct, tmp_path / "parts.zarr", [model], _with(block=16))
    assert whole.blocks == 1
    assert parts.blocks >= 3
    a, b = _read(tmp_path / "whole.zarr"), _read(tmp_path / "parts.zarr")
    assert a.std() > 5
    # Interpolation offsets are rounded differently in other blocks, 1e-7 of a probability.
    assert np.abs(a.astype(int) - b).max() <= (1 if "spacing" in CASES[case] else 0)


def test_predict_with_network__is_the_formula(tmp_path, ct, predictors):
    model = make_fake_model(tmp_path / "m")
    predict_with_network(ct, tmp_path / "o.zarr", [model], ODDS)
    assert predictors[0].windows == 7 * 9 * 6  # 30, 37, 26 voxels in windows of 8, 4 apart at most
    grey = _read(tmp_path / "ct.zarr").astype(np.float64)
    low, high = FIGURES["percentile_00_5"], FIGURES["percentile_99_5"]
    normal = (np.clip(grey, low, high) - FIGURES["mean"]) / FIGURES["std"]
    corner = normal[:8, :8, :8]
    odds = corner[0, 0, 0] + 2 * corner.mean() + 0.02  # only one window holds the first voxel
    expected = 255 / (1 + np.exp(-odds))
    assert abs(_read(tmp_path / "o.zarr")[0, 0, 0] - expected) <= 0.51


def test_predict_with_network__threshold_and_probabilities(tmp_path, ct, predictors):
    model = make_fake_model(tmp_path / "m")
    predict_with_network(ct, tmp_path / "p.zarr", [model], ODDS)
    params = NetworkParams(block=16, threshold=0.7)
    result = predict_with_network(ct, tmp_path / "b.zarr", [model], params)
    odds, binary = _read(tmp_path / "p.zarr"), _read(tmp_path / "b.zarr")
    np.testing.assert_array_equal(binary, np.where(odds >= 0.7 * 255, 255, 0))
    assert result.sheet_voxels == np.count_nonzero(binary) > 100
    volume = Volume.open(tmp_path / "b.zarr")
    volume.require_prediction()
    meta = json.loads((tmp_path / "b.zarr/meta.json").read_text())
    assert meta["models"][0]["name"] == "m"
    assert meta["params"]["threshold"] == 0.7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zarr", "ct.zarr", "m", "p.zarr"]


def test_predict_with_network__folds_and_models_are_averaged(tmp_path, ct, predictors):
    one = make_fake_model(tmp_path / "one", folds=("0", "1", "3"))
    two = make_fake_model(tmp_path / "two", folds=("9",), patch=(16, 16, 16))
    predict_with_network(ct, tmp_path / "a.zarr", [one], ODDS)
    assert predictors[-1].folds == ("0", "1", "3")
    predict_with_network(ct, tmp_path / "b.zarr", [two], ODDS)
    predict_with_network(ct, tmp_path / "c.zarr", [one, two], _with(block=16))
    a, b, c = (_read(tmp_path / f"{name}.zarr").astype(float) for name in "abc")
    assert np.abs(a - b).max() > 30
    assert np.abs(c - (a + b) / 2).max() <= 1.0
    predict_with_network(ct, tmp_path / "d.zarr", [one], _with(folds="1", mirroring=False))
    assert predictors[-1].folds == ("1",)
    assert not predictors[-1].use_mirroring


def test_predict_with_network__empty_windows_and_blocks_are_left_out(tmp_path, predictors):
    array = _noise((32, 32, 48))
    array[:, :, 20:] = 0
    ct = _volume(tmp_path / "ct.zarr", array)
    model = make_fake_model(tmp_path / "m")
    result = predict_with_network(ct, tmp_path / "o.zarr", [model], _with(block=16))
    assert (result.blocks, result.empty_blocks) == (12, 4)
    values = _read(tmp_path / "o.zarr")
    assert not values[:, :, 20:].any()
    assert values[:, :, :20].all()
    for block in (16, 600):
        predict_with_network(
            ct, tmp_path / f"{block}.zarr", [model], _with(block=block, mask_empty=False)
        )
    np.testing.assert_array_equal(_read(tmp_path / "16.zarr"), _read(tmp_path / "600.zarr"))
    values = _read(tmp_path / "16.zarr")
    assert values[:, :, 20:24].any()  # windows that start at 16 hold something
    assert not values[:, :, 28:].any()


def test_predict_with_network__goes_on_after_an_interruption(tmp_path, ct, predictors, monkeypatch):
    model = make_fake_model(tmp_path / "m")
    params = _with(block=16)
    predict_with_network(ct, tmp_path / "whole.zarr", [model], params)
    calls = []
    real = network_stage.BlockPredictor.block

    def failing(self, number):
        calls.append(number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(network_stage.BlockPredictor, "block", failing)
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict_with_network(ct, out, [model], params)
    assert not out.exists()
    with pytest.raises(OutputError, match="'params' differs"):
        predict_with_network(ct, out, [model], _with(block=16, step=0.25))
    result = predict_with_network(ct, out, [model], params)
    assert calls == [0, 1, 2, 3, *range(3, result.blocks)]
    assert result.resumed_blocks == 3
    np.testing.assert_array_equal(_read(out), _read(tmp_path / "whole.zarr"))
    with pytest.raises(OutputError, match="exists already"):
        predict_with_network(ct, out, [model], params)
    predict_with_network(ct, out, [model], params, existing=Existing(overwrite=True))


def test_predict_with_network__parts_make_one_volume(tmp_path, ct, predictors):
    model = make_fake_model(tmp_path / "m")
    params = _with(block=16)
    predict_with_network(ct, tmp_path / "whole.zarr", [model], params)
    out = tmp_path / "out.zarr"
    results = [
        predict_with_network(ct, out, [model], params, part=Part(number=n, count=3))
        for n in (2, 0, 1)
    ]
    assert [type(r) for r in results[:2]] == [PartResult, PartResult]
    assert results[0].done + results[1].done + results[1].missing == results[2].blocks
    assert "left to the other parts" in results[0].summary()
    np.testing.assert_array_equal(_read(out), _read(tmp_path / "whole.zarr"))
    with pytest.raises(ParamsError, match="0 to 2"):
        Part(number=3, count=3)


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_predict_with_network__blended_blocks_come_close(tmp_path, ct, predictors, blend):
    model = make_fake_model(tmp_path / "m")
    predict_with_network(ct, tmp_path / "whole.zarr", [model], ODDS)
    params = _with(block=24, overlap=10, blend=blend)
    result = predict_with_network(ct, tmp_path / "o.zarr", [model], params)
    a, b = (_read(tmp_path / f"{n}.zarr").astype(float) for n in ("whole", "o"))
    assert result.blocks == 8
    assert 0 < np.abs(a - b).mean() < 8
    np.testing.assert_array_equal(a[0, 0, 0], b[0, 0, 0])
    with pytest.raises(ParamsError, match="more than half"):
        NetworkParams.from_mapping({"block": 64, "overlap": 40, "blend": "crop"})


def test_predict_with_network__other_levels(tmp_path, predictors):
    ct = _volume(tmp_path / "ct.zarr", _noise((20, 30, 150)))
    model = make_fake_model(tmp_path / "m")
    result = predict_with_network(ct, tmp_path / "o.zarr", [model], _with(level=1))
    volume = Volume.open(tmp_path / "o.zarr")
    assert volume.shape_zyx == (10, 15, 75) == ct.level_shape_zyx(1)
    assert volume.voxel_size_um == pytest.approx(2 * 7.91)
    assert result.voxels == 10 * 15 * 75


def test_predict_with_network__uint16_is_the_same_as_uint8(tmp_path, predictors):
    model = make_fake_model(tmp_path / "m")
    for name, array in (("a", _noise()), ("b", _noise().astype(np.uint16) * 257)):
        ct = _volume(tmp_path / f"{name}.zarr", array)
        predict_with_network(ct, tmp_path / f"p{name}.zarr", [model], ODDS)
    a, b = _read(tmp_path / "pa.zarr"), _read(tmp_path / "pb.zarr")
    assert np.abs(a.astype(int) - b).max() <= 1
    large = make_fake_model(tmp_path / "large", figures={**FIGURES, "max": 60000.0})
    predict_with_network(ct, tmp_path / "pc.zarr", [large], ODDS)
    assert np.abs(_read(tmp_path / "pc.zarr").astype(int) - b).max() > 30


def test_predict_with_network__labels_and_regions(tmp_path, ct, predictors):
    labels = {"background": 0, "across": 1, "along": 2, "ignore": 3}
    model = make_fake_model(tmp_path / "m", labels=labels)
    for name in ("", "across", "along"):
        predict_with_network(ct, tmp_path / f"o{name}.zarr", [model], _with(labels=name))
    both, across, along = (
        _read(tmp_path / f"o{name}.zarr").astype(float) for name in ("", "across", "along")
    )
    assert np.abs(both - across - along).max() <= 1.5  # softmax: probabilities add up
    regions = make_fake_model(tmp_path / "r", labels={"background": 0, "all": [1, 2], "core": [2]})
    predict_with_network(ct, tmp_path / "r.zarr", [regions], _with(labels="core"))
    assert _read(tmp_path / "r.zarr").std() > 5
    with pytest.raises(ParamsError, match="has no label sheets"):
        predict_with_network(ct, tmp_path / "x.zarr", [model], _with(labels="sheets"))


def test_predict_with_network__says_what_is_missing(tmp_path, ct, monkeypatch):
    model = make_fake_model(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'scroll-tracer\[nnunet\]'"):
        predict_with_network(ct, tmp_path / "o.zarr", [model], ODDS)
    assert not (tmp_path / "o.zarr").exists()


def test_predict_with_network__bad_models(tmp_path, ct, predictors):
    def message(model, **changes):
        with pytest.raises((FormatError, ParamsError)) as caught:
            predict_with_network(ct, tmp_path / "o.zarr", [model], _with(**changes))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such model" in message(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "has no plans.json" in message(tmp_path / "empty")
    model = make_fake_model(tmp_path / "in/m", folds=("0", "1"))
    assert "has folds 0, 1, not 2" in message(model, folds="2")
    assert "no checkpoint_best.pth" in message(model, checkpoint="best")
    assert "finds none" in message(model, device="cuda")
    predict_with_network(ct, tmp_path / "below.zarr", [tmp_path / "in"], ODDS)
    (model / "fold_1/checkpoint_final.pth").rename(model / "fold_1/checkpoint_best.pth")
    assert "every one of the folds 0, 1" in message(model)
    (model / "dataset.json").unlink()
    assert "no dataset.json" in message(model)
    cascade = make_fake_model(tmp_path / "c", previous_stage_name="3d_lowres")
    assert "cascade" in message(cascade)
    odd = make_fake_model(tmp_path / "odd", scheme="PhaseOfTheMoon")
    assert "PhaseOfTheMoon" in message(odd)
    two = make_fake_model(tmp_path / "two")
    dataset = json.loads((two / "dataset.json").read_text())
    dataset["channel_names"]["1"] = "MRI"
    (two / "dataset.json").write_text(json.dumps(dataset))
    assert "needs 2 channels" in message(two)


@pytest.mark.parametrize(
    ("there", "wanted", "used"),
    [
        ((), "auto", "cpu"),
        (("cuda",), "auto", "cuda"),
        (("mps",), "auto", "mps"),
        (("cuda", "mps"), "mps", "mps"),
        (("cuda",), "cuda", "cuda"),
        (("cuda",), "cpu", "cpu"),
    ],
)
def test_predict_with_network__runs_on_the_device(tmp_path, ct, monkeypatch, there, wanted, used):
    predictors = install(monkeypatch, there)
    model = make_fake_model(tmp_path / "m")
    predict_with_network(ct, tmp_path / "o.zarr", [model], _with(device=wanted))
    assert (predictors[0].device, predictors[0].all_on_device) == (used, used == "cuda")
    meta = json.loads((tmp_path / "o.zarr/meta.json").read_text())
    assert meta["devices"] == [used]


@pytest.mark.parametrize("block", [16, 600])
@pytest.mark.parametrize("spacing", [1.0, 1.7])
def test_predict_with_network__refuses_a_diverged_network(
    tmp_path, ct, predictors, monkeypatch, block, spacing
):
    monkeypatch.setattr(Predictor, "diverged", True)
    model = make_fake_model(tmp_path / "m", spacing=spacing)
    with pytest.raises(FormatError, match="returns NaN"):
        predict_with_network(ct, tmp_path / "o.zarr", [model], _with(block=block))
    assert not (tmp_path / "o.zarr").exists()


def test_predict_with_network__notices_other_weights_and_damage(tmp_path, ct, predictors):
    model = make_fake_model(tmp_path / "m")
    out = tmp_path / "o.zarr"
    params = _with(block=16)
    predict_with_network(ct, out, [model], params, part=Part(number=0, count=2))
    (model / "fold_0/checkpoint_final.pth").write_text("0 ")
    with pytest.raises(OutputError, match="'models' differs"):
        predict_with_network(ct, out, [model], params)
    predict_with_network(
        ct, out, [model], params, part=Part(number=0, count=2), existing=Existing(restart=True)
    )
    Path(tmp_path / ".o.zarr.blocks/000000.block").write_bytes(b"x" * 99)
    with pytest.raises(FormatError, match="damaged block"):
        predict_with_network(ct, out, [model], params)
