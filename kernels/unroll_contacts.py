"""Where vertices of a collection lie on quads of other patches: exact, cell by cell.

Vertices and quads are sorted by the cell of a uniform grid that they fall into (a quad falls into
every cell that its box, grown by the reach, touches); runs of equal cells are then compared with
each other. Nothing is proportional to the size of the volume.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

_NEWTON_STEPS = 8  # quadratic convergence: a flat quad needs one, a twisted one three
_ON_BORDER = 1e-6  # cells; a point on an edge belongs to both quads
_STRIDE = 2_654_435_761  # odd and large: consecutive vertices start far apart
_NEIGHBOUR_CELLS = 3  # a vertex always touches the quads around it on its own patch


@inline_kernel
def project_on_quad(
    points_xyz: NDArray[np.float32],
    v00: int,
    v01: int,
    v10: int,
    v11: int,
    x: float,
    y: float,
    z: float,
) -> tuple[float, float, float]:
    """Return where on a bilinear quad the point nearest to a given one lies.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    v00 : int
        Vertex at (row, col).
    v01 : int
        Vertex at (row, col + 1).
    v10 : int
        Vertex at (row + 1, col).
    v11 : int
        Vertex at (row + 1, col + 1).
    x : float
        The point.
    y : float
        The point.
    z : float
        The point.

    Returns
    -------
    tuple of float
        (s along the row, t along the column, distance); s and t are not clamped, so they lie
        outside [0, 1] where the foot point lies beyond the quad. NaN for a degenerate quad.
    """
    ax = np.float64(points_xyz[v00, 0])
    ay = np.float64(points_xyz[v00, 1])
    az = np.float64(points_xyz[v00, 2])
    bx = points_xyz[v01, 0] - ax
    by = points_xyz[v01, 1] - ay
    bz = points_xyz[v01, 2] - az
    cx = points_xyz[v10, 0] - ax
    cy = points_xyz[v10, 1] - ay
    cz = points_xyz[v10, 2] - az
    dx = points_xyz[v11, 0] - ax - bx - cx
    dy = points_xyz[v11, 1] - ay - by - cy
    dz = points_xyz[v11, 2] - az - bz - cz
    px = x - ax
    py = y - ay
    pz = z - az
    s = 0.5
    t = 0.5
    rx = 0.0
    ry = 0.0
    rz = 0.0
    for _ in range(_NEWTON_STEPS):
        rx = px - s * bx - t * cx - s * t * dx
        ry = py - s * by - t * cy - s * t * dy
        rz = pz - s * bz - t * cz - s * t * dz
        ux = bx + t * dx
        uy = by + t * dy
        uz = bz + t * dz
        vx = cx + s * dx
        vy = cy + s * dy
        vz = cz + s * dz
        uu = ux * ux + uy * uy + uz * uz
        vv = vx * vx + vy * vy + vz * vz
        uv = ux * vx + uy * vy + uz * vz
        determinant = uu * vv - uv * uv
        if not determinant > 0.0:
            return math.nan, math.nan, math.nan
        ur = ux * rx + uy * ry + uz * rz
        vr = vx * rx + vy * ry + vz * rz
        ds = (vv * ur - uv * vr) / determinant
        dt = (uu * vr - uv * ur) / determinant
        s = min(max(s + ds, -1.0), 2.0)
        t = min(max(t + dt, -1.0), 2.0)
        if abs(ds) + abs(dt) < 1e-7:
            break
    rx = px - s * bx - t * cx - s * t * dx
    ry = py - s * by - t * cy - s * t * dy
    rz = pz - s * bz - t * cz - s * t * dz
    return s, t, math.sqrt(rx * rx + ry * ry + rz * rz)


@kernel
def quad_cells(
    points_xyz: NDArray[np.float32],
    quads: NDArray[np.int32],
    cell: float,
    reach: float,
    out_low: NDArray[np.int32],
    out_high: NDArray[np.int32],
) -> int:
    """Fill the range of cells that each quad's box touches, and return how many there are in all.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    cell : float
        Edge of a cell, voxels.
    reach : float
        How much a box is grown on every side, voxels.
    out_low : ndarray of int32, shape (q, 3)
        First cell, x y z.
    out_high : ndarray of int32, shape (q, 3)
        Last cell, x y z.

    Returns
    -------
    int
        Number of (quad, cell) pairs.
    """
    total = 0
    for q in range(quads.shape[0]):
        n = 1
        for axis in range(3):
            low = np.float64(points_xyz[quads[q, 0], axis])
            high = low
            for corner in range(1, 4):
                value = np.float64(points_xyz[quads[q, corner], axis])
                low = min(low, value)
                high = max(high, value)
            out_low[q, axis] = math.floor((low - reach) / cell)
            out_high[q, axis] = math.floor((high + reach) / cell)
            n *= out_high[q, axis] - out_low[q, axis] + 1
        total += n
    return total


@kernel
def list_quad_cells(
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    origin: NDArray[np.int64],
    extent: NDArray[np.int64],
    out_keys: NDArray[np.int64],
    out_quads: NDArray[np.int32],
) -> None:
    """Fill the keys of the cells that each quad touches.

    Parameters
    ----------
    low : ndarray of int32, shape (q, 3)
        First cell of each quad.
    high : ndarray of int32, shape (q, 3)
        Last cell of each quad.
    origin : ndarray of int64, shape (3,)
        Lowest cell of all.
    extent : ndarray of int64, shape (3,)
        Number of cells along x, y, z.
    out_keys : ndarray of int64, shape (n,)
        (z * ny + y) * nx + x of the cell, relative to the origin.
    out_quads : ndarray of int32, shape (n,)
        The quad.
    """
    n = 0
    for q in range(low.shape[0]):
        for k in range(low[q, 2], high[q, 2] + 1):
            for j in range(low[q, 1], high[q, 1] + 1):
                for i in range(low[q, 0], high[q, 0] + 1):
                    out_keys[n] = ((k - origin[2]) * extent[1] + (j - origin[1])) * extent[0] + (
                        i - origin[0]
                    )
                    out_quads[n] = q
                    n += 1


@kernel
def find_contacts(
    points_xyz: NDArray[np.float32],
    grid: NDArray[np.int32],
    quads: NDArray[np.int32],
    vertex_keys: NDArray[np.int64],
    vertex_order: NDArray[np.int64],
    quad_keys: NDArray[np.int64],
    quad_order: NDArray[np.int32],
    reach: float,
    most: int,
    out_index: NDArray[np.int32],
    out_location: NDArray[np.float32],
) -> int:
    """Fill the contacts of vertices with quads of other patches, or of far parts of their own.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    grid : ndarray of int32, shape (n, 3)
        Patch, row and column of each vertex.
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    vertex_keys : ndarray of int64, shape (m,)
        Cells of the vertices to look up, ascending.
    vertex_order : ndarray of int64, shape (m,)
        Those vertices.
    quad_keys : ndarray of int64, shape (k,)
        Cells of the quads, ascending.
    quad_order : ndarray of int32, shape (k,)
        Those quads.
    reach : float
        Largest distance of a contact, voxels.
    most : int
        Contacts of a vertex after which no more are looked for.
    out_index : ndarray of int32, shape (capacity, 2)
        Vertex and quad of each contact.
    out_location : ndarray of float32, shape (capacity, 3)
        s, t and distance of the foot point on the quad.

    Returns
    -------
    int
        Number of contacts; where it exceeds the capacity only the first ones were written.

    Notes
    -----
    A vertex has at most one contact per quad, but may touch several quads of one patch where its
    foot point lies on their common edge or the patch comes by twice.
    """
    n_found = 0
    a = 0
    b = 0
    while a < vertex_keys.shape[0] and b < quad_keys.shape[0]:
        if vertex_keys[a] < quad_keys[b]:
            a += 1
            continue
        if vertex_keys[a] > quad_keys[b]:
            b += 1
            continue
        key = vertex_keys[a]
        b_end = b
        while b_end < quad_keys.shape[0] and quad_keys[b_end] == key:
            b_end += 1
        while a < vertex_keys.shape[0] and vertex_keys[a] == key:
            i = vertex_order[a]
            x = np.float64(points_xyz[i, 0])
            y = np.float64(points_xyz[i, 1])
            z = np.float64(points_xyz[i, 2])
            # start somewhere else for each vertex, so that a limit does not favour any patch
            n_quads = b_end - b
            start = (i * _STRIDE) % n_quads
            here = 0
            for k in range(n_quads):
                if here == most:
                    break
                q = quad_order[b + (start + k) % n_quads]
                corner = quads[q, 0]
                if (
                    grid[corner, 0] == grid[i, 0]
                    and abs(grid[corner, 1] - grid[i, 1]) <= _NEIGHBOUR_CELLS
                    and abs(grid[corner, 2] - grid[i, 2]) <= _NEIGHBOUR_CELLS
                ):
                    continue
                s, t, distance = project_on_quad(
                    points_xyz, corner, quads[q, 1], quads[q, 2], quads[q, 3], x, y, z
                )
                if (
                    distance <= reach
                    and -_ON_BORDER <= s <= 1.0 + _ON_BORDER
                    and -_ON_BORDER <= t <= 1.0 + _ON_BORDER
                ):
                    if n_found < out_index.shape[0]:
                        out_index[n_found, 0] = i
                        out_index[n_found, 1] = q
                        out_location[n_found, 0] = s
                        out_location[n_found, 1] = t
                        out_location[n_found, 2] = distance
                    n_found += 1
                    here += 1
            a += 1
        b = b_end
    return n_found
