"""Fuse and ground: error of the surface and of its holes, distortion, switches, cost against size.

    python -m benchmarks.bench_fuse [--tiny] [--only CASE]

``vc3d`` fuses VC3D's stored trace with its true winding and compares with VC3D's own result, scored
by the same code; VC3D runs here where ``VC3D_BIN`` names its executables. ``holes`` fuses a trace
of the whole recto with discs of some radius left out. ``parts`` fuses overlapping parts that run
and count either way. ``size`` refines the trace. Distances are to the recto, voxels; those of
``hole`` are of inpainted nodes only.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import vc3d
from benchmarks.bench_winding import truth_of
from benchmarks.growth_inputs import VC3D
from benchmarks.trace_inputs import Cut, cut_out
from benchmarks.usage import forget_peak, peak_mb
from tracer.check.measures import self_intersections
from tracer.flatten import measure_distortion
from tracer.fuse import FuseParams, Source, fuse, ground, load_sources
from tracer.phantom import Truth
from tracer.score import score_surfaces
from tracer.surface import Surface
from tracer.unroll.inpaint import fill_domain
from tracer.winding import solve_winding

WIDEST = 1000.0  # voxels; holes that are filled
Figures = dict[str, float | str]
VC3D_CPU_S = {"fuse": 420.0, "ground": 2.4}  # from the README of the data


@dataclass(frozen=True, slots=True)
class Case:
    """One fusion.

    Attributes
    ----------
    name : str
        "vc3d", "holes", "parts", "narrow" or "size".
    level : str
        "reference", or a level of phantom of 384³.
    radius : float
        Of the holes, voxels.
    step : float
        Voxels between vertices of the traces.
    """

    name: str
    level: str = "reference"
    radius: float = 0.0
    step: float = 20.0


CASES = (
    Case("vc3d"),
    Case("holes", radius=30.0),
    Case("holes", radius=60.0),
    Case("holes", radius=120.0),
    Case("holes", radius=200.0),
    Case("holes", "normal", radius=40.0),
    Case("parts"),
    Case("parts", "normal"),
    Case("narrow"),
    Case("size", step=20.0),
    Case("size", step=10.0),
    Case("size", step=5.0),
)
TINY = (Case("holes", radius=60.0),)


def run(case: Case) -> Figures:
    """Return the figures of a case."""
    truth = truth_of(case.level)
    if truth is None:
        return {}
    if case.name == "vc3d":
        return _against_vc3d(truth)
    trace, _ = cut_out(truth, Cut(holes=case.radius, step=case.step))
    if case.name == "narrow":
        trace = _narrowed(trace)
    sources = [_with_winding(trace)] if case.name != "parts" else _parts(trace)
    fuse(sources[:1], FuseParams(trace_mul=2))  # compiles
    forget_peak()
    started = time.process_time()
    fused = fuse(sources, FuseParams())
    seconds = time.process_time() - started
    surface = fused.surface({})
    figures = {
        "vertices": int(sum(s.surface.valid.sum() for s in sources)),
        "cpu_s": seconds,
        "peak_mb": peak_mb(),
        **_quality(surface, truth),
    }
    started = time.process_time()
    coarse = fuse(sources, FuseParams(trace_mul=2)).surface({})
    winding = coarse.channels["winding_exact"].astype(np.float64)
    fine = ground(Source(surface=coarse, winding=winding), 2, sources, {})
    figures["fuse at half the resolution + ground, cpu_s"] = time.process_time() - started
    return figures | {f"ground, {key}": value for key, value in _quality(fine, truth).items()}


def _with_winding(surface: Surface) -> Source:
    values = solve_winding(surface).values.astype(np.float64)
    return Source(surface=surface, winding=values)


def _narrowed(trace: Surface) -> Surface:
    """Return a trace with a single row over the middle third of its columns."""
    rows, cols = trace.shape
    valid = trace.valid.copy()
    valid[:, cols // 3 : 2 * cols // 3] = False
    valid[rows // 2, cols // 3 : 2 * cols // 3] = trace.valid[rows // 2, cols // 3 : 2 * cols // 3]
    return dataclasses.replace(trace, valid=valid)


def _parts(trace: Surface) -> list[Source]:
    """Return three overlapping parts; the second runs backwards."""
    n = trace.shape[1]
    parts = []
    for k, (first, last) in enumerate(((0, n // 2), (n // 3, 4 * n // 5), (2 * n // 3, n))):
        view = slice(first, last)
        order = slice(None, None, -1 if k == 1 else 1)
        part = dataclasses.replace(
            trace,
            points_xyz=trace.points_xyz[:, view][:, order].copy(),
            valid=trace.valid[:, view][:, order].copy(),
        )
        parts.append(_with_winding(part))
    return parts


def _quality(surface: Surface, truth: Truth) -> Figures:
    scored = score_surfaces([surface], truth)
    distortion = measure_distortion(surface)
    figures: Figures = {
        "coverage": scored.coverage,
        "distance median": scored.distance_median,
        "distance p95": scored.distance_p95,
        "within 3 voxels": scored.within,
        "switch edges": scored.switch_edges,
        "self-intersections": len(self_intersections(surface)),
        "stretch, median": distortion.stretch_median,
        "shear, median, degrees": distortion.shear_median_deg,
        "area distortion, median": distortion.area_median,
    }
    on_trace = surface.channels["state"] == 100  # what lies beyond their rim is no hole
    filled = surface.valid & fill_domain(on_trace, int(WIDEST / surface.step), 0)
    if filled.any():
        off = np.abs(truth.distance(surface.points_xyz[filled].astype(np.float64)))
        figures["hole nodes"] = int(filled.sum())
        figures["hole median"] = float(np.median(off))
        figures["hole p95"] = float(np.percentile(off, 95))
    return figures


def _against_vc3d(truth: Truth) -> Figures:
    path = next((VC3D / "trace").glob("*/meta.json")).parent
    sources = load_sources([(path, VC3D / "winding" / "winding_true.tif", 1.0)])
    fuse(sources, FuseParams())  # compiles
    started = time.process_time()
    fused = fuse(sources, FuseParams()).surface({})
    seconds = time.process_time() - started
    theirs_s, theirs = _vc3d_surfaces(path)
    figures: Figures = {
        "cpu_s": seconds,
        "VC3D, cpu_s": theirs_s,
        "VC3D / ours, cpu_s": theirs_s / seconds,
        **_quality(fused, truth),
    }
    for name, surface in theirs.items():
        scored = score_surfaces([surface], truth)
        figures |= {
            f"VC3D, {name}, distance median": scored.distance_median,
            f"VC3D, {name}, within 3 voxels": scored.within,
            f"VC3D, {name}, switch edges": scored.switch_edges,
        }
    return figures


def _vc3d_surfaces(trace: Path) -> tuple[float, dict[str, Surface]]:
    """Return VC3D's CPU time for fusing a trace, and its surfaces: run if at hand, else stored."""
    stored = {
        name: Surface.load(next((VC3D / name).glob("*/meta.json")).parent, channels=())
        for name in ("fuse", "ground")
    }
    if not vc3d.has_tools():
        return VC3D_CPU_S["fuse"], stored
    winding = VC3D / "winding" / "winding_true.tif"
    values = json.loads((VC3D / "fuse" / "fuse.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        used, path = vc3d.fuse(trace, winding, values, Path(folder) / "fuse")
        return used.cpu_s, {"fuse": Surface.load(path, channels=())}


def main() -> None:
    """Print the figures of all cases, or of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    for case in TINY if chosen.tiny else CASES:
        if chosen.only in ("", case.name):
            label = f"{case.name} {case.level} {case.radius:g} {case.step:g}"
            for figure, value in run(case).items():
                shown = value if isinstance(value, str) else f"{value:.4g}"
                print(f"{label}: {figure:45s} {shown:>10}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
