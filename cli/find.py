"""`tracer find`: the patches through one or two points."""

from pathlib import Path

import click

from tracer.cli.console import summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer find scroll/paths 321 153 385\n"
    "  tracer find scroll/paths 321 153 385 340 160 401"
)
@click.argument("paths", type=click.Path(path_type=Path))
@click.argument("coordinates", nargs=-1, type=float, required=True, metavar="X Y Z [X Y Z]")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=2.0, help="In voxels.  [default: 2]"
)
def find(paths: Path, coordinates: tuple[float, ...], tolerance: float) -> int:
    """List the patches through a point, or through both of two points.

    Each line says where on the patch the point lies and how far from it. Exits with 1 if there is
    none.
    """
    if len(coordinates) not in (3, 6):
        raise click.UsageError(f"{len(coordinates)} coordinates; give X Y Z, or two points")
    from tracer.collection import PatchCollection
    from tracer.find import find_patches

    points = [coordinates[i : i + 3] for i in range(0, len(coordinates), 3)]
    result = find_patches(PatchCollection.open(paths), points, tolerance=tolerance)
    summary(result.summary())
    return 0 if result.patches else 1
