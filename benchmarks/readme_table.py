"""The table of the README, filled from the figures of ``make bench``.

A cell is text with places like ``{growth/reference/area_cm2:.2f}``: benchmark, case, figure and
format. A cell with a figure that was not measured is a dash. The last column links the script that
measures a row.
"""

import re
from dataclasses import dataclass
from typing import Any

_PLACE = re.compile(r"\{([^/}]+)/([^/}]+)/([^}]+?)(?::([^:}]*))?\}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    label : str
        What was measured.
    ours, vc3d, target : str
        Cells, with places for figures.
    """

    label: str
    ours: str
    vc3d: str = "-"
    target: str = ""


ROWS = (
    Row(
        "seed: patches from 24 points",
        "{growth/reference/patches:.0f}, {growth/reference/area_cm2:.2f} cm²",
        "{growth/reference/VC3D, patches:.0f}, {growth/reference/VC3D, area_cm2:.2f} cm²",
        "no less area",
    ),
    Row(
        "patches with a sheet switch",
        "**{growth/reference/patches with a switch:.0f}**",
        "{growth/reference/VC3D, patches with a switch:.0f}",
        "≤ 1 %",
    ),
    Row(
        "distance to the mid-line, median / p95, voxels",
        "**{growth/reference/distance median, voxels:.2f}** / "
        "{growth/reference/distance p95, voxels:.2f}",
        "{growth/reference/VC3D, distance median, voxels:.2f} / "
        "{growth/reference/VC3D, distance p95, voxels:.2f}",
        "0.2 / 0.8",
    ),
    Row("vertices on the prediction", "{growth/reference/on prediction:.4f}", "-", "0.99"),
    Row(
        "growing, CPU-s per cm², warm / cold cache",
        "{growth/reference/warm, cpu_s per cm2:.2f} / {growth/reference/cold, cpu_s per cm2:.2f}",
        "{growth/reference/VC3D, warm, cpu_s per cm2:.0f} / "
        "{growth/reference/VC3D, cold, cpu_s per cm2:.0f}",
        "0.3 / 3",
    ),
    Row(
        "expand: patches, coverage of the recto, with a switch",
        "{growth/coverage/patches:.0f}, **{growth/coverage/coverage of the recto:.3f}**, "
        "{growth/coverage/patches with a switch:.0f}",
        "{growth/coverage/VC3D, patches:.0f}, {growth/coverage/VC3D, coverage of the recto:.3f}, "
        "{growth/coverage/VC3D, patches with a switch:.0f}",
    ),
    Row(
        "expand, all included from an empty cache, CPU-s per cm²",
        "{growth/coverage/cpu_s per cm2:.2f}",
        "{growth/coverage/VC3D, cpu_s per cm2:.0f}",
    ),
    Row(
        "unroll VC3D's 248 patches: coverage of the recto / switches, share of the area",
        "**{unroll/reference, prediction/coverage:.3f}** / "
        "{unroll/reference, prediction/switch_rate:.3f}",
        "{trace/VC3D's patches, VC3D/coverage:.3f} / "
        "{trace/VC3D's patches, VC3D/switch_rate:.3f} (its trace)",
        "0.99 / 0.001",
    ),
    Row(
        "the same: distance to the mid-line, median, voxels / CPU-s",
        "{unroll/reference, prediction/distance_median:.2f} / "
        "{unroll/reference, prediction/cpu_s:.0f}",
        "{trace/VC3D's patches, VC3D/distance_median:.2f} / "
        "{trace/VC3D's patches, VC3D/cpu_s:.0f} (its trace)",
        "0.2 / 12",
    ),
    Row(
        "the same, without the prediction: coverage (the patches': "
        "{unroll/reference/coverage_of_patches:.3f})",
        "{unroll/reference/coverage:.3f}",
    ),
    Row(
        "trace VC3D's patches: coverage / of what they cover (holes left open) / switches",
        "**{trace/VC3D's patches/coverage:.3f}** / "
        "{trace/VC3D's patches/coverage / that of the patches:.2f} "
        "({trace/VC3D's patches/on patches, coverage / that of the patches:.2f}) / "
        "{trace/VC3D's patches/switch_rate:.3f}",
        "{trace/VC3D's patches, VC3D/coverage:.3f} / "
        "{trace/VC3D's patches, VC3D/coverage / that of the patches:.2f} / "
        "{trace/VC3D's patches, VC3D/switch_rate:.3f}",
        "- / 0.95 / 0.001",
    ),
    Row(
        "the same, CPU-s",
        "{trace/VC3D's patches/cpu_s:.0f}",
        "{trace/VC3D's patches, VC3D/cpu_s:.0f}",
        "10",
    ),
    Row(
        "a `hard` phantom, 400 patches, {unroll/grown, hard/patches with a switch:.0f} jump: "
        "unroll, coverage of what they cover / switches (on the sheet)",
        "{unroll/grown, hard/coverage / that of the patches:.2f} / "
        "{unroll/grown, hard/switch_rate:.3f} "
        "({unroll/grown, hard/switch_rate on the sheet:.4f})",
        "-",
        "0.97 / 0.001",
    ),
    Row(
        "the same: trace, coverage of what they cover / switches",
        "{trace/grown, hard/coverage / that of the patches:.2f} / "
        "{trace/grown, hard/switch_rate:.4f}",
        "-",
        "0.95 / 0.001",
    ),
    Row(
        "unroll a wound battery: turns / wraps covered / neighbours not one turn apart",
        "{unroll/grown, battery/turns:.1f} / {unroll/grown, battery/coverage:.3f} / "
        "{unroll/grown, battery/pairs not one turn apart:.4f}",
        "-",
        "",
    ),
    Row(
        "unroll labelled sheets of a real scroll: components / ids / vertices on their id",
        "{unroll/grown, labels/components:.0f} / {unroll/grown, labels/ids:.0f} / "
        "{unroll/grown, labels/of these on the component's main id:.4f}",
        "-",
        "",
    ),
    Row(
        "planted jumps found, of 30 % of 250 patches",
        "{unroll/250 planted, 30 % jump/planted_found:.0f} of "
        "{unroll/250 planted, 30 % jump/planted:.0f}",
        "-",
        "all",
    ),
    Row(
        "winding of VC3D's trace: mean error, wraps",
        "**{winding/vc3d/mean error, wraps:.4f}**",
        "{winding/vc3d/VC3D, mean error, wraps:.2f}",
        "0.02",
    ),
    Row(
        "sheet jumps planted in traces, found",
        "{winding/jumps, level reference/found:.0f} of "
        "{winding/jumps, level reference/planted:.0f}",
        "-",
        "all",
    ),
    Row(
        "fuse VC3D's trace: median distance / within 3 voxels / switch edges",
        "{fuse/vc3d/distance median:.2f} / {fuse/vc3d/within 3 voxels:.3f} / "
        "{fuse/vc3d/switch edges:.0f}",
        "{fuse/vc3d/VC3D, fuse, distance median:.2f} / "
        "{fuse/vc3d/VC3D, fuse, within 3 voxels:.3f} / "
        "{fuse/vc3d/VC3D, fuse, switch edges:.0f}",
    ),
    Row("the same, CPU-s", "{fuse/vc3d/cpu_s:.1f}", "{fuse/vc3d/VC3D, cpu_s:.0f}", "42"),
    Row(
        "distance transform, time / that of `edt`",
        "{distance_field/sheets/transform / edt:.2f}",
        "-",
        "1.5",
    ),
    Row(
        "distance cache, raw / cached bytes",
        "{growth/reference/raw / cached bytes:.0f}",
        "1",
        "10",
    ),
    Row(
        "render: pixels per CPU-s against VC3D's, without start-up",
        "{render/vc3d, threads 1/in process speed / VC3D:.1f}",
        "1",
        "2",
    ),
    Row(
        "peak memory where the volume is {memory/normal/times:.0f} times as large: "
        "seed / unroll / render, times",
        "{memory/normal/seed, grow:.2f} / {memory/normal/unroll, grow:.2f} / "
        "{memory/normal/render, grow:.2f}",
        "-",
        "1",
    ),
)


def fill(cell: str, benchmarks: dict[str, Any]) -> str:
    """Return a cell with its figures, or a dash where one is missing."""
    missing = False

    def look_up(match: re.Match[str]) -> str:
        nonlocal missing
        bench, case, figure, spec = match.groups()
        try:
            value = benchmarks[bench]["cases"][case][figure]
        except KeyError:
            missing = True
            return ""
        return format(value, spec or "")

    filled = _PLACE.sub(look_up, cell)
    return "-" if missing else filled


def scripts_of(row: Row, folder: str) -> str:
    """Return links to the scripts that the figures of a row come from."""
    names = sorted({place[0] for text in (row.ours, row.vc3d) for place in _PLACE.findall(text)})
    return ", ".join(f"[{name}]({folder}/bench_{name}.py)" for name in names)


def as_table(results: dict[str, Any], scripts: str = "benchmarks") -> str:
    """Return the table in Markdown, the machine above it; ``scripts`` is where links lead."""
    machine = results["machine"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("python", "numpy", "numba") if name in machine
    )
    memory = f", {machine['memory_gb']:.0f} GB" if "memory_gb" in machine else ""
    where = f"{machine['cores']} cores ({machine['cpu']}{memory}), shared with other work"
    lines = [
        f"`make bench` on {where}{'; ' if versions else ''}{versions}.",
        "",
        "| | scroll-tracer | VC3D | target | script |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        texts = (row.label, row.ours, row.vc3d, row.target)
        cells = [fill(text, results["benchmarks"]) for text in texts]
        lines.append("| " + " | ".join([*cells, scripts_of(row, scripts)]) + " |")
    return "\n".join(lines) + "\n"
