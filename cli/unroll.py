"""`tracer unroll`: a whole collection as one flat surface."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.unroll.params import UnrollParams, parse_range


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer unroll scroll/paths scroll/unrolled --prediction scroll/prediction.zarr\n"
    "  tracer unroll scroll/paths scroll/unrolled --prediction scroll/prediction.zarr --grow 5\n"
    "  tracer unroll scroll/paths part --umbilicus umbilicus.json --turns 3:8 --z 2000:6000"
)
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-p", "--params", "params_file", type=click.Path(path_type=Path), help="Params JSON.")
@click.option("--prediction", help="Surface prediction (OME-Zarr) to pull the result to.")
@click.option(
    "--umbilicus",
    type=click.Path(path_type=Path),
    help="The scroll's axis: VC3D's JSON, or lines of z, y, x. Estimated where omitted.",
)
@click.option("--axis", "axis_text", help="The axis as x,y or x,y,z;x,y,z;…")
@click.option("--turns", help="Turns to write, a:b, counted from the innermost.")
@click.option("--z", "z_text", help="Heights to write, a:b, voxels.")
@click.option(
    "--grow",
    type=click.IntRange(0),
    default=0,
    help="Grow patches into the holes and unroll again, at most so many times; needs --prediction.",
)
@click.option(
    "--seed-params",
    type=click.Path(path_type=Path),
    help="Params JSON of `tracer seed` for --grow.",
)
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes for --grow.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--pictures/--no-pictures", default=True, help="Draw the plane, a section, suspects.")
@params_options(UnrollParams, skip=frozenset({"turn_min", "turn_max", "z_min", "z_max"}))
def unroll(
    paths: Path,
    out: Path,
    params_file: Path | None,
    prediction: str | None,
    umbilicus: Path | None,
    axis_text: str | None,
    turns: str | None,
    z_text: str | None,
    grow: int,
    seed_params: Path | None,
    workers: int,
    overwrite: bool,
    pictures: bool,
    **options: Any,
) -> None:
    """Lay out the patches in PATHS as one flat surface OUT, with winding numbers.

    Beside the surface OUT/report holds suspects.json (places where patches jump between wraps),
    holes.json (targets for `tracer expand --into`), windings for spiral fitting, and pictures.
    """
    values = given(UnrollParams, options)
    for text, what in ((turns, "turn"), (z_text, "z")):
        if text is not None:
            low, high = parse_range(text, what)
            values[f"{what}_min"], values[f"{what}_max"] = low, high
    params = UnrollParams.load(params_file, values)
    from tracer.errors import OutputError, ParamsError
    from tracer.unroll.axis import choose_axis
    from tracer.unroll.output import write_unrolled
    from tracer.unroll.patches import patch_directories
    from tracer.unroll.slabs import unroll_collection
    from tracer.volume import Volume

    if out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists already; choose another name or give --overwrite")
    axis = choose_axis(umbilicus, axis_text)
    volume = None
    if prediction is not None:
        volume = Volume.open(prediction)
        volume.require_prediction()
    if grow and volume is None:
        raise ParamsError("grow: patches grow in a prediction; give --prediction")
    rounds: tuple[Any, ...] = ()
    with progress_bar("unroll") as progress:
        if grow and volume is not None:
            from tracer.seed_params import SeedParams
            from tracer.unroll.loop import unroll_and_grow

            result, rounds = unroll_and_grow(
                paths,
                volume,
                params,
                SeedParams.load(seed_params, {}),
                rounds=grow,
                axis=axis,
                workers=workers,
                progress=progress,
            )
        else:
            result = unroll_collection(
                patch_directories(paths),
                params,
                axis=axis,
                prediction=volume,
                pictures=pictures,
                progress=progress,
            )
        saved = write_unrolled(
            result, out, params, prediction=volume, overwrite=overwrite, pictures=pictures
        )
    for number, one in enumerate(rounds):
        summary(f"round {number}: {one.summary()}")
    summary(result.summary())
    summary("\n".join(f"wrote {path}" for path in saved))
