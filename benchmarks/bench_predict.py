"""Predictions: how good the sheet filter and the mending are on phantoms, what networks cost.

Run: python -m benchmarks.bench_predict [--model MODEL]

Figures are of slices in the middle of a phantom, against its true recto. ``filter`` predicts from
the CT; ``clean`` mends the phantom's own prediction, which has holes, bridges and specks; both in
this process, CPU time of one thread. ``network`` predicts with a given model in child processes.
``memory`` filters or cleans in child processes: what they take by block and by volume.
``trace`` grows patches, 24 random seeds and an expansion, on the phantom's own prediction as it is
and cleaned, on the filter's of the whole CT, and on the filter's with ``max_radius``, which leaves
out the case.

``covered``
    Share of the true recto with a predicted voxel within 1.5 voxels.
``wrong``
    Share of the predicted voxels farther than 3 voxels from the recto.
``tunnels``
    Holes in and handles between predicted sheets, per million voxels.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from benchmarks import growth_inputs
from benchmarks.usage import measure
from tracer.cli.main import tracer
from tracer.phantom import Truth
from tracer.predict import stages
from tracer.predict.clean import CleanParams
from tracer.predict.params import PredictParams
from tracer.predict.score import score_masks
from tracer.predict.topology import count_features
from tracer.score import score_paths
from tracer.volume import Volume

MODEL = "TRACER_BENCH_MODEL"  # environment variable with a model for the network cases
HALF_WIDTH = 2.0
CLOSE = 1.5
FAR = 3.0
IN_CASE = 0.84  # of the half width; between the scroll and its case, as a look at a slice shows
PATCHES = 100  # of the expansion on 256 voxels; as many per voxel on others


@dataclass(frozen=True, slots=True)
class Case:
    """One prediction.

    Attributes
    ----------
    name : str
        "filter", "clean", "network", "memory" or "trace".
    level : str
        Of the phantom.
    size : int
        Edge of the phantom in voxels.
    what : str
        Face for the filter, radius for clean, edge of a block for networks and memory, prediction
        for trace.
    """

    name: str
    level: str
    size: int
    what: str


CASES = (
    *(
        Case("filter", level, 160, what)
        for level in ("easy", "normal", "hard")
        for what in ("mid-line", "recto")
    ),
    *(Case("clean", level, 160, what) for level in ("normal", "hard") for what in ("3", "6", "10")),
    *(Case("network", "normal", 96, what) for what in ("32", "48", "96")),
    Case("network", "normal", 160, "48"),
    *(Case("memory", "normal", 256, f"filter {edge}") for edge in (64, 128, 192, 256)),
    *(
        Case("memory", "normal", size, what)
        for what in ("filter 128", "clean 128")
        for size in (160, 256, 384)
        if (what, size) != ("filter 128", 256)
    ),
    *(
        Case("trace", level, 256, what)
        for level in ("easy", "normal", "hard")
        for what in ("own", "own, cleaned", "filter", "filter without case")
    ),
)
TINY = (
    Case("filter", "easy", 96, "recto"),
    Case("clean", "easy", 96, "6"),
    Case("trace", "easy", 96, "filter without case"),
)


@dataclass(frozen=True, slots=True)
class _Known:
    """The truth in some slices: distance from the recto, and where that exists."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    distance: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, truth: Truth) -> "_Known":
        depth, height, width = truth.size_zyx
        half = depth // 8 if depth > 100 else 3  # the truth of a voxel takes 5 microseconds
        first, last = depth // 2 - half, depth // 2 + half
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        distance = np.empty((last - first, height, width), np.float32)
        there = np.empty(distance.shape, np.bool_)
        for z in range(first, last):
            points = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3)
            points = points.astype(np.float64)
            exists = truth.inside(points) & truth.exists(truth.arc_length(points), points[:, 2])
            distance[z - first] = np.abs(truth.distance(points)).reshape(height, width)
            there[z - first] = exists.reshape(height, width)
        return cls((first, 0, 0), (last, height, width), distance, there)

    def figures(self, path: Path, ending: str = "") -> dict[str, float]:
        """Return how good a prediction is."""
        import scipy.ndimage as ndi

        values = Volume.open(path).read(0, self.start, self.stop)
        found = values >= 128
        recto = (self.distance <= HALF_WIDTH) & self.there
        near = ndi.distance_transform_edt(~found) <= CLOSE if found.any() else found
        middle = (self.distance <= 0.75) & self.there
        wrong = found & ((self.distance > FAR) | ~self.there)
        score = score_masks(values, np.where(recto, 255, 0).astype(np.uint8))
        return {
            f"covered{ending}": float(near[middle].mean()),
            f"wrong{ending}": float(wrong.sum() / max(1, found.sum())),
            f"tunnels{ending}": 1e6 * count_features(found)[1] / found.size,
            f"surface Dice{ending}": score.surface_dice,
            f"combined{ending}": score.combined,
        }


