"""What a shell pays for one patch, and what a second worker brings to an expansion.

On a busy machine wall times say little. So CPU times are given as well: with two workers a run
cannot take less than the CPU time of the main process plus half of that of the workers.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import vc3d
from benchmarks.growth_inputs import VC3D, Input
from tracer.expand import ExpandLimits, expand
from tracer.score import score_paths, score_surfaces
from tracer.seed import open_field, seed
from tracer.seed_params import SeedParams
from tracer.volume import Volume

Figures = dict[str, float | str]

VC3D_EXPANSION_CPU_S = 331.0  # of 260 runs, from the README of the data
_TRIES = 24  # random seeds of which the first that gives a patch is used


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _params(folder: Path, min_area_cm: float) -> SeedParams:
    return SeedParams(
        cache_root=str(folder / "cache"), generations=30, min_area_cm=min_area_cm, rng_seed=1
    )


def measure_command(given: Input, folder: Path, repeats: int) -> Figures:
    """Return the CPU time of commands, start-up included, warm cache."""
    volume, params = Volume.open(given.prediction), _params(folder, 0.02)
    first = seed(volume, folder / "first", params, count=_TRIES)
    point = next(o.index for o in first.outcomes if o.name is not None)
    options = ("--cache-root", f"{folder / 'cache'}", "--generations", "30", "--min-area-cm", "0")
    module = (sys.executable, "-m", "tracer.cli.main")
    x, y, z = _seed_of(folder / "first" / first.names[0])
    commands = {
        "import tracer": (sys.executable, "-c", "import tracer"),
        "tracer --help": (*module, "--help"),
        "tracer seed, one patch": (
            *(*module, "-q", "seed", volume.path, str(folder / "paths"), x, y, z),
            *options,
        ),
    }
    figures: Figures = {}
    for name, words in commands.items():
        spent = []
        for _ in range(repeats + 1):
            before = _cpu_s(resource.RUSAGE_CHILDREN)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            spent.append(_cpu_s(resource.RUSAGE_CHILDREN) - before)
        figures[f"{name}, cpu_s"] = statistics.median(spent[1:])  # the first may compile
    grown = first.outcomes[point]
    figures["area of that patch, cm2"] = grown.area_cm2
    command = float(figures["tracer seed, one patch, cpu_s"])
    grown_s = _in_process_s(volume, folder, (float(x), float(y), float(z)), repeats)
    figures["outside growing, cpu_s"] = command - grown_s
    figures["command / in process"] = command / grown_s
    return figures


def _seed_of(patch: Path) -> tuple[str, str, str]:
    meta = json.loads((patch / "meta.json").read_text(encoding="utf-8"))
    x, y, z = meta["seed"]
    return str(x), str(y), str(z)


def _in_process_s(
    volume: Volume, folder: Path, point: tuple[float, float, float], repeats: int
) -> float:
    """Return the CPU time of the same patch in a process that is up, nothing in memory."""
    spent = []
    for _ in range(repeats):
        open_field.cache_clear()
        started = time.process_time()
        seed(volume, folder / "again", _params(folder, 0.0), points=[point])
        spent.append(time.process_time() - started)
    return statistics.median(spent)


def measure_coverage(given: Input, folder: Path, count: int) -> Figures:
    """Return what an expansion costs and covers from an empty cache on, seeds included, and VC3D's.

    VC3D's 248 patches were grown from the same 24 seeds, by 228 further runs; it does that
    again where ``VC3D_BIN`` names its executables.
    """
    volume, params = Volume.open(given.prediction), _params(folder, 0.02)
    params = params.model_copy(update={"tgt_overlap_count": 10})  # as in VC3D's expand.json
    assert given.truth is not None
    for paths in (folder / "compiles", folder / "paths"):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        open_field.cache_clear()
        started = time.process_time()
        points = given.points[:2] if paths.name == "compiles" else given.points
        n = 2 if paths.name == "compiles" else count
        seed(volume, paths, params, points=points)
        result = expand(volume, paths, params, ExpandLimits(count=n))
        spent = time.process_time() - started
    ours = score_paths([folder / "paths"], given.truth)
    theirs_s, theirs = VC3D_EXPANSION_CPU_S, score_paths([VC3D / "patches_expanded"], given.truth)
    if vc3d.has_tools():
        with tempfile.TemporaryDirectory() as made:
            generations = params.generations
            theirs_s, patches = vc3d.expand(given, Path(made), count, generations, 0.02)
        theirs = score_surfaces(patches, given.truth)
    figures: Figures = {
        "cpu_s": spent,
        "cpu_s per cm2": spent / ours.area_cm2,
        "rounds": len(result.coverages),
        "coverage of the prediction": result.coverage,
        "VC3D, cpu_s": theirs_s,
        "VC3D, cpu_s per cm2": theirs_s / theirs.area_cm2,
        "VC3D / ours, cpu_s per cm2": theirs_s / theirs.area_cm2 * ours.area_cm2 / spent,
    }
    for prefix, score in (("", ours), ("VC3D, ", theirs)):
        figures |= {
            f"{prefix}patches": score.n_surfaces,
            f"{prefix}area_cm2": score.area_cm2,
            f"{prefix}area per patch, cm2": score.area_cm2 / score.n_surfaces,
            f"{prefix}coverage of the recto": score.coverage,
            f"{prefix}distance median, voxels": score.distance_median,
            f"{prefix}distance p95, voxels": score.distance_p95,
            f"{prefix}patches with a switch": score.n_switched,
            f"{prefix}share of the area switched": score.switch_rate,
        }
    return figures


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one expansion took.

    Attributes
    ----------
    wall_s : float
        Elapsed time.
    main_s : float
        CPU time of the main process.
    workers_s : float
        CPU time of the workers; with one worker there is no other process.
    """

    wall_s: float
    main_s: float
    workers_s: float


