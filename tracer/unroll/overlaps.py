"""Where patches lie on one another: what says which vertices are the same place on the sheet.

One index of the quads serves touches (also between far parts of one patch, which a patch that comes
back to itself has) and rays to the next sheet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.patches import Patches

_MOST_TOUCHES = 12  # per vertex; more patches at one place add cost but no certainty
_CELL_OF_STEP = 1.2  # edge of a cell in steps: a quad touches few cells, a cell few quads


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuadCells:
    """Which quads touch which cell of a uniform grid; proportional to the number of quads.

    Attributes
    ----------
    keys : ndarray of int64, shape (k,)
        Cells, ascending.
    quads : ndarray of int32, shape (k,)
        A quad that touches the cell.
    origin : ndarray of int64, shape (3,)
        Lowest cell, x y z.
    extent : ndarray of int64, shape (3,)
        Number of cells along x, y, z.
    cell : float
        Edge of a cell, voxels.
    """

    keys: NDArray[np.int64]
    quads: NDArray[np.int32]
    origin: NDArray[np.int64]
    extent: NDArray[np.int64]
    cell: float

    @classmethod
    def build(cls, patches: Patches, reach: float) -> "QuadCells":
        """Return the cells that the quads of some patches touch.

        Parameters
        ----------
        patches : Patches
            The patches; at least one quad.
        reach : float
            How much the box of a quad is grown, voxels.

        Returns
        -------
        QuadCells
            The index.
        """
        from tracer.kernels.unroll_contacts import list_quad_cells, quad_cells

        cell = _CELL_OF_STEP * patches.step
        n_quads = len(patches.quads)
        low = np.empty((n_quads, 3), np.int32)
        high = np.empty((n_quads, 3), np.int32)
        total = quad_cells(patches.points_xyz, patches.quads, cell, reach, low, high)
        origin = low.min(axis=0).astype(np.int64)
        extent = high.max(axis=0).astype(np.int64) - origin + 1
        keys = np.empty(total, np.int64)
        owners = np.empty(total, np.int32)
        list_quad_cells(low, high, origin, extent, keys, owners)
        order = np.argsort(keys, kind="stable")
        return cls(keys=keys[order], quads=owners[order], origin=origin, extent=extent, cell=cell)

    def sorted_vertices(
        self, points_xyz: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the points that fall into the grid, ordered by cell.

        Parameters
        ----------
        points_xyz : ndarray of float32, shape (n, 3)
            Points in voxels.

        Returns
        -------
        keys : ndarray of int64, shape (m,)
            Cells, ascending.
        index : ndarray of int64, shape (m,)
            The points.
        """
        cells = np.floor(points_xyz.astype(np.float64) / self.cell).astype(np.int64) - self.origin
        index = np.flatnonzero(((cells >= 0) & (cells < self.extent)).all(axis=1))
        x, y, z = cells[index].T
        keys = (z * self.extent[1] + y) * self.extent[0] + x
        order = np.argsort(keys, kind="stable")
        return keys[order], index[order]


def overlap_pairs(patches: Patches, cells: QuadCells, reach: float) -> Contacts:
    """Return every vertex that lies on a quad of another patch, or of a far part of its own.

    Parameters
    ----------
    patches : Patches
        The patches.
    cells : QuadCells
        Their quads by cell, for at least this reach.
    reach : float
        Largest distance, voxels; much less than the gap between neighbouring wraps.

    Returns
    -------
    Contacts
        Ordered by vertex, then patch; at most one per vertex and patch: the nearest. A vertex that
        lies on more than a dozen patches touches a dozen of them, others than its neighbours do.
    """
    from tracer.kernels.unroll_contacts import find_contacts

    vertex_keys, vertices = cells.sorted_vertices(patches.points_xyz)
    capacity = _MOST_TOUCHES * len(vertices)
    index = np.empty((capacity, 2), np.int32)
    location = np.empty((capacity, 3), np.float32)
    n = find_contacts(
        patches.points_xyz,
        patches.grid,
        patches.quads,
        vertex_keys,
        vertices,
        cells.keys,
        cells.quads,
        reach,
        _MOST_TOUCHES,
        index,
        location,
    )
    return _nearest_per_patch(patches, index[:n], location[:n])


def cast_to_next(
    patches: Patches,
    cells: QuadCells,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    *,
    nearest: float,
    farthest: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the first quad that each ray crosses beyond some distance.

    Parameters
    ----------
    patches : Patches
        The patches.
    cells : QuadCells
        Their quads by cell.
    origins : ndarray of float32, shape (m, 3)
        Where the rays begin.
    directions : ndarray of float32, shape (m, 3)
        Unit directions.
    nearest : float
        Distance from which on a crossing counts, voxels.
    farthest : float
        Length of the rays, voxels.

    Returns
    -------
    quad : ndarray of int32, shape (m,)
        The quad; -1 for none.
    distance : ndarray of float32, shape (m,)
        Distance to it, voxels.
    """
    from tracer.kernels.unroll_rays import cast_rays

    quad = np.empty(len(origins), np.int32)
    distance = np.empty(len(origins), np.float32)
    cast_rays(
        patches.points_xyz,
        patches.quads,
        cells.keys,
        cells.quads,
        cells.origin,
        cells.extent,
        cells.cell,
        np.ascontiguousarray(origins, dtype=np.float32),
        np.ascontiguousarray(directions, dtype=np.float32),
        nearest,
        farthest,
        quad,
        distance,
    )
    return quad, distance


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
