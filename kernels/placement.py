"""Place one vertex of a growing quad mesh: three unknowns, Levenberg-Marquardt, analytic Jacobians.

The cost of a vertex at ``p`` is the sum of squares of the residuals that contain it

* distance to its (up to eight) neighbours, target ``step`` times the grid distance,
* straightness of the (up to six) triples along its row and column,
* with data: medial distance at ``p`` and along the edges to its placed 4-neighbours,
* where there are guides: the angles between its edges or normals and the axes given along the mesh
  (:mod:`tracer.kernels.axis_guides`).

The medial distance is the signed distance to the sheet's boundary plus ``depth``, cut off at zero:
its minimum is the sheet's mid-line, where a plain distance is zero through the whole thickness.

Coordinates are voxels in the order x, y, z; grids are indexed ``[row, col]``. Every grid array has
a margin of at least three cells around the cells in use, so that no index test is needed.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel, kernel
from tracer.kernels.axis_guides import MEMBERS, NO_GUIDES, AxisGuides, guide_terms
from tracer.kernels.field_sampling import FieldView
from tracer.kernels.sampled_residuals import data_residual

EMPTY = 0  # nothing known
COORDINATE = 1  # placed by structure only; takes part in structure, does not expand
ON_SHEET = 2  # accepted on the prediction; expands
BRIDGED = 3  # closed over a hole or a suspicious spot, surrounded by accepted vertices

_NEIGHBOUR_ROWS = (0, 0, 1, -1, 1, 1, -1, -1)
_NEIGHBOUR_COLS = (1, -1, 0, 0, 1, -1, 1, -1)
_NEIGHBOUR_LENGTHS = (1.0, 1.0, 1.0, 1.0, math.sqrt(2), math.sqrt(2), math.sqrt(2), math.sqrt(2))
_TINY = 1e-9  # keeps directions of coincident points finite
_COLLAPSED = 1e-3  # below this share of the target length the residual is constant
_COLLAPSED_RESIDUAL = 1e3
_MAX_MOVE = 10.0  # voxels per Levenberg-Marquardt step
MAX_SHIFT = 1.0  # steps: how far data may take a vertex from where it starts


class PlacementWeights(NamedTuple):
    """Weights and constants of a vertex placement.

    Attributes
    ----------
    step : float
        Voxels between neighbouring vertices.
    straightness : float
        Weight of the straightness residuals.
    data : float
        Weight of the data residuals, per voxel.
    depth : float
        Medial depth in voxels: how far inside the sheet the attraction still acts.
    edge_samples : int
        Interior samples per edge.
    guides : AxisGuides
        Axes that edges or normals should follow; their grid is that of the points.
    """

    step: float
    straightness: float
    data: float
    depth: float
    edge_samples: int
    guides: AxisGuides = NO_GUIDES


@inline_kernel
def borrow_weights(weights: PlacementWeights) -> PlacementWeights:
    """Return weights without the cost of counting references, see :func:`borrowed`.

    Parameters
    ----------
    weights : PlacementWeights
        Argument of a kernel.

    Returns
    -------
    PlacementWeights
        The same weights and arrays.
    """
    guides = weights.guides
    return PlacementWeights(
        weights.step,
        weights.straightness,
        weights.data,
        weights.depth,
        weights.edge_samples,
        AxisGuides(borrowed(guides.axes), borrowed(guides.kinds), borrowed(guides.weights)),
    )


@inline_kernel
def _distance_terms(
    dx: float, dy: float, dz: float, target: float
) -> tuple[float, float, float, float]:
    """Return the distance residual of a vector and its gradient."""
    length = math.sqrt(dx * dx + dy * dy + dz * dz) + _TINY
    if length < _COLLAPSED * target:
        scale = -1.0 / length
        return _COLLAPSED_RESIDUAL, scale * dx, scale * dy, scale * dz
    if length >= target:
        residual = length / target - 1.0
        scale = 1.0 / (target * length)
    else:
        residual = target / length - 1.0
        scale = -target / (length * length * length)
    return residual, scale * dx, scale * dy, scale * dz


@inline_kernel
def _straightness_terms(
    ux: float, uy: float, uz: float, vx: float, vy: float, vz: float
) -> tuple[float, float, float, float, float, float, float]:
    """Return 1 - cos of the angle of two vectors, and its gradient by each of them."""
    lu = math.sqrt(ux * ux + uy * uy + uz * uz) + _TINY
    lv = math.sqrt(vx * vx + vy * vy + vz * vz) + _TINY
    ux, uy, uz = ux / lu, uy / lu, uz / lu
    vx, vy, vz = vx / lv, vy / lv, vz / lv
    cos = ux * vx + uy * vy + uz * vz
    return (
        1.0 - cos,
        (cos * ux - vx) / lu,
        (cos * uy - vy) / lu,
        (cos * uz - vz) / lu,
        (cos * vx - ux) / lv,
        (cos * vy - uy) / lv,
        (cos * vz - uz) / lv,
    )


@kernel
def vertex_system(
    points: NDArray[np.float64],
    state: NDArray[np.uint8],
    row: int,
    col: int,
    position: NDArray[np.float64],
    view: FieldView,
    weights: PlacementWeights,
    use_data: bool,
    out_system: NDArray[np.float64],
) -> float:
    """Return the cost of a vertex at a position and fill its normal equations.

    Parameters
    ----------
    points : ndarray of float64, shape (rows, cols, 3)
        Vertices, x, y, z.
    state : ndarray of uint8, shape (rows, cols)
        What is known of each vertex; :data:`EMPTY` ones do not count.
    row, col : int
        The vertex.
    position : ndarray of float64, shape (3,)
        Where it is tried.
    view : FieldView
        Signed distance field around it.
    weights : PlacementWeights
        Weights and constants.
    use_data : bool
        Whether the data residuals count.
    out_system : ndarray of float64, shape (9,)
        Filled with JtJ (xx, xy, xz, yy, yz, zz) and Jtr (x, y, z).

    Returns
    -------
    float
        Half the sum of squared residuals.
    """
    px, py, pz = position[0], position[1], position[2]
    cost = 0.0
    axx = axy = axz = ayy = ayz = azz = 0.0
    bx = by = bz = 0.0
    for k in range(8):
        r = row + _NEIGHBOUR_ROWS[k]
        c = col + _NEIGHBOUR_COLS[k]
        if state[r, c] == EMPTY:
            continue
        residual, gx, gy, gz = _distance_terms(
            px - points[r, c, 0],
            py - points[r, c, 1],
            pz - points[r, c, 2],
            weights.step * _NEIGHBOUR_LENGTHS[k],
        )
        cost += residual * residual
        axx, axy, axz = axx + gx * gx, axy + gx * gy, axz + gx * gz
        ayy, ayz, azz = ayy + gy * gy, ayz + gy * gz, azz + gz * gz
        bx, by, bz = bx + gx * residual, by + gy * residual, bz + gz * residual
    for axis in range(2):
        dr = axis
        dc = 1 - axis
        for member in range(3):  # the vertex is the last, the middle, the first of the triple
            if member == 0:
                r1, c1, r2, c2 = row - 2 * dr, col - 2 * dc, row - dr, col - dc
            elif member == 1:
                r1, c1, r2, c2 = row - dr, col - dc, row + dr, col + dc
            else:
                r1, c1, r2, c2 = row + dr, col + dc, row + 2 * dr, col + 2 * dc
            if state[r1, c1] == EMPTY or state[r2, c2] == EMPTY:
                continue
            x1, y1, z1 = points[r1, c1, 0], points[r1, c1, 1], points[r1, c1, 2]
            x2, y2, z2 = points[r2, c2, 0], points[r2, c2, 1], points[r2, c2, 2]
            if member == 0:
                residual, _, _, _, gx, gy, gz = _straightness_terms(
                    x2 - x1, y2 - y1, z2 - z1, px - x2, py - y2, pz - z2
                )
            elif member == 1:
                residual, ax, ay, az, cx, cy, cz = _straightness_terms(
                    px - x1, py - y1, pz - z1, x2 - px, y2 - py, z2 - pz
                )
                gx, gy, gz = ax - cx, ay - cy, az - cz
            else:
                residual, ax, ay, az, _, _, _ = _straightness_terms(
                    x1 - px, y1 - py, z1 - pz, x2 - x1, y2 - y1, z2 - z1
                )
                gx, gy, gz = -ax, -ay, -az
            w = weights.straightness
            residual, gx, gy, gz = w * residual, w * gx, w * gy, w * gz
            cost += residual * residual
            axx, axy, axz = axx + gx * gx, axy + gx * gy, axz + gx * gz
            ayy, ayz, azz = ayy + gy * gy, ayz + gy * gz, azz + gz * gz
            bx, by, bz = bx + gx * residual, by + gy * residual, bz + gz * residual
    for guide in range(weights.guides.kinds.shape[0]):
        for member in range(MEMBERS):
            residual, gx, gy, gz = guide_terms(
                points, state, row, col, px, py, pz, weights.guides, guide, member
            )
            cost += residual * residual
            axx, axy, axz = axx + gx * gx, axy + gx * gy, axz + gx * gz
            ayy, ayz, azz = ayy + gy * gy, ayz + gy * gz, azz + gz * gz
            bx, by, bz = bx + gx * residual, by + gy * residual, bz + gz * residual
    if use_data:
        w = weights.data
        residual, gx, gy, gz, _ = data_residual(view, px, py, pz, weights.depth, w)
        cost += residual * residual
        axx, axy, axz = axx + gx * gx, axy + gx * gy, axz + gx * gz
        ayy, ayz, azz = ayy + gy * gy, ayz + gy * gz, azz + gz * gz
        bx, by, bz = bx + gx * residual, by + gy * residual, bz + gz * residual
        n = weights.edge_samples
        for k in range(4):
            r = row + _NEIGHBOUR_ROWS[k]
            c = col + _NEIGHBOUR_COLS[k]
            if state[r, c] != ON_SHEET:
                continue
            qx, qy, qz = points[r, c, 0], points[r, c, 1], points[r, c, 2]
            total = gx = gy = gz = 0.0
            for i in range(1, n + 1):
                t = i / (n + 1)
                s = 1.0 - t
                value, dx, dy, dz, _ = data_residual(
                    view, px * s + qx * t, py * s + qy * t, pz * s + qz * t, weights.depth, 1.0
                )
                total += value
                gx, gy, gz = gx + s * dx, gy + s * dy, gz + s * dz
            scale = w / n
            residual, gx, gy, gz = scale * total, scale * gx, scale * gy, scale * gz
            cost += residual * residual
            axx, axy, axz = axx + gx * gx, axy + gx * gy, axz + gx * gz
            ayy, ayz, azz = ayy + gy * gy, ayz + gy * gz, azz + gz * gz
            bx, by, bz = bx + gx * residual, by + gy * residual, bz + gz * residual
    out_system[0], out_system[1], out_system[2] = axx, axy, axz
    out_system[3], out_system[4], out_system[5] = ayy, ayz, azz
    out_system[6], out_system[7], out_system[8] = bx, by, bz
    return 0.5 * cost


@inline_kernel
def _damped_step(system: NDArray[np.float64], damping: float) -> tuple[float, float, float, bool]:
    """Return the Levenberg-Marquardt step of a 3x3 system, at most `_MAX_MOVE` long."""
    a = system[0] * (1.0 + damping) + _TINY
    b, c = system[1], system[2]
    d = system[3] * (1.0 + damping) + _TINY
    e = system[4]
    f = system[5] * (1.0 + damping) + _TINY
    m00, m01, m02 = d * f - e * e, c * e - b * f, b * e - c * d
    m11, m12, m22 = a * f - c * c, b * c - a * e, a * d - b * b
    det = a * m00 + b * m01 + c * m02
    if not abs(det) > 1e-30:
        return 0.0, 0.0, 0.0, False
    gx, gy, gz = system[6], system[7], system[8]
    dx = -(m00 * gx + m01 * gy + m02 * gz) / det
    dy = -(m01 * gx + m11 * gy + m12 * gz) / det
    dz = -(m02 * gx + m12 * gy + m22 * gz) / det
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    if length > _MAX_MOVE:
        shrink = _MAX_MOVE / length
        dx, dy, dz = dx * shrink, dy * shrink, dz * shrink
    return dx, dy, dz, True


@kernel
def place_vertex(
    points: NDArray[np.float64],
    state: NDArray[np.uint8],
    row: int,
    col: int,
    position: NDArray[np.float64],
    view: FieldView,
    weights: PlacementWeights,
    use_data: bool,
    iterations: int,
    trials: int,
    tolerance: float,
    work: NDArray[np.float64],
) -> float:
    """Return the cost of a vertex after moving `position` to a local minimum.

    Parameters
    ----------
    points : ndarray of float64, shape (rows, cols, 3)
        Vertices, x, y, z.
    state : ndarray of uint8, shape (rows, cols)
        What is known of each vertex.
    row, col : int
        The vertex; its own entries of `points` and `state` are not read.
    position : ndarray of float64, shape (3,)
        Start; overwritten with the solution.
    view : FieldView
        Signed distance field around it.
    weights : PlacementWeights
        Weights and constants.
    use_data : bool
        Whether the data residuals count; then the vertex stays within MAX_SHIFT steps of its start,
        so that nothing beyond is sampled.
    iterations : int
        Largest number of accepted steps.
    trials : int
        Largest number of dampings tried per step. Near the minimum most trials fail, and each costs
        as much as a step: relaxation sweeps do with two.
    tolerance : float
        A proposed step shorter than this ends the search, voxels.
    work : ndarray of float64, shape (3, 9)
        Scratch.

    Returns
    -------
    float
        Half the sum of squared residuals at the solution.
    """
    system = work[0]
    trial_system = work[1]
    trial = work[2][:3]
    damping = 1e-4
    start_x, start_y, start_z = position[0], position[1], position[2]
    leash = MAX_SHIFT * weights.step if use_data else math.inf
    cost = vertex_system(points, state, row, col, position, view, weights, use_data, system)
    for _ in range(iterations):
        improved = False
        trial_cost = cost
        for _ in range(trials):
            dx, dy, dz, solvable = _damped_step(system, damping)
            if solvable and dx * dx + dy * dy + dz * dz < tolerance * tolerance:
                return cost
            if solvable:
                trial[0] = position[0] + dx
                trial[1] = position[1] + dy
                trial[2] = position[2] + dz
                away_x, away_y, away_z = trial[0] - start_x, trial[1] - start_y, trial[2] - start_z
                if away_x * away_x + away_y * away_y + away_z * away_z <= leash * leash:
                    trial_cost = vertex_system(
                        points, state, row, col, trial, view, weights, use_data, trial_system
                    )
                    if trial_cost < cost:
                        improved = True
                        break
            damping = max(damping, 1e-4) * 8.0
        if not improved:
            break
        gain = cost - trial_cost
        for i in range(3):
            position[i] = trial[i]
        system[:] = trial_system
        cost = trial_cost
        damping *= 0.3
        if gain < 1e-3 * cost:
            break
    return cost
