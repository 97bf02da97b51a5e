"""Where a node of a trace lies on a patch, in the patch's own grid: the consensus tracer's core.

A trace is a coarse grid laid over many patches. Its nodes know their *locations* (row, col) on
the patches they lie on, and whether a node fits is judged there, in two dimensions: neighbouring
nodes must be a fixed number of cells apart, and in line. A *neighbourhood* is the 5 x 5 nodes
around one, row by row, number 12 being itself; ``known`` says which of them have a location on the
patch at hand.

Patches are the vertex grids of a segment of the spatial index: ``vertices[patch_start[p]:]``, row
by row, ``patch_cols[p]`` columns, NaN where invalid.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.residuals import distance_residual, straightness_residual

CENTRE = 12
NEIGHBOURS = np.array([6, 7, 8, 11, 13, 16, 17, 18], dtype=np.int64)
"""Numbers of the eight neighbours in a neighbourhood."""

TRIPLES = np.array(
    [[10, 11, 12], [11, 12, 13], [12, 13, 14], [2, 7, 12], [7, 12, 17], [12, 17, 22]],
    dtype=np.int64,
)
"""Straight triples through the node: three along its row, three along its column."""

_ITERATIONS = 12
_SMALL_STEP = 1e-4  # cells; far below what a location is good for
_MOST_DAMPING = 1e6


@inline_kernel
def sample_patch(
    vertices: NDArray[np.float32], first: int, rows: int, cols: int, row: float, col: float
) -> tuple[float, float, float, bool]:
    """Return the point of a patch at a location.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Vertex grids; NaN where invalid.
    first : int
        First vertex of the patch.
    rows : int
        Rows of its grid.
    cols : int
        Columns of its grid.
    row : float
        Fractional row.
    col : float
        Fractional column.

    Returns
    -------
    tuple
        (x, y, z, ok); zeros and False off the grid or where the quad is not whole.
    """
    if not (row >= 0.0 and col >= 0.0 and row <= rows - 1.0 and col <= cols - 1.0):
        return 0.0, 0.0, 0.0, False
    if rows < 2 or cols < 2:
        return 0.0, 0.0, 0.0, False
    r = min(int(row), rows - 2)
    c = min(int(col), cols - 2)
    fr, fc = row - r, col - c
    i = first + r * cols + c
    j = i + cols
    w00, w01 = (1.0 - fr) * (1.0 - fc), (1.0 - fr) * fc
    w10, w11 = fr * (1.0 - fc), fr * fc
    v = vertices
    x = w00 * v[i, 0] + w01 * v[i + 1, 0] + w10 * v[j, 0] + w11 * v[j + 1, 0]
    y = w00 * v[i, 1] + w01 * v[i + 1, 1] + w10 * v[j, 1] + w11 * v[j + 1, 1]
    z = w00 * v[i, 2] + w01 * v[i + 1, 2] + w10 * v[j, 2] + w11 * v[j + 1, 2]
    if math.isnan(x + y + z):
        return 0.0, 0.0, 0.0, False
    return x, y, z, True


@inline_kernel
def patch_slopes(
    vertices: NDArray[np.float32], first: int, rows: int, cols: int, row: float, col: float
) -> tuple[float, float, float, float, float, float, bool]:
    """Return how the point of a patch changes with its location.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Vertex grids; NaN where invalid.
    first : int
        First vertex of the patch.
    rows : int
        Rows of its grid.
    cols : int
        Columns of its grid.
    row : float
        Fractional row.
    col : float
        Fractional column.

    Returns
    -------
    tuple
        Change of x, y, z per row, per column, and whether the location is on the patch.
    """
    if not (row >= 0.0 and col >= 0.0 and row <= rows - 1.0 and col <= cols - 1.0):
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False
    if rows < 2 or cols < 2:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False
    r = min(int(row), rows - 2)
    c = min(int(col), cols - 2)
    fr, fc = row - r, col - c
    i = first + r * cols + c
    j = i + cols
    v = vertices
    by_row_x = (1.0 - fc) * (v[j, 0] - v[i, 0]) + fc * (v[j + 1, 0] - v[i + 1, 0])
    by_row_y = (1.0 - fc) * (v[j, 1] - v[i, 1]) + fc * (v[j + 1, 1] - v[i + 1, 1])
    by_row_z = (1.0 - fc) * (v[j, 2] - v[i, 2]) + fc * (v[j + 1, 2] - v[i + 1, 2])
    by_col_x = (1.0 - fr) * (v[i + 1, 0] - v[i, 0]) + fr * (v[j + 1, 0] - v[j, 0])
    by_col_y = (1.0 - fr) * (v[i + 1, 1] - v[i, 1]) + fr * (v[j + 1, 1] - v[j, 1])
    by_col_z = (1.0 - fr) * (v[i + 1, 2] - v[i, 2]) + fr * (v[j + 1, 2] - v[j, 2])
    total = by_row_x + by_row_y + by_row_z + by_col_x + by_col_y + by_col_z
    if math.isnan(total):
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False
    return by_row_x, by_row_y, by_row_z, by_col_x, by_col_y, by_col_z, True


@inline_kernel
def patch_normal(
    vertices: NDArray[np.float32], first: int, rows: int, cols: int, row: float, col: float
) -> tuple[float, float, float, bool]:
    """Return the unit normal d/dcol x d/drow of a patch at a location.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Vertex grids; NaN where invalid.
    first : int
        First vertex of the patch.
    rows : int
        Rows of its grid.
    cols : int
        Columns of its grid.
    row : float
        Fractional row.
    col : float
        Fractional column.

    Returns
    -------
    tuple
        The normal, and False where there is none.
    """
    rx, ry, rz, cx, cy, cz, ok = patch_slopes(vertices, first, rows, cols, row, col)
    nx, ny, nz = cy * rz - cz * ry, cz * rx - cx * rz, cx * ry - cy * rx
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if not ok or not length > 0.0:
        return 0.0, 0.0, 0.0, False
    return nx / length, ny / length, nz / length, True


@kernel
def location_cost(
    locations: NDArray[np.float64],
    known: NDArray[np.bool_],
    row: float,
    col: float,
    target: float,
    distance_weight: float,
    straight_weight: float,
) -> tuple[float, int, int]:
    """Return how well a location of the node fits those of the nodes around it.

    Parameters
    ----------
    locations : ndarray of float64, shape (25, 2)
        Rows and columns of the neighbourhood on one patch.
    known : ndarray of bool, shape (25,)
        Which of them exist.
    row : float
        Row of the node's location.
    col : float
        Column of the node's location.
    target : float
        Cells that direct neighbours should be apart.
    distance_weight : float
        Weight of distances.
    straight_weight : float
        Weight of straightness.

    Returns
    -------
    tuple
        Root mean square residual (infinite without any), number of residuals, how many of them are
        of straightness.
    """
    total = 0.0
    n = 0
    for k in range(8):
        i = NEIGHBOURS[k]
        if known[i]:
            apart = target * (math.sqrt(2.0) if (i % 2 == 0) else 1.0)
            r, _, _, _ = distance_residual(
                row, col, 0.0, locations[i, 0], locations[i, 1], 0.0, apart, distance_weight
            )
            total += r * r
            n += 1
    n_straight = 0
    for k in range(6):
        a, b, c = TRIPLES[k, 0], TRIPLES[k, 1], TRIPLES[k, 2]
        if (known[a] or a == CENTRE) and (known[b] or b == CENTRE) and (known[c] or c == CENTRE):
            ar, ac = (row, col) if a == CENTRE else (locations[a, 0], locations[a, 1])
            br, bc = (row, col) if b == CENTRE else (locations[b, 0], locations[b, 1])
            cr, cc = (row, col) if c == CENTRE else (locations[c, 0], locations[c, 1])
            r, _, _, _, _, _, _ = straightness_residual(
                ar, ac, 0.0, br, bc, 0.0, cr, cc, 0.0, straight_weight
            )
            total += r * r
            n_straight += 1
    n += n_straight
    if n == 0:
        return math.inf, 0, 0
    return math.sqrt(total / n), n, n_straight


@inline_kernel
def _structure(
    locations: NDArray[np.float64],
    known: NDArray[np.bool_],
    row: float,
    col: float,
    target: float,
    distance_weight: float,
    straight_weight: float,
) -> tuple[float, float, float, float, float, float]:
    """Return half the sum of squares, its gradient, and J^T J (rr, rc, cc)."""
    f = gr = gc = hrr = hrc = hcc = 0.0
    for k in range(8):
        i = NEIGHBOURS[k]
        if known[i]:
            apart = target * (math.sqrt(2.0) if (i % 2 == 0) else 1.0)
            r, dr, dc, _ = distance_residual(
                row, col, 0.0, locations[i, 0], locations[i, 1], 0.0, apart, distance_weight
            )
            f += 0.5 * r * r
            gr += r * dr
            gc += r * dc
            hrr += dr * dr
            hrc += dr * dc
            hcc += dc * dc
    for k in range(6):
        a, b, c = TRIPLES[k, 0], TRIPLES[k, 1], TRIPLES[k, 2]
        if (known[a] or a == CENTRE) and (known[b] or b == CENTRE) and (known[c] or c == CENTRE):
            ar, ac = (row, col) if a == CENTRE else (locations[a, 0], locations[a, 1])
            br, bc = (row, col) if b == CENTRE else (locations[b, 0], locations[b, 1])
            cr, cc = (row, col) if c == CENTRE else (locations[c, 0], locations[c, 1])
            r, ur, uc, _, vr, vc, _ = straightness_residual(
                ar, ac, 0.0, br, bc, 0.0, cr, cc, 0.0, straight_weight
            )
            if a == CENTRE:
                dr, dc = ur, uc
            elif b == CENTRE:
                dr, dc = -ur - vr, -uc - vc
            else:
                dr, dc = vr, vc
            f += 0.5 * r * r
            gr += r * dr
            gc += r * dc
            hrr += dr * dr
            hrc += dr * dc
            hcc += dc * dc
    return f, gr, gc, hrr, hrc, hcc


@inline_kernel
def _height(
    vertices: NDArray[np.float32],
    first: int,
    rows: int,
    cols: int,
    row: float,
    col: float,
    z_target: float,
    weight: float,
) -> tuple[float, float, float, float, float, float, bool]:
    """Return the same of the height residual, with Huber's loss at 1, and whether it exists."""
    _, _, z, ok = sample_patch(vertices, first, rows, cols, row, col)
    _, _, by_row, _, _, by_col, sloped = patch_slopes(vertices, first, rows, cols, row, col)
    if not (ok and sloped):
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False
    r = weight * (z - z_target)
    dr, dc = weight * by_row, weight * by_col
    size = abs(r)
    f = 0.5 * r * r if size <= 1.0 else size - 0.5
    k = 1.0 if size <= 1.0 else 1.0 / size
    return f, k * r * dr, k * r * dc, k * dr * dr, k * dr * dc, k * dc * dc, True


