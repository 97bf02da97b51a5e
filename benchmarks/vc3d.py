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


def run_tool(name: str, *arguments: str, threads: int = 1, folder: Path | None = None) -> Usage:
    """Run one of VC3D's executables, its thread pools capped, and return what it took.

    Some write where they are run: in ``folder``.

    Raises
    ------
    FileNotFoundError
        If the folder lacks it.
    """
    tool = Path(os.environ["VC3D_BIN"]) / name
    if not tool.exists():
        raise FileNotFoundError(f"{tool}: no such executable; VC3D_BIN must name VC3D's bin folder")
    caps = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return measure([str(tool.resolve()), *arguments], _LONGEST_S, caps, folder=folder)


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
    params = _growth_params(folder, "vc3d.json", generations, min_area_cm)
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


def _growth_params(
    folder: Path, name: str, generations: int, min_area_cm: float, **more: str
) -> Path:
    values = {"cache_root": str(folder / "vc3d-cache"), "thread_limit": 1}
    values |= {"min_area_cm": min_area_cm, "generations": generations, "tgt_overlap_count": 10}
    path = folder / name
    path.write_text(json.dumps(values | more), encoding="utf-8")
    return path


def expand(
    given: Input, folder: Path, n: int, generations: int, min_area_cm: float
) -> tuple[float, list[Surface]]:
    """Grow a patch from every seed of an input, then expand n times.

    Returns
    -------
    cpu_s : float
        CPU time of all runs, from an empty cache.
    patches : list of Surface
        What it saved.
    """
    paths = folder / "vc3d-paths"
    paths.mkdir()
    seeding = _growth_params(folder, "vc3d.json", generations, min_area_cm)
    expanding = _growth_params(folder, "vc3d-e.json", generations, min_area_cm, mode="expansion")
    volume, tool = str(given.prediction), "vc_grow_seg_from_seed"
    runs = [
        run_tool(tool, volume, str(paths), str(seeding), *(f"{value:g}" for value in point))
        for point in given.points
    ]
    runs += [run_tool(tool, volume, str(paths), str(expanding)) for _ in range(n)]
    found = [Surface.load(path.parent) for path in sorted(paths.glob("*/meta.json"))]
    return sum(run.cpu_s for run in runs), found


def trace(
    prediction: Path, patches: Path, seed: str, values: dict[str, object], folder: Path
) -> tuple[Usage, Path]:
    """Trace the patches of a folder from one of them; return what it took and the trace."""
    params, out = folder / "vc3d-trace.json", folder / "vc3d-traces"
    params.write_text(json.dumps(values), encoding="utf-8")
    out.mkdir()
    words = (str(prediction), str(patches), str(out), str(params), str(patches / seed))
    used = run_tool("vc_grow_seg_from_segments", *words, folder=folder)
    return used, _made(folder, "auto_trace_*/meta.json").parent


def find_winding(surface: Path, folder: Path) -> tuple[Usage, Path]:
    """Find the winding of a surface; return what it took and the file."""
    folder.mkdir(parents=True)
    copy = shutil.copytree(surface, folder / surface.name, ignore=_channels)
    used = run_tool("vc_tifxyz_winding", str(copy), folder=folder)
    return used, _made(folder, "winding.tif")


def fuse(
    surface: Path, winding: Path, values: dict[str, object], folder: Path
) -> tuple[Usage, Path]:
    """Fuse one trace with its winding; return what it took and the fused surface."""
    folder.mkdir(parents=True)
    params = folder / "fuse.json"
    params.write_text(json.dumps(values), encoding="utf-8")
    copy = shutil.copytree(surface, folder / surface.name)
    words = (str(params), str(copy), str(winding), "1.0")
    used = run_tool("vc_fill_quadmesh", *words, folder=folder)
    return used, _made(folder, "fuse_fill_*/meta.json").parent


def _channels(_: str, names: list[str]) -> list[str]:
    """Return the files that VC3D would have to write itself."""
    return [name for name in names if name.startswith("wind")]


def _made(folder: Path, pattern: str) -> Path:
    """Return the newest file of a pattern at any depth below a folder."""
    found = sorted(folder.rglob(pattern), key=lambda path: (path.stat().st_mtime, str(path)))
    if not found:
        raise FileNotFoundError(f"{folder}: VC3D wrote no {pattern}; see what it printed")
    return found[-1]


def render(volume: Path, surface: Path, out: Path, layers: int, threads: int) -> Usage:
    """Render layers of a surface at scale 1 and level 0."""
    out.mkdir(parents=True)
    arguments = (str(volume), str(out / "%02d.tif"), str(surface), "1", "0", str(layers))
    return run_tool("vc_render_tifxyz", *arguments, threads=threads)
