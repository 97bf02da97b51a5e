"""`tracer seed`: grow patches from explicit or random points."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.options import given, params_options
from tracer.seed_params import SeedParams


def split_positionals(
    values: tuple[str, ...],
    volume: str | None,
    paths: Path | None,
    params_file: Path | None,
) -> tuple[str, Path, Path | None, tuple[float, float, float] | None]:
    """Return volume, collection, params file and point from VC3D's positional order.

    Parameters
    ----------
    values : tuple of str
        VOLUME PATHS [PARAMS] [X Y Z], without those that were given as options.
    volume, paths, params_file : str or Path or None
        Given as options.

    Returns
    -------
    tuple
        Volume, collection, params file or None, point or None.
    """
    rest = list(values)
    point = None
    if len(rest) >= 3 and all(_is_number(value) for value in rest[-3:]):
        x, y, z = (float(value) for value in rest[-3:])
        point = (x, y, z)
        rest = rest[:-3]
    volume = volume or (rest.pop(0) if rest else None)
    paths = paths or (Path(rest.pop(0)) if rest else None)
    params_file = params_file or (Path(rest.pop(0)) if rest else None)
    if volume is None or paths is None:
        raise click.UsageError("VOLUME and PATHS are needed; see --help for an example")
    if rest:
        raise click.UsageError(f"cannot make sense of: {' '.join(rest)}")
    return volume, paths, params_file, point


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _WithNegativeNumbers(click.Command):
    """A command whose last arguments may be numbers below zero, which look like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Protect a point x y z at the end or before the options by moving it behind `--`."""
        for i in range(len(args) - 2 if "--" not in args else 0):
            point = args[i : i + 3]
            of_option = i > 0 and args[i - 1].startswith("-") and not _is_number(args[i - 1])
            if all(map(_is_number, point)) and not of_option:
                args = [*args[:i], *args[i + 3 :], "--", *point]
                break
        return super().parse_args(ctx, args)


@click.command(
    cls=_WithNegativeNumbers,
    epilog="\b\nExamples:\n"
    "  tracer seed scroll/prediction.zarr scroll/paths seed.json 321 153 385\n"
    "  tracer seed scroll/prediction.zarr scroll/paths seed.json --count 100 --workers 8\n"
    "  tracer seed scroll/prediction.zarr scroll/paths seed.json --resume scroll/paths/PATCH "
    "--rewind-gen 40\n"
    "  seq 1 5000 | xargs -P 8 -I{} tracer seed scroll/prediction.zarr scroll/paths seed.json",
)
@click.argument("arguments", nargs=-1, metavar="VOLUME PATHS [PARAMS] [X Y Z]")
@click.option("-v", "--volume", help="Surface prediction (OME-Zarr); or first argument.")
@click.option(
    "-t", "--target-dir", "paths", type=click.Path(path_type=Path), help="Patch collection."
)
@click.option("-p", "--params", "params_file", type=click.Path(path_type=Path), help="Params JSON.")
@click.option("-s", "--seed", "seed_point", type=float, nargs=3, help="Explicit seed x y z.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Segment to grow on, into a patch of its own."
)
@click.option("--count", type=click.IntRange(1), default=1, help="Number of random seeds.")
@click.option(
    "--continue",
    "missing_only",
    is_flag=True,
    help="Only those of the random seeds whose patches are not in PATHS yet; give --rng-seed.",
)
@executor_options
@params_options(SeedParams)
def seed(
    arguments: tuple[str, ...],
    volume: str | None,
    paths: Path | None,
    params_file: Path | None,
    seed_point: tuple[float, float, float] | None,
    resume: Path | None,
    count: int,
    missing_only: bool,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Grow patches from an explicit point, from random points, or on from a saved patch."""
    from tracer.seed import seed as grow_seeds
    from tracer.volume import Volume

    volume, paths, params_file, point = split_positionals(arguments, volume, paths, params_file)
    params = SeedParams.load(params_file, given(SeedParams, options))
    point = seed_point or point
    if params.mode == "expansion" and resume is None and point is None:
        from tracer.cli.expand import expand_by

        with open_executor(workers, dask) as pool:
            expand_by(count, volume, paths, params, pool)
        return
    with open_executor(workers, dask) as pool, progress_bar("seed") as progress:
        result = grow_seeds(
            Volume.open(volume),
            paths,
            params,
            points=[point] if point else [],
            count=count,
            resume=resume,
            missing_only=missing_only,
            workers=pool,
            progress=progress,
        )
    summary(result.summary())
