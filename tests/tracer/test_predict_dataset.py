"""Training sets as nnU-Net expects them."""

import json

import numpy as np
import pytest
import tifffile

from tracer.errors import (
    FormatError,
    NothingFoundError,
    OutputError,
    ParamsError,
    TracerWarning,
)
from tracer.predict.dataset import DatasetParams, make_dataset
from tracer.predict.surface_labels import label_surfaces
from tracer.surface import Surface
from tracer.volume_writer import VolumeWriter

PARAMS = DatasetParams(id=60, name="Sheets", crop=32)


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return path


def _grey(shape=(32, 40, 64), seed=1):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


def _surface(z=16.0, step=4.0, rows=10, cols=16):
    y, x = np.meshgrid(step * np.arange(rows), step * np.arange(cols), indexing="ij")
    points = np.stack([x, y, np.full_like(x, z)], axis=-1).astype(np.float32)
    valid = np.ones(points.shape[:2], np.bool_)
    return Surface(points_xyz=points, valid=valid, scale=(1 / step, 1 / step))


def _cases(folder):
    return sorted(
        path.name.removesuffix("_0000.tif") for path in (folder / "imagesTr").glob("*.tif")
    )


def test_make_dataset__has_the_files_that_nnunet_expects(tmp_path):
    grey = _grey()
    label = (grey > 200).astype(np.uint8) * 7
    tifffile.imwrite(tmp_path / "label.tif", label)
    image = _volume(tmp_path / "scroll 1.zarr", grey)
    result = make_dataset(tmp_path / "raw", [(image, tmp_path / "label.tif")], PARAMS)
    folder = tmp_path / "raw/Dataset060_Sheets"
    assert result.path == folder
    assert result.cases == 1 * 2 * 2
    description = json.loads((folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "CT"}
    assert description["labels"] == {"background": 0, "sheet": 1}
    assert description["numTraining"] == 4
    assert description["file_ending"] == ".tif"
    names = _cases(folder)
    assert names[1] == "scroll-1_00000_00000_00032"
    assert names[2] == "scroll-1_00000_00008_00000"  # the last crop is moved back
    for name in names:
        z, y, x = (int(part) for part in name.split("_")[1:])
        box = (slice(z, z + 32), slice(y, y + 32), slice(x, x + 32))
        image_file = tifffile.imread(folder / f"imagesTr/{name}_0000.tif")
        np.testing.assert_array_equal(image_file, grey[box])
        np.testing.assert_array_equal(
            tifffile.imread(folder / f"labelsTr/{name}.tif"), label[box] // 7
        )
        for part in ("imagesTr", "labelsTr"):
            spacing = json.loads((folder / part / f"{name}.json").read_text())
            assert spacing == {"spacing": [1.0, 1.0, 1.0]}
    assert len(list(folder.rglob("*"))) == 1 + 2 + 4 * 4
    assert f"{result.cases} cases" in result.summary()


def test_make_dataset__ignore_label_and_warning(tmp_path):
    grey = _grey()
    label = np.zeros(grey.shape, np.uint8)
    label[10:14], label[20:] = 1, 2
    pair = (_volume(tmp_path / "a.zarr", grey), _volume(tmp_path / "l.zarr", label))
    with pytest.warns(TracerWarning, match="give ignore_label 2"):
        make_dataset(tmp_path / "raw", [pair], PARAMS)
    params = PARAMS.model_copy(update={"ignore_label": 2, "crop": 0, "id": 61})
    result = make_dataset(tmp_path / "raw", [pair], params)
    folder = tmp_path / "raw/Dataset061_Sheets"
    assert json.loads((folder / "dataset.json").read_text())["labels"]["ignore"] == 2
    (name,) = _cases(folder)
    np.testing.assert_array_equal(tifffile.imread(folder / f"labelsTr/{name}.tif"), label)
    assert (result.sheet, result.ignored) == (4 / 32, 12 / 32)


def test_make_dataset__labels_from_surfaces(tmp_path):
    grey = _grey()
    grey[:, :, 60:] = 0
    grey[:, :, :60] |= 1
    _surface().save(tmp_path / "paths/one")
    pair = (_volume(tmp_path / "a.zarr", grey), tmp_path / "paths")
    params = PARAMS.model_copy(update={"crop": 0, "half_width": 2.0, "known_distance": 6.0})
    make_dataset(tmp_path / "raw", [pair], params)
    (name,) = _cases(tmp_path / "raw/Dataset060_Sheets")
    label = tifffile.imread(tmp_path / f"raw/Dataset060_Sheets/labelsTr/{name}.tif")
    column = label[:, 20, 30]
    assert np.flatnonzero(column == 1).tolist() == [14, 15, 16, 17, 18]
    assert np.flatnonzero(column == 0).tolist() == [10, 11, 12, 13, 19, 20, 21, 22]
    assert (label[:, 38:, 30] == 2).all()  # beyond the edge of the surface nobody knows
    assert (label[:, :, 60:] != 2).all()  # masked: there is nothing


def test_label_surfaces__coarser_levels_and_bends():
    fine = label_surfaces([_surface()], (0, 0, 0), (32, 40, 64), half_width=2, known_distance=8)
    coarse = label_surfaces(
        [_surface()], (0, 0, 0), (16, 20, 32), half_width=1, known_distance=4, level=1
    )
    assert np.flatnonzero(fine[:, 9, 9] == 1).mean() == 16.0
    assert np.flatnonzero(coarse[:, 9, 9] == 1).tolist() == [7, 8]  # 7.75 in voxels of level 1
    assert np.flatnonzero(coarse[:, 9, 9] != 2).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    part = label_surfaces([_surface()], (9, 3, 8), (20, 30, 31), half_width=2, known_distance=8)
    np.testing.assert_array_equal(part, fine[9:20, 3:30, 8:31])


def test_make_dataset__several_images_and_crops_that_teach_nothing(tmp_path):
    grey, label = _grey((32, 32, 96)), np.zeros((32, 32, 96), np.uint8)
    label[5:9, :, :32] = 1
    grey[:, :, 64:] = 0
    pairs = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "l.tif", label)
        pairs.append((_volume(tmp_path / name / "ct.zarr", grey), tmp_path / name / "l.tif"))
    result = make_dataset(tmp_path / "raw", pairs, PARAMS)
    assert (result.cases, result.left_out) == (2, 4)
    names = _cases(result.path)
    assert names == ["x-ct_00000_00000_00000", "y-ct_00000_00000_00000"]
    again = make_dataset(tmp_path / "raw", [pairs[0]] * 2, PARAMS, overwrite=True)
    assert _cases(again.path)[1].startswith("001-x-ct")


