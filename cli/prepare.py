"""`tracer prepare`: scans and blocks to an OME-Zarr volume."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.prepare_params import PrepareParams


@click.command(
    epilog="\b\nExample:\n"
    "  tracer prepare slices/ ct.zarr --voxel-size-um 7.91\n"
    "  tracer prepare cubes/ labels.zarr --voxel-size-um 7.91 --convert keep --pooling nearest"
)
@click.argument("src", type=click.Path(path_type=str))
@click.argument("out", type=click.Path(path_type=Path))
@params_options(PrepareParams)
@click.option("--params", "params_file", type=click.Path(path_type=Path), help="Params as JSON.")
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Threads.  [default: 1]")
@click.option("--restart", is_flag=True, help="Discard unfinished work instead of continuing it.")
@click.option("--overwrite", is_flag=True, help="Replace an existing volume.")
def prepare(
    src: str,
    out: Path,
    params_file: Path | None,
    workers: int,
    restart: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Turn scans and blocks into an OME-Zarr volume.

    SRC is a folder of 2-D tifs, a 3-D tif, NRRD or npy file, a zarr array or volume (also a URL),
    or a folder of blocks named by their origin, such as 02000_02256_02000.nrrd (z_y_x). An
    interrupted run continues when it is started again.
    """
    from tracer.prepare import prepare as run

    params = PrepareParams.load(params_file, given(PrepareParams, options))
    with progress_bar("prepare") as progress:
        result = run(
            src,
            out,
            params,
            workers=workers,
            restart=restart,
            overwrite=overwrite,
            progress=progress,
        )
    summary(result.summary())
