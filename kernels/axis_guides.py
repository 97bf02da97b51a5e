"""Pull the edges or normals of a mesh towards axes that are known along it.

An axis is a direction without a sign: of the papyrus fibres along the columns or the rows, or of
the sheet's normal. It is stored per vertex; (0, 0, 0) means unknown. Each kind adds one residual
``weight * (1 - |cos|)``

* horizontal: per edge between neighbouring columns,
* vertical: per edge between neighbouring rows,
* normal: per vertex with a neighbour in the next column and one in the next row.

The axis of a residual is that of its first vertex, in row order, that knows one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel
from tracer.kernels.residuals import direction_residual, normal_direction_residual

HORIZONTAL = 0
VERTICAL = 1
NORMAL = 2
MEMBERS = 3  # residuals of one kind that a vertex takes part in, at most


class AxisGuides(NamedTuple):
    """Axes that a mesh should follow.

    Attributes
    ----------
    axes : ndarray of float32, shape (rows, cols, n, 3)
        Unit axes x, y, z at every vertex of the grid, for each of n guides.
    kinds : ndarray of int64, shape (n,)
        HORIZONTAL, VERTICAL or NORMAL.
    weights : ndarray of float64, shape (n,)
        Weights of the residuals.
    """

    axes: NDArray[np.float32]
    kinds: NDArray[np.int64]
    weights: NDArray[np.float64]


NO_GUIDES = AxisGuides(np.zeros((1, 1, 0, 3), np.float32), np.zeros(0, np.int64), np.zeros(0))


@inline_kernel
def _known_axis(
    axes: NDArray[np.float32], guide: int, r: int, c: int
) -> tuple[float, float, float, bool]:
    """Return the axis of a vertex and whether it is known."""
    x = np.float64(axes[r, c, guide, 0])
    y = np.float64(axes[r, c, guide, 1])
    z = np.float64(axes[r, c, guide, 2])
    return x, y, z, x != 0.0 or y != 0.0 or z != 0.0


@inline_kernel
def guide_terms(
    points: NDArray[np.float64],
    state: NDArray[np.uint8],
    row: int,
    col: int,
    px: float,
    py: float,
    pz: float,
    guides: AxisGuides,
    guide: int,
    member: int,
) -> tuple[float, float, float, float]:
    """Return one residual of a guide that contains a vertex, and its gradient there.

    Parameters
    ----------
    points : ndarray of float64, shape (rows, cols, 3)
        Vertices, x, y, z.
    state : ndarray of uint8, shape (rows, cols)
        What is known of each vertex; those of state 0 do not count.
    row, col : int
        The vertex; its own entry of `points` is not read.
    px, py, pz : float
        Where it is tried.
    guides : AxisGuides
        All guides.
    guide : int
        Which of them.
    member : int
        Which of the residuals: the vertex is its first, its second or (normals only) its third.

    Returns
    -------
    tuple of float
        Residual and gradient; zeros where there is no such residual or no axis.
    """
    kind = guides.kinds[guide]
    weight = guides.weights[guide]
    if kind == NORMAL:
        r0, c0 = row, col
        if member == 1:
            c0 -= 1
        elif member == 2:
            r0 -= 1
        if (
            (member != 0 and state[r0, c0] == 0)
            or (member != 1 and state[r0, c0 + 1] == 0)
            or (member != 2 and state[r0 + 1, c0] == 0)
        ):
            return 0.0, 0.0, 0.0, 0.0
        fx, fy, fz, known = _known_axis(guides.axes, guide, r0, c0)
        if not known:
            fx, fy, fz, known = _known_axis(guides.axes, guide, r0, c0 + 1)
        if not known:
            fx, fy, fz, known = _known_axis(guides.axes, guide, r0 + 1, c0)
        if not known:
            return 0.0, 0.0, 0.0, 0.0
        ax, ay, az = px, py, pz
        bx, by, bz = px, py, pz
        cx, cy, cz = px, py, pz
        if member != 0:
            ax, ay, az = points[r0, c0, 0], points[r0, c0, 1], points[r0, c0, 2]
        if member != 1:
            bx, by, bz = points[r0, c0 + 1, 0], points[r0, c0 + 1, 1], points[r0, c0 + 1, 2]
        if member != 2:
            cx, cy, cz = points[r0 + 1, c0, 0], points[r0 + 1, c0, 1], points[r0 + 1, c0, 2]
        residual, ux, uy, uz, vx, vy, vz = normal_direction_residual(
            bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az, fx, fy, fz, weight
        )
        if member == 0:
            return residual, -ux - vx, -uy - vy, -uz - vz
        if member == 1:
            return residual, ux, uy, uz
        return residual, vx, vy, vz
    if member == 2:
        return 0.0, 0.0, 0.0, 0.0
    r, c = row, col  # the other end
    side = 1 if member == 0 else -1
    if kind == HORIZONTAL:
        c += side
    else:
        r += side
    if state[r, c] == 0:
        return 0.0, 0.0, 0.0, 0.0
    r0, c0 = min(row, r), min(col, c)
    fx, fy, fz, known = _known_axis(guides.axes, guide, r0, c0)
    if not known:
        fx, fy, fz, known = _known_axis(guides.axes, guide, max(row, r), max(col, c))
    if not known:
        return 0.0, 0.0, 0.0, 0.0
    # the residual has no sign, so the edge may as well be taken from the vertex outwards
    residual, gx, gy, gz, _, _, _ = direction_residual(
        points[r, c, 0] - px, points[r, c, 1] - py, points[r, c, 2] - pz, fx, fy, fz, weight
    )
    return residual, -gx, -gy, -gz
