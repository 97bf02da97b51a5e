"""`tracer suspects`: the sheet jumps in a collection."""

from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.options import given, params_options
from tracer.unroll.params import UnrollParams

_ONLY_UNROLL = frozenset(UnrollParams.model_fields) - {"same_surface_th", "threshold", "memory_gb"}


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer suspects scroll/paths --out suspects --prediction scroll/prediction.zarr\n"
    "  tracer suspects scroll/paths --auto-mask"
)
@click.argument("paths", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for suspects.json and a picture per suspect.",
)
@click.option("--prediction", help="Surface prediction to draw under the pictures.")
@click.option(
    "--umbilicus",
    type=click.Path(path_type=Path),
    help="The scroll's axis: VC3D's JSON, or lines of z, y, x. Estimated where omitted.",
)
@click.option("--axis", "axis_text", help="The axis as x,y or x,y,z;x,y,z;…")
@click.option(
    "--auto-mask", is_flag=True, help="Mask the offending cells; the masks before are kept."
)
@click.option("--pictures/--no-pictures", default=True, help="Draw a picture per suspect.")
@params_options(UnrollParams, skip=_ONLY_UNROLL)
def suspects(
    paths: Path,
    out: Path | None,
    prediction: str | None,
    umbilicus: Path | None,
    axis_text: str | None,
    auto_mask: bool,
    pictures: bool,
    **options: Any,
) -> None:
    """List the patches in PATHS that jump between wraps or hang between sheets."""
    params = UnrollParams.load(None, given(UnrollParams, options))
    from tracer.unroll.axis import choose_axis
    from tracer.unroll.output import write_suspects
    from tracer.unroll.patches import patch_directories
    from tracer.unroll.slabs import suspects_of_collection
    from tracer.volume import Volume

    axis = choose_axis(umbilicus, axis_text)
    volume = Volume.open(prediction) if prediction is not None else None
    with progress_bar("suspects") as progress:
        found, masked = suspects_of_collection(
            patch_directories(paths),
            params,
            axis=axis,
            prediction=volume,
            pictures=pictures and out is not None,
            mask=auto_mask,
            progress=progress,
        )
    for suspect in found.suspects:
        x, y, z = suspect.xyz
        turns = f", {suspect.turns} turns" if suspect.turns else ""
        summary(
            f"{suspect.kind:9} {suspect.patch} at {x:.0f} {y:.0f} {z:.0f}: "
            f"{suspect.vertices} vertices{turns}"
        )
    kinds = sorted({suspect.kind for suspect in found.suspects})
    counted = ", ".join(f"{sum(s.kind == kind for s in found.suspects)} {kind}" for kind in kinds)
    summary(f"{found.patches} patches: {counted or 'nothing suspicious'}")
    if out is not None:
        written = write_suspects(out, found)
        summary(f"wrote {written}")
    if auto_mask:
        summary(f"masked {sum(masked.values())} vertices of {len(masked)} patches")
