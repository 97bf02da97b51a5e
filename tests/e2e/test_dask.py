"""A real dask scheduler and two worker processes: the same results as here, whoever dies."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from dask_cluster import dask_cluster, wait_until
from sheet_volume import contents_by_seed, sheet_offsets, small_params
from spirals import spiral
from strategies import wavy_surface

from tracer.cli.main import main
from tracer.dask_workers import DaskWorkers
from tracer.errors import ParamsError
from tracer.expand import ExpandLimits, expand
from tracer.fuse import FuseParams, Source, fuse, ground
from tracer.predict.params import PredictParams
from tracer.predict.stages import predict
from tracer.render import RenderParams, render_surface
from tracer.seed import seed
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

pytestmark = pytest.mark.slow
SEEDS = 80
DASK_MISSING = """
import sys
sys.modules["distributed"] = None
from tracer.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a noisy CT of two bent sheets, 64 voxels wide."""
    z, y, x = np.indices((64, 64, 64))
    offset = np.abs(sheet_offsets(np.stack([x + 40, y + 40, z], axis=-1))).min(axis=-1)
    rng = np.random.default_rng([3])
    grey = 60 + 120 * np.exp(-0.5 * (offset / 2.5) ** 2) + rng.normal(0, 6, offset.shape)
    writer = VolumeWriter.create(
        tmp_path_factory.mktemp("scan") / "ct.zarr", grey.shape, np.uint8, 7.91, chunk=32
    )
    writer.write((0, 0, 0), np.clip(grey, 1, 255).astype(np.uint8))
    return Volume.open(writer.finish("mean"))


def files_of(folder, *left_out):
    """Return the content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in left_out
    }


def geometry_of(paths):
    """Return the coordinates of every patch of a collection, in an order that is theirs."""
    return sorted((p.parent / "x.tif").read_bytes() for p in paths.glob("[!.]*/meta.json"))


def test_dask__a_worker_killed_at_its_work_changes_nothing(
    cluster, sheet_prediction, sheet_volume, tmp_path, monkeypatch
):
    file, workers = cluster
    params = small_params(generations=10)
    (tmp_path / "seed.json").write_text(params.model_dump_json(exclude_none=True))
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.chdir(tmp_path)  # relative paths mean the same to workers
    (tmp_path / "prediction.zarr").symlink_to(sheet_prediction)

    def kill():
        wait_until(lambda: len(list(there.glob("[!.]*/meta.json"))) >= 4)
        os.kill(workers[0].pid, signal.SIGKILL)
        killed_at.append(len(list(there.glob("[!.]*/meta.json"))))

    killed_at = []
    on_dask = ("--dask", str(file))
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SystemExit) as ended:
        main(["seed", "prediction.zarr", "there", "seed.json", "--count", str(SEEDS), *on_dask])
    killer.join()
    assert ended.value.code == 0
    workers[0].wait(timeout=30)
    assert killed_at[0] < SEEDS - 10
    seed(sheet_volume, here, params, count=SEEDS)
    assert len(contents_by_seed(here)) > SEEDS / 2
    assert _without_place(contents_by_seed(there)) == _without_place(contents_by_seed(here))

    limits = ExpandLimits(count=6)
    with DaskWorkers(str(file)) as pool:
        expand(sheet_volume, there, params, limits, workers=pool, round_size=4)
    expand(sheet_volume, here, params, limits, round_size=4)
    assert geometry_of(there) == geometry_of(here)


def _without_place(contents):
    for content in contents.values():
        content["meta.json"].pop("target_volume", None)
    return contents


def test_dask__predicts_renders_and_fuses_as_here(cluster, scan, tmp_path):
    params = PredictParams(sigma=2.0, scales=1, block=32)
    sheet = wavy_surface(12, 14, step=4.0, origin=(6.0, 30.0, 6.0), holes=3)
    layers = RenderParams(layers=5, tile=16, output="both", composite="mean")
    trace, winding = spiral(2.2, holes=True)
    parts = [
        Source(
            surface=dataclasses.replace(
                trace, points_xyz=trace.points_xyz[:, cols], valid=trace.valid[:, cols]
            ),
            winding=np.where(trace.valid, winding, np.nan)[:, cols],
        )
        for cols in (slice(0, 60), slice(45, None))
    ]
    fused, grounded = {}, {}
    with DaskWorkers(str(cluster[0])) as pool:
        for name, workers in (("here", 1), ("there", pool)):
            out = tmp_path / name
            predict(scan, out / "found.zarr", params, workers=workers)
            render_surface(
                scan, sheet, out / "layers", layers, workers=None if workers == 1 else workers
            )
            fused[name] = fuse(parts, FuseParams(), workers=workers).surface({})
            coarse = Source(
                surface=fused[name], winding=fused[name].channels["winding_exact"].astype(float)
            )
            grounded[name] = ground(coarse, 2, parts, {}, workers=workers)
    different = ("meta.json",)  # holds when it was made
    here, there = (files_of(tmp_path / name, *different) for name in ("here", "there"))
    assert sorted(here) == sorted(there)
    assert [name for name in here if here[name] != there[name]] == []
    assert any(name.endswith("00.tif") for name in here)
    for made in (fused, grounded):
        assert made["here"].points_xyz.tobytes() == made["there"].points_xyz.tobytes()
        assert sorted(made["here"].channels) == sorted(made["there"].channels)
        for channel, grid in made["here"].channels.items():
            assert grid.tobytes() == made["there"].channels[channel].tobytes()


def test_dask__says_what_is_missing(tmp_path, sheet_prediction):
    words = ["seed", str(sheet_prediction), str(tmp_path / "paths"), "--count", "2", "--dask"]
    done = subprocess.run(
        [sys.executable, "-c", DASK_MISSING, *words, "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'scroll-tracer[dask]'" in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(ParamsError, match="no such scheduler file"):
        DaskWorkers(str(tmp_path / "scheduler.json"))
