"""Which chunks of the distance field a growing patch needs.

Growth samples nothing beyond a fixed reach from its active vertices, so that a look at the chunk
table before each generation is enough.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel, kernel
from tracer.kernels.field_sampling import CHUNK, NOT_LOADED, FieldView, borrow_view
from tracer.kernels.growth_grid import (
    COL_MAX,
    COL_MIN,
    FRINGE,
    ROW_MAX,
    ROW_MIN,
    PatchGrid,
    borrow_grid,
)
from tracer.kernels.placement import ON_SHEET


@inline_kernel
def _chunk_range(centre: float, reach: float, n_chunks: int) -> tuple[int, int]:
    """Return the half-open range of chunks within reach of a coordinate."""
    first = max(0, math.floor((centre - reach) / CHUNK))
    last = min(n_chunks - 1, math.floor((centre + reach) / CHUNK))
    return first, last + 1


@inline_kernel
def _lacks_chunk_near(view: FieldView, x: float, y: float, z: float, reach: float) -> bool:
    """Return whether a chunk within reach of a point is not loaded."""
    shape = view.table.shape
    i0, i1 = _chunk_range(z, reach, shape[0])
    j0, j1 = _chunk_range(y, reach, shape[1])
    k0, k1 = _chunk_range(x, reach, shape[2])
    for i in range(i0, i1):
        for j in range(j0, j1):
            for k in range(k0, k1):
                if view.table[i, j, k] == NOT_LOADED:
                    return True
    return False


@kernel
def lacks_chunks(
    grid: PatchGrid,
    fringe: NDArray[np.int64],
    counters: NDArray[np.int64],
    view: FieldView,
    oldest: int,
    reach: float,
) -> bool:
    """Return whether a chunk near the active vertices is not loaded.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    fringe : ndarray of int64, shape (n, 2)
        Vertices that are active whatever their generation.
    counters : ndarray of int64, shape (N_COUNTERS,)
        The patch's counters (length of the fringe, rows and columns in use).
    view : FieldView
        Signed distance field.
    oldest : int
        Vertices of this generation or later are active too.
    reach : float
        Distance from an active vertex that will be sampled, voxels.

    Returns
    -------
    bool
        True where growth has to wait for chunks.
    """
    grid, view, fringe = borrow_grid(grid), borrow_view(view), borrowed(fringe)
    points = grid.points
    for i in range(counters[FRINGE]):
        r, c = fringe[i, 0], fringe[i, 1]
        if _lacks_chunk_near(view, points[r, c, 0], points[r, c, 1], points[r, c, 2], reach):
            return True
    for r in range(counters[ROW_MIN], counters[ROW_MAX] + 1):
        for c in range(counters[COL_MIN], counters[COL_MAX] + 1):
            if grid.state[r, c] != ON_SHEET or grid.generation[r, c] < oldest:
                continue
            if _lacks_chunk_near(view, points[r, c, 0], points[r, c, 1], points[r, c, 2], reach):
                return True
    return False


@kernel
def chunks_near(points_xyz: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Return the chunks that cubes around points overlap.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (n, 3)
        Points in voxels.
    reach : float
        Half the edge length of the cubes, voxels.

    Returns
    -------
    ndarray of int64, shape (m, 3)
        Chunk indices z, y, x, each once, in their order; some may lie outside the volume.
    """
    n = points_xyz.shape[0]
    if n == 0:
        return np.zeros((0, 3), np.int64)
    low = np.empty(3, np.int64)
    shape = np.empty(3, np.int64)
    for a in range(3):
        smallest, largest = points_xyz[0, 2 - a], points_xyz[0, 2 - a]
        for p in range(1, n):
            smallest = min(smallest, points_xyz[p, 2 - a])
            largest = max(largest, points_xyz[p, 2 - a])
        low[a] = math.floor((smallest - reach) / CHUNK)
        shape[a] = math.floor((largest + reach) / CHUNK) - low[a] + 1
    near = np.zeros((shape[0], shape[1], shape[2]), np.bool_)
    count = 0
    for p in range(n):
        x, y, z = points_xyz[p, 0], points_xyz[p, 1], points_xyz[p, 2]
        i1 = math.floor((z + reach) / CHUNK) - low[0]
        j1 = math.floor((y + reach) / CHUNK) - low[1]
        k1 = math.floor((x + reach) / CHUNK) - low[2]
        for i in range(math.floor((z - reach) / CHUNK) - low[0], i1 + 1):
            for j in range(math.floor((y - reach) / CHUNK) - low[1], j1 + 1):
                for k in range(math.floor((x - reach) / CHUNK) - low[2], k1 + 1):
                    if not near[i, j, k]:
                        near[i, j, k] = True
                        count += 1
    chunks = np.empty((count, 3), np.int64)
    m = 0
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if near[i, j, k]:
                    chunks[m, 0], chunks[m, 1], chunks[m, 2] = i + low[0], j + low[1], k + low[2]
                    m += 1
    return chunks
