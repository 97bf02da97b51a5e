"""Trace: what of the patches it covers, sheet switches, distance, CPU and memory of the command.

    python -m benchmarks.bench_trace [--tiny] [--only CASE]

``vc3d`` traces VC3D's 248 patches of the reference phantom from the seed patch that VC3D began on,
at its step of 2; ``as VC3D`` with VC3D's rules only (one way, no bridges, no holes closed, no
layout of all patches), ``stored`` is VC3D's own trace of them, scored by the same code. ``grown``
are ours on phantoms of 384³ and on the reference phantom, from their largest patch; ``labels`` on
the sheet labels of a real scroll, where a surface should stay on one id. ``on patches`` leaves out
what closes holes. Figures of `unroll` on the same patches stand beside them.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import growth_inputs, unroll_inputs
from benchmarks.growth_inputs import VC3D
from benchmarks.unroll_inputs import Collection
from benchmarks.usage import forget_peak, measure, peak_mb
from benchmarks.vc3d_way import largest_patch
from tracer.errors import NothingFoundError
from tracer.label_score import score_labelled_surfaces
from tracer.phantom import Truth
from tracer.score import Score, score_surfaces
from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams, unroll
from tracer.unroll.inpaint import DATA
from tracer.unroll.output import component_surface
from tracer.volume import Volume

Figures = dict[str, float | str]
VC3D_SEED = "auto_grown_20261121001052224"
VC3D_CPU_S = 101.0  # from the README of the data
LONGEST_S = 900.0
AS_VC3D = {"both_ways": False, "bridge": 0, "max_hole": 0, "winding_check": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One collection to trace.

    Attributes
    ----------
    name : str
        What it shows.
    kind : str
        "vc3d", "stored", "grown" or "planted".
    level : str
        Grown: "reference", "normal", "hard" or "labels".
    n : int
        Grown, planted: patches.
    min_area_cm : float
        Grown: smallest patch.
    step : int
        Cells between nodes.
    values : tuple of (str, object)
        Further keys of the trace's params.
    besides : bool
        Whether to unroll the same patches.
    """

    name: str
    kind: str = "vc3d"
    level: str = ""
    n: int = 0
    min_area_cm: float = 0.02
    step: int = 2
    values: tuple[tuple[str, object], ...] = ()
    besides: bool = False


CASES = (
    Case(name="VC3D's patches", besides=True),
    Case(name="VC3D's patches, as VC3D", values=tuple(AS_VC3D.items())),
    Case(name="VC3D's patches, VC3D", kind="stored"),
    Case(name="grown, normal", kind="grown", level="normal", n=240, besides=True),
    Case(name="grown, hard", kind="grown", level="hard", n=400, min_area_cm=0.004, besides=True),
    Case(name="grown, reference", kind="grown", level="reference", n=250, besides=True),
    Case(name="VC3D's patches, joint optimisation", values=(("global_steps_per_window", 2),)),
    Case(name="planted", kind="planted", n=250),
    Case(name="planted", kind="planted", n=500),
)
TINY = (Case(name="tiny", kind="planted", n=60),)


def run(case: Case) -> Figures:
    """Return the figures of a case."""
    if case.kind != "grown" and not VC3D.is_dir():
        return {}
    if case.kind == "stored":
        return _stored()
    with tempfile.TemporaryDirectory() as folder:
        found = _collection(case, Path(folder))
        if found is None:
            return {}
        given, paths, seed = found
        figures = _trace(case, given, paths, seed, Path(folder) / "out")
        return figures | (_unrolled(given) if case.besides else {})


def _collection(case: Case, folder: Path) -> tuple[Collection, Path, Path] | None:
    """Return the patches of a case, where they are, and the seed patch; None without data."""
    if case.kind == "vc3d":
        paths = VC3D / "patches_expanded"
        return unroll_inputs.vc3d(), paths, paths / VC3D_SEED
    if case.kind == "grown":
        try:
            given = unroll_inputs.grown(case.level, case.n, min_area_cm=case.min_area_cm)
        except FileNotFoundError:
            return None
        name = f"paths-{case.level}-{case.n}-defended-{case.min_area_cm:g}"
        paths = growth_inputs.WORK / name
        return given, paths, largest_patch(paths)
    given = unroll_inputs.planted(Truth.load(VC3D / "truth.json"), case.n)
    prediction = VC3D / "volume" / "pred.zarr"
    for surface in given.surfaces:
        surface.save(folder / "paths" / surface.name)
    paths = folder / "paths"
    return replace(given, prediction=prediction), paths, largest_patch(paths)


