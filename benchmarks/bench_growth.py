"""What growing a patch costs and how good it is, against VC3D's stored patches and the prototype.

Run: python -m benchmarks.bench_growth [--tiny] [--only NAME]

One process, one thread, CPU time, compiled before the clock starts; each figure is the median of
some interleaved repetitions. Costs are per cm² that was kept, seeds without a patch included:

``cold``       empty disk cache: the distance field is computed from the volume as it is needed
``warm``       full disk cache, nothing in memory, one process grows all seeds
``warm alone`` full disk cache, nothing in memory for any seed, as if each had its own process
``in memory``  all chunks loaded
``core``       the same without saving: grow_patch alone

VC3D's figures are of its stored patches on the identical volume, seeds and params, scored by the
same code; its CPU time is user + sys of its own measurement, one process per seed, on another day.
Where ``VC3D_BIN`` names its executables they run here instead.
The prototype runs in turn with ``core``. The case ``command`` is what a shell pays, ``expansion``
is about workers, and ``coverage`` grows as many patches as VC3D did in its stored expansion.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import growth_inputs, growth_scaling, vc3d
from benchmarks.growth_inputs import VC3D, Input, vc3d_cpu_s_per_cm2
from benchmarks.growth_prototype import Prototype, find_prototype
from tracer.distance_field import DistanceField
from tracer.errors import SeedError
from tracer.field_pool import SLOT_BYTES
from tracer.label_score import score_labelled_surfaces
from tracer.patch_growth import ON_PREDICTION, grow_patch
from tracer.random_seed import find_random_seed
from tracer.score import score_surfaces
from tracer.seed import (
    Point,
    SeedOutcome,
    SeedTask,
    grow_or_explain,
    open_field,
    save_grown,
)
from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.volume import Volume

Figures = dict[str, float | str]

RNG_SEED = 1
VC3D_CACHE_BYTES = 132 * 2**20  # of its 24 seeds, from the README of the data


@dataclass(frozen=True, slots=True)
class Case:
    """One prediction to grow in.

    Attributes
    ----------
    name : str
        "reference", a level of phantom ("normal", "hard"), "labels", "command", "expansion" or
        "coverage".
    size : int
        Edge of a phantom made here, voxels.
    n_seeds : int
        Random seeds, where none are given; patches of an expansion.
    min_area_cm : float
        Smallest patch that is kept, cm².
    repeats : int
        Runs, of which the median counts.
    """

    name: str
    size: int = 0
    n_seeds: int = 24
    min_area_cm: float = 0.02
    repeats: int = 3


CASES = (
    Case("reference"),
    Case("normal", size=384),
    Case("hard", size=384),
    Case("labels", n_seeds=60, min_area_cm=0.01),
    Case("command", size=256),
    Case("expansion", size=384, n_seeds=64, repeats=2),
    Case("coverage", n_seeds=228, repeats=1),
)
TINY = (Case("normal", size=160, n_seeds=3, min_area_cm=0.002, repeats=1),)


def run(case: Case) -> Figures:
    """Return the figures of a case; none where its data is missing."""
    given = _input(case)
    if given is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        if case.name == "command":
            return growth_scaling.measure_command(given, Path(folder), case.repeats)
        if case.name == "expansion":
            return growth_scaling.measure_expansion(given, Path(folder), case.n_seeds, case.repeats)
        if case.name == "coverage":
            return growth_scaling.measure_coverage(given, Path(folder), case.n_seeds)
        return _measure(case, given, Path(folder))


def _input(case: Case) -> Input | None:
    if case.name in ("reference", "coverage"):
        return growth_inputs.reference()
    if case.name == "labels":
        return growth_inputs.sheet_labels()
    return growth_inputs.phantom("hard" if case.name == "hard" else "normal", case.size)


class Bench:
    """The seeds of a case, grown in several ways.

    Parameters
    ----------
    case : Case
        What to grow.
    given : Input
        Where.
    folder : Path
        Scratch.
    """

    def __init__(self, case: Case, given: Input, folder: Path) -> None:
        self.volume = Volume.open(given.prediction)
        self.params = SeedParams(
            cache_root=str(folder / "cache"),
            generations=30,
            min_area_cm=case.min_area_cm,
            rng_seed=RNG_SEED,
        )
        self.paths = folder / "paths"
        self.points: Sequence[Point | None] = given.points or (None,) * case.n_seeds

    @property
    def field(self) -> DistanceField:
        """Return the field that the stage is using."""
        # the very call that the stage makes, so that it is the very field
        return open_field(self.volume.path, self.params, self.volume.identity)[1]

    def stage(self, *, cold: bool = False, forget: bool = False, alone: bool = False) -> "Growth":
        """Return what growing and saving all seeds gives."""
        shutil.rmtree(self.paths, ignore_errors=True)
        if cold:
            shutil.rmtree(str(self.params.cache_root), ignore_errors=True)
        if forget:
            open_field.cache_clear()
        outcomes = []
        started = time.process_time()
        for index, point in enumerate(self.points):
            if alone:
                open_field.cache_clear()
            task = SeedTask(
                volume=self.volume.path,
                paths=self.paths,
                params=self.params,
                index=index,
                rng_seed=RNG_SEED,
                point=point,
                mode="explicit_seed",
                identity=self.volume.identity,
            )
            outcomes.append(save_grown(task, *grow_or_explain(task)))
        return Growth(time.process_time() - started, outcomes)

    def core(self) -> tuple[float, int]:
        """Return the CPU time of grow_patch for all seeds, and the vertices it placed."""
        seeds = []
        for index, point in enumerate(self.points):
            rng = np.random.default_rng([RNG_SEED, index])
            drawn = find_random_seed(self.volume, self.params.threshold, rng)
            seeds.append(drawn if point is None else np.array(point))
        field, vertices = self.field, 0
        started = time.process_time()
        for seed in seeds:
            try:
                vertices += int((grow_patch(field, seed, self.params).state > 0).sum())
            except SeedError:
                continue
        return time.process_time() - started, vertices


@dataclass(frozen=True, slots=True)
class Growth:
    """A run over all seeds.

    Attributes
    ----------
    cpu_s : float
        CPU time.
    outcomes : list of SeedOutcome
        What became of each seed.
    """

    cpu_s: float
    outcomes: list[SeedOutcome]

    @property
    def area_cm2(self) -> float:
        """Return the area that was kept."""
        return sum(outcome.area_cm2 for outcome in self.outcomes if outcome.name is not None)


def _measure(case: Case, given: Input, folder: Path) -> Figures:
    bench = Bench(case, given, folder)
    last = bench.stage()  # compiles
    prototype = None
    if case.name == "reference":
        prototype = find_prototype(given, bench.params.generations)
    runs = [_run_all_ways(bench, prototype, case.min_area_cm) for _ in range(case.repeats)]
    costs = {name: statistics.median(run.costs[name] for run in runs) for name in runs[0].costs}
    patches = [Surface.load(path) for path in sorted(bench.paths.iterdir())]
    reasons = Counter(outcome.reason for outcome in last.outcomes if outcome.reason)
    figures: Figures = {
        "seeds": len(bench.points),
        **{f"seeds {reason}": count for reason, count in sorted(reasons.items())},
        **{f"{name}, cpu_s per cm2": value for name, value in costs.items()},
        "warm, cpu_s per cm2, least": min(run.costs["warm"] for run in runs),
        "core, ms per vertex": statistics.median(run.per_vertex_ms for run in runs),
        **_cache_figures(bench),
        **_quality(patches, given, bench),
    }
    if case.name == "reference":
        figures |= _compare_vc3d(costs, given, bench)
    for label, surfaces in runs[-1].prototypes.items():
        figures[f"core / {label}"] = costs["core"] / costs[label]
        figures |= {f"{label}, {k}": v for k, v in _quality(surfaces, given, bench).items()}
    return figures


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition.

    Attributes
    ----------
    costs : dict
        CPU seconds per cm² kept, per way of growing.
    per_vertex_ms : float
        CPU time of the core per vertex.
    prototypes : dict
        Patches of the prototype that were kept.
    """

    costs: dict[str, float]
    per_vertex_ms: float
    prototypes: dict[str, list[Surface]]


