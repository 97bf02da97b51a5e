"""`tracer run`: the whole pipeline, resumable."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.console import summary
from tracer.cli.executor import DASK
from tracer.cli.options import given, params_options
from tracer.errors import OutputError, ParamsError
from tracer.run.config import PRESETS, RunParams
from tracer.run.plan import STAGES

if TYPE_CHECKING:
    from tracer.run.plan import Inputs, Step
    from tracer.volume import Volume

_EMPTY = 0.5  # share of empty voxels beyond which a volume is taken for a prediction


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer run prediction.zarr --ct ct.zarr --out scroll --dry-run\n"
    "  tracer run prediction.zarr --ct ct.zarr --out scroll --workers 8\n"
    "  tracer run ct.zarr --out scroll --preset quick --stop-after expand\n"
    "  tracer run slices/ --out scroll --config run.yaml --way trace\n"
    "  tracer run scroll.volpkg --name prediction --out scroll --dask scheduler.json"
)
@click.argument("volume")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@click.option("--name", help="Volume of a .volpkg, by name or uuid.")
@click.option("--ct", help="Scan to render from, where VOLUME is a prediction.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "ct", "prediction"]),
    default="auto",
    help="What VOLUME is; auto looks at its values.  [default: auto]",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="normal",
    help="How much to grow and render.  [default: normal]",
)
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="YAML or JSON; wins over the preset."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes.  [default: 1]")
@DASK
@click.option(
    "--stop-after", type=click.Choice(STAGES), help="Stage to stop after; run again later."
)
@click.option("--dry-run", is_flag=True, help="Only print the plan and what it will cost.")
@params_options(RunParams)
def run(
    volume: str,
    out: Path,
    name: str | None,
    ct: str | None,
    kind: str,
    preset: str,
    config: Path | None,
    workers: int,
    dask: str | None,
    stop_after: str | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """Go from VOLUME, a scan or a surface prediction, to rendered layers and a report in OUT.

    prepare (a scan that is no OME-Zarr yet), predict (a scan without a prediction), seed, expand,
    unroll (or trace, trace-back, winding, fuse, ground with --way trace), render, check: each is a
    command of its own, printed before it runs, with a log in OUT/logs. Run it again to continue;
    what is done is not done again, and what changed (parameters, volumes, masks and tags made by
    hand) redoes what depends on it.
    """
    from tracer.run import load_config, make_plan
    from tracer.run.plan import until

    params = load_config(config, preset, given(RunParams, options))
    inputs, volumes = _inputs(volume, name, ct, kind, out)
    steps = make_plan(params, out, inputs=inputs, workers=workers, dask=dask)
    chosen = until(steps, stop_after)
    _describe(params, inputs, volumes, steps)
    if dry_run:
        return 0
    return _run_all(params, out, steps, chosen, inputs, volumes)


def _inputs(
    volume: str, name: str | None, ct: str | None, kind: str, out: Path
) -> tuple["Inputs", "dict[str, Volume]"]:
    """Return what a run begins with, and the opened volumes."""
    from tracer.run.plan import Inputs, needs_preparing
    from tracer.volume import Volume

    if needs_preparing(volume):
        if kind == "prediction" or ct is not None:
            raise ParamsError(
                f"{volume}: is no OME-Zarr volume; make one of it with `tracer prepare` first"
            )
        return Inputs(files=volume), {}
    opened = Volume.open(volume, name=name)
    is_prediction = kind == "prediction" or (kind == "auto" and _looks_predicted(opened))
    volumes = {"prediction" if is_prediction else "ct": opened}
    if ct and is_prediction:
        volumes["ct"] = Volume.open(ct)
    elif ct:
        raise ParamsError(
            f"{opened.path}: looks like a scan, and --ct gives another; say --kind prediction"
        )
    paths = {key: one.path for key, one in volumes.items()}
    return Inputs(prediction=paths.get("prediction"), ct=paths.get("ct")), volumes


def _describe(
    params: RunParams, inputs: "Inputs", volumes: "dict[str, Volume]", steps: "list[Step]"
) -> None:
    """Print the plan and what it will cost."""
    from tracer.run.estimate import estimate_run

    for kind, volume in volumes.items():
        what = "surface prediction" if kind == "prediction" else "scan"
        summary(f"{volume.path}: {what}")
    if inputs.prediction is None:
        summary("no prediction is given (say --kind prediction if it is one): one is made")
    for step in steps:
        summary("  tracer " + " ".join(f"'{w}'" if "<" in w else w for w in step.words))
    cost = estimate_run(params, volumes.get("prediction"), volumes.get("ct"))
    summary(cost.summary() if cost is not None else "what it costs is known once there is a volume")


def _run_all(
    params: RunParams,
    out: Path,
    steps: "list[Step]",
    chosen: "list[Step]",
    inputs: "Inputs",
    volumes: "dict[str, Volume]",
) -> int:
    """Run the chosen steps, alone in the folder; write the report; return the exit status."""
    from filelock import FileLock, Timeout

    from tracer.atomic import write_bytes
    from tracer.cli.run_steps import run_steps
    from tracer.run import RunState
    from tracer.run.plan import write_params
    from tracer.run.report import PAGE, as_html, as_text
    from tracer.run.state import files_identity

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot create it ({error.strerror})") from error
    identities = {volume.path: volume.identity for volume in volumes.values()}
    if inputs.files is not None:
        identities[inputs.files] = files_identity(Path(inputs.files))
    sizes = [volume.voxel_size_um for volume in volumes.values()]
    try:
        with FileLock(out / ".lock").acquire(timeout=0):
            write_params(params, out, out / "cache")
            state = RunState(out)
            status = run_steps(chosen, state, out, identities, sizes[0] if sizes else None)
            write_bytes(out / PAGE, as_html(out, steps, state).encode())
    except Timeout as error:
        raise OutputError(f"{out}: another `tracer run` is at work here; wait for it") from error
    summary("\n" + as_text(out, steps, state))
    summary(f"look at {out / PAGE}")
    return status


def _looks_predicted(volume: "Volume") -> bool:
    """Return whether a volume is mostly empty, as predictions are and scans are not."""
    level = volume.n_levels - 1
    block = volume.read(level, (0, 0, 0), volume.level_shape_zyx(level))
    if block.dtype != "uint8":
        return False
    return float((block == 0).mean()) > _EMPTY or set(map(int, set(block.ravel()[:4096]))) <= {
        0,
        255,
    }
