import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from unroll_cases import collection, theta_of

from tracer.cli.main import main
from tracer.errors import CollectionError, ParamsError
from tracer.surface import Surface
from tracer.trace.params import TraceParams
from tracer.trace.stage import trace

PARAMS = {"src_step": 10.0, "step": 2, "consensus_default_th": 6}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Patches on a spiral, two of which jump to the next wrap."""
    folder = tmp_path_factory.mktemp("trace") / "paths"
    for surface in collection(120, jumping=(5, 30)):
        surface.save(folder / surface.name)
    return folder


@pytest.fixture(scope="module")
def seed_patch(paths):
    """A patch near the middle of the spiral."""
    turns = {}
    for path in sorted(paths.iterdir()):
        surface = Surface.load(path)
        turns[path.name] = np.median(theta_of(surface.points_xyz[surface.valid])) / (2 * np.pi)
    return min(turns, key=lambda name: (abs(turns[name] - 3.5), name))


def run(paths, out, seed_patch, **values):
    return trace(paths, out, TraceParams.from_mapping({**PARAMS, **values}), seed_patch)


def continuous(surface):
    """Return whether no two neighbours of a surface lie on different wraps."""
    theta = np.where(surface.valid, theta_of(surface.points_xyz.astype(np.float64)), np.nan)
    steps = np.concatenate([np.abs(np.diff(theta, axis=axis)).ravel() for axis in (0, 1)])
    return np.nanmax(steps) < np.pi


def test_trace__follows_the_sheet_either_way(paths, tmp_path, seed_patch):
    ends = []
    for flip_x in (False, True):
        result = run(paths, tmp_path / str(flip_x), seed_patch, flip_x=flip_x, both_ways=False)
        surface = Surface.load(result.path)
        assert result.path.name.startswith("auto_trace_")
        assert surface.valid.sum() > 300
        assert continuous(surface)
        turns = theta_of(surface.points_xyz[surface.valid].astype(np.float64)) / (2 * np.pi)
        assert np.ptp(turns) > 0.5
        ends.append(turns.mean())
        assert surface.meta["seed_patch"] == seed_patch
        assert set(surface.meta["used_segments"]) <= {p.name for p in paths.iterdir()}
    assert abs(ends[1] - ends[0]) > 0.2


def test_trace__goes_both_ways_across_gaps(paths, tmp_path, seed_patch):
    both = run(paths, tmp_path, seed_patch)
    ways = [
        run(paths, tmp_path, seed_patch, both_ways=False, bridge=0, flip_x=flip_x)
        for flip_x in (False, True)
    ]
    assert continuous(both.surface)
    assert both.surface.area_vx2 > 1.3 * max(way.surface.area_vx2 for way in ways)
    turns = theta_of(both.surface.points_xyz[both.surface.valid].astype(np.float64)) / (2 * np.pi)
    assert np.ptp(turns) > 2.5
    # the side of the seed patch shows, whichever way comes first
    other = run(paths, tmp_path, seed_patch, flip_x=True)
    facing = [
        np.nanmean(np.diff(s.points_xyz[..., 2], axis=0)) for s in (both.surface, other.surface)
    ]
    assert np.sign(facing[0]) == np.sign(facing[1])


def test_trace__is_deterministic(paths, tmp_path, seed_patch):
    surfaces = [Surface.load(run(paths, tmp_path / str(k), seed_patch).path) for k in range(2)]
    assert surfaces[0].points_xyz.tobytes() == surfaces[1].points_xyz.tobytes()


def test_trace__keeps_to_the_heights(paths, tmp_path, seed_patch):
    result = run(paths, tmp_path, seed_patch, z_range=(50, 110))
    z = result.surface.points_xyz[result.surface.valid][:, 2]
    assert z.min() > 40
    assert z.max() < 120


def test_trace__goes_on_from_a_preview(paths, tmp_path, seed_patch):
    whole = run(paths, tmp_path / "whole", seed_patch, preview_every=5)
    assert whole.previews
    again = trace(
        paths,
        tmp_path / "again",
        TraceParams.from_mapping({**PARAMS, "preview_every": 5}),
        seed_patch,
        resume=whole.previews[0],
    )
    assert again.surface.points_xyz.tobytes() == whole.surface.points_xyz.tobytes()


def test_trace__a_second_run_leaves_the_first_alone(paths, tmp_path, seed_patch):
    first = run(paths, tmp_path, seed_patch, preview_every=5)
    before = {path.name for path in tmp_path.iterdir()}
    second = run(paths, tmp_path, seed_patch, preview_every=5)
    assert first.path != second.path
    assert before < {path.name for path in tmp_path.iterdir()}


def test_trace__needs_a_seed_patch(paths, tmp_path):
    with pytest.raises(CollectionError, match="seed patch 'none'"):
        run(paths, tmp_path, "none")


def test_trace_params__keys_of_vc3d():
    with pytest.warns(UserWarning, match="search_effort"):
        params = TraceParams.from_mapping({"search_effort": 3, "flip_x": 0})
    assert not params.flip_x
    every = {"global_steps_per_window": 3, "straight_weight_3D": 1.0, "dist_loss_3d_w": 5}
    assert TraceParams.from_mapping(every).straight_weight_3D == 1.0
    with pytest.raises(ParamsError, match="consensus_limit_th"):
        TraceParams.from_mapping({"consensus_limit_th": 12})


def test_trace_command__takes_the_order_of_vc3d(paths, tmp_path, seed_patch, shared_data, capsys):
    (tmp_path / "trace.json").write_text(json.dumps(PARAMS))
    prediction = shared_data / "vc3d" / "volume" / "pred.zarr"
    words = ["trace", prediction, paths, tmp_path / "out", tmp_path / "trace.json", seed_patch]
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 0
    assert "nodes in" in capsys.readouterr().out


@pytest.mark.slow
def test_trace_command__saves_what_there_is_when_stopped(paths, tmp_path, seed_patch, shared_data):
    values = {**PARAMS, "step": 1, "preview_every": 1}
    (tmp_path / "trace.json").write_text(json.dumps(values))
    prediction = shared_data / "vc3d" / "volume" / "pred.zarr"
    words = ["trace", prediction, paths, tmp_path / "out", tmp_path / "trace.json", seed_patch]
    child = subprocess.Popen(
        [sys.executable, "-m", "tracer.cli.main", *map(str, words)], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob("z_dbg_gen_*/meta.json")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGTERM)
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    assert b"nodes in" in printed
    (saved,) = (tmp_path / "out").glob("auto_trace_*")
    assert Surface.load(saved).valid.any()
