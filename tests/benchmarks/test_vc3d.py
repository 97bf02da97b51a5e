"""VC3D's executables, played by scripts that save what it stored."""

import shutil
import sys

import numpy as np
import pytest

from benchmarks import bench_fuse, bench_winding, usage, vc3d
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


WRITER = """#!{python}
import pathlib, shutil, sys
words = sys.argv[1:]
{code}
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder of executables, each made of some Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("VC3D_BIN", str(folder))

    def add(name, code):
        (folder / name).write_text(WRITER.format(python=sys.executable, code=code))
        (folder / name).chmod(0o755)

    return add


def test_expand__seeds_then_expands(tmp_path, tools, patch):
    code = (
        "import json, os\n"
        "mode = json.load(open(words[2])).get('mode', 'seed')\n"
        "name = f'{mode}_{len(os.listdir(words[1]))}'\n"
        f"shutil.copytree('{patch}', words[1] + '/' + name)"
    )
    tools("vc_grow_seg_from_seed", code)
    given = Input(tmp_path / "pred.zarr", points=((1, 2, 3), (4, 5, 6)))
    cpu_s, found = vc3d.expand(given, tmp_path, 3, generations=30, min_area_cm=0.02)
    assert len(found) == 5
    assert cpu_s > 0
    names = sorted(path.name for path in (tmp_path / "vc3d-paths").iterdir())
    assert names == ["expansion_2", "expansion_3", "expansion_4", "seed_0", "seed_1"]


def test_trace__returns_what_was_written(tmp_path, tools, patch):
    tools(
        "vc_grow_seg_from_segments",
        f"shutil.copytree('{patch}', words[2] + '/auto_trace_1')",
    )
    used, path = vc3d.trace(tmp_path / "v", tmp_path / "paths", "seed", {"step": 2}, tmp_path)
    assert used.status == 0
    assert Surface.load(path).shape == (4, 5)


def test_find_winding__in_the_folder_where_it_runs(tmp_path, tools, patch):
    (patch / "winding.tif").write_bytes(b"ours")
    tools("vc_tifxyz_winding", "pathlib.Path('winding.tif').write_bytes(b'theirs')")
    used, path = vc3d.find_winding(patch, tmp_path / "winding")
    assert used.status == 0
    assert path.read_bytes() == b"theirs"


def test_fuse__says_when_nothing_was_written(tmp_path, tools, patch):
    winding = tmp_path / "winding.tif"
    tools("vc_fill_quadmesh", f"shutil.copytree('{patch}', 'fuse_fill_1')")
    used, path = vc3d.fuse(patch, winding, {"opt_w": 4}, tmp_path / "fused")
    assert used.cpu_s > 0
    assert path.name == "fuse_fill_1"
    tools("vc_fill_quadmesh", "sys.exit(1)")
    with pytest.raises(FileNotFoundError, match="VC3D wrote no fuse_fill"):
        vc3d.fuse(patch, winding, {}, tmp_path / "again")


@pytest.mark.slow
def test_benchmarks__stand_beside_vc3d_where_it_is_at_hand(shared_data, tools):
    """A fake VC3D that returns what the real one stored: the figures are the stored ones."""
    data = shared_data / "vc3d"
    fused = next((data / "fuse").glob("*/meta.json")).parent
    tools("vc_fill_quadmesh", f"shutil.copytree('{fused}', 'fuse_fill_1')")
    stored = data / "winding" / "winding.tif"
    tools("vc_tifxyz_winding", f"shutil.copy('{stored}', 'winding.tif')")
    figures = bench_fuse.run(bench_fuse.Case("vc3d"))
    assert figures["VC3D, cpu_s"] < 60  # not the stored 420
    assert figures["VC3D, fuse, switch edges"] == 34
    figures = bench_winding.run(bench_winding.Case("vc3d"))
    assert figures["VC3D, wall_s"] != bench_winding.VC3D_WALL_S
    assert figures["VC3D, mean error, wraps"] == pytest.approx(0.4248, abs=1e-3)
