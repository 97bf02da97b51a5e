"""`tracer check`: what surfaces are worth."""

import json
from pathlib import Path
from typing import Any

import click

from tracer.check.params import CheckParams
from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer check scroll/paths --prediction scroll/prediction.zarr --html report.html\n"
    "  tracer check traces/auto_trace_20261121001746346 --volume scroll/ct.zarr --html trace.html\n"
    "  tracer check scroll/paths --json > report.json"
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-p", "--params", "params_file", type=click.Path(path_type=Path), help="Params JSON.")
@click.option("--prediction", help="Surface prediction that the surfaces should lie on.")
@click.option("--volume", help="Scan: shown behind the slices, and where it is 0 nothing can lie.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with pictures.")
@click.option(
    "--report",
    "file",
    type=click.Path(path_type=Path),
    help="Write everything as JSON into a file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--together/--alone",
    default=True,
    help="Lay a folder out as a whole too, to find jumps that only its other patches reveal.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes.  [default: 1]")
@params_options(CheckParams)
def check(
    paths: tuple[Path, ...],
    params_file: Path | None,
    prediction: str | None,
    volume: str | None,
    page: Path | None,
    file: Path | None,
    as_json: bool,
    together: bool,
    workers: int,
    **options: Any,
) -> int:
    """Check surfaces, or folders of surfaces; exit with 1 if one fails.

    Finds wrong scales, stale bounding boxes and overlaps, jumps between wraps, folds,
    self-intersections, holes, torn cells, and vertices off the prediction. Thresholds are options.
    """
    params = CheckParams.load(params_file, given(CheckParams, options))
    from tracer.check import check as check_surfaces

    with progress_bar("check") as progress:
        report = check_surfaces(
            list(paths),
            params,
            prediction=prediction,
            ct=volume,
            together=together,
            workers=workers,
            progress=progress,
        )
    if page is not None:
        from tracer.atomic import write_bytes
        from tracer.check.page import as_html
        from tracer.volume import Volume

        behind = volume or prediction
        write_bytes(page, as_html(report, Volume.open(behind) if behind else None).encode())
    if file is not None:
        from tracer.atomic import write_json

        write_json(file, report.to_json())
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        summary(_table(report.to_json()))
    return 1 if report.count("fail") else 0


def _table(report: dict[str, Any]) -> str:
    """Return a table of the surfaces with problems, and the counts."""
    from rich.console import Console
    from rich.table import Table

    table = Table("surface", "verdict", "vertices", "problems", box=None)
    for one in report["checked"]:
        if one["problems"] or len(report["checked"]) == 1:
            text = "; ".join(problem["text"] for problem in one["problems"])
            table.add_row(
                one["name"], one["verdict"], str(one["figures"].get("vertices", "")), text
            )
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    counts = ", ".join(f"{report[verdict]} {verdict}" for verdict in ("pass", "warn", "fail"))
    return f"{capture.get()}{report['surfaces']} surfaces: {counts}"
