"""Collections and their index survive concurrent writers, kill -9, full disks and no permission."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from permissions import without_permission
from strategies import wavy_surface

from tracer.collection import PatchCollection
from tracer.errors import OutputError, TracerError

TESTS = Path(__file__).resolve().parents[1]
PRELUDE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from strategies import wavy_surface
from tracer import atomic, collection, index_store
from tracer.collection import PatchCollection
paths = PatchCollection.open(sys.argv[2])
"""
ADD_OVERLAPS = """
for k in range(40):
    paths.add_overlaps("hub", [f"{sys.argv[3]}{k:02d}"])
"""
GROW = """
for k in range(25):
    name = paths.add(wavy_surface(4, 5, seed=k))
    index = paths.index()
    assert name in index, name
    paths.add_overlaps(name, index.overlapping(paths.load(name), exclude=[name]))
"""
DIE_IN_OVERLAPS = """
calls = 0
write = collection.write_json
def dying(path, value):
    global calls
    if calls == int(sys.argv[3]):
        path.with_name(f".{path.name}.1-2.tmp").write_text('{"overl')
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    write(path, value)
collection.write_json = dying
paths.add_overlaps("hub", ["a00", "a01", "a02"])
"""
DIE_IN_INDEX = """
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "segment":
    index_store.write_segment = die
elif sys.argv[3] == "manifest":
    index_store.write_json = die
else:
    index_store._sweep = lambda store, used: used and die()
paths.index()
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(TESTS), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A collection of a hub and 80 others; copied, not saved, because a copy is quicker."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "paths"
    first = wavy_surface(4, 5).save(folder / "hub")
    for letter in "ab":
        for k in range(40):
            shutil.copytree(first, folder / f"{letter}{k:02d}")
    return folder


@pytest.mark.slow
def test_add_overlaps__two_processes_at_once_lose_nothing(paths):
    processes = [start(ADD_OVERLAPS, paths, letter) for letter in "ab"]
    assert [finish(process) for process in processes] == [(0, "")] * 2
    collection = PatchCollection.open(paths)
    others = [name for name in collection.names() if name != "hub"]
    assert len(others) == 80
    assert collection.overlaps("hub") == others
    assert all(collection.overlaps(name) == ["hub"] for name in others)


@pytest.mark.slow
def test_index__two_processes_that_grow_see_each_other(paths):
    processes = [start(GROW, paths) for _ in range(2)]
    assert [finish(process) for process in processes] == [(0, "")] * 2
    collection = PatchCollection.open(paths)
    assert len(collection.index()) == len(collection) == 131
    graph = collection.overlap_graph()
    grown = [name for name in graph if name.startswith("auto_grown")]
    assert len(grown) == 50
    assert all(set(graph[name]) == graph.keys() - {name} for name in grown)
    manifest = json.loads((paths / ".tracer-index" / "manifest.json").read_text())
    files = sorted(p.name for p in (paths / ".tracer-index").glob("*.segment"))
    assert sorted(entry["file"] for entry in manifest["segments"]) == files


@pytest.mark.slow
def test_add_overlaps__killed_at_any_step_leaves_a_readable_collection(paths):
    for step in range(5):
        code, _ = finish(start(DIE_IN_OVERLAPS, paths, step))
        assert code == (-signal.SIGKILL if step < 4 else 0)
        collection = PatchCollection.open(paths)
        graph = collection.overlap_graph()
        assert set(graph["hub"]) == {f"a{k:02d}" for k in range(min(step, 3))}
        assert len(collection) == 81
        for name in ("hub", "a00", "a01", "a02"):
            (paths / name / "overlapping.json").unlink(missing_ok=True)
    collection.add_overlaps("hub", ["b00"])  # no lock is left behind
    assert collection.overlaps("b00") == ["hub"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["segment", "manifest", "sweep"])
def test_index__killed_while_writing_is_built_again(paths, step):
    code, _ = finish(start(DIE_IN_INDEX, paths, step))
    assert code == -signal.SIGKILL
    collection = PatchCollection.open(paths)
    assert len(collection.index()) == 81
    inside = wavy_surface(4, 5).points_xyz[1, 1].astype(float)
    assert collection.index().patches_near([inside]) == collection.names()
    store = paths / ".tracer-index"
    assert len(list(store.glob("*.segment"))) == 1
    assert not list(store.glob(".*.tmp"))


def test_index__on_a_full_disk_stays_in_memory(paths):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        collection = PatchCollection.open(paths)
        assert len(collection.index()) == 81
        many = [f"{letter}{k:02d}" for letter in "ab" for k in range(40)]
        recorded = collection.add_overlaps("hub", many[:3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        with pytest.raises(OutputError, match="cannot write"):
            collection.add_overlaps("hub", many)
        with pytest.raises(OutputError, match="cannot write"):
            collection.set_tag("hub", "approved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert collection.overlaps("hub") == recorded == many[:3]
    assert collection.tags("hub") == {}
    assert not list(paths.rglob("*.segment"))
    assert not list(paths.rglob("*.tmp"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_collection__that_is_read_only_still_answers(paths, tmp_path):
    inside = wavy_surface(4, 5).points_xyz[1, 1].astype(float)
    collection = PatchCollection.open(paths)
    expected = collection.index().patches_near([inside])  # compiled, and every module is loaded
    shutil.rmtree(paths / ".tracer-index")
    collection.set_tag("hub", "approved")
    (paths / ".tracer-lock").unlink()

    def use():
        os.environ["XDG_CACHE_HOME"] = str(tmp_path / "not writable either")
        os.chdir(paths)
        fresh = PatchCollection(Path())
        near = fresh.index().patches_near([inside])
        failures = []
        for change in (
            lambda: fresh.add_overlaps("hub", ["a00"]),
            lambda: fresh.set_tag("hub", "reviewed"),
            lambda: fresh.add(wavy_surface(4, 5)),
        ):
            try:
                change()
            except TracerError as error:
                failures.append(type(error).__name__)
        return [near, failures, fresh.tags("hub")]

    modes = {p: p.stat().st_mode for p in [tmp_path, *list(tmp_path.parents)[:-2]]}
    try:
        for folder in modes:
            folder.chmod(0o755)
        paths.chmod(0o555)
        near, failures, tags = without_permission(use)
    finally:
        paths.chmod(0o755)
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert near == expected == collection.names()
    assert failures == ["OutputError"] * 3
    assert tags == {"approved": {}}
    assert not (paths / ".tracer-index").exists()
