"""The expand stage: determinism over several rounds, overlaps, targets and reasons to stop."""

import itertools
import json
import shutil

import numpy as np
import pytest
from sheet_volume import contents_by_seed, on_sheet, sheet_of, small_params

from tracer import collection as collection_module
from tracer import expand as expand_module
from tracer.collection import PatchCollection
from tracer.errors import CollectionError, NothingFoundError, TracerWarning
from tracer.expand import ExpandLimits, expand
from tracer.seed import seed

FIRST = (on_sheet(1, 40, 40), on_sheet(2, 120, 90))


@pytest.fixture(scope="module")
def two_patches(sheet_volume, tmp_path_factory):
    """A collection of two seeds."""
    paths = tmp_path_factory.mktemp("two") / "paths"
    seed(sheet_volume, paths, small_params(), points=FIRST)
    return paths


@pytest.fixture
def paths(two_patches, tmp_path):
    return shutil.copytree(two_patches, tmp_path / "paths")


def recorded_overlaps(paths):
    """Return the overlaps as they are written with each patch, by seed number and item."""
    collection = PatchCollection(paths)
    keys = {name: _key(collection.load(name)) for name in collection.names()}
    overlaps = {}
    for name in collection.names():
        file = paths / name / "overlapping.json"
        others = json.loads(file.read_text())["overlapping"] if file.exists() else []
        overlaps[keys[name]] = {keys[other] for other in others}
    return overlaps


def _key(surface):
    return surface.meta["source"], surface.meta["item"]


def expanded_contents(paths, before):
    for name in before:
        shutil.rmtree(paths / name)
    return contents_by_seed(paths)


@pytest.mark.slow
def test_expand__workers_and_runs_give_the_same_patches_and_overlaps(
    sheet_volume, two_patches, tmp_path
):
    found = []
    before = PatchCollection(two_patches).names()
    for run, workers in enumerate((1, 2, 1)):
        copy = shutil.copytree(two_patches, tmp_path / f"{run}")
        result = expand(
            *(sheet_volume, copy, small_params(), ExpandLimits(count=8)),
            workers=workers,
            round_size=3,
        )
        assert len(result.names) == len(set(result.names)) == 8
        assert len(result.coverages) >= 3
        overlaps = recorded_overlaps(copy)
        assert len(overlaps) == 10
        contents = expanded_contents(copy, before)
        assert len(contents) == 8
        found.append((contents, overlaps, result.coverages, result.refused))
    assert found[0] == found[1] == found[2]


def test_expand__another_rng_seed_gives_other_patches(sheet_volume, two_patches, tmp_path):
    seeds = []
    for rng_seed in (7, 8):
        copy = shutil.copytree(two_patches, tmp_path / f"{rng_seed}")
        params = small_params(rng_seed=rng_seed)
        result = expand(sheet_volume, copy, params, ExpandLimits(count=2), round_size=2)
        assert result.rng_seed == rng_seed
        seeds.append([PatchCollection(copy).load(name).meta["seed"] for name in result.names])
    assert seeds[0] != seeds[1]


@pytest.mark.slow
def test_expand__patches_stay_on_one_sheet_and_know_all_their_neighbours(sheet_volume, paths):
    result = expand(sheet_volume, paths, small_params(), ExpandLimits(count=12))
    collection = PatchCollection(paths)
    surfaces = {name: collection.load(name) for name in collection.names()}
    sheets = {name: sheet_of(surface) for name, surface in surfaces.items()}
    assert len(surfaces) == 14
    for name in result.names:
        meta = surfaces[name].meta
        assert (meta["source"], meta["vc_gsfs_mode"]) == ("tracer expand", "expansion")
    graph = {
        name: set(json.loads((paths / name / "overlapping.json").read_text())["overlapping"])
        for name in surfaces
    }
    pairs = list(itertools.combinations(surfaces, 2))
    touching = {pair for pair in pairs if _distance(*(surfaces[name] for name in pair)) <= 2.0}
    assert len(touching) > 8
    for a, b in pairs:
        assert (b in graph[a]) == (a in graph[b]) == ((a, b) in touching)
        if sheets[a] != sheets[b]:
            assert b not in graph[a]


