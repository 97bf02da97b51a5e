"""The seed stage on a prediction whose sheets are known exactly."""

import itertools
import shutil

import numpy as np
import pytest
from sheet_volume import (
    MERGER_XYZ,
    VOXEL_SIZE_UM,
    contents_by_seed,
    make_prediction,
    make_ribbon,
    on_sheet,
    sheet_of,
    sheet_offsets,
    small_params,
)

from tracer.collection import PatchCollection
from tracer.errors import CacheError, CollectionError, NothingFoundError, SeedError, VolumeError
from tracer.patch_growth import grow_patch
from tracer.patch_start import find_starts
from tracer.seed import open_field, seed
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

N_RANDOM = 6
MIXED = [on_sheet(1, 70, 64), (2.0, 150.0, 10.0), on_sheet(2, 40, 90), on_sheet(0, 80, 90)]


@pytest.fixture(scope="module")
def random_patches(sheet_volume, tmp_path_factory):
    """Patches of random seeds, grown in this process."""
    paths = tmp_path_factory.mktemp("random") / "paths"
    result = seed(sheet_volume, paths, small_params(), count=N_RANDOM)
    assert len(result.names) == N_RANDOM
    return paths


def tifs_of(content):
    return {name: data for name, data in content.items() if name.endswith(".tif")}


@pytest.mark.slow
def test_seed__runs_and_worker_processes_give_the_same_bytes(
    sheet_volume, random_patches, tmp_path
):
    expected = contents_by_seed(random_patches)
    assert sorted(expected) == list(range(N_RANDOM))
    assert set(expected[0]) == {
        *("x.tif", "y.tif", "z.tif", "generations.tif", "confidence.tif", "meta.json")
    }
    for run, workers in enumerate((1, 2)):
        paths = tmp_path / f"{run}"
        result = seed(sheet_volume, paths, small_params(), count=N_RANDOM, workers=workers)
        assert contents_by_seed(paths) == expected
        found = [PatchCollection(paths).load(name).meta["item"] for name in result.names]
        assert found == list(range(N_RANDOM))


@pytest.mark.slow
def test_seed__points_of_mixed_quality_are_told_apart_by_any_number_of_workers(
    sheet_volume, tmp_path
):
    results = [
        seed(sheet_volume, tmp_path / f"{workers}", small_params(), points=MIXED, workers=workers)
        for workers in (1, 2)
    ]
    assert contents_by_seed(tmp_path / "1") == contents_by_seed(tmp_path / "2")
    for result in results:
        assert [outcome.index for outcome in result.outcomes] == [0, 1, 2, 3]
        assert [outcome.reason for outcome in result.outcomes] == ["", "without a clean start"] + [
            ""
        ] * 2
        assert "off the prediction" in result.outcomes[1].message
        assert result.outcomes[1].name is None
        assert "3 patches" in result.summary()
        assert "not saved: 1 without a clean start" in result.summary()
    assert [sheet_of(PatchCollection(tmp_path / "1").load(n)) for n in results[0].names] == [
        *(1, 2, 0)
    ]


def test_seed__patches_follow_one_sheet_at_the_step_asked_for(random_patches):
    sheets = set()
    for name in PatchCollection(random_patches).names():
        surface = PatchCollection(random_patches).load(name)
        sheets.add(sheet_of(surface))
        assert surface.valid.sum() > 60
        assert surface.scale == (0.125, 0.125)
        for axis in (0, 1):
            edges = np.linalg.norm(np.diff(surface.points_xyz, axis=axis), axis=-1)
            both = np.logical_and(*_pairs(surface.valid, axis))
            np.testing.assert_allclose(np.median(edges[both]), 8.0, rtol=0.02)
            assert np.abs(edges[both] - 8.0).max() < 2.0
        generations = surface.channels["generations"]
        assert generations.dtype == np.uint16
        assert (generations[surface.valid] >= 1).all()
        assert (generations[~surface.valid] == 0).all()
        assert generations.max() == surface.meta["max_gen"] == 8
        confidence = surface.channels["confidence"]
        assert ((confidence >= 0) & (confidence <= 1)).all()
        assert np.median(confidence[surface.valid]) > 0.9
    assert len(sheets) > 1


def _pairs(valid, axis):
    return (valid[:-1], valid[1:]) if axis == 0 else (valid[:, :-1], valid[:, 1:])


