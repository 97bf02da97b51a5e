"""Bytes by key, from a local folder or from anything that fsspec opens.

A key is a relative path with ``/`` (``0/.zarray``). Reading a key that does not exist gives None;
everything else that goes wrong is an error, so that a broken connection is never taken for an
empty chunk.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tracer.errors import MissingDependencyError, VolumeError

_BATCH = 64  # keys that are fetched at the same time from a remote store
_RETRIES = 3
_UNLISTABLE = ("http", "https")  # a web server has no listing to rely on
_INSTALL = "pip install 'scroll-tracer[remote]'"


class Storage(Protocol):
    """Where a volume's files lie.

    Attributes
    ----------
    root : str
        Path or URL, as shown in messages.
    is_local : bool
        Whether `root` is a folder of this machine.
    """

    root: str
    is_local: bool

    def get(self, key: str) -> bytes | None:
        """Return the content of `key`, or None if there is no such file."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the content of several keys, in order."""

    def sizes(self, keys: Sequence[str]) -> list[int]:
        """Return the sizes of several keys in bytes, -1 where there is no such file."""

    def exists(self, key: str) -> bool:
        """Return whether there is a file at `key`."""

    def files_below(self, prefix: str) -> Iterator[str] | None:
        """Return the sorted keys of all files below `prefix`, or None if that cannot be known."""