def _distance(a, b):
    """Return the smallest distance between a sample of one surface and samples of the other."""
    from scipy.spatial import cKDTree

    dense = [_samples(surface) for surface in (a, b)]
    return cKDTree(dense[0]).query(dense[1])[0].min()


def _samples(surface, per_edge=8):
    """Return points less than a voxel apart on the valid quads."""
    rows, cols = np.nonzero(surface.valid_quads)
    p = surface.points_xyz.astype(float)
    t = np.linspace(0.0, 1.0, per_edge + 1)
    u, v = (w.ravel()[:, None, None] for w in np.meshgrid(t, t))
    top = p[rows, cols] * (1 - u) + p[rows, cols + 1] * u
    bottom = p[rows + 1, cols] * (1 - u) + p[rows + 1, cols + 1] * u
    return (top * (1 - v) + bottom * v).reshape(-1, 3)


def test_expand__connects_patches_that_an_interrupted_run_left_alone(sheet_volume, paths):
    near = tuple(np.add(on_sheet(1, 46, 44), (0.0, 0.0, 0.0)))
    seed(sheet_volume, paths, small_params(), points=[near])
    assert not list(paths.glob("*/overlapping.json"))
    expand(sheet_volume, paths, small_params(), ExpandLimits(count=1), round_size=1)
    overlaps = recorded_overlaps(paths)
    old = [key for key in overlaps if key[0] == "tracer seed"]
    assert len(old) == 2  # two of the three are item 0
    collection = PatchCollection(paths)
    first, _, third = collection.names()[:3]
    assert third in collection.overlap_graph()[first]


def test_expand__completes_what_a_run_was_recording_when_it_was_killed(
    sheet_volume, paths, monkeypatch
):
    merge_overlaps = collection_module._merge_overlaps
    calls = []

    def dying(directory, names):
        if len(calls) == 7:  # the two seeds and, of a round of six, the two and three patches
            raise KeyboardInterrupt
        calls.append(directory)
        merge_overlaps(directory, names)

    with monkeypatch.context() as patched:
        patched.setattr(collection_module, "_merge_overlaps", dying)
        with pytest.raises(KeyboardInterrupt):
            expand(sheet_volume, paths, small_params(), ExpandLimits(count=6))
    assert len(PatchCollection(paths)) == 8
    expand(sheet_volume, paths, small_params(rng_seed=8), ExpandLimits(count=1))
    collection = PatchCollection(paths)
    for name in collection.names():
        exact = collection.index().overlapping(collection.load(name), exclude=[name])
        assert collection.overlaps(name) == sorted(exact)


def test_expand__grows_into_given_targets_first(sheet_volume, paths):
    targets = [on_sheet(0, 100, 100), on_sheet(0, 40, 100), on_sheet(0, 80, 40)]
    result = expand(
        *(sheet_volume, paths, small_params(), ExpandLimits(count=4)), into=targets, round_size=2
    )
    collection = PatchCollection(paths)
    seeds = [tuple(collection.load(name).meta["seed"]) for name in result.names]
    assert seeds[:3] == targets
    assert seeds[3] not in targets


def test_expand__stops_at_the_count_even_within_a_round(sheet_volume, paths):
    result = expand(sheet_volume, paths, small_params(), ExpandLimits(count=1))
    assert (len(result.names), result.stopped_by) == (1, "count")
    assert "stopped by count" in result.summary()
    assert len(PatchCollection(paths)) == 3


def test_expand__stops_when_time_is_up(sheet_volume, paths):
    result = expand(sheet_volume, paths, small_params(), ExpandLimits(time_s=0.0), round_size=1)
    assert result.stopped_by == "time"
    assert len(result.coverages) == 1


def test_expand__stops_at_a_coverage(sheet_volume, paths):
    calls = []
    result = expand(
        *(sheet_volume, paths, small_params(), ExpandLimits(coverage=0.5)),
        round_size=2,
        progress=lambda *call: calls.append(call),
    )
    assert result.stopped_by == "coverage"
    assert result.coverages == sorted(result.coverages)
    assert result.coverages[-2] < 0.5 <= result.coverages[-1] == result.coverage
    assert sum(result.coverage_by_region.values()) > 0.0
    shares = [done / total for done, total, _ in calls]
    assert shares[-1] == 1.0
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert f"coverage {result.coverage:.3f} of the prediction" in result.summary()


