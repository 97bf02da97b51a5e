"""`tracer ground`: a fused surface at the resolution of its traces."""

from pathlib import Path

import click

from tracer.cli.console import summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.fuse import read_triples


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer ground fuse_fill_20261121002347783 5 trace1 trace2\n"
    "  tracer ground FUSED FUSED/winding.tif 5 trace1 trace1/winding.tif trace2 trace2/winding.tif"
)
@click.argument("fused", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, required=True, metavar="[WINDING] SCALE SURFACE [WINDING] …")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder for the result.  [default: here]",
)
@executor_options
def ground(fused: Path, words: tuple[str, ...], out: Path, workers: int, dask: str | None) -> None:
    """Upsample FUSED by SCALE, with the detail of the surfaces it was made of.

    Where all corners of a cell are found on a surface (winding within 0.3, distance below 20
    voxels) its own points are taken; elsewhere the cell is interpolated, without a seam. The result
    is grounding_hr_….
    """
    winding = Path(words[0]) if words[0].endswith(".tif") else None
    rest = words[1:] if winding else words
    if not rest or not rest[0].isdigit():
        raise click.UsageError("SCALE must be a whole number, 1 or more")
    from tracer.collection import PatchCollection
    from tracer.fuse import ground as ground_surface
    from tracer.fuse import load_sources
    from tracer.provenance import provenance

    triples = read_triples(rest[1:], 2)
    if not triples:
        raise click.UsageError("give at least one SURFACE")
    (source,) = load_sources([(fused, winding, 1.0)])
    factor = int(rest[0])
    extra = {"fused": str(fused), "sources": [str(path) for path, _, _ in triples]}
    meta = provenance("tracer ground", {"scale": factor}, extra=extra)
    with open_executor(workers, dask) as pool:
        surface = ground_surface(source, factor, load_sources(triples), meta, workers=pool)
    name = PatchCollection.open(out, create=True).add(surface, prefix="grounding_hr")
    share = float((surface.channels["state"][surface.valid] == 100).mean())
    rows, cols = surface.shape
    summary(
        f"{out / name}: {rows} x {cols} vertices at step {surface.step:g}, {share:.1%} grounded"
    )
