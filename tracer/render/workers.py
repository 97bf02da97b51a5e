"""Threads, or none: one interface for both."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Inline(Executor):
    """Runs everything at once in the calling thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Return a finished future.

        Parameters
        ----------
        fn : callable
            What to run.
        *args : Any
            Its arguments.
        **kwargs : Any
            Its keyword arguments.

        Returns
        -------
        Future
            With the result, or the exception.
        """
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on by result()
            future.set_exception(error)
        return future

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Return results one by one, each computed when it is asked for.

        Parameters
        ----------
        fn : callable
            What to run.
        *iterables : iterable
            Its arguments.
        timeout : float, optional
            No effect.
        chunksize : int
            No effect.

        Returns
        -------
        iterator
            In order.
        """
        return map(fn, *iterables)


@contextlib.contextmanager
def executor(threads: int) -> Iterator[Executor]:
    """Yield an executor that drops what has not begun when the block fails.

    Parameters
    ----------
    threads : int
        1 or less runs everything in the calling thread.

    Yields
    ------
    Executor
        Tasks begin in the order in which they are submitted.
    """
    if threads <= 1:
        yield Inline()
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tracer-render")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
