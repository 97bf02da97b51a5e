"""Disk cache of distance field chunks, shared by all processes on a machine or a file system.

A chunk is one file: a header with length and checksum, then zstd over the differences along z. It
is written beside and renamed, so that readers never see half a file; a file that does not match its
checksum counts as missing. Files are touched when read, and where a limit is set the least recently
used ones go first.
"""

import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from tracer.atomic import sweep_stale, temporary_beside, write_json
from tracer.errors import CacheError
from tracer.kernels.field_sampling import CHUNK

Index3 = tuple[int, int, int]

_MAGIC = b"STDF"
_HEADER = struct.Struct("<4sBII")  # magic, kind, payload length, crc32 of the payload
_FAR_KIND = 0
_CODES_KIND = 1
_EDGE = CHUNK + 1
_TOUCH_AFTER_S = 3600.0  # a file's time need not be more precise than this
_CHECK_EVERY = 64  # writes between two looks at the size of the cache
_KEEP_SHARE = 0.9  # how far below the limit a clean-up goes
_BYTES_PER_GB = 1e9


class FieldCache:
    """The cached chunks of one field.

    Parameters
    ----------
    root : Path
        Folder of all caches.
    key : str
        Digest of what the field depends on; names the field's own folder.
    description : dict
        Written to ``field.json`` for people.
    limit_gb : float or None
        Size that all files below `root` may reach together.

    Raises
    ------
    CacheError
        If the folder cannot be created or written.
    """

    def __init__(
        self, root: Path, key: str, description: dict[str, Any], limit_gb: float | None
    ) -> None:
        self.root = root
        self.folder = root / key
        self._limit_bytes = None if limit_gb is None else limit_gb * _BYTES_PER_GB
        self._writes = 0
        self._codec = numcodecs.Zstd(level=3)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = temporary_beside(self.folder / "probe")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise CacheError(
                f"{root}: cannot write the distance cache ({error.strerror}); set cache_root to a "
                "writable folder or leave it out"
            ) from error
        if not (self.folder / "field.json").exists():
            write_json(self.folder / "field.json", description)
        sweep_stale(self.folder)

    def _path(self, index_zyx: Index3) -> Path:
        return self.folder / "{:04d}_{:04d}_{:04d}.field".format(*index_zyx)

    def load(self, index_zyx: Index3, out_codes: NDArray[np.uint8]) -> bool | None:
        """Return whether a cached chunk holds anything but the cap, and fill it in.

        Parameters
        ----------
        index_zyx : tuple of int
            Chunk.
        out_codes : ndarray of uint8, shape (129, 129, 129)
            Filled where the chunk holds anything.

        Returns
        -------
        bool or None
            None where the chunk is not cached, or its file is damaged.
        """
        path = self._path(index_zyx)
        try:
            content = path.read_bytes()
            if time.time() - path.stat().st_mtime > _TOUCH_AFTER_S:
                os.utime(path)
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        magic, kind, length, checksum = _HEADER.unpack_from(content)
        payload = content[_HEADER.size :]
        if magic != _MAGIC or len(payload) != length or zlib.crc32(payload) != checksum:
            return None
        if kind == _FAR_KIND:
            return False
        codes = np.frombuffer(self._codec.decode(payload), np.uint8)
        if codes.size != _EDGE**3:
            return None
        planes = codes.reshape(_EDGE, _EDGE, _EDGE)
        out_codes[0] = planes[0]
        for z in range(1, _EDGE):  # a running sum plane by plane; np.cumsum takes ten times as long
            np.add(out_codes[z - 1], planes[z], out=out_codes[z])
        return True

    def store(self, index_zyx: Index3, codes: NDArray[np.uint8] | None) -> None:
        """Write a chunk.

        Parameters
        ----------
        index_zyx : tuple of int
            Chunk.
        codes : ndarray of uint8, shape (129, 129, 129), or None
            Its codes; None where all of it is at the cap.

        Raises
        ------
        CacheError
            If the file cannot be written (full disk).
        """
        if codes is None:
            kind, payload = _FAR_KIND, b""
        else:
            differences = np.diff(codes, axis=0, prepend=np.uint8(0))
            kind, payload = _CODES_KIND, bytes(self._codec.encode(differences))
        header = _HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload))
        path = self._path(index_zyx)
        temporary = temporary_beside(path)
        try:
            temporary.write_bytes(header + payload)
            temporary.replace(path)
        except OSError as error:
            raise CacheError(
                f"{path}: cannot write the distance cache ({error.strerror}); free some space, set "
                "cache_limit_gb, or leave cache_root out"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._writes += 1
        if self._limit_bytes is not None and self._writes % _CHECK_EVERY == 1:
            self._enforce_limit()

    def _enforce_limit(self) -> None:
        """Remove the least recently used files until the cache is well below its limit."""
        assert self._limit_bytes is not None
        files = []
        for path in self.root.glob("*/*.field"):
            try:
                status = path.stat()
            except OSError:
                continue  # another process removed it
            files.append((status.st_mtime, str(path), status.st_size))
        total = sum(size for _, _, size in files)
        if total <= self._limit_bytes:
            return
        for _, name, size in sorted(files):
            if total <= _KEEP_SHARE * self._limit_bytes:
                break
            Path(name).unlink(missing_ok=True)
            total -= size
