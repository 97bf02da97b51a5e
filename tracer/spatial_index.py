"""Exact answers to "which patches pass near this point, and where on each".

A :class:`SpatialIndex` is an immutable set of segments, each holding the quads of some patches in a
hash grid (:mod:`tracer.kernels.spatial_index`). Segments come from memory or are mapped from the
cache of a collection (:mod:`tracer.index_store`); adding a patch shares all other segments.

Conventions
-----------
The surface of a patch is the union of the bilinear quads of its grid. A distance is Euclidean, in
voxels, to that surface, and a tolerance is inclusive. Vertices that belong to no quad are not part
of the surface. Two patches *overlap* within a tolerance if a sample point of one lies within it of
the surface of the other; sample points are the corners and the centres of the quads.

Law: results depend on the patches only, not on how they are spread over segments.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import CollectionError
from tracer.index_segment import PatchGrid, Segment, build_segment, quad_samples, with_grids
from tracer.kernels.spatial_index import CELL, query_points, sort_all_hits
from tracer.surface import Surface

SAME_SURFACE_VX = 2.0  # "contains" and "overlaps" everywhere, as in VC3D
_SAMPLES_AT_ONCE = 1_000_000
_SORT_FROM_POINTS = 4096


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hits:
    """Places where patches pass within a tolerance of query points.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n + 1,)
        Hits of query point i are offsets[i]:offsets[i + 1].
    patch_index : ndarray of int32, shape (m,)
        Patch of each hit, an index into ``SpatialIndex.names``; ascending for each query point,
        each patch at most once.
    rows : ndarray of float64, shape (m,)
        Fractional row of the closest point on the patch.
    cols : ndarray of float64, shape (m,)
        Fractional column of the closest point on the patch.
    distances : ndarray of float64, shape (m,)
        Distance in voxels.
    """

    offsets: NDArray[np.int64]
    patch_index: NDArray[np.int32]
    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    distances: NDArray[np.float64]

    @property
    def point_index(self) -> NDArray[np.int64]:
        """Return the query point of each hit.

        Returns
        -------
        ndarray of int64, shape (m,)
            Ascending.
        """
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def __len__(self) -> int:
        return len(self.patch_index)


class SpatialIndex:
    """Answers exact point queries over a set of patches; immutable.

    Parameters
    ----------
    segments : sequence of Segment
        Indexed patches.
    alive : sequence of ndarray of bool, optional
        Which patches of each segment take part; all where omitted. No name may be alive twice.

    Attributes
    ----------
    names : tuple of str
        Patches that take part, sorted; ``patch_index`` counts through them.
    """

    def __init__(
        self, segments: Sequence[Segment], alive: Sequence[NDArray[np.bool_]] | None = None
    ) -> None:
        flags = [np.ones(len(s.names), bool) for s in segments] if alive is None else list(alive)
        living = [
            [name for name, lives in zip(s.names, f, strict=True) if lives]
            for s, f in zip(segments, flags, strict=True)
        ]
        self.names: tuple[str, ...] = tuple(sorted(name for names in living for name in names))
        self._number = {name: i for i, name in enumerate(self.names)}
        if len(self._number) != len(self.names):
            raise CollectionError("a patch is twice in the index; names must be unique")
        self._segments = tuple(segments)
        self._ids = []
        for segment, flag in zip(segments, flags, strict=True):
            ids = np.array(
                [self._number[n] if f else -1 for n, f in zip(segment.names, flag, strict=True)],
                dtype=np.int32,
            )
            ids.setflags(write=False)
            self._ids.append(ids)

    @classmethod
    def from_surfaces(cls, surfaces: Mapping[str, Surface]) -> "SpatialIndex":
        """Return an index in memory.

        Parameters
        ----------
        surfaces : mapping of str to Surface
            Patches by name.

        Returns
        -------
        SpatialIndex
            Over all of them.
        """
        return cls([build_segment([PatchGrid.of_surface(*item) for item in surfaces.items()])])

    @property
    def segments(self) -> tuple[tuple[Segment, NDArray[np.bool_]], ...]:
        """Return the segments, each with which of its patches take part.

        Returns
        -------
        tuple
            Pairs (segment, alive).
        """
        return tuple((s, ids >= 0) for s, ids in zip(self._segments, self._ids, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._number

    def number(self, name: str) -> int:
        """Return the index of a patch.

        Parameters
        ----------
        name : str
            Name of a patch.

        Returns
        -------
        int
            Such that ``names[number(name)] == name``.

        Raises
        ------
        CollectionError
            If no such patch takes part.
        """
        if name not in self._number:
            raise CollectionError(f"no patch '{name}' in the index; see its names")
        return self._number[name]

    def adding(self, name: str, surface: Surface) -> "SpatialIndex":
        """Return an index with one more patch; this one is unchanged.

        Parameters
        ----------
        name : str
            Name of the new patch; a patch of the same name is replaced.
        surface : Surface
            Its geometry.

        Returns
        -------
        SpatialIndex
            Shares all segments but the smallest with this one.
        """
        kept = [
            (s, alive & np.array([n != name for n in s.names], bool)) for s, alive in self.segments
        ]
        return SpatialIndex(*with_grids(kept, [PatchGrid.of_surface(name, surface)]))

    def query(self, points_xyz: ArrayLike, tolerance: float = SAME_SURFACE_VX) -> Hits:
        """Return the closest point of every patch that passes near each query point.

        Parameters
        ----------
        points_xyz : array_like of float, shape (n, 3)
            Query points in voxels; points that are not finite find nothing.
        tolerance : float
            Largest distance in voxels, inclusive. Cost grows with its cube beyond 32.

        Returns
        -------
        Hits
            Sorted by query point, then patch.
        """
        points = np.ascontiguousarray(np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3))
        if not (np.isfinite(tolerance) and tolerance >= 0):
            raise CollectionError(f"tolerance is {tolerance}; it must be finite and not negative")
        order = _order_by_place(points)
        if order is not None:
            return _in_order(self._query(points[order], float(tolerance)), np.argsort(order))
        return self._query(points, float(tolerance))

    def _query(self, points: NDArray[np.float64], tolerance: float) -> Hits:
        found = [
            _query_segment(segment, ids, points, tolerance)
            for segment, ids in zip(self._segments, self._ids, strict=True)
            if segment.levels
        ]
        found = [hits for hits in found if len(hits[0])] or found[:1]
        if not found:
            found = [(np.empty(0, np.int64), np.empty(0, np.int32), np.empty((0, 3)))]
        at_point, patch, place = (
            found[0]
            if len(found) == 1
            else tuple(np.concatenate(column) for column in zip(*found, strict=True))
        )
        offsets = np.zeros(len(points) + 1, dtype=np.int64)
        np.cumsum(np.bincount(at_point, minlength=len(points)), out=offsets[1:])
        if len(found) > 1:
            order = np.argsort(at_point, kind="stable")
            patch, place = patch[order], place[order]
            sort_all_hits(offsets, patch, place)
        return Hits(
            offsets=offsets,
            patch_index=patch,
            rows=place[:, 0],
            cols=place[:, 1],
            distances=np.sqrt(place[:, 2]),
        )

    def patches_near(self, points_xyz: ArrayLike, tolerance: float = SAME_SURFACE_VX) -> list[str]:
        """Return the patches that pass near at least one of the points.

        Parameters
        ----------
        points_xyz : array_like of float, shape (n, 3)
            Query points in voxels.
        tolerance : float
            Largest distance in voxels, inclusive.

        Returns
        -------
        list of str
            Names, sorted.
        """
        hits = self.query(points_xyz, tolerance)
        return [self.names[i] for i in np.unique(hits.patch_index)]

    def overlapping(
        self,
        surface: Surface,
        tolerance: float = SAME_SURFACE_VX,
        *,
        exclude: Iterable[str] = (),
    ) -> list[str]:
        """Return the patches that overlap a surface; symmetric.

        Parameters
        ----------
        surface : Surface
            Any surface, of the collection or not.
        tolerance : float
            Largest distance in voxels, inclusive.
        exclude : iterable of str
            Names to leave out, e.g. the surface's own.

        Returns
        -------
        list of str
            Names, sorted.

        Notes
        -----
        A sample point of the surface lies within the tolerance of the patch, or one of the patch
        within the tolerance of the surface.
        """
        grid = PatchGrid.of_surface("", surface)
        samples = quad_samples(grid.points_xyz)
        if not len(samples):
            return []
        found = set(self.patches_near(samples, tolerance))
        own = SpatialIndex([build_segment([grid])])
        low, high = samples.min(axis=0) - tolerance, samples.max(axis=0) + tolerance
        skip = found | set(exclude)
        for names, points in self._samples_in(low, high, skip):
            hits = own.query(points, tolerance)
            found.update(names[i] for i in np.flatnonzero(np.diff(hits.offsets)))
        return sorted(found - set(exclude))

    def _samples_in(
        self, low: NDArray[np.float64], high: NDArray[np.float64], skip: set[str]
    ) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        """Yield sample points of patches inside a box, with the patch of each, in batches."""
        names: list[str] = []
        points: list[NDArray[np.float64]] = []
        for segment, ids in zip(self._segments, self._ids, strict=True):
            with np.errstate(invalid="ignore"):
                near = (segment.boxes[:, 0] <= high) & (segment.boxes[:, 1] >= low)
            for patch in np.flatnonzero(near.all(axis=1) & (ids >= 0)):
                if segment.names[patch] in skip:
                    continue
                samples = quad_samples(segment.points(int(patch)))
                samples = samples[((samples >= low) & (samples <= high)).all(axis=1)]
                names.extend([segment.names[patch]] * len(samples))
                points.append(samples)
                if len(names) >= _SAMPLES_AT_ONCE:
                    yield names, np.concatenate(points)
                    names, points = [], []
        if names:
            yield names, np.concatenate(points)


def _order_by_place(points: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return an order in which neighbours in space follow each other; None if they do already.

    Scattered points cost twice as much in a large index, because nothing is in the CPU's caches.
    """
    if len(points) < _SORT_FROM_POINTS:
        return None
    with np.errstate(invalid="ignore"):
        far = np.abs(np.diff(points, axis=0)).max(axis=1) > 4 * CELL
    if far.mean() < 0.25:
        return None
    cells = np.floor(np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0) / CELL)
    return np.lexsort(cells.T)


