"""`tracer layers`: from rendered layers to ink models and back."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.errors import FormatError, ParamsError
from tracer.layers import SplitParams
from tracer.stitch import StitchParams

_PATH = click.Path(path_type=Path)
_PICTURES = (".npy", ".png", ".tif", ".tiff")


@click.group()
def layers() -> None:
    """Split, contrast and stitch rendered layers for ink models."""


@layers.command(
    epilog="\b\nExample:\n"
    "  tracer layers split layers/ chunks/ --width 10000 --overlap 500 --contrast percentile"
)
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@params_options(SplitParams)
def split(folder: Path, out: Path, **options: Any) -> None:
    """Cut the layers in FOLDER into overlapping chunks below OUT."""
    from tracer.layers import split_layers

    params = SplitParams.from_mapping(given(SplitParams, options))
    with progress_bar("split") as progress:
        result = split_layers(folder, out, params, progress=progress)
    summary(result.summary())


@layers.command(
    epilog="\b\nExample:\n"
    "  tracer layers contrast layers/ contrasted/ --contrast clahe --layers-range 5:21"
)
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@params_options(SplitParams, skip=frozenset({"width", "overlap"}))
def contrast(folder: Path, out: Path, **options: Any) -> None:
    """Write the layers in FOLDER to OUT with the contrast changed, the same for all layers."""
    values = {"contrast": "percentile", **given(SplitParams, options)}
    from tracer.layers import contrast_layers

    with progress_bar("contrast") as progress:
        result = contrast_layers(folder, out, SplitParams.from_mapping(values), progress=progress)
    summary(result.summary())


@layers.command(
    epilog="\b\nExample:\n"
    "  tracer layers stitch npy_files/ -o ink.png --flip horizontal --average 5 --boost 2.9"
)
@click.argument("predictions", nargs=-1, required=True, type=_PATH)
@click.option("--out", "-o", required=True, type=_PATH, help="Picture: .png, .tif, .jpg or .npy.")
@click.option("--cols", type=click.IntRange(0), default=0, help="Columns of the whole picture.")
@params_options(StitchParams)
def stitch(predictions: tuple[Path, ...], out: Path, cols: int, **options: Any) -> None:
    """Join PREDICTIONS of chunks (files, or folders of them) to one picture.

    The name of a file or of its folder ends in the chunk's first column, as split names chunks.
    """
    from tracer.layer_stack import write_picture
    from tracer.stitch import stitch_predictions, to_grey

    files = [file for path in predictions for file in _files(path)]
    params = StitchParams.from_mapping(given(StitchParams, options))
    picture = stitch_predictions(files, params, cols=cols)
    write_picture(out, picture if out.suffix.lower() == ".npy" else to_grey(picture))
    summary(f"{out}: {picture.shape[1]} x {picture.shape[0]} pixels from {len(files)} predictions")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES)


@layers.command(epilog="\b\nExample:\n  tracer layers rle ink.png --threshold 0.4 > ink.txt")
@click.argument("picture", type=_PATH)
@click.option("--threshold", type=float, default=0.5, help="From here on a pixel is inside, 0..1.")
def rle(picture: Path, threshold: float) -> None:
    """Print PICTURE as run lengths: "start length" pairs from 1, row by row."""
    from tracer.run_lengths import encode_runs
    from tracer.stitch import read_prediction

    click.echo(encode_runs(read_prediction(picture) >= threshold))


@layers.command(epilog="\b\nExample:\n  tracer layers unrle ink.txt mask.png --like ink.png")
@click.argument("runs", type=_PATH)
@click.argument("out", type=_PATH)
@click.option("--like", type=_PATH, help="Picture of the size that the mask has.")
@click.option("--size", nargs=2, type=int, help="Rows and columns of the mask.")
def unrle(runs: Path, out: Path, like: Path | None, size: tuple[int, int] | None) -> None:
    """Write the mask that the run lengths in the file RUNS describe to OUT."""
    from tracer.layer_stack import write_picture
    from tracer.run_lengths import decode_runs
    from tracer.stitch import read_prediction

    try:
        text = runs.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{runs}: cannot read ({error}); check the path") from error
    if like is not None and size is None:
        rows, cols = read_prediction(like).shape
    elif size is not None and like is None:
        rows, cols = size
    else:
        raise ParamsError("give the size of the mask: either --like PICTURE or --size ROWS COLS")
    write_picture(out, decode_runs(text, (rows, cols)))
    summary(f"{out}: {cols} x {rows} pixels")
