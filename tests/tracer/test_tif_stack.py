import numpy as np
import pytest
import tifffile

from tracer.errors import FormatError
from tracer.tif_stack import TifPages

VOXELS = np.random.default_rng(0).integers(0, 60000, (4, 70, 45)).astype(np.uint16)
LAYOUTS = {
    "plain": {},
    "lzw": {"compression": "lzw"},
    "lzw-strips-predictor": {"compression": "lzw", "rowsperstrip": 7, "predictor": True},
    "strips": {"rowsperstrip": 8},
    "tiles": {"tile": (32, 16)},
    "zlib-tiles": {"tile": (16, 16), "compression": "zlib"},
    "big-endian": {"byteorder": ">"},
    "big-endian-lzw": {"byteorder": ">", "compression": "lzw", "rowsperstrip": 9},
    "bigtiff": {"bigtiff": True},
    "imagej": {"imagej": True},
    "no-metadata": {"metadata": None},
}


def write(path, voxels, **options):
    if "imagej" not in options:
        options["photometric"] = "minisblack"
    tifffile.imwrite(path, voxels, **options)
    return path


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_read_rows__equals_the_whole_page(tmp_path, layout, dtype):
    if dtype == np.float32 and "predictor" in layout:
        dtype = np.int16  # horizontal differences are for integers
    voxels = VOXELS.astype(dtype)
    pages = TifPages(write(tmp_path / "a.tif", voxels, **LAYOUTS[layout]))
    assert (pages.n_pages, pages.layout.shape, pages.layout.dtype) == (4, (70, 45), dtype)
    for start, stop in ((0, 70), (3, 4), (30, 66), (69, 70), (5, 5)):
        for number in range(4):
            rows = pages.read_rows(number, start, stop)
            assert rows.dtype.isnative
            np.testing.assert_array_equal(rows, voxels[number, start:stop])
    pages.close()


def test_init__reads_imagej_stacks_with_a_single_page(tmp_path):
    # what ImageJ does beyond 4 GB: one page in front of all pixels
    path = write(tmp_path / "a.tif", VOXELS, imagej=True)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages[0]
        at = first.offset
        n_tags = len(first.tags)
    content = bytearray(path.read_bytes())
    # end the chain of pages after the first: its "next page" offset becomes 0
    order = "big" if content[:2] == b"MM" else "little"
    end = at + 2 + 12 * n_tags
    assert int.from_bytes(content[end : end + 4], order) != 0
    content[end : end + 4] = bytes(4)
    path.write_bytes(content)
    pages = TifPages(path)
    assert pages.n_pages == 4
    for number in range(4):
        np.testing.assert_array_equal(pages.read_rows(number, 2, 9), VOXELS[number, 2:9])
    pages.close()
    path.write_bytes(content[: first.dataoffsets[0] + VOXELS.nbytes - 1])
    with pytest.raises(FormatError, match=r"truncated|damaged"):
        TifPages(path)


@pytest.mark.parametrize("layout", ["plain", "lzw", "tiles", "zlib-tiles"])
@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_init__finds_truncated_files_before_any_work(tmp_path, layout, keep):
    path = write(tmp_path / "a.tif", VOXELS[0], **LAYOUTS[layout])
    content = path.read_bytes()
    n = int(len(content) * keep) if isinstance(keep, float) else keep
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        last = max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))
    if n == -1:
        n = last - 1
    path.write_bytes(content[:n])
    with pytest.raises(FormatError, match=r"a.tif: .*restore the file") as caught:
        TifPages(path)
    assert "\n" not in str(caught.value)


def test_read_rows__names_damaged_data(tmp_path):
    path = write(tmp_path / "a.tif", VOXELS[0], compression="zlib")
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    pages = TifPages(path)
    with pytest.raises(FormatError, match="damaged or not a tif"):
        pages.read_rows(0, 0, 10)
    pages.close()


def test_init__refuses_colours_and_mixed_pages(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(FormatError, match="one channel"):
        TifPages(tmp_path / "rgb.tif")
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as tif:
        tif.write(np.zeros((8, 8), np.uint8))
        tif.write(np.zeros((8, 9), np.uint8))
    with pytest.raises(FormatError, match=r"page 1 is \(8, 9\) uint8, but page 0 is 8 x 8 uint8"):
        TifPages(tmp_path / "mixed.tif")
    with pytest.raises(FormatError, match=r"gone.tif"):
        TifPages(tmp_path / "gone.tif")
