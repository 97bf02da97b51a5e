import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import zarr
import zarr.codecs
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr_making import V2_COMPRESSORS, V3_COMPRESSORS, make_array, some_voxels

from tracer.errors import VolumeError
from tracer.storage import LocalStorage
from tracer.zarr_array import ZarrArray

KINDS = [(2, s, c) for s in "/." for c in V2_COMPRESSORS] + [
    (3, s, c) for s in "/." for c in V3_COMPRESSORS
]


def open_array(path):
    array = ZarrArray.open(LocalStorage(path), "")
    assert array is not None
    return array


def naive_box(voxels, start, stop):
    out = np.zeros([max(0, b - a) for a, b in zip(start, stop, strict=True)], voxels.dtype)
    for at in np.ndindex(out.shape):
        source = [i + a for i, a in zip(at, start, strict=True)]
        if all(0 <= i < n for i, n in zip(source, voxels.shape, strict=True)):
            out[at] = voxels[tuple(source)]
    return out


@pytest.mark.parametrize(("zarr_format", "separator", "compressor"), KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read__equals_what_zarr_wrote(tmp_path, zarr_format, separator, compressor, dtype):
    voxels = some_voxels(dtype=dtype)
    make_array(
        tmp_path / "a",
        voxels,
        zarr_format=zarr_format,
        separator=separator,
        compressor=compressor,
    )
    array = open_array(tmp_path / "a")
    assert array.metadata.is_plain
    read = array.read((0, 0, 0), voxels.shape)
    assert read.dtype == dtype
    assert read.flags.c_contiguous
    assert read.flags.writeable
    np.testing.assert_array_equal(read, voxels)


def test_read__foreign_path_equals_plain_path(tmp_path):
    voxels = some_voxels()
    make_array(tmp_path / "plain", voxels)
    make_array(tmp_path / "sharded", voxels, zarr_format=3, chunk=8, shards=(16, 16, 16))
    make_array(tmp_path / "fortran", voxels, order="F")
    zarr.create_array(
        store=str(tmp_path / "crc"),
        data=voxels,
        chunks=(16, 16, 16),
        compressors=[zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()],
    )
    plain = open_array(tmp_path / "plain")
    for name in ("sharded", "fortran", "crc"):
        foreign = open_array(tmp_path / name)
        assert not foreign.metadata.is_plain
        for box in [((0, 0, 0), voxels.shape), ((-3, 5, 20), (9, 40, 31)), ((4, 4, 4), (4, 9, 9))]:
            read = foreign.read(*box)
            assert read.flags.c_contiguous
            np.testing.assert_array_equal(read, plain.read(*box))


@settings(max_examples=30)
@given(
    start=st.tuples(*[st.integers(-20, 40)] * 3),
    size=st.tuples(*[st.integers(0, 30)] * 3),
)
def test_read__is_zero_outside_for_any_box(tmp_path_factory, start, size):
    voxels = some_voxels()
    path = tmp_path_factory.getbasetemp() / "any-box"
    if not path.exists():
        make_array(path, voxels)
    stop = [a + n for a, n in zip(start, size, strict=True)]
    read = open_array(path).read(start, stop)
    np.testing.assert_array_equal(read, naive_box(voxels, start, stop))


def test_read__gives_an_empty_box_for_stop_before_start(tmp_path):
    make_array(tmp_path / "a", some_voxels())
    assert open_array(tmp_path / "a").read((5, 5, 5), (3, 9, 9)).shape == (0, 4, 4)


def test_read__fills_missing_chunks_inside_only(tmp_path):
    voxels = some_voxels()
    voxels[voxels == 7] = 8
    voxels[:16, :16, :16] = 7
    make_array(tmp_path / "a", voxels, fill_value=7)
    array = open_array(tmp_path / "a")
    assert not array.chunk_exists((0, 0, 0))
    np.testing.assert_array_equal(array.read((0, 0, 0), voxels.shape), voxels)
    assert not array.read((-4, -4, -4), (0, 0, 0)).any()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_read__converts_big_endian(tmp_path, zarr_format):
    voxels = some_voxels(dtype=np.uint16)
    if zarr_format == 2:
        make_array(tmp_path / "a", voxels.astype(">u2"))
    else:
        make_array(
            tmp_path / "a",
            voxels,
            zarr_format=3,
            serializer=zarr.codecs.BytesCodec(endian="big"),
        )
    array = open_array(tmp_path / "a")
    assert array.metadata.dtype.byteorder == ">"
    read = array.read((0, 0, 0), voxels.shape)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, voxels)


