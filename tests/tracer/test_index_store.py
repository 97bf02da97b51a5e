import json
import os
from pathlib import Path

import numpy as np
import pytest
from strategies import wavy_surface

from tracer import index_file, index_store
from tracer.collection import PatchCollection
from tracer.index_segment import PatchGrid, build_segment
from tracer.spatial_index import SpatialIndex

N = 40


def surface_at(k, **options):
    return wavy_surface(
        4, 5, origin=(100 + 30.0 * (k % 7), 100 + 3.0 * (k % 5), 50), seed=k, **options
    )


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for k in range(N):
        surface_at(k).save(tmp_path / "paths" / f"p{k:03d}")
    return tmp_path / "paths"


def truth(paths):
    collection = PatchCollection.open(paths)
    return SpatialIndex.from_surfaces({n: collection.load(n) for n in collection.names()})


def assert_right(index, paths):
    expected = truth(paths)
    assert index.names == expected.names
    points = np.random.default_rng(0).uniform((90, 90, 45), (320, 125, 120), (400, 3))
    a, b = index.query(points), expected.query(points)
    assert len(b) > 300
    for field in ("offsets", "patch_index", "rows", "cols", "distances"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def stored(paths):
    return json.loads((paths / ".tracer-index" / "manifest.json").read_text())["segments"]


def segment_files(paths):
    return sorted((paths / ".tracer-index").glob("*.segment"))


def count_reads(monkeypatch):
    reads = []
    read = index_store.read_patch_points
    monkeypatch.setattr(
        index_store, "read_patch_points", lambda p: (reads.append(p.name), read(p))[1]
    )
    return reads


def test_open_index__is_written_once_and_mapped_afterwards(paths, monkeypatch):
    reads = count_reads(monkeypatch)
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(reads) == N
    assert [len(stored(paths)), len(segment_files(paths))] == [1, 1]
    again = PatchCollection.open(paths).index()
    assert len(reads) == N
    assert_right(again, paths)
    (segment, _), *others = again.segments
    assert not others
    assert Path(segment.file) == segment_files(paths)[0]
    assert not any(array.flags.writeable for array in segment.view)
    assert PatchCollection.open(paths).names() == [f"p{k:03d}" for k in range(N)]


def test_open_index__keeps_few_patches_in_memory(paths, monkeypatch):
    PatchCollection.open(paths).index()
    reads = count_reads(monkeypatch)
    collection = PatchCollection.open(paths)
    for k in range(N, N + index_store.FLUSH_FROM_PATCHES - 1):
        surface_at(k).save(paths / f"p{k:03d}")
        assert len(collection.index(recheck=False)) == k + 1
    assert len(reads) == index_store.FLUSH_FROM_PATCHES - 1
    assert len(stored(paths)) == 1
    assert len(collection.index().segments) <= 7
    assert_right(collection.index(), paths)
    surface_at(99).save(paths / "p999")
    assert_right(collection.index(), paths)
    assert len(reads) == index_store.FLUSH_FROM_PATCHES  # those in memory are not read again
    assert sum(len(s.names) for s, _ in collection.index().segments) == N + 32
    assert len(collection.index().segments) == len(stored(paths)) == len(segment_files(paths)) == 1


def test_open_index__appends_to_a_large_segment_and_merges_equal_ones(paths):
    for k in range(N, 200):
        surface_at(k).save(paths / f"p{k:03d}")
    PatchCollection.open(paths).index()
    for k in range(200, 240):
        surface_at(k).save(paths / f"p{k:03d}")
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(stored(paths)) == 2
    for k in range(240, 275):
        surface_at(k).save(paths / f"p{k:03d}")
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(stored(paths)) == len(segment_files(paths)) == 2


def test_open_index__drops_dead_patches_when_it_writes(paths):
    PatchCollection.open(paths).index()
    for k in range(35):
        surface_at(k + 100).save(paths / f"p{k:03d}", overwrite=True)
    assert_right(PatchCollection.open(paths).index(), paths)
    segments = PatchCollection.open(paths).index().segments
    assert sum(len(s.names) for s, _ in segments) == N


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "empty",
        "other bytes",
        "removed",
        "manifest removed",
        "manifest junk",
        "version",
    ],
)
def test_open_index__rebuilds_what_is_damaged(paths, damage, monkeypatch):
    PatchCollection.open(paths).index()
    (file,), manifest = segment_files(paths), paths / ".tracer-index" / "manifest.json"
    data = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "other bytes":
        file.write_bytes(data[:5000] + bytes(1000) + data[6000:])
    elif damage == "removed":
        file.unlink()
    elif damage == "manifest removed":
        manifest.unlink()
    elif damage == "manifest junk":
        manifest.write_text('{"segments": [3')
    else:
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 0'))
    reads = count_reads(monkeypatch)
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(reads) == N
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(reads) == N
    assert len(segment_files(paths)) == 1


