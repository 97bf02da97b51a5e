import numpy as np
import pytest
import tifffile
from PIL import Image
from strategies import wavy_surface

from tracer.collection import PatchCollection
from tracer.errors import FormatError, ParamsError, SurfaceError
from tracer.mask import write_mask, write_template
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

SURFACE = {"rows": 5, "cols": 6, "step": 10.0, "origin": (20.0, 30.0, 15.0), "holes": 2}


@pytest.fixture
def segment(tmp_path):
    return wavy_surface(**SURFACE).save(tmp_path / "paths" / "a")


@pytest.fixture
def volume(tmp_path):
    """A volume whose value is 2 x + z, so that a picture tells where it was taken."""
    writer = VolumeWriter.create(tmp_path / "v.zarr", (80, 64, 96), np.uint8, 7.91, "v", chunk=32)
    z, _, x = np.mgrid[:80, :64, :96]
    writer.write((0, 0, 0), (2 * x + z % 64).astype(np.uint8))
    writer.finish(pooling="mean")
    return Volume.open(tmp_path / "v.zarr")


@pytest.mark.parametrize("kind", ["tif", "png", "colour png"])
def test_write_mask__takes_images_of_any_multiple(segment, tmp_path, kind):
    surface = Surface.load(segment)
    drawn = np.zeros((15, 18), np.uint8)
    drawn[:9, :10] = 250
    path = tmp_path / f"drawn.{kind[-3:]}"
    if kind == "tif":
        tifffile.imwrite(path, drawn)
    else:
        Image.fromarray(drawn).convert("RGB" if kind == "colour png" else "L").save(path)
    result = write_mask(segment, path)
    masked = Surface.load(segment)
    expected = surface.valid.copy()
    expected[3:] = expected[:, 4:] = False
    np.testing.assert_array_equal(masked.valid, expected)
    assert (result.factor, result.n_valid, result.n_kept) == ((3, 3), 28, int(expected.sum()))
    assert "keeps" in result.summary()
    assert np.unique(tifffile.imread(segment / "mask.tif")).tolist() == [0, 255]
    assert sorted(p.name for p in segment.iterdir() if p.suffix != ".tif") == ["meta.json"]


def test_write_mask__refuses_what_does_not_fit_and_leaves_the_old_mask(segment, tmp_path):
    tifffile.imwrite(tmp_path / "good.tif", np.full((5, 6), 255, np.uint8))
    write_mask(segment, tmp_path / "good.tif")
    before = (segment / "mask.tif").read_bytes()
    Image.new("L", (7, 5)).save(tmp_path / "bad.png")
    (tmp_path / "junk.png").write_bytes(b"junk")
    for name, message in (
        ("bad.png", "does not fit the grid"),
        ("junk.png", "not a readable image"),
        ("none.tif", "cannot read"),
    ):
        with pytest.raises(FormatError, match=message):
            write_mask(segment, tmp_path / name)
    with pytest.raises(SurfaceError):
        write_mask(tmp_path / "none", tmp_path / "good.tif")
    assert (segment / "mask.tif").read_bytes() == before


def test_write_template__shows_the_surface_under_its_mask(segment, volume):
    surface = Surface.load(segment)
    result = write_template(segment, volume)
    assert result.factor == (10, 10)
    assert result.n_kept == result.n_valid == 28
    with tifffile.TiffFile(segment / "mask.tif") as tif:
        mask, picture = (page.asarray() for page in tif.pages)
    assert mask.shape == picture.shape == (50, 60)
    assert mask.dtype == picture.dtype == np.uint8
    np.testing.assert_array_equal(mask[::10, ::10] == 255, surface.valid)
    rows, cols = np.mgrid[:50, :60]
    points, valid = surface.sample((rows + 0.5) / 10, (cols + 0.5) / 10)
    assert valid.sum() > 500
    expected = 2 * points[valid][:, 0] + points[valid][:, 2] % 64
    assert np.abs(picture[valid] - expected).max() <= 1
    assert (picture[~valid] == 0).all()
    np.testing.assert_array_equal(Surface.load(segment).valid, surface.valid)


def test_write_template__keeps_what_was_masked_out_before(segment, volume, tmp_path):
    drawn = np.full((5, 6), 255, np.uint8)
    drawn[0] = 0
    tifffile.imwrite(tmp_path / "drawn.tif", drawn)
    write_mask(segment, tmp_path / "drawn.tif")
    before = Surface.load(segment).valid
    result = write_template(segment, volume, scale=0.5, level=1)
    assert result.factor == (2, 2)  # 10 voxels a cell, 0.5 pixels per voxel of level 1: 2.5
    np.testing.assert_array_equal(Surface.load(segment).valid, before)
    edited = tifffile.imread(segment / "mask.tif", key=0)
    edited[:, :4] = 0
    tifffile.imwrite(tmp_path / "edited.tif", edited)
    write_mask(segment, tmp_path / "edited.tif")
    assert not Surface.load(segment).valid[:, :2].any()
    with pytest.raises(ParamsError, match="scale is 0"):
        write_template(segment, volume, scale=0.0)


def test_write_mask__reaches_the_index_of_the_collection(segment, tmp_path):
    collection = PatchCollection.open(segment.parent)
    surface = Surface.load(segment)
    inside = surface.points_xyz[surface.valid][-3:]
    assert collection.index().patches_near(inside) == ["a"]
    drawn = np.zeros((5, 6), np.uint8)
    drawn[:2, :2] = 255
    tifffile.imwrite(tmp_path / "drawn.tif", drawn)
    write_mask(segment, tmp_path / "drawn.tif")
    assert collection.index().patches_near(inside) == []
