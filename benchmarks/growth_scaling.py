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
import time
from pathlib import Path

from benchmarks.growth_inputs import Input
from tracer.expand import ExpandLimits, expand
from tracer.seed import open_field, seed
from tracer.seed_params import SeedParams
from tracer.volume import Volume

Figures = dict[str, float | str]

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
    figures["command / in process"] = figures["tracer seed, one patch, cpu_s"] / _in_process_s(
        volume, folder, (float(x), float(y), float(z)), repeats
    )
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


def measure_expansion(given: Input, folder: Path, count: int, repeats: int) -> Figures:
    """Return what one and two workers take for the same expansion, warm cache."""
    volume, params = Volume.open(given.prediction), _params(folder, 0.02)
    seed(volume, folder / "seeds", params, count=8)
    limits = ExpandLimits(count=count)
    walls: dict[int, list[float]] = {1: [], 2: []}
    mains: dict[int, list[float]] = {1: [], 2: []}
    children = []
    rounds = 0
    for _ in range(repeats + 1):  # the first fills the cache and compiles
        for workers in (1, 2):
            paths = folder / "paths"
            shutil.rmtree(paths, ignore_errors=True)
            shutil.copytree(folder / "seeds", paths)
            open_field.cache_clear()
            before = _cpu_s(resource.RUSAGE_SELF), _cpu_s(resource.RUSAGE_CHILDREN)
            started = time.monotonic()
            result = expand(volume, paths, params, limits, workers=workers)
            walls[workers].append(time.monotonic() - started)
            mains[workers].append(_cpu_s(resource.RUSAGE_SELF) - before[0])
            rounds = len(result.coverages)
            if workers == 2:
                children.append(_cpu_s(resource.RUSAGE_CHILDREN) - before[1])
    one, main, both = (statistics.median(v[1:]) for v in (mains[1], mains[2], children))
    ratios = [a / b for a, b in zip(walls[1][1:], walls[2][1:], strict=True)]
    return {
        "patches": len(result.names),
        "rounds": rounds,
        "area_cm2": result.area_cm2,
        "coverage": result.coverage,
        "1 worker, cpu_s": one,
        "1 worker, wall_s": statistics.median(walls[1][1:]),
        "2 workers, wall_s": statistics.median(walls[2][1:]),
        "speed of 2 workers / 1, wall": statistics.median(ratios),
        "2 workers, cpu_s of the main process": main,
        "2 workers, cpu_s of the workers": both,
        "cpu_s that 2 workers add, per round": (main + both - one) / rounds,
        "speed of 2 workers / 1, at best": one / (main + both / 2),
        "load of the machine": os.getloadavg()[0],
    }
