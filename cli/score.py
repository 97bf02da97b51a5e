"""`tracer score`: surfaces or collections against a phantom's truth."""

import json
from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(epilog="\b\nExample:\n  tracer score scroll/paths --truth scroll --json")
@click.argument(
    "surfaces", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SURFACE…"
)
@click.option(
    "--truth",
    required=True,
    type=click.Path(path_type=Path),
    help="Phantom directory, or its truth.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def score(surfaces: tuple[Path, ...], truth: Path, as_json: bool) -> None:
    """Score surfaces, or folders of surfaces, against a phantom's truth."""
    from tracer.phantom.truth import Truth
    from tracer.score import score_paths

    known = Truth.load(truth)
    with progress_bar("score") as progress:
        result = score_paths(surfaces, known, progress=progress)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        summary(result.summary())
