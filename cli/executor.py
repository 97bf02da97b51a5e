"""Options of commands whose work is divided among processes or machines."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from tracer.workers import Executor, Workers

C = TypeVar("C", bound=Callable[..., Any])

WORKERS = click.option(
    "--workers", type=click.IntRange(1), default=1, help="Worker processes.  [default: 1]"
)
DASK = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Use the workers of a dask cluster instead: address of its scheduler, or its "
    "scheduler.json.",
)


def executor_options(command: C) -> C:
    """Add ``--workers`` and ``--dask`` to a command.

    Parameters
    ----------
    command : callable
        Function of a command; gets `workers` and `dask`.

    Returns
    -------
    callable
        The same function.
    """
    return WORKERS(DASK(command))


@contextlib.contextmanager
def open_executor(workers: int, dask: str | None) -> Iterator[Executor]:
    """Yield the executor that the options mean.

    Parameters
    ----------
    workers : int
        Processes of this machine.
    dask : str or None
        Scheduler; wins.

    Yields
    ------
    Executor
        Open for the time of the block.
    """
    if dask is None:
        with Workers(workers) as pool:
            yield pool
        return
    from tracer.dask_workers import DaskWorkers

    with DaskWorkers(dask) as cluster:
        yield cluster
