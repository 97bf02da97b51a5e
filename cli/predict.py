"""`tracer predict`: sheets from CT, by filter or network, or from labels, mended and scored."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.options import given, params_options
from tracer.cli.predict_network import (
    OUT,
    OVERWRITE,
    PARAMS_FILE,
    RESTART,
    VOLUME,
    export_blocks,
    import_blocks,
    make_dataset,
    network,
)
from tracer.predict.clean import CleanParams
from tracer.predict.from_labels import FromLabelsParams
from tracer.predict.params import PredictParams

_OUTWARD = click.option(
    "--outward", nargs=3, type=float, help="Fixed outward direction x y z, instead of an axis."
)


class _DefaultGroup(click.Group):
    """A group whose sub-commands `from-ct` and, with --model, `network` may be left out."""

    def default_command(self, args: list[str]) -> str:
        """Return the sub-command that arguments without one are meant for."""
        has_model = any(arg.partition("=")[0] == "--model" for arg in args)
        return "network" if has_model else "from-ct"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default sub-command where the first argument is none."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [self.default_command(args), *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_DefaultGroup,
    epilog="\b\nExample:\n  tracer predict scroll/ct.zarr scroll/found.zarr --sigma 4\n"
    "  tracer predict scroll/ct.zarr scroll/found.zarr --model nnUNetTrainer__nnUNetPlans__2d\n"
    "  tracer predict clean scroll/found.zarr scroll/clean.zarr --ct scroll/ct.zarr",
)
def predict() -> None:
    """Predict the sheets of a CT volume: tracer predict CT OUT [--model MODEL] [OPTIONS].

    The options of the prediction itself: tracer predict from-ct --help without a model, tracer
    predict network --help with one.
    """


for command in (network, export_blocks, import_blocks, make_dataset):
    predict.add_command(command)


@predict.command(
    name="from-ct",
    epilog="\b\nExample:\n  tracer predict scroll/ct.zarr scroll/found.zarr --sigma 4",
)
@click.argument("ct", type=VOLUME)
@click.argument("out", type=OUT)
@PARAMS_FILE
@params_options(PredictParams)
@_OUTWARD
@OVERWRITE
@RESTART
@executor_options
def from_ct(
    ct: str,
    out: Path,
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Predict the sheets of the volume CT and write the volume OUT (the default command)."""
    from tracer.predict.output import Existing
    from tracer.predict.stages import predict as run
    from tracer.volume import Volume

    existing = Existing(overwrite=overwrite, restart=restart)
    params = PredictParams.load(params_file, given(PredictParams, options))
    volume = Volume.open(ct)
    with open_executor(workers, dask) as pool, progress_bar("predict") as progress:
        result = run(volume, out, params, existing=existing, workers=pool, progress=progress)
    summary(result.summary())


@predict.command(
    epilog="\b\nExample:\n  tracer predict clean pred.zarr clean.zarr --ct ct.zarr --hole-radius 8"
)
@click.argument("prediction", type=VOLUME)
@click.argument("out", type=OUT)
@click.option("--ct", "ct_path", type=VOLUME, help="CT: where it is 0, nothing is predicted.")
@PARAMS_FILE
@params_options(CleanParams)
@OVERWRITE
@RESTART
@executor_options
def clean(
    prediction: str,
    out: Path,
    ct_path: str | None,
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Mend the volume PREDICTION: mask by the CT, close holes, thin, drop small components."""
    from tracer.predict.output import Existing
    from tracer.predict.stages import clean as run
    from tracer.volume import Volume

    existing = Existing(overwrite=overwrite, restart=restart)
    params = CleanParams.load(params_file, given(CleanParams, options))
    support = Volume.open(ct_path) if ct_path else None
    volume = Volume.open(prediction)
    with open_executor(workers, dask) as pool, progress_bar("clean") as progress:
        result = run(
            volume,
            out,
            params,
            ct=support,
            existing=existing,
            workers=pool,
            progress=progress,
        )
    summary(result.summary())


@predict.command(
    name="from-labels",
    epilog="\b\nExample:\n  tracer predict from-labels labels.zarr pred.zarr --face recto "
    "--axis-x 300 --axis-y 310",
)
@click.argument("labels", type=VOLUME)
@click.argument("out", type=OUT)
@PARAMS_FILE
@params_options(FromLabelsParams)
@_OUTWARD
@OVERWRITE
@RESTART
@executor_options
def from_labels(
    labels: str,
    out: Path,
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Turn the volume LABELS of sheet instances into a surface prediction."""
    from tracer.predict.output import Existing
    from tracer.predict.stages import predict_from_labels as run
    from tracer.volume import Volume

    existing = Existing(overwrite=overwrite, restart=restart)
    params = FromLabelsParams.load(params_file, given(FromLabelsParams, options))
    volume = Volume.open(labels)
    with open_executor(workers, dask) as pool, progress_bar("from-labels") as progress:
        result = run(volume, out, params, existing=existing, workers=pool, progress=progress)
    summary(result.summary())


@predict.command(
    epilog="\b\nExample:\n  tracer predict score pred.zarr labels.zarr --ignore-label 2 --json"
)
@click.argument("prediction", type=VOLUME)
@click.argument("label", type=VOLUME)
@click.option("--threshold", default=127.5, show_default=True, help="Least value of a sheet.")
@click.option("--ignore-label", type=int, help="Label that means unknown; the benchmark uses 2.")
@click.option("--tolerance", default=2.0, show_default=True, help="Of the surface Dice, voxels.")
@click.option("--start", nargs=3, type=int, help="First voxel z y x of the part to score.")
@click.option("--stop", nargs=3, type=int, help="Voxel z y x after the last one.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def score(
    prediction: str,
    label: str,
    threshold: float,
    ignore_label: int | None,
    tolerance: float,
    start: tuple[int, int, int] | None,
    stop: tuple[int, int, int] | None,
    as_json: bool,
) -> None:
    """Score the volume PREDICTION against the volume LABEL."""
    from tracer.predict.stages import score as run
    from tracer.volume import Volume

    predicted, known = Volume.open(prediction), Volume.open(label)
    result = run(
        predicted,
        known,
        box_zyx=(start or (0, 0, 0), stop or predicted.shape_zyx),
        threshold=threshold,
        ignore_label=ignore_label,
        tolerance=tolerance,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result), indent=2))
    else:
        summary(result.summary())
