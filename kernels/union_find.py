"""Disjoint sets: which provisional labels are one component.

Roots are the smallest member of their set, so the outcome does not depend on the order of joins.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel


@inline_kernel
def find_root(parents: NDArray[np.int64], item: int) -> int:
    """Return the root of an item's set, halving the path to it.

    Parameters
    ----------
    parents : ndarray of int64, shape (n,)
        Parent of every item; a root is its own. Shortened in place.
    item : int
        Item.

    Returns
    -------
    int
        Smallest member of the set.
    """
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


@kernel
def join_pairs(
    parents: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Join the sets of pairs of items in place.

    Parameters
    ----------
    parents : ndarray of int64, shape (n,)
        Parent of every item; a root is its own.
    first, second : ndarray of int64, shape (pairs,)
        Items to join.
    """
    for m in range(first.shape[0]):
        a = find_root(parents, first[m])
        b = find_root(parents, second[m])
        if a < b:
            parents[b] = a
        elif b < a:
            parents[a] = b


@kernel
def flatten_sets(parents: NDArray[np.int64]) -> None:
    """Make every item a child of its root in place.

    Parameters
    ----------
    parents : ndarray of int64, shape (n,)
        Parent of every item; a parent is never larger than its child.
    """
    for item in range(parents.shape[0]):
        parents[item] = parents[parents[item]]
