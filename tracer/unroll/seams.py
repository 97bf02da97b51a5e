"""Where a sheet was joined to itself wrongly although no patch says otherwise.

Where the prediction runs from one wrap into the next (a layer that comes off, a merger), every
patch follows it, and no vote among patches finds it: all agree. But then two wraps count as one,
and further along they lie beside each other: a ray along the normal meets its own wrap, which
cannot be on a roll. Each such ray says that its ends must not be joined. The seam is the cheapest
cut that parts the inner ends from the outer ones: a minimum cut of the graph of patches and
touches, in which a place counts once however many patches cover it.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.evidence import Equations, Rays

_UNITS = 1000  # capacities are whole numbers
_MOST_LINKS = 3  # touches per vertex in the graph; more only cost
_FEWEST = 4.0  # places with an impossible ray that are worth a seam
_DEAR = 8.0  # times; what an earlier seam crossed, so that another one is found


def place_weights(support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much of a place each vertex is.

    Parameters
    ----------
    support : ndarray of int64, shape (n,)
        Touches per vertex.

    Returns
    -------
    ndarray of float64, shape (n,)
        One over the number of patches there.
    """
    return np.asarray(1.0 / (1.0 + support))


def find_seam(
    links: tuple[Equations, ...],
    rays: Rays,
    impossible: NDArray[np.bool_],
    weight: NDArray[np.float64],
    avoid: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_] | None:
    """Return the vertices on the inner side of the cheapest seam.

    Parameters
    ----------
    links : tuple of Equations
        Edges and touches that hold vertices together.
    rays : Rays
        What is seen along normals.
    impossible : ndarray of bool, shape (rays,)
        Rays that meet their own wrap.
    weight : ndarray of float64, shape (n,)
        See :func:`place_weights`.
    avoid : ndarray of bool, shape (n,), optional
        Inner side of a seam that did not help; another one is looked for.

    Returns
    -------
    ndarray of bool, shape (n,) or None
        None where too little speaks for a seam, or none is worth its length.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    n = len(weight)
    outward = rays.side[impossible] > 0
    start, end = rays.vertex[impossible], rays.other[impossible]
    inner, outer = np.where(outward, start, end), np.where(outward, end, start)
    share = np.minimum(weight[inner], weight[outer])
    if share.sum() < _FEWEST:
        return None
    pull = np.bincount(inner, share, n) - np.bincount(outer, share, n)
    i, j, held = _links(links, weight)
    if avoid is not None:
        held = held * np.where(avoid[i] != avoid[j], _DEAR, 1.0)
    source, sink = n, n + 1
    pulled, pushed = np.flatnonzero(pull > 0), np.flatnonzero(pull < 0)
    tails = np.concatenate([i, j, np.full(len(pulled), source), pushed])
    heads = np.concatenate([j, i, pulled, np.full(len(pushed), sink)])
    sizes = np.concatenate([held, held, pull[pulled], -pull[pushed]])
    whole = np.maximum(np.rint(sizes * _UNITS), 1).astype(np.int32)
    graph = coo_array((whole, (tails, heads)), shape=(n + 2, n + 2)).tocsr()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    left = (graph - maximum_flow(graph, source, sink).flow).tocsr()
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    side = np.zeros(n + 2, bool)
    side[reached] = True
    side = side[:n]
    parted = side[inner] & ~side[outer]
    return side if share[parted].sum() >= _FEWEST else None


def _links(
    links: tuple[Equations, ...], weight: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Return what holds vertices together, a few links per vertex of each kind."""
    ends = []
    for one in links:
        order = np.argsort(one.i, kind="stable")
        sorted_i = one.i[order]
        first = np.searchsorted(sorted_i, sorted_i)
        chosen = order[np.arange(len(order)) - first < _MOST_LINKS]
        ends.append(np.stack([one.i[chosen], one.j[chosen]]))
    i, j = np.concatenate(ends, axis=1)
    return i, j, np.minimum(weight[i], weight[j])


def without(links: Equations, inner: NDArray[np.bool_]) -> Equations:
    """Return the links that do not cross a seam.

    Parameters
    ----------
    links : Equations
        Edges or touches.
    inner : ndarray of bool, shape (n,)
        Vertices on one side.

    Returns
    -------
    Equations
        In the same order.
    """
    return links.select(inner[links.i] == inner[links.j])