def _trace(case: Case, given: Collection, paths: Path, seed: Path, out: Path) -> Figures:
    """Return the figures of a run of the command, compiled before."""
    assert given.prediction is not None
    params = out.parent / "trace.json"
    values = {"step": case.step, "src_step": 20, "preview_every": 10**6, **dict(case.values)}
    params.write_text(json.dumps(values), encoding="utf-8")
    words = ["trace", given.prediction, paths, out, params, seed]
    command = [sys.executable, "-m", "tracer.cli.main", "-q", *map(str, words)]
    measure([*command[:-3], str(out.parent / "first"), *command[-2:]], LONGEST_S)  # compiles
    used = measure(command, LONGEST_S)
    found = sorted(out.glob("auto_trace_*"))
    if not found:
        raise NothingFoundError(f"{case.name}: no trace (status {used.status})")
    surface = Surface.load(found[0])
    figures: Figures = {
        "patches": len(given.surfaces),
        "patches used": len(surface.meta["used_segments"]),
        "cpu_s": used.cpu_s,
        "peak_mb": used.memory_mb,
        "vertices": int(surface.valid.sum()),
        "closed holes, share of the vertices": float((surface.channels["state"] == 80).sum())
        / float(surface.valid.sum()),
    }
    if given.truth is not None:
        own = score_surfaces(given.surfaces, given.truth)
        bare = replace(surface, valid=surface.valid & (surface.channels["state"] == DATA))
        figures |= _scored(score_surfaces([surface], given.truth), own)
        figures["on patches, coverage / that of the patches"] = (
            score_surfaces([bare], given.truth).coverage / own.coverage
        )
    if given.labels is not None:
        labelled = score_labelled_surfaces([surface], Volume.open(given.labels))
        figures["vertices on a label"] = labelled.labelled
    return figures


def _scored(scored: Score, own: Score) -> Figures:
    return {
        "coverage": scored.coverage,
        "coverage of the patches": own.coverage,
        "patches with a switch": own.n_switched,
        "coverage / that of the patches": scored.coverage / own.coverage,
        "switch_rate": scored.switch_rate,
        "switch_edges": scored.switch_edges,
        "distance_median": scored.distance_median,
        "distance_p95": scored.distance_p95,
        "length distortion, median": scored.length_distortion,
        "area distortion, median": scored.area_distortion,
        "self_intersections": scored.self_intersections,
    }


def _stored() -> Figures:
    """Return the score of VC3D's stored trace."""
    given = unroll_inputs.vc3d()
    assert given.truth is not None
    (path,) = (p.parent for p in sorted((VC3D / "trace").glob("*/meta.json")))
    scored = score_surfaces([Surface.load(path)], given.truth)
    own = score_surfaces(given.surfaces, given.truth)
    return {"cpu_s": VC3D_CPU_S, **_scored(scored, own)}


def _unrolled(given: Collection) -> Figures:
    """Return the figures of `unroll` on the same patches, start-up left out."""
    params = UnrollParams()
    unroll(Patches.from_surfaces(given.surfaces[:8]), params)  # compiles
    forget_peak()
    started = time.process_time()
    result = unroll(Patches.from_surfaces(given.surfaces), params)
    seconds = time.process_time() - started
    figures: Figures = {
        "unroll, cpu_s": seconds,
        "unroll, peak_mb": peak_mb(),
    }
    if given.truth is not None:
        surfaces = [component_surface(one, {}) for one in result.components]
        own, scored = (score_surfaces(s, given.truth) for s in (given.surfaces, surfaces))
        figures |= {
            "unroll, coverage / that of the patches": scored.coverage / own.coverage,
            "unroll, switch_rate": scored.switch_rate,
            "unroll, distance_median": scored.distance_median,
        }
    return figures


def main() -> None:
    """Print the figures of all cases, or of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="", help="Part of the name of cases.")
    chosen = parser.parse_args()
    for case in TINY if chosen.tiny else CASES:
        if chosen.only in case.name:
            for figure, value in run(case).items():
                shown = value if isinstance(value, str) else f"{value:.4g}"
                print(f"{case.name}: {figure:44s} {shown:>12}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
