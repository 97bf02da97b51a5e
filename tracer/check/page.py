"""The report as one self-contained HTML page."""

import base64
import html
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracer.check import pictures
from tracer.check.report import FAIL, PASS, WARN, Checked, Report
from tracer.errors import TracerError

if TYPE_CHECKING:
    from tracer.volume import Volume

MOST_PICTURED = 20  # surfaces with pictures: the failing ones first
MOST_PASSING = 500  # surfaces up to which those that pass are in the table
_STYLE = """
body{font:14px system-ui,sans-serif;margin:24px;background:#fff;color:#222}
table{border-collapse:collapse}td,th{padding:3px 10px;text-align:left;border-bottom:1px solid #ddd}
.fail{color:#b00020;font-weight:600}.warn{color:#a06000}.pass{color:#1b7f3b}
figure{display:inline-block;margin:6px}figcaption{font-size:12px;color:#555}
img{max-width:640px;image-rendering:pixelated}
"""
_Column = Callable[[dict[str, Any]], Any]
# Heading and where the figure is; what is not known stays empty.
_COLUMNS: tuple[tuple[str, _Column], ...] = (
    ("vertices", lambda f: f.get("vertices")),
    ("area, vx²", lambda f: f.get("area_vx2")),
    ("wraps", lambda f: _rounded(f.get("winding", {}).get("wraps"))),
    ("on prediction", lambda f: _rounded((f.get("on_prediction") or [None, None])[1])),
    ("on scan", lambda f: _rounded(f.get("ct_support"))),
    ("stretch p95", lambda f: _rounded(f.get("distortion", {}).get("stretch_p95"))),
    ("holes", lambda f: f.get("holes")),
    ("islands", lambda f: f.get("islands")),
    ("folded cells", lambda f: f.get("folded_cells")),
    ("crossing edges", lambda f: f.get("intersecting_edges")),
)


def as_html(report: Report, volume: "Volume | None" = None) -> str:
    """Return a report as one HTML page.

    Parameters
    ----------
    report : Report
        What was found.
    volume : Volume, optional
        Shown behind the surfaces.

    Returns
    -------
    str
        The page; pictures are inside. The same report gives the same bytes.
    """
    counts = ", ".join(f"{report.count(v)} {v}" for v in (PASS, WARN, FAIL))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>tracer check</title>",
        f"<style>{_STYLE}</style></head><body><h1>tracer check</h1>",
        f"<p>{len(report.surfaces)} surfaces: {counts}.</p>",
        _table(report),
    ]
    order = {FAIL: 0, WARN: 1, PASS: 2}
    shown = sorted(report.surfaces, key=lambda one: order[one.verdict])[:MOST_PICTURED]
    parts += [_section(one, volume) for one in shown if one.figures]
    return "\n".join([*parts, "</body></html>\n"])


def _table(report: Report) -> str:
    used = [
        (name, figure)
        for name, figure in _COLUMNS
        if any(figure(one.figures) is not None for one in report.surfaces)
    ]
    head = "".join(f"<th>{name}</th>" for name, _ in used)
    rows = [f"<table><tr><th>surface</th><th>verdict</th>{head}<th>problems</th></tr>"]
    few = len(report.surfaces) <= MOST_PASSING
    listed = [one for one in report.surfaces if few or one.verdict != PASS]
    for one in listed:
        values = [figure(one.figures) for _, figure in used]
        cells = "".join(f"<td>{'' if value is None else value}</td>" for value in values)
        problems = html.escape("; ".join(problem.text for problem in one.problems))
        rows.append(
            f"<tr><td>{html.escape(one.name)}</td><td class='{one.verdict}'>{one.verdict}</td>"
            f"{cells}<td>{problems}</td></tr>"
        )
    left_out = len(report.surfaces) - len(listed)
    more = f"<p>{left_out} more surfaces pass.</p>" if left_out else ""
    return "\n".join([*rows, "</table>", more])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _section(one: Checked, volume: "Volume | None") -> str:
    """Return the pictures of one surface."""
    from tracer.surface import Surface
    from tracer.winding import solve_winding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        surface = Surface.load(one.path)
    try:
        winding = solve_winding(surface).values
    except TracerError:
        winding = None
    cells = [cell for problem in one.problems for cell in problem.cells]
    images = {
        f"slice across {name}": pictures.slice_picture(surface, axis, volume, cells)
        for axis, name in enumerate("xyz")
    }
    if surface.valid_quads.any():
        images |= pictures.grid_pictures(surface, winding, cells)
    figures = "".join(
        f"<figure><img alt='{title}' src='data:image/png;base64,"
        f"{base64.b64encode(png).decode()}'><figcaption>{title}</figcaption></figure>"
        for title, png in images.items()
    )
    problems = "".join(
        f"<li class='{problem.level}'>{problem.code}: {html.escape(problem.text)}</li>"
        for problem in one.problems
    )
    title = f"<h2>{html.escape(one.name)} <span class='{one.verdict}'>{one.verdict}</span></h2>"
    return f"{title}<ul>{problems}</ul>{figures}"
