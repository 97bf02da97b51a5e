"""`tracer overlap`: record the overlaps of segments."""

from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer overlap scroll/paths hand_made_1\n"
    "  tracer overlap scroll/paths --all"
)
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("segments", nargs=-1, metavar="[SEGMENT]…")
@click.option("--all", "every", is_flag=True, help="Do it for every patch.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=2.0, help="In voxels.  [default: 2]"
)
def overlap(paths: Path, segments: tuple[str, ...], every: bool, tolerance: float) -> None:
    """Add segments to the overlap graph of a collection, exactly and in both directions.

    SEGMENT is the name of a surface in PATHS, or its directory.
    """
    if every == bool(segments):
        raise click.UsageError("give the segments to add, or --all")
    from tracer.collection import PatchCollection

    collection = PatchCollection.open(paths)
    names = collection.names() if every else [collection.name_of(segment) for segment in segments]
    lines = []
    with progress_bar("overlap") as progress:
        for done, name in enumerate(names):
            found = collection.record_overlaps(name, tolerance=tolerance)
            lines.append(f"{name}: overlaps {len(found)} patches")
            progress(done + 1, len(names), name)
    summary("\n".join(lines))