@pytest.mark.slow
def test_expand__a_coverage_out_of_reach_ends_when_it_no_longer_grows(sheet_volume, paths):
    params = small_params(generations=20)
    result = expand(sheet_volume, paths, params, ExpandLimits(coverage=1.0), round_size=8)
    assert result.stopped_by == "coverage that no longer grows"
    assert 0.7 < result.coverage < 1.0
    gain = np.diff(result.coverages)
    assert gain[-4:].sum() < 0.004 <= gain[-5:-1].sum()


def test_expand__does_nothing_where_the_coverage_is_reached_already(sheet_volume, paths):
    result = expand(sheet_volume, paths, small_params(), ExpandLimits(coverage=0.05))
    assert (result.names, result.coverages, result.stopped_by) == ([], [], "coverage")
    assert result.coverage > 0.05
    assert f"coverage {result.coverage:.3f}" in result.summary()
    target = on_sheet(0, 80, 40)
    limits = ExpandLimits(coverage=0.05)
    result = expand(sheet_volume, paths, small_params(), limits, into=[target])
    assert len(result.names) == 1  # what was asked for by name is grown nevertheless


def test_expand__when_nothing_is_large_enough_is_an_error(sheet_volume, paths):
    params = small_params(min_area_cm=1.0)
    with pytest.raises(NothingFoundError, match=r"no patch was saved: 0 patches") as error:
        expand(sheet_volume, paths, params, ExpandLimits(count=5), round_size=2)
    assert "stopped by 8 rounds in a row without a new patch" in str(error.value)
    assert "not saved: 16 too small" in str(error.value)
    assert str(error.value).endswith("lower min_area_cm, which is 1, or grow more generations")
    assert "\n" not in str(error.value)
    assert len(PatchCollection(paths)) == 2


def test_expand__stops_when_every_point_is_on_enough_patches(sheet_volume, paths, monkeypatch):
    # Only vertices of patches are drawn, and each of them is on a patch already.
    monkeypatch.setattr(expand_module, "_UNCOVERED_SHARE", 0.0)
    params = small_params(tgt_overlap_count=1)
    result = expand(sheet_volume, paths, params, ExpandLimits(count=5), round_size=2)
    assert result.stopped_by.startswith("saturation")
    assert result.names == []


def test_expand__no_point_is_on_many_more_patches_than_asked_for(sheet_volume, paths):
    params = small_params(tgt_overlap_count=2)
    expand(sheet_volume, paths, params, ExpandLimits(count=12), round_size=1)
    collection = PatchCollection(paths)
    index = collection.index()
    for name in collection.names()[2:]:
        surface = collection.load(name)
        earlier = [n for n in collection.names() if n < name]
        near = index.patches_near(np.array([surface.meta["seed"]]))
        assert len(set(near) & set(earlier)) < 2


def test_expand__leaves_unusable_patches_alone(sheet_volume, paths):
    damaged, whole = PatchCollection(paths).names()
    (paths / damaged / "x.tif").write_bytes(b"no tif")
    with pytest.warns(TracerWarning, match="x.tif"):
        result = expand(sheet_volume, paths, small_params(), ExpandLimits(count=3))
    assert len(result.names) == 3
    assert damaged not in PatchCollection(paths).overlaps(whole)


def test_expand__a_patch_that_is_masked_out_altogether_offers_no_targets(sheet_volume, paths):
    collection = PatchCollection(paths)
    for name in collection.names()[:1]:
        _mask_everything(paths / name, collection.load(name).shape)
    result = expand(sheet_volume, paths, small_params(), ExpandLimits(count=6), round_size=3)
    assert len(result.names) == 6


def _mask_everything(directory, shape):
    from tracer.tif import write_tif

    write_tif(directory / "mask.tif", np.zeros(shape, np.uint8))


def test_expand__without_patches_is_an_error(sheet_volume, tmp_path):
    with pytest.raises(CollectionError, match="no such directory"):
        expand(sheet_volume, tmp_path / "none", small_params(), ExpandLimits(count=1))
    with pytest.raises(NothingFoundError, match="no patch to expand; run tracer seed first"):
        expand(sheet_volume, tmp_path, small_params(), ExpandLimits(count=1))
    assert list(tmp_path.iterdir()) == []
