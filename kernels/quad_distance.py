"""Exact distance from a point to a bilinear quad.

The quad is S(u, v) = a + u b + v c + u v d over the unit square, u along columns and v along rows.
The squared distance F(u, v) to a point is not convex, but it is whenever the quad is *tame*: with
r = S - p, any point that satisfies the first-order conditions on the square is the only minimum if
abs(r . d) <= m^2, where m is a lower bound of the smallest singular value of (S_u, S_v) on the
square.

Proof: S(u + s, v + t) - S(u, v) = s S_u + t S_v at the midpoint =: w, exactly. Then
F(u + s, v + t) = F + 2 s r.S_u + 2 t r.S_v + 2 s t r.d + w.w. The linear terms are >= 0, and
w.w >= m^2 (s^2 + t^2) >= 2 m^2 abs(s t). At the centre m0 follows from S_u and S_v; elsewhere they
differ by at most abs(d) / sqrt(2) in the Frobenius norm, so m = m0 - abs(d) / sqrt(2).

Tame quads (all but crumpled ones) take a few Newton steps; for the others the minimum is searched
from 25 starts by exact alternating minimisation, which is slower and as exact as that search.
"""

import math

from tracer.kernels._jit import inline_kernel, kernel

_NEWTON_STEPS = 8
_NEWTON_CONVERGED = 1e-7  # in u and v; the error after such a step is its square
_CONVERGED = 1e-12  # in u and v; of the slower search
_STARTS = 5  # per axis
_SWEEPS = 200
_SLACK = 1e-9  # relative; rounding must not reject a quad at exactly the tolerance


@inline_kernel
def _gap(pa: float, pb: float, pc: float, pd: float) -> float:
    """Return how far the corners, projected on an axis, stay from the origin; 0 around it."""
    corner_01, corner_10, corner_11 = pa + pb, pa + pc, pa + pb + pc + pd
    low = min(min(pa, corner_01), min(corner_10, corner_11))
    high = max(max(pa, corner_01), max(corner_10, corner_11))
    return max(max(low, -high), 0.0)


@inline_kernel
def is_beyond(
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    cx: float,
    cy: float,
    cz: float,
    dx: float,
    dy: float,
    dz: float,
    tolerance: float,
) -> bool:
    """Return whether a quad is quickly seen to be too far from the origin.

    Parameters
    ----------
    ax, ay, az : float
        Corner (0, 0) relative to the query point.
    bx, by, bz : float
        Edge along columns.
    cx, cy, cz : float
        Edge along rows.
    dx, dy, dz : float
        Twist.
    tolerance : float
        Distance of interest in voxels.

    Returns
    -------
    bool
        True only if the quad is further away than `tolerance`.

    Notes
    -----
    The quad lies in the convex hull of its corners: it is as far away as their projections on any
    axis. Tried are the normal at the centre and both tangents there, which leaves 60 % of the quads
    whose bounding box comes near.
    """
    limit2 = tolerance * tolerance * (1.0 + _SLACK)
    sx, sy, sz = bx + 0.5 * dx, by + 0.5 * dy, bz + 0.5 * dz
    tx, ty, tz = cx + 0.5 * dx, cy + 0.5 * dy, cz + 0.5 * dz
    for axis in range(3):
        if axis == 0:
            nx, ny, nz = sy * tz - sz * ty, sz * tx - sx * tz, sx * ty - sy * tx
        elif axis == 1:
            nx, ny, nz = sx, sy, sz
        else:
            nx, ny, nz = tx, ty, tz
        gap = _gap(
            ax * nx + ay * ny + az * nz,
            bx * nx + by * ny + bz * nz,
            cx * nx + cy * ny + cz * nz,
            dx * nx + dy * ny + dz * nz,
        )
        if gap * gap > limit2 * (nx * nx + ny * ny + nz * nz) * (1.0 + _SLACK):
            return True
    return False


@inline_kernel
def _clamped_ratio(numerator: float, denominator: float) -> float:
    """Return the quotient limited to the unit interval; 0 where nothing depends on it."""
    if not denominator > 0.0:
        return 0.0
    return min(max(numerator / denominator, 0.0), 1.0)


