"""Windings: error on correct traces, planted jumps found, false alarms, cost against size; flatten.

    python -m benchmarks.bench_winding [--tiny] [--only CASE]

``correct`` are traces cut out of the true recto: half a wrap to all, both directions of rows and
columns, noise, holes. ``jumps`` have a jump of one wrap planted: for good, there and back, over
part of the height, over one to three cells. ``vc3d`` is VC3D's stored trace. ``size`` refines one
trace to a million vertices. Errors are in wraps, the best offset removed. Where ``VC3D_BIN`` names
VC3D's executables they run here, else its stored winding is read.
"""

import argparse
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import growth_inputs, vc3d
from benchmarks.growth_inputs import VC3D
from benchmarks.trace_inputs import Cut, cut_out
from benchmarks.usage import forget_peak, peak_mb
from tracer.flatten import flatten, measure_distortion
from tracer.phantom import Truth
from tracer.surface import Surface
from tracer.winding import Winding, solve_winding

Figures = dict[str, float | str]
VC3D_WALL_S = 0.7  # from the README of the data


@dataclass(frozen=True, slots=True)
class Case:
    """One set of traces.

    Attributes
    ----------
    name : str
        "correct", "jumps", "vc3d", "size" or "flatten".
    level : str
        "reference", or a level of phantom of 384³.
    step : float
        Voxels between vertices ("size").
    few : bool
        Only two of the traces.
    """

    name: str
    level: str = "reference"
    step: float = 20.0
    few: bool = False


CASES = (
    Case("vc3d"),
    Case("correct"),
    Case("correct", "normal"),
    Case("correct", "hard"),
    Case("jumps"),
    Case("jumps", "normal"),
    Case("jumps", "hard"),
    Case("size", step=10.0),
    Case("size", step=5.0),
    Case("size", step=2.0),
    Case("flatten"),
    Case("flatten", "normal"),
    Case("flatten", "hard"),
)
TINY = (Case("correct", few=True),)


def truth_of(level: str) -> Truth | None:
    """Return the truth of a phantom, None where it lacks."""
    if level != "reference":
        truth = growth_inputs.phantom(level, 384).truth
        assert truth is not None
        return truth
    return Truth.load(VC3D / "truth.json") if VC3D.is_dir() else None


def run(case: Case) -> Figures:
    """Return the figures of a case."""
    truth = truth_of(case.level)
    if truth is None:
        return {}
    if case.name == "correct":
        return _correct(truth, case)
    if case.name == "jumps":
        return _jumps(truth)
    if case.name == "vc3d":
        return _stored()
    surface, _ = cut_out(truth, Cut(step=case.step))
    if case.name == "flatten":
        skewed = _lean(cut_out(truth, Cut())[0])
        before, flat = measure_distortion(skewed), flatten(skewed)
        return {
            **{f"before, {k}": v for k, v in before.to_json().items()},
            **measure_distortion(flat).to_json(),
        }
    solve_winding(cut_out(truth, Cut(wraps=1.0))[0])  # compiles
    forget_peak()
    started = time.process_time()
    found = solve_winding(surface)
    seconds = time.process_time() - started
    n = int(surface.valid.sum())
    return {
        "vertices": n,
        "cpu_s": seconds,
        "cpu_s per 100k": 1e5 * seconds / n,
        "peak_mb": peak_mb(),
        "mean error, wraps": float(np.mean(errors(found, surface, truth))),
        "discontinuities": len(found.discontinuities),
    }


def errors(found: Winding, surface: Surface, truth: Truth) -> np.ndarray:
    """Return the absolute errors of the windings of the largest component, wraps."""
    use = surface.valid & (found.component == 0)
    theta = truth.theta(surface.points_xyz[use].astype(np.float64)) / (2 * np.pi)
    values = found.values[use] * np.sign(np.cov(found.values[use], theta)[0, 1])
    off = values - theta
    return np.abs(off - np.median(off))


def _correct(truth: Truth, case: Case) -> Figures:
    """Return errors and false alarms on traces without a jump."""
    cuts = [
        Cut(wraps=wraps, flip_rows=rows, flip_cols=cols, holes=holes)
        for wraps, rows, cols, holes in itertools.product(
            (0.5, 1.0, 1.5, 3.0, 0.0), (False, True), (False, True), (0.0, 40.0)
        )
    ]
    worst, means, alarms, cells = 0.0, [], 0, 0
    for k, cut in enumerate(cuts[:2] if case.few else cuts):
        surface, _ = cut_out(truth, cut, seed=k)
        found = solve_winding(surface)
        off = errors(found, surface, truth)
        means.append(float(off.mean()))
        worst = max(worst, means[-1])
        alarms += bool(found.discontinuities)
        cells += int(surface.valid.sum())
    return {
        "traces": len(means),
        "vertices": cells,
        "mean error, wraps": float(np.mean(means)),
        "worst trace's mean error, wraps": worst,
        "traces with a false alarm": alarms,
    }


