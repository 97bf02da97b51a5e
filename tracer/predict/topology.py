"""Which components, tunnels and cavities two masks have in common, in place.

Both masks are unions of closed voxel cubes (26 neighbours), and so is their union. A feature of
each is the *same* where it is the same feature of the union. In terms of homology modulo 2, H_k of
a mask maps into H_k of the union; the number of features in common is the dimension of what the
images of both masks have in common. It follows Betti matching (Stucki et al. 2023), which matches
features of two images through those of their union, but does not depend on an order of the voxels:
between features that are born and die together, as all those of a binary mask are, Betti matching
chooses by that order, and its count is the same or larger.

    dimension 0   components of the union that hold a component of both
    dimension 1   rank A + rank B - dim(A + B): the ranks from a cell complex that is reduced until
                  hardly anything is left (:mod:`tracer.kernels.cell_homology`), the sum from the
                  exact sequence of Mayer and Vietoris: all tunnels of the union, less those that
                  neither mask has alone, closed circles of overlaps between their components
    dimension 2   sums of cavities of the union that fill cavities of both
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
Counts = tuple[int, int, int]

_FACES, _ALL = 1, 3  # neighbours: through faces; through faces, edges and corners


def label_components(mask: Mask, connectivity: int = _ALL) -> tuple[Labels, int]:
    """Return the connected components of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Mask.
    connectivity : int
        1: through faces; 3: through faces, edges and corners.

    Returns
    -------
    tuple
        Number of the component per voxel, from 1, 0 outside; and how many there are.
    """
    import scipy.ndimage as ndi

    labels, count = ndi.label(mask, ndi.generate_binary_structure(3, connectivity))
    return np.asarray(labels, np.int32), int(count)


def label_cavities(mask: Mask) -> tuple[Labels, int]:
    """Return the parts of the background that do not reach the border of the volume.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Mask.

    Returns
    -------
    tuple
        Number of the cavity per voxel, from 1, 0 elsewhere; and how many there are.
    """
    labels, count = label_components(np.pad(~mask, 1, constant_values=True), _FACES)
    outside = int(labels[0, 0, 0])
    order = np.zeros(count + 1, np.int32)
    order[[i for i in range(1, count + 1) if i != outside]] = np.arange(1, count)
    return order[labels[1:-1, 1:-1, 1:-1]], count - 1


def euler_characteristic(mask: Mask) -> int:
    """Return the Euler characteristic of the union of closed voxel cubes.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Foreground, connected through faces, edges and corners.

    Returns
    -------
    int
        Components − tunnels + cavities.
    """
    padded = np.pad(mask, 1)
    cells: dict[tuple[int, ...], Mask] = {(): padded}
    for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        # A lower-dimensional cell belongs to the complex if a voxel on either side does.
        source = cells[axes[:-1]]
        low = np.take(source, np.arange(source.shape[axes[-1]] - 1), axes[-1])
        high = np.take(source, np.arange(1, source.shape[axes[-1]]), axes[-1])
        cells[axes] = low | high
    return sum(
        (-1) ** (3 - len(axes)) * int(np.count_nonzero(cell)) for axes, cell in cells.items()
    )


def count_features(mask: Mask) -> Counts:
    """Return the components, tunnels and cavities of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Mask.

    Returns
    -------
    tuple of int
        Its Betti numbers.
    """
    components, cavities = label_components(mask)[1], label_cavities(mask)[1]
    return components, components + cavities - euler_characteristic(mask), cavities


def count_kept_tunnels(inner: Mask, outer: Mask, components: int) -> int:
    """Return how many independent tunnels of a mask are still there in a larger one.

    Parameters
    ----------
    inner, outer : ndarray of bool, shape (z, y, x)
        Masks; the inner one lies in the outer one.
    components : int
        Components of the inner one.

    Returns
    -------
    int
        Rank of the map of their first homology, modulo 2.
    """
    from tracer.kernels.cell_homology import cell_levels, collapse_cells, critical_boundaries

    levels = cell_levels(np.where(inner, 0, np.where(outer, 1, 2)).astype(np.uint8))
    states, ranks, edges, critical = collapse_cells(levels)
    _, height, width = levels.shape
    dimension = (
        critical // (height * width) % 2 + critical // width % height % 2 + critical % width % 2
    )
    level = levels.reshape(-1)[critical]
    born = int(np.count_nonzero((dimension == 1) & (level == 0)))
    joining = int(np.count_nonzero((dimension == 0) & (level == 0))) - components
    # Edges of the inner body first, so that a rim's last edge is inside only if all of it is.
    ends = np.concatenate([critical[(dimension == 1) & (level == n)] for n in (0, 1)])
    ranks.reshape(-1)[ends] = len(edges) + np.arange(len(ends))
    faces = critical[dimension == 2]
    words = critical_boundaries(states, ranks, edges, len(ends), faces)
    rims = (
        set(np.flatnonzero(words[n // 64] >> np.uint64(n % 64) & np.uint64(1)).tolist())
        for n in range(len(faces))
    )
    return born - joining - sum(last < born for last in _last_edges(rims))


def _last_edges(rims: Iterable[set[int]]) -> list[int]:
    """Return the last edge of each rim that is not a sum of others, after reduction."""
    reduced: dict[int, set[int]] = {}
    for rim in rims:
        while rim and max(rim) in reduced:
            rim = rim ^ reduced[max(rim)]
        if rim:
            reduced[max(rim)] = rim
    return list(reduced)


def _count_circles(a: Mask, b: Mask) -> int:
    """Return the independent closed circles of overlaps between the components of two masks."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from tracer.kernels.cell_homology import cell_levels

    shared = cell_levels(np.where(a, 0, 2).astype(np.uint8)) == 0
    shared &= cell_levels(np.where(b, 0, 2).astype(np.uint8)) == 0
    both, overlaps = label_components(shared, _FACES)
    if overlaps == 0:
        return 0
    flat = np.flatnonzero(shared)
    cell = np.zeros(overlaps + 1, np.int64)
    cell[both.reshape(-1)[flat]] = flat  # any cell of each overlap
    where = np.stack(np.unravel_index(cell[1:], both.shape), axis=-1)
    del shared, both, flat
    ends = [np.unique(_component_at(mask, where), return_inverse=True) for mask in (a, b)]
    n_a, n = len(ends[0][0]), len(ends[0][0]) + len(ends[1][0])
    graph = coo_array((np.ones(overlaps), (ends[0][1], n_a + ends[1][1])), shape=(n, n))
    return overlaps - n + int(connected_components(graph, directed=False)[0])


