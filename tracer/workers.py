"""Run independent tasks in worker processes, with results in the order of the tasks.

One worker is one process with one thread: BLAS and OpenMP pools are capped at 1, because an
uncapped pool costs several times the CPU time for nothing. With one worker the tasks run in this
process.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Self, TypeVar

from tracer.errors import TracerError

T = TypeVar("T")
R = TypeVar("R")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


class WorkerDiedError(TracerError, RuntimeError):
    """A worker process was killed; finished results are safe."""


class Workers:
    """A pool of worker processes that starts with its first tasks and is used again.

    Parameters
    ----------
    count : int
        Number of processes; 1 runs every task in this process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Yield (task index, result) as tasks finish.

        Parameters
        ----------
        function : callable
            Module-level function of one task; pure, so that results do not depend on scheduling.
        tasks : sequence
            Picklable inputs.

        Yields
        ------
        index : int
            Which task.
        result : object
            What the function returned.

        Raises
        ------
        WorkerDiedError
            If a worker was killed, for instance because memory ran out.
        """
        if self._count <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task)
            return
        pool = self._started()
        futures: dict[Future[R], int] = {}
        try:
            for index, task in enumerate(tasks):
                futures[pool.submit(function, task)] = index
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "a worker process was killed (out of memory?); what is finished is kept, use fewer "
                "--workers or a smaller cache_size and run again"
            ) from error
        finally:
            # After an interrupt only what runs is waited for. The pool alone would now and then
            # work through all tasks first: it forgets to cancel them once nobody refers to it.
            for future in futures:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        """Return the pool, started on first use."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count, mp_context=get_context("spawn"), initializer=_start_worker
            )
        return self._pool


def _start_worker() -> None:
    """Cap thread pools at one thread; leave interrupts to the parent, which shuts down in order."""
    # Libraries read these when they are imported, which in a worker happens with its first task.
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone; it would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_tasks(
    function: Callable[[T], R], tasks: Sequence[T], workers: int
) -> Iterator[tuple[int, R]]:
    """Yield (task index, result) as tasks finish, from a pool of its own.

    Parameters
    ----------
    function : callable
        Module-level function of one task; pure, so that results do not depend on scheduling.
    tasks : sequence
        Picklable inputs.
    workers : int
        Number of processes; 1 runs everything here.

    Yields
    ------
    index : int
        Which task.
    result : object
        What the function returned.

    Raises
    ------
    WorkerDiedError
        If a worker was killed, for instance because memory ran out.
    """
    with Workers(min(workers, len(tasks))) as pool:
        yield from pool.run(function, tasks)
