"""The cache of distance fields survives being killed and shared."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from field_volume import FieldVolume

from tracer.distance_field import DistanceField

TESTS = Path(__file__).resolve().parents[1]
LOAD = """
import hashlib, os, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from field_volume import FieldVolume
from tracer.distance_field import DistanceField
root, limit, dies_at = sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
written, write_bytes = 0, Path.write_bytes
def dying(path, content):
    global written
    if path.name.endswith(".tmp") and ".mask" in path.name:
        if written == dies_at:
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        written += 1
    return write_bytes(path, content)
Path.write_bytes = dying
volume = FieldVolume(np.load(sys.argv[5]))
field = DistanceField(volume, cache_root=root, cache_limit_gb=limit or None)
field.ensure(volume.chunk_indices())
view = field.view()
codes = np.stack([view.pool[slot] for slot in view.table.ravel()])
print(hashlib.sha256(codes).hexdigest())
"""


@pytest.fixture
def prediction(tmp_path):
    """Return a volume of 2 x 2 x 3 chunks without an empty one, and its file."""
    values = np.zeros((250, 250, 380), np.uint8)
    values[::11] = 200
    values[:, 5::40, ::3] = 180
    np.save(tmp_path / "values.npy", values)
    return FieldVolume(values), tmp_path / "values.npy"


def start(root, values, limit_gb=0.0, dies_at=-1):
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, str(TESTS), *map(str, (root, limit_gb, dies_at, values))],
        stdout=subprocess.PIPE,
        text=True,
    )


def digest(volume):
    field = DistanceField(volume)
    field.ensure(volume.chunk_indices())
    view = field.view()
    return hashlib.sha256(np.stack([view.pool[s] for s in view.table.ravel()])).hexdigest()


def masks(root):
    return sorted(root.glob("field-*/*/*.mask"))


@pytest.mark.slow
def test_cache__is_sound_after_a_kill_in_the_middle_of_a_write(tmp_path, prediction):
    volume, path = prediction
    root = tmp_path / "cache"
    killed = start(root, path, dies_at=4)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert len(masks(root)) == 4
    assert len(list(root.glob("field-*/*/.*.tmp"))) == 1
    field = DistanceField(volume, cache_root=root)
    field.ensure(volume.chunk_indices())
    assert (field.stats.chunks_cached, field.stats.chunks_computed) == (4, 8)
    survivor = start(root, path)
    assert survivor.communicate()[0].strip() == digest(volume)
    assert survivor.returncode == 0


@pytest.mark.slow
def test_cache__is_shared_by_processes_at_once(tmp_path, prediction):
    volume, path = prediction
    root = tmp_path / "cache"
    processes = [start(root, path) for _ in range(3)]
    results = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert set(results) == {digest(volume)}
    assert len(masks(root)) == 12
    field = DistanceField(volume, cache_root=root)
    field.ensure(volume.chunk_indices())
    assert field.stats.chunks_computed == 0


@pytest.mark.slow
def test_cache__keeps_its_limit_with_processes_at_once(tmp_path, prediction):
    volume, path = prediction
    root = tmp_path / "cache"
    limit_gb = 30e-6  # a handful of files
    processes = [start(root, path, limit_gb=limit_gb) for _ in range(3)]
    results = [process.communicate()[0].strip() for process in processes]
    assert set(results) == {digest(volume)}
    assert sum(-(-mask.stat().st_size // 4096) * 4096 for mask in masks(root)) <= limit_gb * 1e9
