"""`tracer expand`: grow patches around the patches of a collection."""

import json
from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.options import given, params_options
from tracer.errors import ParamsError
from tracer.seed_params import SeedParams
from tracer.workers import Executor


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer expand scroll/prediction.zarr scroll/paths expand.json --coverage 0.9 --workers 8\n"
    "  tracer expand scroll/prediction.zarr scroll/paths expand.json --time 3600\n"
    "  seq 1 1000 | xargs -P 8 -I{} tracer expand scroll/prediction.zarr scroll/paths --count 1"
)
@click.argument("volume")
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("params_file", required=False, type=click.Path(path_type=Path), metavar="[PARAMS]")
@click.option("--count", type=click.IntRange(1), help="Stop after this many new patches.")
@click.option("--time", "time_s", type=click.FloatRange(min=0), help="Stop after these seconds.")
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1),
    help="Stop when this share of the prediction is covered.",
)
@click.option(
    "--into",
    "holes",
    type=click.Path(path_type=Path),
    help='Targets to grow first: JSON list of {"xyz": [x, y, z]}, as unroll writes it.',
)
@executor_options
@click.option("--round-size", type=click.IntRange(1), help="Targets per round.  [default: 16]")
@params_options(SeedParams, skip=frozenset({"mode", "rewind_gen"}))
def expand(
    volume: str,
    paths: Path,
    params_file: Path | None,
    count: int | None,
    time_s: float | None,
    coverage: float | None,
    holes: Path | None,
    workers: int,
    dask: str | None,
    round_size: int | None,
    **options: Any,
) -> None:
    """Grow patches around the patches of a collection until a limit is reached."""
    from tracer.expand import ROUND_SIZE, ExpandLimits
    from tracer.expand import expand as expand_collection
    from tracer.volume import Volume

    params = SeedParams.load(params_file, given(SeedParams, options))
    with open_executor(workers, dask) as pool, progress_bar("expand") as progress:
        result = expand_collection(
            Volume.open(volume),
            paths,
            params,
            ExpandLimits(count=count, time_s=time_s, coverage=coverage),
            into=_read_holes(holes) if holes else (),
            workers=pool,
            round_size=round_size or ROUND_SIZE,
            progress=progress,
        )
    summary(result.summary())


def expand_by(count: int, volume: str, paths: Path, params: SeedParams, workers: Executor) -> None:
    """Grow patches of an expansion, as ``tracer seed`` does with mode ``expansion``.

    Parameters
    ----------
    count : int
        Number of patches.
    volume : str
        Surface prediction.
    paths : Path
        Collection.
    params : SeedParams
        Growth parameters.
    workers : Executor
        Runs the tasks.
    """
    from tracer.expand import ROUND_SIZE, ExpandLimits
    from tracer.expand import expand as expand_collection
    from tracer.volume import Volume

    with progress_bar("expand") as progress:
        result = expand_collection(
            Volume.open(volume),
            paths,
            params,
            ExpandLimits(count=count),
            workers=workers,
            round_size=min(count, ROUND_SIZE),
            progress=progress,
        )
    summary(result.summary())


def _read_holes(path: Path) -> list[tuple[float, float, float]]:
    """Return the points of a holes file."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(entries, dict):
            entries = entries["holes"]
        return [(float(e["xyz"][0]), float(e["xyz"][1]), float(e["xyz"][2])) for e in entries]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ParamsError(f'{path}: not a list of {{"xyz": [x, y, z]}} ({error})') from error
