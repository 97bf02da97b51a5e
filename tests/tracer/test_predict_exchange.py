"""Blocks out and back, and the files in between."""

import json

import numpy as np
import pytest
import tifffile

from tracer.errors import FormatError, OutputError, ParamsError
from tracer.predict.exchange import ExportParams, ImportParams, export_blocks, import_blocks
from tracer.predict.output import Existing
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

SMALL = ExportParams(block=24, overlap=8)
AGAIN = Existing(restart=True)


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return Volume.open(path)


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


@pytest.fixture
def exported(tmp_path):
    array = np.random.default_rng(2).integers(1, 255, (30, 50, 26)).astype(np.uint8)
    array[:, 20:] = 0
    ct = _volume(tmp_path / "ct.zarr", array)
    result = export_blocks(ct, tmp_path / "blocks", SMALL)
    return ct, array, result


def _predict(blocks, out, *, noise=0):
    """Stand in for nnUNetv2_predict: bright voxels are sheet."""
    out.mkdir()
    rng = np.random.default_rng(5)
    for path in sorted(blocks.glob("block_*_0000.tif")):
        sheet = tifffile.imread(path) > 128
        if noise:
            sheet ^= rng.random(sheet.shape) < noise
        name = path.name.removesuffix("_0000.tif")
        tifffile.imwrite(out / f"{name}.tif", sheet.astype(np.uint8), compression="zlib")
        p = np.where(sheet, np.float32(0.9), np.float32(0.2))
        np.savez_compressed(out / f"{name}.npz", probabilities=np.stack([1 - p, p]))


def test_export_blocks__are_what_nnunet_reads(exported, tmp_path):
    ct, array, result = exported
    folder = tmp_path / "blocks"
    assert (result.blocks, result.empty, result.kept) == (2 * 3 * 2, 4, 0)
    tifs = sorted(folder.glob("*.tif"))
    assert len(tifs) == 8
    for path in tifs:
        name = path.name.removesuffix("_0000.tif")
        z, y, x = map(int, name.removeprefix("block_").split("_"))
        voxels = tifffile.imread(path)
        np.testing.assert_array_equal(voxels, array[z : z + 24, y : y + 24, x : x + 24])
        assert json.loads((folder / f"{name}.json").read_text()) == {"spacing": [1.0, 1.0, 1.0]}
    assert "nnUNetv2_predict -i" in result.summary()
    tifs[3].unlink()
    again = export_blocks(ct, folder, SMALL)
    assert (again.kept, again.empty) == (7, 4)
    assert tifs[3].exists()
    with pytest.raises(OutputError, match="another volume or size"):
        export_blocks(ct, folder, ExportParams(block=24, overlap=6))
    with pytest.raises(ParamsError, match="more than half"):
        ExportParams.from_mapping({"block": 90})
    with pytest.raises(OutputError, match="not empty"):
        export_blocks(ct, tmp_path, SMALL)


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_import_blocks__is_the_prediction_of_the_whole(exported, tmp_path, blend):
    _, array, _ = exported
    _predict(tmp_path / "blocks", tmp_path / "out")
    params = ImportParams(blend=blend)
    result = import_blocks(tmp_path / "blocks", tmp_path / "out", tmp_path / "p.zarr", params)
    np.testing.assert_array_equal(_read(tmp_path / "p.zarr"), np.where(array > 128, 255, 0))
    assert result.empty_blocks >= 4
    params = ImportParams(blend=blend, probabilities=True)
    import_blocks(tmp_path / "blocks", tmp_path / "out", tmp_path / "q.zarr", params)
    expected = np.where(array > 128, 230, 51)
    expected[:, 32:] = 0  # only in blocks that are empty
    values = _read(tmp_path / "q.zarr")
    np.testing.assert_array_equal(values[:, :18], expected[:, :18])
    np.testing.assert_array_equal(values[:, 44:], 0)


def test_import_blocks__gaussian_weights_share_the_overlap(exported, tmp_path):
    blocks, out = tmp_path / "blocks", tmp_path / "out"
    out.mkdir()
    for path in blocks.glob("block_*_0000.tif"):
        name = path.name.removesuffix("_0000.tif")
        x = int(name.split("_")[-1])
        p = np.full((24, 24, 24), 0.2 if x else 0.8, np.float32)
        np.savez(out / f"{name}.npz", probabilities=np.stack([1 - p, p]))
    params = ImportParams(probabilities=True)
    import_blocks(blocks, out, tmp_path / "q.zarr", params)
    row = _read(tmp_path / "q.zarr")[5, 5].astype(int)
    assert row[0] == 204
    assert row[-1] == 51
    assert (np.diff(row) <= 0).all()
    assert np.abs(np.diff(row)).max() < 80  # crop would step by 153
    import_blocks(blocks, out, tmp_path / "c.zarr", ImportParams(probabilities=True, blend="crop"))
    assert sorted(set(_read(tmp_path / "c.zarr")[5, 5])) == [51, 204]


def test_import_blocks__chosen_labels(exported, tmp_path):
    _predict(tmp_path / "blocks", tmp_path / "out")
    params = ImportParams(labels=(2,))
    import_blocks(tmp_path / "blocks", tmp_path / "out", tmp_path / "p.zarr", params)
    assert not _read(tmp_path / "p.zarr").any()


def test_import_blocks__says_what_is_wrong(exported, tmp_path):
    blocks, out = tmp_path / "blocks", tmp_path / "out"

    def message(**params):
        with pytest.raises(FormatError) as caught:
            import_blocks(blocks, out, tmp_path / "p.zarr", ImportParams(**params), existing=AGAIN)
        return str(caught.value)

    out.mkdir()
    assert "8 of 8 predicted blocks are missing" in message()
    assert "--save_probabilities" in message(probabilities=True)
    out.rmdir()
    _predict(blocks, out)
    first = min(out.glob("*.tif"))
    tifffile.imwrite(first, np.zeros((3, 9, 5), np.uint8), photometric="minisblack")
    assert "of shape (3, 9, 5)" in message()
    first.write_bytes(b"nothing")
    assert "cannot read the prediction" in message()
    first.with_suffix(".npz").write_bytes(b"nothing")
    assert "cannot read the probabilities" in message(probabilities=True)
    (blocks / "blocks.json").write_text("{}")
    assert "not a list of blocks" in message()
    (blocks / "blocks.json").unlink()
    assert "export-blocks" in message()
