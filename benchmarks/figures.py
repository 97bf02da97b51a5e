"""All figures of ``make bench`` in Markdown: a section per script, cases side by side."""

import ast
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_MOST_COLUMNS = 5  # cases side by side in a table


def format_value(value: float | int | str) -> str:
    """Return a figure with four digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"


def summary_of(name: str) -> str:
    """Return the first paragraph of what a benchmark says of itself; nothing if there is none."""
    path = _HERE / f"bench_{name}.py"
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def as_markdown(results: dict[str, Any]) -> str:
    """Return all figures as tables, the machine above."""
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    lines = [f"Written by `make bench` on: {machine}."]
    for name, entry in sorted(results["benchmarks"].items()):
        kind = ", tiniest cases" if entry["quick"] else ""
        ended = "" if entry["finished"] else "; **did not finish**"
        lines += ["", f"## {name}", ""]
        lines += [f"{summary_of(name)} [bench_{name}.py](../benchmarks/bench_{name}.py)".strip()]
        lines += ["", f"Commit {entry['commit']}, {entry['date']}, {entry['seconds']} s"]
        lines[-1] += f"{kind}{ended}."
        for group in _groups(entry["cases"]):
            lines += ["", *_table({label: entry["cases"][label] for label in group})]
        lines += [
            f"\nNo figures for {label}: its data is missing."
            for label, figures in entry["cases"].items()
            if not figures
        ]
    return "\n".join(lines) + "\n"


def _groups(cases: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return which cases stand side by side: those with about the same figures."""
    groups: list[list[str]] = []
    for label, figures in cases.items():
        if not figures:
            continue
        for group in groups:
            first = set(cases[group[0]])
            common = len(first & set(figures)) / len(first | set(figures))
            if common > 0.5 and len(group) < _MOST_COLUMNS:
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def _table(cases: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table with a row per figure and a column per case."""
    names = list(dict.fromkeys(key for figures in cases.values() for key in figures))
    lines = ["| | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for name in names:
        cells = [format_value(f[name]) if name in f else "" for f in cases.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
