"""Prediction stages on volumes: restart, seams, refusals."""

import json

import numpy as np
import pytest

from tracer.errors import NothingFoundError, OutputError, VolumeError
from tracer.predict import stages
from tracer.predict.clean import CleanParams
from tracer.predict.from_labels import FromLabelsParams
from tracer.predict.output import Existing
from tracer.predict.params import PredictParams
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

SMALL = PredictParams(sigma=1.0, scales=1, normal_sigma=2.0, disc_radius=1.0, block=32)


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return Volume.open(path)


def _waves(shape=(40, 70, 40), seed=1):
    _, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    grey = 90 + 70 * np.cos(2 * np.pi * (y + 2 * np.sin(x / 9)) / 11)
    grey += np.random.default_rng(seed).normal(0, 8, shape)
    return np.clip(grey, 1, 255).astype(np.uint8)


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


def test_predict__writes_a_finished_prediction(tmp_path):
    ct = _volume(tmp_path / "ct.zarr", _waves())
    out = tmp_path / "out.zarr"
    seen = []
    result = stages.predict(ct, out, SMALL, progress=lambda done, total, note="": seen.append(done))
    volume = Volume.open(out)
    volume.require_prediction()
    assert volume.shape_zyx == ct.shape_zyx
    assert volume.voxel_size_um == 7.91
    values = _read(out)
    assert set(np.unique(values)) == {0, 255}
    assert result.sheet_voxels == np.count_nonzero(values) > 1000
    assert (result.blocks, result.resumed_blocks) == (2 * 3 * 2, 0)
    assert "12 blocks" in result.summary()
    coarse = volume.read(1, (0, 0, 0), volume.level_shape_zyx(1))
    np.testing.assert_array_equal(
        coarse, values.reshape(20, 2, 35, 2, 20, 2).max((1, 3, 5))
    )  # max pooling
    assert json.loads((out / "meta.json").read_text())["params"]["sigma"] == 1.0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert seen


def test_predict__block_size_changes_nothing(tmp_path):
    ct = _volume(tmp_path / "ct.zarr", _waves())
    stages.predict(ct, tmp_path / "a.zarr", SMALL)
    stages.predict(ct, tmp_path / "b.zarr", SMALL.model_copy(update={"block": 128}))
    np.testing.assert_array_equal(_read(tmp_path / "a.zarr"), _read(tmp_path / "b.zarr"))


def test_predict__goes_on_after_an_interruption(tmp_path, monkeypatch):
    ct = _volume(tmp_path / "ct.zarr", _waves())
    whole, out = tmp_path / "whole.zarr", tmp_path / "out.zarr"
    expected = stages.predict(ct, whole, SMALL)
    calls = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    real = stages.filter_block
    monkeypatch.setattr(stages, "filter_block", failing)
    with pytest.raises(KeyboardInterrupt):
        stages.predict(ct, out, SMALL)
    assert not out.exists()
    with pytest.raises(OutputError, match="unfinished"):
        stages.predict(ct, out, SMALL.model_copy(update={"threshold": 0.3}))
    result = stages.predict(ct, out, SMALL)
    assert len(calls) == 6 + 12 - 5
    assert result.resumed_blocks == 5
    assert result.sheet_voxels == expected.sheet_voxels
    np.testing.assert_array_equal(_read(out), _read(whole))


def test_predict__refuses_a_finished_output_unless_told(tmp_path):
    ct = _volume(tmp_path / "ct.zarr", _waves())
    out = tmp_path / "out.zarr"
    stages.predict(ct, out, SMALL)
    with pytest.raises(OutputError, match="exists already"):
        stages.predict(ct, out, SMALL)
    stages.predict(ct, out, SMALL, existing=Existing(overwrite=True))


