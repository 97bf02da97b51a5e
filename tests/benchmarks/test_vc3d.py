"""VC3D's executables, played by scripts that save what it stored."""

import shutil
import sys

import numpy as np
import pytest

from benchmarks import usage, vc3d
from benchmarks.growth_inputs import Input
from tracer.surface import Surface

SEEDER = """#!{python}
import shutil, sys
volume, paths, params, x, y, z = sys.argv[1:]
if x == "1":
    sys.exit(1)
shutil.copytree("{patch}", paths + "/patch_" + x)
"""


@pytest.fixture
def patch(tmp_path):
    rows, cols = np.indices((4, 5), dtype=np.float32) * 20
    points = np.stack([cols + 10, rows + 10, np.full_like(rows, 30)], axis=-1)
    surface = Surface(points_xyz=points, valid=np.ones((4, 5), bool), scale=(0.05, 0.05))
    return surface.save(tmp_path / "stored")


def test_grow_seeds__runs_every_seed_twice(tmp_path, monkeypatch, patch):
    tool = tmp_path / "bin" / "vc_grow_seg_from_seed"
    tool.parent.mkdir()
    tool.write_text(SEEDER.format(python=sys.executable, patch=patch))
    tool.chmod(0o755)
    monkeypatch.setenv("VC3D_BIN", str(tool.parent))
    given = Input(tmp_path / "pred.zarr", points=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    run = vc3d.grow_seeds(given, tmp_path, generations=30, min_area_cm=0.02)
    assert len(run.patches) == 2
    assert run.cold_cpu_s > 0
    assert run.warm_cpu_s > 0


def test_run_tool__names_a_missing_executable(tmp_path, monkeypatch):
    monkeypatch.setenv("VC3D_BIN", str(tmp_path))
    assert vc3d.has_tools()
    with pytest.raises(FileNotFoundError, match=r"vc_render_tifxyz.*VC3D_BIN"):
        vc3d.run_tool("vc_render_tifxyz")


def test_measure__stops_a_command_in_time():
    used = usage.measure([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2)
    assert not used.finished
    assert used.status < 0
    assert used.wall_s < 30


def test_measure__caps_the_environment():
    code = "import os, sys; sys.exit(int(os.environ['OMP_NUM_THREADS']))"
    used = usage.measure([sys.executable, "-c", code], 60, {"OMP_NUM_THREADS": "3"})
    assert used.status == 3
    assert used.finished


def test_render__asks_for_layers(tmp_path, monkeypatch):
    tool = tmp_path / "vc_render_tifxyz"
    shutil.copy("/bin/true", tool)
    monkeypatch.setenv("VC3D_BIN", str(tmp_path))
    used = vc3d.render(tmp_path / "v", tmp_path / "s", tmp_path / "out", layers=21, threads=1)
    assert used.status == 0
    assert (tmp_path / "out").is_dir()