@kernel
def _search(
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    cx: float,
    cy: float,
    cz: float,
    dx: float,
    dy: float,
    dz: float,
) -> tuple[float, float, float]:
    """Return (squared distance, u, v) of the best minimum found from many starts."""
    best, best_u, best_v = math.inf, 0.0, 0.0
    for start in range(_STARTS * _STARTS):
        u = (start % _STARTS) / (_STARTS - 1.0)
        v = (start // _STARTS) / (_STARTS - 1.0)
        for _ in range(_SWEEPS):
            # F is a parabola in u for fixed v, and the other way round
            px, py, pz = ax + v * cx, ay + v * cy, az + v * cz
            qx, qy, qz = bx + v * dx, by + v * dy, bz + v * dz
            new_u = _clamped_ratio(-(px * qx + py * qy + pz * qz), qx * qx + qy * qy + qz * qz)
            px, py, pz = ax + new_u * bx, ay + new_u * by, az + new_u * bz
            qx, qy, qz = cx + new_u * dx, cy + new_u * dy, cz + new_u * dz
            new_v = _clamped_ratio(-(px * qx + py * qy + pz * qz), qx * qx + qy * qy + qz * qz)
            moved = abs(new_u - u) + abs(new_v - v)
            u, v = new_u, new_v
            if moved < _CONVERGED:
                break
        x = ax + u * bx + v * (cx + u * dx)
        y = ay + u * by + v * (cy + u * dy)
        z = az + u * bz + v * (cz + u * dz)
        f = x * x + y * y + z * z
        if f < best:
            best, best_u, best_v = f, u, v
    return best, best_u, best_v


@inline_kernel
def closest_on_quad(
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    cx: float,
    cy: float,
    cz: float,
    dx: float,
    dy: float,
    dz: float,
) -> tuple[float, float, float]:
    """Return the point of a bilinear quad that is closest to the origin.

    Parameters
    ----------
    ax, ay, az : float
        Corner (0, 0) relative to the query point.
    bx, by, bz : float
        Edge along columns: corner (0, 1) - corner (0, 0).
    cx, cy, cz : float
        Edge along rows: corner (1, 0) - corner (0, 0).
    dx, dy, dz : float
        Twist: corner (1, 1) - corner (0, 1) - corner (1, 0) + corner (0, 0).

    Returns
    -------
    tuple of float
        (squared distance, u, v) with u along columns and v along rows, both in [0, 1].
    """
    # tangents at the centre give the bound m on the smallest singular value
    sx, sy, sz = bx + 0.5 * dx, by + 0.5 * dy, bz + 0.5 * dz
    tx, ty, tz = cx + 0.5 * dx, cy + 0.5 * dy, cz + 0.5 * dz
    ss = sx * sx + sy * sy + sz * sz
    tt = tx * tx + ty * ty + tz * tz
    st = sx * tx + sy * ty + sz * tz
    dd = dx * dx + dy * dy + dz * dz
    smallest = 0.5 * (ss + tt - math.sqrt((ss - tt) * (ss - tt) + 4.0 * st * st))
    m = math.sqrt(max(smallest, 0.0)) - math.sqrt(0.5 * dd)
    if not m > 0.0:
        return _search(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz)

    # Newton's method for the free minimum
    u, v = 0.5, 0.5
    for _ in range(_NEWTON_STEPS):
        px, py, pz = bx + v * dx, by + v * dy, bz + v * dz
        qx, qy, qz = cx + u * dx, cy + u * dy, cz + u * dz
        rx, ry, rz = ax + u * bx + v * qx, ay + u * by + v * qy, az + u * bz + v * qz
        g = rx * px + ry * py + rz * pz
        h = rx * qx + ry * qy + rz * qz
        pp = px * px + py * py + pz * pz
        qq = qx * qx + qy * qy + qz * qz
        pq = px * qx + py * qy + pz * qz + rx * dx + ry * dy + rz * dz
        det = pp * qq - pq * pq
        if not det > 0.0:
            break
        du = (qq * g - pq * h) / det
        dv = (pp * h - pq * g) / det
        u -= du
        v -= dv
        if abs(du) + abs(dv) < _NEWTON_CONVERGED or abs(u) + abs(v) > 64.0:
            break

    if not (u >= 0.0 and u <= 1.0 and v >= 0.0 and v <= 1.0):
        # the minimum is on the rim: the best of the four edges
        best = math.inf
        for edge in range(4):
            if edge < 2:
                v_edge = float(edge)
                u_edge = _clamped_ratio(
                    -(
                        (ax + v_edge * cx) * (bx + v_edge * dx)
                        + (ay + v_edge * cy) * (by + v_edge * dy)
                        + (az + v_edge * cz) * (bz + v_edge * dz)
                    ),
                    (bx + v_edge * dx) ** 2 + (by + v_edge * dy) ** 2 + (bz + v_edge * dz) ** 2,
                )
            else:
                u_edge = float(edge - 2)
                v_edge = _clamped_ratio(
                    -(
                        (ax + u_edge * bx) * (cx + u_edge * dx)
                        + (ay + u_edge * by) * (cy + u_edge * dy)
                        + (az + u_edge * bz) * (cz + u_edge * dz)
                    ),
                    (cx + u_edge * dx) ** 2 + (cy + u_edge * dy) ** 2 + (cz + u_edge * dz) ** 2,
                )
            ex = ax + u_edge * bx + v_edge * (cx + u_edge * dx)
            ey = ay + u_edge * by + v_edge * (cy + u_edge * dy)
            ez = az + u_edge * bz + v_edge * (cz + u_edge * dz)
            f = ex * ex + ey * ey + ez * ez
            if f < best:
                best, u, v = f, u_edge, v_edge

    # first-order conditions on the square, and tameness, prove the minimum
    px, py, pz = bx + v * dx, by + v * dy, bz + v * dz
    qx, qy, qz = cx + u * dx, cy + u * dy, cz + u * dz
    rx, ry, rz = ax + u * bx + v * qx, ay + u * by + v * qy, az + u * bz + v * qz
    f = rx * rx + ry * ry + rz * rz
    g = rx * px + ry * py + rz * pz
    h = rx * qx + ry * qy + rz * qz
    limit = 1e-9 * (ss + tt)  # a slope of 1e-9 quads per quad
    proven = abs(rx * dx + ry * dy + rz * dz) <= m * m
    if g > limit and u > 0.0:
        proven = False
    if g < -limit and u < 1.0:
        proven = False
    if h > limit and v > 0.0:
        proven = False
    if h < -limit and v < 1.0:
        proven = False
    if not proven:
        return _search(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz)
    return f, u, v
