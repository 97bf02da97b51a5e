import json
import warnings

import nrrd
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from web_server import serving
from zarr_making import META, make_array, make_volume, some_voxels

from tracer.errors import FormatError, OutputError, ParamsError, TracerWarning, VolumeError
from tracer.grey_values import value_mapping
from tracer.pooling import pool
from tracer.prepare import prepare
from tracer.prepare_params import PrepareParams
from tracer.volume import Volume

VOXELS = some_voxels((37, 41, 50))


def params(**values):
    return PrepareParams.from_mapping({"voxel_size_um": 7.91, "chunk": 16, **values})


def write_stack(folder, voxels, *, name="slice_{}.tif", **options):
    folder.mkdir()
    for z, plane in enumerate(voxels):
        tifffile.imwrite(folder / name.format(z), plane, photometric="minisblack", **options)
    return folder


def assert_volume(path, voxels, pooling="mean"):
    volume = Volume.open(path)
    for level in range(volume.n_levels):
        read = volume.read(level, (0, 0, 0), volume.level_shape_zyx(level))
        assert read.dtype == voxels.dtype
        np.testing.assert_array_equal(read, voxels)
        voxels = pool(voxels, pooling)
    return volume


def naive_8_from_16(voxels):
    return np.floor(voxels / 257.0 + 0.5).astype(np.uint8)


# Every kind of source


def test_prepare__reads_a_tif_stack_in_natural_order(tmp_path):
    source = write_stack(tmp_path / "slices", VOXELS, compression="lzw")  # slice_9 < slice_10
    (source / "notes.txt").write_text("x")
    (source / ".slice_3.tif").write_text("x")
    result = prepare(source, tmp_path / "v.zarr", params(name="Scan"))
    volume = assert_volume(tmp_path / "v.zarr", VOXELS)
    assert (volume.voxel_size_um, volume.uuid) == (7.91, "Scan")
    assert result.summary() == (
        f"{tmp_path / 'v.zarr'}: 37 x 41 x 50 voxels (z, y, x), uint8, 7.91 µm, 1 level, "
        "from a stack of 37 tifs"
    )


def test_prepare__reads_one_3d_tif(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOXELS, photometric="minisblack", tile=(16, 16))
    prepare(tmp_path / "a.tif", tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", VOXELS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tif").rename(tmp_path / "folder" / "a.tif")
    prepare(tmp_path / "folder", tmp_path / "w.zarr", params())
    assert_volume(tmp_path / "w.zarr", VOXELS)