def test_seed__records_where_a_patch_comes_from(sheet_volume, tmp_path):
    point = on_sheet(1, 70, 64)
    params = small_params()
    result = seed(sheet_volume, tmp_path / "paths", params, points=[point])
    (name,) = result.names
    assert name.startswith("auto_grown_")
    surface = PatchCollection(tmp_path / "paths").load(name)
    meta = surface.meta
    assert meta["source"] == "tracer seed"
    assert meta["seed"] == list(point)
    assert meta["vc_gsfs_mode"] == "explicit_seed"
    assert meta["vc_gsfs_params"] == params.effective()
    assert (meta["rng_seed"], meta["item"]) == (7, 0)
    assert meta["target_volume"] == {
        "uuid": sheet_volume.uuid,
        "path": sheet_volume.path,
        "shape": [128, 160, 160],
        "voxelsize": VOXEL_SIZE_UM,
    }
    assert meta["area_cm2"] == pytest.approx(surface.area_cm2(VOXEL_SIZE_UM), rel=1e-6)
    assert result.outcomes[0].area_cm2 == pytest.approx(meta["area_cm2"], rel=1e-6)
    assert meta["on_prediction_fraction"] == 1.0
    assert np.linalg.norm(np.subtract(meta["start"], point)) < 1.0
    # Voxels within 2 of the mid-line: four or five of them, depending on where the line passes.
    assert 4.0 <= meta["sheet_thickness_vx"] <= 5.0
    assert 0.0 < meta["avg_cost"] <= meta["max_cost"] <= params.max_cost
    assert 0.0 <= meta["median_normal_deviation_deg"] < 5.0


def test_seed__a_random_item_depends_on_the_rng_seed_and_its_number_only(
    sheet_volume, random_patches, tmp_path
):
    all_items = contents_by_seed(random_patches)
    seed(sheet_volume, tmp_path / "few", small_params(), count=2)
    assert contents_by_seed(tmp_path / "few") == {i: all_items[i] for i in range(2)}
    seed(sheet_volume, tmp_path / "other", small_params(rng_seed=8), count=2)
    seeds = [
        item["meta.json"]["seed"]
        for item in (*all_items.values(), *contents_by_seed(tmp_path / "other").values())
    ]
    assert len(np.unique(np.array(seeds), axis=0)) == N_RANDOM + 2


def test_seed__a_drawn_rng_seed_is_recorded_and_repeats_the_run(sheet_volume, tmp_path):
    first = seed(sheet_volume, tmp_path / "a", small_params(rng_seed=None), count=2)
    seed(sheet_volume, tmp_path / "b", small_params(rng_seed=first.rng_seed), count=2)
    a, b = contents_by_seed(tmp_path / "a"), contents_by_seed(tmp_path / "b")
    assert f"rng_seed {first.rng_seed}" in first.summary()
    assert a[0]["meta.json"]["rng_seed"] == first.rng_seed
    assert [tifs_of(a[i]) for i in range(2)] == [tifs_of(b[i]) for i in range(2)]


def test_seed__memory_for_one_chunk_gives_the_same_patch(tmp_path):
    volume = Volume.open(make_ribbon(tmp_path / "ribbon.zarr"))
    point = (29.0, 387.0, 20.0)
    patches = {}
    for name, cache_size in (("plenty", 1e9), ("tight", 1.0)):
        params = small_params(generations=60, cache_size=cache_size)
        seed(volume, tmp_path / name, params, points=[point, point])
        contents = contents_by_seed(tmp_path / name)
        assert tifs_of(contents[0]) == tifs_of(contents[1])
        patches[name] = tifs_of(contents[0])
        stats = open_field(volume.path, params, volume.identity)[1].stats
        assert (stats.chunks_evicted > 0) == (name == "tight")
        assert (stats.chunks_computed > 6) == (name == "tight")
    assert patches["tight"] == patches["plenty"]
    collection = PatchCollection(tmp_path / "tight")
    surface = collection.load(collection.names()[0])
    assert np.ptp(surface.points_xyz[surface.valid], axis=0)[1] > 640.0


def test_seed__cold_and_warm_cache_give_the_same_patch(sheet_volume, tmp_path):
    point = on_sheet(2, 118, 70)
    seed(sheet_volume, tmp_path / "none", small_params(), points=[point])
    expected = tifs_of(contents_by_seed(tmp_path / "none")[0])
    params = small_params(cache_root=str(tmp_path / "cache"))
    for temperature in ("cold", "warm"):
        open_field.cache_clear()
        seed(sheet_volume, tmp_path / temperature, params, points=[point])
        assert tifs_of(contents_by_seed(tmp_path / temperature)[0]) == expected
        stats = open_field(sheet_volume.path, params, sheet_volume.identity)[1].stats
        computed, cached = stats.chunks_computed, stats.chunks_cached
        assert min(computed, cached) == 0
        assert (cached if temperature == "warm" else computed) >= 2


