"""`tracer winding`: relative winding numbers of surfaces."""

from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer winding scroll/traces/auto_trace_20261121001746346\n"
    "  tracer winding trace1 trace2 --umbilicus umbilicus.json"
)
@click.argument("surfaces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--umbilicus",
    type=click.Path(path_type=Path),
    help="The scroll's axis: VC3D's JSON, or lines of z, y, x. Estimated where omitted.",
)
@click.option("--axis", "axis_text", help="The axis as x,y or x,y,z;x,y,z;…")
def winding(surfaces: tuple[Path, ...], umbilicus: Path | None, axis_text: str | None) -> int:
    """Write the relative winding of every vertex into each of SURFACES.

    winding.tif grows by 1 per wrap outward; wind_vis.tif is the same as a rainbow, which should run
    smoothly from one end to the other. Exits with 1 if a surface jumps between wraps; where is
    printed and stored in meta.json. winding_points.json holds point collections for spiral fitting.
    """
    from tracer.surface import Surface
    from tracer.unroll.axis import choose_axis
    from tracer.winding import solve_winding
    from tracer.winding.output import write_winding

    axis = choose_axis(umbilicus, axis_text)
    jumping = 0
    for path in surfaces:
        surface = Surface.load(path, channels=())
        with progress_bar(f"winding {path.name}") as progress:
            found = solve_winding(surface, axis=axis, progress=progress)
        write_winding(path, surface, found)
        summary(f"{path}: {found.summary()}")
        jumping += bool(found.discontinuities)
    return 1 if jumping else 0
