"""Loops of nested voxel bodies: a cell complex reduced to the few cells that carry its homology.

A body is the union of closed voxel cubes. Its cells lie on a grid of 2 n + 1 places per axis: even
indices are points, odd ones extents, so that (1, 1, 1) is a voxel and (0, 1, 1) a face of it, and a
cell's faces are its neighbours along odd axes, its cofaces those along even axes. Two bodies, one
inside the other, are one grid of levels: 0 in the inner one, 1 in the outer one only, 2 outside.

:func:`collapse_cells` removes cells in pairs, a cell and its only remaining coface of the same
level, which changes no loop; where no pair is left it removes one cell alone, a *critical* one.
What is left of homology is between critical cells: :func:`critical_boundaries` follows the pairs
from a critical face to the critical edges that its rim becomes (Forman's discrete Morse theory,
with the levels as a filtration; all arithmetic modulo 2).
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

OUTSIDE = 2  # level of cells of neither body
# States of a cell. Pairs are marked on the lower cell by the direction of the upper one.
FREE = 0
UP = 1  # + 2 axis + (1 towards larger indices): 1 to 6
TAKEN = 7  # the upper cell of a pair
CRITICAL = 8

Cells = NDArray[np.uint8]


@kernel
def cell_levels(voxel_levels: Cells) -> Cells:
    """Return the level of every cell: the lowest of the voxels that it touches.

    Parameters
    ----------
    voxel_levels : ndarray of uint8, shape (z, y, x)
        0 in the inner body, 1 in the outer one only, 2 outside.

    Returns
    -------
    ndarray of uint8, shape (2 z + 1, 2 y + 1, 2 x + 1)
        Levels.
    """
    nz, ny, nx = voxel_levels.shape
    out = np.full((2 * nz + 1, 2 * ny + 1, 2 * nx + 1), OUTSIDE, np.uint8)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                level = voxel_levels[z, y, x]
                if level >= OUTSIDE:
                    continue
                for k in range(2 * z, 2 * z + 3):
                    for j in range(2 * y, 2 * y + 3):
                        for i in range(2 * x, 2 * x + 3):
                            if level < out[k, j, i]:
                                out[k, j, i] = level
    return out


@inline_kernel
def _coface_direction(levels: Cells, states: Cells, z: int, y: int, x: int) -> int:
    """Return the direction of the only coface that is left, 0 where there is none or several."""
    found = 0
    if z % 2 == 0:
        if z > 0 and levels[z - 1, y, x] < OUTSIDE and states[z - 1, y, x] == FREE:
            found = UP
        if (
            z + 1 < levels.shape[0]
            and levels[z + 1, y, x] < OUTSIDE
            and states[z + 1, y, x] == FREE
        ):
            if found:
                return 0
            found = UP + 1
    if y % 2 == 0:
        if y > 0 and levels[z, y - 1, x] < OUTSIDE and states[z, y - 1, x] == FREE:
            if found:
                return 0
            found = UP + 2
        if (
            y + 1 < levels.shape[1]
            and levels[z, y + 1, x] < OUTSIDE
            and states[z, y + 1, x] == FREE
        ):
            if found:
                return 0
            found = UP + 3
    if x % 2 == 0:
        if x > 0 and levels[z, y, x - 1] < OUTSIDE and states[z, y, x - 1] == FREE:
            if found:
                return 0
            found = UP + 4
        if (
            x + 1 < levels.shape[2]
            and levels[z, y, x + 1] < OUTSIDE
            and states[z, y, x + 1] == FREE
        ):
            if found:
                return 0
            found = UP + 5
    return found


@inline_kernel
def _step(direction: int) -> tuple[int, int, int]:
    """Return the offset z, y, x of a direction of 1 to 6."""
    axis, sign = (direction - UP) // 2, 2 * ((direction - UP) % 2) - 1
    return (
        sign if axis == 0 else 0,
        sign if axis == 1 else 0,
        sign if axis == 2 else 0,
    )


@inline_kernel
def _push_faces(
    levels: Cells,
    states: Cells,
    queue: NDArray[np.int64],
    tail: int,
    level: int,
    z: int,
    y: int,
    x: int,
) -> int:
    """Append the faces of a removed cell that have one coface left; return the new tail."""
    ny, nx = levels.shape[1], levels.shape[2]
    for direction in range(UP, UP + 6):
        dz, dy, dx = _step(direction)
        if (dz != 0 and z % 2 == 0) or (dy != 0 and y % 2 == 0) or (dx != 0 and x % 2 == 0):
            continue
        k, j, i = z + dz, y + dy, x + dx
        if (
            levels[k, j, i] == level
            and states[k, j, i] == FREE
            and _coface_direction(levels, states, k, j, i)
        ):
            queue[tail % queue.shape[0]] = (k * ny + j) * nx + i
            tail += 1
    return tail


@kernel
def _grown(queue: NDArray[np.int64], head: int, tail: int) -> NDArray[np.int64]:
    """Return a ring of twice the size with the entries from head to tail at its beginning."""
    out = np.empty(2 * queue.shape[0], np.int64)
    for n in range(head, tail):
        out[n - head] = queue[n % queue.shape[0]]
    return out


@kernel
def _cells_of_level(levels: Cells, level: int) -> NDArray[np.int64]:
    """Return the flat indices of the cells of a level, ascending."""
    every = levels.reshape(-1)
    count = 0
    for value in every:
        count += value == level
    out = np.empty(count, np.int64)
    count = 0
    for flat in range(every.shape[0]):
        if every[flat] == level:
            out[count] = flat
            count += 1
    return out


@kernel
def _pair_queued(
    levels: Cells,
    states: Cells,
    ranks: NDArray[np.int32],
    edges: NDArray[np.int64],
    n_edges: int,
    queue: NDArray[np.int64],
    tail: int,
    level: int,
    dimension: int,
) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Pair queued cells with their cofaces until none is left; return edges, count, queue."""
    _, ny, nx = levels.shape
    head = 0
    while head < tail:
        if tail - head + 6 > queue.shape[0]:
            queue = _grown(queue, head, tail)
            head, tail = 0, tail - head
        flat = queue[head % queue.shape[0]]
        head += 1
        z, y, x = flat // (ny * nx), flat // nx % ny, flat % nx
        direction = _coface_direction(levels, states, z, y, x)
        if states[z, y, x] != FREE or direction == 0:
            continue
        states[z, y, x] = direction
        if dimension == 2:
            if n_edges == edges.shape[0]:
                edges = _grown(edges, 0, n_edges)
            edges[n_edges] = flat
            ranks[z, y, x] = n_edges
            n_edges += 1
        dz, dy, dx = _step(direction)
        states[z + dz, y + dy, x + dx] = TAKEN
        tail = _push_faces(levels, states, queue, tail, level, z + dz, y + dy, x + dx)
    return edges, n_edges, queue


