import json
import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr_making import some_voxels

from tracer.errors import OutputError, VolumeError
from tracer.pooling import pool
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

WORK = {"input": "a", "max": 3}


def naive_pool(voxels, pooling):
    out = np.zeros([-(-n // 2) for n in voxels.shape], voxels.dtype)
    for z, y, x in np.ndindex(out.shape):
        cell = voxels[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        if pooling == "nearest":
            out[z, y, x] = cell[0, 0, 0]
        elif pooling == "max":
            out[z, y, x] = cell.max()
        else:
            out[z, y, x] = int(np.floor(cell.mean() + 0.5))
    return out


@pytest.mark.parametrize("pooling", ["mean", "max", "nearest"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 5, 4), (1, 1, 1), (1, 6, 3)])
def test_pool__equals_the_naive_one(pooling, dtype, shape):
    voxels = some_voxels(shape, dtype, seed=3)
    voxels.flat[-1] = np.iinfo(dtype).max
    pooled = pool(voxels, pooling)
    assert pooled.dtype == dtype
    assert pooled.flags.c_contiguous
    np.testing.assert_array_equal(pooled, naive_pool(voxels, pooling))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("pooling", ["mean", "max", "nearest"])
def test_finish__makes_a_volume_that_we_and_zarr_read(tmp_path, dtype, pooling):
    voxels = some_voxels((70, 130, 34), dtype)
    writer = VolumeWriter.create(tmp_path / "v.zarr", voxels.shape, dtype, 2.4, "scan", chunk=16)
    writer.write((0, 0, 0), voxels)
    assert not (tmp_path / "v.zarr").exists()
    assert writer.finish(pooling, extra={"source": "test"}) == tmp_path / "v.zarr"
    assert [p.name for p in tmp_path.iterdir()] == ["v.zarr"]
    volume = Volume.open(tmp_path / "v.zarr")
    assert (volume.voxel_size_um, volume.uuid, volume.n_levels) == (2.4, "scan", 3)
    meta = json.loads((tmp_path / "v.zarr" / "meta.json").read_text())
    assert [meta[k] for k in ("slices", "height", "width")] == [70, 130, 34]
    assert (meta["max"], meta["type"], meta["format"]) == (np.iinfo(dtype).max, "vol", "zarr")
    assert meta["source"] == "test"
    group = zarr.open_group(tmp_path / "v.zarr", mode="r")
    assert group.metadata.zarr_format == 2
    assert group.attrs["multiscales"][0]["metadata"] == {"downsampling_method": pooling}
    for level in range(3):
        np.testing.assert_array_equal(
            volume.read(level, (0, 0, 0), voxels.shape)[tuple(map(slice, voxels.shape))],
            group[str(level)][:],
        )
        voxels = pool(voxels, pooling)
    assert not (tmp_path / "v.zarr" / "0" / "0" / "0" / "0").exists()  # all zero


@settings(max_examples=25)
@given(
    boxes=st.lists(
        st.tuples(st.tuples(*[st.integers(-6, 24)] * 3), st.tuples(*[st.integers(1, 20)] * 3)),
        max_size=6,
    )
)
def test_write__of_any_boxes_equals_an_array(tmp_path_factory, boxes):
    folder = tmp_path_factory.mktemp("boxes")
    shape = (21, 18, 9)
    expected = np.zeros(shape, np.uint8)
    writer = VolumeWriter.create(folder / "v.zarr", shape, np.uint8, 1.0, chunk=8)
    for number, (start, size) in enumerate(boxes):
        block = some_voxels(size, seed=number)
        if number % 3 == 2:
            block[...] = 0
        writer.write(start, block)
        low = [max(0, a) for a in start]
        high = [min(n, a + b) for a, b, n in zip(start, size, shape, strict=True)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            expected[tuple(map(slice, low, high))] = block[
                tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
            ]
    np.testing.assert_array_equal(writer.read((0, 0, 0), shape), expected)
    volume = Volume.open(writer.finish("max"))
    np.testing.assert_array_equal(volume.read(0, (0, 0, 0), shape), expected)


def test_write__accepts_strided_and_read_only_blocks(tmp_path):
    voxels = some_voxels((16, 16, 32))[:, :, ::2].T
    voxels.setflags(write=False)
    writer = VolumeWriter.create(tmp_path / "v.zarr", voxels.shape, np.uint8, 1.0, chunk=8)
    writer.write((0, 0, 0), voxels)
    np.testing.assert_array_equal(writer.read((0, 0, 0), voxels.shape), voxels)


@pytest.mark.parametrize("block", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint16)])
def test_write__refuses_blocks_that_do_not_fit(tmp_path, block):
    writer = VolumeWriter.create(tmp_path / "v.zarr", (8, 8, 8), np.uint8, 1.0, chunk=8)
    with pytest.raises(VolumeError, match="does not fit"):
        writer.write((0, 0, 0), block)


def test_finish__gives_one_identity_whatever_the_order_of_writing(tmp_path):
    voxels = some_voxels((40, 40, 40))
    identities = set()
    for name, parts in (("a", [0, 16, 32]), ("b", [32, 0, 16])):
        writer = VolumeWriter.create(
            tmp_path / name / "v.zarr", voxels.shape, np.uint8, 1.0, chunk=16
        )
        for z in parts:
            writer.write((z, 0, 0), voxels[z : z + 16])
        identities.add(Volume.open(writer.finish()).identity)
    assert len(identities) == 1
    writer = VolumeWriter.create(tmp_path / "c" / "v.zarr", voxels.shape, np.uint8, 1.0, chunk=16)
    voxels[33, 33, 33] ^= 1
    writer.write((0, 0, 0), voxels)
    assert Volume.open(writer.finish()).identity not in identities


def start(path, **options):
    return VolumeWriter.create(
        path, (40, 40, 40), np.uint8, 1.0, chunk=16, **{"work": WORK, **options}
    )


def test_create__continues_the_same_work(tmp_path):
    path = tmp_path / "v.zarr"
    voxels = some_voxels((40, 40, 40))
    writer = start(path)
    assert not writer.resumed
    writer.write((0, 0, 0), voxels[:16])
    writer.mark_finished("row/0", {"voxels": 3})
    writer.close()
    with (tmp_path / ".v.zarr.unfinished" / ".finished.jsonl").open("a") as journal:
        journal.write('["row/1", tr')  # what a crash may leave
    writer = start(path)
    assert writer.resumed
    assert dict(writer.finished) == {"row/0": {"voxels": 3}}
    writer.mark_finished("row/2")
    writer.close()
    writer = start(path)
    assert set(writer.finished) == {"row/0", "row/2"}
    np.testing.assert_array_equal(writer.read((0, 0, 0), (16, 40, 40)), voxels[:16])
    writer.write((16, 0, 0), voxels[16:])
    writer.finish()
    plain = VolumeWriter.create(tmp_path / "w" / "v.zarr", voxels.shape, "u1", 1.0, chunk=16)
    plain.write((0, 0, 0), voxels)
    assert Volume.open(path).identity == Volume.open(plain.finish()).identity


def test_create__refuses_to_continue_other_work(tmp_path):
    path = tmp_path / "v.zarr"
    start(path).close()
    with pytest.raises(OutputError, match=r"unfinished work .*max was 3, now 4") as caught:
        start(path, work={**WORK, "max": 4})
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match=r"chunk was 16, now 8"):
        VolumeWriter.create(path, (40, 40, 40), "u1", 1.0, chunk=8, work=WORK)
    assert not start(path, work={**WORK, "max": 4}, restart=True).resumed


def test_create__starts_anew_without_work_or_after_an_early_crash(tmp_path):
    path = tmp_path / "v.zarr"
    start(path).close()
    (tmp_path / ".v.zarr.unfinished" / ".work.json").unlink()
    writer = start(path)
    assert not writer.resumed
    writer.write((0, 0, 0), np.ones((16, 16, 16), np.uint8))
    writer.close()
    assert not start(path, work=None).read((0, 0, 0), (16, 16, 16)).any()


def test_create__lets_one_process_write_at_a_time(tmp_path):
    writer = start(tmp_path / "v.zarr")
    with pytest.raises(OutputError, match="is being written by another process"):
        start(tmp_path / "v.zarr")
    copy = pickle.loads(pickle.dumps(writer))  # as a worker gets it
    copy.write((0, 0, 0), np.ones((16, 16, 16), np.uint8))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_create__keeps_an_existing_volume(tmp_path):
    path = start(tmp_path / "v.zarr").finish()
    with pytest.raises(OutputError, match="exists already"):
        start(path)
    old = Volume.open(path).identity
    writer = start(path, overwrite=True)
    writer.write((0, 0, 0), np.ones((40, 40, 40), np.uint8))
    assert Volume.open(path).identity == old
    writer.finish()
    assert Volume.open(path).identity != old
    assert [p.name for p in tmp_path.iterdir()] == ["v.zarr"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shape_zyx": (4, 4)}, r"shape \(4, 4\)"),
        ({"shape_zyx": (4, 0, 4)}, r"shape \(4, 0, 4\)"),
        ({"dtype": np.float32}, "cannot be float32"),
        ({"chunk": 15}, "chunk 15 must be even"),
        ({"chunk": 0}, "chunk 0 must be even"),
        ({"voxel_size_um": 0.0}, "voxel size 0.0 must be"),
        ({"voxel_size_um": float("nan")}, "voxel size nan must be"),
    ],
)
def test_create__refuses_unusable_arguments(tmp_path, change, match):
    arguments = {"shape_zyx": (8, 8, 8), "dtype": "u1", "voxel_size_um": 1.0, "chunk": 8}
    with pytest.raises(VolumeError, match=match):
        VolumeWriter.create(tmp_path / "v.zarr", **{**arguments, **change})
    assert list(tmp_path.iterdir()) == []


def test_create__says_when_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        start(tmp_path / "file" / "v.zarr")


@pytest.mark.parametrize(
    ("longest", "n_levels"), [(1, 1), (64, 1), (65, 2), (640, 5), (1024, 5), (1025, 6), (9000, 6)]
)
def test_n_levels__goes_down_to_64_voxels(tmp_path, longest, n_levels):
    writer = VolumeWriter.create(tmp_path / "v.zarr", (3, longest, 2), "u1", 1.0)
    assert writer.n_levels == n_levels
