import json
import math
import pickle

import numpy as np
import pytest
import tifffile
from asserts import assert_same_surface
from hypothesis import HealthCheck, given, settings
from strategies import surfaces, wavy_surface

from tracer import tifxyz
from tracer.errors import FormatError, OutputError, SurfaceError, TracerWarning
from tracer.provenance import provenance
from tracer.surface import Surface

VC3D = ("patches_seeded", "patches_expanded", "trace", "fuse", "ground")


def vc3d_surfaces(shared_data):
    found = sorted(
        path.parent for kind in VC3D for path in (shared_data / "vc3d" / kind).glob("*/meta.json")
    )
    assert len(found) == 271
    return found


def edit_meta(directory, **changes):
    path = directory / "meta.json"
    meta = json.loads(path.read_text())
    meta.update(changes)
    path.write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(surface=surfaces())
@pytest.mark.filterwarnings("ignore:.*wrong scale")
def test_save_load__is_the_identity(tmp_path, surface):
    saved = surface.save(tmp_path / "a", overwrite=True)
    loaded = Surface.load(saved)
    assert_same_surface(loaded, surface)
    assert_same_surface(Surface.load(loaded.save(tmp_path / "b", overwrite=True)), surface)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_load__reads_the_raw_values_of_reference_surfaces(shared_data, tmp_path):
    for directory in vc3d_surfaces(shared_data)[::9]:
        surface = Surface.load(directory)
        raw = np.stack([tifffile.imread(directory / f"{k}.tif") for k in "xyz"], axis=-1)
        valid = raw[..., 2] > 0
        np.testing.assert_array_equal(surface.valid, valid)
        assert surface.points_xyz[valid].tobytes() == raw[valid].tobytes()
        assert surface.name == directory.name
        again = Surface.load(surface.save(tmp_path / surface.name))
        assert_same_surface(again, surface)
        kept = {"seed", "source", "max_gen", "vc_gsfs_params", "elapsed_time_s"}
        assert {k: surface.meta[k] for k in kept & surface.meta.keys()} == {
            k: again.meta[k] for k in kept & again.meta.keys()
        }
        bbox = np.float64(surface.meta["bbox"])
        if bbox[0, 2] > 0:
            np.testing.assert_allclose(again.bbox_xyz, bbox, rtol=1e-7)
        if "area_cm2" in surface.meta:  # the voxel size survives: 7.91 µm
            assert again.meta["area_cm2"] == pytest.approx(surface.area_cm2(7.91), rel=1e-6)


def test_area__is_near_what_vc3d_counts(shared_data):
    ratios = []
    for directory in sorted((shared_data / "vc3d" / "patches_expanded").glob("auto_*")):
        surface = Surface.load(directory, channels=())
        ratios.append(surface.area_vx2 / surface.meta["area_vx2"])
    assert len(ratios) == 248
    assert 0.92 < np.median(ratios) < 0.97  # it also counts cells with invalid corners
    assert 0.85 < min(ratios) < max(ratios) < 1.05


def test_load__warns_of_published_surfaces_with_a_wrong_scale(shared_data):
    for directory in sorted((shared_data / "real" / "pherc0172_tifxyz").iterdir()):
        with pytest.warns(TracerWarning, match="wrong scale.*12.* voxels apart but scale 0.0078"):
            surface = Surface.load(directory)
        assert surface.spacing() == pytest.approx((88.5, 12.2), abs=0.7)


@pytest.mark.parametrize(
    ("factor", "warns"), [(0.55, False), (0.45, True), (1.8, False), (400, True)]
)
def test_load__compares_scale_with_the_spacing(tmp_path, factor, warns):
    directory = wavy_surface().save(tmp_path / "a")
    edit_meta(directory, scale=[0.05 * factor, 0.05])
    if warns:
        with pytest.warns(TracerWarning, match=r"scale\[0\]"):
            Surface.load(directory)
    else:
        Surface.load(directory)


