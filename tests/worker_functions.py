"""Functions that worker processes import."""

import os
import signal
import time
from pathlib import Path


def square(number):
    return number * number


def describe(_):
    """Return the process, its thread caps and whether it leaves interrupts to its parent."""
    caps = [os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
    return os.getpid(), caps, signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def fail_at_two(number):
    if number == 2:
        raise ValueError("number two is bad")
    return number


def die_when_told(folder):
    """Write a file at once, or kill this process when the file of another task has been seen."""
    folder = Path(folder)
    if folder.name == "finished":
        (folder.parent / "result").write_text("safe")
        return "finished"
    for _ in range(3000):
        if (folder.parent / "seen").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    return "never"


def leave_a_trace(path):
    """Take a while and write a file."""
    time.sleep(0.05)
    Path(path).touch()
