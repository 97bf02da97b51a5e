"""Peak memory of every stage on phantoms that grow: none may grow with the volume.

    python -m benchmarks.bench_memory [--tiny]

Each stage is the command that a user types, in a process of its own, with one worker; its peak
resident memory is read from the kernel. The same number of seeds and patches is grown in each
phantom, with 64 MB for the distance field, which has 2.1 MB per chunk of 128³. ``start`` is a
command that reads no data: what every command takes for itself. ``grow`` is the largest volume's
peak without that start over the smallest's; the volume grows by ``times``.

``render`` renders the same canvas of at most 1000 x 128 pixels and 21 layers at every size.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import growth_inputs
from benchmarks.usage import measure

Figures = dict[str, float | str]

LIMIT_S = 1800.0
N_SEEDS, N_PATCHES = 8, 24
CACHE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """Phantoms to run on.

    Attributes
    ----------
    name : str
        Name of the case.
    sizes : tuple of int
        Edges, voxels, ascending.
    """

    name: str
    sizes: tuple[int, ...]


CASES = (Case("normal", (192, 288, 432)),)
TINY = (Case("normal", (96,)),)


def run(case: Case) -> Figures:
    """Return the peak of each stage at each size, MB, and how much it grows."""
    peaks: dict[str, list[float]] = {}
    for size in case.sizes:
        scroll = growth_inputs.phantom("normal", size).prediction.parent
        with tempfile.TemporaryDirectory() as folder:
            for stage, words in commands(scroll, Path(folder)):
                used = measure([sys.executable, "-m", "tracer.cli.main", "-q", *words], LIMIT_S)
                if used.status not in (0, 1):
                    raise RuntimeError(f"{stage} on {size}: status {used.status}")
                peaks.setdefault(stage, []).append(used.memory_mb)
    figures: Figures = {"times": (case.sizes[-1] / case.sizes[0]) ** 3}
    start = max(peaks.pop("start"))
    figures["start, mb"] = start
    for stage, of_sizes in peaks.items():
        for size, peak in zip(case.sizes, of_sizes, strict=True):
            figures[f"{stage}, {size}, mb"] = peak
        figures[f"{stage}, grow"] = (of_sizes[-1] - start) / max(of_sizes[0] - start, 1.0)
    return figures


def commands(scroll: Path, out: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the stages and their commands; each needs the ones before."""
    ct, prediction = str(scroll / "ct.zarr"), str(scroll / "prediction.zarr")
    growth = {
        "cache_root": str(out / "cache"),
        "cache_size": CACHE_BYTES,
        "generations": 12,
        "min_area_cm": 0.0005,
    }
    params, paths = str(_write(out / "seed.json", {**growth, "step_size": 10})), str(out / "paths")
    yield "start", ["info", str(scroll / "prediction.zarr")]
    yield "prepare", ["prepare", ct, str(out / "copy.zarr"), "--chunk", "64"]
    yield "predict", ["predict", ct, str(out / "predicted.zarr")]
    common = ["--rng-seed", "1"]
    yield "seed", ["seed", prediction, paths, params, "--count", str(N_SEEDS), *common]
    yield "expand", ["expand", prediction, paths, params, "--count", str(N_PATCHES), *common]
    yield "check", ["check", paths, "--html", str(out / "check.html")]
    largest = max(sorted(Path(paths).glob("auto_grown_*")), key=_area)
    traced = out / "traces"
    settings = str(_write(out / "trace.json", {"step": 2, "src_step": 10}))
    yield "trace", ["trace", prediction, paths, str(traced), settings, str(largest)]
    yield "unroll", ["unroll", paths, str(out / "unrolled"), "--prediction", prediction]
    (trace,) = list(traced.glob("auto_trace_*"))[:1]
    yield "winding", ["winding", str(trace)]
    triple = [str(trace), str(trace / "winding.tif"), "1.0"]
    yield "fuse", ["fuse", str(_write(out / "fuse.json", {})), *triple, "--out", str(out / "fused")]
    crop = ["--crop-width", "1000", "--crop-height", "128", "--layers", "21"]
    yield "render", ["render", ct, str(out / "layers"), str(out / "unrolled"), *crop]


def _write(path: Path, values: dict[str, object]) -> Path:
    path.write_text(json.dumps(values))
    return path


def _area(path: Path) -> tuple[float, str]:
    return float(json.loads((path / "meta.json").read_text())["area_vx2"]), path.name


def main(arguments: list[str]) -> None:
    """Print the figures of all cases."""
    for case in TINY if "--tiny" in arguments else CASES:
        for name, value in run(case).items():
            print(f"{case.name:10s} {name:28s} {value:10.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
