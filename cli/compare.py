"""`tracer compare`: two surfaces or collections."""

import json
from pathlib import Path

import click

from tracer.cli.console import progress_bar, summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer compare our_trace vc3d_trace --picture difference.png\n"
    "  tracer compare paths vc3d_paths --json\n"
    "  tracer compare our_trace vc3d_trace --points windings.json"
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=3.0, help="In voxels.  [default: 3]"
)
@click.option(
    "--points",
    type=click.Path(path_type=Path),
    help="VC3D point collections: how both single surfaces meet them.",
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Phantom: score both sides against it too."
)
@click.option(
    "--picture", type=click.Path(path_type=Path), help="PNG of where they differ, in slices."
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def compare(
    a: Path,
    b: Path,
    tolerance: float,
    points: Path | None,
    truth: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Compare A with B: a surface or a folder of surfaces each, ours or VC3D's.

    Distances and coverage both ways, agreement of normals, area, recorded time per area, and where
    windings disagree, which is where one has switched sheets.
    """
    from tracer.compare import compare as compare_sides
    from tracer.compare import difference_picture
    from tracer.errors import ParamsError

    with progress_bar("compare") as progress:
        found = compare_sides(a, b, tolerance=tolerance, progress=progress)
    values, scores = found.to_json(), {}
    if points is not None:
        if not found.a.surfaces == found.b.surfaces == 1:
            raise ParamsError("--points needs a single surface on either side")
        from tracer.point_collections import metrics_of_path

        values["points"] = {
            name: metrics_of_path(path, points) for name, path in (("a", a), ("b", b))
        }
    if truth is not None:
        from tracer.phantom.truth import Truth
        from tracer.score import score_paths

        scores = {
            name: score_paths([path], Truth.load(truth)) for name, path in (("a", a), ("b", b))
        }
        values["truth"] = {name: score.to_json() for name, score in scores.items()}
    if picture is not None:
        from tracer.atomic import write_bytes

        write_bytes(picture, difference_picture(found))
    if as_json:
        click.echo(json.dumps(values, indent=1))
        return
    summary(found.summary())
    for name, score in scores.items():
        summary(f"{name.upper()} against the truth: {score.summary()}")
    for name, metrics in values.get("points", {}).items():
        summary(f"{name.upper()}: " + ", ".join(f"{key} {value}" for key, value in metrics.items()))
