"""What every vertex of a surface sees along its normal: the wraps outside and inside it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.frames import Frames
from tracer.unroll.overlaps import QuadCells, cast_to_next
from tracer.unroll.patches import Patches

_NEAREST = 1.0  # voxels; what is nearer is the vertex's own quads
_LONGEST = 6.0  # steps; a wrap further away is no neighbour
_OWN_CELLS = 3  # a quad within so many cells of the vertex is its own surroundings
_QUARTILE = 25
_SAME_SIDE = 0.5  # cosine; what stands across the ray is a fold or the sheet's end


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """The next wrap on either side of every node of a grid.

    Attributes
    ----------
    distance : ndarray of float64, shape (2, rows, cols)
        To the wrap outside (0) and inside (1), voxels; NaN where none is seen.
    row : ndarray of int64, shape (2, rows, cols)
        Row of the quad that is seen; -1 for none.
    col : ndarray of int64, shape (2, rows, cols)
        Its column.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]

    @property
    def gap(self) -> float:
        """Return the usual distance of neighbouring wraps.

        Returns
        -------
        float
            Lower quartile in voxels: beside a jump the next wrap is seen at twice the gap. NaN
            where no vertex sees another wrap.
        """
        seen = self.distance[np.isfinite(self.distance)]
        return float(np.percentile(seen, _QUARTILE)) if len(seen) else float("nan")


def find_neighbours(
    patches: Patches, frames: Frames, cells: QuadCells, shape: tuple[int, int]
) -> Neighbours:
    """Return the next wraps by exact intersections of the normals with the surface itself.

    Parameters
    ----------
    patches : Patches
        One surface.
    frames : Frames
        Frames of its vertices.
    cells : QuadCells
        Index of its quads.
    shape : tuple of int
        Rows and columns of its grid.

    Returns
    -------
    Neighbours
        For every node; nodes without a frame see nothing.
    """
    distance = np.full((2, *shape), np.nan)
    row = np.full((2, *shape), -1, np.int64)
    col = np.full((2, *shape), -1, np.int64)
    framed = np.flatnonzero((frames.n != 0).any(axis=1))
    for side, sign in enumerate((1.0, -1.0)):
        quad, along = cast_to_next(
            patches,
            cells,
            patches.points_xyz[framed],
            frames.n[framed] * np.float32(sign),
            nearest=_NEAREST,
            farthest=_LONGEST * patches.step,
        )
        hit = quad >= 0
        vertex, corner = framed[hit], patches.quads[quad[hit], 0]
        away = np.abs(patches.grid[vertex, 1:] - patches.grid[corner, 1:]).max(axis=1)
        facing = np.einsum("ij,ij->i", frames.n[vertex], frames.n[corner])
        good = (away > _OWN_CELLS) & (facing > _SAME_SIDE)
        _, r, c = patches.grid[vertex[good]].T
        distance[side, r, c] = along[hit][good]
        row[side, r, c] = patches.grid[corner[good], 1]
        col[side, r, c] = patches.grid[corner[good], 2]
    return Neighbours(distance=distance, row=row, col=col)
