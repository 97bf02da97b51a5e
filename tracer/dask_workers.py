"""Run independent tasks on a dask cluster: any number of machines that share a file system.

The scheduler does the tasks of a worker that died again, elsewhere. Every task runs in the folder
in which the run was started, so that relative paths mean the same, and alone in its process: stages
keep state per process.
"""

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracer.errors import MissingDependencyError, ParamsError, TracerError, TracerWarning
from tracer.workers import Executor, WorkerDiedError, cap_threads

if TYPE_CHECKING:
    from distributed import Future

T = TypeVar("T")
R = TypeVar("R")

_TASKS_PER_THREAD = 3  # under way, so that no worker waits for the network
_AT_LEAST = 4  # under way while no worker is there: clusters that adapt start them on demand
_CONNECT_S = 30.0
_ONE_AT_A_TIME = threading.Lock()


class DaskWorkers(Executor):
    """The workers of a dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, ``tcp://host:8786`` or ``host:8786``, or its scheduler file (``.json``).

    Raises
    ------
    MissingDependencyError
        If dask is not installed.
    ParamsError
        If no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDependencyError(
                "--dask needs dask.distributed; install it: pip install 'scroll-tracer[dask]'"
            ) from error
        self._address = address
        is_file = address.endswith(".json")
        if is_file and not Path(address).is_file():
            raise ParamsError(
                f"dask: {address}: no such scheduler file; start one with `dask scheduler "
                f"--scheduler-file {address}`"
            )
        where = {"scheduler_file": address} if is_file else {"address": address}
        try:
            self._client = Client(**where, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ParamsError(
                f"dask: no scheduler answers at {address} ({error}); start one with `dask "
                "scheduler`, workers with `dask worker --nthreads 1 ADDRESS`, and name its address"
            ) from error
        self._warn_of_threads()

    def _warn_of_threads(self) -> None:
        threads: dict[str, int] = self._client.nthreads()
        if not threads:
            warnings.warn(
                f"dask: no worker has joined {self._address} yet; waiting for the first one",
                TracerWarning,
                stacklevel=3,
            )
        several = [worker for worker, count in threads.items() if count > 1]
        if several:
            warnings.warn(
                f"dask: {len(several)} of {len(threads)} workers have several threads, of which "
                "one is used; start more workers with --nthreads 1 instead",
                TracerWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Disconnect; the cluster stays as it is."""
        self._client.close()

    def most_under_way(self) -> int:
        """Return how many tasks to hand out at once.

        Returns
        -------
        int
            A few per worker thread that is there now.
        """
        threads = sum(self._client.nthreads().values())
        return max(_AT_LEAST, _TASKS_PER_THREAD * int(threads))

    def _submit(self, function: Callable[[T], R], task: T) -> "Future":
        from tracer import __version__

        with warnings.catch_warnings():  # a task may hold a block of voxels
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            return self._client.submit(
                run_one, function, task, str(Path.cwd()), __version__, pure=False
            )

    def _first_finished(self, handles: "Collection[Future]") -> "list[Future]":
        from distributed import wait

        with self._told_of_death(), self._client.as_current():
            return list(wait(list(handles), return_when="FIRST_COMPLETED").done)

    def _result(self, handle: "Future") -> Any:
        with self._told_of_death():
            return handle.result()

    @contextlib.contextmanager
    def _told_of_death(self) -> Iterator[None]:
        """Say what to do where dask gives up."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            yield
        except KilledWorker as error:
            raise WorkerDiedError(
                f"dask: workers died one after the other at the same task (out of memory?); what "
                f"is finished is kept, give them more memory or a smaller cache_size and run again "
                f"({str(error).splitlines()[0][:120]})"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise WorkerDiedError(
                f"dask: the scheduler at {self._address} is gone; what is finished is kept, start "
                "it and run again"
            ) from error

    def _drop(self, handles: "Collection[Future]") -> None:
        if handles:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(handles))


def run_one(function: Callable[[T], R], task: T, folder: str, version: str) -> R:
    """Return the result of one task; runs on a worker.

    Parameters
    ----------
    function : callable
        What to do.
    task : object
        With what.
    folder : str
        Where the run was started.
    version : str
        Version of this package there.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    ParamsError
        If this worker has another version or does not see the folder.
    """
    from tracer import __version__

    if version != __version__:
        raise ParamsError(
            f"dask: the worker on {os.uname().nodename} has scroll-tracer {__version__}, the run "
            f"{version}; install the same version everywhere"
        )
    with _ONE_AT_A_TIME:
        cap_threads()
        try:
            os.chdir(folder)
        except OSError as error:
            raise TracerError(
                f"dask: the worker on {os.uname().nodename} does not see {folder} "
                f"({error.strerror}); machines must share the file system"
            ) from error
        return function(task)
