"""`tracer score`: surfaces or collections against a phantom's truth, or against labels."""

import json
from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer score paths --labels labels.zarr\n"
    "  tracer score scroll/paths --truth scroll --json"
)
@click.argument(
    "surfaces", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SURFACE…"
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Phantom directory, or its truth.json."
)
@click.option("--labels", help="Volume of sheet instances: one id per sheet, 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def score(
    surfaces: tuple[Path, ...], truth: Path | None, labels: str | None, as_json: bool
) -> None:
    """Score surfaces, or folders of surfaces.

    With --truth against a phantom's truth; with --labels by whether each surface stays on one id.
    """
    if (truth is None) == (labels is None):
        raise click.UsageError("give either --truth or --labels")
    with progress_bar("score") as progress:
        if truth is not None:
            from tracer.phantom.truth import Truth
            from tracer.score import score_paths

            by_truth = score_paths(surfaces, Truth.load(truth), progress=progress)
            figures, text = by_truth.to_json(), by_truth.summary()
        else:
            from tracer.label_score import score_labels
            from tracer.volume import Volume

            by_labels = score_labels(surfaces, Volume.open(str(labels)), progress=progress)
            figures, text = by_labels.to_json(), by_labels.summary()
    if as_json:
        click.echo(json.dumps(figures, indent=2, allow_nan=False))
    else:
        summary(text)