@kernel
def collapse_cells(
    levels: Cells,
) -> tuple[Cells, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return how the cells of two nested bodies pair up, and which ones are left.

    Parameters
    ----------
    levels : ndarray of uint8, shape (2 z + 1, 2 y + 1, 2 x + 1)
        From :func:`cell_levels`.

    Returns
    -------
    states : ndarray of uint8, same shape
        UP to UP + 5 on the lower cells of pairs, TAKEN, CRITICAL; FREE outside.
    ranks : ndarray of int32, same shape
        Place in `edges` of the edges that are paired with a face; -1 elsewhere.
    edges : ndarray of int64, shape (n,)
        Flat indices of these edges, by the time of their removal.
    critical : ndarray of int64, shape (m,)
        Flat indices of the critical cells: those of level 1, voxels first, then those of level 0.

    Notes
    -----
    Level 1 goes first and each level from voxels to points. When a pair goes, the other faces of
    its upper cell are still there and get a later rank: the pairs have no cycles.
    """
    _, ny, nx = levels.shape
    states = np.zeros(levels.shape, np.uint8)
    ranks = np.full(levels.shape, -1, np.int32)
    edges = np.empty(1024, np.int64)
    critical = np.empty(64, np.int64)
    queue = np.empty(4096, np.int64)
    n_edges = n_critical = 0
    for level in (1, 0):
        cells = _cells_of_level(levels, level)
        for dimension in (3, 2, 1, 0):
            # All pairs that there are, from all sides at once: the rims of critical faces then
            # have a short way to go. Then cells that have none, and the pairs which that frees.
            tail = 0
            for flat in cells:
                z, y, x = flat // (ny * nx), flat // nx % ny, flat % nx
                if (
                    z % 2 + y % 2 + x % 2 == dimension - 1
                    and states[z, y, x] == FREE
                    and _coface_direction(levels, states, z, y, x)
                ):
                    if tail == queue.shape[0]:
                        queue = _grown(queue, 0, tail)
                    queue[tail] = flat
                    tail += 1
            edges, n_edges, queue = _pair_queued(
                levels, states, ranks, edges, n_edges, queue, tail, level, dimension
            )
            for flat in cells:
                z, y, x = flat // (ny * nx), flat // nx % ny, flat % nx
                if z % 2 + y % 2 + x % 2 != dimension or states[z, y, x] != FREE:
                    continue
                states[z, y, x] = CRITICAL
                if n_critical == critical.shape[0]:
                    critical = _grown(critical, 0, n_critical)
                critical[n_critical] = flat
                n_critical += 1
                tail = _push_faces(levels, states, queue, 0, level, z, y, x)
                edges, n_edges, queue = _pair_queued(
                    levels, states, ranks, edges, n_edges, queue, tail, level, dimension
                )
    return states, ranks, edges[:n_edges], critical[:n_critical]


@kernel
def critical_boundaries(
    states: Cells,
    ranks: NDArray[np.int32],
    edges: NDArray[np.int64],
    n_critical: int,
    faces: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """Return the critical edges that the rims of critical faces become.

    Parameters
    ----------
    states, edges : ndarray
        From :func:`collapse_cells`.
    ranks : ndarray of int32
        From there; critical edges are numbered on, len(edges) + 0, 1, …
    n_critical : int
        Critical edges.
    faces : ndarray of int64, shape (f,)
        Flat indices of critical faces.

    Returns
    -------
    ndarray of uint64, shape (⌈f / 64⌉, n_critical)
        Bit i of word w: whether the rim of face 64 w + i meets the edge an odd number of times.

    Notes
    -----
    64 faces go at once, a bit each. Edges are followed by their rank, so that all that can come
    has come: one pass over the edges, where a heap of what waits took 30 times as long.
    """
    _, ny, nx = states.shape
    n_edges = edges.shape[0]
    words = (faces.shape[0] + 63) // 64
    out = np.empty((words, n_critical), np.uint64)
    met = np.empty(n_edges + n_critical, np.uint64)
    for word in range(words):
        met[:] = 0
        for bit in range(min(64, faces.shape[0] - 64 * word)):
            flat = faces[64 * word + bit]
            z, y, x = flat // (ny * nx), flat // nx % ny, flat % nx
            _add_edges(ranks, met, np.uint64(1) << np.uint64(bit), z, y, x)
        for rank in range(n_edges):
            bits = met[rank]
            if bits == 0:
                continue
            flat = edges[rank]
            z, y, x = flat // (ny * nx), flat // nx % ny, flat % nx
            dz, dy, dx = _step(int(states[z, y, x]))
            _add_edges(ranks, met, bits, z + dz, y + dy, x + dx)
        out[word] = met[n_edges:]
    return out


@inline_kernel
def _add_edges(
    ranks: NDArray[np.int32], met: NDArray[np.uint64], bits: np.uint64, z: int, y: int, x: int
) -> None:
    """Flip bits on the edges of a face; those that are paired with a point lead nowhere."""
    for direction in range(UP, UP + 6):
        dz, dy, dx = _step(direction)
        if (dz != 0 and z % 2 == 0) or (dy != 0 and y % 2 == 0) or (dx != 0 and x % 2 == 0):
            continue
        rank = ranks[z + dz, y + dy, x + dx]
        if rank >= 0:
            met[rank] ^= bits