def _run_all_ways(bench: Bench, prototype: Prototype | None, min_area_cm: float) -> Run:
    """Grow all seeds in every way, one after the other."""
    costs = {
        name: growth.cpu_s / growth.area_cm2
        for name, growth in (
            ("cold", bench.stage(cold=True, forget=True)),
            ("warm", bench.stage(forget=True)),
            ("in memory", bench.stage()),
        )
    }
    core_s, vertices = bench.core()
    kept = {}
    for with_test in (False, True) if prototype is not None else ():
        label = f"prototype {'with' if with_test else 'without'} its sheet test"
        seconds, surfaces = prototype.grow(with_test)
        kept[label] = [s for s in surfaces if _area(s, bench) >= min_area_cm]
        costs[label] = seconds / sum(_area(s, bench) for s in kept[label])
    alone = bench.stage(alone=True)
    costs["core"] = core_s / alone.area_cm2
    costs["warm alone"] = alone.cpu_s / alone.area_cm2
    return Run(costs, 1e3 * core_s / vertices, kept)


def _area(surface: Surface, bench: Bench) -> float:
    return surface.area_cm2(bench.volume.voxel_size_um)


def _quality(patches: list[Surface], given: Input, bench: Bench) -> Figures:
    """Return how good patches are, by the same code whoever grew them."""
    area = sum(_area(patch, bench) for patch in patches)
    points = np.concatenate([patch.points_xyz[patch.valid] for patch in patches])
    distances = bench.field.sample(points.astype(np.float64))
    figures: Figures = {
        "patches": len(patches),
        "area_cm2": area,
        "area per patch, cm2": area / len(patches),
        "on prediction": float((distances <= ON_PREDICTION).mean()),
    }
    if given.truth is not None:
        score = score_surfaces(patches, given.truth)
        off = sum(one.outside > 0.5 for one in score.surfaces)
        figures |= {
            "distance median, voxels": score.distance_median,
            "distance p95, voxels": score.distance_p95,
            "patches with a switch": score.n_switched,
            "share of patches with a switch": score.n_switched / score.n_surfaces,
            "share of the area switched": score.switch_rate,
            "patches mostly beyond the sheet": off,
        }
        on_sheet = [p for p, one in zip(patches, score.surfaces, strict=True) if one.outside <= 0.5]
        if off and on_sheet:
            rest = score_surfaces(on_sheet, given.truth)
            figures["distance median without these"] = rest.distance_median
            figures["distance p95 without these"] = rest.distance_p95
    if given.labels is not None:
        labelled = score_labelled_surfaces(patches, Volume.open(given.labels))
        figures |= {
            "vertices on a label": labelled.labelled,
            "of these on the patch's main id": labelled.purity,
            "patches with over 1 % on another id": labelled.n_mixed,
        }
    return figures


