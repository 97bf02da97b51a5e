"""Reading one level of a volume chunk by chunk, and keeping decoded chunks in slots of one array.

Blosc chunks, which is what scroll volumes are stored as, are decoded straight into their slot: no
copy, no second cache. Everything else goes through the array's own reader.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import VolumeError
from tracer.kernels.trilinear import ChunkView

if TYPE_CHECKING:
    from tracer.volume import Volume

_MEASURED_REMOTELY = 256  # objects whose size a dry run asks a server for
Index3 = tuple[int, int, int]


class ChunkSource:
    """The chunks of one level.

    Parameters
    ----------
    volume : Volume
        Opened volume.
    level : int
        OME-Zarr level.

    Attributes
    ----------
    shape_zyx : tuple of int
        Voxels of the level.
    chunk_shape_zyx : tuple of int
        Voxels of a chunk: the unit in which data is decoded.
    dtype : dtype
        uint8 or uint16.
    is_remote : bool
        Whether chunks come over a network.
    """

    def __init__(self, volume: "Volume", level: int) -> None:
        self._array = volume.level(level)
        self._storage = self._array.storage
        self._metadata = self._array.metadata
        self.shape_zyx: Index3 = volume.level_shape_zyx(level)
        self.chunk_shape_zyx: Index3 = volume.chunk_shape_zyx(level)
        self.dtype = self._array.dtype
        self.is_remote = not self._storage.is_local
        self._is_direct = (
            self._metadata.is_plain
            and self._metadata.codec == "blosc"
            and self._metadata.dtype == self.dtype  # native byte order
        )

    def read_into(self, chunk: Index3, out: NDArray[Any]) -> int:
        """Read one chunk.

        Parameters
        ----------
        chunk : tuple of int
            Index z, y, x.
        out : ndarray, shape (chunk voxels,)
            Filled in C order; 0 outside the volume, the fill value where nothing is stored.

        Returns
        -------
        int
            Bytes read: as stored where known, else decoded; 0 where nothing is stored.

        Raises
        ------
        VolumeError
            If the chunk cannot be read or decoded.
        """
        if not self._is_direct:
            start = [i * n for i, n in zip(chunk, self.chunk_shape_zyx, strict=True)]
            stop = [a + n for a, n in zip(start, self.chunk_shape_zyx, strict=True)]
            out[:] = self._array.read(start, stop).ravel()
            return out.nbytes
        key = self._metadata.object_key(chunk)
        data = self._storage.get(key)
        if data is None:
            out[:] = self._metadata.fill_value
        else:
            self._decode(key, data, out.view(np.uint8))
        self._clear_padding(chunk, out)
        return len(data or b"")

    def _decode(self, key: str, data: bytes, out: Any) -> None:
        """Decode one stored chunk; in this thread, without any of Blosc's own."""
        import imagecodecs

        try:
            size = len(imagecodecs.blosc_decode(data, numthreads=1, out=out))
            reason = f"{size} bytes instead of {out.size}" if size != out.size else ""
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip() or type(error).__name__
        if reason:
            raise VolumeError(
                f"{self._storage.root}/{key}: damaged chunk ({reason}); restore the file"
            )

    def _clear_padding(self, chunk: Index3, out: NDArray[Any]) -> None:
        """Zero what a chunk at an upper face stores beyond the volume."""
        block = out.reshape(self.chunk_shape_zyx)
        for axis in range(3):
            inside = self.shape_zyx[axis] - chunk[axis] * self.chunk_shape_zyx[axis]
            if inside < self.chunk_shape_zyx[axis]:
                np.moveaxis(block, axis, 0)[inside:] = 0

    def measure(self, chunks: list[Index3]) -> tuple[int, int, bool]:
        """Return how much stored data chunks are.

        Parameters
        ----------
        chunks : list of tuple of int
            Chunk indices.

        Returns
        -------
        present : int
            How many stored objects there are for them; what is not stored costs nothing.
        stored_bytes : int
            Their size. Where chunks lie in shards, that of the whole shards: an upper bound.
        is_estimate : bool
            True where both are extrapolated from an even sample, as for remote volumes.
        """
        keys = sorted({self._metadata.object_key(chunk) for chunk in chunks})
        sample = keys
        if self.is_remote and len(keys) > _MEASURED_REMOTELY:
            sample = keys[:: math.ceil(len(keys) / _MEASURED_REMOTELY)]
        sizes = self._storage.sizes(sample)
        present = sum(size >= 0 for size in sizes)
        stored_bytes = sum(max(size, 0) for size in sizes)
        if len(sample) == len(keys):
            return present, stored_bytes, False
        factor = len(keys) / len(sample)
        return round(present * factor), round(stored_bytes * factor), True


class ChunkPool:
    """Memory for a fixed number of decoded chunks.

    Parameters
    ----------
    source : ChunkSource
        Where chunks come from.
    slots : int
        Number of chunks.
    """

    def __init__(self, source: ChunkSource, slots: int) -> None:
        self._source = source
        self._voxels = math.prod(source.chunk_shape_zyx)
        # Not zeroed: pages of slots that are never used cost no memory.
        self._pool: NDArray[Any] = np.empty(slots * self._voxels, dtype=source.dtype)
        self._chunk_shape = np.asarray(source.chunk_shape_zyx, dtype=np.int64)
        self._shape = np.asarray(source.shape_zyx, dtype=np.int64)

    def load(self, slot: int, chunk: Index3) -> int:
        """Read one chunk into a slot.

        Parameters
        ----------
        slot : int
            Where to.
        chunk : tuple of int
            Index z, y, x.

        Returns
        -------
        int
            Bytes read.
        """
        first = slot * self._voxels
        return self._source.read_into(chunk, self._pool[first : first + self._voxels])

    def view(self, chunks: NDArray[np.int64], slots: NDArray[np.int32]) -> ChunkView:
        """Return chunks as kernels take them.

        Parameters
        ----------
        chunks : ndarray of int64, shape (n, 3)
            Indices z, y, x.
        slots : ndarray of int32, shape (n,)
            Where they are.

        Returns
        -------
        ChunkView
            With a table of the box of these chunks.
        """
        if len(chunks):
            origin = chunks.min(axis=0)
            table = np.full(tuple(chunks.max(axis=0) - origin + 1), -1, dtype=np.int32)
            table[tuple((chunks - origin).T)] = slots
        else:
            origin, table = np.zeros(3, dtype=np.int64), np.full((1, 1, 1), -1, dtype=np.int32)
        return ChunkView(
            pool=self._pool,
            table=table,
            origin=origin,
            chunk_shape=self._chunk_shape,
            shape_zyx=self._shape,
            fill=0.0,
        )
