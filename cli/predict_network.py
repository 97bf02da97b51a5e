"""`tracer predict --model`: networks, and the hand-over of blocks and data sets to nnU-Net."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.options import given, params_options
from tracer.predict.dataset import DatasetParams
from tracer.predict.exchange import ExportParams, ImportParams
from tracer.predict.network_params import NetworkParams

PARAMS_FILE = click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with any of the options below; options given here win.",
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a finished OUT.")
RESTART = click.option(
    "--restart", is_flag=True, help="Discard unfinished work instead of continuing it."
)
VOLUME = click.Path(path_type=str)
OUT = click.Path(path_type=Path)


@click.command(
    name="network",
    epilog="\b\nExample:\n"
    "  tracer predict scroll/ct.zarr scroll/found.zarr --model nnUNetTrainer__nnUNetPlans__2d\n"
    "  tracer predict ct.zarr out.zarr --model a --model b --num-parts 4 --part-id 0",
)
@click.argument("ct", type=VOLUME)
@click.argument("out", type=OUT)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Folder of an nnU-Net model, or a 2-D model as TorchScript or ONNX file; may be repeated: "
    "the probabilities are averaged.",
)
@click.option(
    "--num-parts", default=1, show_default=True, help="Processes that share the blocks, say GPUs."
)
@click.option("--part-id", default=0, show_default=True, help="Which of them this is, from 0.")
@PARAMS_FILE
@params_options(NetworkParams)
@OVERWRITE
@RESTART
@executor_options
def network(
    ct: str,
    out: Path,
    models: tuple[Path, ...],
    num_parts: int,
    part_id: int,
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Predict the sheets of the volume CT with trained networks and write the volume OUT."""
    from tracer.predict.network_stage import Part, predict_with_network
    from tracer.predict.output import Existing
    from tracer.volume import Volume

    params = NetworkParams.load(params_file, given(NetworkParams, options))
    part = Part(number=part_id, count=num_parts)
    existing = Existing(overwrite=overwrite, restart=restart)
    volume = Volume.open(ct)
    with open_executor(workers, dask) as pool, progress_bar("predict") as progress:
        result = predict_with_network(
            volume,
            out,
            models,
            params,
            part=part,
            existing=existing,
            workers=pool,
            progress=progress,
        )
    summary(result.summary())


@click.command(
    name="export-blocks",
    epilog="\b\nExample:\n  tracer predict export-blocks scroll/ct.zarr blocks --block 600",
)
@click.argument("ct", type=VOLUME)
@click.argument("folder", type=OUT)
@PARAMS_FILE
@params_options(ExportParams)
def export_blocks(ct: str, folder: Path, params_file: Path | None, **options: Any) -> None:
    """Write the blocks of the volume CT into FOLDER, the input of nnUNetv2_predict."""
    from tracer.predict.exchange import export_blocks as run
    from tracer.volume import Volume

    params = ExportParams.load(params_file, given(ExportParams, options))
    volume = Volume.open(ct)
    with progress_bar("export") as progress:
        result = run(volume, folder, params, progress=progress)
    summary(result.summary())


@click.command(
    name="import-blocks",
    epilog="\b\nExample:\n  tracer predict import-blocks blocks predicted scroll/found.zarr",
)
@click.argument("blocks", type=click.Path(path_type=Path))
@click.argument("predicted", type=click.Path(path_type=Path))
@click.argument("out", type=OUT)
@click.option("--label", "labels", type=int, multiple=True, help="Label that counts as sheet.")
@PARAMS_FILE
@params_options(ImportParams)
@OVERWRITE
@RESTART
def import_blocks(
    blocks: Path,
    predicted: Path,
    out: Path,
    labels: tuple[int, ...],
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
    **options: Any,
) -> None:
    """Make the volume OUT of exported BLOCKS and what nnUNetv2_predict wrote to PREDICTED."""
    from tracer.predict.exchange import import_blocks as run
    from tracer.predict.output import Existing

    overrides = given(ImportParams, options) | ({"labels": labels} if labels else {})
    params = ImportParams.load(params_file, overrides)
    existing = Existing(overwrite=overwrite, restart=restart)
    with progress_bar("import") as progress:
        result = run(blocks, predicted, out, params, existing=existing, progress=progress)
    summary(result.summary())


@click.command(
    name="make-dataset",
    epilog="\b\nExample:\n"
    "  tracer predict make-dataset --id 60 --name Sheets --raw nnUNet_raw ct.zarr paths\n"
    "  tracer predict make-dataset --id 61 --raw nnUNet_raw a.tif a_label.tif b.tif b_label.tif",
)
@click.argument("pairs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--raw",
    type=click.Path(path_type=Path),
    envvar="nnUNet_raw",
    required=True,
    help="nnU-Net's folder of raw data sets.  [default: environment variable nnUNet_raw]",
)
@PARAMS_FILE
@params_options(DatasetParams)
@OVERWRITE
def make_dataset(
    pairs: tuple[Path, ...], raw: Path, params_file: Path | None, overwrite: bool, **options: Any
) -> None:
    """Make a training set of nnU-Net of PAIRS: an image and its labels, the next image, ...

    An image is a zarr, tif, NRRD or npy; its labels are a volume of the same shape, a surface, or a
    folder of surfaces.
    """
    from tracer.predict.dataset import make_dataset as run

    if len(pairs) % 2:
        raise click.UsageError(f"{pairs[-1]} has no labels: give an image and its labels in turns")
    params = DatasetParams.load(params_file, given(DatasetParams, options))
    with progress_bar("make-dataset") as progress:
        result = run(
            raw,
            list(zip(pairs[::2], pairs[1::2], strict=True)),
            params,
            overwrite=overwrite,
            progress=progress,
        )
    summary(result.summary())
