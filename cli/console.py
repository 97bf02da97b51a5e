"""What a person sees: progress on standard error, a short summary on standard output."""

import contextlib
import sys
import time
from collections.abc import Iterator

import click

from tracer.progress import Progress, silent

_APPEARS_AFTER_S = 1.0  # short work shows no bar at all
_LINE_EVERY_S = 10.0  # without a terminal: one line now and then, for log files


def _options() -> dict[str, object]:
    context = click.get_current_context(silent=True)
    found = context.find_object(dict) if context is not None else None
    return found or {}


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yield a progress callback that draws a bar with rate and remaining time.

    Parameters
    ----------
    title : str
        What is being done.

    Yields
    ------
    Progress
        Callback for a stage function.
    """
    if _options().get("quiet"):
        yield silent
    elif sys.stderr.isatty():
        with _rich_bar(title) as callback:
            yield callback
    else:
        yield _line_printer(title)


@contextlib.contextmanager
def _rich_bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, note="")

        def update(done: float, total: float, note: str = "") -> None:
            bar.update(task, completed=done, total=total or None, note=note)

        yield update


def _line_printer(title: str) -> Progress:
    started = time.monotonic()
    last = started - _LINE_EVERY_S + _APPEARS_AFTER_S

    def update(done: float, total: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        share = f"{100.0 * done / total:.0f}%" if total else f"{done:g}"
        remaining = (now - started) * (total - done) / done if done > 0 and total else 0.0
        click.echo(f"{title}: {share} {note} ({remaining:.0f} s left)", err=True)

    return update


def summary(text: str) -> None:
    """Print a stage's summary unless the user asked for quiet.

    Parameters
    ----------
    text : str
        One or a few lines.
    """
    if not _options().get("quiet"):
        click.echo(text)
