"""Signed distance to the sheets of a prediction, computed chunk by chunk when it is needed.

The distance of a background voxel is that to the nearest sheet voxel minus one half, of a sheet
voxel minus that to the nearest background voxel plus one half: zero lies on the boundary, and the
minimum across a sheet is its mid-line. Distances are capped and quantised to 1/8 voxel. Outside the
volume the field is the cap, so that nothing grows out of it, but the volume's border does not make
a sheet thin that leaves through it.

Coordinates are voxels in the order x, y, z; chunks are indexed z, y, x.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import ParamsError
from tracer.field_cache import FieldCache
from tracer.kernels import distance_transform
from tracer.kernels.field_sampling import (
    CHUNK,
    CODES_PER_VOXEL,
    FAR,
    NOT_LOADED,
    ZERO_CODE,
    FieldView,
    sample_points,
)

Index3 = tuple[int, int, int]

DEFAULT_THRESHOLD = 170  # what VC3D takes for the sheet
DEFAULT_CAP = 4.0  # voxels; growth is as good as with 8 and the cache half the size
_LARGEST_CAP = distance_transform.LONGEST_WINDOW - 1.0
_EDGE = CHUNK + 1
_FIRST_SLOTS = 16
_FORMAT_VERSION = 1


class PredictionVolume(Protocol):
    """The part of a volume that the field needs."""

    @property
    def shape_zyx(self) -> Index3:
        """Return the shape of level 0."""

    @property
    def identity(self) -> str:
        """Return a digest of what the data is."""

    def read(
        self, level: int, start_zyx: tuple[int, ...], stop_zyx: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        """Return the voxels of a box."""


@dataclass(slots=True)
class FieldStats:
    """What a field has done so far.

    Attributes
    ----------
    computed : int
        Chunks computed from the prediction.
    cached : int
        Chunks read from the disk cache.
    evicted : int
        Chunks dropped from memory.
    """

    computed: int = 0
    cached: int = 0
    evicted: int = 0


class DistanceField:
    """Lazily computed, cached signed distance field of a prediction.

    Parameters
    ----------
    volume : Volume
        Surface prediction, uint8.
    threshold : int
        Voxels of at least this value are sheet.
    cap : float
        Largest distance to either side, voxels; at most 8.
    cache_root : str or Path, optional
        Folder of the disk cache, shared by all processes; none where omitted.
    cache_limit_gb : float, optional
        Size at which the least recently used cache files are removed.
    cache_size_bytes : float
        Memory for loaded chunks; exceeded only where one request needs more at once.

    Attributes
    ----------
    cap : float
        As given.
    stats : FieldStats
        Counters.

    Raises
    ------
    ParamsError
        If threshold or cap is out of range.
    CacheError
        If the cache folder cannot be written.

    Notes
    -----
    Values do not depend on the order of requests, on the cache or on the number of processes.
    """

    def __init__(
        self,
        volume: PredictionVolume,
        *,
        threshold: int = DEFAULT_THRESHOLD,
        cap: float = DEFAULT_CAP,
        cache_root: str | Path | None = None,
        cache_limit_gb: float | None = None,
        cache_size_bytes: float = 1e9,
    ) -> None:
        if not 1 <= threshold <= 255:
            raise ParamsError(f"threshold is {threshold}; it must be between 1 and 255")
        if not 1.0 <= cap <= _LARGEST_CAP:
            raise ParamsError(f"cap is {cap}; it must be between 1 and {_LARGEST_CAP:g} voxels")
        self.cap = round(cap * CODES_PER_VOXEL) / CODES_PER_VOXEL
        self.stats = FieldStats()
        self._volume = volume
        self._threshold = threshold
        self._window = min(distance_transform.LONGEST_WINDOW, math.ceil(self.cap + 0.5))
        z, y, x = (max(1, math.ceil(n / CHUNK)) for n in volume.shape_zyx)
        self._table = np.full((z, y, x), NOT_LOADED, np.int32)
        self._most_slots = max(1, int(cache_size_bytes // _EDGE**3))
        self._pool = np.empty((min(_FIRST_SLOTS, self._most_slots), _EDGE, _EDGE, _EDGE), np.uint8)
        self._free = list(range(len(self._pool) - 1, -1, -1))
        self._used: dict[Index3, None] = {}  # loaded chunks, least recently asked for first
        self._cache = None
        if cache_root is not None:
            description = {
                "volume": volume.identity,
                "threshold": threshold,
                "cap": self.cap,
                "format": _FORMAT_VERSION,
            }
            key = hashlib.sha256(repr(sorted(description.items())).encode()).hexdigest()[:24]
            self._cache = FieldCache(Path(cache_root), key, description, cache_limit_gb)

    @property
    def shape_zyx(self) -> Index3:
        """Return the shape of the volume.

        Returns
        -------
        tuple of int
            Voxels along z, y, x.
        """
        return self._volume.shape_zyx

    def view(self) -> FieldView:
        """Return the loaded part of the field for kernels.

        Returns
        -------
        FieldView
            Valid until the next call of :meth:`ensure`.
        """
        shape = np.array(self.shape_zyx, np.int64)
        return FieldView(self._pool, self._table, shape, self.cap)

    def ensure(self, chunks: ArrayLike) -> None:
        """Load chunks; afterwards all of them are in memory.

        Parameters
        ----------
        chunks : array_like of int, shape (n, 3)
            Chunk indices z, y, x; those outside the volume are ignored.

        Raises
        ------
        VolumeError
            If the prediction cannot be read.
        CacheError
            If the disk cache cannot be written.
        """
        asked = np.asarray(chunks, np.int64).reshape(-1, 3)
        inside = ((asked >= 0) & (asked < self._table.shape)).all(axis=1)
        wanted = [(int(i), int(j), int(k)) for i, j, k in asked[inside]]
        for index in wanted:
            if index in self._used:  # move to the end: asked for last
                del self._used[index]
                self._used[index] = None
        keep = set(wanted)
        for index in wanted:
            if self._table[index] == NOT_LOADED:
                self._load(index, keep)

    def ensure_box(self, low_xyz: ArrayLike, high_xyz: ArrayLike) -> None:
        """Load all chunks that a box overlaps.

        Parameters
        ----------
        low_xyz, high_xyz : array_like of float, shape (3,)
            Corners in voxels; may reach beyond the volume.
        """
        low = np.floor(np.asarray(low_xyz, np.float64)[::-1] / CHUNK).astype(np.int64)
        high = np.floor(np.asarray(high_xyz, np.float64)[::-1] / CHUNK).astype(np.int64)
        low = np.maximum(low, 0)
        high = np.minimum(high, np.array(self._table.shape) - 1)
        if (high < low).any():
            return
        self.ensure(low + np.indices(high - low + 1).reshape(3, -1).T)

    def sample(self, points_xyz: ArrayLike, *, gradient: bool = False) -> NDArray[np.float64]:
        """Return the signed distance at points, loading what it needs.

        Parameters
        ----------
        points_xyz : array_like of float, shape (..., 3)
            Points in voxels.
        gradient : bool
            Whether to return the derivatives too.

        Returns
        -------
        ndarray of float64, shape (...) or (..., 4)
            Signed distance; with `gradient` followed by its derivatives by x, y, z.
        """
        points = np.asarray(points_xyz, np.float64)
        flat = np.ascontiguousarray(points.reshape(-1, 3))
        out = np.empty((len(flat), 4))
        chunk = np.floor(flat[:, ::-1] / CHUNK).astype(np.int64)
        groups, member = np.unique(chunk, axis=0, return_inverse=True)
        order = np.argsort(member.reshape(-1), kind="stable")
        edges = np.searchsorted(member.reshape(-1)[order], np.arange(len(groups) + 1))
        for number, group in enumerate(groups):
            rows = order[edges[number] : edges[number + 1]]
            self.ensure(group[None])
            values = np.empty((len(rows), 4))
            sample_points(self.view(), flat[rows], values)
            out[rows] = values
        shaped = out.reshape(*points.shape[:-1], 4)
        return shaped if gradient else shaped[..., 0]

    def _load(self, index: Index3, keep: set[Index3]) -> None:
        slot = self._take_slot(keep)
        codes = self._pool[slot]
        holds = self._cache.load(index, codes) if self._cache is not None else None
        if holds is None:
            holds = self._compute(index, codes)
            self.stats.computed += 1
            if self._cache is not None:
                self._cache.store(index, codes if holds else None)
        else:
            self.stats.cached += 1
        if holds:
            self._table[index] = slot
            self._used[index] = None
        else:
            self._table[index] = FAR
            self._free.append(slot)

    def _take_slot(self, keep: set[Index3]) -> int:
        """Return a free slot, growing the pool or dropping the chunk used longest ago."""
        if not self._free:
            oldest = next((index for index in self._used if index not in keep), None)
            if len(self._pool) >= self._most_slots and oldest is not None:
                del self._used[oldest]
                self._free.append(int(self._table[oldest]))
                self._table[oldest] = NOT_LOADED
                self.stats.evicted += 1
            else:
                self._grow_pool()
        return self._free.pop()

    def _grow_pool(self) -> None:
        """Double the pool up to the limit; beyond it, add one slot that cannot be avoided."""
        n = len(self._pool)
        larger = max(n + 1, min(2 * n, self._most_slots))
        pool = np.empty((larger, *self._pool.shape[1:]), np.uint8)
        pool[:n] = self._pool
        self._pool = pool
        self._free.extend(range(larger - 1, n - 1, -1))

    def _compute(self, index: Index3, out_codes: NDArray[np.uint8]) -> bool:
        """Fill in the codes of a chunk and return whether any differs from the cap."""
        border = self._window
        start = [CHUNK * i - border for i in index]
        stop = [a + _EDGE + 2 * border for a in start]
        values = self._volume.read(0, tuple(start), tuple(stop))
        kinds = (values >= self._threshold).view(np.uint8)
        if not kinds.any():
            out_codes[...] = np.uint8(ZERO_CODE + CODES_PER_VOXEL * self.cap)
            return False
        for axis, n in enumerate(self.shape_zyx):
            beyond: list[slice] = [slice(None)] * 3
            if start[axis] < 0:
                beyond[axis] = slice(0, -start[axis])
                kinds[tuple(beyond)] = distance_transform.OUTSIDE_VOLUME
            if stop[axis] > n:
                beyond[axis] = slice(max(0, n - start[axis]), None)
                kinds[tuple(beyond)] = distance_transform.OUTSIDE_VOLUME
        work = np.empty_like(kinds)
        outside, inside = np.empty_like(kinds), np.empty_like(kinds)
        sheet, background = distance_transform.SHEET, distance_transform.BACKGROUND
        distance_transform.squared_distances(kinds, sheet, self._window, work, outside)
        distance_transform.squared_distances(kinds, background, self._window, work, inside)
        return distance_transform.encode_signed(kinds, outside, inside, border, self.cap, out_codes)
