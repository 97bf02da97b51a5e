"""Rendering: cost and memory against VC3D's stored run, agreement with its pictures, any canvas.

Run: python -m benchmarks.bench_render [--tiny] [--canvas COLSxROWS] [--seconds N]

``vc3d`` renders the reference surface as VC3D did (21 layers, scale 1, level 0) with the `tracer`
command in a child process; CPU time and peak memory are the child's, start-up included. It also
says how the pictures agree. ``canvas`` renders a spiral of any size from a volume of which every
chunk is the same file, stops after some seconds if it has to, and reports the peak memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import vc3d
from benchmarks.usage import Usage, measure
from tracer.render import RenderParams, count_chunks, render_surface
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "vc3d"
SURFACE = "trace/auto_trace_20261121001746346"
# VC3D's run of the same command on a quiet 2-core machine, from the README of the data.
VC3D_CPU_S = {1: 2.25, 2: 1.9}
VC3D_MEMORY_MB = 254
LAYERS = 21


@dataclass(frozen=True, slots=True)
class Case:
    """One render.

    Attributes
    ----------
    name : str
        "vc3d" or "canvas".
    threads : int
        Threads.
    cols : int
        Canvas columns.
    rows : int
        Canvas rows.
    seconds : float
        When to stop.
    repeats : int
        Runs, of which the median counts.
    """

    name: str
    threads: int = 1
    cols: int = 0
    rows: int = 0
    seconds: float = 120.0
    repeats: int = 5


CASES = (
    Case("vc3d", threads=1),
    Case("vc3d", threads=2),
    Case("canvas", cols=4000, rows=1000),
    Case("canvas", cols=20000, rows=4000),
    Case("canvas", cols=60000, rows=10000),
)
TINY = (Case("canvas", cols=300, rows=120, repeats=1),)


def run_tracer(arguments: list[str], seconds: float) -> Usage:
    """Return what the `tracer` command takes, stopped after some seconds."""
    used = measure([sys.executable, "-m", "tracer.cli.main", "--quiet", *arguments], seconds)
    if used.status and used.finished:
        raise RuntimeError(f"{' '.join(arguments)}: exit status {used.status}")
    return used


def run(case: Case) -> dict[str, float | str]:
    """Return the figures of a case; none where VC3D's data is missing."""
    if case.name == "canvas":
        return _run_canvas(case)
    if not DATA.is_dir():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        runs, cores = [], []
        for repeat in range(case.repeats + 1):
            runs.append(_render_reference(Path(folder) / str(repeat), case))
            cores.append(_core_cpu_s(case.threads))
        pixels = np.stack([tifffile.imread(f"{folder}/0/{i:02d}.tif") for i in range(LAYERS)])
        cpu_s = statistics.median(run.cpu_s for run in runs[1:])  # the first may compile
        core_s = statistics.median(cores[1:])
        theirs_s = _vc3d_cpu_s(Path(folder), case)
        return {
            "cpu_s": cpu_s,
            "cpu_s least": min(run.cpu_s for run in runs[1:]),
            "wall_s": statistics.median(run.wall_s for run in runs[1:]),
            "Mpixel per cpu_s": pixels.size / 1e6 / cpu_s,
            "speed / VC3D": theirs_s / cpu_s,
            "in process cpu_s": core_s,
            "in process cpu_s least": min(cores[1:]),
            "in process speed / VC3D": theirs_s / core_s,
            "memory_mb": max(run.memory_mb for run in runs[1:]),
            "memory / VC3D": max(run.memory_mb for run in runs[1:]) / VC3D_MEMORY_MB,
            **_reads(),
            **_agreement(pixels),
        }


def _render_reference(out: Path, case: Case) -> Usage:
    volume, surface = str(DATA / "volume" / "pred.zarr"), str(DATA / SURFACE)
    options = ["--layers", str(LAYERS), "--threads", str(case.threads)]
    plain = ["--no-mask", "--preview", "none"]  # VC3D writes neither
    return run_tracer(["render", volume, str(out), surface, *options, *plain], case.seconds)