def test_make_dataset__says_what_is_wrong(tmp_path):
    image = _volume(tmp_path / "a.zarr", _grey())
    tifffile.imwrite(tmp_path / "small.tif", np.ones((5, 6, 7), np.uint8))
    tifffile.imwrite(tmp_path / "none.tif", np.zeros((32, 40, 64), np.uint8))
    tifffile.imwrite(tmp_path / "ones.tif", np.ones((32, 40, 64), np.uint8))
    raw = tmp_path / "raw"
    with pytest.raises(FormatError, match="do not fit"):
        make_dataset(raw, [(image, tmp_path / "small.tif")], PARAMS)
    with pytest.raises(NothingFoundError, match="none of 4 crops"):
        make_dataset(raw, [(image, tmp_path / "none.tif")], PARAMS)
    assert not list(raw.glob("*"))
    make_dataset(raw, [(image, tmp_path / "ones.tif")], PARAMS)
    with pytest.raises(OutputError, match="exists already"):
        make_dataset(raw, [(image, tmp_path / "ones.tif")], PARAMS)
    with pytest.raises(ParamsError, match="has it already"):
        make_dataset(
            raw, [(image, tmp_path / "ones.tif")], PARAMS.model_copy(update={"name": "Other"})
        )
    with pytest.raises(ParamsError, match="no levels"):
        make_dataset(
            raw,
            [(tmp_path / "ones.tif", image)],
            PARAMS.model_copy(update={"level": 1, "id": 3}),
        )
    with pytest.raises(ParamsError, match="must be more than half_width"):
        DatasetParams.from_mapping({"half_width": 8.0})