def _rings(shape=(48, 80, 80), centre=(37.0, 44.0), pitch=9.0):
    """Return sheets that wind about an axis, bright from the inner side over 4 voxels."""
    _, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    radius = np.hypot(y - centre[0], x - centre[1])
    grey = np.where((radius % pitch < 4) & (radius > 9) & (radius < 36), 200.0, 60.0)
    grey += np.random.default_rng(0).normal(0, 6, shape)
    return np.clip(grey, 1, 255).astype(np.uint8), radius


def test_predict__the_recto_is_found_without_an_axis(tmp_path):
    grey, radius = _rings()
    ct = _volume(tmp_path / "ct.zarr", grey)
    params = SMALL.model_copy(update={"face": "recto", "disc_radius": 0.0, "inset": 0.0})
    stages.predict(ct, tmp_path / "recto.zarr", params)
    verso = params.model_copy(update={"face": "verso"})
    stages.predict(ct, tmp_path / "verso.zarr", verso)
    known = params.model_copy(update={"axis_x": 44.0, "axis_y": 37.0})
    stages.predict(ct, tmp_path / "known.zarr", known)
    inside = (radius > 13) & (radius < 34)
    for name, face in (("recto", 0.0), ("verso", 4.0)):
        found = (_read(tmp_path / f"{name}.zarr") > 0) & inside
        off = np.abs((radius[found] - face + 4.5) % 9.0 - 4.5)
        assert found.sum() > 5000
        assert np.percentile(off, 98) < 2.0
    agree = _read(tmp_path / "recto.zarr")[inside] == _read(tmp_path / "known.zarr")[inside]
    assert agree.mean() > 0.999
    meta = json.loads((tmp_path / "recto.zarr/meta.json").read_text())
    axis = np.array(meta["axis_zyx"])
    assert np.abs(axis[:, 1:] - (37.0, 44.0)).max() < 2.0


def test_predict__masked_blocks_are_skipped(tmp_path, monkeypatch):
    array = _waves()
    array[:, :32] = 0
    ct = _volume(tmp_path / "ct.zarr", array)
    calls = []
    real = stages.filter_block
    monkeypatch.setattr(stages, "filter_block", lambda *a, **k: calls.append(1) or real(*a, **k))
    result = stages.predict(ct, tmp_path / "out.zarr", SMALL)
    assert len(calls) == 8
    assert result.empty_blocks == 4


def test_predict__uint16_is_the_same_as_uint8(tmp_path):
    ct8 = _volume(tmp_path / "a.zarr", _waves())
    ct16 = _volume(tmp_path / "b.zarr", _waves().astype(np.uint16) * 257)
    stages.predict(ct8, tmp_path / "pa.zarr", SMALL)
    stages.predict(ct16, tmp_path / "pb.zarr", SMALL)
    a, b = _read(tmp_path / "pa.zarr"), _read(tmp_path / "pb.zarr")
    assert (a != b).mean() < 1e-4  # rounding of the contrast and of float32


def test_measure_contrast__is_the_standard_deviation_of_what_is_there(tmp_path):
    array = np.random.default_rng(3).normal(100, 20, (64, 64, 64)).clip(1, 255).astype(np.uint8)
    array[:, :, :32] = 0
    contrast = stages.measure_contrast(_volume(tmp_path / "ct.zarr", array))
    assert contrast == pytest.approx(20.0, rel=0.03)


@pytest.mark.parametrize("value", [0, 77])
def test_measure_contrast__nothing_in_an_empty_volume(tmp_path, value):
    ct = _volume(tmp_path / "ct.zarr", np.full((8, 8, 8), value, np.uint8))
    with pytest.raises(NothingFoundError, match="one grey value"):
        stages.predict(ct, tmp_path / "out.zarr", SMALL)
    assert not (tmp_path / "out.zarr").exists()