def _compare_vc3d(costs: dict[str, float], given: Input, bench: Bench) -> Figures:
    """Return the figures of VC3D's patches, and how many times as much it spends."""
    if vc3d.has_tools():
        with tempfile.TemporaryDirectory() as folder:
            p = bench.params
            run = vc3d.grow_seeds(given, Path(folder), p.generations, p.min_area_cm)
        patches = run.patches
        area_cm2 = sum(patch.area_cm2(bench.volume.voxel_size_um) for patch in patches)
        theirs = {"cold": run.cold_cpu_s / area_cm2, "warm": run.warm_cpu_s / area_cm2}
    else:
        patches = [Surface.load(path) for path in sorted((VC3D / "patches_seeded").iterdir())]
        voxel_size_um = bench.volume.voxel_size_um
        theirs = {kind: vc3d_cpu_s_per_cm2(kind, voxel_size_um) for kind in ("cold", "warm")}
    figures: Figures = {}
    for kind, ours in (("cold", "cold"), ("warm", "warm alone")):
        figures[f"VC3D, {kind}, cpu_s per cm2"] = theirs[kind]
        figures[f"VC3D / {ours}"] = theirs[kind] / costs[ours]
    figures |= {f"VC3D, {key}": value for key, value in _quality(patches, given, bench).items()}
    return figures


def _cache_figures(bench: Bench) -> Figures:
    """Return the size of the disk cache that all seeds have left."""
    files = list(Path(str(bench.params.cache_root)).glob("field-*/*/*.mask"))
    size = sum(file.stat().st_size for file in files)
    figures: Figures = {
        "cache files": len(files),
        "cache, bytes per chunk": size / len(files),
        "raw / cached bytes": SLOT_BYTES * len(files) / size,
    }
    if bench.volume.path == str(VC3D / "volume" / "pred.zarr"):
        figures["VC3D's cache / ours, bytes"] = VC3D_CACHE_BYTES / size
    return figures


def main() -> None:
    """Print the figures of all cases, or of one."""
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    for case in TINY if "--tiny" in sys.argv else CASES:
        if only in ("", case.name):
            for figure, value in run(case).items():
                print(f"{case.name}: {figure:55s} {value:>12.4g}")


if __name__ == "__main__":
    main()
