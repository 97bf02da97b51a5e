"""Surfaces survive being killed, racing each other and a full disk."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from asserts import assert_same_surface
from strategies import wavy_surface

from tracer.errors import OutputError
from tracer.surface import Surface

TESTS = Path(__file__).resolve().parents[1]
SAVE_AND_DIE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from strategies import wavy_surface
from tracer import surface, tifxyz
calls = 0
def dying(function):
    def wrapped(*arguments):
        global calls
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return function(*arguments)
    return wrapped
surface.write_tif = dying(surface.write_tif)
surface.write_json = dying(surface.write_json)
tifxyz.reserve_name = dying(tifxyz.reserve_name)
Path.rename = dying(Path.rename)
wavy_surface().save_new(sys.argv[2])
"""
STEPS = 7  # three grids, meta, reservation, meta under the final name, rename
SAVE_SOME = """
import sys
sys.path.insert(0, sys.argv[1])
from strategies import wavy_surface
from tracer import tifxyz
tifxyz.time.time = lambda: 1700000000.0  # every process believes it is the same millisecond
surface = wavy_surface(3, 3, seed=int(sys.argv[3]))
for _ in range(15):
    surface.save_new(sys.argv[2])
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(TESTS), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_save_new__killed_at_any_step_leaves_nothing_that_looks_finished(tmp_path):
    for step in range(STEPS + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        process = start(SAVE_AND_DIE, folder, step)
        assert process.wait() == (-signal.SIGKILL if step < STEPS else 0)
        process.stdout.close()
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if step < STEPS:
            assert [list(path.iterdir()) for path in visible] == ([[]] if step > 4 else [])
        else:
            assert_same_surface(Surface.load(visible[0]), wavy_surface())
        wavy_surface(seed=1).save_new(folder)  # the next process is not disturbed


@pytest.mark.slow
def test_save_new__processes_in_the_same_millisecond_do_not_collide(tmp_path):
    processes = [start(SAVE_SOME, tmp_path, seed) for seed in range(3)]
    for process in processes:
        assert process.wait() == 0
        process.stdout.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 45
    assert names == [f"auto_grown_20231114221320{ms:03d}" for ms in range(45)]
    loaded = [Surface.load(tmp_path / name).points_xyz for name in names]
    for seed in range(3):
        points = wavy_surface(3, 3, seed=seed).points_xyz
        assert sum(np.array_equal(points, other) for other in loaded) == 15


def test_save__on_a_full_disk_fails_clean(tmp_path):
    surface = wavy_surface(40, 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            surface.save(tmp_path / "a")
        with pytest.raises(OutputError, match="cannot write"):
            surface.save_new(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
