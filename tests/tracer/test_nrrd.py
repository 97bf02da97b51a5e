import gzip

import nrrd
import numpy as np
import pytest

from tracer.errors import FormatError
from tracer.nrrd import read_nrrd, read_nrrd_header

DTYPES = ["u1", "i1", "<u2", ">u2", "<i2", "<i4", "<u4", "<i8", "<f4", ">f4", "<f8"]


def numbers(dtype="<u2", shape=(5, 4, 3)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_read_nrrd__reads_what_pynrrd_wrote(tmp_path, dtype, encoding):
    data = numbers(dtype)
    nrrd.write(
        str(tmp_path / "a.nrrd"),
        data,
        {"encoding": encoding, "space origin": [7, 8, 9.5], "space": "left-posterior-superior"},
    )
    header = read_nrrd_header(tmp_path / "a.nrrd")
    assert header.sizes == (5, 4, 3)
    assert header.origin == (7.0, 8.0, 9.5)
    read = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read, data)
    np.testing.assert_array_equal(read, nrrd.read(str(tmp_path / "a.nrrd"))[0])


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_read_nrrd__reads_detached_data(tmp_path, encoding):
    data = numbers()
    nrrd.write(str(tmp_path / "a.nhdr"), data, {"encoding": encoding}, detached_header=True)
    np.testing.assert_array_equal(read_nrrd(tmp_path / "a.nhdr"), data)


HEADER = """NRRD0004
# comment: x
type: short
dimension: 3
sizes: 5 4 3
endian: {endian}
key:=value: 1
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize(
    ("extra", "before"),
    [
        ("", b""),
        ("line skip: 2\n", b"one\ntwo\n"),
        ("byte skip: 3\n", b"abc"),
        ("byte skip: -1\n", b"abcd"),
    ],
)
def test_read_nrrd__reads_handwritten_raw_files(tmp_path, newline, endian, extra, before):
    data = numbers("<i2" if endian == "little" else ">i2")
    text = (HEADER.format(endian=endian) + "encoding: raw\n" + extra + "\n").replace("\n", newline)
    (tmp_path / "a.nrrd").write_bytes(text.encode() + before + data.tobytes(order="F"))
    np.testing.assert_array_equal(read_nrrd(tmp_path / "a.nrrd"), data)


@pytest.mark.slow
def test_read_nrrd__reads_the_challenge_s_labels(shared_data):
    path = sorted((shared_data / "real" / "scroll1_sheet_labels").glob("*.nrrd"))[1]
    assert read_nrrd_header(path).origin == (2000.0, 2256.0, 2000.0)
    np.testing.assert_array_equal(read_nrrd(path), nrrd.read(str(path))[0])


def gz_file(data, cut=0):
    text = HEADER.format(endian="little") + "encoding: gzip\n\n"
    packed = gzip.compress(data)
    return text.encode() + packed[: len(packed) - cut]


RAW = (HEADER.format(endian="little") + "encoding: raw\n").encode()
BYTES = numbers("<i2").tobytes(order="F")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not an NRRD file"),
        (b"II*\0", "not an NRRD file"),
        (RAW, "no empty line ends the header"),
        (RAW + b"\n" + BYTES[:-1], "truncated NRRD data .119 bytes instead of 120"),
        (gz_file(BYTES, cut=25), "truncated NRRD data"),
        (gz_file(BYTES[:-8]), "112 bytes instead of 120"),
        (gz_file(b"")[:-15] + b"nonsense-in-place", "damaged"),
        (RAW.replace(b"raw", b"bzip2") + b"\n", "only raw and gzip"),
        (RAW.replace(b"short", b"block") + b"\n", "type is 'block'"),
        (RAW.replace(b"5 4 3", b"5 4") + b"\n", "sizes are '5 4'"),
        (RAW.replace(b"sizes: 5 4 3\n", b"") + b"\n", "'sizes'"),
        (RAW.replace(b"endian: little\n", b"") + b"\n", "'endian'"),
        (RAW + b"data file: LIST\n\n", "spread over several files"),
        (RAW + b"data file: gone.raw\n\n", "gone.raw: cannot read"),
    ],
)
def test_read_nrrd__names_what_is_wrong(tmp_path, content, match):
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(FormatError, match=match) as caught:
        read_nrrd(tmp_path / "a.nrrd")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_nrrd__says_that_there_is_no_file(tmp_path):
    with pytest.raises(FormatError, match="cannot read"):
        read_nrrd(tmp_path / "a.nrrd")
