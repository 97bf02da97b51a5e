"""`tracer phantom`: a synthetic scroll with exact ground truth."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.errors import ParamsError
from tracer.phantom.params import PhantomParams


def _shape_zyx(size: str) -> tuple[int, int, int]:
    """Return the shape that ``512`` or ``512,640,640`` stands for."""
    parts = size.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ParamsError(f"--size {size}: give one number, or three as z,y,x, e.g. 512,640,640")
    numbers = [int(part) for part in parts] * (3 if len(parts) == 1 else 1)
    return numbers[0], numbers[1], numbers[2]


@click.command(epilog="\b\nExample:\n  tracer phantom scroll --size 256 --level easy --text HELLO")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--size", default="512", show_default=True, help="Voxels along each axis, or as z,y,x."
)
@params_options(PhantomParams, skip=frozenset({"size_zyx"}))
def phantom(out: Path, size: str, **options: Any) -> None:
    """Make a synthetic scroll with hidden text and exact ground truth in OUT."""
    from tracer.phantom.generate import make_phantom

    overrides = {**given(PhantomParams, options), "size_zyx": _shape_zyx(size)}
    params = PhantomParams.load(None, overrides)
    with progress_bar("phantom") as progress:
        result = make_phantom(out, params, progress=progress)
    summary(result.summary())