@pytest.mark.parametrize("order", ["C", "F"])
def test_prepare__reads_npy(tmp_path, order):
    np.save(tmp_path / "a.npy", np.asarray(VOXELS, order=order))
    prepare(tmp_path / "a.npy", tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", VOXELS)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_prepare__reads_nrrd(tmp_path, encoding):
    nrrd.write(str(tmp_path / "a.nrrd"), VOXELS.T, {"encoding": encoding})  # x fastest
    prepare(tmp_path / "a.nrrd", tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", VOXELS)
    nrrd.write(str(tmp_path / "b.nrrd"), VOXELS, {"encoding": encoding})  # z fastest
    prepare(tmp_path / "b.nrrd", tmp_path / "w.zarr", params(nrrd_axes="zyx"))
    assert_volume(tmp_path / "w.zarr", VOXELS)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_prepare__reads_a_zarr_array(tmp_path, zarr_format):
    make_array(tmp_path / "a", VOXELS, zarr_format=zarr_format, chunk=10)
    prepare(tmp_path / "a", tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", VOXELS)


def test_prepare__reads_a_volume_with_its_voxel_size(tmp_path):
    source = make_volume(tmp_path / "s.zarr", [VOXELS], meta={**META, "voxelsize": 3.24})
    prepare(source, tmp_path / "v.zarr", params(voxel_size_um=None))
    assert assert_volume(tmp_path / "v.zarr", VOXELS).voxel_size_um == 3.24
    prepare(source, tmp_path / "w.zarr", params(voxel_size_um=5.0))
    assert Volume.open(tmp_path / "w.zarr").voxel_size_um == 5.0
    with serving(tmp_path) as url:
        prepare(f"{url}/s.zarr", tmp_path / "x.zarr", params(voxel_size_um=None))
    assert Volume.open(tmp_path / "x.zarr").identity  # same voxels through the network
    assert_volume(tmp_path / "x.zarr", VOXELS)


# Blocks


def write_block(folder, origin, voxels, kind="npy"):
    folder.mkdir(exist_ok=True)
    stem = "_".join(f"{a:05d}" for a in origin) + "_labels"
    if kind == "npy":
        np.save(folder / f"{stem}.npy", voxels)
    elif kind == "tif":
        tifffile.imwrite(folder / f"{stem}.tif", voxels, photometric="minisblack")
    elif kind == "zyx":
        nrrd.write(
            str(folder / f"{stem}.nrrd"),
            voxels,
            {"space origin": list(origin), "space": "left-posterior-superior"},
        )
    else:
        nrrd.write(
            str(folder / f"{stem}.nrrd"),
            voxels.T,
            {"space origin": list(origin)[::-1], "space": "left-posterior-superior"},
        )


BLOCKS = {  # origin: shape; they overlap and leave gaps
    (100, 200, 300): (20, 18, 22),
    (100, 210, 315): (16, 16, 16),
    (115, 200, 300): (9, 25, 22),
}


def paste_blocks(origin, shape, overlap):
    expected = np.zeros(shape, np.uint8)
    for number, (start, size) in enumerate(sorted(BLOCKS.items())):
        target = expected[
            tuple(slice(a - o, a - o + n) for a, o, n in zip(start, origin, size, strict=True))
        ]
        block = some_voxels(size, seed=number)
        target[...] = np.maximum(target, block) if overlap == "max" else block
    return expected


@pytest.mark.parametrize("kind", ["npy", "tif", "zyx", "xyz"])
@pytest.mark.parametrize("overlap", ["last", "max"])
def test_prepare__places_overlapping_blocks(tmp_path, kind, overlap):
    for number, (origin, size) in enumerate(sorted(BLOCKS.items())):
        write_block(tmp_path / "blocks", origin, some_voxels(size, seed=number), kind)
    result = prepare(
        tmp_path / "blocks", tmp_path / "v.zarr", params(overlap=overlap, max_memory_gb=1e-6)
    )
    assert result.origin_zyx == (100, 200, 300)
    assert "starting at (100, 200, 300)" in result.summary()
    assert_volume(tmp_path / "v.zarr", paste_blocks((100, 200, 300), (24, 26, 31), overlap))
    meta = json.loads((tmp_path / "v.zarr" / "meta.json").read_text())
    assert meta["origin_zyx"] == [100, 200, 300]


def test_prepare__keeps_absolute_or_chosen_origins(tmp_path):
    for number, (origin, size) in enumerate(sorted(BLOCKS.items())):
        write_block(tmp_path / "blocks", origin, some_voxels(size, seed=number))
    result = prepare(tmp_path / "blocks", tmp_path / "v.zarr", params(crop_to_blocks=False))
    assert (result.origin_zyx, result.shape_zyx) == ((0, 0, 0), (124, 226, 331))
    assert_volume(tmp_path / "v.zarr", paste_blocks((0, 0, 0), (124, 226, 331), "last"))
    result = prepare(tmp_path / "blocks", tmp_path / "w.zarr", params(origin="90,200,290"))
    assert (result.origin_zyx, result.shape_zyx) == ((90, 200, 290), (34, 26, 41))
    assert_volume(tmp_path / "w.zarr", paste_blocks((90, 200, 290), (34, 26, 41), "last"))
    with pytest.raises(ParamsError, match=r"below the origin \(101, 0, 0\)"):
        prepare(tmp_path / "blocks", tmp_path / "x.zarr", params(origin="101,0,0"))


def test_prepare__asks_for_the_axes_of_blocks_that_do_not_tell(tmp_path):
    write_block(tmp_path / "blocks", (32, 0, 32), VOXELS[:16, :16, :16], "zyx")
    with pytest.warns(TracerWarning, match="--nrrd-axes zyx"):
        prepare(tmp_path / "blocks", tmp_path / "v.zarr", params())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(tmp_path / "blocks", tmp_path / "w.zarr", params(nrrd_axes="zyx"))
        write_block(tmp_path / "blocks", (48, 0, 32), VOXELS[16:32, :16, :16], "zyx")
        prepare(tmp_path / "blocks", tmp_path / "x.zarr", params())
    assert_volume(tmp_path / "x.zarr", VOXELS[:32, :16, :16])


@pytest.mark.slow
def test_prepare__joins_the_challenge_s_label_blocks(shared_data, tmp_path):
    folder = shared_data / "real" / "scroll1_sheet_labels"
    result = prepare(
        folder,
        tmp_path / "v.zarr",
        PrepareParams(voxel_size_um=7.91, dtype="uint16", convert="keep", pooling="nearest"),
    )
    assert (result.shape_zyx, result.origin_zyx) == ((512, 512, 256), (2000, 2000, 2000))
    volume = Volume.open(tmp_path / "v.zarr")
    for path in sorted(folder.glob("*.nrrd")):
        start = [int(part) - 2000 for part in path.name.split("_")[:3]]
        block = volume.read(0, start, [a + 256 for a in start])
        np.testing.assert_array_equal(block, nrrd.read(str(path))[0])
    for low, high in (
        (
            volume.read(0, (255, 0, 0), (256, 256, 256)),
            volume.read(0, (256, 0, 0), (257, 256, 256)),
        ),
        (
            volume.read(0, (0, 255, 0), (256, 256, 256)),
            volume.read(0, (0, 256, 0), (256, 257, 256)),
        ),
    ):
        low, high = low.ravel(), high.ravel()
        both = (low > 0) & (high > 0)
        assert both.sum() > 10000
        assert (low == high)[both].mean() > 0.99  # sheets go on across the faces


@pytest.mark.slow
def test_prepare__reads_real_ct(shared_data, tmp_path):
    path = shared_data / "real" / "paris4_ct_2um" / "cube_256_zyx_u8.tif"
    prepare(path, tmp_path / "v.zarr", PrepareParams(voxel_size_um=2.4))
    assert_volume(tmp_path / "v.zarr", tifffile.imread(path))


# Grey values


def test_prepare__maps_uint16_to_uint8(tmp_path):
    voxels = some_voxels((20, 30, 25), np.uint16)
    write_stack(tmp_path / "s", voxels, byteorder=">")
    prepare(tmp_path / "s", tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", naive_8_from_16(voxels))


def test_value_mapping__of_all_uint16_rounds_to_nearest_and_back():
    every = np.arange(65536, dtype=np.uint16)
    to_8, n_clipped = value_mapping(every.dtype, np.dtype("u1"))(every)
    np.testing.assert_array_equal(to_8, naive_8_from_16(every))
    assert (to_8[0], to_8[-1], n_clipped) == (0, 255, 0)
    bytes_ = np.arange(256, dtype=np.uint8)
    up, _ = value_mapping(bytes_.dtype, np.dtype("u2"))(bytes_)
    assert up[-1] == 65535
    np.testing.assert_array_equal(value_mapping(up.dtype, np.dtype("u1"))(up)[0], bytes_)


@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1),
    low=st.floats(-100, 100),
    width=st.floats(0.1, 1000),
)
def test_value_mapping__of_a_window_equals_the_formula(values, low, width):
    voxels = np.array(values, np.float32)
    mapped, n_clipped = value_mapping(voxels.dtype, np.dtype("u1"), window=(low, low + width))(
        voxels
    )
    clipped = 0
    for value, byte in zip(map(float, voxels), mapped, strict=True):
        if np.isnan(value):
            assert byte == 0
            continue
        clipped += value < low or value > low + width
        exact = min(max((value - low) / width, 0.0), 1.0) * 255.0
        assert abs(float(byte) - exact) <= 0.5 + 1e-9 * (1 + abs(low) / width) * 255
    assert n_clipped == clipped


def test_prepare__maps_a_window_and_counts_what_it_clips(tmp_path):
    voxels = np.linspace(-0.5, 1.5, 20 * 20 * 20).reshape(20, 20, 20).astype(np.float32)
    np.save(tmp_path / "a.npy", voxels)
    result = prepare(tmp_path / "a.npy", tmp_path / "v.zarr", params(window_min=0, window_max=1))
    expected = np.floor(np.clip(voxels.astype(np.float64), 0, 1) * 255 + 0.5).astype(np.uint8)
    assert_volume(tmp_path / "v.zarr", expected)
    assert result.n_clipped == np.count_nonzero((voxels < 0) | (voxels > 1)) > 0
    assert "outside of the window" in result.summary()


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_prepare__wants_a_window_for_other_types(tmp_path, dtype):
    np.save(tmp_path / "a.npy", VOXELS.astype(dtype))
    with pytest.raises(ParamsError, match=r"a.npy: is .*--window-min"):
        prepare(tmp_path / "a.npy", tmp_path / "v.zarr", params())
    prepare(tmp_path / "a.npy", tmp_path / "v.zarr", params(convert="keep"))
    assert_volume(tmp_path / "v.zarr", VOXELS)


def test_prepare__maps_masks_and_keeps_labels(tmp_path):
    np.save(tmp_path / "mask.npy", VOXELS > 100)
    prepare(tmp_path / "mask.npy", tmp_path / "v.zarr", params(pooling="max"))
    assert_volume(tmp_path / "v.zarr", np.where(VOXELS > 100, 255, 0).astype(np.uint8), "max")
    labels = VOXELS.astype(np.uint16)
    np.save(tmp_path / "labels.npy", labels)
    prepare(tmp_path / "labels.npy", tmp_path / "w.zarr", params(convert="keep"))
    assert_volume(tmp_path / "w.zarr", VOXELS)
    labels[20, 20, 20] = 256
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ParamsError, match="value 256 does not fit uint8"):
        prepare(tmp_path / "labels.npy", tmp_path / "x.zarr", params(convert="keep"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "labels.npy",
        "mask.npy",
        "v.zarr",
        "w.zarr",
    ]


# Work


def test_prepare__gives_the_same_bytes_for_any_workers_and_memory(tmp_path):
    voxels = some_voxels((37, 70, 90))
    np.save(tmp_path / "a.npy", voxels)
    identities = {
        Volume.open(
            prepare(
                tmp_path / "a.npy",
                tmp_path / f"{workers}-{memory}" / "v.zarr",
                params(max_memory_gb=memory),
                workers=workers,
            ).path
        ).identity
        for workers in (1, 3)
        for memory in (1e-9, 1.0)
    }
    assert len(identities) == 1
    files = [
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file()
        }
        for name in ("1-1e-09", "3-1.0")
    ]
    assert files[0] == files[1]
    assert len(files[0]) > 50


def test_prepare__reports_progress_up_to_the_end(tmp_path):
    np.save(tmp_path / "a.npy", some_voxels((70, 70, 130)))
    seen = []
    prepare(
        tmp_path / "a.npy",
        tmp_path / "v.zarr",
        params(),
        progress=lambda done, total, note="": seen.append((done, total, note)),
    )
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert {note for _, _, note in seen} == {"level 0", "level 1", "level 2"}


def stop_after(n_calls):
    """A progress callback that fails like a full disk would, in the middle."""
    calls = []

    def progress(done, total, note=""):
        calls.append(done)
        if len(calls) == n_calls:
            raise OutputError("disk full")

    return progress


@pytest.mark.parametrize("n_calls", [1, 3, 5])
def test_prepare__continues_where_it_was_stopped(tmp_path, n_calls):
    np.save(tmp_path / "a.npy", some_voxels((70, 70, 130)))
    whole = prepare(tmp_path / "a.npy", tmp_path / "whole" / "v.zarr", params())
    out = tmp_path / "v.zarr"
    with pytest.raises(OutputError, match="disk full"):
        prepare(tmp_path / "a.npy", out, params(), progress=stop_after(n_calls))
    assert not out.exists()
    result = prepare(tmp_path / "a.npy", out, params())
    assert (result.n_bands, result.n_bands_resumed) == (5, n_calls)
    assert f"continued after {n_calls} of 5 bands" in result.summary()
    assert Volume.open(out).identity == Volume.open(whole.path).identity


def test_prepare__refuses_to_continue_with_other_input_or_params(tmp_path):
    np.save(tmp_path / "a.npy", some_voxels((40, 40, 40)))
    out = tmp_path / "v.zarr"
    with pytest.raises(OutputError, match="disk full"):
        prepare(tmp_path / "a.npy", out, params(), progress=stop_after(2))
    with pytest.raises(OutputError, match=r"unfinished work .*pooling was mean, now max.*restart"):
        prepare(tmp_path / "a.npy", out, params(pooling="max"))
    np.save(tmp_path / "a.npy", some_voxels((40, 40, 40), seed=1))
    with pytest.raises(OutputError, match=r"unfinished work .*'input' differs.*restart"):
        prepare(tmp_path / "a.npy", out, params())
    prepare(tmp_path / "a.npy", out, params(), restart=True)
    assert_volume(out, some_voxels((40, 40, 40), seed=1))
    with pytest.raises(OutputError, match="exists already"):
        prepare(tmp_path / "a.npy", out, params())
    prepare(tmp_path / "a.npy", out, params(pooling="max"), overwrite=True)
    assert_volume(out, some_voxels((40, 40, 40), seed=1), "max")


# Bad input


def refused(error, source, tmp_path, match, **values):
    out = tmp_path / "out" / "v.zarr"
    with pytest.raises(error, match=match) as caught:
        prepare(source, out, params(**values))
    assert "\n" not in str(caught.value)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_prepare__refuses_tifs_that_do_not_agree(tmp_path):
    source = write_stack(tmp_path / "s", VOXELS[:5])
    tifffile.imwrite(source / "slice_3.tif", np.zeros((41, 51), np.uint8))
    refused(
        FormatError, source, tmp_path, r"slice_3.tif: is 41 x 51 uint8, but slice_0.tif is 41 x 50"
    )
    tifffile.imwrite(source / "slice_3.tif", np.zeros((41, 50), np.uint16))
    refused(FormatError, source, tmp_path, r"slice_3.tif: is 41 x 50 uint16")
    tifffile.imwrite(source / "slice_3.tif", VOXELS[:2], photometric="minisblack")
    refused(FormatError, source, tmp_path, r"slice_3.tif: has 2 pages")


def test_prepare__refuses_damaged_and_missing_slices(tmp_path):
    source = write_stack(tmp_path / "s", VOXELS[:5], compression="zlib")
    content = (source / "slice_3.tif").read_bytes()
    (source / "slice_3.tif").write_bytes(content[: len(content) // 2])
    refused(FormatError, source, tmp_path, r"slice_3.tif: .*restore")
    with tifffile.TiffFile(source / "slice_4.tif") as tif:
        at = tif.pages[0].dataoffsets[0]
    damaged = bytearray((source / "slice_4.tif").read_bytes())
    damaged[at : at + 40] = b"\xff" * 40  # found only when it is decoded
    (source / "slice_3.tif").write_bytes(bytes(damaged))
    refused(FormatError, source, tmp_path, r"slice_3.tif: damaged")
    (source / "slice_3.tif").unlink()
    refused(FormatError, source, tmp_path, r"slice_4.tif: slice numbers jump from 2 to 4")


def test_prepare__accepts_stacks_with_equal_steps(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    for z in range(4):
        tifffile.imwrite(source / f"{10 * z:04d}.tif", VOXELS[z])
    prepare(source, tmp_path / "v.zarr", params())
    assert_volume(tmp_path / "v.zarr", VOXELS[:4])


def test_prepare__refuses_bad_blocks(tmp_path):
    source = tmp_path / "blocks"
    write_block(source, (0, 0, 16), VOXELS[:16, :16, :16])
    write_block(source, (16, 0, 16), VOXELS[:16, :16, :16].astype(np.uint16))
    refused(FormatError, source, tmp_path, r"00016_00000_00016_labels.npy: is uint16, but .* uint8")
    np.save(source / "00016_00000_00016_labels.npy", VOXELS[0])
    refused(FormatError, source, tmp_path, r"has shape \(41, 50\)")
    content = (source / "00000_00000_00016_labels.npy").read_bytes()
    (source / "00016_00000_00016_labels.npy").write_bytes(content[:-7])
    refused(FormatError, source, tmp_path, r"00016_00000_00016_labels.npy: damaged")
    (source / "00016_00000_00016_labels.npy").unlink()
    np.save(source / "other.npy", VOXELS)
    refused(FormatError, source, tmp_path, r"other.npy: not named by its origin")


def test_prepare__refuses_what_is_no_scan(tmp_path):
    refused(FormatError, tmp_path / "gone", tmp_path, "gone: no such file")
    (tmp_path / "empty").mkdir()
    refused(FormatError, tmp_path / "empty", tmp_path, "empty: is empty")
    (tmp_path / "empty" / "a.txt").write_text("x")
    refused(FormatError, tmp_path / "empty", tmp_path, "holds no tif")
    refused(FormatError, tmp_path / "empty" / "a.txt", tmp_path, "not a kind of scan")
    (tmp_path / "not.zarr").mkdir()
    refused(VolumeError, tmp_path / "not.zarr", tmp_path, "empty folder")
    (tmp_path / "not.zarr" / "x").write_text("x")
    refused(VolumeError, tmp_path / "not.zarr", tmp_path, "not an OME-Zarr volume")
    make_array(tmp_path / "flat.zarr", VOXELS[0])
    refused(VolumeError, tmp_path / "flat.zarr", tmp_path, r"shape \(41, 50\)")
    np.save(tmp_path / "flat.npy", VOXELS[0])
    refused(FormatError, tmp_path / "flat.npy", tmp_path, r"shape \(41, 50\)")
    np.save(tmp_path / "text.npy", np.array([[["a"]]]))
    refused(FormatError, tmp_path / "text.npy", tmp_path, "not grey values")
    tifffile.imwrite(tmp_path / "one.tif", VOXELS[0])
    refused(FormatError, tmp_path / "one.tif", tmp_path, "holds a single slice")
    np.save(tmp_path / "a.npy", VOXELS)
    refused(ParamsError, tmp_path / "a.npy", tmp_path, "--voxel-size-um", voxel_size_um=None)


def test_prepare__leaves_nothing_when_a_chunk_is_damaged(tmp_path):
    make_array(tmp_path / "a.zarr", VOXELS)
    (tmp_path / "a.zarr" / "2" / "2" / "2").write_bytes(b"x")
    refused(VolumeError, tmp_path / "a.zarr", tmp_path, r"a.zarr/2/2/2: damaged chunk")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"voxel_size_um": 0}, "greater than 0"),
        ({"voxel_size_um": float("nan")}, "voxel_size_um"),
        ({"chunk": 15}, "multiple of 2"),
        ({"origin": "1,2"}, "must be three whole numbers"),
        ({"window_min": 0}, "give both"),
        ({"window_min": 1, "window_max": 1}, "must be less"),
        ({"window_min": 0, "window_max": 1, "convert": "keep"}, "no effect"),
        ({"dtype": "float32"}, "uint8"),
        ({"voxelsize": 7.91}, "did you mean 'voxel_size_um'"),
    ],
)
def test_params__say_what_is_wrong(values, match):
    with pytest.raises(ParamsError, match=match):
        params(**values)
