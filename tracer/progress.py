"""How stages report progress: a callback, never a print."""

from typing import Protocol


class Progress(Protocol):
    """Callback that stages call with the work done so far."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Report that `done` of `total` units are finished.

        Parameters
        ----------
        done : float
            Units finished so far.
        total : float
            Units in all.
        note : str
            What the stage is doing, in a few words.
        """


def silent(done: float, total: float, note: str = "") -> None:
    """Return nothing and show nothing: the default progress callback.

    Parameters
    ----------
    done : float
        Ignored.
    total : float
        Ignored.
    note : str
        Ignored.
    """
