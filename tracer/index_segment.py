"""Patches prepared for point queries: the immutable building block of a spatial index.

Conventions
-----------
The surface of a patch is the union of the bilinear quads of its grid. Vertices that belong to no
quad are not part of it. Its *sample points* are the corners and the centres of its quads.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tracer.errors import CollectionError
from tracer.kernels.spatial_index import (
    BLOCK_BITS,
    MAX_VERTICES,
    SegmentView,
    count_entries,
    fill_entries,
    move_cells,
)
from tracer.surface import Surface


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchGrid:
    """The part of a patch that is indexed.

    Attributes
    ----------
    name : str
        Name of the patch.
    fingerprint : str
        Changes whenever the patch's geometry may have changed; empty in memory.
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels; NaN where invalid.
    """

    name: str
    fingerprint: str
    points_xyz: NDArray[np.float32]

    @classmethod
    def of_surface(cls, name: str, surface: Surface) -> "PatchGrid":
        """Return the grid of a surface.

        Parameters
        ----------
        name : str
            Name of the patch.
        surface : Surface
            Its geometry.

        Returns
        -------
        PatchGrid
            With NaN at invalid vertices.
        """
        points = surface.points_xyz.copy()
        points[~surface.valid] = np.nan
        return cls(name=name, fingerprint="", points_xyz=points)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Some patches, indexed; immutable.

    Attributes
    ----------
    names : tuple of str
        Names of the patches.
    fingerprints : tuple of str
        Their fingerprints.
    view : SegmentView
        Arrays of the hash grid, read-only.
    levels : int
        Bit k is set where level k has entries.
    boxes : ndarray of float64, shape (p, 2, 3)
        Bounding boxes of the patches; NaN for empty ones.
    n_rejected : int
        Quads left out because their coordinates are absurd.
    problems : mapping of str to str
        Patches that cannot be read, and why.
    file : str
        File that the segment is mapped from; empty in memory.
    """

    names: tuple[str, ...]
    fingerprints: tuple[str, ...]
    view: SegmentView
    levels: int
    boxes: NDArray[np.float64]
    n_rejected: int
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file: str = ""

    def points(self, patch: int) -> NDArray[np.float32]:
        """Return the vertex grid of a patch.

        Parameters
        ----------
        patch : int
            Its number in this segment.

        Returns
        -------
        ndarray of float32, shape (rows, cols, 3)
            NaN where invalid.
        """
        start, stop = self.view.patch_start[patch : patch + 2]
        return self.view.vertices[start:stop].reshape(-1, int(self.view.patch_cols[patch]), 3)

    def grids(self) -> Iterator[PatchGrid]:
        """Return the patches again, for building other segments.

        Yields
        ------
        PatchGrid
            One per patch, in order.
        """
        for patch, (name, fingerprint) in enumerate(
            zip(self.names, self.fingerprints, strict=True)
        ):
            yield PatchGrid(name=name, fingerprint=fingerprint, points_xyz=self.points(patch))


