"""The foreground of a prediction, one bit per voxel, read tile by tile and only where it exists.

A chunk of the distance field needs a border of voxels around it, so every voxel of the volume is
needed by several chunks. The volume is decoded once per tile; tiles are kept packed (256 KiB for
128³ voxels), least recently used ones go first. Bits are packed along z as
:func:`tracer.kernels.distance_transform.pack_mask` does.
"""

import itertools
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from tracer.kernels.distance_transform import pack_mask
from tracer.kernels.field_sampling import CHUNK
from tracer.volume import Volume

BITS = 8
_TILE_BYTES = CHUNK**3 // BITS
_LARGEST_READ = 2 * CHUNK  # edge; 256³ stored objects are decoded whole, larger ones may be shards

Index3 = tuple[int, int, int]


class Foreground:
    """The voxels of a prediction from a threshold on, packed.

    Parameters
    ----------
    volume : Volume
        The prediction.
    threshold : int
        Smallest foreground value, 1 to 255.
    cache_bytes : float
        Memory for tiles that may be needed again.
    """

    def __init__(self, volume: Volume, threshold: int, cache_bytes: float = 64e6) -> None:
        self._volume = volume
        self._threshold = threshold
        self._tiles: OrderedDict[Index3, NDArray[np.uint8]] = OrderedDict()
        self._capacity = max(27, int(cache_bytes) // _TILE_BYTES)
        self._grid = tuple(-(-n // CHUNK) for n in volume.shape_zyx)
        self._is_empty = np.zeros(self._grid, bool)
        # Objects of two tiles' width are read whole, or each would be decoded eight times.
        stored = volume.chunk_shape_zyx(0)
        self._read_tiles = tuple(
            _LARGEST_READ // CHUNK if n == _LARGEST_READ else 1 for n in stored
        )

    def block(self, chunk_zyx: Index3, border: int) -> NDArray[np.uint8] | None:
        """Return the mask of a chunk, its halo voxel and a border.

        Parameters
        ----------
        chunk_zyx : tuple of int
            Chunk index.
        border : int
            Voxels on every side of the CHUNK + 1 voxels, a multiple of 8 and at most CHUNK - 1.

        Returns
        -------
        ndarray of uint8, shape (ceil(n / 8), n, n), or None
            Packed mask with ``n = CHUNK + 1 + 2 border``; unused bits are 0. None where there is
            no foreground.
        """
        n = CHUNK + 1 + 2 * border
        planes = -(-n // BITS)
        parts = [
            list(_parts((chunk_zyx[0] * CHUNK - border) // BITS, planes, CHUNK // BITS)),
            list(_parts(chunk_zyx[1] * CHUNK - border, n, CHUNK)),
            list(_parts(chunk_zyx[2] * CHUNK - border, n, CHUNK)),
        ]
        out = None
        for (i, source_z, z), (j, source_y, y), (k, source_x, x) in itertools.product(*parts):
            tile = self._tile((i, j, k))
            if tile is not None:
                if out is None:
                    out = np.zeros((planes, n, n), np.uint8)
                out[z, y, x] = tile[source_z, source_y, source_x]
        if out is None:
            return None
        out[-1] &= (0xFF << (planes * BITS - n)) & 0xFF
        return out if out.any() else None

    def _tile(self, index: Index3) -> NDArray[np.uint8] | None:
        """Return a packed tile, None where it has no foreground or lies outside the volume."""
        if not all(0 <= i < n for i, n in zip(index, self._grid, strict=True)):
            return None
        if self._is_empty[index]:
            return None
        if index not in self._tiles:
            self._read(index)
            if self._is_empty[index]:
                return None
        self._tiles.move_to_end(index)
        return self._tiles[index]

    def _read(self, index: Index3) -> None:
        """Read the tiles that share a stored object with a tile, then forget the oldest ones."""
        first = [i - i % n for i, n in zip(index, self._read_tiles, strict=True)]
        last = [min(i + n, g) for i, n, g in zip(first, self._read_tiles, self._grid, strict=True)]
        start = (first[0] * CHUNK, first[1] * CHUNK, first[2] * CHUNK)
        stop = (last[0] * CHUNK, last[1] * CHUNK, last[2] * CHUNK)
        sides = [range(a, b) for a, b in zip(first, last, strict=True)]
        tiles = list(itertools.product(sides[0], sides[1], sides[2]))
        if not self._is_stored(start, stop):
            for tile in tiles:
                self._is_empty[tile] = True
            return
        values = self._volume.read(0, start, stop)
        for tile in tiles:
            i, j, k = ((t - f) * CHUNK for t, f in zip(tile, first, strict=True))
            packed = np.empty((CHUNK // BITS, CHUNK, CHUNK), np.uint8)
            part = values[i : i + CHUNK, j : j + CHUNK, k : k + CHUNK]
            if pack_mask(part, self._threshold, packed):
                self._tiles[tile] = packed
                self._tiles.move_to_end(tile)
            else:
                self._is_empty[tile] = True
        while len(self._tiles) > self._capacity:
            self._tiles.popitem(last=False)

    def _is_stored(self, start: Index3, stop: Index3) -> bool:
        """Return whether any stored object of the volume overlaps a box."""
        stored = self._volume.chunk_shape_zyx(0)
        bounds = zip(start, stop, stored, self._volume.shape_zyx, strict=True)
        sides = [range(a // n, -(-min(b, size) // n)) for a, b, n, size in bounds]
        return any(self._volume.chunk_exists(0, index) for index in itertools.product(*sides))


def _parts(start: int, count: int, tile: int) -> list[tuple[int, slice, slice]]:
    """Return every tile that a range overlaps: index, slice in the tile, slice in the range."""
    out = []
    for i in range(start // tile, (start + count - 1) // tile + 1):
        low, high = max(start, i * tile), min(start + count, (i + 1) * tile)
        out.append((i, slice(low - i * tile, high - i * tile), slice(low - start, high - start)))
    return out
