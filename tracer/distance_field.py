"""The signed distance to the sheets of a prediction, computed where it is needed.

Outside a sheet it is the Euclidean distance from a voxel's centre to the nearest foreground
voxel's centre, less half a voxel; inside, the same to the nearest background voxel, negative. It
is exact up to the cap outside and to DEEPEST inside, and stored in eighths of a voxel (see
:mod:`tracer.kernels.field_sampling`).

Outside the volume there is neither sheet nor background: a sheet that leaves the volume does not
get thin at its face, and every sample beyond gives the cap.

Chunks are loaded on demand, in three steps that each save the next: the pool in memory, the disk
cache (:mod:`tracer.field_cache`), the volume itself (:mod:`tracer.foreground`).
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import ParamsError
from tracer.field_cache import FieldCache
from tracer.field_pool import ChunkPool
from tracer.foreground import BITS, Foreground
from tracer.kernels.distance_transform import (
    signed_codes,
    squared_limit,
    window_dtype,
    window_radius,
)
from tracer.kernels.field_sampling import (
    CHUNK,
    CODES_PER_VOXEL,
    ZERO_CODE,
    FieldView,
    sample_points,
)
from tracer.volume import Volume

DEEPEST = 7.9  # voxels inside a sheet that are told apart
LARGEST_CAP = 23.0  # 64 + 8 * 23 is the last whole voxel below 256

Index3 = tuple[int, int, int]


@dataclass(slots=True)
class FieldStats:
    """What a field has done so far.

    Attributes
    ----------
    chunks_computed : int
        From the volume.
    chunks_cached : int
        Read from the disk cache.
    chunks_far : int
        Of both, those at the cap everywhere.
    chunks_evicted : int
        Removed from memory to make room.
    volume_s, cache_s, transform_s : float
        Wall seconds for reading the volume, for reading and writing the cache, and for distances.
    """

    chunks_computed: int = 0
    chunks_cached: int = 0
    chunks_far: int = 0
    chunks_evicted: int = 0
    volume_s: float = 0.0
    cache_s: float = 0.0
    transform_s: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return all figures, ready for JSON.

        Returns
        -------
        dict
            Name to value.
        """
        return asdict(self)


