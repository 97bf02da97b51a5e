"""What a chunk of the distance field costs: to transform, from the volume, from the disk cache.

Run: python -m benchmarks.bench_distance_field [--tiny]

The transform is compared with two calls of the C++ package ``edt`` (outside and inside) on the same
blocks, chunk and border, one thread each, interleaved. All times are CPU time of this process, so
that neighbours on the machine matter less; ``alone`` is one chunk of a fresh field, which has to
decode all of its neighbours in the volume. Sizes count what the files hold.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import edt
import numpy as np
import zarr

from tracer.distance_field import DistanceField
from tracer.field_pool import SLOT_BYTES
from tracer.kernels.field_sampling import CHUNK
from tracer.volume import Volume

PHANTOM = Path(__file__).resolve().parents[2] / "shared" / "data" / "vc3d" / "volume" / "pred.zarr"


@dataclass(frozen=True, slots=True)
class Case:
    """One prediction.

    Attributes
    ----------
    name : str
        "sheets" (made here) or "phantom" (the reference phantom beside the checkout).
    cap : int
        Largest distance, voxels.
    n_blocks : int
        Blocks of the comparison with ``edt``.
    repeats : int
        Runs, of which the median counts.
    """

    name: str
    cap: int = 8
    n_blocks: int = 4
    repeats: int = 5


CASES = (Case("sheets"), Case("phantom"), Case("phantom", cap=15), Case("phantom", cap=23))
TINY = (Case("sheets", n_blocks=1, repeats=1),)


def make_sheets(path: Path, shape_zyx: tuple[int, int, int] = (256, 256, 384)) -> None:
    """Write wavy sheets of 5 voxels, 24 apart, with rough faces and holes, and one empty chunk."""
    rng = np.random.default_rng(0)
    z, y, x = (np.arange(n, dtype=np.float32) for n in shape_zyx)
    wave = 9 * np.sin(x / 60)[None, None] + 7 * np.cos(z / 45)[:, None, None]
    phase = (y[None, :, None] + wave) % 24 - 12
    rough = rng.normal(0, 0.4, shape_zyx).astype(np.float32)
    values = np.where(np.abs(phase) + rough < 2.5, np.uint8(255), np.uint8(0))
    for centre in rng.uniform(0, shape_zyx, (60, 3)):
        box = tuple(slice(max(0, int(c) - 6), int(c) + 6) for c in centre)
        values[box] = 0
    values[:, :, 240:] = 0
    options = {"shape": shape_zyx, "chunks": (CHUNK,) * 3, "dtype": "uint8", "zarr_format": 2}
    zarr.create_array(str(path), **options)[:] = values


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def run(case: Case) -> dict[str, float]:
    """Return the figures of a case; none where the reference phantom is missing."""
    if case.name == "phantom" and not PHANTOM.is_dir():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = PHANTOM
        if case.name != "phantom":
            path = Path(folder) / "sheets"
            make_sheets(path)
        volume = Volume.open(path, require_meta=False)
        grid = [-(-n // CHUNK) for n in volume.shape_zyx]
        chunks = np.argwhere(np.ones(grid, bool))
        field = DistanceField(volume, cap=case.cap)
        field.ensure(chunks)  # compiles
        full = chunks[field.view().table.ravel() >= 0]
        return {
            **_compare_transforms(case, volume, full),
            **_measure_loading(case, volume, full, Path(folder) / "cache"),
            **_measure_use(case, field, full),
        }


def _compare_transforms(case: Case, volume: Volume, full: np.ndarray) -> dict[str, float]:
    """Return CPU times of our transform and of edt on the same blocks."""
    field = DistanceField(volume, cap=case.cap)
    codes = np.empty((CHUNK + 1,) * 3, np.uint8)
    ours, theirs = [], []
    for index in map(tuple, full[:: max(1, len(full) // case.n_blocks)][: case.n_blocks]):
        packed = field._foreground.block(index, field._border)
        mask = np.unpackbits(packed, axis=0)[: packed.shape[1]]
        rest = np.ascontiguousarray(1 - mask)
        for _ in range(case.repeats):
            ours.append(seconds(lambda i=index, p=packed: field._transform(i, p, codes)))
            theirs.append(seconds(lambda m=mask: edt.edt(m, parallel=1)))
            theirs[-1] += seconds(lambda m=rest: edt.edt(m, parallel=1))
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    return {
        "transform_ms": 1e3 * ours_s,
        "edt_ms": 1e3 * theirs_s,
        "transform / edt": ours_s / theirs_s,
    }


def _measure_loading(case: Case, volume: Volume, full: np.ndarray, root: Path) -> dict[str, float]:
    """Return sizes and CPU times per chunk that is not empty, from the volume and the cache."""
    times: dict[str, list[float]] = {"volume": [], "volume + write": [], "cache": []}
    for _ in range(case.repeats):
        shutil.rmtree(root, ignore_errors=True)
        for kind, options in (
            ("volume", {}),
            ("volume + write", {"cache_root": root}),
            ("cache", {"cache_root": root}),
        ):
            field = DistanceField(volume, cap=case.cap, **options)
            times[kind].append(seconds(lambda f=field: f.ensure(full)) / len(full))
    alone = []
    for index in full[:: max(1, len(full) // case.n_blocks)][: case.n_blocks]:
        field = DistanceField(volume, cap=case.cap)
        alone.append(seconds(lambda f=field, i=index: f.ensure([i])))
    size = sum(path.stat().st_size for path in root.glob("field-*/*/*.mask")) / len(full)
    figures = {f"{kind}_ms": 1e3 * statistics.median(spent) for kind, spent in times.items()}
    figures["volume alone_ms"] = 1e3 * statistics.median(alone)
    field = DistanceField(volume, cap=case.cap, cache_root=root)
    figures["cache read and decompress_ms"] = (
        1e3 * seconds(lambda: [field._cache.load(tuple(i)) for i in full.tolist()]) / len(full)
    )
    figures["bytes per chunk"] = size
    figures["raw / cached bytes"] = SLOT_BYTES / size
    return figures


def _measure_use(case: Case, field: DistanceField, full: np.ndarray) -> dict[str, float]:
    """Return the cost of asking for loaded chunks and of sampling."""
    n = 100_000
    upper = np.array(field.shape_zyx[::-1]) - 1
    points = np.random.default_rng(1).uniform(0, upper, (n, 3))
    field.sample(points)
    wanted = full[:30]
    asked = [seconds(lambda: [field.ensure(wanted) for _ in range(100)]) for _ in range(5)]
    sampled = [seconds(lambda: field.sample(points)) for _ in range(case.repeats)]
    return {
        "ensure 30 loaded chunks_us": 1e4 * statistics.median(asked),
        "sample a random point_ns": 1e9 * statistics.median(sampled) / n,
    }


def main() -> None:
    """Print the figures of all cases."""
    for case in TINY if "--tiny" in sys.argv else CASES:
        for figure, value in run(case).items():
            print(f"{case.name}, cap {case.cap}: {figure:30s} {value:12.4g}")


if __name__ == "__main__":
    main()
