"""Killing `prepare` at any instant loses nothing and leaves nothing that looks finished."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from zarr_making import some_voxels

from tracer.errors import VolumeError
from tracer.prepare import prepare
from tracer.prepare_params import PrepareParams
from tracer.volume import Volume

KILLED = """
import os, signal, sys
from pathlib import Path
from tracer.prepare import prepare
from tracer.prepare_params import PrepareParams

calls = 0

def progress(done, total, note=""):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

prepare(sys.argv[1], sys.argv[2], PrepareParams(voxel_size_um=7.91, chunk=16), progress=progress)
"""
KILLED_WHILE_WRITING = """
import os, signal, sys
import imagecodecs
from tracer.prepare import prepare
from tracer.prepare_params import PrepareParams

encode = imagecodecs.blosc_encode
calls = 0

def encode_or_die(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*args, **kwargs)

imagecodecs.blosc_encode = encode_or_die
prepare(sys.argv[1], sys.argv[2], PrepareParams(voxel_size_um=7.91, chunk=16))
"""


def run_killed(code, *args):
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], check=False)
    assert done.returncode == -signal.SIGKILL


def files_of(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "moments"), [(KILLED, (1, 4, 8)), (KILLED_WHILE_WRITING, (2, 77, 20))]
)
def test_prepare__continues_after_kill(tmp_path, code, moments):
    source = tmp_path / "a.npy"
    np.save(source, some_voxels((70, 50, 130)))
    params = PrepareParams(voxel_size_um=7.91, chunk=16)
    whole = prepare(source, tmp_path / "whole" / "v.zarr", params)
    out = tmp_path / "v.zarr"
    for moment in moments:
        run_killed(code, source, out, moment)
        with pytest.raises(VolumeError, match="no such volume"):
            Volume.open(out)
    result = prepare(source, out, params)
    assert result.n_bands_resumed > 0
    assert files_of(out) == files_of(whole.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "v.zarr", "whole"]
