"""`tracer checkpoint`: the good part of a trace becomes a patch of the collection."""

from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer checkpoint traces/auto_trace_20261121093311456 --into scroll/paths\n"
    "  tracer checkpoint traces/auto_trace_20261121093311456 --into scroll/paths "
    "--region :,120:400 --name wrap_7_to_9 --mask edited.png"
)
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--into",
    metavar="PATHS",
    required=True,
    type=click.Path(path_type=Path),
    help="Collection to add it to.",
)
@click.option(
    "--region",
    metavar="R0:R1,C0:C1",
    default="",
    help="Rows and columns of the trace's grid to keep, ends exclusive; a number may be left out.",
)
@click.option(
    "--mask",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="White keeps; of the trace's size or a multiple of it. The trace's own mask counts too.",
)
@click.option("--name", default="", help="Name of the new patch.  [default: checkpoint_<time>]")
@click.option("--no-approve", is_flag=True, help="Do not tag it approved.")
@click.option("--user", default="", help="Who approves it; kept with the tag.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=2.0, help="In voxels.  [default: 2]"
)
def checkpoint(
    trace: Path,
    into: Path,
    region: str,
    mask: Path | None,
    name: str,
    no_approve: bool,
    user: str,
    tolerance: float,
) -> None:
    """Crop and mask TRACE, save it among the patches, record its overlaps and approve it.

    The next `tracer trace` uses it like any patch, and accepts its nodes at once.
    """
    from datetime import UTC, datetime

    from tracer.checkpoint import checkpoint as add_checkpoint
    from tracer.checkpoint import parse_region

    approval = None
    if not no_approve:
        approval = {"date": datetime.now(tz=UTC).isoformat(timespec="seconds")}
        approval |= {"user": user} if user else {}
    with progress_bar("checkpoint") as progress:
        result = add_checkpoint(
            trace,
            into,
            region=parse_region(region) if region else None,
            mask=mask,
            name=name,
            approval=approval,
            tolerance=tolerance,
            progress=progress,
        )
    summary(result.summary())