def _in_order(hits: Hits, order: NDArray[np.int64]) -> Hits:
    """Return hits with query point order[i] as query point i."""
    counts = np.diff(hits.offsets)[order]
    offsets = np.zeros(len(order) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    source = np.repeat(hits.offsets[:-1][order] - offsets[:-1], counts) + np.arange(offsets[-1])
    return Hits(
        offsets=offsets,
        patch_index=hits.patch_index[source],
        rows=hits.rows[source],
        cols=hits.cols[source],
        distances=hits.distances[source],
    )


def _query_segment(
    segment: Segment, ids: NDArray[np.int32], points: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return (query point, patch, place) of all hits in one segment."""
    capacity = 4 * len(points) + 256
    parts = []
    point = 0
    while point < len(points):
        out_point = np.empty(capacity, dtype=np.int64)
        out_patch = np.empty(capacity, dtype=np.int32)
        out_place = np.empty((capacity, 3), dtype=np.float64)
        following, n_hits = query_points(
            segment.view,
            ids,
            segment.levels,
            points,
            tolerance,
            point,
            out_point,
            out_patch,
            out_place,
        )
        parts.append((out_point[:n_hits], out_patch[:n_hits], out_place[:n_hits]))
        if following == point:
            parts.pop()
            capacity *= 2
        point = following
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty((0, 3))
    at_point, patch, place = (np.concatenate(column) for column in zip(*parts, strict=True))
    return at_point, patch, place