def _component_at(mask: Mask, cells: NDArray[np.int64]) -> Labels:
    """Return the components of a mask that some of its cells belong to."""
    labels = np.pad(label_components(mask)[0], 1)
    found = np.zeros(len(cells), np.int32)
    for z in (0, 1):
        for y in (0, 1):
            for x in (0, 1):
                # A cell of even index 2 n lies between voxels n - 1 and n; here padded by one.
                voxels = (cells + np.array((z, y, x)) * (cells % 2 == 0) + 1) // 2
                found = np.maximum(found, labels[tuple(voxels.T)])
    return found


def _count_common_cavities(a: Labels, b: Labels, union: Labels, n_union: int) -> int:
    """Return the dimension of sums of cavities of the union that fill cavities of both masks."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if n_union == 0:
        return 0
    flat = np.flatnonzero(union)
    cavity = np.zeros(n_union + 1, np.int64)
    cavity[union.reshape(-1)[flat]] = flat  # any voxel of it: each lies in one cavity or outside
    of_a, of_b = a.reshape(-1)[cavity[1:]], b.reshape(-1)[cavity[1:]]
    n_a, n = int(of_a.max()) + 1, int(of_a.max()) + int(of_b.max()) + 2
    graph = coo_array((np.ones(n_union), (of_a, n_a + of_b)), shape=(n, n))
    groups = connected_components(graph, directed=False)[1]
    # A sum must fill whole cavities; a group that reaches the outside of a mask cannot.
    closed = set(groups[of_a].tolist()) - {int(groups[0]), int(groups[n_a])}
    return len(closed)


def match_features(prediction: Mask, label: Mask) -> tuple[Counts, Counts, Counts]:
    """Return the Betti numbers of two masks and how many features they have in common.

    Parameters
    ----------
    prediction, label : ndarray of bool, shape (z, y, x)
        Masks.

    Returns
    -------
    tuple of tuple of int
        Components, tunnels and cavities of the prediction, of the label, and in common.
    """
    union = prediction | label
    unions, n_unions = label_components(union)
    holds = np.zeros((2, n_unions + 1), np.bool_)
    counts: list[Counts] = []
    for held, mask in zip(holds, (prediction, label), strict=True):
        held[np.unique(unions[mask])] = True
        counts.append(count_features(mask))
    of_prediction, of_label = counts
    components = int((holds[0] & holds[1]).sum())
    del unions
    tunnels = 0
    if of_prediction[1] and of_label[1]:
        kept = sum(
            count_kept_tunnels(mask, union, own[0])
            for mask, own in ((prediction, of_prediction), (label, of_label))
        )
        tunnels = kept - (count_features(union)[1] - _count_circles(prediction, label))
    cavities = 0
    if of_prediction[2] and of_label[2]:
        cavities = _count_common_cavities(
            label_cavities(prediction)[0], label_cavities(label)[0], *label_cavities(union)
        )
    return of_prediction, of_label, (components, tunnels, cavities)
