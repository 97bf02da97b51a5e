import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from asserts import assert_same_surface
from strategies import wavy_surface

from tracer import collection as collection_module
from tracer.collection import PatchCollection, locate_patch
from tracer.errors import CollectionError, OutputError, SurfaceError, TracerWarning


@pytest.fixture
def collection(tmp_path):
    paths = tmp_path / "paths"
    for k, name in enumerate("cab"):
        wavy_surface(4, 5, seed=k).save(paths / name)
    return PatchCollection.open(paths)


def test_open__refuses_what_is_no_collection(tmp_path, collection):
    with pytest.raises(CollectionError, match="no such directory"):
        PatchCollection.open(tmp_path / "none")
    with pytest.raises(CollectionError, match="is a surface"):
        PatchCollection.open(collection.path / "a")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot create"):
        PatchCollection.open(tmp_path / "file" / "paths", create=True)
    created = PatchCollection.open(tmp_path / "new" / "paths", create=True)
    assert created.names() == []
    assert len(created.index()) == 0
    assert list(created.path.iterdir()) == []


def test_names__are_sorted_and_only_of_finished_patches(collection):
    (collection.path / "unfinished").mkdir()
    (collection.path / ".b.123.tmp").mkdir()
    (collection.path / ".b.123.tmp" / "meta.json").write_text("{}")
    (collection.path / "file").write_text("x")
    assert collection.names() == ["a", "b", "c"]
    assert len(collection) == 3
    assert "a" in collection
    for other in ("unfinished", ".b.123.tmp", "none", "", "../paths/a", 7):
        assert other not in collection
    with pytest.raises(CollectionError, match="no finished patch 'unfinished'"):
        collection.load("unfinished")
    assert_same_surface(collection.load("a"), wavy_surface(4, 5, seed=1))


def test_names__follow_the_directory(collection):
    name = collection.add(wavy_surface(), prefix="hand_made")
    assert name.startswith("hand_made_")
    assert collection.names() == ["a", "b", "c", name]
    shutil.rmtree(collection.path / "b")
    assert collection.names() == ["a", "c", name]


def test_add_overlaps__records_both_directions_once(collection):
    assert collection.add_overlaps("a", ["c", "b", "a", "gone", "c"]) == ["b", "c"]
    assert collection.overlaps("a") == ["b", "c"]
    assert collection.overlaps("b") == collection.overlaps("c") == ["a"]
    collection.add_overlaps("c", ["b"])
    assert collection.overlaps("c") == ["a", "b"]
    stored = json.loads((collection.path / "c" / "overlapping.json").read_text())
    assert stored == {"overlapping": ["a", "b"]}
    before = (collection.path / "a" / "overlapping.json").stat().st_mtime_ns
    collection.add_overlaps("a", ["b"])
    assert (collection.path / "a" / "overlapping.json").stat().st_mtime_ns == before
    with pytest.raises(CollectionError, match="no finished patch 'gone'"):
        collection.add_overlaps("gone", ["a"])


def test_connect__equals_one_patch_after_another_with_every_file_written_once(
    collection, tmp_path, monkeypatch
):
    neighbours = {"b": ["a", "c", "gone"], "c": ["a", "b"]}
    shutil.copytree(collection.path, tmp_path / "one_by_one")
    single = PatchCollection(tmp_path / "one_by_one")
    for name, others in neighbours.items():
        single.add_overlaps(name, others)
    written = []
    merge = collection_module._merge_overlaps
    monkeypatch.setattr(
        collection_module,
        "_merge_overlaps",
        lambda directory, names: written.append(directory.name) or merge(directory, names),
    )
    assert collection.connect(neighbours) == {"b": ["a", "c"], "c": ["a", "b"]}
    assert written == ["a", "b", "c"]  # the patches themselves last
    assert collection.overlap_graph() == single.overlap_graph()
    with pytest.raises(CollectionError, match="no finished patch 'gone'"):
        collection.connect({"a": ["b"], "gone": ["a"]})
    assert collection.connect({}) == {}


def test_overlaps__reads_old_directories_and_keeps_foreign_keys(collection):
    old = collection.path / "a" / "overlapping"
    old.mkdir()
    (old / "b").write_text("")
    (old / "c").mkdir()
    (collection.path / "a" / "overlapping.json").write_text('{"overlapping": ["x"], "other": 1}')
    assert collection.overlaps("a") == ["b", "c", "x"]
    collection.add_overlaps("a", ["c"])
    stored = json.loads((collection.path / "a" / "overlapping.json").read_text())
    assert stored == {"overlapping": ["c", "x"], "other": 1}
    assert collection.overlap_graph() == {"a": ["b", "c"], "b": ["a"], "c": ["a"]}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"overlapping": 3}', '{"overlapping": [1]}'])
def test_overlaps__takes_a_damaged_file_as_empty_and_says_so(collection, content):
    (collection.path / "a" / "overlapping.json").write_text(content)
    with pytest.warns(TracerWarning, match="damaged, taken as empty"):
        assert collection.overlaps("a") == []
    with pytest.warns(TracerWarning, match="damaged"):
        collection.add_overlaps("a", ["b"])
    assert collection.overlaps("a") == ["b"]


