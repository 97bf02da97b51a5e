import numpy as np
import pytest
import tifffile

from tracer.errors import FormatError
from tracer.tif import _read_quick, read_tif, write_pages, write_tif

GRID = np.arange(12, dtype=np.float32).reshape(3, 4) * 1.7


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("rows_per_strip", [1, 2, 3])
def test_read_tif__takes_the_quick_path_and_agrees_with_tifffile(
    tmp_path, dtype, compression, rows_per_strip
):
    path, grid = tmp_path / "a.tif", GRID.astype(dtype)
    tifffile.imwrite(path, grid, compression=compression, rowsperstrip=rows_per_strip)
    quick = _read_quick(path.read_bytes())
    np.testing.assert_array_equal(quick, grid)
    assert quick.dtype == grid.dtype
    np.testing.assert_array_equal(read_tif(path), tifffile.imread(path))


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "deflate"},
        {"compression": "lzw", "predictor": 3},
        {"tile": (16, 16)},
    ],
)
def test_read_tif__leaves_other_kinds_to_tifffile(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRID, **options)
    assert _read_quick(path.read_bytes()) is None
    read = read_tif(path)
    np.testing.assert_array_equal(read, GRID)
    assert read.dtype.isnative


def test_read_tif__reads_the_first_of_several_pages(tmp_path):
    path = tmp_path / "a.tif"
    write_pages(path, [GRID, np.zeros((2, 2), np.uint8)])
    np.testing.assert_array_equal(read_tif(path), GRID)
    np.testing.assert_array_equal(tifffile.imread(path, key=1), np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_read_tif__refuses_every_truncation(tmp_path, compression):
    path = tmp_path / "a.tif"
    grid = np.random.default_rng(0).normal(size=(13, 17)).astype(np.float32)
    tifffile.imwrite(path, grid, compression=compression)
    data = path.read_bytes()
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError, match=r"a\.tif"):
            read_tif(path)


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"PNG not a tif at all", b"II*\0\xff\xff\xff\xff"]
)
def test_read_tif__refuses_foreign_files(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="not a readable tif"):
        read_tif(path)


def test_read_tif__refuses_a_missing_file_and_a_directory(tmp_path):
    for path in (tmp_path / "none.tif", tmp_path):
        with pytest.raises(FormatError, match="cannot read"):
            read_tif(path)


def test_write_tif__is_lzw_and_plain(tmp_path):
    path = tmp_path / "a.tif"
    write_tif(path, GRID)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        assert (page.compression.name, page.predictor, page.dtype) == ("LZW", 1, np.float32)
        assert len(tif.pages) == 1
    assert _read_quick(path.read_bytes()) is not None


def test_write_tif__writes_colour(tmp_path):
    colour = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    write_tif(tmp_path / "a.tif", colour)
    np.testing.assert_array_equal(read_tif(tmp_path / "a.tif"), colour)
