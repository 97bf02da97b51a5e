"""The disk cache of distance fields: one small file per chunk, shared by any number of processes.

What is stored is the packed mask of a chunk and its border, not its distances: the transform
takes about 10 ms, a mask is 6 times smaller than the codes before compression and 30 to 50 times
after it (zstd on the codes themselves reached 5 to 7, whatever the prediction of their values).

Files appear by atomic rename and carry a checksum, the key of their field and their index; a file
that is not what it should be is made anew. Nothing is locked, for reading or for writing.
"""

import hashlib
import json
import os
import struct
import time
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import sweep_stale, temporary_beside, write_bytes, write_json
from tracer.errors import CacheError, OutputError, TracerWarning

FORMAT_VERSION = 1
_MAGIC = b"TRCFIELD"
_HEADER = struct.Struct("<8sI16s3iII")  # magic, version, key, index z y x, payload length, CRC-32
_ZSTD_LEVEL = 3  # level 7 is 10 to 20 % smaller and takes ten times as long
_DISK_BLOCK = 4096  # a file occupies whole blocks
_TOUCH_AFTER_S = 3600.0  # age at which a use is noted; noting every use would write all the time
_TRIM_ABOVE, _TRIM_TO = 15 / 16, 3 / 4  # of the limit; room for what others write meanwhile

Index3 = tuple[int, int, int]


