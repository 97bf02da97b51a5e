"""`tracer trace`: one consensus surface over many patches."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.trace.params import TraceParams


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer trace scroll/prediction.zarr scroll/paths traces trace.json "
    "scroll/paths/auto_grown_20261121001052224\n"
    "  tracer trace scroll/prediction.zarr scroll/paths traces trace.json PATCH --flip-x\n"
    "  tracer trace scroll/prediction.zarr scroll/paths traces trace.json PATCH "
    "--resume traces/z_dbg_gen_00100_20261121001052224"
)
@click.argument("prediction")
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("params_file", metavar="PARAMS", type=click.Path(path_type=Path))
@click.argument("seed_patch", type=click.Path(path_type=Path))
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Preview or stopped trace to go on from."
)
@click.option(
    "--suspects",
    type=click.Path(path_type=Path),
    help="suspects.json of unroll; looked for beside PATHS where omitted.",
)
@params_options(TraceParams)
def trace(
    prediction: str,
    paths: Path,
    out: Path,
    params_file: Path,
    seed_patch: Path,
    resume: Path | None,
    suspects: Path | None,
    **options: Any,
) -> None:
    """Grow one surface along the scroll, over the patches in PATHS, from SEED_PATCH on.

    PREDICTION is the volume that the patches were grown on. The surface appears in OUT as
    auto_trace_..., with a preview every 50 generations. Ctrl-C saves what there is.
    """
    params = TraceParams.load(params_file, given(TraceParams, options))
    from tracer.cli.stopping import stop_on_signals
    from tracer.trace.stage import trace as grow_trace
    from tracer.volume import Volume

    volume = Volume.open(prediction)
    with stop_on_signals() as is_stopped, progress_bar("trace") as progress:
        result = grow_trace(
            paths,
            out,
            params,
            seed_patch,
            prediction=volume,
            suspects=suspects,
            resume=resume,
            progress=progress,
            is_stopped=is_stopped,
        )
    summary(result.summary())