def test_seed__a_whole_sheet_is_covered_without_switching_or_leaving_the_volume(
    sheet_volume, tmp_path
):
    for number in range(3):
        paths = tmp_path / f"{number}"
        params = small_params(generations=60)
        seed(sheet_volume, paths, params, points=[on_sheet(number, 60, 90)])
        (name,) = PatchCollection(paths).names()
        surface = PatchCollection(paths).load(name)
        assert sheet_of(surface) == number
        assert surface.area_vx2 > 0.8 * _sheet_area(number)  # one step at the rims, and the merger


def _sheet_area(number):
    """Return the area of a sheet within the volume, from a fine triangulation."""
    y, z = np.meshgrid(np.arange(160.0), np.arange(128.0))
    points = np.stack(np.vectorize(lambda y, z: on_sheet(number, y, z))(y, z), axis=-1)
    assert (points[..., 0] > 0).all()
    along_y, along_z = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    return np.linalg.norm(np.cross(along_y, along_z), axis=-1).sum()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("first", [30, 33])
def test_seed__on_a_flat_sheet_along_an_axis(tmp_path, axis, first):
    voxels = np.zeros((64, 64, 64), np.uint8)
    voxels[(slice(None),) * axis + (slice(first, first + 3),)] = 255
    writer = VolumeWriter.create(tmp_path / "p.zarr", voxels.shape, np.uint8, VOXEL_SIZE_UM)
    writer.write((0, 0, 0), voxels)
    volume = Volume.open(writer.finish("max"))
    point = np.full(3, 32.0)
    point[2 - axis] = first + 1
    seed(volume, tmp_path / "paths", small_params(), points=[tuple(point)])
    collection = PatchCollection(tmp_path / "paths")
    surface = collection.load(collection.names()[0])
    assert surface.valid.sum() > 20
    np.testing.assert_allclose(surface.points_xyz[surface.valid][:, 2 - axis], first + 1, atol=0.1)


@pytest.mark.parametrize("yz", [(2, 2), (157, 125), (2, 125)])
def test_seed__at_the_rim_of_the_volume_stays_inside(sheet_volume, tmp_path, yz):
    params = small_params(generations=12)
    seed(sheet_volume, tmp_path / "paths", params, points=[on_sheet(2, *yz)])
    collection = PatchCollection(tmp_path / "paths")
    surface = collection.load(collection.names()[0])
    assert sheet_of(surface) == 2
    assert surface.valid.sum() > 30


def test_seed__in_a_merger_starts_on_a_clean_sheet_beside_it(sheet_volume, tmp_path):
    seed(sheet_volume, tmp_path / "paths", small_params(), points=[MERGER_XYZ])
    collection = PatchCollection(tmp_path / "paths")
    surface = collection.load(collection.names()[0])
    assert sheet_of(surface) in (0, 1)
    assert np.linalg.norm(np.subtract(surface.meta["start"], MERGER_XYZ)) > 5.0
    with pytest.raises(SeedError, match="no clean single sheet within 0 voxels"):
        seed(sheet_volume, tmp_path / "b", small_params(start_radius=0.0), points=[MERGER_XYZ])


def test_seed__the_threshold_says_what_is_sheet(sheet_volume, tmp_path):
    paths = tmp_path / "paths"
    seed(sheet_volume, paths, small_params(threshold=100), points=[on_sheet(2, 60, 90)])
    collection = PatchCollection(paths)
    surface = collection.load(collection.names()[0])
    assert surface.meta["sheet_thickness_vx"] > 6.0  # the halo belongs to it
    assert sheet_of(surface) == 2


def test_seed__too_small_patches_are_not_saved(sheet_volume, tmp_path):
    paths = tmp_path / "paths"
    with pytest.raises(NothingFoundError, match=r"cm2 is less than min_area_cm 0\.5") as error:
        seed(sheet_volume, paths, small_params(min_area_cm=0.5), count=1)
    assert "vertices in 8 generations" in str(error.value)
    with pytest.raises(NothingFoundError, match="not saved: 3 too small"):
        seed(sheet_volume, paths, small_params(min_area_cm=0.5), count=3)
    assert not paths.exists() or not list(paths.iterdir())


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((-1.0, 5.0, 5.0), r"outside the volume of 160 x 160 x 128"),
        ((5.0, 5.0, 128.0), r"outside the volume"),
        ((2.0, 150.0, 10.0), r"more than 4 voxels off the prediction"),
        ((np.nan, 5.0, 5.0), r"outside the volume"),
    ],
)
def test_seed__a_bad_point_is_an_error_that_says_where(sheet_volume, tmp_path, point, message):
    with pytest.raises(SeedError, match=message) as error:
        seed(sheet_volume, tmp_path / "paths", small_params(), points=[point])
    assert "seed ({:g}, {:g}, {:g})".format(*point) in str(error.value)
    assert "\n" not in str(error.value)


