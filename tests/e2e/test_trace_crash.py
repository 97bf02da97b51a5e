"""Traces that are killed, run with any number of threads, corrected by a person; and their cost."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from trace_cases import begun, nodes_of, plane
from unroll_cases import LAST, collection, theta_of

from tracer.checkpoint import checkpoint, parse_region
from tracer.collection import PatchCollection
from tracer.errors import FormatError
from tracer.surface import Surface
from tracer.trace.growth import grow
from tracer.trace.params import TraceParams
from tracer.trace.stage import trace

PARAMS = {"src_step": 10.0, "step": 1, "consensus_default_th": 6, "preview_every": 10}
SEED = "patch_085"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Patches on a spiral, two of which jump to the next wrap."""
    folder = tmp_path_factory.mktemp("trace") / "paths"
    for surface in collection(120, jumping=(5, 30)):
        surface.save(folder / surface.name)
    return folder


@pytest.fixture(scope="module")
def whole(paths, tmp_path_factory):
    """The trace that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    return trace(paths, out, TraceParams.from_mapping(PARAMS), SEED)


def command(paths, out, shared_data, *more):
    """Return the words of a run in a process of its own."""
    out.mkdir(exist_ok=True)
    (out / "trace.json").write_text(json.dumps(PARAMS))
    prediction = shared_data / "vc3d" / "volume" / "pred.zarr"
    words = ["trace", prediction, paths, out, out / "trace.json", SEED, *more]
    return [sys.executable, "-m", "tracer.cli.main", *map(str, words)]


@pytest.mark.slow
def test_trace__killed_and_resumed_is_the_same(paths, whole, tmp_path, shared_data):
    out = tmp_path / "out"
    child = subprocess.Popen(command(paths, out, shared_data), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (states := sorted(out.glob("z_dbg_gen_*/trace_state.npz"))):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not list(out.glob("auto_trace_*"))
    assert all(Surface.load(path.parent).valid.any() for path in states)
    before = {path.name for path in out.iterdir() if path.is_dir()}
    resume = ("--resume", states[-1].parent)
    subprocess.run(command(paths, out, shared_data, *resume), check=True, capture_output=True)
    (path,) = out.glob("auto_trace_*")
    assert Surface.load(path).points_xyz.tobytes() == whole.surface.points_xyz.tobytes()
    assert before <= {path.name for path in out.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "4"])
def test_trace__is_the_same_for_any_number_of_threads(paths, whole, tmp_path, shared_data, threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads), "PYTHONHASHSEED": threads}
    words = command(paths, tmp_path, shared_data)
    subprocess.run(words, check=True, capture_output=True, env=environment)
    (path,) = tmp_path.glob("auto_trace_*")
    found = Surface.load(path)
    assert found.points_xyz.tobytes() == whole.surface.points_xyz.tobytes()
    for name, grid in whole.surface.channels.items():
        assert found.channels[name].tobytes() == grid.tobytes(), name


def turns(surface):
    return theta_of(surface.points_xyz[surface.valid].astype(np.float64)) / (2 * np.pi)


@pytest.mark.slow
def test_checkpoint__the_next_trace_goes_on_from_it(whole, tmp_path):
    folder = tmp_path / "paths"
    for surface in collection(120, jumping=(5, 30)):
        surface.save(folder / surface.name)
    half = whole.surface.shape[1] // 2
    added = checkpoint(
        whole.path, folder, region=parse_region(f":,:{half}"), name="good", approval={"user": "me"}
    )
    assert len(added.overlaps) > 20
    assert "good" in PatchCollection.open(folder).overlaps(added.overlaps[0])
    values = {**PARAMS, "step": 2, "preview_every": 1000}
    result = trace(folder, tmp_path / "next", TraceParams.from_mapping(values), "good")
    assert result.approved == ("good",)
    assert result.surface.meta["used_approved_segments"] == ["good"]
    assert "approved patches used: good" in result.summary()
    kept = turns(Surface.load(folder / "good"))
    found = turns(result.surface)
    assert np.ptp(found) > np.ptp(kept) + 0.5  # goes on beyond it
    assert found.max() < LAST + 0.05
    theta = np.where(
        result.surface.valid, theta_of(result.surface.points_xyz.astype(np.float64)), np.nan
    )
    assert np.nanmax(np.abs(np.diff(theta, axis=1))) < np.pi


def test_trace__does_not_resume_over_other_patches(paths, whole, tmp_path):
    folder = tmp_path / "paths"
    for path in sorted(paths.iterdir()):
        if (path / "meta.json").exists():
            Surface.load(path).save(folder / path.name)
    PatchCollection.open(folder).set_tag("patch_001", "approved")
    with pytest.raises(FormatError, match="have changed"):
        trace(
            folder,
            tmp_path / "out",
            TraceParams.from_mapping(PARAMS),
            SEED,
            resume=whole.previews[0],
        )


@pytest.mark.slow
def test_grow__looks_at_candidates_in_proportion_to_the_length():
    looks = []
    for length in (1500, 3000, 6000):
        surfaces = [
            plane(x, x + 260, name=f"p{k:03d}", angle=0.3 * k)
            for k, x in enumerate(range(100, 100 + length, 90))
        ]
        made = begun(surfaces, both_ways=False, sliding_w_scale=0.2)
        running, table, work, params, _ = made
        grow(running, table, work, params, lambda _: True)
        n = len(nodes_of(running))
        assert n > 0.03 * length
        looks.append((int(running.refused.sum()) + n) / n)
    assert looks[2] < 1.1 * looks[0]
