"""Reading boxes of a Zarr array, chunk by chunk, with a small cache of decoded chunks.

Plain arrays (C order, at most one common compression) are decoded here: importing zarr costs half
a second, as much as growing a patch, and its chunk pipeline several times the decompression.
Everything else goes through zarr. Both paths give the same elements (a test compares them).

Law: ``read(a, b)`` is the fill value where nothing is stored, 0 outside of the array, and the
stored element everywhere else, for any a and b.
"""

import gzip
import math
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import VolumeError
from tracer.storage import Storage
from tracer.zarr_metadata import ArrayMetadata, read_array_metadata

DEFAULT_CACHE_BYTES = 64 * 2**20
_BATCH = 32  # chunks fetched at a time, which bounds the compressed bytes in flight

Index = tuple[int, ...]


class _Empty:
    """A chunk that is fill value throughout; costs the cache nothing."""


_EMPTY = _Empty()


class _ChunkCache:
    """Least recently used decoded chunks, up to a number of bytes; safe for threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()
        self._chunks: OrderedDict[Index, NDArray[Any] | _Empty] = OrderedDict()

    def get(self, index: Index) -> NDArray[Any] | _Empty | None:
        with self._lock:
            found = self._chunks.get(index)
            if found is not None:
                self._chunks.move_to_end(index)
            return found

    def put(self, index: Index, chunk: NDArray[Any] | _Empty) -> None:
        size = _cost_bytes(chunk)
        if size > self._limit_bytes:
            return
        with self._lock:
            if index in self._chunks:
                return
            self._chunks[index] = chunk
            self._used_bytes += size
            while self._used_bytes > self._limit_bytes:
                _, dropped = self._chunks.popitem(last=False)
                self._used_bytes -= _cost_bytes(dropped)


def _cost_bytes(chunk: NDArray[Any] | _Empty) -> int:
    return 256 if isinstance(chunk, _Empty) else chunk.nbytes


class ZarrArray:
    """One array of a storage, readable in boxes.

    Parameters
    ----------
    storage : Storage
        Where it lies.
    metadata : ArrayMetadata
        What it is.
    cache_bytes : int
        How many bytes of decoded chunks to keep.

    Attributes
    ----------
    storage : Storage
        Where it lies.
    metadata : ArrayMetadata
        What it is.
    """

    def __init__(
        self,
        storage: Storage,
        metadata: ArrayMetadata,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.storage = storage
        self.metadata = metadata
        self._cache_bytes = cache_bytes
        self._cache = _ChunkCache(cache_bytes)
        self._foreign: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.storage, self.metadata, self._cache_bytes)

    @classmethod
    def open(cls, storage: Storage, path: str) -> "ZarrArray | None":
        """Return the array at `path`, or None if there is none.

        Parameters
        ----------
        storage : Storage
            Where to look.
        path : str
            Key of the array; empty for the root.

        Returns
        -------
        ZarrArray or None
            The array.
        """
        metadata = read_array_metadata(storage, path)
        return None if metadata is None else cls(storage, metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the elements per axis."""
        return self.metadata.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the element type in native byte order."""
        return self.metadata.dtype.newbyteorder("=")

    @property
    def where(self) -> str:
        """Return the path of the array for messages."""
        return f"{self.storage.root}/{self.metadata.path}".rstrip("/")

    def read(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Return a box of the array.

        Parameters
        ----------
        start : sequence of int
            First element per axis; may be negative, which is outside.
        stop : sequence of int
            One past the last element per axis; may lie past the end.

        Returns
        -------
        ndarray, shape stop - start
            C-contiguous, writable, native byte order. 0 outside of the array, the fill value where
            nothing is stored.

        Raises
        ------
        VolumeError
            If a chunk is damaged or cannot be read.
        """
        shape = tuple(max(0, int(b) - int(a)) for a, b in zip(start, stop, strict=True))
        low = tuple(max(0, int(a)) for a in start)
        high = tuple(min(n, int(b)) for b, n in zip(stop, self.shape, strict=True))
        out = np.zeros(shape, self.dtype)
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return out
        inner = tuple(
            slice(a - int(s), b - int(s)) for a, b, s in zip(low, high, start, strict=True)
        )
        target = out[inner]
        if not self.metadata.is_plain:
            target[...] = self._read_foreign(tuple(map(slice, low, high)))
            return out
        missing: list[Index] = []
        for index in self._chunks_touching(low, high):
            chunk = self._cache.get(index)
            if chunk is None:
                missing.append(index)
            else:
                self._paste(target, low, high, index, chunk)
        for first in range(0, len(missing), _BATCH):
            batch = missing[first : first + _BATCH]
            stored = self.storage.get_many([self.metadata.object_key(i) for i in batch])
            for index, data in zip(batch, stored, strict=True):
                chunk = self._decode(index, data)
                self._cache.put(index, chunk)
                self._paste(target, low, high, index, chunk)
        return out

    def chunk_exists(self, index: Sequence[int]) -> bool:
        """Return whether anything is stored for a chunk.

        Parameters
        ----------
        index : sequence of int
            Chunk index per axis; indices outside of the grid exist never.

        Returns
        -------
        bool
            False means that the chunk is fill value throughout. In a sharded array True says only
            that its shard is stored.
        """
        inside = all(0 <= i < n for i, n in zip(index, self.metadata.grid_shape, strict=True))
        return inside and self.storage.exists(
            self.metadata.object_key(tuple(int(i) for i in index))
        )

    def iter_chunk_indices(self) -> Iterator[Index]:
        """Yield the indices of the chunks for which something is stored.

        Yields
        ------
        tuple of int
            Chunk indices, each once, in an order that depends on the stored names alone. Where a
            storage cannot list its files, every chunk of the grid is asked for.
        """
        meta = self.metadata
        keys = self.storage.files_below(meta.path)
        if keys is None:
            for index in product(*map(range, meta.grid_shape)):
                if self.chunk_exists(index):
                    yield index
            return
        for key in keys:
            found = meta.object_index(key)
            if found is None:
                continue
            per_object = [s // c for s, c in zip(meta.shards, meta.chunks, strict=True)]
            ranges = [
                range(i * k, min((i + 1) * k, n))
                for i, k, n in zip(found, per_object, meta.grid_shape, strict=True)
            ]
            yield from product(*ranges)

    def _chunks_touching(self, low: Index, high: Index) -> Iterator[Index]:
        return product(
            *(
                range(a // c, (b - 1) // c + 1)
                for a, b, c in zip(low, high, self.metadata.chunks, strict=True)
            )
        )

    def _paste(
        self,
        target: NDArray[Any],
        low: Index,
        high: Index,
        index: Index,
        chunk: NDArray[Any] | _Empty,
    ) -> None:
        """Copy the part of a chunk that lies in the box [low, high) into `target`."""
        to, of = [], []
        for a, b, i, c in zip(low, high, index, self.metadata.chunks, strict=True):
            first, last = max(a, i * c), min(b, (i + 1) * c)
            to.append(slice(first - a, last - a))
            of.append(slice(first - i * c, last - i * c))
        if isinstance(chunk, _Empty):
            if self.metadata.fill_value != 0:
                target[tuple(to)] = self.metadata.fill_value
            return
        target[tuple(to)] = chunk[tuple(of)]

    def _decode(self, index: Index, data: bytes | None) -> NDArray[Any] | _Empty:
        if data is None:
            return _EMPTY
        meta = self.metadata
        expected = math.prod(meta.chunks) * meta.dtype.itemsize
        where = f"{self.storage.root}/{meta.object_key(index)}"
        try:
            decoded = _decompress(meta.codec, data, expected)
        except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
            reason = str(error).strip() or type(error).__name__
            raise VolumeError(f"{where}: damaged chunk ({reason}); restore the file") from error
        if len(decoded) != expected:
            raise VolumeError(
                f"{where}: damaged chunk, {len(decoded)} bytes instead of {expected}; "
                "restore the file"
            )
        chunk = np.frombuffer(decoded, meta.dtype).reshape(meta.chunks)
        chunk = chunk.astype(self.dtype, copy=False)
        if meta.fill_value == 0 and not chunk.any():
            return _EMPTY
        return chunk

    def _read_foreign(self, box: tuple[slice, ...]) -> NDArray[Any]:
        with self._lock:
            if self._foreign is None:
                self._foreign = _open_with_zarr(self.storage, self.metadata)
            array = self._foreign
        try:
            return np.asarray(array[box])
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = "restore it"
            if not self.storage.is_local:
                hint = "the server must be reachable and, for sharded data, serve byte ranges"
            raise VolumeError(f"{self.where}: cannot read data ({reason}); {hint}") from error


def _rebuild(storage: Storage, metadata: ArrayMetadata, cache_bytes: int) -> ZarrArray:
    return ZarrArray(storage, metadata, cache_bytes=cache_bytes)


def _decompress(codec: str | None, data: bytes, expected_bytes: int) -> bytes:
    """Return the raw bytes of a chunk. One thread: the pool of a worker is the worker itself."""
    if codec is None:
        return data
    if codec == "gzip":
        return gzip.decompress(data)
    if codec == "zlib":
        return zlib.decompress(data)
    import imagecodecs

    if codec == "blosc":
        size = int.from_bytes(data[4:8], "little")
        if size != expected_bytes:  # a damaged header could ask for gigabytes
            raise ValueError(f"holds {size} bytes instead of {expected_bytes}")
        return bytes(imagecodecs.blosc_decode(data, numthreads=1))
    return bytes(imagecodecs.zstd_decode(data, out=expected_bytes))


def _open_with_zarr(storage: Storage, metadata: ArrayMetadata) -> Any:
    import zarr

    where = f"{storage.root}/{metadata.path}".rstrip("/")
    try:
        return zarr.open_array(where, mode="r", zarr_format=2 if metadata.zarr_format == 2 else 3)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VolumeError(
            f"{where}: zarr cannot open it ({reason}); convert it with `tracer prepare`"
        ) from error