class DistanceField:
    """Signed distance field of a prediction.

    Parameters
    ----------
    volume : Volume
        The prediction, uint8.
    threshold : int
        Smallest foreground value, 1 to 255.
    cap : float
        Largest distance, voxels, 1 to LARGEST_CAP; rounded to eighths.
    cache_root : str or Path, optional
        Folder of the disk cache, shared by any number of processes. None: nothing is written.
    cache_limit_gb : float, optional
        Size of the disk cache, 10⁹ bytes; least recently used chunks are removed. None: no limit.
    cache_size_bytes : float
        Memory for loaded chunks, 2.1 MB each.

    Attributes
    ----------
    volume : Volume
        The prediction.
    threshold : int
        Smallest foreground value.
    cap : float
        Largest distance, voxels.
    shape_zyx : tuple of int
        Shape of the volume.
    grid_zyx : tuple of int
        Chunks along z, y, x.

    Raises
    ------
    ParamsError
        If a parameter is out of range.
    VolumeError
        If the volume cannot serve as a prediction.
    CacheError
        If the cache folder cannot be written.

    Notes
    -----
    Memory: the pool grows by doubling (old and new exist side by side for a moment) up to
    `cache_size_bytes`, and beyond it only if a single :meth:`ensure` asks for more chunks than fit.
    A further 64 MB at most hold packed tiles of the volume.

    One field serves one thread; processes share the disk cache.
    """

    def __init__(
        self,
        volume: Volume,
        threshold: int = 170,
        cap: float = 8.0,
        cache_root: str | Path | None = None,
        cache_limit_gb: float | None = None,
        cache_size_bytes: float = 1e9,
    ) -> None:
        if not 1 <= threshold <= 255:
            raise ParamsError(f"threshold = {threshold}: must lie between 1 and 255")
        if not 1 <= cap <= LARGEST_CAP:
            raise ParamsError(f"cap = {cap}: must lie between 1 and {LARGEST_CAP:g} voxels")
        if cache_limit_gb is not None and not cache_limit_gb > 0:
            raise ParamsError(f"cache_limit_gb = {cache_limit_gb}: must be positive, or not given")
        if not cache_size_bytes > 0:
            raise ParamsError(f"cache_size_bytes = {cache_size_bytes}: must be positive")
        volume.require_prediction()
        self.volume = volume
        self.threshold = int(threshold)
        self.cap = round(cap * CODES_PER_VOXEL) / CODES_PER_VOXEL
        self.shape_zyx = volume.shape_zyx
        self.grid_zyx = _grid(volume.shape_zyx)
        self._shape = np.array(volume.shape_zyx, np.int64)
        self._stats = FieldStats()
        self._pool = ChunkPool(self.grid_zyx, cache_size_bytes)
        self._foreground = Foreground(volume, self.threshold)
        farthest = max(self.cap, DEEPEST)
        self._border = -(-window_radius(squared_limit(farthest)) // BITS) * BITS
        edge = CHUNK + 1 + 2 * self._border
        self._work = np.empty((3, edge**3), window_dtype(farthest))
        self._cache: FieldCache | None = None
        if cache_root is not None:
            self._cache = FieldCache(
                Path(cache_root),
                {
                    "volume_identity": volume.identity,
                    "threshold": self.threshold,
                    "chunk": CHUNK,
                    "border": self._border,
                },
                (-(-edge // BITS), edge, edge),
                limit_bytes=None if cache_limit_gb is None else cache_limit_gb * 1e9,
                notes={"what": "masks of a distance field", "volume": str(volume.path)},
            )

    @property
    def stats(self) -> FieldStats:
        """Return what the field has done so far.

        Returns
        -------
        FieldStats
            Counts and times.
        """
        self._stats.chunks_evicted = self._pool.n_evicted
        return self._stats

    def view(self) -> FieldView:
        """Return the loaded part for kernels.

        Returns
        -------
        FieldView
            Valid until the next :meth:`ensure`, which may evict what was not asked for.
        """
        return FieldView(self._pool.pool, self._pool.table, self._shape, self.cap)

    def ensure(self, chunk_indices_zyx: ArrayLike | Iterable[Sequence[int]]) -> None:
        """Load chunks; all of them are in the view afterwards.

        Parameters
        ----------
        chunk_indices_zyx : array_like of int, shape (n, 3)
            Chunk indices z, y, x; those outside the volume are ignored.

        Raises
        ------
        VolumeError
            If the volume cannot be read.
        """
        if not isinstance(chunk_indices_zyx, np.ndarray):
            chunk_indices_zyx = np.array(list(chunk_indices_zyx), np.int64)  # type: ignore[arg-type]  # an iterable, or a sequence of sequences
        wanted = chunk_indices_zyx.astype(np.int64).reshape(-1, 3)
        within = ((wanted >= 0) & (wanted < self.grid_zyx)).all(axis=1)
        self._ensure_flat(np.ravel_multi_index(tuple(wanted[within].T), self.grid_zyx))

    def ensure_box(self, lower_xyz: ArrayLike, upper_xyz: ArrayLike) -> None:
        """Load what sampling any point of a box needs.

        Parameters
        ----------
        lower_xyz, upper_xyz : array_like of float, shape (3,)
            Closed box in voxels; may reach beyond the volume.

        Raises
        ------
        VolumeError
            If the volume cannot be read.
        """
        lower = np.asarray(lower_xyz, np.float64)[::-1]
        upper = np.asarray(upper_xyz, np.float64)[::-1]
        first = np.floor(np.maximum(lower, 0) / CHUNK).astype(np.int64)
        last = np.floor((np.minimum(upper, self._shape) + 0.5) / CHUNK).astype(np.int64)
        last = np.minimum(last, np.array(self.grid_zyx) - 1)
        sides = [np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]
        self.ensure(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1))

    @overload
    def sample(
        self, points_xyz: ArrayLike, *, gradient: Literal[False] = False
    ) -> NDArray[np.float64]: ...

    @overload
    def sample(
        self, points_xyz: ArrayLike, *, gradient: Literal[True]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def sample(
        self, points_xyz: ArrayLike, *, gradient: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return signed distances at points, loading what they need in bounded memory.

        Parameters
        ----------
        points_xyz : array_like of float, shape (..., 3)
            Points in voxels.
        gradient : bool
            Whether to return derivatives as well.

        Returns
        -------
        ndarray of float64, shape (...), or tuple
            Signed distances in voxels; the cap outside the volume and at points that are not
            finite. With `gradient` a pair of them and of their derivatives by x, y, z, shape
            (..., 3).

        Raises
        ------
        ParamsError
            If the points have no last axis of length 3.
        VolumeError
            If the volume cannot be read.
        """
        points = np.ascontiguousarray(points_xyz, np.float64)
        if points.ndim == 0 or points.shape[-1] != 3:
            raise ParamsError(f"points_xyz has shape {points.shape}: its last axis must be x, y, z")
        shape = points.shape[:-1]
        points = points.reshape(-1, 3)
        out = np.zeros((len(points), 4))
        out[:, 0] = self.cap
        with np.errstate(invalid="ignore"):
            inside = ((points >= 0) & (points <= self._shape[::-1] - 1)).all(axis=1)
        chunks = np.ravel_multi_index(
            tuple(points[inside].astype(np.int64).T[::-1] // CHUNK), self.grid_zyx
        )
        unique = np.unique(chunks)
        if len(unique) <= self._pool.bound and inside.all():
            self._ensure_flat(unique)
            sample_points(self.view(), points, out)
        else:
            self._sample_in_groups(points, np.flatnonzero(inside), chunks, unique, out)
        distances = out[:, 0].reshape(shape)
        return (distances, out[:, 1:].reshape(*shape, 3)) if gradient else distances

    def _sample_in_groups(
        self,
        points: NDArray[np.float64],
        selected: NDArray[np.int64],
        chunks: NDArray[np.int64],
        unique: NDArray[np.int64],
        out: NDArray[np.float64],
    ) -> None:
        """Sample selected points, as many chunks at a time as the pool may hold."""
        order = np.argsort(chunks, kind="stable")
        selected, chunks = selected[order], chunks[order]
        for start in range(0, len(unique), self._pool.bound):
            group = unique[start : start + self._pool.bound]
            self._ensure_flat(group)
            first = np.searchsorted(chunks, group[0], side="left")
            last = np.searchsorted(chunks, group[-1], side="right")
            rows = selected[first:last]
            values = np.empty((len(rows), 4))
            sample_points(self.view(), points[rows], values)
            out[rows] = values

    def _ensure_flat(self, chunks: NDArray[np.int64]) -> None:
        missing = self._pool.require(chunks)
        for i, chunk in enumerate(missing.tolist()):
            self._load(chunk, len(missing) - i)

    def _load(self, chunk: int, n_wanted: int) -> None:
        """Bring one chunk into the pool."""
        z, y, x = (int(i) for i in np.unravel_index(chunk, self.grid_zyx))
        index = (z, y, x)
        packed = self._mask(index)
        if packed is not None:
            slot = self._pool.take(n_wanted)
            started = time.perf_counter()
            codes = self._pool.pool[slot]
            self._transform(index, packed, codes)
            is_far = bool(codes.min() == ZERO_CODE + CODES_PER_VOXEL * self.cap)
            self._stats.transform_s += time.perf_counter() - started
            if not is_far:
                self._pool.assign(chunk, slot)
                return
            self._pool.release(slot)
        self._pool.assign_far(chunk)
        self._stats.chunks_far += 1

    def _mask(self, index: Index3) -> NDArray[np.uint8] | None:
        """Return the packed mask of a chunk and its border, from the cache or the volume."""
        started = time.perf_counter()
        found = False
        if self._cache is not None:
            found, packed = self._cache.load(index)
            self._stats.cache_s += time.perf_counter() - started
        if found:
            self._stats.chunks_cached += 1
            return packed
        started = time.perf_counter()
        packed = self._foreground.block(index, self._border)
        self._stats.volume_s += time.perf_counter() - started
        self._stats.chunks_computed += 1
        if self._cache is not None:
            started = time.perf_counter()
            self._cache.store(index, packed)
            self._stats.cache_s += time.perf_counter() - started
        return packed

    def _transform(
        self, index: Index3, packed: NDArray[np.uint8], out_codes: NDArray[np.uint8]
    ) -> None:
        """Fill in the codes of a chunk; beyond the volume they repeat those of its last voxels."""
        start = np.array(index) * CHUNK - self._border
        low = np.maximum(-start, 0)
        high = np.minimum(self._shape - start, packed.shape[1])
        signed_codes(packed, low, high, self._border, self.cap, DEEPEST, self._work, out_codes)
        # A cell at the upper face of the volume has no next voxel: its weight is 0, but a gradient
        # would show it.
        n_z, n_y, n_x = self._shape - np.array(index) * CHUNK
        out_codes[:, :, n_x:] = out_codes[:, :, n_x - 1 : n_x]
        out_codes[:, n_y:] = out_codes[:, n_y - 1 : n_y]
        out_codes[n_z:] = out_codes[n_z - 1 : n_z]


def _grid(shape_zyx: Index3) -> Index3:
    z, y, x = (-(-n // CHUNK) for n in shape_zyx)
    return z, y, x
