"""The grid of a growing patch: its arrays, limits and counters, and what refusals are called.

Coordinates are voxels in the order x, y, z; grids are indexed ``[row, col]``. Every grid has a
margin of unused cells, so that stencils need no index test.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel
from tracer.kernels.placement import EMPTY, ON_SHEET

WORK_ROWS = 8  # of the scratch that the kernels pass on, 9 values each
MARGIN = 4  # unused cells on every side of the grid, so that stencils need no index test

# status of grow_generations
FINISHED = 0  # the fringe is empty
NEEDS_CHUNKS = 1  # load all chunks within reach of the active vertices and call again
ALL_GENERATIONS = 2  # the last generation asked for is done

# entries of the counters array
GENERATION = 0
ACCEPTED = 1
FRINGE = 2
ROW_MIN = 3
ROW_MAX = 4
COL_MIN = 5
COL_MAX = 6
THICKNESS_COUNT = 7
N_COUNTERS = 8

# why a candidate was refused: entries of the rejections array
ACCEPT = 0
NOT_COMPACT = 1  # too few neighbours
OUTSIDE = 2  # beyond the volume
OFF_PREDICTION = 3  # an edge leaves the prediction
COST = 4  # the structure is bent or stretched
THICK = 5  # merged sheets or a blob
TILT = 6  # the mesh cuts across the sheet
VALLEY = 7  # an edge passes between two sheets
FOLD = 8  # no mesh normal: a cell is folded
SLIP = 9  # a neighbour lies on another sheet
ROUGH = 10  # the scans around do not see one plane: sheets fork there
N_REASONS = 11
REASON_NAMES = {
    NOT_COMPACT: "not_compact",
    OUTSIDE: "outside_volume",
    OFF_PREDICTION: "off_prediction",
    COST: "cost",
    THICK: "thick",
    TILT: "tilt",
    VALLEY: "valley",
    FOLD: "fold",
    SLIP: "slip",
    ROUGH: "rough",
}


class PatchGrid(NamedTuple):
    """State of a growing patch; every array has the grid's shape (rows, cols).

    Attributes
    ----------
    points : ndarray of float64, shape (rows, cols, 3)
        Vertices, x, y, z, in voxels.
    normals : ndarray of float64, shape (rows, cols, 3)
        Sheet normal of each accepted vertex.
    state : ndarray of uint8
        See :mod:`tracer.kernels.placement`.
    generation : ndarray of int32
        Generation at which the vertex was accepted.
    cost : ndarray of float64
        Cost at acceptance.
    confidence : ndarray of float64
        Share of the scans around the vertex that saw one clean sheet.
    tilt : ndarray of float64
        Sine of the angle between mesh and sheet normal.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    state: NDArray[np.uint8]
    generation: NDArray[np.int32]
    cost: NDArray[np.float64]
    confidence: NDArray[np.float64]
    tilt: NDArray[np.float64]


class GrowthLimits(NamedTuple):
    """Limits of acceptance.

    Attributes
    ----------
    generations : int
        Last generation.
    worst_distance : float
        Largest signed distance along the new edges, voxels.
    max_cost : float
        Largest cost.
    thickness_factor : float
        A run thicker than this times the patch's own thickness, plus one voxel, is a merger.
    max_thick : int
        Number of thick scans, of nine, that are tolerated.
    max_rough : float
        Largest root mean square of the sheet about its local plane, voxels.
    max_tilt : float
        Largest sine of the angle between mesh and sheet normal.
    max_turn : float
        Largest sine of the angle between the sheet normals of neighbours.
    max_slip : float
        Largest offset of neighbours along their mean normal, as a share of their distance. It is
        zero on any circle, whatever its radius, so it can be far smaller than a jump.
    probe_radius : float
        Radius of the ring of scans, voxels.
    probe_reach : float
        Reach of a scan to either side, voxels.
    relax_rings : int
        Generations that relaxation still moves.
    relax_sweeps : int
        Relaxation sweeps per generation.
    final_sweeps : int
        Relaxation sweeps over the finished patch.
    """

    generations: int
    worst_distance: float
    max_cost: float
    thickness_factor: float
    max_thick: int
    max_rough: float
    max_tilt: float
    max_turn: float
    max_slip: float
    probe_radius: float
    probe_reach: float
    relax_rings: int
    relax_sweeps: int
    final_sweeps: int


@inline_kernel
def borrow_grid(grid: PatchGrid) -> PatchGrid:
    """Return a grid without the cost of counting references, see :func:`borrowed`.

    Parameters
    ----------
    grid : PatchGrid
        Argument of a kernel.

    Returns
    -------
    PatchGrid
        The same arrays.
    """
    return PatchGrid(
        borrowed(grid.points),
        borrowed(grid.normals),
        borrowed(grid.state),
        borrowed(grid.generation),
        borrowed(grid.cost),
        borrowed(grid.confidence),
        borrowed(grid.tilt),
    )


@inline_kernel
def mesh_normal(
    grid: PatchGrid, row: int, col: int, px: float, py: float, pz: float
) -> tuple[float, float, float, bool]:
    """Return the unit normal (d/dcol x d/drow) of the mesh around a vertex placed at p.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    px, py, pz : float
        Where it is.

    Returns
    -------
    tuple
        Normal x, y, z, and whether there is one: cells around a fold cancel out. Where no two
        neighbours span a cell, the mean normal of the neighbours is taken.
    """
    nx = ny = nz = 0.0
    for k in range(4):
        dr = 1 if k < 2 else -1
        dc = 1 if k % 2 == 0 else -1
        if grid.state[row + dr, col] == EMPTY or grid.state[row, col + dc] == EMPTY:
            continue
        ax = dc * (grid.points[row, col + dc, 0] - px)
        ay = dc * (grid.points[row, col + dc, 1] - py)
        az = dc * (grid.points[row, col + dc, 2] - pz)
        bx = dr * (grid.points[row + dr, col, 0] - px)
        by = dr * (grid.points[row + dr, col, 1] - py)
        bz = dr * (grid.points[row + dr, col, 2] - pz)
        nx += ay * bz - az * by
        ny += az * bx - ax * bz
        nz += ax * by - ay * bx
    if nx == 0.0 and ny == 0.0 and nz == 0.0:
        for k in range(9):
            r, c = row - 1 + k // 3, col - 1 + k % 3
            if grid.state[r, c] == ON_SHEET and k != 4:
                nx += grid.normals[r, c, 0]
                ny += grid.normals[r, c, 1]
                nz += grid.normals[r, c, 2]
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if length < 1e-9:
        return 0.0, 0.0, 1.0, False
    return nx / length, ny / length, nz / length, True
