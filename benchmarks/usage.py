"""What a process takes: CPU time, elapsed time, peak memory."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Usage:
    """What a child process took.

    Attributes
    ----------
    cpu_s : float
        User and system time.
    wall_s : float
        Elapsed time.
    memory_mb : float
        Peak resident memory.
    status : int
        Exit status; negative where a signal ended it.
    finished : bool
        False where it was stopped.
    """

    cpu_s: float
    wall_s: float
    memory_mb: float
    status: int
    finished: bool


def measure(
    command: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
    stdout: IO[str] | None = None,
    folder: Path | None = None,
) -> Usage:
    """Run a command, in a folder and stopped after some seconds, and return what it took."""
    started = time.monotonic()
    variables = {**os.environ, **(environment or {})}
    child = subprocess.Popen(command, env=variables, stdout=stdout, cwd=folder)
    memory_kb = 0
    stopped = False
    while True:
        memory_kb = max(memory_kb, _peak_kb(child.pid))
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - started > seconds and not stopped:
            os.kill(child.pid, signal.SIGKILL)
            stopped = True
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Usage(
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=time.monotonic() - started,
        memory_mb=memory_kb / 1024,
        status=child.returncode,
        finished=not stopped,
    )


def forget_peak() -> None:
    """Let this process's peak memory begin anew, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return this process's peak resident memory since :func:`forget_peak`, MB."""
    return _peak_kb(os.getpid()) / 1024 or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _peak_kb(pid: int) -> int:
    """Return the peak resident memory of a running process, 0 where it cannot be read.

    Not from ``wait4``: there a child begins with the peak of the process that started it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) if lines else 0