def build_segment(grids: Sequence[PatchGrid], problems: Mapping[str, str] | None = None) -> Segment:
    """Return patches, indexed.

    Parameters
    ----------
    grids : sequence of PatchGrid
        The patches; an empty grid (0 rows) stands for a patch that cannot be read.
    problems : mapping of str to str, optional
        Why those cannot be read, by name.

    Returns
    -------
    Segment
        With read-only arrays.

    Raises
    ------
    CollectionError
        If there are more than 2**27 vertices; build several segments then.

    Notes
    -----
    About 0.3 µs and 40 bytes per quad at step 20.
    """
    sizes = np.array([grid.points_xyz.shape[0] * grid.points_xyz.shape[1] for grid in grids])
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if start[-1] > MAX_VERTICES:
        raise CollectionError(
            f"{start[-1]} vertices in one segment of the index; at most {MAX_VERTICES} fit"
        )
    # an empty grid has no columns to divide by
    cols = np.array([max(grid.points_xyz.shape[1], 1) for grid in grids], dtype=np.int64)
    vertices = np.empty((int(start[-1]), 3), dtype=np.float32)
    boxes = np.full((len(grids), 2, 3), np.nan)
    for patch, grid in enumerate(grids):
        flat = grid.points_xyz.reshape(-1, 3)
        vertices[start[patch] : start[patch + 1]] = flat
        finite = flat[~np.isnan(flat[:, 0])]
        if len(finite):
            boxes[patch] = finite.min(axis=0), finite.max(axis=0)
    table, n_entries, n_rejected = _count(vertices, start, cols)
    entries = np.empty(n_entries, dtype=np.int64)
    fill_entries(vertices, start, cols, table, entries)
    used = np.unique(table[table[:, 0] >= 0, 0] >> 60)
    blocks = np.arange(0, len(vertices), 1 << BLOCK_BITS)
    of_block = (np.searchsorted(start, blocks, side="right") - 1).astype(np.int32)
    view = SegmentView(table, entries, vertices, start, cols, of_block)
    for array in (*view, boxes):
        array.setflags(write=False)
    return Segment(
        names=tuple(grid.name for grid in grids),
        fingerprints=tuple(grid.fingerprint for grid in grids),
        view=view,
        levels=int(sum(1 << int(level) for level in used)),
        boxes=boxes,
        n_rejected=n_rejected,
        problems=dict(problems or {}),
    )


def _count(
    vertices: NDArray[np.float32], start: NDArray[np.int64], cols: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, int]:
    """Return (table with counts, entries, rejected quads); the table grows as needed."""
    table = np.full((64, 2), -1, dtype=np.int64)
    vertex, n_cells, n_rejected = 0, 0, 0
    while True:
        vertex, n_cells, rejected = count_entries(vertices, start, cols, vertex, n_cells, table)
        n_rejected += rejected
        if vertex == len(vertices):
            break
        larger = np.full((2 * len(table), 2), -1, dtype=np.int64)
        move_cells(table, larger)
        table = larger
    occupied = table[:, 0] >= 0
    return table, int(table[occupied, 1].sum()), n_rejected


def with_grids(
    parts: Sequence[tuple[Segment, NDArray[np.bool_]]],
    grids: Sequence[PatchGrid],
    problems: Mapping[str, str] | None = None,
) -> tuple[list[Segment], list[NDArray[np.bool_]]]:
    """Return segments and their living patches with some patches added in memory.

    Parameters
    ----------
    parts : sequence of (Segment, ndarray of bool)
        Segments and which of their patches live.
    grids : sequence of PatchGrid
        Patches to add.
    problems : mapping of str to str, optional
        Why empty ones among them cannot be read.

    Returns
    -------
    segments : list of Segment
        Mapped ones as they were; those in memory merged like a binary counter, so that n additions
        cost n log n and leave log n segments.
    alive : list of ndarray of bool
        Which of their patches live.
    """
    kept = [part for part in parts if part[1].any()]
    fresh, reasons = list(grids), dict(problems or {})
    while kept and not kept[-1][0].file and len(kept[-1][0].names) <= len(fresh):
        segment, alive = kept.pop()
        fresh = [g for g, lives in zip(segment.grids(), alive, strict=True) if lives] + fresh
        reasons.update(segment.problems)
    if fresh:
        kept.append((build_segment(fresh, reasons), np.ones(len(fresh), bool)))
    return [segment for segment, _ in kept], [alive for _, alive in kept]


def quad_samples(points_xyz: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sample points of a patch: the corners and the centres of its quads.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels; NaN where invalid.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Corners, then centres, each in grid order.
    """
    points = points_xyz.astype(np.float64)
    if min(points.shape[:2]) < 2:
        return np.empty((0, 3))
    sums = points[:-1, :-1] + points[:-1, 1:] + points[1:, :-1] + points[1:, 1:]
    quads = ~np.isnan(sums[..., 0])
    corners = np.zeros(points.shape[:2], dtype=bool)
    for rows in (slice(None, -1), slice(1, None)):
        for cols in (slice(None, -1), slice(1, None)):
            corners[rows, cols] |= quads
    return np.concatenate([points[corners], 0.25 * sums[quads]])
