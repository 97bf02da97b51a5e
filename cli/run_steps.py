"""Run the steps of a plan: what is done is left out, what was interrupted is gone on with."""

import contextlib
import io
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.console import summary
from tracer.errors import ParamsError, TracerError
from tracer.run.plan import Step

if TYPE_CHECKING:
    from tracer.run.state import RunState

LOGS = "logs"
_LONGEST = 400  # characters of a step's result that the report shows


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


def run_steps(
    steps: Sequence[Step],
    state: "RunState",
    out: Path,
    inputs: Mapping[str, str],
    voxel_size_um: float | None,
) -> int:
    """Run what is not done yet.

    Parameters
    ----------
    steps : sequence of Step
        In order.
    state : RunState
        What is done; brought up to date after every step.
    out : Path
        Folder of the run.
    inputs : mapping
        Identity of every input of the command line, by its path.
    voxel_size_um : float or None
        Edge of a voxel; None where a step is yet to make the volume.

    Returns
    -------
    int
        Exit status.
    """
    for number, step in enumerate(steps, 1):
        digest = state.digest(step, dict(inputs))
        if state.is_done(step, digest):
            summary(f"[{number}/{len(steps)}] {step.name}: done before")
            continue
        words = _make_ready(step, state, digest, out)
        state.begin(step, digest)
        summary(f"\n[{number}/{len(steps)}] $ tracer {' '.join(words)}")
        wall, cpu = time.monotonic(), _cpu_s()
        status, printed = _run_command(step.name, words, out / LOGS)
        if status and not (step.may_fail and status == 1):
            summary(f"{step.name} ended with status {status}; see {out / LOGS / step.name}.log")
            return status
        if step.by_hand is not None:
            digest = state.digest(step, dict(inputs))
        state.finish(
            step,
            digest,
            seconds=round(time.monotonic() - wall, 1),
            cpu_seconds=round(_cpu_s() - cpu, 1),
            status=status,
            summary=_result(step, printed),
            **_facts(step, out, voxel_size_um),
        )
    return 0


def _facts(step: Step, out: Path, voxel_size_um: float | None) -> dict[str, Any]:
    from tracer.run.facts import facts_of
    from tracer.volume import Volume

    if step.surfaces and voxel_size_um is None:
        voxel_size_um = Volume.open(out / "prediction.zarr").voxel_size_um
    return facts_of(step, out, voxel_size_um or 0.0)


def _make_ready(step: Step, state: "RunState", digest: str, out: Path) -> list[str]:
    """Return the command line of a step after what it replaces was removed."""
    from tracer.run.plan import resolve

    is_begun = state.is_begun(step, digest)
    known = step.name in state.steps
    if step.name == "seed" and known and not is_begun and step.writes.exists():
        raise ParamsError(  # people may have worked on it
            f"{step.writes}: was grown with other parameters or from another volume; give another "
            "--out, or move this folder away to grow anew"
        )
    words = resolve(step.words, out / "paths")
    if step.name in ("prepare", "predict") and known and not is_begun:
        words.append("--restart")  # what is there unfinished is of other parameters
    if step.name == "expand":
        at = words.index("--count") + 1
        words[at] = str(max(1, int(words[at]) - _n_expanded(step.writes)))
    if step.replaces:
        previews = sorted(step.writes.glob("z_dbg_gen_*/trace_state.npz")) if is_begun else []
        if previews and step.name.startswith("trace"):
            words += ["--resume", str(previews[-1].parent)]
        elif step.writes.exists():
            shutil.rmtree(step.writes)
    return words


def _n_expanded(paths: Path) -> int:
    """Return how many patches of a collection `tracer expand` has made."""
    from tracer.tifxyz import read_meta

    metas = (read_meta(file.parent) for file in paths.glob("[!.]*/meta.json"))
    return sum(meta.get("source") == "tracer expand" for meta in metas)


def _result(step: Step, printed: str) -> str:
    """Return what a step said at its end, on one line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if step.name == "check":
        lines = lines[-1:]
    text = "; ".join(line for line in lines if not line.startswith("wrote "))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _cpu_s() -> float:
    """Return the CPU seconds of this process and its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


def _run_command(name: str, words: list[str], logs: Path) -> tuple[int, str]:
    """Run one command in this process, its output also into a log; return status and output."""
    from tracer.cli.main import tracer

    logs.mkdir(parents=True, exist_ok=True)
    printed = io.StringIO()
    with (logs / f"{name}.log").open("a", encoding="utf-8") as log:
        log.write(f"$ tracer {' '.join(words)}\n")
        with (
            contextlib.redirect_stdout(_Tee(sys.stdout, log, printed)),
            contextlib.redirect_stderr(_Tee(sys.stderr, log)),
        ):
            try:
                status = tracer.main(words, prog_name="tracer", standalone_mode=False)
            except TracerError as error:
                click.echo(f"error: {error}", err=True)
                return error.exit_code, printed.getvalue()
    return status if isinstance(status, int) else 0, printed.getvalue()