def measure_expansion(given: Input, folder: Path, count: int, repeats: int) -> Figures:
    """Return what one and two workers take for the same expansions, warm cache.

    A short expansion and one three times as long tell what is paid once from what each patch costs.
    """
    volume, params = Volume.open(given.prediction), _params(folder, 0.02)
    seed(volume, folder / "seeds", params, count=8)
    _expand(volume, folder, params, 3 * count, 1)  # fills the cache and compiles
    runs: dict[tuple[int, int], list[Expansion]] = {}
    for _ in range(repeats):
        for n in (count, 3 * count):
            for workers in (1, 2):
                taken = _expand(volume, folder, params, n, workers)
                runs.setdefault((n, workers), []).append(taken)
    figures: Figures = {"load of the machine": os.getloadavg()[0]}
    medians = {
        key: Expansion(
            *(statistics.median(getattr(t, f) for t in taken) for f in Expansion.__slots__)
        )
        for key, taken in runs.items()
    }
    for n in (count, 3 * count):
        one, two = medians[n, 1], medians[n, 2]
        figures |= {
            f"{n} patches, 1 worker, cpu_s": one.main_s,
            f"{n} patches, 2 workers, cpu_s": two.main_s + two.workers_s,
            f"{n} patches, 2 workers, cpu_s of the main process": two.main_s,
            f"{n} patches, speed of 2 workers / 1, wall": one.wall_s / two.wall_s,
            f"{n} patches, speed of 2 workers / 1, at best": _at_best(one, two),
        }
    one, two = (_difference(medians[3 * count, w], medians[count, w]) for w in (1, 2))
    start_s = medians[count, 2].workers_s - two.workers_s / 2
    score = score_paths([folder / "paths"], given.truth) if given.truth is not None else None
    if score is not None:
        figures |= {
            "patches": score.n_surfaces,
            "patches with a switch": score.n_switched,
            "coverage of the recto": score.coverage,
            "distance median, voxels": score.distance_median,
            "distance p95, voxels": score.distance_p95,
        }
    return figures | {
        "each further patch, 1 worker, cpu_ms": 1e3 * one.main_s / (2 * count),
        "each further patch, 2 workers, cpu_ms of the main process": 1e3 * two.main_s / (2 * count),
        "each further patch, 2 workers, cpu_ms of the workers": 1e3 * two.workers_s / (2 * count),
        "further patches, speed of 2 workers / 1, at best": _at_best(one, two),
        "paid once per worker, cpu_s": start_s / 2,
    }


def _at_best(one: Expansion, two: Expansion) -> float:
    """Return the speed of two workers on two free cores, rounds without any waiting."""
    return one.main_s / (two.main_s + two.workers_s / 2)


def _difference(long: Expansion, short: Expansion) -> Expansion:
    return Expansion(
        *(getattr(long, field) - getattr(short, field) for field in Expansion.__slots__)
    )


def _expand(
    volume: Volume, folder: Path, params: SeedParams, count: int, workers: int
) -> Expansion:
    """Return what growing some patches around the seeds takes."""
    paths = folder / "paths"
    shutil.rmtree(paths, ignore_errors=True)
    shutil.copytree(folder / "seeds", paths)
    open_field.cache_clear()
    before = _cpu_s(resource.RUSAGE_SELF), _cpu_s(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    expand(volume, paths, params, ExpandLimits(count=count), workers=workers)
    return Expansion(
        time.monotonic() - started,
        _cpu_s(resource.RUSAGE_SELF) - before[0],
        _cpu_s(resource.RUSAGE_CHILDREN) - before[1],
    )