def test_load__takes_z_not_positive_as_invalid(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    z = tifffile.imread(directory / "z.tif")
    z[0, 0], z[0, 1] = 0, -5
    tifffile.imwrite(directory / "z.tif", z)
    surface = Surface.load(directory)
    expected = np.ones(surface.shape, bool)
    expected[0, :2] = False
    np.testing.assert_array_equal(surface.valid, expected)
    assert (surface.points_xyz[~expected] == -1).all()


@pytest.mark.parametrize("name", ["x", "y", "z"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_load__refuses_what_is_not_finite(tmp_path, name, value):
    directory = wavy_surface().save(tmp_path / "a")
    grid = tifffile.imread(directory / f"{name}.tif")
    grid[1, 2] = value
    tifffile.imwrite(directory / f"{name}.tif", grid)
    with pytest.raises(FormatError, match=rf"{name}\.tif: vertex \(1, 2\) is {value}"):
        Surface.load(directory)


def test_load__refuses_an_unfinished_surface(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    (directory / "meta.json").unlink()
    with pytest.raises(SurfaceError, match="not a finished surface"):
        Surface.load(directory)


def test_load__refuses_a_missing_directory_and_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("none", "file"):
        with pytest.raises(SurfaceError, match="no such surface"):
            Surface.load(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"scale": [0.0, 0.05]}, r"scale is \[0.0, 0.05\]"),
        ({"scale": None}, "scale is None"),
        ({"scale": ["a", 1]}, "scale is"),
        ({"scale": [math.nan, 1]}, "scale is"),
        ({"channels": "generations"}, "channels is"),
        ({"channels": ["../x"]}, "no channel"),
        ({"channels": ["none"]}, r"none\.tif: cannot read"),
    ],
)
def test_load__refuses_bad_metadata(tmp_path, changes, message):
    directory = wavy_surface().save(tmp_path / "a")
    edit_meta(directory, **changes)
    with pytest.raises(FormatError, match=message):
        Surface.load(directory)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_load__refuses_metadata_that_is_no_object(tmp_path, text):
    directory = wavy_surface().save(tmp_path / "a")
    (directory / "meta.json").write_text(text)
    with pytest.raises(FormatError, match=r"meta\.json"):
        Surface.load(directory)


def test_load__refuses_grids_that_do_not_fit(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    y = tifffile.imread(directory / "y.tif")
    tifffile.imwrite(directory / "y.tif", y[:-1])
    with pytest.raises(FormatError, match=r"shapes differ .*y.tif \(8, 12\)"):
        Surface.load(directory)
    tifffile.imwrite(directory / "y.tif", y.astype(np.uint16))
    with pytest.raises(FormatError, match="dtype is uint16"):
        Surface.load(directory)
    tifffile.imwrite(directory / "y.tif", np.stack([y, y, y, y]), photometric="minisblack")
    assert Surface.load(directory).shape == (9, 12)  # further pages do not count
    (directory / "y.tif").unlink()
    with pytest.raises(FormatError, match=r"y\.tif: cannot read"):
        Surface.load(directory)


def test_load__refuses_a_truncated_grid(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    data = (directory / "x.tif").read_bytes()
    (directory / "x.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"x\.tif: not a readable tif"):
        Surface.load(directory)


def test_load__leaves_out_a_channel_of_another_shape_and_says_so(tmp_path):
    surface = wavy_surface()
    directory = surface.save(tmp_path / "a")
    tifffile.imwrite(directory / "winding.tif", np.zeros((11, 14), np.float32))
    edit_meta(directory, channels=["winding"])
    with pytest.warns(TracerWarning, match="channel left out"):
        assert not Surface.load(directory).channels
    assert not Surface.load(directory, channels=()).channels


@pytest.mark.parametrize("factor", [1, 2, 20])
@pytest.mark.parametrize("keep", [255, 1, 200])
def test_load__applies_masks_of_any_multiple(tmp_path, factor, keep):
    surface = wavy_surface(holes=4)
    directory = surface.save(tmp_path / "a")
    kept = np.random.default_rng(factor).random(surface.shape) < 0.6
    fine = np.kron(kept, np.ones((factor, factor), np.uint8)).astype(np.uint8) * np.uint8(keep)
    picture = np.random.default_rng(0).integers(0, 255, fine.shape).astype(np.uint8)
    tifffile.imwrite(directory / "mask.tif", fine, compression="lzw")
    tifffile.imwrite(directory / "mask.tif", picture, append=True)
    np.testing.assert_array_equal(Surface.load(directory).valid, surface.valid & kept)
    assert_same_surface(Surface.load(directory, apply_mask=False), surface)


def test_load__refuses_a_mask_that_does_not_fit(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    for shape in ((9, 13), (8, 12), (18, 25), (3, 4)):
        tifffile.imwrite(directory / "mask.tif", np.full(shape, 255, np.uint8))
        with pytest.raises(FormatError, match="does not fit the grid"):
            Surface.load(directory)
    (directory / "mask.tif").write_bytes(b"II*\0junk")
    with pytest.raises(FormatError, match=r"mask\.tif"):
        Surface.load(directory)


def test_load__accepts_a_surface_that_is_masked_out_completely(tmp_path):
    directory = wavy_surface().save(tmp_path / "a")
    tifffile.imwrite(directory / "mask.tif", np.zeros((9, 12), np.uint8))
    surface = Surface.load(directory)
    assert not surface.valid.any()
    assert surface.area_vx2 == 0
    assert np.isnan(surface.bbox_xyz).all()
    with pytest.raises(SurfaceError, match="no vertex is valid"):
        surface.validate()
    with pytest.raises(SurfaceError, match="no vertex is valid"):
        surface.save(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_save__refuses_to_replace_a_surface_unless_told(tmp_path):
    first, second = wavy_surface(seed=1), wavy_surface(seed=2)
    directory = first.save(tmp_path / "a")
    with pytest.raises(OutputError, match="exists already"):
        second.save(directory)
    assert_same_surface(Surface.load(directory), first)
    second.save(directory, overwrite=True)
    assert_same_surface(Surface.load(directory), second)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_save__writes_what_the_geometry_says(tmp_path):
    surface = wavy_surface(holes=5)
    meta = {
        "uuid": "old",
        "bbox": None,
        "area_vx2": 7,
        "note": np.float32(math.nan),
        "target_volume": {"voxelsize": 7.91},
    }
    source = Surface(
        points_xyz=surface.points_xyz, valid=surface.valid, scale=surface.scale, meta=meta
    )
    stored = json.loads((source.save(tmp_path / "new") / "meta.json").read_text())
    assert stored["uuid"] == "new"
    assert (stored["format"], stored["type"], stored["channels"]) == ("tifxyz", "seg", [])
    assert stored["scale"] == [0.05, 0.05]
    assert stored["bbox"] == source.bbox_xyz.tolist()
    assert stored["area_vx2"] == source.area_vx2
    assert stored["area_cm2"] == pytest.approx(source.area_vx2 * 7.91e-4**2)
    assert stored["note"] is None


def test_save__to_an_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        wavy_surface().save(tmp_path / "file" / "a")
    with pytest.raises(OutputError, match="cannot write"):
        wavy_surface().save_new(tmp_path / "file")
    with pytest.raises(OutputError, match="exists already"):
        wavy_surface().save(tmp_path / "file")


def test_save_new__names_are_unique_within_a_millisecond(tmp_path, monkeypatch):
    monkeypatch.setattr(tifxyz.time, "time", lambda: 1700000000.123456)
    saved = [wavy_surface().save_new(tmp_path) for _ in range(3)]
    names = [path.name for path in saved]
    assert names == [f"auto_grown_20231114221320{ms}" for ms in (123, 124, 125)]
    assert [Surface.load(path).name for path in saved] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_save_new__leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tracer.surface.write_tif", fail)
    with pytest.raises(OutputError, match="No space left"):
        wavy_surface().save_new(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("tracer.surface.Path.rename", fail)
    with pytest.raises(OutputError, match="No space left"):
        wavy_surface().save_new(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_surface__is_immutable_and_does_not_alias_its_input():
    points, valid = np.full((2, 2, 3), 5.0), np.ones((2, 2), bool)
    surface = Surface(points_xyz=points, valid=valid, scale=(1, 1))
    points[:] = 9
    assert (surface.points_xyz == 5).all()
    with pytest.raises(ValueError, match="read-only"):
        surface.points_xyz[0, 0] = 1
    with pytest.raises(AttributeError):
        surface.scale = (2, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points_xyz": np.zeros((2, 2))}, "points_xyz has shape"),
        ({"points_xyz": np.zeros((0, 2, 3)), "valid": np.zeros((0, 2))}, "not empty"),
        ({"valid": np.ones((2, 3))}, "valid has shape"),
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": (math.inf, 1.0)}, "scale is"),
        ({"channels": {"a": np.zeros((2, 3))}}, "channel 'a' has shape"),
        ({"channels": {"x": np.zeros((2, 2))}}, "channel name 'x'"),
        ({"channels": {"a/b": np.zeros((2, 2))}}, "channel name 'a/b'"),
    ],
)
def test_surface__refuses_inconsistent_fields(fields, message):
    whole = {"points_xyz": np.ones((2, 2, 3)), "valid": np.ones((2, 2), bool), "scale": (1, 1)}
    with pytest.raises(SurfaceError, match=message):
        Surface(**(whole | fields))


def test_sample__broadcasts_and_interpolates():
    surface = wavy_surface()
    points, valid = surface.sample(np.array([[0.5], [1.0]]), np.array([0.0, 2.5, 99.0]))
    assert points.shape == (2, 3, 3)
    np.testing.assert_array_equal(valid, [[True, True, False], [True, True, False]])
    expected = surface.points_xyz[0:2, 2:4].astype(np.float64).mean(axis=(0, 1))
    np.testing.assert_allclose(points[0, 1], expected, rtol=1e-6)
    assert surface.sample(0, 0)[0].shape == (3,)


def test_normals__are_unit_and_nan_at_holes():
    whole = wavy_surface()
    valid = whole.valid.copy()
    valid[4, 4:6] = False
    surface = Surface(points_xyz=whole.points_xyz, valid=valid, scale=whole.scale)
    normals = surface.normals()
    assert np.isnan(normals[~surface.valid]).all()
    np.testing.assert_allclose(np.linalg.norm(normals[surface.valid], axis=-1), 1, rtol=1e-5)


def test_provenance__reaches_the_file(tmp_path):
    class Volume:
        uuid, path, shape_zyx, voxel_size_um = "v", "/some/where.zarr", (1, 2, 3), 7.91

    meta = provenance(
        "tracer seed",
        {"generations": 30, "rng_seed": 4},
        volume=Volume(),
        mode="explicit_seed",
        seed_xyz=np.float32([1, 2, 3]),
        elapsed_time_s=1.5,
        max_gen=np.int64(12),
        extra={"rejected": {"angle": np.int32(3)}},
    )
    surface = wavy_surface()
    saved = Surface(
        points_xyz=surface.points_xyz, valid=surface.valid, scale=surface.scale, meta=meta
    ).save(tmp_path / "a")
    stored = json.loads((saved / "meta.json").read_text())
    assert stored["source"] == "tracer seed"
    assert stored["rng_seed"] == 4
    assert stored["vc_gsfs_mode"] == "explicit_seed"
    assert stored["vc_gsfs_params"] == {"generations": 30, "rng_seed": 4}
    assert stored["seed"] == [1.0, 2.0, 3.0]
    assert stored["max_gen"] == 12
    assert stored["rejected"] == {"angle": 3}
    assert stored["target_volume"]["shape"] == [1, 2, 3]
    assert stored["area_cm2"] == pytest.approx(surface.area_cm2(7.91))
    assert provenance("tracer fuse", {"a": 1}, rng_seed=2)["params"] == {"a": 1}


def test_surface__can_be_sent_between_processes():
    points = np.arange(24, dtype=np.float32).reshape(2, 4, 3) + 1.0
    valid = np.ones((2, 4), bool)
    valid[0, 0] = False
    channels = {"state": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    surface = Surface(
        points_xyz=points, valid=valid, scale=(0.1, 0.2), channels=channels, meta={"uuid": "a"}
    )
    again = pickle.loads(pickle.dumps(surface))
    assert np.array_equal(again.points_xyz, surface.points_xyz)
    assert np.array_equal(again.valid, surface.valid)
    assert np.array_equal(again.channels["state"], surface.channels["state"])
    assert (again.scale, dict(again.meta)) == (surface.scale, dict(surface.meta))
