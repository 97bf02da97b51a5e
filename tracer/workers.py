"""Run independent tasks in worker processes, with results in the order of the tasks.

One worker is one process with one thread: BLAS and OpenMP pools are capped at 1, because an
uncapped pool costs several times the CPU time for nothing. With one worker the tasks run in this process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tracer.errors import TracerError

T = TypeVar("T")
R = TypeVar("R")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


class WorkerDiedError(TracerError, RuntimeError):
    """A worker process was killed; finished results are safe."""


def run_tasks(
    function: Callable[[T], R], tasks: Sequence[T], workers: int
) -> Iterator[tuple[int, R]]:
    """Yield (task index, result) as tasks finish.

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
    if workers <= 1 or len(tasks) <= 1:
        for index, task in enumerate(tasks):
            yield index, function(task)
        return
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))  # children read it at start
    try:
        context = get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
            futures = {pool.submit(function, task): index for index, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BrokenProcessPool as error:
                raise WorkerDiedError(
                    "a worker process was killed (out of memory?); what is finished is kept, use "
                    "fewer --workers or a smaller cache_size and run again"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
