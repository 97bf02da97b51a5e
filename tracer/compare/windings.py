"""Where two sides disagree about which wrap of the scroll they lie on.

The azimuth about the axis is unwrapped over the grid of every surface. Where a surface of A and one
of B lie on the same sheet, both count the same turns but for a whole number, the same wherever the
two meet. The same holds between the surfaces of one side. These numbers are chosen for all surfaces
together, so that as many vertices as possible agree; those common to both sides that do not are
where one of them has changed sheets. Of one surface that has jumped all that is beyond the jump is
wrong; of a collection only the patches that jump themselves are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tracer.spatial_index import SpatialIndex
    from tracer.surface import Surface
    from tracer.unroll.axis import Axis

_CLEAR = 0.25  # turns; less than this off a whole number, or the place is too near to the axis
_SWEEPS = 20
_Seen = tuple[NDArray[np.float64], NDArray[np.int64]]  # turns about the axis, parts


def winding_disagreement(
    sides: Sequence[list["Surface"]], indexes: Sequence["SpatialIndex"], tolerance: float
) -> float:
    """Return the share of the common vertices at which one of the sides has switched sheets.

    Parameters
    ----------
    sides : sequence of list of Surface
        Those of A and those of B.
    indexes : sequence of SpatialIndex
        Of each side, in the same order.
    tolerance : float
        Voxels within which a vertex lies on another surface.

    Returns
    -------
    float
        NaN where nothing is common, or no axis can be found.
    """
    from tracer.errors import TracerError
    from tracer.unroll.axis import estimate_axis

    surfaces = [surface for side in sides for surface in side]
    points = np.concatenate([s.points_xyz[s.valid] for s in surfaces])
    normals = np.concatenate([s.normals()[s.valid] for s in surfaces])
    known = np.isfinite(normals[:, 0])
    try:
        axis = estimate_axis(points[known], normals[known])
    except TracerError:
        return float("nan")
    seen = [[_unwrap(surface, axis) for surface in side] for side in sides]
    first = 0  # parts are numbered through
    for _, part in (one for side in seen for one in side):
        part += np.where(part >= 0, first, 0)
        first = max(first, int(part.max(initial=-1)) + 1)
    between = _votes(sides[0], seen[0], indexes[1], seen[1], tolerance)
    if not between.shape[1]:
        return float("nan")
    within = [  # what one side says by itself: its patches overlap
        _votes(side, own, index, own, tolerance)
        for side, own, index in zip(sides, seen, indexes, strict=True)
        if len(side) > 1
    ]
    turned = _turned(first, np.concatenate([between, *within], axis=1))
    i, j, off, count = between
    return float(1.0 - count[turned[i] + off == turned[j]].sum() / count.sum())


def _votes(
    surfaces: list["Surface"],
    seen: list[_Seen],
    index: "SpatialIndex",
    others: list[_Seen],
    tolerance: float,
) -> NDArray[np.int64]:
    """Return which parts meet, by how many turns they differ there, and at how many vertices.

    Shape (4, n): part, part of the others, turns, vertices.
    """
    found = [np.empty((4, 0), np.int64)]
    for surface, grids in zip(surfaces, seen, strict=True):
        turns, part = (grid[surface.valid] for grid in grids)
        hits = index.query(surface.points_xyz[surface.valid], tolerance)
        theirs = np.full((2, len(hits.distances)), np.nan)
        for number in np.unique(hits.patch_index):
            on = hits.patch_index == number
            at = (np.rint(hits.rows[on]).astype(int), np.rint(hits.cols[on]).astype(int))
            theirs[:, on] = [grid[at] for grid in others[number]]
        off = turns[hits.point_index] - theirs[0]
        mine = part[hits.point_index]
        use = (theirs[1] >= 0) & (mine >= 0) & (theirs[1] != mine)
        use &= np.abs(off - np.rint(off)) < _CLEAR
        keys = np.stack([mine[use], theirs[1][use], np.rint(off[use])]).astype(np.int64)
        if keys.shape[1]:
            pairs, counts = np.unique(keys, axis=1, return_counts=True)
            found.append(np.concatenate([pairs, counts[None]]))
    return np.concatenate(found, axis=1)


def _turned(n: int, votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the whole number of turns to add to each part so that most vertices agree."""
    i, j, off, count = votes
    turned = _along_tree(n, i, j, off, count)
    both = np.concatenate([i, j])
    wanted = np.concatenate([j, i])
    sign = np.repeat([-1, 1], len(i))
    order = np.argsort(both, kind="stable")
    bounds = np.searchsorted(both[order], np.arange(n + 1))
    offs, counts = np.tile(off, 2), np.tile(count, 2)
    for _ in range(_SWEEPS):
        changed = False
        for node in range(n):
            mine = order[bounds[node] : bounds[node + 1]]
            if not len(mine):
                continue
            # turns of i + turned[i] = turns of j + turned[j]; off = turns of i - turns of j
            votes = turned[wanted[mine]] + sign[mine] * offs[mine]
            values, which = np.unique(votes, return_inverse=True)
            sums = np.bincount(which, weights=counts[mine])
            now = np.flatnonzero(values == turned[node])
            best = int(sums.argmax())
            if not len(now) or sums[best] > sums[now[0]]:
                turned[node] = values[best]
                changed = True
        if not changed:
            break
    return turned


def _along_tree(
    n: int,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    off: NDArray[np.int64],
    count: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the turns of all parts along the tree of those that have most in common."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components
    from scipy.sparse.csgraph import minimum_spanning_tree as spanning_tree

    order = np.lexsort((-count, j, i))  # of every pair the difference that most vertices have
    pairs = np.stack([i, j])[:, order]
    most = np.flatnonzero((np.diff(pairs, axis=1, prepend=-1) != 0).any(axis=0))
    best = order[most]
    weights = 1.0 / count[best]
    tree = spanning_tree(coo_array((weights, (i[best], j[best])), shape=(n, n)).tocsr())
    differences = {
        (int(p), int(q)): int(d) for p, q, d in zip(i[best], j[best], off[best], strict=True)
    }
    turned = np.zeros(n, np.int64)
    _, component = connected_components(tree, directed=False)
    for root in np.unique(component, return_index=True)[1]:
        nodes, before = breadth_first_order(tree, int(root), directed=False)
        for node in nodes[1:].tolist():
            parent = int(before[node])
            if (node, parent) in differences:
                turned[node] = turned[parent] - differences[node, parent]
            else:
                turned[node] = turned[parent] + differences[parent, node]
    return turned


def _unwrap(surface: "Surface", axis: "Axis") -> _Seen:
    """Return turns about the axis, continuous over each connected part, and the parts; -1 none."""
    from tracer.kernels.score import unwrap_angles

    turns = np.where(surface.valid, axis.turns(surface.points_xyz), 0.0)
    whole, part = np.zeros(turns.shape, np.int64), np.empty(turns.shape, np.int64)
    work = np.empty((4, turns.size), np.int64)
    unwrap_angles(2 * np.pi * turns, surface.valid, np.zeros(turns.shape), work, whole, part)
    return turns + whole, part
