"""What :mod:`benchmarks.protocol` measures, how it ranks, and its table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracer.check import CheckParams, check
from tracer.coverage import CoverageSample
from tracer.phantom.truth import Truth
from tracer.score import find_surfaces, score_paths
from tracer.spatial_index import SpatialIndex
from tracer.surface import Surface
from tracer.volume import Volume

THRESHOLD = 170
_SCORED = (
    "coverage",
    "switch_rate",
    "switch_edges",
    "distance_median",
    "distance_p95",
    "within",
    "outside",
    "normal_median_deg",
    "length_distortion",
    "area_distortion",
    "hole_vx2",
    "self_intersections",
)
# Column of the table: heading, key, format.
_ALWAYS = (
    ("cm²", "area_cm2", ".2f"),
    ("good cm²", "good_cm2", ".2f"),
    ("wraps", "wraps", ".2f"),
    ("winding", "winding", "s"),
    ("jumps", "jumps", "d"),
    ("on prediction", "on_prediction", ".3f"),
    ("covers prediction", "prediction_coverage", ".3f"),
    ("on scan", "ct_support", ".3f"),
    ("self-int.", "self_intersections", "d"),
    ("folds", "folded_cells", "d"),
    ("holes", "hole_share", ".3f"),
    ("stretch p95", "stretch_p95", ".3f"),
    ("CPU-s / cm²", "cpu_s_per_cm2", ".1f"),
)
_WITH_TRUTH = (
    ("coverage", "coverage", ".3f"),
    ("switched", "switch_rate", ".4f"),
    ("distance", "distance_median", ".2f"),
    ("p95", "distance_p95", ".2f"),
)


def prediction_coverage(surfaces: Sequence[Path], prediction: Volume) -> float:
    """Return the share of the prediction that surfaces pass within two voxels of."""
    sample = CoverageSample.draw(prediction, THRESHOLD, rng_seed=0)
    for path in surfaces:  # one at a time, so that any number fits in memory
        surface = Surface.load(path, channels=())
        if surface.valid_quads.any():
            sample.update(SpatialIndex.from_surfaces({path.name: surface}))
    return round(sample.fraction, 5)


def surface_figures(
    path: Path, prediction: Volume, *, ct: str | None, truth: Path | None
) -> dict[str, Any]:
    """Return the figures of one surface: those that need no truth, and those that do.

    Parameters
    ----------
    path : Path
        A surface.
    prediction : Volume
        Surface prediction.
    ct : str, optional
        The scan.
    truth : Path, optional
        Phantom folder or its truth.json.

    Returns
    -------
    dict
        ``good_cm2`` is the area that lies where it should: on the prediction, or with a truth
        within 3 voxels of the recto and on the wrap that the surface follows.
    """
    params = CheckParams(threshold=THRESHOLD)
    report = check([path], params, prediction=prediction.path, ct=ct, together=False)
    (one,) = report.surfaces
    measured = one.figures
    area_cm2 = measured["area_vx2"] * (prediction.voxel_size_um * 1e-4) ** 2
    winding = measured.get("winding") or {}
    figures: dict[str, Any] = {
        "verdict": one.verdict,
        "problems": [problem.code for problem in one.problems],
        "area_cm2": round(area_cm2, 5),
        "wraps": winding.get("wraps"),
        "winding": winding.get("verdict"),
        "jumps": len(winding.get("discontinuities", ())),
        "on_prediction": measured["on_prediction"][1],
        "prediction_coverage": prediction_coverage([path], prediction),
        "ct_support": measured.get("ct_support"),
        "self_intersections": measured.get("intersecting_edges"),
        "folded_cells": measured.get("folded_cells"),
        "hole_share": measured.get("hole_share"),
        "stretch_p95": measured.get("distortion", {}).get("stretch_p95"),
    }
    right = figures["on_prediction"]
    if truth is not None:
        score = score_paths([path], Truth.load(truth)).to_json()
        figures |= {key: score[key] for key in _SCORED}
        right = score["within"] * (1.0 - score["switch_rate"])
    return figures | {"good_cm2": round(area_cm2 * right, 5)}


def collection_figures(
    paths: Sequence[Path], prediction: Volume, truth: Path | None
) -> dict[str, Any]:
    """Return the figures of surfaces or collections taken together."""
    found = find_surfaces(paths)
    area = sum(Surface.load(path, channels=()).area_vx2 for path in found)
    figures: dict[str, Any] = {
        "surfaces": len(found),
        "area_cm2": round(area * (prediction.voxel_size_um * 1e-4) ** 2, 5),
        "prediction_coverage": prediction_coverage(found, prediction),
    }
    if truth is not None:
        score = score_paths(paths, Truth.load(truth)).to_json()
        figures |= {key: score[key] for key in (*_SCORED, "n_switched")}
    return figures


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows, best first.

    Surfaces whose winding does not jump and that do not cross themselves come before the others;
    among them the one with most good area is best.
    """
    for row in rows:
        cpu_s = row.get("cpu_s")
        area = row["area_cm2"]
        row["cpu_s_per_cm2"] = round(cpu_s / area, 3) if cpu_s is not None and area > 0 else None
    return sorted(
        rows,
        key=lambda row: (
            bool(row["jumps"]) or bool(row["self_intersections"]),
            -row["good_cm2"],
            row["name"],
        ),
    )


def as_markdown(result: dict[str, Any]) -> str:
    """Return the report as a table in Markdown, with what the patches are like above."""
    columns = _ALWAYS + (_WITH_TRUTH if result["truth"] else ())
    head = ["", "surface", *(heading for heading, _, _ in columns)]
    lines = [_summary("patches", result["patches"]), _summary("all traces", result["all traces"])]
    spent = sum(step["cpu_s"] for step in result["steps"].values())
    peak = max((step["memory_mb"] for step in result["steps"].values()), default=0.0)
    lines += [f"All steps: {spent:.0f} CPU-s, at most {peak:.0f} MB.", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for place, row in enumerate(result["ranked"], start=1):
        cells = [_cell(row.get(key), form) for _, key, form in columns]
        lines.append("| " + " | ".join([str(place), row["name"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def _summary(name: str, figures: dict[str, Any]) -> str:
    """Return a line about a collection."""
    if not figures:
        return f"{name}: none."
    text = (
        f"{name}: {figures['surfaces']} surfaces, {figures['area_cm2']:.2f} cm², cover "
        f"{figures['prediction_coverage']:.3f} of the prediction"
    )
    if "fail" in figures:
        text += f", {figures['pass']} pass, {figures['warn']} warn, {figures['fail']} fail"
    if "coverage" in figures:
        text += (
            f"; of the true recto {figures['coverage']:.3f}, sheet switches in "
            f"{figures['n_switched']}, distance median {figures['distance_median']:.2f}, "
            f"p95 {figures['distance_p95']:.2f}"
        )
    return text + "."


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
