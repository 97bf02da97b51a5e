"""Outputs appear whole or not at all: write a temporary beside the target, then rename it.

Temporaries are named ``.<name>.<pid>-<random>.tmp``. Readers ignore them (they start with a dot);
:func:`sweep_stale` removes those that a killed process left behind.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracer.errors import OutputError

STALE_AFTER_S = 24 * 3600.0  # no single write of ours takes a day


def temporary_beside(path: Path) -> Path:
    """Return a fresh temporary name in the directory of `path`.

    Parameters
    ----------
    path : Path
        The final name.

    Returns
    -------
    Path
        Name of a file or directory that does not exist yet.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds.

    Parameters
    ----------
    path : Path
        File to create or replace atomically.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OutputError
        If the file cannot be written (read-only directory, full disk).
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write ({error.strerror or error}); check permissions and free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` when the block succeeds.

    Parameters
    ----------
    path : Path
        Directory to create. An existing one is replaced: it is renamed away first, so that a crash
        leaves either the old or the new one.

    Yields
    ------
    Path
        Existing empty directory to fill.

    Raises
    ------
    OutputError
        If the directory cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if path.exists():
            old = temporary_beside(path)
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write ({error.strerror or error}); check permissions and free space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically.

    Parameters
    ----------
    path : Path
        Target file.
    data : bytes
        Its whole content.
    """
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object to `path` atomically, with sorted keys.

    Parameters
    ----------
    path : Path
        Target file.
    value : mapping
        JSON-serialisable object.
    """
    text = json.dumps(value, indent=4, sort_keys=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def sweep_stale(directory: Path, *, older_than_s: float = STALE_AFTER_S) -> int:
    """Remove temporaries that killed processes left in `directory`.

    Parameters
    ----------
    directory : Path
        Where to look; not recursive.
    older_than_s : float
        Age in seconds below which a temporary may still be in use.

    Returns
    -------
    int
        Number of temporaries removed.
    """
    removed = 0
    oldest = time.time() - older_than_s
    for entry in sorted(directory.glob(".*.tmp")):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < oldest:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
                removed += 1
    return removed
