"""`tracer run`: the whole pipeline, resumable."""

import contextlib
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.console import summary
from tracer.cli.options import given, params_options
from tracer.errors import ParamsError, TracerError
from tracer.run.config import PRESETS, RunParams
from tracer.run.plan import STAGES

if TYPE_CHECKING:
    from tracer.run.plan import Step
    from tracer.volume import Volume

_LOGS = "logs"
_EMPTY = 0.5  # share of empty voxels beyond which a volume is taken for a prediction


class _Tee(io.TextIOBase):
    """Text that goes to the terminal and to a log."""

    def __init__(self, *streams: Any) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        """Write to all streams."""
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer run prediction.zarr --ct ct.zarr --out scroll --dry-run\n"
    "  tracer run prediction.zarr --ct ct.zarr --out scroll --workers 8\n"
    "  tracer run ct.zarr --out scroll --preset quick --stop-after expand\n"
    "  tracer run scroll.volpkg --name prediction --out scroll --config run.yaml"
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
    stop_after: str | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """Go from VOLUME, a scan or a surface prediction, to rendered layers and a report in OUT.

    predict (a scan without a prediction), seed, expand, unroll, render, check: each is a command of
    its own, printed before it runs, with a log in OUT/logs. Run it again to continue; what is done
    is not done again, and what changed (parameters, volumes, masks and tags made by hand) redoes
    what depends on it.
    """
    from tracer.run import RunState, load_config, make_plan
    from tracer.run.estimate import estimate_run
    from tracer.run.plan import until, write_params
    from tracer.volume import Volume

    params = load_config(config, preset, given(RunParams, options))
    opened = Volume.open(volume, name=name)
    is_prediction = kind == "prediction" or (kind == "auto" and _looks_predicted(opened))
    prediction = opened if is_prediction else None
    scan = Volume.open(ct) if ct else (None if is_prediction else opened)
    steps = make_plan(
        params,
        out,
        prediction=prediction.path if prediction else None,
        ct=scan.path if scan else None,
        workers=workers,
    )
    what = "surface prediction" if is_prediction else "scan (say --kind prediction if it is not)"
    summary(f"{opened.path}: {what}")
    for step in steps:
        summary("  tracer " + " ".join(step.words))
    cost = estimate_run(params, prediction, scan)
    if cost is not None:
        summary(cost.summary())
    if dry_run:
        return 0
    out.mkdir(parents=True, exist_ok=True)
    write_params(params, out, out / "cache")
    inputs = {v.path: v.identity for v in (prediction, scan) if v is not None}
    status = _run_steps(until(steps, stop_after), RunState(out), out, inputs)
    _write_report(out, steps)
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


def _run_steps(steps: list["Step"], state: Any, out: Path, inputs: dict[str, str]) -> int:
    """Run what is not done yet; return the exit status."""
    for step in steps:
        digest = state.digest(step, inputs)
        if state.is_done(step, digest):
            summary(f"{step.name}: done before")
            continue
        _clear(step, state)
        state.forget(step)
        summary(f"\n$ tracer {' '.join(step.words)}")
        started = time.monotonic()
        status, printed = _run_command(step, out / _LOGS)
        if status and not (step.may_fail and status == 1):
            summary(f"{step.name} ended with status {status}; see {out / _LOGS / step.name}.log")
            return status
        if step.by_hand is not None:
            digest = state.digest(step, inputs)
        lines = [line for line in printed.splitlines() if line.strip()]
        state.finish(
            step,
            digest,
            seconds=round(time.monotonic() - started, 1),
            status=status,
            summary=lines[-1] if lines else "",
        )
    return 0


def _clear(step: "Step", state: Any) -> None:
    """Refuse to seed into a collection that was seeded otherwise: people may have worked on it."""
    if step.name == "seed" and step.name in state.steps and step.writes.exists():
        raise ParamsError(
            f"{step.writes}: was grown with other parameters or from another volume; give another "
            "--out, or move this folder away to grow anew"
        )


def _run_command(step: "Step", logs: Path) -> tuple[int, str]:
    """Run one command in this process, its output also into a log; return status and output."""
    from tracer.cli.main import tracer

    logs.mkdir(parents=True, exist_ok=True)
    printed = io.StringIO()
    with (logs / f"{step.name}.log").open("a", encoding="utf-8") as log:
        log.write(f"$ tracer {' '.join(step.words)}\n")
        with (
            contextlib.redirect_stdout(_Tee(sys.stdout, log, printed)),
            contextlib.redirect_stderr(_Tee(sys.stderr, log)),
        ):
            try:
                status = tracer.main(list(step.words), prog_name="tracer", standalone_mode=False)
            except TracerError as error:
                click.echo(f"error: {error}", err=True)
                return error.exit_code, printed.getvalue()
    return status if isinstance(status, int) else 0, printed.getvalue()


def _write_report(out: Path, steps: list["Step"]) -> None:
    """Write the page and print a line per step."""
    from tracer.atomic import write_bytes
    from tracer.run.report import PAGE, as_html
    from tracer.run.state import RunState

    state = RunState(out)
    write_bytes(out / PAGE, as_html(out, steps, state).encode())
    summary("")
    for step in steps:
        facts = state.steps.get(step.name)
        done = f"{facts['seconds']:8.1f} s  {facts['summary']}" if facts else "    not done"
        summary(f"{step.name:8} {done}")
    summary(f"look at {out / PAGE}")
