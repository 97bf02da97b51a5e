"""The grid of a growing patch: arrays for the kernels, boxes and the chunks that they touch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tracer.kernels import growth_grid
from tracer.kernels.growth import COMPACT_LIMIT
from tracer.kernels.growth_chunks import chunks_near
from tracer.kernels.placement import ON_SHEET

_FIRST_QUAD = 4
_TILE = (
    32  # vertices: tiles of the passes over a whole patch, so that few chunks are needed at once
)
_START_WEIGHT = 50  # vertices that the regional thickness counts for in the running mean

Box = tuple[int, int, int, int]


def cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross product of two vectors; numpy's takes ten times as long for a single pair.

    Parameters
    ----------
    a, b : ndarray of float64, shape (3,)
        The vectors.

    Returns
    -------
    ndarray of float64, shape (3,)
        Their product.
    """
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


class GrowingGrid:
    """A square grid with room for a number of generations, and the growth's bookkeeping.

    Parameters
    ----------
    generations : int
        Last generation that the grid has room for.
    middle_rows, middle_cols : int
        Size of what it starts from: 2 x 2 for a first quad, the surface's shape on resume.

    Attributes
    ----------
    patch : PatchGrid
        The arrays the kernels work on.
    fringe, counters, levels, rejections : ndarray
        See :func:`tracer.kernels.growth.grow_generations`.
    work : ndarray of float64
        Scratch of the kernels.
    """

    def __init__(self, generations: int, middle_rows: int = 2, middle_cols: int = 2) -> None:
        border = generations + growth_grid.MARGIN
        rows, cols = middle_rows + 2 * border, middle_cols + 2 * border
        self.patch = growth_grid.PatchGrid(
            points=np.full((rows, cols, 3), -1.0),
            normals=np.zeros((rows, cols, 3)),
            state=np.zeros((rows, cols), np.uint8),
            generation=np.zeros((rows, cols), np.int32),
            cost=np.zeros((rows, cols)),
            confidence=np.zeros((rows, cols)),
            tilt=np.zeros((rows, cols)),
        )
        self.fringe = np.zeros((rows * cols, 2), np.int64)
        self.counters = np.zeros(growth_grid.N_COUNTERS, np.int64)
        self.levels = np.array([COMPACT_LIMIT, 0.0])
        self.rejections = np.zeros(growth_grid.N_REASONS, np.int64)
        self.work = np.zeros((growth_grid.WORK_ROWS, 9))
        self.border = border

    @property
    def shape(self) -> tuple[int, int]:
        """Return the rows and columns there is room for.

        Returns
        -------
        tuple of int
            Shape of the grid's arrays.
        """
        rows, cols = self.patch.state.shape
        return rows, cols

    @property
    def generation(self) -> int:
        """Return the last generation that was grown.

        Returns
        -------
        int
            1 for a first quad.
        """
        return int(self.counters[growth_grid.GENERATION])

    @property
    def box(self) -> Box:
        """Return the rows and columns in use.

        Returns
        -------
        tuple of int
            First and last row, first and last column.
        """
        row0, row1, col0, col1 = (int(value) for value in self.counters[growth_grid.ROW_MIN :][:4])
        return row0, row1, col0, col1

    def put_quad(
        self,
        origin_xyz: NDArray[np.float64],
        u: NDArray[np.float64],
        v: NDArray[np.float64],
        step: float,
        thickness: float,
    ) -> None:
        """Lay a flat quad around a point and make it the fringe.

        Parameters
        ----------
        origin_xyz : ndarray of float64, shape (3,)
            Middle of the quad.
        u, v : ndarray of float64, shape (3,)
            Unit directions of columns and rows.
        step : float
            Edge length, voxels.
        thickness : float
            Thickness of the sheets around, voxels.
        """
        first = self.border
        normal = cross(u, v)
        for k in range(_FIRST_QUAD):
            row, col = first + k // 2, first + k % 2
            offset = u * (k % 2 - 0.5) + v * (k // 2 - 0.5)
            self.patch.points[row, col] = origin_xyz + step * offset
            self.patch.normals[row, col] = normal
            self.patch.state[row, col] = ON_SHEET
            self.patch.generation[row, col] = 1
            self.fringe[k] = row, col
        self.counters[growth_grid.GENERATION] = 1
        self.counters[growth_grid.ACCEPTED] = self.counters[growth_grid.FRINGE] = _FIRST_QUAD
        self.counters[growth_grid.ROW_MIN :][:4] = first, first + 1, first, first + 1
        self.levels[1] = thickness
        self.counters[growth_grid.THICKNESS_COUNT] = _START_WEIGHT

    def put_patch(
        self,
        points_xyz: NDArray[np.float64],
        normals: NDArray[np.float64],
        state: NDArray[np.uint8],
        generations: NDArray[np.int64],
        thickness: float,
    ) -> None:
        """Lay a finished patch into the middle; vertices with a free neighbour become the fringe.

        Parameters
        ----------
        points_xyz, normals : ndarray of float64, shape (middle_rows, middle_cols, 3)
            Vertices in voxels and their unit normals; read where `state` is not zero.
        state : ndarray of uint8, shape (middle_rows, middle_cols)
            What each vertex is.
        generations : ndarray of int64, shape (middle_rows, middle_cols)
            When each was accepted; growth goes on after the last.
        thickness : float
            Thickness of the sheets around, voxels.
        """
        first = self.border
        rows, cols = state.shape
        window = np.s_[first : first + rows, first : first + cols]
        placed = state > 0
        self.patch.points[window][placed] = points_xyz[placed]
        self.patch.normals[window][placed] = normals[placed]
        self.patch.state[window] = state
        self.patch.generation[window] = generations
        accepted = self.patch.state == ON_SHEET
        enclosed = np.zeros_like(accepted)
        enclosed[1:-1, 1:-1] = (
            accepted[:-2, 1:-1] & accepted[2:, 1:-1] & accepted[1:-1, :-2] & accepted[1:-1, 2:]
        )
        fringe = np.argwhere(accepted & ~enclosed)
        self.fringe[: len(fringe)] = fringe
        self.counters[growth_grid.GENERATION] = generations[placed].max()
        self.counters[growth_grid.ACCEPTED] = accepted.sum()
        self.counters[growth_grid.FRINGE] = len(fringe)
        self.counters[growth_grid.ROW_MIN :][:4] = first, first + rows - 1, first, first + cols - 1
        self.levels[1] = thickness
        self.counters[growth_grid.THICKNESS_COUNT] = _START_WEIGHT

    def tiles(self, side: int = _TILE) -> Iterator[Box]:
        """Yield boxes that cover the rows and columns in use, in a fixed order.

        Parameters
        ----------
        side : int
            Most rows and columns of a box.

        Yields
        ------
        tuple of int
            First and last row, first and last column.
        """
        row0, row1, col0, col1 = self.box
        for row in range(row0, row1 + 1, side):
            for col in range(col0, col1 + 1, side):
                yield row, min(row + side - 1, row1), col, min(col + side - 1, col1)

    def active_chunks(self, reach: float, rings: int) -> NDArray[np.int64]:
        """Return the chunks that the next generation can touch.

        Parameters
        ----------
        reach : float
            Distance from an active vertex that will be sampled, voxels.
        rings : int
            Generations before the next one that are active, besides the fringe.

        Returns
        -------
        ndarray of int64, shape (n, 3)
            Chunk indices z, y, x; those outside the volume are left to the field.
        """
        oldest = int(self.counters[growth_grid.GENERATION]) + 1 - rings
        active = (self.patch.state == ON_SHEET) & (self.patch.generation >= oldest)
        on_fringe = self.fringe[: self.counters[growth_grid.FRINGE]]
        active[on_fringe[:, 0], on_fringe[:, 1]] = True
        return chunks_near(self.patch.points[active], reach)

    def chunks_of(self, box: Box, reach: float) -> NDArray[np.int64]:
        """Return the chunks within reach of the vertices of a box and their neighbours.

        Parameters
        ----------
        box : tuple of int
            First and last row, first and last column.
        reach : float
            Distance in voxels.

        Returns
        -------
        ndarray of int64, shape (n, 3)
            Chunk indices z, y, x.
        """
        window = np.s_[box[0] - 1 : box[1] + 2, box[2] - 1 : box[3] + 2]
        placed = self.patch.state[window] == ON_SHEET
        return chunks_near(self.patch.points[window][placed], reach)
