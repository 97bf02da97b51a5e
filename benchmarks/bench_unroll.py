"""Quality and cost of unrolling: VC3D's patches, grown and planted ones, jumps, holes, halves.

    python -m benchmarks.bench_unroll [--tiny] [--only CASE] [--long]

``vc3d`` are VC3D's 248 patches of the reference phantom, of which 24 jump; ``grown`` are ours on
phantoms of 384³, with and without growth's defences, on labelled sheets of a real scroll and on a
wound battery (:mod:`benchmarks.battery`); ``planted`` are cut out of the true recto of
the reference phantom (as high as ``times`` says), with planted jumps, missing discs or a missing
belt. ``coverage of the patches`` is what they cover themselves. ``--long`` goes to a million
vertices. Distances are to the recto; those of ``hole`` are of inpainted nodes only.
"""

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np

from benchmarks import battery, unroll_inputs
from benchmarks.unroll_inputs import VC3D, Collection
from benchmarks.usage import forget_peak, peak_mb
from tracer.label_score import score_labelled_surfaces
from tracer.phantom import Truth
from tracer.score import score_surfaces, vertex_areas, wrap_offsets
from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams, find_suspects, unroll
from tracer.unroll.inpaint import FILLED
from tracer.unroll.output import component_surface
from tracer.unroll.stage import UnrollResult
from tracer.volume import Volume