class LocalStorage:
    """Files below a folder.

    Parameters
    ----------
    root : Path
        The folder; need not exist.
    """

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else self.root

    def get(self, key: str) -> bytes | None:
        """Return the content of `key`, or None if there is no such file.

        Parameters
        ----------
        key : str
            Relative path.

        Returns
        -------
        bytes or None
            The whole file.

        Raises
        ------
        VolumeError
            If it exists but cannot be read.
        """
        path = self._path(key)
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # hot: half the cost of Path
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise VolumeError(f"{path}: cannot read ({error.strerror}); check it") from error

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the content of several keys.

        Parameters
        ----------
        keys : sequence of str
            Relative paths.

        Returns
        -------
        list
            Whole files in the same order, None where there is none.
        """
        return [self.get(key) for key in keys]

    def sizes(self, keys: Sequence[str]) -> list[int]:
        """Return the sizes of several keys.

        Parameters
        ----------
        keys : sequence of str
            Relative paths.

        Returns
        -------
        list of int
            Bytes; -1 where there is no such file.
        """
        found = []
        for key in keys:
            try:
                found.append(os.stat(self._path(key)).st_size)  # noqa: PTH116  # hot
            except (FileNotFoundError, NotADirectoryError):
                found.append(-1)
        return found

    def exists(self, key: str) -> bool:
        """Return whether there is a file at `key`.

        Parameters
        ----------
        key : str
            Relative path.

        Returns
        -------
        bool
            True for a file; a folder does not count.
        """
        return Path(self._path(key)).is_file()

    def files_below(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all files below `prefix`, folder by folder in sorted order.

        Parameters
        ----------
        prefix : str
            Relative path of a folder; nothing is yielded where there is none.

        Yields
        ------
        str
            Keys, hidden files left out.
        """
        try:
            entries = sorted(os.scandir(self._path(prefix)), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir():
                yield from self.files_below(key)
            else:
                yield key


class RemoteStorage:
    """Files below a URL, through fsspec.

    Parameters
    ----------
    url : str
        For example ``https://…/pred.zarr`` or ``s3://bucket/pred.zarr``.

    Raises
    ------
    MissingDependencyError
        If the protocol needs a package that is not installed.
    VolumeError
        If the protocol is unknown.
    """

    is_local = False

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._lock = threading.Lock()
        self._fs, self._base = _open_filesystem(self.root)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStorage, (self.root,)

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}" if key else self._base

    def get(self, key: str) -> bytes | None:
        """Return the content of `key`, or None if there is no such file.

        Parameters
        ----------
        key : str
            Relative path.

        Returns
        -------
        bytes or None
            The whole file.

        Raises
        ------
        VolumeError
            If the server cannot be reached or refuses.
        """
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the content of several keys, fetched concurrently.

        Parameters
        ----------
        keys : sequence of str
            Relative paths.

        Returns
        -------
        list
            Whole files in the same order, None where there is none.

        Raises
        ------
        VolumeError
            If the server cannot be reached or refuses, after a few attempts.
        """
        contents: list[bytes | None] = []
        for start in range(0, len(keys), _BATCH):
            batch = [self._path(key) for key in keys[start : start + _BATCH]]
            found = self._fetch(batch)
            contents.extend(found[path] for path in batch)
        return contents

    def _fetch(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        missing = list(dict.fromkeys(paths))
        for attempt in range(_RETRIES):
            failed: dict[str, Exception] = {}
            for path, value in self._cat(missing).items():
                if isinstance(value, FileNotFoundError | IsADirectoryError | NotADirectoryError):
                    found[path] = None
                elif isinstance(value, Exception):
                    failed[path] = value
                else:
                    found[path] = bytes(value)
            missing = sorted(failed)
            if not missing:
                return found
            if attempt == _RETRIES - 1 or any(map(_is_final, failed.values())):
                raise self._unreachable(missing[0], failed[missing[0]])
        return found

    def _cat(self, paths: Sequence[str]) -> dict[str, Any]:
        try:
            result = self._fs.cat(list(paths), on_error="return")
        except Exception as error:  # noqa: BLE001  # every filesystem raises its own kinds
            return dict.fromkeys(paths, error)
        return result if isinstance(result, dict) else dict.fromkeys(paths, result)

    def _unreachable(self, path: str, error: Exception) -> VolumeError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "check the address and the connection"
        if self.root.startswith("s3://"):
            hint += "; for a public bucket set FSSPEC_S3='{\"anon\": true}'"
        return VolumeError(f"{path}: cannot read ({reason}); {hint}")

    def sizes(self, keys: Sequence[str]) -> list[int]:
        """Return the sizes of several keys, asked for concurrently where that is possible.

        Parameters
        ----------
        keys : sequence of str
            Relative paths.

        Returns
        -------
        list of int
            Bytes; -1 where there is no such file.

        Raises
        ------
        VolumeError
            If the server cannot be reached or refuses.
        """
        from concurrent.futures import ThreadPoolExecutor

        if not keys:
            return []
        with ThreadPoolExecutor(min(16, len(keys))) as pool:
            return list(pool.map(self._size, keys))

    def _size(self, key: str) -> int:
        try:
            size = self._fs.info(self._path(key)).get("size")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return -1
        except Exception as error:
            raise self._unreachable(self._path(key), error) from error
        return 0 if size is None else int(size)

    def exists(self, key: str) -> bool:
        """Return whether there is a file at `key`.

        Parameters
        ----------
        key : str
            Relative path.

        Returns
        -------
        bool
            True for a file.
        """
        return self._size(key) >= 0

    def files_below(self, prefix: str) -> Iterator[str] | None:
        """Return the sorted keys of all files below `prefix`.

        Parameters
        ----------
        prefix : str
            Relative path of a folder.

        Returns
        -------
        iterator of str, or None
            Keys; None for web servers, which cannot list.

        Raises
        ------
        VolumeError
            If the server cannot be reached or refuses.
        """
        protocols = self._fs.protocol
        names = (protocols,) if isinstance(protocols, str) else protocols
        if any(name in _UNLISTABLE for name in names):
            return None
        try:
            found = self._fs.find(self._path(prefix))
        except FileNotFoundError:
            return iter(())
        except Exception as error:
            raise self._unreachable(self._path(prefix), error) from error
        start = len(self._base.rstrip("/")) + 1
        return iter(sorted(path[start:] for path in found))


def _is_final(error: Exception) -> bool:
    """Return whether trying again cannot help: refused access, or a missing package."""
    return isinstance(error, PermissionError | ImportError) or getattr(error, "status", 0) in (
        401,
        403,
    )


def _open_filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(
            f"{url}: reading over the network needs more packages ({error}); run {_INSTALL}"
        ) from error
    except ValueError as error:
        raise VolumeError(f"{url}: cannot open ({error}); check the address") from error
    return fs, str(base).rstrip("/")


def is_url(path: str) -> bool:
    """Return whether `path` is a URL rather than a local path.

    Parameters
    ----------
    path : str
        What the user gave.

    Returns
    -------
    bool
        True for ``protocol://…``, except ``file://``.
    """
    return "://" in path and not path.startswith("file://")


def open_storage(path: str | Path) -> Storage:
    """Return the storage of a path or URL, without touching it yet.

    Parameters
    ----------
    path : str or Path
        A folder, ``file://…``, or any URL that fsspec knows.

    Returns
    -------
    Storage
        Reader of its files.

    Raises
    ------
    MissingDependencyError
        If the protocol needs a package that is not installed.
    VolumeError
        If the protocol is unknown.
    """
    text = str(path)
    if is_url(text):
        return RemoteStorage(text)
    return LocalStorage(Path(text.removeprefix("file://")).absolute())
