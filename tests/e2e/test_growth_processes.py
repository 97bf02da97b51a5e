"""Seeding and expansion in real processes: killed, several at once, read-only, on a full disk."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from permissions import without_permission
from sheet_volume import contents_by_seed, make_ribbon, on_sheet, sheet_of, small_params

from tracer.collection import PatchCollection
from tracer.errors import TracerError
from tracer.expand import ExpandLimits, expand
from tracer.seed import seed
from tracer.volume import Volume

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"step_size": 8, "generations": 8, "min_area_cm": 0.0, "rng_seed": 7}
LIMIT_S = 120.0
POINT = on_sheet(1, 70, 64)
DIE_WHILE_SAVING = """
import os, signal, sys
from tracer import surface
from tracer.cli.main import main

calls = 0

def die_at(function):
    def called(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return called

surface.write_tif = die_at(surface.write_tif)
surface.write_json = die_at(surface.write_json)
surface.tifxyz.reserve_name = die_at(surface.tifxyz.reserve_name)
main(sys.argv[2:])
"""
CALLS_PER_PATCH = 8  # x, y, z, two channels, meta.json twice, the name

pytestmark = pytest.mark.slow


STARTED = []


@pytest.fixture(autouse=True)
def none_left_running():
    """Kill what a failed test has started: it would slow down all others."""
    yield
    while STARTED:
        process = STARTED.pop()
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.communicate()


def start(*words, code=None, **options):
    program = ["-m", "tracer.cli.main"] if code is None else ["-c", code]
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    STARTED.append(process)
    return process


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


def wait_until(condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def n_finished(paths):
    return len(list(paths.glob("[!.]*/meta.json")))


def assert_sound(paths):
    """Assert that everything that the collection lists is whole, and nothing else is there."""
    collection = PatchCollection.open(paths)
    for name in collection.names():
        surface = collection.load(name)
        sheet_of(surface)
        assert surface.meta["uuid"] == name
        assert sorted(surface.channels) == ["confidence", "generations"]
    unlisted = {path.name for path in paths.iterdir()} - set(collection.names())
    for name in unlisted:
        # an unfinished patch is hidden, or a reserved name without anything in it
        assert name.startswith(".") or not any((paths / name).iterdir())
    return collection


@pytest.fixture
def place(sheet_volume, tmp_path):
    """An own folder with a params file; the kernels are compiled and cached."""
    (tmp_path / "seed.json").write_text(json.dumps(SMALL))
    seed(sheet_volume, tmp_path / "compiled", small_params(), points=[POINT])
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
def test_seed__killed_in_the_middle_leaves_finished_patches_only(
    sheet_prediction, sheet_volume, place, workers
):
    paths = place / "paths"
    words = ("seed", sheet_prediction, paths, place / "seed.json")
    process = start(*words, "--count", 100_000, "--workers", workers)
    wait_until(lambda: n_finished(paths) >= 6 or process.poll() is not None)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= (0 if workers == 1 else 2)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=30.0)
    assert alive == [], "workers outlive their parent"
    assert 6 <= len(assert_sound(paths)) < 100_000

    killed = contents_by_seed(paths)
    seed(sheet_volume, place / "again", small_params(), count=6)
    again = contents_by_seed(place / "again")
    same = [item for item in again if item in killed]
    assert len(same) >= 4
    assert all(killed[item] == again[item] for item in same)


def test_seed__killed_at_any_step_of_saving_is_harmless(sheet_prediction, place):
    paths = place / "paths"
    words = ("seed", sheet_prediction, paths, place / "seed.json", "--count", 2)
    for step in (2, 6, 7, 8, CALLS_PER_PATCH + 1):
        process = start(step, *words, code=DIE_WHILE_SAVING)
        assert finish(process)[0] == -signal.SIGKILL, step
        # each run before died in its first patch; the last one has just begun its second
        assert len(assert_sound(paths)) == (step > CALLS_PER_PATCH)
    assert finish(start(2 * CALLS_PER_PATCH + 1, *words, code=DIE_WHILE_SAVING))[0] == 0
    assert len(assert_sound(paths)) == 3


def test_expand__killed_in_the_middle_can_be_run_again(sheet_prediction, sheet_volume, place):
    paths = place / "paths"
    seed(sheet_volume, paths, small_params(), points=[POINT])
    words = ("expand", sheet_prediction, paths, place / "seed.json", "--round-size", 4)
    process = start(*words, "--tgt-overlap-count", 1000)
    wait_until(lambda: n_finished(paths) >= 7 or process.poll() is not None)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    before = assert_sound(paths).names()
    expand(sheet_volume, paths, small_params(), ExpandLimits(count=2))
    collection = assert_sound(paths)
    assert len(collection) == len(before) + 2
    index = collection.index()
    for name in collection.names():
        overlapping = index.overlapping(collection.load(name), exclude=[name])
        recorded = json.loads((paths / name / "overlapping.json").read_text())["overlapping"]
        assert set(recorded) == set(overlapping), name


def test_seed__two_processes_share_a_collection_and_a_cache(sheet_prediction, sheet_volume, place):
    paths = place / "paths"
    words = ("seed", sheet_prediction, paths, place / "seed.json", "--count", 12)
    shared = ("--cache-root", place / "cache")
    processes = [start(*words, *shared, "--rng-seed", s) for s in (7, 8)]
    for code, out, err in [finish(process) for process in processes]:
        assert code == 0, err
        assert out.startswith("12 patches")
    assert len(assert_sound(paths)) == 24
    assert not [path for path in paths.iterdir() if path.name.startswith(".auto")]
    seed(sheet_volume, place / "alone", small_params(), count=12)
    alone = contents_by_seed(place / "alone")
    collection = PatchCollection(paths)
    for name in collection.names():
        surface = collection.load(name)
        if surface.meta["rng_seed"] == 7:
            assert (paths / name / "x.tif").read_bytes() == alone[surface.meta["item"]]["x.tif"]


def test_expand__two_processes_share_a_collection(sheet_prediction, sheet_volume, place):
    paths = place / "paths"
    seed(sheet_volume, paths, small_params(), points=[POINT])
    words = ("expand", sheet_prediction, paths, place / "seed.json")
    limits = ("--count", 10, "--round-size", 2)
    processes = [start(*words, *limits, "--rng-seed", s) for s in (7, 8)]
    for code, out, err in [finish(process) for process in processes]:
        assert code == 0, err
        assert out.startswith("10 patches")
    collection = assert_sound(paths)
    assert len(collection) == 21
    index = collection.index()
    graph = {}
    for name in collection.names():
        file = paths / name / "overlapping.json"
        graph[name] = set(json.loads(file.read_text())["overlapping"]) if file.exists() else set()
    for name, others in graph.items():
        # the process that looks later sees both patches, so that no overlap is missed
        assert others == set(index.overlapping(collection.load(name), exclude=[name]))
        assert all(name in graph[other] for other in others)


def full_disk(n_bytes):
    """Return what makes a child process unable to write files beyond a size."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.mark.parametrize(("n_bytes", "count"), [(0, 1), (900, 2), (2000, 1)])
def test_seed__on_a_full_disk_is_one_line_and_leaves_nothing(
    sheet_prediction, place, n_bytes, count
):
    paths = place / "paths"
    words = ("seed", sheet_prediction, paths, place / "seed.json", "--count", count)
    code, out, err = finish(start(*words, preexec_fn=full_disk(n_bytes)))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert str(paths) in err
    assert "File too large" in err
    assert not paths.exists() or not list(paths.iterdir())


def test_seed__a_cache_on_a_full_disk_does_not_stop_it(sheet_prediction, place):
    paths, cache = place / "paths", place / "cache"
    words = ("seed", sheet_prediction, paths, place / "seed.json", "--cache-root", cache, *POINT)
    code, out, err = finish(start(*words, preexec_fn=full_disk(8000)))
    assert (code, out.count("\n")) == (0, 1), err
    assert len(assert_sound(paths)) == 1
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_seed_and_expand__into_a_read_only_collection_is_an_error(
    sheet_prediction, sheet_volume, place, tmp_path_factory
):
    paths = place / "paths"
    params = small_params()
    seed(sheet_volume, paths, params, points=[POINT])
    expand(sheet_volume, paths, params, ExpandLimits(count=1))  # every module is loaded
    before = {path: path.stat().st_mtime_ns for path in paths.rglob("*")}

    def grow():
        failures = []
        for work in (
            lambda: seed(sheet_volume, paths, params, points=[POINT]),
            lambda: seed(sheet_volume, paths, params, count=2),
            lambda: seed(sheet_volume, paths / "new", params, points=[POINT]),
            lambda: expand(sheet_volume, paths, params, ExpandLimits(count=1)),
        ):
            try:
                work()
            except TracerError as error:
                failures.append([type(error).__name__, error.exit_code, str(error)])
        return failures

    parents = [tmp_path_factory.getbasetemp(), *tmp_path_factory.getbasetemp().parents[:-2]]
    folders = {p: p.stat().st_mode for p in {*parents, place, sheet_prediction.parent}}
    try:
        for folder in folders:
            folder.chmod(0o755)
        paths.chmod(0o555)
        failures = without_permission(grow)
    finally:
        paths.chmod(0o755)
        for folder, mode in folders.items():
            folder.chmod(mode)
    assert len(failures) == 4
    for kind, code, message in failures:
        assert kind in ("OutputError", "CollectionError")
        assert code == 2
        assert str(paths) in message
        assert "ermission" in message
        assert "\n" not in message
    assert {path: path.stat().st_mtime_ns for path in paths.rglob("*")} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_seed__interrupted_ends_with_130(sheet_prediction, place, workers):
    paths = place / "paths"
    words = ("seed", sheet_prediction, paths, place / "seed.json", "--count", 100_000)
    process = start(*words, "--workers", workers, start_new_session=True)
    wait_until(lambda: n_finished(paths) >= 3 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
    code, _, err = finish(process)
    assert code == 130
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert len(assert_sound(paths)) >= 3


def cache_bytes(cache):
    """Return what the masks of a cache take on the disk."""
    sizes = []
    for path in cache.rglob("*.mask"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            sizes.append(-(-path.stat().st_size // 4096) * 4096)
    return sum(sizes)


def test_seed__the_cache_stays_below_its_limit_while_seeds_are_grown(tmp_path):
    ribbon = Volume.open(make_ribbon(tmp_path / "ribbon.zarr"))
    limit = 4 * 4096
    sampled, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            sampled.append(cache_bytes(tmp_path / "limited"))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for name, options in (("free", {}), ("limited", {"cache_limit_gb": limit / 1e9})):
        params = small_params(cache_root=str(tmp_path / name), cache_size=1.0, **options)
        seed(ribbon, tmp_path / f"paths_{name}", params, count=10, workers=2)
    stop.set()
    watcher.join()
    assert cache_bytes(tmp_path / "free") > 1.4 * limit, "the limit is never reached"
    assert 0 < max(sampled) <= limit
    free, limited = (contents_by_seed(tmp_path / f"paths_{name}") for name in ("free", "limited"))
    assert {item: patch["x.tif"] for item, patch in free.items()} == {
        item: patch["x.tif"] for item, patch in limited.items()
    }
