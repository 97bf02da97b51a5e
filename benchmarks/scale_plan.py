"""What a whole scroll costs, from the figures of benchmarks/results.json, into docs/scale.md.

    python -m benchmarks.scale_plan [--print]

The arithmetic is that of `tracer run --dry-run` (:mod:`tracer.run.estimate`); its figures are
replaced here by those measured last, where a benchmark measures them. Nothing is run.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from tracer.run.estimate import Estimate, Measured, estimate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "scale.md"
SHAPE_ZYX = (26_000, 8_000, 8_000)
VOXEL_SIZE_UM = 7.91
SHEET_CM2 = 2_000.0
OVERLAP = 10.0  # 60,000 patches of 0.33 cm²
LAYERS = 65
NOT_EMPTY = 0.25  # of the prediction's chunks
_BLOCK = re.compile(r"(<!-- scale plan -->\n).*?(<!-- end of scale plan -->)", re.DOTALL)
# field of Measured: benchmark, case, figure, and what turns that figure into the field
SOURCES: dict[str, tuple[str, str, str, float]] = {
    "grow_cpu_s_per_cm2": ("growth", "coverage", "cpu_s per cm2", 1.0),
    "expand_main_cpu_s_per_patch": (
        *("growth", "expansion", "each further patch, 2 workers, cpu_ms of the main process"),
        1e-3,
    ),
    "unroll_cpu_s_per_vertex": ("unroll", "reference, prediction", "cpu_s_per_100k", 1e-5),
    "cache_bytes_per_chunk": ("growth", "reference", "cache, bytes per chunk", 1.0),
    "render_gb": ("render", "canvas, cols 60000, rows 10000", "memory_mb", 1e-3),
}


def measured(results: dict[str, Any]) -> Measured:
    """Return the figures of a results file; what it lacks is as in the code."""
    values = {}
    for field, (bench, case, figure, factor) in SOURCES.items():
        found = results.get(bench, {}).get("cases", {}).get(case, {}).get(figure)
        if found is not None:
            values[field] = float(found) * factor
    canvas = results.get("render", {}).get("cases", {}).get("canvas, cols 20000, rows 4000", {})
    if "cpu_s" in canvas:
        values["render_pixels_per_cpu_s"] = 1e6 * canvas["Mpixel"] / canvas["cpu_s"]
    fused = results.get("fuse", {}).get("cases", {}).get("size, step 5.0", {})
    if "cpu_s" in fused:
        values["fuse_cpu_s_per_vertex"] = fused["cpu_s"] / fused["vertices"]
    return Measured(**values)


def scroll(figures: Measured, way: str) -> Estimate:
    """Return what the scroll of docs/scale.md costs."""
    z, y, x = SHAPE_ZYX
    return estimate(
        sheet_cm2=SHEET_CM2,
        n_chunks=NOT_EMPTY * z * y * x / 128**3,
        voxel_size_um=VOXEL_SIZE_UM,
        layers=LAYERS,
        overlap=OVERLAP,
        ct_voxels=float(z * y * x),
        way=way,
        measured=figures,
    )


def as_markdown(results: dict[str, Any]) -> str:
    """Return the plan of both ways as tables."""
    figures = measured(results)
    one, other = scroll(figures, "unroll"), scroll(figures, "trace")
    lines = [
        (
            f"{one.sheet_cm2:,.0f} cm² of sheet, {one.patch_cm2:,.0f} cm² of patches, "
            f"{one.n_patches:,.0f} patches, {one.vertices / 1e6:.0f} million vertices."
        ),
        "",
        "| CPU hours | `--way unroll` | `--way trace` |",
        "|---|---|---|",
    ]
    for stage in {**one.cpu_hours, **other.cpu_hours}:
        cells = [
            f"{e.cpu_hours[stage]:,.{_digits(e.cpu_hours[stage])}f}" if stage in e.cpu_hours else ""
            for e in (one, other)
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    without = [sum(e.cpu_hours.values()) - e.cpu_hours["predict"] for e in (one, other)]
    lines += [
        "| **together** | "
        + " | ".join(f"{sum(e.cpu_hours.values()):.0f}" for e in (one, other))
        + " |",
        f"| together, prediction given | {without[0]:.0f} | {without[1]:.0f} |",
        f"| of which one process does alone | {one.serial_hours:.2g} | {other.serial_hours:.2g} |",
        "",
        "| peak memory | GB |",
        "|---|---|",
        f"| a worker of seed, expand or predict | {one.memory_gb['a worker']:.1f} |",
        f"| unroll, in slabs of `memory_gb` | {one.memory_gb['unroll']:.0f} |",
        f"| unroll, all patches at once | {one.unroll_whole_gb:.0f} |",
        f"| trace: a slab, and all patches | {other.memory_gb['trace']:.0f} |",
        f"| render | {one.memory_gb['render']:.1f} |",
        "",
        "| disk | GB |",
        "|---|---|",
        *(f"| {what} | {value:.3g} |" for what, value in one.disk_gb.items()),
    ]
    return "\n".join(lines) + "\n"


def _digits(hours: float) -> int:
    """Return how many decimals an entry needs."""
    return 0 if hours >= 10 else 1 if hours >= 0.1 else 3


def main(arguments: list[str]) -> None:
    """Print the plan, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", dest="only_print")
    chosen = parser.parse_args(arguments)
    text = as_markdown(json.loads(RESULTS.read_text(encoding="utf-8"))["benchmarks"])
    print(text)
    if not chosen.only_print:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
