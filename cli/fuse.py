"""`tracer fuse`: traces with windings as one flat surface."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import executor_options, open_executor
from tracer.cli.options import given, params_options
from tracer.fuse.params import FuseParams

_WORDS_PER_SOURCE = 3  # VC3D: surface, winding, weight


def read_triples(words: tuple[str, ...], n_values: int) -> list[tuple[Path, Path | None, float]]:
    """Return surfaces, windings and weights from a command line.

    Parameters
    ----------
    words : tuple of str
        VC3D's groups of surface, winding and (where `n_values` is 3) weight, or surfaces alone.
    n_values : int
        Words per group.

    Returns
    -------
    list of (Path, Path or None, float)
        Winding None: the surface's own ``winding.tif``.
    """
    if len(words) < 2 or not words[1].endswith(".tif"):
        return [(Path(word), None, 1.0) for word in words]
    if len(words) % n_values:
        what = ("SURFACE WINDING", "SURFACE WINDING WEIGHT")[n_values - 2]
        raise click.UsageError(f"{len(words)} words after the params; give groups of {what}")
    triples: list[tuple[Path, Path | None, float]] = []
    for k in range(0, len(words), n_values):
        try:
            weight = float(words[k + 2]) if n_values == _WORDS_PER_SOURCE else 1.0
        except ValueError as error:
            raise click.UsageError(f"weight '{words[k + 2]}' is not a number") from error
        triples.append((Path(words[k]), Path(words[k + 1]), weight))
    return triples


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer fuse trace1 trace2 --out fused\n"
    "  tracer fuse fuse.json trace1 trace1/winding.tif 1.0 trace2 trace2/winding.tif 1.0"
)
@click.argument("words", nargs=-1, required=True, metavar="[PARAMS] SURFACE [WINDING WEIGHT] …")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder for the result.  [default: here]",
)
@click.option("--weight", "weights", type=float, multiple=True, help="One per surface, in order.")
@click.option(
    "--umbilicus",
    type=click.Path(path_type=Path),
    help="The scroll's axis: VC3D's JSON, or lines of z, y, x. Estimated where omitted.",
)
@executor_options
@params_options(FuseParams)
def fuse(
    words: tuple[str, ...],
    out: Path,
    weights: tuple[float, ...],
    umbilicus: Path | None,
    workers: int,
    dask: str | None,
    **options: Any,
) -> None:
    """Fuse traces into one flat surface without holes; the first is the reference.

    Windings are those of `tracer winding`, inside the surfaces or named as in VC3D. Traces may run
    either way and count from anywhere: they are aligned where they meet. The result, fuse_fill_…,
    holds state (100 on a trace, 80 inpainted), winding (of its column) and winding_exact.
    """
    params_file = Path(words[0]) if words[0].endswith(".json") else None
    triples = read_triples(words[1:] if params_file else words, _WORDS_PER_SOURCE)
    if weights:
        if len(weights) != len(triples):
            raise click.UsageError(f"{len(weights)} weights for {len(triples)} surfaces")
        triples = [(s, w, k) for (s, w, _), k in zip(triples, weights, strict=True)]
    params = FuseParams.load(params_file, given(FuseParams, options))
    from tracer.collection import PatchCollection
    from tracer.fuse import fuse as fuse_sources
    from tracer.fuse import load_sources
    from tracer.provenance import provenance
    from tracer.unroll.axis import choose_axis

    sources = load_sources(triples)
    axis = choose_axis(umbilicus, None)
    with open_executor(workers, dask) as pool, progress_bar("fuse") as progress:
        fused = fuse_sources(sources, params, axis=axis, workers=pool, progress=progress)
    extra = {
        "sources": [{"surface": str(s), "weight": k} for s, _, k in triples],
        **{
            key: sources[0].surface.meta[key]
            for key in ("target_volume",)
            if key in sources[0].surface.meta
        },
    }
    meta = provenance("tracer fuse", params, extra=extra)
    results = PatchCollection.open(out, create=True)
    name = results.add(fused.surface(meta), prefix="fuse_fill")
    summary(f"{out / name}: {fused.summary()}")
