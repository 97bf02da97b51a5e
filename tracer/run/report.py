"""The page at the end of a run: its steps with areas, times and verdicts, the flat surface."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracer.run.facts import VERDICTS, read_checked, surfaces_of, verdict_of
from tracer.run.plan import Step
from tracer.run.state import RunState

PAGE = "report.html"
_PICTURES = (
    ("layers/preview.jpg", "rendered"),
    ("unrolled/report/plane_confidence.png", "confidence; inpainted parts are striped"),
    ("unrolled/report/section.png", "a cross-section with the surface drawn in"),
    ("traces/forward/*/wind_vis.tif", "winding of the first trace: runs smoothly if it is right"),
    ("traces/backward/*/wind_vis.tif", "winding of the second trace"),
    ("grounded/*/state.tif", "the grounded surface: white on a trace, grey inpainted"),
)
_LINKS = (
    ("check.html", "every surface with its verdict"),
    ("unrolled/report/suspects.json", "places where patches jump between wraps"),
    ("unrolled/report/holes.json", "holes, for `tracer expand --into`"),
    ("logs", "logs"),
)
_MOST_PROBLEMS = 30
_STYLE = """
body{font:14px system-ui;margin:24px;max-width:1400px}td,th{padding:3px 12px;text-align:left;
vertical-align:top}td.n{text-align:right}img{max-width:100%;min-width:50%;image-rendering:pixelated}code{font-size:12px}
.pass{color:#080}.warn{color:#b60}.fail{color:#b00}
"""


def totals(steps: list[Step], state: RunState) -> str:
    """Return the whole in one line.

    Parameters
    ----------
    steps : list of Step
        The plan.
    state : RunState
        What is done.

    Returns
    -------
    str
        Text for a person.
    """
    facts = [state.steps.get(step.name, {}) for step in steps]
    done = sum("digest" in one for one in facts)
    wall = sum(one.get("seconds", 0.0) for one in facts)
    cpu = sum(one.get("cpu_seconds", 0.0) for one in facts)
    return f"{done} of {len(steps)} steps done, {wall:.0f} s, {cpu:.0f} CPU-s on this machine"


def as_text(out: Path, steps: list[Step], state: RunState) -> str:
    """Return the steps of a run as a table for a terminal.

    Parameters
    ----------
    out : Path
        Folder of the run.
    steps : list of Step
        The plan.
    state : RunState
        What is done.

    Returns
    -------
    str
        A line per step and one for the whole.
    """
    rows: list[tuple[str, ...]] = [("step", "verdict", "cm2", "surfaces", "seconds", "CPU-s")]
    rows += [row[:6] for row in _rows(out, steps, state)]
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    lines = [
        "  ".join(
            text.ljust(width) if k < 2 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, totals(steps, state)])


def _rows(out: Path, steps: list[Step], state: RunState) -> Iterator[tuple[str, ...]]:
    """Yield name, verdict, area, number of surfaces, times, result and command of every step."""
    checked = read_checked(out)
    last = {step.surfaces: step.name for step in steps}  # seed and expand fill one collection
    for step in steps:
        facts = state.steps.get(step.name, {})
        is_done = "digest" in facts
        verdict = "not done"
        if is_done:
            is_last = last[step.surfaces] == step.name
            verdict = verdict_of(step, out, checked) if is_last else "done"
            if step.name == "check":
                verdict = _worst(checked)
        if is_done and not verdict:
            verdict = "warn" if facts.get("status") else "done"
        yield (
            step.name,
            verdict,
            f"{facts['area_cm2']:.3f}" if "area_cm2" in facts else "",
            str(facts.get("surfaces", "")),
            f"{facts['seconds']:.1f}" if "seconds" in facts else "",
            f"{facts['cpu_seconds']:.1f}" if "cpu_seconds" in facts else "",
            str(facts.get("summary", "")),
            " ".join(("tracer", *step.words)),
        )


def _worst(checked: dict[str, dict[str, Any]]) -> str:
    """Return the worst verdict of all."""
    found = {one["verdict"] for one in checked.values()}
    return next((verdict for verdict in reversed(VERDICTS) if verdict in found), "")


def as_html(out: Path, steps: list[Step], state: RunState) -> str:
    """Return the page of a run.

    Parameters
    ----------
    out : Path
        Folder of the run.
    steps : list of Step
        The plan.
    state : RunState
        What is done.

    Returns
    -------
    str
        Self-contained HTML.
    """
    titles = ("step", "verdict", "cm²", "surfaces", "seconds", "CPU-s", "result", "command")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>tracer run</title>",
        f"<style>{_STYLE}</style></head><body><h1>tracer run</h1>",
        f"<p>{html.escape(totals(steps, state))}</p>",
        "<table><tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>",
    ]
    for row in _rows(out, steps, state):
        name, verdict, area, count, wall, cpu, result, command = map(html.escape, row)
        kind = next((v for v in ("fail", "warn", "pass") if v in verdict), "")
        log = (
            f"<a href='logs/{name}.log'>{name}</a>" if (out / f"logs/{name}.log").exists() else name
        )
        numbers = "".join(f"<td class='n'>{text}</td>" for text in (area, count, wall, cpu))
        parts.append(
            f"<tr><td>{log}</td><td class='{kind}'>{verdict}</td>{numbers}<td>{result}</td>"
            f"<td><code>{command}</code></td></tr>"
        )
    parts.append("</table>")
    parts += _problems(out, steps)
    links = [f"<a href='{at}'>{text}</a>" for at, text in _LINKS if (out / at).exists()]
    parts.append("<p>" + ", ".join(links) + "</p>")
    parts += _pictures(out)
    return "\n".join([*parts, "</body></html>\n"])


def _problems(out: Path, steps: list[Step]) -> Iterator[str]:
    """Yield a list of what the check found, of the surfaces made last first."""
    checked = read_checked(out)
    found: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    for step in reversed(steps):
        for path in surfaces_of(step, out):
            one = checked.get(path.name)
            if one is not None and one["problems"] and path.name not in seen:
                seen.add(path.name)
                found.append((step.name, one))
    if not found:
        return
    yield "<h2>problems</h2><ul>"
    for stage, one in found[:_MOST_PROBLEMS]:
        text = html.escape("; ".join(problem["text"] for problem in one["problems"]))
        yield (
            f"<li><span class='{one['verdict']}'>{one['verdict']}</span> {stage}: "
            f"{html.escape(one['name'])}: {text}</li>"
        )
    if len(found) > _MOST_PROBLEMS:
        yield f"<li>and {len(found) - _MOST_PROBLEMS} more surfaces</li>"
    yield "</ul>"


def _pictures(out: Path) -> Iterator[str]:
    """Yield the pictures that there are."""
    for pattern, title in _PICTURES:
        for path in sorted(out.glob(pattern))[-1:]:
            kind, data = _encoded(path)
            text = base64.b64encode(data).decode()
            yield f"<h2>{title}</h2><img alt='{title}' src='data:image/{kind};base64,{text}'>"


def _encoded(path: Path) -> tuple[str, bytes]:
    """Return a picture as browsers show it."""
    if path.suffix != ".tif":
        return ("jpeg" if path.suffix == ".jpg" else "png"), path.read_bytes()
    import numpy as np
    from PIL import Image

    from tracer.tif import read_tif

    pixels = read_tif(path)
    if path.stem == "state":
        pixels = (pixels.astype(np.uint16) * 255 // 100).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8))).save(stream, "png")
    return "png", stream.getvalue()