@kernel
def fit_location(
    locations: NDArray[np.float64],
    known: NDArray[np.bool_],
    target: float,
    hand: float,
) -> tuple[float, float, float, int]:
    """Return where a node should be on a patch, and how well the grid fits there.

    Parameters
    ----------
    locations : ndarray of float64, shape (25, 2)
        Rows and columns of the neighbourhood on one patch.
    known : ndarray of bool, shape (25,)
        Which of them exist.
    target : float
        Cells that direct neighbours should be apart.
    hand : float
        1 where the patch shows the same side as the trace, -1 where it is mirrored.

    Returns
    -------
    tuple
        Row, column, root mean square misfit of the neighbourhood in cells, and how many of it are
        known; 0 where fewer than two are, or all at one place.

    Notes
    -----
    The grid laid on the neighbours' locations by the best rotation in the sense of least squares,
    nearer neighbours counting more.
    """
    total = 0.0
    mean_r = mean_c = mean_u = mean_v = 0.0
    n = 0
    for i in range(25):
        if i != CENTRE and known[i]:
            u, v = float(i // 5 - 2), hand * float(i % 5 - 2)
            w = 1.0 / (u * u + v * v)
            total += w
            mean_r += w * locations[i, 0]
            mean_c += w * locations[i, 1]
            mean_u += w * u
            mean_v += w * v
            n += 1
    if n < 2:
        return 0.0, 0.0, 0.0, 0
    mean_r /= total
    mean_c /= total
    mean_u /= total
    mean_v /= total
    cosine = sine = 0.0
    for i in range(25):
        if i != CENTRE and known[i]:
            u, v = float(i // 5 - 2), hand * float(i % 5 - 2)
            w = 1.0 / (u * u + v * v)
            du, dv = u - mean_u, v - mean_v
            dr, dc = locations[i, 0] - mean_r, locations[i, 1] - mean_c
            cosine += w * (du * dr + dv * dc)
            sine += w * (du * dc - dv * dr)
    length = math.sqrt(cosine * cosine + sine * sine)
    if not length > 0.0:
        return 0.0, 0.0, 0.0, 0
    cosine *= target / length
    sine *= target / length
    misfit = 0.0
    for i in range(25):
        if i != CENTRE and known[i]:
            du, dv = float(i // 5 - 2) - mean_u, hand * float(i % 5 - 2) - mean_v
            dr = mean_r + cosine * du - sine * dv - locations[i, 0]
            dc = mean_c + sine * du + cosine * dv - locations[i, 1]
            misfit += dr * dr + dc * dc
    # the node itself is at offset (0, 0), that is -(mean_u, mean_v) from the mean
    row = mean_r - (cosine * mean_u - sine * mean_v)
    col = mean_c - (sine * mean_u + cosine * mean_v)
    return row, col, math.sqrt(misfit / n), n


@inline_kernel
def predict_location(
    locations: NDArray[np.float64],
    known: NDArray[np.bool_],
    target: float,
    hand: float,
) -> tuple[float, float, bool]:
    """Return where a node should be on a patch: the grid laid on its neighbours' locations.

    Parameters
    ----------
    locations : ndarray of float64, shape (25, 2)
        Rows and columns of the neighbourhood on one patch.
    known : ndarray of bool, shape (25,)
        Which of them exist.
    target : float
        Cells that direct neighbours should be apart.
    hand : float
        1 where the patch shows the same side as the trace, -1 where it is mirrored.

    Returns
    -------
    tuple
        Row, column, and whether two neighbours at least are known and not at one place.
    """
    row, col, _, n = fit_location(locations, known, target, hand)
    return row, col, n >= 2


@kernel
def solve_location(
    vertices: NDArray[np.float32],
    first: int,
    rows: int,
    cols: int,
    locations: NDArray[np.float64],
    known: NDArray[np.bool_],
    row: float,
    col: float,
    z_target: float,
    target: float,
    distance_weight: float,
    straight_weight: float,
    z_weight: float,
) -> tuple[float, float]:
    """Return the location of a node on a patch that fits the nodes around it best.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Vertex grids; NaN where invalid.
    first : int
        First vertex of the patch.
    rows : int
        Rows of its grid.
    cols : int
        Columns of its grid.
    locations : ndarray of float64, shape (25, 2)
        Rows and columns of the neighbourhood on the patch.
    known : ndarray of bool, shape (25,)
        Which of them exist.
    row : float
        Row to start from.
    col : float
        Column to start from.
    z_target : float
        Height that the node should have, voxels.
    target : float
        Cells that direct neighbours should be apart.
    distance_weight : float
        Weight of distances.
    straight_weight : float
        Weight of straightness.
    z_weight : float
        Weight of the height per voxel; bent by Huber's loss at 1.

    Returns
    -------
    tuple of float
        Row and column; not necessarily on the patch.

    Notes
    -----
    Levenberg-Marquardt over two unknowns.
    """
    damping = 1e-3
    fs, gr, gc, hrr, hrc, hcc = _structure(
        locations, known, row, col, target, distance_weight, straight_weight
    )
    fz, zr, zc, zrr, zrc, zcc, on = _height(
        vertices, first, rows, cols, row, col, z_target, z_weight
    )
    gr, gc, hrr, hrc, hcc = gr + zr, gc + zc, hrr + zrr, hrc + zrc, hcc + zcc
    for _ in range(_ITERATIONS):
        arr, acc = hrr * (1.0 + damping) + 1e-12, hcc * (1.0 + damping) + 1e-12
        determinant = arr * acc - hrc * hrc
        step_r = -(acc * gr - hrc * gc) / determinant
        step_c = -(arr * gc - hrc * gr) / determinant
        size = math.sqrt(step_r * step_r + step_c * step_c)
        if not math.isfinite(size):
            break
        ns, ngr, ngc, nrr, nrc, ncc = _structure(
            locations,
            known,
            row + step_r,
            col + step_c,
            target,
            distance_weight,
            straight_weight,
        )
        nz, zr, zc, zrr, zrc, zcc, new_on = _height(
            vertices, first, rows, cols, row + step_r, col + step_c, z_target, z_weight
        )
        # a step on or off the patch is judged by structure alone: leaving must not look cheap
        both = on and new_on
        if ns + (nz if both else 0.0) < fs + (fz if both else 0.0):
            row, col, fs, fz, on = row + step_r, col + step_c, ns, nz, new_on
            gr, gc = ngr + zr, ngc + zc
            hrr, hrc, hcc = nrr + zrr, nrc + zrc, ncc + zcc
            damping *= 0.2
        else:
            damping *= 10.0
        if size < _SMALL_STEP or damping > _MOST_DAMPING:
            break
    return row, col
