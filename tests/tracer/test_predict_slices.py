"""2-D models slice by slice; the model is a formula behind the interface of onnxruntime."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tracer.errors import FormatError, MissingDependencyError, ParamsError
from tracer.predict.network_params import NetworkParams
from tracer.predict.network_stage import predict_with_network
from tracer.predict.window_grid import gaussian_window, window_starts
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

ODDS = NetworkParams(probabilities=True, slice_patch=16)


class _Session:
    """A 2-D network: the mean over channels, one more logit per place in the window."""

    shape = (None, 3, None, None)
    classes = 1
    providers = ()  # a list while the fixture is in force

    def __init__(self, path, providers):
        self.providers.append(providers)
        if Path(path).read_bytes() != b"onnx":
            raise RuntimeError("no graph")

    def get_inputs(self):
        return [SimpleNamespace(name="image", shape=list(self.shape))]

    def run(self, _, feeds):
        images = feeds["image"]
        if isinstance(self.shape[0], int):
            assert len(images) == self.shape[0]
        rows, columns = images.shape[2:]
        ramp = np.linspace(0, 1, rows)[:, None] + np.linspace(0, 1, columns)
        logit = 8 * images[:, :, None].mean(axis=1) - 4 + ramp
        extra = [logit * (k + 1) for k in range(self.classes - 1)]
        return [np.concatenate([logit, *extra], axis=1).astype(np.float32)]


@pytest.fixture
def session(monkeypatch):
    module = ModuleType("onnxruntime")
    made = type("Session", (_Session,), {"providers": []})
    module.InferenceSession = made
    module.get_available_providers = lambda: ["CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return made


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"onnx")
    return path


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return Volume.open(path)


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


def _with(**changes):
    return ODDS.model_copy(update=changes)


@pytest.fixture
def ct(tmp_path):
    array = np.random.default_rng(4).integers(1, 255, (20, 30, 26)).astype(np.uint8)
    return _volume(tmp_path / "ct.zarr", array)


@pytest.mark.parametrize("axes", ["z", "y", "x", "z,y,x"])
def test_slices__blocks_change_nothing(tmp_path, session, model, ct, axes):
    params = _with(slice_axes=axes)
    predict_with_network(ct, tmp_path / "a.zarr", [model], params)
    blocks = params.model_copy(update={"block": 16})
    result = predict_with_network(ct, tmp_path / "b.zarr", [model], blocks)
    assert result.blocks > 4
    a, b = _read(tmp_path / "a.zarr"), _read(tmp_path / "b.zarr")
    assert a.std() > 5
    np.testing.assert_array_equal(a, b)


def test_slices__are_the_weighted_mean_of_windows(tmp_path, session, model, ct):
    predict_with_network(ct, tmp_path / "a.zarr", [model], ODDS)
    normal = np.pad(_read(tmp_path / "ct.zarr") / 255.0, ((1, 1), (0, 0), (0, 0)))
    mean = (normal[:-2] + normal[1:-1] + normal[2:]) / 3
    weights = gaussian_window((16, 16)).astype(np.float64)
    total, weight = np.zeros((30, 26)), np.zeros((30, 26))
    ramp = np.linspace(0, 1, 16)[:, None] + np.linspace(0, 1, 16)
    for row in window_starts(30, 16, 0.5):
        for column in window_starts(26, 16, 0.5):
            box = (slice(row, row + 16), slice(column, column + 16))
            total[box] += weights * ramp
            weight[box] += weights
    odds = 8 * mean - 4 + total / weight
    expected = 255 / (1 + np.exp(-odds))
    assert np.abs(_read(tmp_path / "a.zarr") - expected).max() <= 0.51


def test_slices__axes_are_averaged(tmp_path, session, model, ct):
    for axes in ("z", "x", "z,x"):
        predict_with_network(ct, tmp_path / f"{axes}.zarr", [model], _with(slice_axes=axes))
    z, x, both = (_read(tmp_path / f"{axes}.zarr").astype(float) for axes in ("z", "x", "z,x"))
    assert np.abs(z - x).max() > 10
    assert np.abs(both - (z + x) / 2).max() <= 1.0


def test_slices__what_the_model_fixes_wins(tmp_path, session, model, ct):
    session.shape = (1, 1, 12, 12)
    predict_with_network(ct, tmp_path / "a.zarr", [model], _with(slice_channels=5))
    session.shape = (None, None, None, None)
    params = _with(slice_patch=32, slice_channels=1)
    predict_with_network(ct, tmp_path / "b.zarr", [model], params)
    assert np.abs(_read(tmp_path / "a.zarr").astype(float) - _read(tmp_path / "b.zarr")).max() > 5


def test_slices__two_classes_are_a_softmax(tmp_path, session, model, ct):
    predict_with_network(ct, tmp_path / "a.zarr", [model], ODDS)
    session.classes = 2
    session.run = lambda self, _, feeds: [
        np.concatenate([0 * out, out], axis=1) for out in [_Session.run(ONE, _, feeds)[0]]
    ]
    predict_with_network(ct, tmp_path / "b.zarr", [model], ODDS)
    np.testing.assert_array_equal(_read(tmp_path / "a.zarr"), _read(tmp_path / "b.zarr"))


ONE = SimpleNamespace(shape=(None,), classes=1)


@pytest.mark.parametrize(
    ("there", "wanted", "used"),
    [(False, "auto", "cpu"), (True, "auto", "cuda"), (True, "cuda", "cuda"), (True, "cpu", "cpu")],
)
def test_slices__run_on_the_device(tmp_path, session, model, ct, monkeypatch, there, wanted, used):
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    have = [cuda, cpu] if there else [cpu]
    monkeypatch.setattr(sys.modules["onnxruntime"], "get_available_providers", lambda: have)
    predict_with_network(ct, tmp_path / "o.zarr", [model], _with(device=wanted))
    assert session.providers == [[cuda, cpu] if used == "cuda" else [cpu]]


def test_slices__says_what_is_wrong(tmp_path, session, model, ct, monkeypatch):
    out = tmp_path / "o.zarr"
    session.shape = (None, 3, None, None, None)
    with pytest.raises(FormatError, match="expected images, channels, rows"):
        predict_with_network(ct, out, [model], ODDS)
    session.shape = _Session.shape
    session.run = lambda self, _, feeds: [feeds["image"][..., :4]]
    with pytest.raises(FormatError, match="one logit or several classes"):
        predict_with_network(ct, out, [model], ODDS)
    model.write_bytes(b"else")
    with pytest.raises(FormatError, match="not a usable ONNX model"):
        predict_with_network(ct, out, [model], ODDS)
    with pytest.raises(ParamsError, match="twice"):
        NetworkParams.from_mapping({"slice_axes": "z,z"})
    for device in ("cuda", "mps"):  # never the processor on the quiet
        with pytest.raises(ParamsError, match=f"device = '{device}': onnxruntime cannot"):
            predict_with_network(ct, out, [model], ODDS.model_copy(update={"device": device}))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"scroll-tracer\[onnx\]"):
        predict_with_network(ct, out, [model], ODDS)
    script = tmp_path / "net.ts"
    script.write_bytes(b"script")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"scroll-tracer\[nnunet\]"):
        predict_with_network(ct, out, [script], ODDS)
