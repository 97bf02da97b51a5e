"""Compare surfaces with the truth: unwrap angles over a grid, find what a surface comes near to."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

TWO_PI = 2.0 * math.pi

Vector = tuple[float, float, float]


@kernel
def unwrap_angles(
    angle: NDArray[np.float64],
    valid: NDArray[np.bool_],
    gap_limit: NDArray[np.float64],
    work_queue: NDArray[np.int64],
    out_turns: NDArray[np.int64],
    out_component: NDArray[np.int64],
) -> int:
    """Write the whole turns that make an angle continuous over a grid, and return the components.

    The grid is flooded from vertex to 4-neighbour, valid vertices first; where they run out, the
    flood crosses the smallest gaps of invalid vertices, so that an island keeps its relation to the
    mainland as long as the gap is too narrow to hide a turn.

    Parameters
    ----------
    angle : ndarray of float64, shape (rows, cols)
        Radians in any interval of one turn.
    valid : ndarray of bool, shape (rows, cols)
        Vertices to label.
    gap_limit : ndarray of float64, shape (rows, cols)
        Widest gap in grid steps that may be crossed from each valid vertex.
    work_queue : ndarray of int64, shape (4, rows * cols)
        Work array.
    out_turns : ndarray of int64, shape (rows, cols)
        ``angle + 2 pi turns`` is continuous within a component.
    out_component : ndarray of int64, shape (rows, cols)
        Number of the component, -1 where invalid.

    Returns
    -------
    int
        Number of components.
    """
    rows, cols = valid.shape
    source, gap, queue, later = work_queue[0], work_queue[1], work_queue[2], work_queue[3]
    out_component[:] = -1
    out_turns[:] = 0
    count = 0
    for root in range(rows * cols):
        if not valid[root // cols, root % cols] or out_component[root // cols, root % cols] >= 0:
            continue
        source[root] = root
        gap[root] = 0
        out_component[root // cols, root % cols] = count
        queue[0] = root
        head, tail, n_later = 0, 1, 0
        while head < tail or n_later > 0:
            if head == tail:  # the mainland is done: take the invalid fringe, nearest first
                queue[:n_later] = later[:n_later]
                head, tail, n_later = 0, n_later, 0
            here = queue[head]
            head += 1
            r, c = here // cols, here % cols
            for side in range(4):
                nr = r + (side == 0) - (side == 1)
                nc = c + (side == 2) - (side == 3)
                if nr < 0 or nr >= rows or nc < 0 or nc >= cols:
                    continue
                there = nr * cols + nc
                # Each component crosses invalid vertices anew; valid ones are taken once.
                seen = out_component[nr, nc]
                if seen == count or (valid[nr, nc] and seen >= 0):
                    continue
                origin = source[here]
                o_r, o_c = origin // cols, origin % cols
                if not valid[nr, nc]:
                    if gap[here] + 2 <= gap_limit[o_r, o_c]:
                        source[there] = origin
                        out_component[nr, nc] = count
                        gap[there] = gap[here] + 1
                        later[n_later] = there
                        n_later += 1
                    continue
                step = angle[nr, nc] - angle[o_r, o_c]
                out_turns[nr, nc] = out_turns[o_r, o_c] - np.int64(np.rint(step / TWO_PI))
                out_component[nr, nc] = count
                source[there] = there
                gap[there] = 0
                queue[tail] = there
                tail += 1
        count += 1
    for i in range(rows * cols):
        if not valid[i // cols, i % cols]:
            out_component[i // cols, i % cols] = -1
    return count


@inline_kernel
def _segment_distance2(p: Vector, a: Vector, b: Vector) -> float:
    """Return the squared distance of a point from a segment."""
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    length2 = dx * dx + dy * dy + dz * dz
    t = (px * dx + py * dy + pz * dz) / length2 if length2 > 0.0 else 0.0
    t = min(1.0, max(0.0, t))
    return (px - t * dx) ** 2 + (py - t * dy) ** 2 + (pz - t * dz) ** 2


@inline_kernel
def triangle_distance2(p: Vector, a: Vector, b: Vector, c: Vector) -> float:
    """Return the squared distance of a point from a triangle, which may be degenerate.

    Parameters
    ----------
    p : tuple of float
        Point.
    a : tuple of float
        Corner.
    b : tuple of float
        Corner.
    c : tuple of float
        Corner.

    Returns
    -------
    float
        Squared distance.
    """
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    px, py, pz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    n2 = nx * nx + ny * ny + nz * nz
    if n2 > 0.0:
        s = (py * vz - pz * vy) * nx + (pz * vx - px * vz) * ny + (px * vy - py * vx) * nz
        t = (uy * pz - uz * py) * nx + (uz * px - ux * pz) * ny + (ux * py - uy * px) * nz
        if s >= 0.0 and t >= 0.0 and s + t <= n2:
            height = px * nx + py * ny + pz * nz
            return height * height / n2
    return min(
        _segment_distance2(p, a, b), _segment_distance2(p, b, c), _segment_distance2(p, c, a)
    )


@inline_kernel
def _quad_is_near(p: Vector, corners: NDArray[np.float64], limit2: float) -> bool:
    """Return whether a point is near one of the four triangles about a quad's centre."""
    m = (corners[4, 0], corners[4, 1], corners[4, 2])
    for i in range(4):
        j = (i + 1) % 4
        a = (corners[i, 0], corners[i, 1], corners[i, 2])
        b = (corners[j, 0], corners[j, 1], corners[j, 2])
        if triangle_distance2(p, a, b, m) <= limit2:
            return True
    return False