Figures = dict[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One collection to unroll.

    Attributes
    ----------
    name : str
        What it shows.
    kind : str
        "vc3d", "grown", "planted" or "stored" (VC3D's trace and fuse, only scored).
    level : str
        Grown: "reference", "normal", "hard", "labels" or "battery".
    n : int
        Patches.
    jumping, missing, gap : float
        Planted: see :func:`benchmarks.unroll_inputs.planted`.
    times : float
        Planted: height of the sheet, times that of the reference phantom.
    defended : bool
        Grown: with the defences against jumps.
    min_area_cm : float
        Grown: smallest patch.
    prediction : bool
        Whether the surface is pulled to the prediction.
    step : float
        Voxels between nodes.
    """

    name: str
    kind: str = "planted"
    level: str = ""
    n: int = 0
    jumping: float = 0.0
    missing: float = 0.0
    gap: float = 0.0
    times: float = 1.0
    defended: bool = True
    min_area_cm: float = 0.02
    prediction: bool = False
    step: float = 20.0


CASES = (
    Case(name="reference", kind="vc3d"),
    Case(name="reference, prediction", kind="vc3d", prediction=True),
    Case(name="reference, prediction, step 10", kind="vc3d", prediction=True, step=10.0),
    Case(name="VC3D's trace and fuse", kind="stored"),
    Case(name="grown, reference", kind="grown", level="reference", n=250, prediction=True),
    Case(name="grown, normal, few", kind="grown", level="normal", n=100),
    Case(name="grown, normal", kind="grown", level="normal", n=240),
    Case(name="grown, normal, prediction", kind="grown", level="normal", n=240, prediction=True),
    Case(name="grown, normal, undefended", kind="grown", level="normal", n=240, defended=False),
    Case(name="grown, hard", kind="grown", level="hard", n=400, min_area_cm=0.004),
    Case(
        name="grown, hard, prediction",
        kind="grown",
        level="hard",
        n=400,
        min_area_cm=0.004,
        prediction=True,
    ),
    Case(
        name="grown, hard, undefended",
        kind="grown",
        level="hard",
        n=400,
        min_area_cm=0.004,
        defended=False,
    ),
    Case(name="grown, labels", kind="grown", level="labels", n=240, min_area_cm=0.01),
    Case(
        name="grown, labels, prediction, step 10",
        kind="grown",
        level="labels",
        n=240,
        min_area_cm=0.01,
        prediction=True,
        step=10.0,
    ),
    Case(
        name="grown, battery",
        kind="grown",
        level="battery",
        n=400,
        min_area_cm=0.002,
        prediction=True,
        step=10.0,
    ),
    Case(name="250 planted, 10 % jump", n=250, jumping=0.1),
    Case(name="250 planted, 30 % jump", n=250, jumping=0.3),
    Case(name="250 planted, discs of 30 missing", n=250, missing=30.0),
    Case(name="250 planted, discs of 60 missing", n=250, missing=60.0),
    Case(name="250 planted, discs of 120 missing", n=250, missing=120.0),
    Case(name="250 planted, halves 60 apart", n=250, gap=60.0),
    Case(name="500 planted", n=500),
    Case(name="1000 planted", n=1000),
    Case(name="1000 planted, 2 times as high", n=1000, times=2.0),
)
LONG = (
    Case(name="2000 planted, 4 times as high", n=2000, times=4.0),
    Case(name="4500 planted, 9 times as high", n=4500, times=9.0),
)
TINY = (Case(name="tiny", n=40, jumping=0.1),)


def make(case: Case) -> Collection | None:
    """Return the collection of a case, None where data is missing."""
    if case.kind == "grown":
        try:
            return unroll_inputs.grown(
                case.level, case.n, defended=case.defended, min_area_cm=case.min_area_cm
            )
        except FileNotFoundError:
            return None
    if not VC3D.is_dir():
        return None
    if case.kind == "vc3d":
        return unroll_inputs.vc3d()
    truth = unroll_inputs.tall(Truth.load(VC3D / "truth.json"), case.times)
    return unroll_inputs.planted(
        truth, case.n, jumping=case.jumping, missing=case.missing, gap=case.gap
    )


def run(case: Case) -> Figures:
    """Return the figures of a case."""
    if case.kind == "stored":
        return _stored()
    given = make(case)
    if given is None:
        return {}
    prediction = None
    if case.prediction and given.prediction is not None:
        prediction = Volume.open(given.prediction)
    params = UnrollParams(step=case.step)
    patches = Patches.from_surfaces(given.surfaces)
    unroll(Patches.from_surfaces(given.surfaces[:8]), params, prediction=prediction)  # compiles
    forget_peak()
    started = time.process_time()
    result = unroll(patches, params, prediction=prediction)
    seconds = time.process_time() - started
    surfaces = [component_surface(one, {}) for one in result.components]
    figures: Figures = {
        "patches": len(given.surfaces),
        "vertices": patches.n_vertices,
        "touches": len(result.solved.contacts),
        "components": len(surfaces),
        "cpu_s": seconds,
        "cpu_s_per_100k": 1e5 * seconds / patches.n_vertices,
        "peak_mb": peak_mb(),
    }
    if given.truth is not None:
        figures |= _quality(given, surfaces, result)
    if given.labels is not None:
        labelled = score_labelled_surfaces(surfaces, Volume.open(given.labels))
        figures |= {
            "vertices on a label": labelled.labelled,
            "of these on the component's main id": labelled.purity,
            "ids": len({one.main_id for one in labelled.surfaces if one.n_labelled}),
        }
    if case.level == "battery":
        windings = [surface.channels["winding"] for surface in surfaces]
        figures |= {"turns": max(float(np.nanmax(w) - np.nanmin(w)) for w in windings)}
        figures |= battery.score(surfaces, windings)
    if given.spliced:
        named = {
            s.patch
            for s in find_suspects(result.solved, result.components)
            if s.kind != "component"
        }
        figures |= {
            "planted": len(given.spliced),
            "planted_found": len(given.spliced & named),
            "suspected besides": len(named - given.spliced),
        }
    return figures


def _quality(given: Collection, surfaces: list[Surface], result: UnrollResult) -> Figures:
    """Return how the surfaces compare with the truth, and how far holes are off."""
    assert given.truth is not None
    own, scored = score_surfaces(given.surfaces, given.truth), score_surfaces(surfaces, given.truth)
    figures: Figures = {
        "coverage_of_patches": own.coverage,
        "patches with a switch": own.n_switched,
        "coverage": scored.coverage,
        "coverage / that of the patches": scored.coverage / own.coverage,
        "switch_rate": scored.switch_rate,
        "switch_rate on the sheet": _switched_on_sheet(surfaces, given.truth),
        "distance_median": scored.distance_median,
        "distance_p95": scored.distance_p95,
        "length distortion, median": scored.length_distortion,
        "area distortion, median": scored.area_distortion,
        "holes left, vx2": scored.hole_vx2,
    }
    filled = [
        surface.points_xyz[surface.valid & (one.state == FILLED)]
        for surface, one in zip(surfaces, result.components, strict=True)
    ]
    points = np.concatenate(filled).astype(np.float64)
    points = points[given.truth.inside(points)] if len(points) else points
    if len(points):
        off = np.abs(given.truth.distance(points))
        figures |= {
            "hole nodes": len(off),
            "hole_median": float(np.median(off)),
            "hole_p95": float(np.percentile(off, 95)),
        }
    return figures


def _switched_on_sheet(surfaces: list[Surface], truth: Truth) -> float:
    """Return the share of the area on a wrong wrap, of what is not beyond the sheet's ends.

    Patches on a case or a lining have no true wrap; they count in ``switch_rate``.
    """
    switched = area = 0.0
    for surface in surfaces:
        points = np.where(surface.valid[..., None], surface.points_xyz, np.nan).astype(np.float64)
        located = truth.locate(points)
        there = truth.is_inside(points, located) & surface.valid
        if there.any():
            shares = vertex_areas(surface.quad_areas())
            offsets = wrap_offsets(located, there, surface.step, shares)
            switched += float(shares[there & (offsets != 0)].sum())
            area += float(shares[there].sum())
    return switched / area if area else 0.0


def _stored() -> Figures:
    """Return the score of VC3D's stored trace and of its fused surface."""
    if not VC3D.is_dir():
        return {}
    truth, figures = Truth.load(VC3D / "truth.json"), Figures()
    for name, cpu_s in (("trace", 101), ("fuse", 420)):
        path = next(p.parent for p in sorted((VC3D / name).glob("*/meta.json")))
        scored = score_surfaces([Surface.load(path)], truth)
        figures |= {
            f"{name}, coverage": scored.coverage,
            f"{name}, switch_rate": scored.switch_rate,
            f"{name}, distance_median": scored.distance_median,
            f"{name}, distance_p95": scored.distance_p95,
            f"{name}, cpu_s": cpu_s,
        }
    return figures


def main() -> None:
    """Print the figures of all cases, or of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="", help="Part of the name of cases.")
    parser.add_argument("--long", action="store_true", help="The long cases too.")
    chosen = parser.parse_args()
    for case in TINY if chosen.tiny else CASES + (LONG if chosen.long else ()):
        if chosen.only in case.name:
            for figure, value in run(case).items():
                shown = value if isinstance(value, str) else f"{value:.4g}"
                print(f"{case.name}: {figure:40s} {shown:>12}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
