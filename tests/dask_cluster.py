"""A real dask scheduler and worker processes for tests."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

LIMIT_S = 60.0


def _start(folder, name, *words):
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "distributed.cli." + words[0], *words[1:]],
            cwd=folder,
            stdout=log,
            stderr=log,
        )


@contextlib.contextmanager
def dask_cluster(folder, workers=2, extra_path=None):
    """Yield (scheduler file, worker processes): `dask scheduler` and `dask worker --no-nanny`."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    local = ("--host", "127.0.0.1", "--no-dashboard")
    before = os.environ.get("PYTHONPATH")
    if extra_path is not None:
        os.environ["PYTHONPATH"] = str(extra_path)
    processes = []
    try:
        processes.append(
            _start(
                folder, "scheduler", "dask_scheduler", *local, "--port", "0",
                "--scheduler-file", str(file),
            )
        )  # fmt: skip
        common = ("--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", *local)
        for number in range(workers):
            own = ("--name", f"w{number}", "--local-directory", str(folder / "space"))
            processes += [_start(folder, f"worker{number}", "dask_worker", *common, *own)]
        wait_until(file.exists)
        wait_until(lambda: json.loads(file.read_text() or "{}").get("address"))
        yield file, processes[1:]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        if extra_path is not None:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def wait_until(condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
