"""`tracer run` in a process of its own: killed and run again, both ways from patches to a page."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracer.phantom.generate import make_phantom
from tracer.phantom.params import PhantomParams

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0
SMALL = {
    "seeds": 8,
    "patches": 24,
    "coverage": 1.0,
    "layers": 3,
    "seed": {"min_area_cm": 0.002, "generations": 14, "step_size": 10},
    "unroll": {"step": 10},
    "trace": {"step": 2, "src_step": 10},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scroll(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "scroll"
    make_phantom(folder, PhantomParams(size_zyx=(160, 160, 160), level="easy", rng_seed=1))
    return folder


def words_of(scroll, out, config):
    volumes = (scroll / "prediction.zarr", "--ct", scroll / "ct.zarr")
    return [str(word) for word in ("run", *volumes, "--out", out, "--config", config)]


def start(words):
    return subprocess.Popen(
        [sys.executable, "-m", "tracer.cli.main", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    return out


def patches(out, source):
    metas = [json.loads(file.read_text()) for file in (out / "paths").glob("[!.]*/meta.json")]
    return [meta for meta in metas if meta["source"] == source]


def kill_when(process, condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def write(path, **changes):
    path.write_text(json.dumps({**SMALL, **changes}))
    return path


def test_run__killed_twice_goes_on_and_changed_parameters_redo_what_depends(scroll, tmp_path):
    out = tmp_path / "out"
    words = words_of(scroll, out, write(tmp_path / "run.json"))
    process = start(words)
    kill_when(process, lambda: len(patches(out, "tracer seed")) >= 2)
    process = start(words)
    kill_when(process, lambda: len(patches(out, "tracer expand")) >= 2)
    seeded = patches(out, "tracer seed")
    assert len({meta["item"] for meta in seeded}) == len(seeded) <= SMALL["seeds"]
    printed = finish(start(words))
    assert "] seed: done before" in printed
    assert len(patches(out, "tracer seed")) == len(seeded)
    assert 2 <= len(patches(out, "tracer expand")) <= SMALL["patches"] + 1
    state = json.loads((out / "run.json").read_text())["steps"]
    assert set(state) == {"seed", "expand", "unroll", "render", "check"}
    for name, facts in state.items():
        assert facts["seconds"] >= 0
        assert facts["cpu_seconds"] >= 0
        assert (out / "logs" / f"{name}.log").read_text().count("$ tracer") >= 1
    assert state["unroll"]["area_cm2"] > 0.01
    page = (out / "report.html").read_text()
    assert "5 of 5 steps done" in page
    assert f"<td class='n'>{state['expand']['area_cm2']:.3f}</td>" in page
    assert f"<td class='n'>{state['expand']['surfaces']}</td>" in page
    assert " pass" in page
    assert page.count("data:image/") == 3

    write(tmp_path / "run.json", layers=5)
    printed = finish(start(words))
    for stage in ("seed", "expand", "unroll", "check"):
        assert f"] {stage}: done before" in printed
    assert "$ tracer render" in printed
    assert len(list((out / "layers").glob("0*.tif"))) == 5
    write(tmp_path / "run.json", layers=5, unroll={"step": 12})
    printed = finish(start(words))
    assert "] expand: done before" in printed
    for stage in ("unroll", "render", "check"):
        assert f"$ tracer {stage}" in printed


def test_run__the_way_of_traces(scroll, tmp_path):
    out = tmp_path / "out"
    words = words_of(scroll, out, write(tmp_path / "run.json", way="trace", patches=16))
    plan = finish(start([*words, "--dry-run"]))
    assert not out.exists()
    for stage in ("trace", "winding", "fuse", "ground", "render", "check"):
        assert f"  tracer {stage} " in plan
    assert "trace" in plan.split("CPU hours:")[1]
    finish(start([*words, "--stop-after", "fuse"]))
    assert not (out / "grounded").exists()
    printed = finish(start(words))
    assert "] fuse: done before" in printed
    middle = {"trace", "trace-back", "winding", "fuse", "ground"}
    state = json.loads((out / "run.json").read_text())["steps"]
    assert set(state) == {"seed", "expand", *middle, "render", "check"}
    checked = {one["name"]: one for one in json.loads((out / "check.json").read_text())["checked"]}
    (grounded,) = (out / "grounded").glob("grounding_hr_*")
    assert checked[grounded.name]["verdict"] == "pass"
    assert state["ground"]["area_cm2"] > 0.01
    assert len(list((out / "traces").glob("*/auto_trace_*"))) == 2
    page = (out / "report.html").read_text()
    assert "9 of 9 steps done" in page
    assert page.count("data:image/") == 4
    assert len(list((out / "layers").glob("0*.tif"))) == 3