def _jumps(truth: Truth) -> Figures:
    """Return how many planted jumps are found, and what else is reported."""
    found_places = places = besides = 0
    kinds: list[dict[str, object]] = [
        {},
        {"rows": (0.0, 0.5)},
        {"back": 0.12},
        {"back": 0.12, "rows": (0.3, 0.7)},
    ]
    n = 0
    for at, ramp, (k, kind) in itertools.product((0.25, 0.5, 0.7), (1, 2, 3), enumerate(kinds)):
        back = at + float(kind["back"]) if "back" in kind else 0.0  # type: ignore[arg-type]
        rows = kind.get("rows", (0.0, 1.0))
        cut = Cut(jump_at=at, back_at=back, rows=rows, ramp=ramp)  # type: ignore[arg-type]
        surface, planted = cut_out(truth, cut, seed=k)
        seen = [jump.cols for jump in solve_winding(surface).discontinuities]
        for place in planted:
            places += 1
            found_places += any(first - 4 <= place <= last + 4 for first, last in seen)
        low, high = planted.min() - 4, planted.max() + 8
        if "rows" not in kind:  # where a part jumps for good, the tear beyond it is real as well
            besides += sum(last < low or first > high for first, last in seen)
        n += 1
    return {
        "traces": n,
        "planted": places,
        "found": found_places,
        "found / planted": found_places / places,
        "reported elsewhere": besides,
    }


def _stored() -> Figures:
    """Return the error on VC3D's stored trace, ours and VC3D's own."""
    path = next((VC3D / "trace").glob("*/meta.json")).parent
    surface = Surface.load(path)
    truth = tifffile.imread(VC3D / "winding" / "winding_true.tif").astype(float)
    theirs, theirs_s = _vc3d_winding(path)
    solve_winding(surface)  # compiles
    started = time.process_time()
    found = solve_winding(surface)
    seconds = time.process_time() - started
    use = surface.valid
    values = found.values * np.sign(np.cov(found.values[use], truth[use])[0, 1])

    def mean(of: np.ndarray) -> float:
        off = (of - truth)[use]
        return float(np.abs(off - np.median(off)).mean())

    return {
        "mean error, wraps": mean(values),
        "VC3D, mean error, wraps": mean(np.nan_to_num(theirs)),
        "discontinuities": len(found.discontinuities),
        "cpu_s": seconds,
        "VC3D, wall_s": theirs_s,
    }


def _vc3d_winding(trace: Path) -> tuple[np.ndarray, float]:
    """Return VC3D's winding of a trace and its time: run where it is at hand, else stored."""
    if not vc3d.has_tools():
        return tifffile.imread(VC3D / "winding" / "winding.tif").astype(float), VC3D_WALL_S
    with tempfile.TemporaryDirectory() as folder:
        used, path = vc3d.find_winding(trace, Path(folder) / "winding")
        return tifffile.imread(path).astype(float), used.wall_s


def _lean(surface: Surface) -> Surface:
    """Return a surface on a grid whose columns lean and whose spacing varies."""
    rows, cols = np.meshgrid(
        np.arange(float(surface.shape[0])), np.arange(surface.shape[1] - 8.0), indexing="ij"
    )
    places = cols + 0.25 * rows + 0.8 * np.sin(cols / 7.0)
    points, valid = surface.sample(rows, np.clip(places, 0, surface.shape[1] - 1))
    return Surface(
        points_xyz=np.where(valid[..., None], points, -1), valid=valid, scale=surface.scale
    )


def main() -> None:
    """Print the figures of all cases, or of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    for case in TINY if chosen.tiny else CASES:
        if chosen.only in ("", case.name):
            for figure, value in run(case).items():
                shown = value if isinstance(value, str) else f"{value:.4g}"
                print(
                    f"{case.name} {case.level} {case.step:g}: {figure:40s} {shown:>10}", flush=True
                )


if __name__ == "__main__":
    sys.exit(main())