def test_read__is_the_same_from_many_threads_and_with_a_tiny_cache(tmp_path):
    voxels = some_voxels((40, 40, 40))
    make_array(tmp_path / "a", voxels, chunk=8)
    opened = open_array(tmp_path / "a")
    array = ZarrArray(opened.storage, opened.metadata, cache_bytes=3 * 512)
    boxes = [(z, y, x) for z, y, x in product(range(-4, 36, 8), repeat=3)]

    def check(start):
        stop = [a + 13 for a in start]
        return np.array_equal(array.read(start, stop), naive_box(voxels, start, stop))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, boxes))


def test_read__result_is_not_shared_with_the_cache(tmp_path):
    voxels = some_voxels()
    make_array(tmp_path / "a", voxels)
    array = open_array(tmp_path / "a")
    array.read((0, 0, 0), voxels.shape)[...] = 9
    np.testing.assert_array_equal(array.read((0, 0, 0), voxels.shape), voxels)


@pytest.mark.parametrize("compressor", list(V2_COMPRESSORS))
def test_read__names_a_damaged_chunk(tmp_path, compressor):
    voxels = some_voxels()
    make_array(tmp_path / "a", voxels, compressor=compressor)
    chunk = tmp_path / "a" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(VolumeError, match=r"a/1/1/1: damaged chunk.*restore") as caught:
        open_array(tmp_path / "a").read((0, 0, 0), voxels.shape)
    assert "\n" not in str(caught.value)
    chunk.write_bytes(b"")
    with pytest.raises(VolumeError, match="damaged chunk"):
        open_array(tmp_path / "a").read((0, 0, 0), voxels.shape)


def test_read__names_a_damaged_shard(tmp_path):
    voxels = some_voxels()
    make_array(tmp_path / "a", voxels, zarr_format=3, chunk=8, shards=(16, 16, 16))
    shard = tmp_path / "a" / "c" / "1" / "1" / "1"
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(VolumeError, match="cannot read data") as caught:
        open_array(tmp_path / "a").read((0, 0, 0), voxels.shape)
    assert "\n" not in str(caught.value)


def test_pickle__keeps_the_array_readable(tmp_path):
    voxels = some_voxels()
    make_array(tmp_path / "a", voxels)
    make_array(tmp_path / "b", voxels, zarr_format=3, chunk=8, shards=(16, 16, 16))
    for name in "ab":
        array = open_array(tmp_path / name)
        array.read((0, 0, 0), (4, 4, 4))
        copy = pickle.loads(pickle.dumps(array))
        np.testing.assert_array_equal(copy.read((0, 0, 0), voxels.shape), voxels)


@pytest.mark.parametrize(
    ("zarr_format", "separator", "options"),
    [
        (2, "/", {}),
        (2, ".", {}),
        (3, "/", {}),
        (3, ".", {}),
        (3, "/", {"chunk": 8, "shards": (16, 16, 16)}),
    ],
)
def test_iter_chunk_indices__yields_each_stored_chunk_once(
    tmp_path, zarr_format, separator, options
):
    voxels = some_voxels()
    make_array(tmp_path / "a", voxels, zarr_format=zarr_format, separator=separator, **options)
    array = open_array(tmp_path / "a")
    found = list(array.iter_chunk_indices())
    assert len(found) == len(set(found))
    edge = array.metadata.chunks[0]
    stored = array.metadata.shards[0]
    expected = {
        i
        for i in product(*map(range, array.metadata.grid_shape))
        if voxels[
            tuple(
                slice(k * edge // stored * stored, k * edge // stored * stored + stored) for k in i
            )
        ].any()
    }
    assert set(found) == expected
    assert expected != set(product(*map(range, array.metadata.grid_shape)))
    for index in product(range(-1, 5), repeat=3):
        assert array.chunk_exists(index) == (index in expected)


def test_iter_chunk_indices__passes_over_foreign_files(tmp_path):
    make_array(tmp_path / "a", some_voxels())
    (tmp_path / "a" / ".1.123.tmp").write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_bytes(b"x")
    (tmp_path / "a" / "9" / "9").mkdir(parents=True)
    (tmp_path / "a" / "9" / "9" / "9").write_bytes(b"x")
    assert len(list(open_array(tmp_path / "a").iter_chunk_indices())) == 2 * 3 * 2 - 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "holds a list"),
        (b"{}", "not the metadata of a Zarr array"),
        (b'{"shape":[4,4,4],"chunks":[0,4,4],"dtype":"|u1"}', "not the metadata"),
        (b'{"shape":[4,4,4],"chunks":[4,4],"dtype":"|u1"}', "not the metadata"),
        (b'{"shape":[4,4,4],"chunks":[4,4,4],"dtype":"what"}', "not the metadata"),
    ],
)
def test_open__names_damaged_metadata(tmp_path, content, match):
    (tmp_path / ".zarray").write_bytes(content)
    with pytest.raises(VolumeError, match=match) as caught:
        open_array(tmp_path)
    assert ".zarray" in str(caught.value)
