import json
import math
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from web_server import serving
from zarr_making import META, make_array, make_volume, some_voxels

from tracer.errors import TracerError, TracerWarning, VolumeError
from tracer.pooling import pool
from tracer.volume import Volume


def pyramid(voxels, n_levels=3):
    levels = [voxels]
    while len(levels) < n_levels:
        levels.append(pool(levels[-1], "max"))
    return levels


LEVELS = pyramid(some_voxels((40, 34, 27)))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("multiscales", [True, False])
@pytest.mark.parametrize("separator", ["/", "."])
def test_open__reads_every_layout(tmp_path, zarr_format, multiscales, separator):
    path = make_volume(
        tmp_path / "v.zarr",
        LEVELS,
        zarr_format=zarr_format,
        multiscales=multiscales,
        separator=separator,
    )
    volume = Volume.open(path)
    assert volume.path == str(path)
    assert (volume.n_levels, volume.shape_zyx, volume.dtype) == (3, (40, 34, 27), np.uint8)
    assert (volume.voxel_size_um, volume.uuid, volume.name) == (7.91, "vol-1", "vol")
    assert volume.has_multiscales == multiscales
    assert volume.chunk_shape_zyx(1) == (16, 16, 16)
    for number, voxels in enumerate(LEVELS):
        assert volume.level_shape_zyx(number) == voxels.shape
        np.testing.assert_array_equal(volume.read(number, (0, 0, 0), voxels.shape), voxels)
    volume.require_prediction()


def test_open__reads_a_sharded_volume(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS, zarr_format=3, chunk=8, shards=(16, 16, 16))
    volume = Volume.open(str(path))
    assert volume.chunk_shape_zyx(0) == (8, 8, 8)
    np.testing.assert_array_equal(
        volume.read(0, (-1, 3, 0), (40, 34, 30))[1:, :, :27], LEVELS[0][:, 3:]
    )
    assert len(volume.identity) == 64


def test_open__reads_a_lone_array(tmp_path):
    make_array(tmp_path / "v.zarr", LEVELS[0])
    (tmp_path / "v.zarr" / "meta.json").write_text(json.dumps(META))
    volume = Volume.open(tmp_path / "v.zarr")
    assert volume.n_levels == 1
    np.testing.assert_array_equal(volume.read(0, (0, 0, 0), (40, 34, 27)), LEVELS[0])


def test_open__opens_uint16_but_not_as_a_prediction(tmp_path):
    voxels = some_voxels(dtype=np.uint16)
    path = make_volume(tmp_path / "v.zarr", [voxels])
    volume = Volume.open(path)
    assert volume.dtype == np.uint16
    np.testing.assert_array_equal(volume.read(0, (0, 0, 0), voxels.shape), voxels)
    with pytest.raises(VolumeError, match=r"is uint16, but .* uint8 .*tracer prepare"):
        volume.require_prediction()