def test_open_index__trusts_an_untouched_copy_of_the_same_bytes(paths, monkeypatch):
    PatchCollection.open(paths).index()
    (file,) = segment_files(paths)
    os.utime(file, ns=(0, 0))
    reads = count_reads(monkeypatch)
    assert_right(PatchCollection.open(paths).index(), paths)
    assert reads == []


def test_open_index__survives_segments_that_vanish_while_it_reads(paths, monkeypatch):
    """Another process merges between our reading of the manifest and of the segment."""
    collection = PatchCollection.open(paths)
    collection.index()
    real, calls = index_store._read_manifest, []

    def outdated(store):
        calls.append(store)
        entries = list(real(store))
        return [{**e, "file": "gone.segment"} for e in entries] if len(calls) == 1 else entries

    monkeypatch.setattr(index_store, "_read_manifest", outdated)
    reads = count_reads(monkeypatch)
    assert_right(PatchCollection.open(paths).index(), paths)
    assert reads == []
    assert len(calls) >= 2


def test_open_index__sweeps_what_killed_writers_left(paths):
    store = paths / ".tracer-index"
    store.mkdir()
    (store / "old.segment").write_bytes(b"junk")
    (store / ".x.segment.1-2.tmp").write_bytes(b"junk")
    PatchCollection.open(paths).index()
    assert sorted(p.suffix for p in store.iterdir() if p.name != "lock") == [".json", ".segment"]


def test_open_index__goes_to_the_user_cache_and_then_to_memory(paths, tmp_path, monkeypatch):
    (paths / ".tracer-index").write_text("in the way")  # like a read-only collection
    reads = count_reads(monkeypatch)
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(list((tmp_path / "cache").rglob("*.segment"))) == 1
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(reads) == N
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_right(PatchCollection.open(paths).index(), paths)
    assert len(reads) == 2 * N


def test_open_index__writes_nothing_into_a_collection_without_write_permission(paths, tmp_path):
    """Root may write anywhere; a query must not."""
    before = sorted(p.name for p in paths.iterdir())
    paths.chmod(0o555)
    try:
        assert_right(PatchCollection.open(paths).index(), paths)
        assert sorted(p.name for p in paths.iterdir()) == before
    finally:
        paths.chmod(0o755)
    assert len(list((tmp_path / "cache").rglob("*.segment"))) == 1


def test_open_index__remembers_unreadable_patches_and_warns_each_time(paths, monkeypatch):
    for k in range(3):
        (paths / f"p00{k}" / "x.tif").write_bytes(b"")
    reads = count_reads(monkeypatch)
    for _ in range(2):
        with pytest.warns(UserWarning, match="3 patches cannot be read"):
            index = PatchCollection.open(paths).index()
        assert len(index) == N
    assert len(reads) == N
    surface_at(0).save(paths / "p000", overwrite=True)
    with pytest.warns(UserWarning, match="2 patches cannot be read"):
        assert PatchCollection.open(paths).index().patches_near(surface_at(0).points_xyz[:2, 0])


def test_segment_file__round_trip_with_empty_arrays(tmp_path):
    empty = PatchGrid(name="e", fingerprint="f", points_xyz=np.empty((0, 1, 3), np.float32))
    for grids in ([empty], [empty, PatchGrid.of_surface("w", wavy_surface()), empty]):
        segment = build_segment(grids, {"e": "why"})
        mapped = index_file.write_segment(tmp_path, segment)
        assert (mapped.names, mapped.fingerprints) == (segment.names, segment.fingerprints)
        assert (mapped.levels, mapped.problems) == (segment.levels, {"e": "why"})
        for a, b in zip(mapped.view, segment.view, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(mapped.boxes, segment.boxes)


def test_read_segment__refuses_every_truncation(tmp_path):
    segment = build_segment([PatchGrid.of_surface("w", wavy_surface())])
    path = Path(index_file.write_segment(tmp_path, segment).file)
    data = path.read_bytes()
    for length in [*range(0, 600, 31), len(data) - 1]:
        path.write_bytes(data[:length])
        assert index_file.read_segment(path) is None
    path.write_bytes(data)
    assert index_file.read_segment(path) is not None
