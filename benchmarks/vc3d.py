"""VC3D's executables side by side with ours, where ``VC3D_BIN`` names the folder they lie in.

They run as they do in its tutorial, each with as many threads as ours; its stored outputs are used
where the variable is not set.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.growth_inputs import Input
from benchmarks.usage import Usage, measure
from tracer.surface import Surface

_LONGEST_S = 3600.0


def has_tools() -> bool:
    """Return whether VC3D's executables are at hand."""
    return bool(os.environ.get("VC3D_BIN"))


def run_tool(name: str, *arguments: str, threads: int = 1) -> Usage:
    """Run one of VC3D's executables, its thread pools capped, and return what it took.

    Raises
    ------
    FileNotFoundError
        If the folder lacks it.
    """
    tool = Path(os.environ["VC3D_BIN"]) / name
    if not tool.exists():
        raise FileNotFoundError(f"{tool}: no such executable; VC3D_BIN must name VC3D's bin folder")
    caps = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return measure([str(tool), *arguments], _LONGEST_S, caps)


@dataclass(frozen=True, slots=True)
class SeededRun:
    """What VC3D grew from the seeds of an input.

    Attributes
    ----------
    cold_cpu_s, warm_cpu_s : float
        CPU time of all seeds, with an empty and with a full distance cache.
    patches : list of Surface
        What it saved.
    """

    cold_cpu_s: float
    warm_cpu_s: float
    patches: list[Surface]


def grow_seeds(given: Input, folder: Path, generations: int, min_area_cm: float) -> SeededRun:
    """Grow a patch from every seed of an input, twice: with an empty and with a full cache.

    A seed of which VC3D makes no patch exits with a status that is not 0; its time counts.
    """
    params = folder / "vc3d.json"
    values = {"cache_root": str(folder / "vc3d-cache"), "thread_limit": 1}
    values |= {"min_area_cm": min_area_cm, "generations": generations, "tgt_overlap_count": 10}
    params.write_text(json.dumps(values), encoding="utf-8")
    paths, spent = folder / "vc3d-paths", []
    for _ in ("cold", "warm"):
        shutil.rmtree(paths, ignore_errors=True)
        paths.mkdir()
        common = (str(given.prediction), str(paths), str(params))
        runs = [
            run_tool("vc_grow_seg_from_seed", *common, *(f"{value:g}" for value in point))
            for point in given.points
        ]
        spent.append(sum(run.cpu_s for run in runs))
    found = [Surface.load(path.parent) for path in sorted(paths.glob("*/meta.json"))]
    return SeededRun(cold_cpu_s=spent[0], warm_cpu_s=spent[1], patches=found)


def render(volume: Path, surface: Path, out: Path, layers: int, threads: int) -> Usage:
    """Render layers of a surface at scale 1 and level 0."""
    out.mkdir(parents=True)
    arguments = (str(volume), str(out / "%02d.tif"), str(surface), "1", "0", str(layers))
    return run_tool("vc_render_tifxyz", *arguments, threads=threads)
