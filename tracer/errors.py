"""Everything that can go wrong with input, one class per kind.

A message says what is wrong, where (path, key, index), the value, and what to do. Commands print it
on one line and exit with :attr:`TracerError.exit_code`.
"""

from typing import ClassVar


class TracerError(Exception):
    """Base of all errors that a user can mend.

    Attributes
    ----------
    exit_code : int
        Exit status of the command that raised it: 2 for bad input.
    """

    exit_code: ClassVar[int] = 2


class FormatError(TracerError, ValueError):
    """A file exists but is not what it should be: truncated, foreign or inconsistent."""


class ParamsError(TracerError, ValueError):
    """A parameter is unknown, of the wrong type or out of range."""


class VolumeError(TracerError, ValueError):
    """A volume cannot be opened or is not usable for the purpose."""


class SurfaceError(TracerError, ValueError):
    """A surface cannot be read, written or used."""


class CollectionError(TracerError, ValueError):
    """A patch collection cannot be read or updated."""


class CacheError(TracerError, OSError):
    """A cache folder cannot be used."""


class OutputError(TracerError, OSError):
    """An output cannot be written."""


class SeedError(TracerError, ValueError):
    """A seed point lies outside the volume or off the prediction."""


class MissingDependencyError(TracerError, ImportError):
    """An optional dependency is not installed; the message names the install command."""


class NothingFoundError(TracerError, RuntimeError):
    """The work ran but found nothing acceptable."""

    exit_code: ClassVar[int] = 1


class TracerWarning(UserWarning):
    """Something suspicious that does not stop the work."""