def test_overlap_graph__reads_vc3d_collections(shared_data):
    collection = PatchCollection.open(shared_data / "vc3d" / "patches_expanded")
    graph = collection.overlap_graph()
    assert len(graph) == len(collection) == 248
    assert 3000 < sum(map(len, graph.values())) < 6000
    assert all(a in graph[b] for a, others in graph.items() for b in others)


def test_tags__are_set_listed_and_removed(collection):
    collection.set_tag("a", "approved", {"user": "me", "date": "2026-01-01"})
    collection.set_tag("a", "reviewed")
    collection.set_tag("b", "approved")
    assert collection.tags("a") == {
        "approved": {"user": "me", "date": "2026-01-01"},
        "reviewed": {},
    }
    assert collection.tagged("approved") == ["a", "b"]
    assert collection.remove_tag("a", "approved") is True
    assert collection.remove_tag("a", "approved") is False
    assert collection.tags("a") == {"reviewed": {}}
    assert collection.tags("c") == {}
    with pytest.raises(CollectionError, match="unknown tag 'good'; choose one of approved"):
        collection.set_tag("a", "good")


def test_set_tag__changes_nothing_else(collection):
    path = collection.path / "a" / "meta.json"
    before = json.loads(path.read_text())
    grid = (collection.path / "a" / "x.tif").read_bytes()
    collection.set_tag("a", "revisit")
    after = json.loads(path.read_text())
    assert after.pop("tags") == {"revisit": {}}
    assert after == before
    assert (collection.path / "a" / "x.tif").read_bytes() == grid


def test_locate_patch__finds_the_collection_of_a_segment(collection):
    found, name = locate_patch(collection.path / "b")
    assert (found.path, name) == (collection.path, "b")
    with pytest.raises(SurfaceError, match="no such surface"):
        locate_patch(collection.path / "none")


def test_index__follows_new_changed_masked_and_vanished_patches(collection):
    inside = wavy_surface(4, 5, seed=1).points_xyz[1, 1].astype(float)
    assert collection.index().patches_near([inside]) == ["a", "b", "c"]
    assert collection.index() is collection.index()
    mask = np.full((4, 5), 255, np.uint8)
    mask[:3, :3] = 0
    tifffile.imwrite(collection.path / "a" / "mask.tif", mask)
    assert collection.index(recheck=False).patches_near([inside]) == ["a", "b", "c"]
    assert collection.index().patches_near([inside]) == ["b", "c"]
    (collection.path / "a" / "mask.tif").unlink()
    name = collection.add(wavy_surface(4, 5))
    shutil.rmtree(collection.path / "b")
    assert collection.index(recheck=False).patches_near([inside]) == [name, "c"]
    assert collection.index().patches_near([inside]) == ["a", name, "c"]
    collection.load("c").save(collection.path / "d")
    moved = wavy_surface(4, 5, origin=(5000.0, 200.0, 300.0))
    moved.save(collection.path / "c", overwrite=True)
    assert collection.index().patches_near([inside]) == ["a", name, "d"]


def test_index__leaves_out_unreadable_patches_and_says_so(collection):
    (collection.path / "b" / "y.tif").write_bytes(b"II*\0")
    with pytest.warns(TracerWarning, match=r"1 patches cannot be read.*b/y\.tif"):
        index = collection.index()
    inside = wavy_surface(4, 5, seed=1).points_xyz[1, 1].astype(float)
    assert index.patches_near([inside]) == ["a", "c"]


def test_index__warns_of_absurd_coordinates(collection):
    x = tifffile.imread(collection.path / "a" / "x.tif")
    x[0, 0] = 1e12
    tifffile.imwrite(collection.path / "a" / "x.tif", x)
    with pytest.warns(TracerWarning, match="1 quads have absurd coordinates"):
        collection.index()


def test_index__agrees_with_the_overlaps_that_vc3d_found_by_search(
    shared_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    collection = PatchCollection.open(shared_data / "vc3d" / "patches_expanded")
    index = collection.index()
    assert len(index) == 248
    recorded = confirmed = found = 0
    for name in collection.names()[::40]:
        surface = collection.load(name)
        ours = set(index.overlapping(surface, exclude=[name]))
        theirs = set(collection.overlaps(name))
        recorded, found = recorded + len(theirs), found + len(ours)
        confirmed += len(ours & theirs)
        rows, cols = np.mgrid[0 : surface.shape[0] - 1 : 0.25, 0 : surface.shape[1] - 1 : 0.25]
        points, valid = surface.sample(rows, cols)
        near = index.patches_near(points[valid], 2.0)
        assert not (theirs - ours) & set(near)  # what we do not find is not there
    assert confirmed > 0.9 * recorded > 100
    assert found > 1.1 * confirmed  # ten random points miss some


def test_module__opens_and_adds_without_loading_the_index():
    code = (
        "import sys\nfrom tracer.collection import PatchCollection\n"
        "PatchCollection.open('.')\n"
        "print([m for m in 'numba scipy tifffile filelock pydantic'.split() if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
