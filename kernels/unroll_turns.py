"""Whole turns inside patches: walk each connected piece once and count the branch cuts crossed."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel


@kernel
def walk_pieces(
    turns: NDArray[np.float64],
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    out_piece: NDArray[np.int32],
    out_whole: NDArray[np.int32],
    work_queue: NDArray[np.int32],
) -> int:
    """Fill the connected piece of each vertex and its whole turns relative to the piece's first.

    Parameters
    ----------
    turns : ndarray of float64, shape (n,)
        Azimuth in [0, 1).
    starts : ndarray of int64, shape (n + 1,)
        Where the neighbours of each vertex begin.
    neighbours : ndarray of int32, shape (m,)
        Neighbours on the grid.
    out_piece : ndarray of int32, shape (n,)
        Pieces numbered in the order of their first vertex.
    out_whole : ndarray of int32, shape (n,)
        Whole turns: azimuth plus this is continuous over the piece (where that is possible).
    work_queue : ndarray of int32, shape (n,)
        Scratch.

    Returns
    -------
    int
        Number of pieces.
    """
    n = turns.shape[0]
    for i in range(n):
        out_piece[i] = -1
    n_pieces = 0
    for root in range(n):
        if out_piece[root] >= 0:
            continue
        out_piece[root] = n_pieces
        out_whole[root] = 0
        head = 0
        tail = 1
        work_queue[0] = root
        while head < tail:
            i = work_queue[head]
            head += 1
            for p in range(starts[i], starts[i + 1]):
                j = neighbours[p]
                if out_piece[j] < 0:
                    out_piece[j] = n_pieces
                    # the short way round from i to j
                    out_whole[j] = out_whole[i] - math.floor(turns[j] - turns[i] + 0.5)
                    work_queue[tail] = j
                    tail += 1
        n_pieces += 1
    return n_pieces