def test_seed__tolerance_admits_points_near_the_prediction(sheet_volume, tmp_path):
    x, y, z = on_sheet(2, 60, 90)
    near = (x + 6.0, y, z)
    with pytest.raises(SeedError, match=r"3\.\d voxels off the prediction"):
        seed(sheet_volume, tmp_path / "paths", small_params(), points=[near])
    seed(sheet_volume, tmp_path / "paths", small_params(seed_tolerance=5.0), points=[near])
    collection = PatchCollection(tmp_path / "paths")
    assert sheet_of(collection.load(collection.names()[0])) == 2


def test_seed__nothing_in_the_prediction(tmp_path):
    writer = VolumeWriter.create(tmp_path / "p.zarr", (40, 40, 40), np.uint8, VOXEL_SIZE_UM)
    volume = Volume.open(writer.finish("max"))
    with pytest.raises(NothingFoundError, match=r"none of 1000 random rays met a voxel >= 170"):
        seed(volume, tmp_path / "paths", small_params())
    with pytest.raises(NothingFoundError, match="not saved: 2 not found"):
        seed(volume, tmp_path / "paths", small_params(), count=2)


def test_seed__unusable_volumes_collections_and_caches_fail_before_any_work(
    sheet_prediction, sheet_volume, tmp_path
):
    writer = VolumeWriter.create(tmp_path / "ct.zarr", (40, 40, 40), np.uint16, 7.91)
    with pytest.raises(VolumeError, match="uint16"):
        seed(Volume.open(writer.finish()), tmp_path / "paths", small_params())
    shutil.copytree(sheet_prediction, tmp_path / "p.zarr")
    (tmp_path / "p.zarr/meta.json").write_text('{"type": "vol", "uuid": "p", "voxelsize": 0.0}')
    with pytest.raises(VolumeError, match="voxelsize"):
        seed(Volume.open(tmp_path / "p.zarr"), tmp_path / "paths", small_params())
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectionError, match="cannot create the collection"):
        seed(sheet_volume, tmp_path / "file", small_params())
    with pytest.raises(CacheError, match="file"):
        seed(sheet_volume, tmp_path / "paths", small_params(cache_root=str(tmp_path / "file")))
    assert not (tmp_path / "paths").exists()


def test_seed__a_prediction_that_was_made_again_is_read_again(tmp_path):
    shape = (40, 80, 160)
    make_prediction(tmp_path / "p.zarr", shape)
    point = on_sheet(2, 40, 20)
    seed(Volume.open(tmp_path / "p.zarr"), tmp_path / "paths", small_params(), points=[point])
    shutil.rmtree(tmp_path / "p.zarr")
    VolumeWriter.create(tmp_path / "p.zarr", shape, np.uint8, VOXEL_SIZE_UM).finish("max")
    with pytest.raises(SeedError, match="off the prediction"):
        seed(Volume.open(tmp_path / "p.zarr"), tmp_path / "paths", small_params(), points=[point])


def test_seed__progress_counts_seeds(sheet_volume, tmp_path):
    calls = []
    seed(
        *(sheet_volume, tmp_path / "paths", small_params()),
        points=MIXED,
        progress=lambda *call: calls.append(call),
    )
    assert [call[:2] for call in calls] == [(i, 4) for i in (1, 2, 3, 4)]
    assert calls[-1][2] == "3 patches"


def test_sheet_offsets__are_zero_on_the_sheets():
    for number in range(3):
        assert sheet_offsets(on_sheet(number, 33, 77))[number] == pytest.approx(0.0, abs=1e-9)


def test_seed__finds_the_clean_part_of_a_ragged_sheet(shared_data):
    """Around this seed three vertices of the first quad are clean and one is not."""
    volume = Volume.open(shared_data / "vc3d" / "volume" / "pred.zarr")
    field = open_field(volume.path, small_params(), volume.identity)[1]
    params = small_params(step_size=20.0)
    patch = grow_patch(field, np.array([321.0, 153.0, 385.0]), params)
    assert np.linalg.norm(patch.start_xyz - (321.0, 154.5, 385.0)) < 12.0
    assert (patch.state > 0).sum() > 60  # after eight generations


def test_seed__a_patch_too_small_is_grown_again_from_another_start(sheet_volume):
    field = open_field(sheet_volume.path, small_params(), sheet_volume.identity)[1]
    limits = small_params().limits()
    taken = []
    starts = find_starts(field, np.array(on_sheet(1, 70, 64)), small_params(), limits, taken)
    points = []
    for grid, start in itertools.islice(starts, 3):
        points.append(start.origin_xyz)
        taken.append(grid.patch.points[grid.patch.state > 0])
    apart = np.linalg.norm(np.array(points)[:, None] - points, axis=-1)
    assert len(points) == 3
    assert apart[np.triu_indices(3, 1)].min() > 4.0