@kernel
def mark_near_points(
    points_xyz: NDArray[np.float64],
    valid: NDArray[np.bool_],
    samples_xyz: NDArray[np.float64],
    cell_first: NDArray[np.int64],
    cells_xyz: NDArray[np.int64],
    cell_size: float,
    limit: float,
    out_near: NDArray[np.bool_],
) -> None:
    """Mark the samples that lie within a distance of a quad mesh; leave the other marks alone.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Vertices, voxels.
    valid : ndarray of bool, shape (rows, cols)
        Valid vertices; a quad needs four. It is taken as four triangles about its centre.
    samples_xyz : ndarray of float64, shape (n, 3)
        Samples sorted by cell, x fastest.
    cell_first : ndarray of int64, shape (cells + 1,)
        First sample of each cell.
    cells_xyz : ndarray of int64, shape (3,)
        Number of cells along x, y and z; the first cell begins at the origin.
    cell_size : float
        Edge of a cell, voxels.
    limit : float
        Distance, voxels.
    out_near : ndarray of bool, shape (n,)
        Set for samples within `limit`.
    """
    rows, cols = valid.shape
    corners = np.empty((5, 3))
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    for r in range(rows - 1):
        for c in range(cols - 1):
            if not (valid[r, c] and valid[r, c + 1] and valid[r + 1, c + 1] and valid[r + 1, c]):
                continue
            for k in range(3):
                corners[0, k] = points_xyz[r, c, k]
                corners[1, k] = points_xyz[r, c + 1, k]
                corners[2, k] = points_xyz[r + 1, c + 1, k]
                corners[3, k] = points_xyz[r + 1, c, k]
                corners[4, k] = 0.25 * corners[:4, k].sum()
                low[k] = max(0, math.floor((corners[:4, k].min() - limit) / cell_size))
                top = math.floor((corners[:4, k].max() + limit) / cell_size)
                high[k] = min(cells_xyz[k] - 1, top)
            for cz in range(low[2], high[2] + 1):
                for cy in range(low[1], high[1] + 1):
                    row = (cz * cells_xyz[1] + cy) * cells_xyz[0]
                    if high[0] < low[0]:
                        continue
                    for i in range(cell_first[row + low[0]], cell_first[row + high[0] + 1]):
                        if out_near[i]:
                            continue
                        p = (samples_xyz[i, 0], samples_xyz[i, 1], samples_xyz[i, 2])
                        if _quad_is_near(p, corners, limit * limit):
                            out_near[i] = True
