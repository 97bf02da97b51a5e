"""The page at the end of a run: its steps, the flat surface, where to look further."""

import base64
import html
from pathlib import Path

from tracer.run.plan import Step
from tracer.run.state import RunState

PAGE = "report.html"
_PICTURES = (
    ("layers/preview.jpg", "rendered"),
    ("unrolled/report/plane_confidence.png", "confidence; inpainted parts are striped"),
    ("unrolled/report/section.png", "a cross-section with the surface drawn in"),
)
_STYLE = """
body{font:14px system-ui;margin:24px}td,th{padding:3px 12px;text-align:left}img{max-width:100%}
"""


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
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>tracer run</title>",
        f"<style>{_STYLE}</style></head><body><h1>tracer run</h1>",
        "<table><tr><th>step</th><th>seconds</th><th>result</th><th>command</th></tr>",
    ]
    for step in steps:
        facts = state.steps.get(step.name, {})
        last = html.escape(str(facts.get("summary", "not done")))
        command = html.escape(" ".join(("tracer", *step.words)))
        parts.append(
            f"<tr><td>{step.name}</td><td>{facts.get('seconds', '')}</td><td>{last}</td>"
            f"<td><code>{command}</code></td></tr>"
        )
    parts.append("</table>")
    for name, title in _PICTURES:
        path = out / name
        if path.exists():
            kind = "jpeg" if path.suffix == ".jpg" else "png"
            data = base64.b64encode(path.read_bytes()).decode()
            parts.append(
                f"<h2>{title}</h2><img alt='{title}' src='data:image/{kind};base64,{data}'>"
            )
    return "\n".join([*parts, "</body></html>\n"])
