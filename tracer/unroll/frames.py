"""Local frames of all vertices: n outward, v along the scroll in the surface, u = v x n.

Orientations are agreed on over the graph of overlaps: two patches on the same place either have the
same sign or the opposite one. No single patch decides; which side is outward is a vote of all
vertices of a connected group about the axis.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.axis import Axis
from tracer.unroll.overlaps import Contacts
from tracer.unroll.patches import Patches

_SWEEPS = 20  # of majority votes; the signs are settled after two or three


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Orthonormal frames of the vertices.

    Attributes
    ----------
    n : ndarray of float32, shape (n, 3)
        Outward unit normal; 0 where unknown.
    u : ndarray of float32, shape (n, 3)
        Unit vector along the sheet, across the axis.
    v : ndarray of float32, shape (n, 3)
        Unit vector along the axis in the sheet.
    """

    n: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]


def patch_normals(patches: Patches) -> NDArray[np.float32]:
    """Return the normals d/dcol x d/drow of all vertices.

    Parameters
    ----------
    patches : Patches
        The patches.

    Returns
    -------
    ndarray of float32, shape (n, 3)
        Unit normals, NaN where a vertex has no neighbour along one of the axes.
    """
    points, edges = patches.points_xyz.astype(np.float64), patches.edges
    along_row = patches.grid[edges[:, 0], 1] == patches.grid[edges[:, 1], 1]
    slopes = []
    for chosen in (edges[along_row], edges[~along_row]):
        step = points[chosen[:, 1]] - points[chosen[:, 0]]
        total = np.zeros_like(points)
        count = np.zeros(len(points))
        for end in (0, 1):  # each vertex takes part once per side: no index occurs twice
            total[chosen[:, end]] += step
            count[chosen[:, end]] += 1
        slopes.append(total / np.where(count > 0, count, np.nan)[:, None])
    normals = np.cross(slopes[0], slopes[1])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(length > 0, length, np.nan), dtype=np.float32)


def orientation_signs(
    patches: Patches, contacts: Contacts, normals: NDArray[np.float32], axis: Axis
) -> NDArray[np.float64]:
    """Return the sign per patch that turns its normals outward.

    Parameters
    ----------
    patches : Patches
        The patches.
    contacts : Contacts
        Their overlaps.
    normals : ndarray of float32, shape (n, 3)
        Normals with one sign per patch; NaN where unknown.
    axis : Axis
        The scroll's axis.

    Returns
    -------
    ndarray of float64, shape (patches,)
        1 or -1.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import (
        breadth_first_order,
        connected_components,
        minimum_spanning_tree,
    )

    n_patches = len(patches.names)
    points = patches.points_xyz.astype(np.float64)
    outward = points[:, :2] - axis.at(points[:, 2])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
    facing = np.nan_to_num(np.einsum("ij,ij->i", outward, normals[:, :2]))
    own = np.bincount(patches.grid[:, 0], facing, n_patches)

    corner = patches.quads[contacts.quad, 0]
    agree = np.nan_to_num(np.einsum("ij,ij->i", normals[contacts.vertex], normals[corner]))
    a, b = patches.grid[contacts.vertex, 0], patches.grid[corner, 0]
    pairs = coo_array((agree, (a, b)), shape=(n_patches, n_patches)).tocsr()
    pairs = (pairs + pairs.T).tocsr()
    pairs.setdiag(0)
    pairs.eliminate_zeros()
    tree = minimum_spanning_tree(-abs(pairs))
    _, group = connected_components(pairs, directed=False)
    sign = np.ones(n_patches)
    for root in np.unique(group, return_index=True)[1]:
        order, before = breadth_first_order(tree, root, directed=False)
        for node in order[1:]:
            sign[node] = sign[before[node]] * (1.0 if pairs[node, before[node]] >= 0 else -1.0)
    for _ in range(_SWEEPS):
        vote = pairs @ sign
        wrong = sign * vote < 0
        if not wrong.any():
            break
        sign[wrong] *= -1.0
    outward_vote = np.bincount(group, sign * own)
    return np.asarray(sign * np.where(outward_vote[group] < 0, -1.0, 1.0))


def build_frames(normals: NDArray[np.float32], signs: NDArray[np.float64]) -> Frames:
    """Return the frames of all vertices.

    Parameters
    ----------
    normals : ndarray of float32, shape (n, 3)
        Normals, NaN where unknown.
    signs : ndarray of float64, shape (n,)
        Sign per vertex that turns them outward.

    Returns
    -------
    Frames
        Zero vectors where the normal is unknown or along the axis.
    """
    n = np.nan_to_num(normals.astype(np.float64) * signs[:, None])
    v = np.array([0.0, 0.0, 1.0]) - n * n[:, 2:3]
    length = np.linalg.norm(v, axis=1, keepdims=True)
    known = (np.linalg.norm(n, axis=1, keepdims=True) > 0.5) & (length > 1e-3)
    v = np.where(known, v / np.where(known, length, 1.0), 0.0)
    u = np.cross(v, n)
    return Frames(
        n=np.where(known, n, 0.0).astype(np.float32), u=u.astype(np.float32), v=v.astype(np.float32)
    )