def run(case: Case) -> dict[str, float]:
    """Return the figures of a case."""
    if case.name == "network" and MODEL not in os.environ:
        return {}
    given = growth_inputs.phantom(case.level, case.size)
    assert given.truth is not None
    folder = given.prediction.parent
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.zarr"
        if case.name == "network":
            return _run_network(folder / "ct.zarr", out, case)
        if case.name == "memory":
            what, edge = case.what.split()
            source = given.prediction if what == "clean" else folder / "ct.zarr"
            command = ["clean"] if what == "clean" else []
            return _run_child([*command, str(source), str(out), "--block", edge], case)
        if case.name == "trace":
            return _run_trace(folder, Path(scratch), case, given.truth)
        known = _Known.of(given.truth)
        if case.name == "filter":
            ct = Volume.open(folder / "ct.zarr")
            face = case.what
            params = PredictParams(face=face, half_width=HALF_WIDTH if face == "recto" else 1.0)
            stages.predict(ct, out, params)  # compiles
            shutil.rmtree(out)
            started = time.process_time()
            stages.predict(ct, out, params)
            spent = time.process_time() - started
            return {**known.figures(out), "Mvoxel per CPU-s": case.size**3 / spent / 1e6}
        before = known.figures(given.prediction, " before")
        params = CleanParams(hole_radius=int(case.what), min_component=0)
        stages.clean(Volume.open(given.prediction), out, params)
        started = time.process_time()
        shutil.rmtree(out)
        stages.clean(Volume.open(given.prediction), out, params)
        spent = time.process_time() - started
        return {**before, **known.figures(out), "Mvoxel per CPU-s": case.size**3 / spent / 1e6}


def _run_network(ct: Path, out: Path, case: Case) -> dict[str, float]:
    """Return what a network costs."""
    options = ["--model", os.environ[MODEL], "--block", case.what, "--no-mirroring"]
    return _run_child([str(ct), str(out), *options, "--device", "cpu"], case)


def _run_child(words: list[str], case: Case) -> dict[str, float]:
    """Return what ``tracer predict`` costs in a process of its own, start-up included."""
    command = [sys.executable, "-m", "tracer.cli.main", "-q", "predict", *words]
    usage = measure(command, 900.0)
    if usage.status:
        raise SystemExit(f"{' '.join(command)}: exit status {usage.status}")
    return {
        "Mvoxel per CPU-s": case.size**3 / usage.cpu_s / 1e6,
        "peak memory, MB": usage.memory_mb,
    }


def _run_trace(folder: Path, scratch: Path, case: Case, truth: Truth) -> dict[str, float]:
    """Return how well patches grow on a prediction."""
    found, paths = folder / "prediction.zarr", scratch / "paths"
    prediction = found if case.what == "own" else scratch / "clean.zarr"
    if case.what.startswith("filter"):
        inside = IN_CASE * case.size / 2 if case.what.endswith("case") else 0.0
        params = PredictParams(face="recto", half_width=1.5, max_radius=inside)
        found = scratch / "found.zarr"
        stages.predict(Volume.open(folder / "ct.zarr"), found, params)
    if case.what != "own":
        stages.clean(Volume.open(found), prediction, CleanParams())
    options = ["--step-size", "10", "--generations", "30", "--min-area-cm", "0.005"]
    options += ["--rng-seed", "1", "--cache-root", str(scratch / "cache")]
    started = time.process_time()
    count = str(round(PATCHES * (case.size / 256) ** 3))
    for words in (["seed", "--count", "24"], ["expand", "--count", count]):
        where = [words[0], str(prediction), str(paths)]
        CliRunner().invoke(tracer, ["-q", *where, *words[1:], *options], catch_exceptions=False)
    spent = time.process_time() - started
    score = score_paths([paths], truth)
    return {
        "patches": score.n_surfaces,
        "recto covered": score.coverage,
        "within 3 voxels": score.within,
        "beyond the sheet": score.outside,
        "distance, median": score.distance_median,
        "distance, p95": score.distance_p95,
        "surfaces that switch": score.n_switched,
        "area switched": score.switch_rate,
        "CPU-s": spent,
    }


def main(argv: list[str] | None = None) -> None:
    """Print the figures of all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model of the network cases")
    parser.add_argument("--only", help="name of the cases")
    arguments = parser.parse_args(argv)
    if arguments.model:
        os.environ[MODEL] = str(Path(arguments.model).absolute())
    for case in CASES:
        if arguments.only in (None, case.name):
            print(case)
            print(json.dumps({key: round(v, 4) for key, v in run(case).items()}))


if __name__ == "__main__":
    main()
