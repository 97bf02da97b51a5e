"""`tracer seeds-from-points`: grow patches at coordinates pasted from a viewer."""

import sys
from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.errors import ParamsError
from tracer.seed_params import SeedParams


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer seeds-from-points clicks.txt scroll/prediction.zarr scroll/paths --offset 30\n"
    "  tracer seeds-from-points - scroll/prediction.zarr scroll/paths   # paste, then Ctrl-D"
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("volume")
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("params_file", required=False, type=click.Path(path_type=Path), metavar="[PARAMS]")
@click.option(
    "--offset",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Try each point at -OFFSET, 0 and +OFFSET voxels along x.",
)
@click.option("--workers", type=click.IntRange(1), default=1, help="Worker processes.")
@params_options(SeedParams, skip=frozenset({"mode", "rewind_gen", "tgt_overlap_count"}))
def seeds_from_points(
    file: Path,
    volume: str,
    paths: Path,
    params_file: Path | None,
    offset: float,
    workers: int,
    **options: Any,
) -> None:
    """Grow patches at the [x, y, z] coordinates in FILE (- for standard input)."""
    from tracer.seed import seed
    from tracer.seed_points import parse_points, with_offsets
    from tracer.volume import Volume

    points = with_offsets(parse_points(_read(file), where=str(file)), offset)
    params = SeedParams.load(params_file, given(SeedParams, options))
    with progress_bar("seed") as progress:
        result = seed(
            Volume.open(volume), paths, params, points=points, workers=workers, progress=progress
        )
    for outcome in result.outcomes:
        x, y, z = points[outcome.index]
        summary(f"[{x:g}, {y:g}, {z:g}] {outcome.message}")
    summary(result.summary())


def _read(file: Path) -> str:
    """Return the text of a file or of standard input."""
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ParamsError(f"{file}: cannot read points ({error})") from error