def test_clean__drops_small_components_over_seams(tmp_path):
    array = np.zeros((40, 40, 40), np.uint8)
    array[10:13] = 255
    array[20:22, 30:36, 30:36] = 255  # 72 voxels over a seam
    array[30, 30, 30] = 255
    prediction = _volume(tmp_path / "p.zarr", array)
    params = CleanParams(block=32, hole_radius=0, min_component=72)
    result = stages.clean(prediction, tmp_path / "a.zarr", params)
    expected = array.copy()
    expected[30, 30, 30] = 0
    np.testing.assert_array_equal(_read(tmp_path / "a.zarr"), expected)
    assert result.notes == {"components": 3, "dropped voxels": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "p.zarr"]
    params = CleanParams(block=32, hole_radius=0, min_component=73)
    stages.clean(prediction, tmp_path / "b.zarr", params)
    expected[20:22] = 0
    np.testing.assert_array_equal(_read(tmp_path / "b.zarr"), expected)


def test_clean__goes_on_after_an_interruption(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    array = np.where(rng.random((40, 70, 40)) < 0.08, np.uint8(255), np.uint8(0))
    prediction = _volume(tmp_path / "p.zarr", array)
    params = CleanParams(block=32, normal_sigma=1.0, hole_radius=2, min_component=20)
    stages.clean(prediction, tmp_path / "whole.zarr", params)
    for function in ("clean_block", "label_block"):
        out = tmp_path / f"{function}.zarr"
        calls = []
        real = getattr(stages, function)

        def failing(*args, calls=calls, real=real, **kwargs):
            calls.append(1)
            if len(calls) == 6:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(stages, function, failing)
        with pytest.raises(KeyboardInterrupt):
            stages.clean(prediction, out, params)
        stages.clean(prediction, out, params)
        np.testing.assert_array_equal(_read(out), _read(tmp_path / "whole.zarr"))


def test_clean__masks_by_the_ct_and_checks_its_shape(tmp_path):
    array = np.full((10, 10, 10), 255, np.uint8)
    ct = np.ones((10, 10, 10), np.uint8)
    ct[5:] = 0
    prediction = _volume(tmp_path / "p.zarr", array)
    params = CleanParams(hole_radius=0, min_component=0)
    stages.clean(prediction, tmp_path / "o.zarr", params, ct=_volume(tmp_path / "c.zarr", ct))
    np.testing.assert_array_equal(_read(tmp_path / "o.zarr"), 255 * ct)
    with pytest.raises(VolumeError, match="does not fit"):
        stages.clean(
            prediction, tmp_path / "q.zarr", params, ct=_volume(tmp_path / "d.zarr", ct[:9])
        )


def test_predict_from_labels__one_surface_per_sheet(tmp_path):
    labels = np.zeros((40, 40, 40), np.uint16)
    labels[10:18], labels[18:26] = 400, 3
    params = FromLabelsParams(block=32, max_thickness=10.0, normal_sigma=2.0, half_width=1.0)
    result = stages.predict_from_labels(
        _volume(tmp_path / "l.zarr", labels), tmp_path / "o.zarr", params
    )
    column = np.flatnonzero(_read(tmp_path / "o.zarr")[:, 20, 20])
    assert column.tolist() == [13, 14, 21, 22]
    assert result.sheet_voxels == 4 * 40 * 40


def test_score__of_a_box(tmp_path):
    a = np.zeros((20, 20, 20), np.uint8)
    a[5:8] = 255
    b = a.copy()
    b[:, :, 10:] = 0
    one, two = _volume(tmp_path / "a.zarr", a), _volume(tmp_path / "b.zarr", b)
    assert stages.score(one, one).combined == pytest.approx(1.0)
    assert stages.score(one, two).dice == pytest.approx(2 / 3)
    assert stages.score(one, two, box_zyx=((0, 0, 0), (20, 20, 10))).dice == 1.0
    with pytest.raises(VolumeError, match="cannot be scored"):
        stages.score(one, two, box_zyx=((0, 0, 0), (0, 20, 10)))
    other = _volume(tmp_path / "c.zarr", a[:10])
    with pytest.raises(VolumeError, match="differ in shape"):
        stages.score(one, other)