def _vc3d_cpu_s(folder: Path, case: Case) -> float:
    """Return VC3D's CPU time: measured where its executables are at hand, else stored."""
    if not vc3d.has_tools():
        return VC3D_CPU_S[case.threads]
    volume, surface = DATA / "volume" / "pred.zarr", DATA / SURFACE
    runs = [
        vc3d.render(volume, surface, folder / f"vc3d-{repeat}", LAYERS, case.threads)
        for repeat in range(case.repeats)
    ]
    return statistics.median(run.cpu_s for run in runs)


def _core_cpu_s(threads: int) -> float:
    """Return the CPU time of the stage alone: no start-up, no import, files included."""
    volume = Volume.open(DATA / "volume" / "pred.zarr")
    surface = Surface.load(DATA / SURFACE)
    params = RenderParams(layers=LAYERS, threads=threads, mask=False, preview="none")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        render_surface(volume, surface, folder, params)
        return time.process_time() - start


def _reads() -> dict[str, float]:
    volume, surface = Volume.open(DATA / "volume" / "pred.zarr"), Surface.load(DATA / SURFACE)
    counted = count_chunks(volume, surface, RenderParams(layers=LAYERS))
    grid = np.prod([-(-n // 128) for n in volume.shape_zyx])
    return {"chunks read": counted.reads, "chunks of the volume": int(grid)}


def _agreement(pixels: np.ndarray) -> dict[str, float | str]:
    """Return how our pictures agree with VC3D's."""
    theirs = np.stack([tifffile.imread(DATA / "render" / f"{i:02d}.tif") for i in range(LAYERS)])
    shown = theirs.any(axis=0)
    surface = Surface.load(DATA / SURFACE)
    volume = Volume.open(DATA / "volume" / "pred.zarr")
    snapped = _render_snapped(volume, surface, pixels.shape[1:])
    close = np.abs(np.floor(snapped) - theirs)[:, shown]
    direct = np.abs(pixels.astype(int) - theirs)[:, shown]
    flipped = np.abs(pixels[::-1].astype(int) - theirs)[:, shown]
    return {
        "same canvas": str(pixels.shape == theirs.shape),
        "mean difference": float(direct.mean()),
        "mean difference, layers reversed": float(flipped.mean()),
        "mean difference on VC3D's 1/32-cell grid": float(close.mean()),
        "equal on VC3D's 1/32-cell grid": float((close == 0).mean()),
        "pixels shown by VC3D and not by us": int((shown & ~pixels.any(axis=0)).sum()),
        "pixels shown by us and not by VC3D": int((pixels.any(axis=0) & ~shown).sum()),
    }


def _render_snapped(volume: Volume, surface: Surface, shape: tuple[int, int]) -> np.ndarray:
    """Return unrounded layers at grid positions rounded to 1/32 cell, as VC3D samples its grid."""
    from scipy.ndimage import map_coordinates

    whole = volume.read(0, (0, 0, 0), volume.shape_zyx)
    step = surface.step
    rows, cols = (np.rint((np.arange(n) + 0.5) / step * 32) / 32 for n in shape)
    rows, cols = np.meshgrid(rows, cols, indexing="ij")

    def bilinear(grid: np.ndarray) -> np.ndarray:
        return np.stack(
            [map_coordinates(grid[..., axis], [rows, cols], order=1) for axis in range(3)], axis=-1
        )

    points = bilinear(surface.points_xyz.astype(np.float64))
    normals = bilinear(np.nan_to_num(surface.normals().astype(np.float64)))
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals /= np.where(length > 0, length, 1)
    layers = []
    for i in range(LAYERS):
        at = (points + (i - (LAYERS - 1) / 2) * normals)[..., ::-1]
        layers.append(map_coordinates(whole, np.moveaxis(at, -1, 0), np.float64, order=1))
    return np.stack(layers)


def _run_canvas(case: Case) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        surface = make_spiral(root / "surface", case.cols, case.rows)
        make_repeated(root / "scan.zarr", surface)
        options = ["--layers", str(LAYERS), "--threads", str(case.threads)]
        used = run_tracer(
            ["render", str(root / "scan.zarr"), str(root / "out"), str(root / "surface"), *options],
            case.seconds,
        )
        journal = root / "out" / ".journal"
        record = 8 + 16 * LAYERS + 4
        tiles = -(-case.cols // 256) * -(-case.rows // 256)
        done = tiles if used.finished else journal.stat().st_size // record
        return {
            "Mpixel": case.cols * case.rows * LAYERS / 1e6,
            "tiles": tiles,
            "tiles done": done,
            "cpu_s": used.cpu_s,
            "memory_mb": used.memory_mb,
            "finished": str(used.finished),
        }


def make_spiral(path: Path, cols: int, rows: int, step: float = 20.0) -> Surface:
    """Write a spiral of a given length and height, wraps 60 voxels apart, and return it."""
    n_rows, n_cols = -(-rows // int(step)), -(-cols // int(step))
    length = np.arange(n_cols) * step
    pitch, inner = 60.0, 40.0
    radius = np.sqrt(inner**2 + length * pitch / np.pi)
    theta = 2 * np.pi * (radius - inner) / pitch
    centre = radius.max() + 40
    points = np.empty((n_rows, n_cols, 3), dtype=np.float32)
    points[..., 0] = centre + radius * np.cos(theta)
    points[..., 1] = centre + radius * np.sin(theta)
    points[..., 2] = 20 + step * np.arange(n_rows)[:, None]
    surface = Surface(
        points_xyz=points, valid=np.ones((n_rows, n_cols), bool), scale=(1 / step, 1 / step)
    )
    surface.save(path)
    return surface


def make_repeated(path: Path, surface: Surface) -> None:
    """Write a volume around a surface of which every chunk is a link to the same file."""
    size = np.ceil(surface.bbox_xyz[1][::-1] + 40).astype(int)
    shape = tuple(int(-(-n // 128) * 128) for n in size)
    one = np.random.default_rng(0).normal(0, 1, (16, 16, 16))
    smooth = np.kron(one, np.ones((8, 8, 8)))
    block = np.clip(128 + 40 * smooth, 0, 255).astype(np.uint8)
    pattern = path.with_name("pattern.zarr")
    writer = VolumeWriter.create(pattern, block.shape, np.uint8, 7.91)
    writer.write((0, 0, 0), block)
    writer.finish("mean")
    array = json.loads((pattern / "0" / ".zarray").read_text())
    source = next(file for file in (pattern / "0").rglob("0") if file.is_file())
    (path / "0").mkdir(parents=True)
    for name in (".zgroup", "meta.json"):
        shutil.copy(pattern / name, path / name)
    array["shape"] = list(shape)
    (path / "0" / ".zarray").write_text(json.dumps(array))
    for z, y in np.ndindex(shape[0] // 128, shape[1] // 128):
        folder = path / "0" / str(z) / str(y)
        folder.mkdir(parents=True)
        for x in range(shape[2] // 128):
            os.link(source, folder / str(x))


def main() -> None:
    """Print the figures of every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--canvas", default="", help="COLSxROWS: only this canvas")
    parser.add_argument("--vc3d", action="store_true", help="only against VC3D's run")
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    cases = TINY if options.tiny else CASES
    if options.canvas:
        cols, rows = map(int, options.canvas.split("x"))
        cases = (Case("canvas", cols=cols, rows=rows, seconds=options.seconds),)
    if options.vc3d:
        cases = tuple(case for case in CASES if case.name == "vc3d")
    print(f"{os.cpu_count()} cores, page size {resource.getpagesize()}")
    for case in cases:
        print(case)
        for key, value in run(case).items():
            print(f"    {key:45s} {value if isinstance(value, str) else round(value, 4)}")


if __name__ == "__main__":
    main()
