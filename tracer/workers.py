"""Run independent tasks on workers, whatever engine they belong to: one interface for all stages.

An :class:`Executor` takes a module-level function and tasks, and yields results; only so many
tasks are under way at once, so that neither tasks nor results pile up. :class:`Workers` is a pool
of processes of this machine; :mod:`tracer.dask_workers` sends the tasks to a dask cluster.

One worker is one process with one thread: BLAS, OpenMP and Numba pools are capped at 1, because an
uncapped pool costs several times the CPU time for nothing. With one worker the tasks run in this
process.
"""

import abc
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, Self, TypeVar

from tracer.errors import TracerError

T = TypeVar("T")
R = TypeVar("R")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_TASKS_PER_WORKER = 2  # under way: one that runs and one that waits for it


class WorkerDiedError(TracerError, RuntimeError):
    """A worker process was killed; finished results are safe."""


class Executor(abc.ABC):
    """Runs independent tasks. What a subclass calls a handle stands for one that is under way."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Give the workers back."""

    def run(
        self, function: Callable[[T], R], tasks: Iterable[T], *, ordered: bool = False
    ) -> Iterator[tuple[int, R]]:
        """Yield (task index, result) as tasks finish.

        Parameters
        ----------
        function : callable
            Module-level function of one task; pure, so that results do not depend on scheduling
            and a task may be done again after its worker died.
        tasks : iterable
            Picklable inputs; taken one by one as workers become free.
        ordered : bool
            Yield in the order of the tasks, with a bounded number of results waiting.

        Yields
        ------
        index : int
            Which task.
        result : object
            What the function returned.

        Raises
        ------
        WorkerDiedError
            If a worker was killed and the engine does not mend that by itself.
        """
        remaining = enumerate(tasks)
        under_way: dict[Any, int] = {}
        done: dict[int, R] = {}
        following = 0
        failed: Exception | None = None
        try:
            while failed is None:
                while len(under_way) + len(done) < self.most_under_way():
                    entry = next(remaining, None)
                    if entry is None:
                        break
                    under_way[self._submit(function, entry[1])] = entry[0]
                if not under_way:
                    return
                for handle in self._first_finished(under_way):
                    index = under_way.pop(handle)
                    try:
                        done[index] = self._result(handle)
                    except Exception as error:  # noqa: BLE001 - raised after what is finished
                        failed = error
                while done:
                    index = following if ordered else min(done)
                    if index not in done:
                        break
                    following = index + 1
                    yield index, done.pop(index)
            raise failed
        finally:
            self._drop(under_way)

    @abc.abstractmethod
    def most_under_way(self) -> int:
        """Return how many tasks to hand out at once.

        Returns
        -------
        int
            At least 1; it may change when workers come and go.
        """

    @abc.abstractmethod
    def _submit(self, function: Callable[[T], R], task: T) -> Any:
        """Return a hashable handle of a task that begins as soon as a worker is free."""

    @abc.abstractmethod
    def _first_finished(self, handles: Collection[Any]) -> list[Any]:
        """Wait until one of some handles is finished, and return those that are."""

    @abc.abstractmethod
    def _result(self, handle: Any) -> Any:
        """Return the result of a finished task, or raise its error."""

    @abc.abstractmethod
    def _drop(self, handles: Collection[Any]) -> None:
        """Cancel tasks as far as possible."""


class Workers(Executor):
    """A pool of worker processes that starts with its first tasks and is used again.

    Parameters
    ----------
    count : int
        Number of processes; 1 runs every task in this process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """End the processes; what runs is waited for."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(
        self, function: Callable[[T], R], tasks: Iterable[T], *, ordered: bool = False
    ) -> Iterator[tuple[int, R]]:
        """Yield (task index, result) as tasks finish; see :meth:`Executor.run`.

        Parameters
        ----------
        function : callable
            Module-level function of one task.
        tasks : iterable
            Picklable inputs.
        ordered : bool
            Yield in the order of the tasks.

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
        yield from super().run(function, tasks, ordered=ordered)

    def most_under_way(self) -> int:
        """Return how many tasks to hand out at once.

        Returns
        -------
        int
            A few per process.
        """
        return _TASKS_PER_WORKER * self._count

    def _submit(self, function: Callable[[T], R], task: T) -> Future[R]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count, mp_context=get_context("spawn"), initializer=_start_worker
            )
        with _told_of_death():
            return self._pool.submit(function, task)

    def _first_finished(self, handles: Collection[Future[Any]]) -> list[Future[Any]]:
        return list(wait(handles, return_when=FIRST_COMPLETED).done)

    def _result(self, handle: Future[Any]) -> Any:
        with _told_of_death():
            return handle.result()

    def _drop(self, handles: Collection[Future[Any]]) -> None:
        # After an interrupt only what runs is waited for. The pool alone would now and then
        # work through all tasks first: it forgets to cancel them once nobody refers to it.
        for future in handles:
            future.cancel()


@contextlib.contextmanager
def _told_of_death() -> Iterator[None]:
    """Say what to do about a broken pool."""
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "a worker process was killed (out of memory?); what is finished is kept, use fewer "
            "--workers or a smaller cache_size and run again"
        ) from error


def cap_threads() -> None:
    """Cap the thread pools of numerical libraries in this process at one thread."""
    # Libraries read these when they are imported, which in a worker happens with its first task.
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    numba = sys.modules.get("numba")
    if numba is not None:  # too late for its variable
        os.environ["NUMBA_NUM_THREADS"] = str(numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(1)


def _start_worker() -> None:
    """Cap thread pools; leave interrupts to the parent, which shuts down in order."""
    cap_threads()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone; it would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def executor_of(workers: int | Executor) -> Iterator[Executor]:
    """Yield an executor: the given one, or a pool of processes for the time being.

    Parameters
    ----------
    workers : int or Executor
        Number of processes, or an executor, which stays open.

    Yields
    ------
    Executor
        Ready for tasks.
    """
    if isinstance(workers, Executor):
        yield workers
        return
    with Workers(workers) as pool:
        yield pool


def run_tasks(
    function: Callable[[T], R],
    tasks: Iterable[T],
    workers: int | Executor,
    *,
    ordered: bool = False,
) -> Iterator[tuple[int, R]]:
    """Yield (task index, result) as tasks finish, from a pool of its own or a given one.

    Parameters
    ----------
    function : callable
        Module-level function of one task; pure, so that results do not depend on scheduling.
    tasks : iterable
        Picklable inputs.
    workers : int or Executor
        Number of processes, 1 running everything here; or an executor.
    ordered : bool
        Yield in the order of the tasks.

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
    with executor_of(workers) as pool:
        yield from pool.run(function, tasks, ordered=ordered)
