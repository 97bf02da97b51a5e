"""`tracer predict --model`: networks, and the hand-over of blocks and data sets to nnU-Net."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
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
def network(
    ct: str,
    out: Path,
    models: tuple[Path, ...],
    num_parts: int,
    part_id: int,
    params_file: Path | None,
    overwrite: bool,
    restart: bool,
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
    with progress_bar("predict") as progress:
        result = predict_with_network(
            volume, out, models, params, part=part, existing=existing, progress=progress
        )
    summary(result.summary())
