"""What it costs to ask which patches pass through a point, exactly.

Run: python -m benchmarks.bench_spatial_index [--tiny]

Patches of 16 x 20 vertices at step 20 are scattered over wavy sheets 28 voxels apart, so that about
seven overlap everywhere, as in the reference collection. Queries are vertices moved by one voxel,
in random order unless it says otherwise. One thread, timed in CPU-seconds, because those stay the
same on a busy machine.
``memory_mb`` is what a fresh process needs on top of its imports to open the stored index and to
answer all queries; mapped pages that were touched count, though processes share them.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tracer.collection import PatchCollection
from tracer.index_segment import PatchGrid, build_segment
from tracer.spatial_index import SpatialIndex
from tracer.surface import Surface

ROWS, COLS, STEP, PITCH, OVERLAP = 16, 20, 20.0, 28.0, 7.0


@dataclass(frozen=True, slots=True)
class Case:
    """One collection.

    Attributes
    ----------
    name : str
        What it is.
    n_patches : int
        Patches in it.
    n_queries : int
        Points asked for.
    on_disk : bool
        Also save the patches and measure the stored index; takes minutes for 10,000.
    repeats : int
        Runs, of which the median counts.
    """

    name: str
    n_patches: int
    n_queries: int
    on_disk: bool
    repeats: int = 5


CASES = (Case("300 patches", 300, 100_000, True), Case("10,000 patches", 10_000, 100_000, True))
TINY = (Case("40 patches", 40, 200, True, 1),)


def make_patches(n: int) -> dict[str, Surface]:
    """Return patches on wavy sheets, about seven of them everywhere."""
    rng = np.random.default_rng([n, 1])
    area = n * (ROWS - 1) * (COLS - 1) * STEP * STEP / OVERLAP
    sheets = max(1, round((area / PITCH**2) ** (1 / 3) / 4))
    side = np.sqrt(area / sheets)
    r, c = np.mgrid[:ROWS, :COLS] * STEP
    patches = {}
    for k in range(n):
        x, z = 100 + rng.uniform(0, side, 2)
        x, z = x + c, z + r
        wave = 40 * np.sin(x / 310) * np.cos(z / 270) + 6 * np.sin(x / 55 + z / 71)
        y = 200 + PITCH * rng.integers(sheets) + wave + rng.normal(0, 0.3, x.shape)
        patches[f"patch_{k:05d}"] = Surface(
            points_xyz=np.stack([x, y, z], axis=-1),
            valid=np.ones(x.shape, bool),
            scale=(1 / STEP, 1 / STEP),
        )
    return patches


def make_queries(patches: dict[str, Surface], n: int) -> np.ndarray:
    """Return points near vertices, in random order."""
    rng = np.random.default_rng([n, 2])
    vertices = np.stack([surface.points_xyz for surface in patches.values()]).reshape(-1, 3)
    return vertices[rng.integers(len(vertices), size=n)] + rng.normal(0, 1, (n, 3))


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def run(case: Case) -> dict[str, float]:
    """Return the figures of a case."""
    patches = make_patches(case.n_patches)
    points = make_queries(patches, case.n_queries)
    in_order = points[np.lexsort(np.floor(points / 64).T)]
    grids = [PatchGrid.of_surface(*item) for item in patches.items()]
    first = patches["patch_00000"]
    warm = SpatialIndex([build_segment(grids[:2])])  # compiles
    warm.query(points[:10])
    warm.overlapping(first)
    index = SpatialIndex([build_segment(grids)])
    (segment, _), *_ = index.segments
    n_quads = len(grids) * (ROWS - 1) * (COLS - 1)
    hits = index.query(points)
    figures = {
        "quads": float(n_quads),
        "hits_per_query": len(hits) / case.n_queries,
        "build_cpu_s": seconds(lambda: build_segment(grids), min(case.repeats, 3)),
        "bytes_per_quad": sum(a.nbytes for a in segment.view) / n_quads,
        "queries_per_cpu_s": case.n_queries / seconds(lambda: index.query(points), case.repeats),
        "queries_in_order_per_cpu_s": case.n_queries
        / seconds(lambda: index.query(in_order), case.repeats),
        "overlaps_of_a_patch_ms": 1e3 * seconds(lambda: index.overlapping(first), case.repeats),
    }
    if case.on_disk:
        with tempfile.TemporaryDirectory() as folder:
            figures.update(_measure_stored(Path(folder), patches, points, case))
    return figures


def _measure_stored(
    folder: Path, patches: dict[str, Surface], points: np.ndarray, case: Case
) -> dict[str, float]:
    paths = folder / "paths"
    start = time.process_time()
    for name, surface in patches.items():
        surface.save(paths / name)
    save_s = time.process_time() - start
    np.save(folder / "points.npy", points)
    build_s = seconds(lambda: PatchCollection.open(paths).index(), 1)
    open_s = seconds(lambda: PatchCollection.open(paths).index(), case.repeats)
    collection = PatchCollection.open(paths)
    collection.index()
    collection.add(patches["patch_00000"])
    one_more_s = seconds(lambda: collection.index(recheck=False), 1)
    process = [sys.executable, "-m", "benchmarks.bench_spatial_index", "--child", str(folder)]
    child = subprocess.run(process, capture_output=True, text=True, check=True)
    return {
        "save_a_patch_ms": 1e3 * save_s / len(patches),
        "build_from_files_cpu_s": build_s,
        "open_stored_cpu_s": open_s,
        "add_one_patch_ms": 1e3 * one_more_s,
        "memory_mb": float(child.stdout),
    }


def _child(folder: Path) -> None:
    """Print the memory that opening the stored index and querying it takes."""
    warm = SpatialIndex.from_surfaces({"a": make_patches(1)["patch_00000"]})
    points = np.load(folder / "points.npy")
    warm.query(points[:100])
    before = psutil.Process().memory_info().rss
    index = PatchCollection.open(folder / "paths").index()
    index.query(points)
    print((psutil.Process().memory_info().rss - before) / 1e6)


if __name__ == "__main__":
    if "--child" in sys.argv:
        _child(Path(sys.argv[-1]))
    else:
        for each in TINY if "--tiny" in sys.argv else CASES:
            print(each.name)
            for key, value in run(each).items():
                print(f"  {key:26s} {value:,.4g}")
