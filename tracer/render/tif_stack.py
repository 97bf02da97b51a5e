"""Tiled tifs whose tiles arrive in any order, in a process that may be killed at any time.

Tiles are appended to ``.<name>.part`` files beside their final place as they come; a journal says
which tiles are complete and where. When all are there, each file gets its directory (BigTIFF where
it is larger than classic tif allows) and its name. Nothing is held in memory and nothing is
written twice.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tracer.errors import OutputError

_HEADER_BYTES = 16  # room for either header; the unused half of a classic one is padding
_CLASSIC_LIMIT = 2**32 - 2**20
_COMPRESSION_TAG = {"none": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
_SHORT, _LONG, _RATIONAL, _ASCII, _LONG8 = 3, 4, 5, 2, 16
_TYPE = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}


def encode_tile(pixels: NDArray[np.generic], tile: int, compression: str) -> bytes:
    """Return one compressed tif tile.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width)
        At most a tile; missing rows and columns are 0.
    tile : int
        Edge of a tile.
    compression : str
        "lzw", "deflate", "zstd" or "none".

    Returns
    -------
    bytes
        With the horizontal predictor, except for "none".
    """
    import imagecodecs

    if pixels.shape == (tile, tile):
        whole = np.ascontiguousarray(pixels)
    else:
        whole = np.zeros((tile, tile), dtype=pixels.dtype)
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    if compression == "none":
        return whole.tobytes()
    differences: Any = whole.copy()
    differences[:, 1:] -= whole[:, :-1]
    if compression == "lzw":
        return bytes(imagecodecs.lzw_encode(differences))
    if compression == "deflate":
        return bytes(imagecodecs.zlib_encode(differences, level=6))
    return bytes(imagecodecs.zstd_encode(differences, level=3))


def decode_tile(
    data: bytes, tile: int, dtype: np.dtype[np.generic], compression: str
) -> NDArray[np.generic]:
    """Return the pixels of one compressed tif tile.

    Parameters
    ----------
    data : bytes
        What :func:`encode_tile` returned.
    tile : int
        Edge of a tile.
    dtype : dtype
        Kind of the pixels.
    compression : str
        "lzw", "deflate", "zstd" or "none".

    Returns
    -------
    ndarray, shape (tile, tile)
        Pixels.
    """
    import imagecodecs

    n_bytes = tile * tile * dtype.itemsize
    if compression == "lzw":
        data = bytes(imagecodecs.lzw_decode(data, out=n_bytes))
    elif compression == "deflate":
        data = bytes(imagecodecs.zlib_decode(data, out=n_bytes))
    elif compression == "zstd":
        data = bytes(imagecodecs.zstd_decode(data, out=n_bytes))
    pixels = np.frombuffer(data, dtype=dtype).reshape(tile, tile)
    if compression == "none":
        return pixels
    return np.asarray(np.cumsum(pixels, axis=1, dtype=dtype))


class TifStack:
    """Several tifs of the same size and tiling, written tile by tile.

    Parameters
    ----------
    paths : list of Path
        Final names.
    shape : tuple of int
        (rows, cols) of every file.
    tile : int
        Edge of a tile, a multiple of 16.
    dtype : dtype
        uint8 or uint16.
    compression : str
        "lzw", "deflate", "zstd" or "none".
    description : str
        Stored in every file (ASCII).
    pixels_per_cm : float
        Resolution stored in every file; 0 for none.
    journal : Path
        File that remembers finished tiles; its directory exists.
    """

    def __init__(
        self,
        paths: list[Path],
        shape: tuple[int, int],
        tile: int,
        dtype: np.dtype[np.generic],
        compression: str,
        *,
        description: str,
        pixels_per_cm: float,
        journal: Path,
    ) -> None:
        self._paths = paths
        self._shape = shape
        self._tile = tile
        self._dtype = dtype
        self._compression = compression
        self._description = description
        self._pixels_per_cm = pixels_per_cm
        self._across = -(-shape[1] // tile)
        n_tiles = -(-shape[0] // tile) * self._across
        self._offsets = np.zeros((len(paths), n_tiles), dtype=np.uint64)
        self._counts = np.zeros((len(paths), n_tiles), dtype=np.uint64)
        self._record = struct.Struct(f"<q{len(paths)}Q{len(paths)}QI")
        self._journal_path = journal
        self._parts = [path.with_name(f".{path.name}.part") for path in paths]
        self.finished: set[int] = set()
        self._files: list[BinaryIO] = []
        try:
            self._open()
        except OSError as error:
            self.close()
            raise OutputError(
                f"{error.filename or journal}: cannot write ({error.strerror}); "
                "check permissions and free space"
            ) from error

    def _open(self) -> None:
        for part, path in zip(self._parts, self._paths, strict=True):
            if self._journal_path.exists() and path.exists() and not part.exists():
                path.replace(part)  # killed between completing the first file and the last
        complete = self._read_journal()
        ends = [_HEADER_BYTES] * len(self._paths)
        if self.finished:
            ends = (self._offsets + self._counts).max(axis=1).astype(int).tolist()
        for part, end in zip(self._parts, ends, strict=True):
            part.touch()
            file = part.open("r+b", buffering=1 << 16)
            self._files.append(file)
            file.truncate(max(end, _HEADER_BYTES))
            file.seek(0, os.SEEK_END)
        self._journal_path.touch()
        self._journal = self._journal_path.open("r+b", buffering=0)
        self._journal.truncate(complete)
        self._journal.seek(0, os.SEEK_END)

    def _read_journal(self) -> int:
        """Take over the finished tiles of a killed process; return the bytes that are good."""
        if not self._journal_path.exists() or not all(part.exists() for part in self._parts):
            return 0
        data = self._journal_path.read_bytes()
        sizes = [part.stat().st_size for part in self._parts]
        n = len(self._paths)
        good = 0
        for start in range(0, len(data) - self._record.size + 1, self._record.size):
            raw = data[start : start + self._record.size]
            values = self._record.unpack(raw)
            index, offsets, counts = values[0], values[1 : 1 + n], values[1 + n : 1 + 2 * n]
            if values[-1] != zlib.crc32(raw[:-4]) or not 0 <= index < self._offsets.shape[1]:
                break
            if any(o + c > size for o, c, size in zip(offsets, counts, sizes, strict=True)):
                break
            self._offsets[:, index] = offsets
            self._counts[:, index] = counts
            self.finished.add(index)
            good = start + self._record.size
        return good

    def write(self, index: int, tiles: list[bytes]) -> None:
        """Append one tile to every file.

        Parameters
        ----------
        index : int
            Row-major number of the tile.
        tiles : list of bytes
            One compressed tile per file.

        Raises
        ------
        OutputError
            If the disk is full.
        """
        offsets = []
        try:
            for file, data in zip(self._files, tiles, strict=True):
                offsets.append(file.tell())
                file.write(data)
                file.flush()
            counts = [len(data) for data in tiles]
            raw = self._record.pack(index, *offsets, *counts, 0)[:-4]
            self._journal.write(raw + struct.pack("<I", zlib.crc32(raw)))
        except OSError as error:
            raise OutputError(
                f"{self._paths[0].parent}: cannot write ({error.strerror}); free space and run "
                "the same command again, finished tiles are kept"
            ) from error
        self._offsets[:, index] = offsets
        self._counts[:, index] = counts
        self.finished.add(index)

    def read(self, file_index: int, index: int) -> NDArray[np.generic]:
        """Return a tile that has been written.

        Parameters
        ----------
        file_index : int
            Which file.
        index : int
            Row-major number of the tile.

        Returns
        -------
        ndarray, shape (tile, tile)
            Pixels; 0 where the tile has not been written.
        """
        count = int(self._counts[file_index, index])
        if not count:
            return np.zeros((self._tile, self._tile), dtype=self._dtype)
        file = self._files[file_index]
        file.flush()
        file.seek(int(self._offsets[file_index, index]))
        data = file.read(count)
        file.seek(0, os.SEEK_END)
        return decode_tile(data, self._tile, self._dtype, self._compression)

    def finish(self) -> None:
        """Complete every file; tiles that were never written are empty.

        Raises
        ------
        OutputError
            If the disk is full.
        """
        empty = np.zeros((self._tile, self._tile), dtype=self._dtype)
        data = encode_tile(empty, self._tile, self._compression)
        try:
            for i, file in enumerate(self._files):
                missing = self._counts[i] == 0
                if missing.any():  # all of them share one empty tile
                    self._offsets[i, missing] = file.tell()
                    self._counts[i, missing] = len(data)
                    file.write(data)
                self._write_directory(file, self._offsets[i], self._counts[i])
                file.close()
            for part, path in zip(self._parts, self._paths, strict=True):
                part.replace(path)
        except OSError as error:
            raise OutputError(
                f"{self._paths[0].parent}: cannot write ({error.strerror}); free space and run "
                "the same command again"
            ) from error
        self.close()
        self._journal_path.unlink(missing_ok=True)

    def _write_directory(
        self, file: BinaryIO, offsets: NDArray[np.uint64], counts: NDArray[np.uint64]
    ) -> None:
        """Write header and image directory of one file."""
        size = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (-size % 16))
        # The directory itself needs at most 16 bytes per tile and a few hundred more.
        big = size + 16 * len(offsets) + len(self._description) + 4096 > _CLASSIC_LIMIT
        pointer = _LONG8 if big else _LONG
        tags: list[tuple[int, int, list[int] | bytes]] = [
            (256, _LONG, [self._shape[1]]),
            (257, _LONG, [self._shape[0]]),
            (258, _SHORT, [8 * self._dtype.itemsize]),
            (259, _SHORT, [_COMPRESSION_TAG[self._compression]]),
            (262, _SHORT, [1]),
            (270, _ASCII, self._description.encode("ascii", "replace") + b"\0"),
            (277, _SHORT, [1]),
        ]
        if self._pixels_per_cm > 0:
            ratio = [round(self._pixels_per_cm * 1000), 1000]
            tags += [(282, _RATIONAL, ratio), (283, _RATIONAL, ratio)]
        tags.append((284, _SHORT, [1]))
        if self._pixels_per_cm > 0:
            tags.append((296, _SHORT, [3]))
        tags += [
            (317, _SHORT, [1 if self._compression == "none" else 2]),
            (322, _LONG, [self._tile]),
            (323, _LONG, [self._tile]),
            (324, pointer, offsets.tolist()),
            (325, _LONG, counts.tolist()),
            (339, _SHORT, [1]),
        ]
        at, directory = _pack_directory(file, tags, big=big)
        file.write(directory)
        file.seek(0)
        if big:
            header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at)
        else:
            header = struct.pack("<2sHI", b"II", 42, at)
        file.write(header.ljust(_HEADER_BYTES, b"\0"))

    def close(self) -> None:
        """Close the files and keep what is finished for the next run."""
        for file in self._files:
            file.close()
        journal = getattr(self, "_journal", None)
        if journal is not None:
            journal.close()

    def discard(self) -> None:
        """Remove everything that has been written so far."""
        self.close()
        for path in (*self._parts, self._journal_path):
            path.unlink(missing_ok=True)


def _pack_directory(
    file: BinaryIO, tags: list[tuple[int, int, list[int] | bytes]], *, big: bool
) -> tuple[int, bytes]:
    """Append the values that do not fit into entries; return (offset, bytes) of the directory."""
    inline = 8 if big else 4
    entries = []
    for tag, kind, values in tags:
        if isinstance(values, bytes):
            data, count = values, len(values)
        elif kind == _RATIONAL:
            data, count = struct.pack("<2I", *values), 1
        else:
            data, count = struct.pack(f"<{len(values)}{_TYPE[kind]}", *values), len(values)
        if len(data) > inline:
            at = file.tell()
            file.write(data + b"\0" * (-len(data) % 16))
            data = struct.pack("<Q" if big else "<I", at)
        layout = "<HHQ8s" if big else "<HHI4s"
        entries.append(struct.pack(layout, tag, kind, count, data.ljust(inline, b"\0")))
    head = struct.pack("<Q" if big else "<H", len(entries))
    tail = struct.pack("<Q" if big else "<I", 0)
    return file.tell(), head + b"".join(entries) + tail