def test_open__imports_no_zarr_until_it_has_to(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS)
    code = (
        "import sys\nfrom tracer.volume import Volume\n"
        f"volume = Volume.open({str(path)!r})\nvolume.identity\n"
        "heavy = {'zarr', 'numcodecs', 'fsspec', 'numba', 'scipy', 'imagecodecs'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "volume.read(0, (0, 0, 0), (40, 34, 27))\nprint('zarr' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["[]", "False"]


def test_open__reads_the_reference_phantom(shared_data):
    volume = Volume.open(shared_data / "vc3d" / "volume" / "pred.zarr")
    assert (volume.shape_zyx, volume.n_levels) == ((512, 640, 640), 5)
    assert (volume.voxel_size_um, volume.uuid) == (7.91, "pred")
    fine = volume.read(0, (256, 256, 256), (320, 320, 320))
    assert set(np.unique(fine)) == {0, 255}
    np.testing.assert_array_equal(volume.read(1, (128,) * 3, (160,) * 3), pool(fine, "max"))
    assert not volume.read(0, (0, 0, 0), (32, 640, 640)).any()


# Remote


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open__reads_over_http(tmp_path, zarr_format):
    local = Volume.open(make_volume(tmp_path / "v.zarr", LEVELS, zarr_format=zarr_format))
    with serving(tmp_path) as url:
        remote = Volume.open(f"{url}/v.zarr/")
        assert remote.path == f"{url}/v.zarr"
        assert (remote.shape_zyx, remote.n_levels) == (local.shape_zyx, local.n_levels)
        box = (-2, 5, 20), (39, 40, 30)
        np.testing.assert_array_equal(remote.read(0, *box), local.read(0, *box))
        assert remote.identity == local.identity
        assert set(remote.iter_chunk_indices()) == set(local.iter_chunk_indices())
        assert not remote.chunk_exists(0, (0, 0, 0))
        copy = pickle.loads(pickle.dumps(remote))
        np.testing.assert_array_equal(copy.read(0, *box), local.read(0, *box))


def test_open__reads_a_sharded_volume_over_http(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS, zarr_format=3, chunk=8, shards=(40, 40, 40))
    with serving(path.parent) as url:
        remote = Volume.open(f"{url}/v.zarr")
        np.testing.assert_array_equal(remote.read(1, (0, 0, 0), LEVELS[1].shape), LEVELS[1])
    with serving(path.parent, ranges=False) as url:
        remote = Volume.open(f"{url}/v.zarr")
        with pytest.raises(VolumeError, match="serve byte ranges"):
            remote.read(1, (0, 0, 0), LEVELS[1].shape)


def test_open__reads_from_any_fsspec_filesystem(tmp_path):
    import fsspec

    path = make_volume(tmp_path / "v.zarr", LEVELS)
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/bucket/v.zarr", recursive=True)
    try:
        volume = Volume.open("memory://bucket/v.zarr")
        local = Volume.open(path)
        np.testing.assert_array_equal(volume.read(0, (0, 0, 0), (40, 34, 27)), LEVELS[0])
        assert list(volume.iter_chunk_indices()) == list(local.iter_chunk_indices())
        assert volume.identity == local.identity
    finally:
        memory.rm("/bucket", recursive=True)


def test_open__says_that_a_server_has_no_such_volume(tmp_path):
    with serving(tmp_path) as url, pytest.raises(VolumeError, match="not an OME-Zarr volume"):
        Volume.open(f"{url}/nothing.zarr")


def test_read__fails_when_the_server_is_gone(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS)
    with serving(path.parent) as url:
        volume = Volume.open(f"{url}/v.zarr")
    with pytest.raises(VolumeError, match=r"127.0.0.1.*cannot read .*connection") as caught:
        volume.read(0, (0, 0, 0), (40, 34, 27))
    assert "\n" not in str(caught.value)


def test_open__names_the_extra_that_is_missing():
    code = (
        "import sys\nsys.modules['aiohttp'] = None\n"
        "from tracer.volume import Volume\nfrom tracer.errors import MissingDependencyError\n"
        "try:\n    Volume.open('https://example.invalid/v.zarr')\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'scroll-tracer[remote]'" in out.stdout
    assert out.stdout.count("\n") == 1


def test_open__refuses_an_unknown_protocol():
    with pytest.raises(VolumeError, match="check the address"):
        Volume.open("gopher+x://host/v.zarr")


# Volume packages


@pytest.fixture
def package(tmp_path):
    for name in ("one", "two"):
        meta = {**META, "uuid": f"uuid-{name}", "name": f"Scan {name}"}
        make_volume(tmp_path / "s.volpkg" / "volumes" / f"{name}.zarr", LEVELS[:1], meta=meta)
    (tmp_path / "s.volpkg" / "config.json").write_text('{"name": "s", "version": 6}')
    return tmp_path / "s.volpkg"


@pytest.mark.parametrize("name", ["two.zarr", "two", "uuid-two", "Scan two"])
def test_open__looks_up_a_package_by_name_or_uuid(package, name):
    assert Volume.open(package, name=name).uuid == "uuid-two"


def test_open__picks_the_only_volume_of_a_package(package):
    with pytest.raises(VolumeError, match=r"several volumes; choose one .*one.zarr, two.zarr"):
        Volume.open(package)
    shutil.rmtree(package / "volumes" / "one.zarr")
    assert Volume.open(package).uuid == "uuid-two"
    with pytest.raises(VolumeError, match=r"has no volume 'one'; it has two.zarr"):
        Volume.open(package, name="one")


def test_open__refuses_unusable_packages(package, tmp_path):
    with pytest.raises(VolumeError, match="not a volume package"):
        Volume.open(package / "volumes" / "one.zarr", name="one")
    with pytest.raises(VolumeError, match="no such volume package"):
        Volume.open(tmp_path / "gone.volpkg")
    with pytest.raises(VolumeError, match="cannot be listed; give the URL"):
        Volume.open("https://example.invalid/s.volpkg", name="one")
    shutil.copytree(package / "volumes" / "one.zarr", package / "volumes" / "copy.zarr")
    with pytest.raises(VolumeError, match=r"fits copy.zarr and one.zarr"):
        Volume.open(package, name="uuid-one")
    shutil.rmtree(package / "volumes")
    with pytest.raises(VolumeError, match="has no 'volumes' folder"):
        Volume.open(package)
    (package / "volumes").mkdir()
    with pytest.raises(VolumeError, match="holds no volume"):
        Volume.open(package)


# Identity


def test_identity__survives_copying_and_moving(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS)
    identity = Volume.open(path).identity
    shutil.copytree(path, tmp_path / "copy.zarr", copy_function=shutil.copyfile)
    (tmp_path / "link.zarr").symlink_to(path)
    os.utime(tmp_path / "copy.zarr" / "0" / "1" / "1" / "1", (1.0, 1.0))
    assert Volume.open(tmp_path / "copy.zarr").identity == identity
    assert Volume.open(tmp_path / "link.zarr").identity == identity
    path.rename(tmp_path / "moved.zarr")
    assert Volume.open(tmp_path / "moved.zarr").identity == identity


@pytest.mark.parametrize("compressor", ["blosc", "raw"])
@pytest.mark.parametrize("n_levels", [1, 3])
def test_identity__changes_with_the_content(tmp_path, compressor, n_levels):
    path = make_volume(tmp_path / "v.zarr", LEVELS[:n_levels], compressor=compressor)
    identity = Volume.open(path).identity
    shutil.rmtree(path)
    other = pyramid(some_voxels((40, 34, 27), seed=1), n_levels)
    make_volume(path, other, compressor=compressor)
    assert Volume.open(path).identity != identity


def test_identity__changes_with_meta_and_layout(tmp_path):
    same = Volume.open(make_volume(tmp_path / "a.zarr", LEVELS)).identity
    assert Volume.open(make_volume(tmp_path / "b.zarr", LEVELS)).identity == same
    others = [
        make_volume(tmp_path / "c.zarr", LEVELS, meta={**META, "uuid": "other"}),
        make_volume(tmp_path / "d.zarr", LEVELS, meta={**META, "voxelsize": 2.4}),
        make_volume(tmp_path / "e.zarr", LEVELS, chunk=8),
        make_volume(tmp_path / "f.zarr", LEVELS[:2]),
    ]
    assert len({same, *(Volume.open(path).identity for path in others)}) == 5


# Bad input


def assert_one_line(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_open__says_what_meta_json_needs(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS, meta=None)
    with pytest.raises(VolumeError) as caught:
        Volume.open(path)
    assert_one_line(caught, f"{path}/meta.json: missing", "voxelsize", "7.91")
    volume = Volume.open(path, require_meta=False)
    assert math.isnan(volume.voxel_size_um)
    assert volume.uuid == volume.name == "v"
    with pytest.raises(VolumeError, match="missing"):
        volume.require_voxel_size()


@pytest.mark.parametrize("value", [None, 0, 0.0, -1.0, math.nan, math.inf, "7.91", True, [7.91]])
def test_open__refuses_an_unusable_voxel_size(tmp_path, value):
    path = make_volume(tmp_path / "v.zarr", LEVELS, meta={**META, "voxelsize": value})
    with pytest.raises(VolumeError) as caught:
        Volume.open(path)
    assert_one_line(caught, f"{path}/meta.json: key 'voxelsize'", '"voxelsize": 7.91')
    assert math.isnan(Volume.open(path, require_meta=False).voxel_size_um)


def test_open__suggests_the_voxel_size_of_ngff(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS, meta=None)
    attributes = json.loads((path / ".zattrs").read_text())
    first = attributes["multiscales"][0]
    first["axes"] = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    first["datasets"][0]["coordinateTransformations"][0]["scale"] = [3.24] * 3
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(VolumeError, match=r'"voxelsize": 3.24'):
        Volume.open(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32, np.int8])
def test_open__refuses_other_dtypes(tmp_path, dtype):
    path = make_volume(tmp_path / "v.zarr", [LEVELS[0].astype(dtype)])
    with pytest.raises(VolumeError) as caught:
        Volume.open(path)
    assert_one_line(caught, str(path / "0"), np.dtype(dtype).name, "tracer prepare")


def test_open__refuses_what_is_not_a_volume(tmp_path):
    with pytest.raises(VolumeError, match="no such volume"):
        Volume.open(tmp_path / "gone.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(VolumeError, match="empty folder"):
        Volume.open(tmp_path / "empty.zarr")
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(VolumeError, match=r"a file, not .*tracer prepare"):
        Volume.open(tmp_path / "file.zarr")
    (tmp_path / "surface").mkdir()
    (tmp_path / "surface" / "x.tif").write_text("x")
    with pytest.raises(VolumeError, match="a surface"):
        Volume.open(tmp_path / "surface")
    (tmp_path / "tifs").mkdir()
    (tmp_path / "tifs" / "0000.tif").write_text("x")
    with pytest.raises(VolumeError, match=r"not an OME-Zarr volume.*tracer prepare"):
        Volume.open(tmp_path / "tifs")


def test_open__refuses_damaged_volumes(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS)
    (path / "meta.json").write_text("{")
    with pytest.raises(VolumeError, match=r"meta.json: not valid JSON"):
        Volume.open(path)
    (path / "meta.json").write_text('{"voxelsize": 7.91, "format": "tif"}')
    with pytest.raises(VolumeError, match=r"format is 'tif', not 'zarr'"):
        Volume.open(path)
    shutil.rmtree(path / "0")
    with pytest.raises(VolumeError, match=r"v.zarr/0: missing"):
        Volume.open(path)
    shape = (2, 20, 20, 20)
    path = make_volume(tmp_path / "four.zarr", [np.ones(shape, np.uint8)], multiscales=False)
    with pytest.raises(VolumeError, match="has 4 axes"):
        Volume.open(path)
    path = make_volume(tmp_path / "none.zarr", [np.ones((0, 4, 4), np.uint8)])
    with pytest.raises(VolumeError, match="is empty"):
        Volume.open(path)
    path = make_volume(tmp_path / "mixed.zarr", [LEVELS[0], LEVELS[1].astype(np.uint16)])
    with pytest.raises(VolumeError, match=r"differ in data type \(uint8, uint16\)"):
        Volume.open(path)


@pytest.mark.parametrize("level", [-1, 3, 99])
def test_level__names_those_that_exist(tmp_path, level):
    volume = Volume.open(make_volume(tmp_path / "v.zarr", LEVELS))
    for call in (
        lambda: volume.read(level, (0, 0, 0), (1, 1, 1)),
        lambda: volume.level_shape_zyx(level),
        lambda: volume.chunk_exists(level, (0, 0, 0)),
    ):
        with pytest.raises(VolumeError, match=f"has no level {level}, levels 0 to 2"):
            call()


def test_open__warns_of_levels_that_do_not_fit(tmp_path):
    path = make_volume(tmp_path / "v.zarr", [LEVELS[0], LEVELS[2]])
    with pytest.warns(TracerWarning, match="is not 1/2 of level 0"):
        volume = Volume.open(path)
    assert volume.n_levels == 1


def test_open__reads_levels_up_to_the_first_missing_one(tmp_path):
    path = make_volume(tmp_path / "v.zarr", LEVELS)
    shutil.rmtree(path / "1")
    volume = Volume.open(path)
    assert volume.n_levels == 1
    with pytest.raises(TracerError, match="has no level 1, only level 0"):
        volume.read(1, (0, 0, 0), (1, 1, 1))


def test_pickle__keeps_everything(tmp_path):
    volume = Volume.open(make_volume(tmp_path / "v.zarr", LEVELS))
    copy = pickle.loads(pickle.dumps(volume))
    assert copy.identity == volume.identity
    assert copy.voxel_size_um == volume.voxel_size_um
    np.testing.assert_array_equal(copy.read(0, (0, 0, 0), (40, 34, 27)), LEVELS[0])