class FieldCache:
    """Masks of one field below a folder that many fields may share.

    Parameters
    ----------
    root : Path
        Folder of all caches; created where missing.
    key : mapping
        What the masks depend on; a folder is named by its digest.
    block_shape : tuple of int
        Shape of a packed mask.
    limit_bytes : float, optional
        Size of all fields below `root` together; chunks that were not used for longest are removed.
    notes : mapping, optional
        For the reader of ``field.json``; not part of the key.

    Raises
    ------
    CacheError
        If the folder cannot be written.
    """

    def __init__(
        self,
        root: Path,
        key: Mapping[str, Any],
        block_shape: Index3,
        *,
        limit_bytes: float | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        key = {**key, "format_version": FORMAT_VERSION}
        text = json.dumps(key, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).digest()[:16]
        self._block_shape = block_shape
        self._root = root
        self._limit = limit_bytes
        self._is_writable = True
        self._swept: set[Path] = set()
        self.folder = root / f"field-{self._key.hex()}"
        self._prepare({**(notes or {}), **key})

    def _prepare(self, description: Mapping[str, Any]) -> None:
        """Create the folder and write into it, so that a hopeless cache fails before any work."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = temporary_beside(self.folder / "probe")
            probe.write_bytes(b"")
            probe.unlink()
            if not (self.folder / "field.json").exists():
                write_json(self.folder / "field.json", description)
        except OSError as error:
            raise CacheError(
                f"{self._root}: cannot be used as a cache ({error.strerror or error}); give "
                "another cache_root or none, or mend its permissions"
            ) from error

    def path(self, index_zyx: Index3) -> Path:
        """Return the file of a chunk.

        Parameters
        ----------
        index_zyx : tuple of int
            Chunk index.

        Returns
        -------
        Path
            It may not exist.
        """
        z, y, x = index_zyx
        return self.folder / f"{z}" / f"{y}_{x}.mask"

    def load(self, index_zyx: Index3) -> tuple[bool, NDArray[np.uint8] | None]:
        """Return the packed mask of a chunk.

        Parameters
        ----------
        index_zyx : tuple of int
            Chunk index.

        Returns
        -------
        tuple
            Whether a sound file exists, and its mask: None for one without any foreground.
        """
        path = self.path(index_zyx)
        try:
            content = path.read_bytes()
        except OSError:
            return False, None
        if len(content) < _HEADER.size:
            return False, None
        payload = content[_HEADER.size :]
        if content[: _HEADER.size] != self._header(index_zyx, payload):
            return False, None
        self._touch(path)
        return True, self._decode(payload) if payload else None

    def store(self, index_zyx: Index3, packed: NDArray[np.uint8] | None) -> None:
        """Write the packed mask of a chunk.

        Parameters
        ----------
        index_zyx : tuple of int
            Chunk index.
        packed : ndarray of uint8 or None
            The mask; None for one without any foreground.

        Notes
        -----
        A full disk is no reason to stop: there is one warning and no further attempt.
        """
        if not self._is_writable:
            return
        payload = b"" if packed is None else self._encode(packed)
        content = self._header(index_zyx, payload) + payload
        path = self.path(index_zyx)
        try:
            if path.parent not in self._swept:
                path.parent.mkdir(exist_ok=True)
                sweep_stale(path.parent)
                self._swept.add(path.parent)
            write_bytes(path, content)
            if self._limit is not None:
                self._keep_limit(len(content))
        except (OSError, OutputError) as error:
            self._is_writable = False
            warnings.warn(
                f"{self._root}: the cache cannot be written any more ({error}); continuing without",
                TracerWarning,
                stacklevel=2,
            )

    def _header(self, index_zyx: Index3, payload: bytes) -> bytes:
        """Return the only header that a sound file of this chunk and payload can have."""
        fields = (_MAGIC, FORMAT_VERSION, self._key, *index_zyx, len(payload))
        checksum = zlib.crc32(payload, zlib.crc32(_HEADER.pack(*fields, 0)))
        return _HEADER.pack(*fields, checksum)

    def _encode(self, packed: NDArray[np.uint8]) -> bytes:
        from numcodecs.zstd import Zstd

        return bytes(Zstd(level=_ZSTD_LEVEL).encode(packed))

    def _decode(self, payload: bytes) -> NDArray[np.uint8]:
        from numcodecs.zstd import Zstd

        packed = np.empty(self._block_shape, np.uint8)  # not read-only: kernels compile once
        Zstd().decode(payload, packed)
        return packed

    def _touch(self, path: Path) -> None:
        """Note that a file was used, at most once in a while."""
        try:
            if time.time() - path.stat().st_mtime > _TOUCH_AFTER_S:
                os.utime(path)
        except OSError:
            return  # removed by another process meanwhile, or not ours: the mask is read already

    def _keep_limit(self, n_written: int) -> None:
        """Remove what was not used for longest when all processes together near the limit.

        ``usage.json`` holds the size at the last scan, ``usage.log`` one byte per disk block that
        any process has written since. Appending is atomic, so no lock is needed; the scan, which
        takes seconds for a million files, is due only after 3/16 of the limit were written.
        """
        assert self._limit is not None
        log = self._root / "usage.log"
        with log.open("ab") as file:
            file.write(b"." * _n_blocks(n_written))
        scanned = _read_usage(self._root / "usage.json")
        if scanned is not None:
            used = scanned + log.stat().st_size * _DISK_BLOCK
            if used <= _TRIM_ABOVE * self._limit:
                return
        total = _trim(self._root, _TRIM_ABOVE * self._limit, _TRIM_TO * self._limit)
        # In this order: a crash in between makes the estimate too large, never too small.
        write_json(self._root / "usage.json", {"bytes": total})
        log.write_bytes(b"")


def _n_blocks(n_bytes: int) -> int:
    return -(-n_bytes // _DISK_BLOCK)


def _read_usage(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_bytes())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _trim(root: Path, above_bytes: float, to_bytes: float) -> int:
    """Remove the oldest masks below a folder if they take too much; return what is left, bytes."""
    found = []
    for path in root.glob("field-*/*/*.mask"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process trims as well
        found.append((status.st_mtime_ns, str(path), _n_blocks(status.st_size) * _DISK_BLOCK))
    total = sum(size for _, _, size in found)
    if total <= above_bytes:
        return total
    for _, name, size in sorted(found):
        if total <= to_bytes:
            break
        Path(name).unlink(missing_ok=True)
        total -= size
    return total
