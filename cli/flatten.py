"""`tracer flatten`: one surface on a regular grid with little distortion."""

from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer flatten trace flat\n"
    "  tracer flatten trace flat --step 10 --fill\n"
    "  tracer flatten trace --measure"
)
@click.argument("surface", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--step", type=click.FloatRange(min=1.0), help="Voxels between vertices.")
@click.option("--fill", is_flag=True, help="Fill holes too.")
@click.option("--measure", is_flag=True, help="Only print the distortion of SURFACE.")
@click.option(
    "--umbilicus",
    type=click.Path(path_type=Path),
    help="The scroll's axis: VC3D's JSON, or lines of z, y, x. Estimated where omitted.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def flatten(
    surface: Path,
    out: Path | None,
    step: float | None,
    fill: bool,
    measure: bool,
    umbilicus: Path | None,
    overwrite: bool,
) -> None:
    """Put SURFACE on a regular grid in which lengths, angles and areas are nearly kept.

    Prints stretch, shear and area distortion per cell before and after. A trace that is flattened
    needs no fuse. Its channels are carried over; parts that no wrap connects are left out.
    """
    from tracer.flatten import flatten as flatten_surface
    from tracer.flatten import measure_distortion
    from tracer.provenance import provenance
    from tracer.surface import Surface
    from tracer.unroll.axis import choose_axis

    loaded = Surface.load(surface)
    before = measure_distortion(loaded)
    summary(f"before: {before.summary()}")
    if measure:
        return
    if out is None:
        raise click.UsageError("give OUT, or --measure")
    params = {"step": step, "fill": fill}
    volume = loaded.meta.get("target_volume")
    extra = {"surface": str(surface), **({"target_volume": volume} if volume else {})}
    with progress_bar("flatten") as progress:
        flat = flatten_surface(
            loaded,
            step=step,
            fill=fill,
            axis=choose_axis(umbilicus, None),
            meta=provenance("tracer flatten", params, extra=extra),
            progress=progress,
        )
    saved = flat.save(out, overwrite=overwrite)
    summary(
        f"after:  {measure_distortion(flat).summary()}\n{saved}: {flat.shape[0]} x {flat.shape[1]}"
    )
