"""Where patches lie on one another: the only thing that says what is the same place on the sheet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.patches import Patches

_FIRST_CAPACITY = 8  # contacts per vertex that are made room for before they are counted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contacts:
    """Vertices that lie on quads of other patches.

    Attributes
    ----------
    vertex : ndarray of int32, shape (k,)
        The vertex.
    quad : ndarray of int32, shape (k,)
        The quad that it lies on.
    s : ndarray of float32, shape (k,)
        Where along the row of the quad, 0 to 1.
    t : ndarray of float32, shape (k,)
        Where along the column of the quad, 0 to 1.
    distance : ndarray of float32, shape (k,)
        Distance of the vertex from there, voxels.
    """

    vertex: NDArray[np.int32]
    quad: NDArray[np.int32]
    s: NDArray[np.float32]
    t: NDArray[np.float32]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vertex)

    def select(self, keep: NDArray[np.bool_]) -> "Contacts":
        """Return some of the contacts.

        Parameters
        ----------
        keep : ndarray of bool, shape (k,)
            Which ones.

        Returns
        -------
        Contacts
            In the same order.
        """
        return Contacts(
            vertex=self.vertex[keep],
            quad=self.quad[keep],
            s=self.s[keep],
            t=self.t[keep],
            distance=self.distance[keep],
        )

    def corners(self, patches: Patches) -> NDArray[np.int32]:
        """Return the corners of the quads touched.

        Parameters
        ----------
        patches : Patches
            The patches.

        Returns
        -------
        ndarray of int32, shape (k, 4)
            Vertices 00, 01, 10, 11.
        """
        return patches.quads[self.quad]

    def corner_weights(self) -> NDArray[np.float32]:
        """Return the bilinear weights of the corners.

        Returns
        -------
        ndarray of float32, shape (k, 4)
            They sum to 1.
        """
        s, t = self.s, self.t
        return np.stack([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t], axis=1)


def overlap_pairs(patches: Patches, reach: float) -> Contacts:
    """Return every vertex that lies on a quad of another patch, or of a far part of its own.

    Parameters
    ----------
    patches : Patches
        The patches.
    reach : float
        Largest distance, voxels; much less than the gap between neighbouring wraps.

    Returns
    -------
    Contacts
        Ordered by vertex, then patch; at most one per vertex and patch: the nearest.
    """
    from tracer.kernels.unroll_contacts import find_contacts, list_quad_cells, quad_cells

    points, quads = patches.points_xyz, patches.quads
    n_quads = len(quads)
    if n_quads == 0:
        return _no_contacts()
    cell = 1.2 * patches.step
    low = np.empty((n_quads, 3), np.int32)
    high = np.empty((n_quads, 3), np.int32)
    total = quad_cells(points, quads, cell, reach, low, high)
    origin = low.min(axis=0).astype(np.int64)
    extent = high.max(axis=0).astype(np.int64) - origin + 1
    keys = np.empty(total, np.int64)
    owners = np.empty(total, np.int32)
    list_quad_cells(low, high, origin, extent, keys, owners)
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]

    cells = np.floor(points.astype(np.float64) / cell).astype(np.int64) - origin
    inside = ((cells >= 0) & (cells < extent)).all(axis=1)
    vertices = np.flatnonzero(inside)
    vertex_keys = (cells[inside, 2] * extent[1] + cells[inside, 1]) * extent[0] + cells[inside, 0]
    order = np.argsort(vertex_keys, kind="stable")
    vertices, vertex_keys = vertices[order], vertex_keys[order]

    capacity = _FIRST_CAPACITY * len(points)
    while True:
        index = np.empty((capacity, 2), np.int32)
        location = np.empty((capacity, 3), np.float32)
        n = find_contacts(
            points, patches.grid, quads, vertex_keys, vertices, keys, owners, reach, index, location
        )
        if n <= capacity:
            break
        capacity = n
    return _nearest_per_patch(patches, index[:n], location[:n])


def _no_contacts() -> Contacts:
    whole, real = np.empty(0, np.int32), np.empty(0, np.float32)
    return Contacts(vertex=whole, quad=whole, s=real, t=real, distance=real)


def _nearest_per_patch(
    patches: Patches, index: NDArray[np.int32], location: NDArray[np.float32]
) -> Contacts:
    """Return the nearest contact of each vertex with each patch, sorted."""
    patch = patches.grid[patches.quads[index[:, 1], 0], 0]
    order = np.lexsort((index[:, 1], location[:, 2], patch, index[:, 0]))
    vertex, patch = index[order, 0], patch[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (vertex[1:] != vertex[:-1]) | (patch[1:] != patch[:-1])
    kept = order[is_first]
    return Contacts(
        vertex=np.ascontiguousarray(index[kept, 0]),
        quad=np.ascontiguousarray(index[kept, 1]),
        s=np.ascontiguousarray(location[kept, 0]),
        t=np.ascontiguousarray(location[kept, 1]),
        distance=np.ascontiguousarray(location[kept, 2]),
    )
