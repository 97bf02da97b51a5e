"""Which wrap every piece of every patch lies on: whole numbers, found by voting.

The azimuth of a point about the axis is known exactly; its winding is that azimuth plus a whole
number of turns. Inside a patch the number follows from continuity, and where two patches touch it
is the same for both. Each touch is therefore an equation between whole numbers *without noise*:
nothing accumulates over a hundred wraps, and a patch that jumps to a neighbouring wrap contradicts
the others by a whole turn. What is left is to find the numbers that contradict the fewest touches.

That is done by greedy merging: the two groups whose mutual votes are most one-sided are joined
first, votes of joined groups add up, and so a liar is outvoted by the time its word would matter.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Votes:
    """Equations ``turn[a] - turn[b] = shift`` between groups, with weights.

    Attributes
    ----------
    a : ndarray of int64, shape (k,)
        One group; below `b`.
    b : ndarray of int64, shape (k,)
        The other group.
    shift : ndarray of int64, shape (k,)
        Whole turns.
    weight : ndarray of float64, shape (k,)
        Sum of the weights of the touches that say so.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    shift: NDArray[np.int64]
    weight: NDArray[np.float64]


def whole_turns_between(
    turns: NDArray[np.float64], a: NDArray[np.int32], b: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return whole[a] - whole[b] of vertices at nearly the same azimuth, the short way round.

    Parameters
    ----------
    turns : ndarray of float64, shape (n,)
        Azimuths in [0, 1).
    a : ndarray of int32, shape (k,)
        Vertices.
    b : ndarray of int32, shape (k,)
        Vertices.

    Returns
    -------
    ndarray of int64, shape (k,)
        -1, 0 or 1.
    """
    return -np.floor(turns[a] - turns[b] + 0.5).astype(np.int64)


def split_pieces(
    n_vertices: int, turns: NDArray[np.float64], edges: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Return the connected pieces of a graph and the whole turns within each.

    Parameters
    ----------
    n_vertices : int
        Number of vertices.
    turns : ndarray of float64, shape (n,)
        Azimuths in [0, 1).
    edges : ndarray of int32, shape (e, 2)
        The edges that hold.

    Returns
    -------
    piece : ndarray of int32, shape (n,)
        Piece of each vertex.
    whole : ndarray of int32, shape (n,)
        Whole turns relative to the first vertex of the piece.
    n_pieces : int
        Number of pieces.
    """
    from tracer.kernels.unroll_turns import walk_pieces

    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.searchsorted(both[:, 0], np.arange(n_vertices + 1))
    piece = np.empty(n_vertices, np.int32)
    whole = np.empty(n_vertices, np.int32)
    n_pieces = walk_pieces(
        turns, starts, np.ascontiguousarray(both[:, 1]), piece, whole, np.empty_like(piece)
    )
    return piece, whole, n_pieces


def tally(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    shift: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> Votes:
    """Return equal votes added up.

    Parameters
    ----------
    a : ndarray of int64, shape (k,)
        One group per vote.
    b : ndarray of int64, shape (k,)
        The other group; votes of a group about itself are dropped.
    shift : ndarray of int64, shape (k,)
        turn[a] - turn[b].
    weight : ndarray of float64, shape (k,)
        Weight of each vote.

    Returns
    -------
    Votes
        Sorted, a < b.
    """
    other = a != b
    a, b, shift, weight = a[other], b[other], shift[other], weight[other]
    swap = a > b
    a, b, shift = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, -shift, shift)
    order = np.lexsort((shift, b, a))
    a, b, shift, weight = a[order], b[order], shift[order], weight[order]
    first = np.ones(len(a), bool)
    first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (shift[1:] != shift[:-1])
    total = np.add.reduceat(weight, np.flatnonzero(first)) if len(a) else weight
    return Votes(a=a[first], b=b[first], shift=shift[first], weight=total)


def merge_groups(n_groups: int, votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the component and the turn of every group that contradict few votes.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    votes : Votes
        Equations between them.

    Returns
    -------
    component : ndarray of int64, shape (n_groups,)
        Groups of different components are not connected by any majority.
    turn : ndarray of int64, shape (n_groups,)
        Whole turns, relative within each component.

    Notes
    -----
    Greedy additive contraction (as for correlation clustering): the pair with the largest margin
    (votes for its best shift minus all other votes) is joined, its tables of votes are added, until
    no margin is positive. Deterministic: ties go to the lower numbers. Cost: votes times logarithm,
    since the smaller table is always poured into the larger one.

    References
    ----------
    M. Keuper et al., "Efficient decomposition of image and mesh graphs by lifted multicuts",
    ICCV 2015, section 4.1 (the contraction scheme, there without shifts).
    """
    tables: list[dict[int, dict[int, float]]] = [{} for _ in range(n_groups)]
    columns = (votes.a.tolist(), votes.b.tolist(), votes.shift.tolist(), votes.weight.tolist())
    for a, b, shift, weight in zip(*columns, strict=True):
        tables[a].setdefault(b, {})[shift] = weight
        tables[b].setdefault(a, {})[-shift] = weight
    heap: list[tuple[float, int, int, int]] = []
    for a in range(n_groups):
        for b in tables[a]:
            if a < b:
                _push(heap, tables, a, b)
    parent = list(range(n_groups))
    rise = [0] * n_groups  # turn relative to the parent
    while heap:
        negative, a, b, shift = heapq.heappop(heap)
        if b not in tables[a] or _margin(tables[a][b]) != (-negative, shift):
            continue  # joined or outdated
        if len(tables[a]) < len(tables[b]):
            a, b, shift = b, a, -shift
        parent[b], rise[b] = a, -shift
        for c, table in tables[b].items():
            del tables[c][b]
            if c == a:
                continue
            target, mirrored = tables[a].setdefault(c, {}), tables[c].setdefault(a, {})
            for other, weight in table.items():
                total = target.get(other + shift, 0.0) + weight
                target[other + shift] = mirrored[-other - shift] = total
            _push(heap, tables, min(a, c), max(a, c))
        tables[b] = {}
    return _resolve(parent, rise)


def _push(
    heap: list[tuple[float, int, int, int]],
    tables: list[dict[int, dict[int, float]]],
    a: int,
    b: int,
) -> None:
    """Queue a pair of groups (a < b) if a majority of their votes agrees."""
    margin, shift = _margin(tables[a][b])
    if margin > 0.0:
        heapq.heappush(heap, (-margin, a, b, shift))


def _margin(table: dict[int, float]) -> tuple[float, int]:
    """Return by how much the best shift leads over all others together, and that shift."""
    best = min(table, key=lambda shift: (-table[shift], abs(shift), shift))
    return 2.0 * table[best] - sum(table.values()), best


def _resolve(parent: list[int], rise: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the root of every group and the turn relative to it."""
    root = np.array(parent, dtype=np.int64)
    turn = np.array(rise, dtype=np.int64)
    while True:  # pointer doubling: the depth halves each round
        above = root[root]
        if np.array_equal(above, root):
            return root, turn
        turn = turn + np.where(root == np.arange(len(root)), 0, turn[root])
        root = above
