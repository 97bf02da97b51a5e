"""Residuals of the optimisations that need points only, as scalar cores with analytic Jacobians.

Those that sample a field or a surface are in :mod:`tracer.kernels.sampled_residuals`. The small
Numba solvers call these cores directly, Ceres calls them through the blocks of
:mod:`tracer.kernels.ceres_blocks`. Each returns its weighted residual followed by derivatives:

* what depends only on differences of points returns the gradient at all points but one, the one
  left out being minus the sum of the others (a rigid shift changes nothing);
* lengths below ``MIN_LENGTH`` divide by ``MIN_LENGTH`` instead, so that a degenerate input
  (coincident points, a zero direction) gives a finite residual and a finite gradient.

A two-dimensional location is a point whose third coordinate is zero.
"""

import math

from tracer.kernels._jit import inline_kernel

MIN_LENGTH = 1e-3
"""Length in voxels or cells below which a direction counts as undefined: a thousandth is far below
any step and keeps gradients below 1,000 per unit of weight."""

MIN_DISTANCE_RATIO = 0.05
"""Fraction of the target distance below which target / distance continues along its tangent, so
that it stays finite (39 at zero) and a Gauss-Newton step still leaves the pole quickly."""


@inline_kernel
def distance_residual(
    ax: float, ay: float, az: float, bx: float, by: float, bz: float, target: float, weight: float
) -> tuple[float, float, float, float]:
    """Return how far the distance of two points is from its target, and the gradient at `a`.

    Parameters
    ----------
    ax, ay, az : float
        First point.
    bx, by, bz : float
        Second point; the gradient there is minus the one at the first.
    target : float
        Wanted distance, in units of the points, positive.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple of float
        ``weight * (d / target - 1)`` where the distance d is at least the target, else
        ``weight * (target / d - 1)``; then its gradient at the first point. Coincident points
        are pushed apart along the first axis.
    """
    dx = ax - bx
    dy = ay - by
    dz = az - bz
    d = math.sqrt(dx * dx + dy * dy + dz * dz)
    if d > 0.0:
        dx /= d
        dy /= d
        dz /= d
    else:
        dx = 1.0
    nearest = MIN_DISTANCE_RATIO * target
    if d >= target:
        residual = d / target - 1.0
        slope = 1.0 / target
    elif d >= nearest:
        residual = target / d - 1.0
        slope = -target / (d * d)
    else:
        slope = -target / (nearest * nearest)
        residual = target / nearest - 1.0 + slope * (d - nearest)
    slope *= weight
    return weight * residual, slope * dx, slope * dy, slope * dz


@inline_kernel
def cosine_gradient(
    ux: float, uy: float, uz: float, vx: float, vy: float, vz: float
) -> tuple[float, float, float, float, float, float, float]:
    """Return the cosine of the angle between two vectors and its gradient at both.

    Parameters
    ----------
    ux, uy, uz : float
        First vector.
    vx, vy, vz : float
        Second vector.

    Returns
    -------
    tuple of float
        The cosine, its gradient at the first vector, its gradient at the second. A vector shorter
        than ``MIN_LENGTH`` is divided by ``MIN_LENGTH``: the cosine fades to zero with it.
    """
    length_u = math.sqrt(ux * ux + uy * uy + uz * uz)
    length_v = math.sqrt(vx * vx + vy * vy + vz * vz)
    ku = 0.0
    kv = 0.0
    inverse_u = 1.0 / MIN_LENGTH
    inverse_v = 1.0 / MIN_LENGTH
    if length_u > MIN_LENGTH:
        inverse_u = 1.0 / length_u
        ku = inverse_u
    if length_v > MIN_LENGTH:
        inverse_v = 1.0 / length_v
        kv = inverse_v
    ux *= inverse_u
    uy *= inverse_u
    uz *= inverse_u
    vx *= inverse_v
    vy *= inverse_v
    vz *= inverse_v
    cosine = ux * vx + uy * vy + uz * vz
    ku *= cosine
    kv *= cosine
    return (
        cosine,
        vx * inverse_u - ux * ku,
        vy * inverse_u - uy * ku,
        vz * inverse_u - uz * ku,
        ux * inverse_v - vx * kv,
        uy * inverse_v - vy * kv,
        uz * inverse_v - vz * kv,
    )


@inline_kernel
def straightness_residual(
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    cx: float,
    cy: float,
    cz: float,
    weight: float,
) -> tuple[float, float, float, float, float, float, float]:
    """Return how much a line through three points bends, and the gradient at both ends.

    Parameters
    ----------
    ax, ay, az : float
        First point.
    bx, by, bz : float
        Middle point; the gradient there is minus the sum of those at the ends.
    cx, cy, cz : float
        Last point.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple of float
        ``weight * (1 - cos)`` of the angle between b - a and c - b, its gradient at the first
        point, its gradient at the last point.
    """
    cosine, ux, uy, uz, vx, vy, vz = cosine_gradient(
        bx - ax, by - ay, bz - az, cx - bx, cy - by, cz - bz
    )
    return (
        weight * (1.0 - cosine),
        weight * ux,
        weight * uy,
        weight * uz,
        -weight * vx,
        -weight * vy,
        -weight * vz,
    )


@inline_kernel
def linear_straightness_residual(a: float, b: float, c: float, weight: float) -> float:
    """Return one component of the offset of a point from the middle of its neighbours.

    Parameters
    ----------
    a : float
        One coordinate of the first point; the derivative there is ``-weight / 2``.
    b : float
        The same coordinate of the middle point; the derivative there is ``weight``.
    c : float
        The same coordinate of the last point; the derivative there is ``-weight / 2``.
    weight : float
        Factor on the residual.

    Returns
    -------
    float
        ``weight * (b - (a + c) / 2)``.
    """
    return weight * (b - 0.5 * (a + c))


@inline_kernel
def z_residual(z: float, target: float, weight: float) -> float:
    """Return how far a height is from its target.

    Parameters
    ----------
    z : float
        Height in voxels; the derivative there is ``weight``.
    target : float
        Wanted height in voxels.
    weight : float
        Factor on the residual.

    Returns
    -------
    float
        ``weight * (z - target)``.
    """
    return weight * (z - target)


@inline_kernel
def normal_residual(
    ax: float,
    ay: float,
    az: float,
    bx: float,
    by: float,
    bz: float,
    nx: float,
    ny: float,
    nz: float,
    weight: float,
) -> tuple[float, float, float, float]:
    """Return how far an edge leaves the plane of an expected normal, and the gradient at `a`.

    Parameters
    ----------
    ax, ay, az : float
        One end.
    bx, by, bz : float
        The other end; the gradient there is minus the one at the first.
    nx, ny, nz : float
        Expected normal, of any length.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple of float
        ``weight`` times the cosine between the edge and the normal, and its gradient at `a`.
    """
    cosine, gx, gy, gz, _, _, _ = cosine_gradient(bx - ax, by - ay, bz - az, nx, ny, nz)
    return weight * cosine, -weight * gx, -weight * gy, -weight * gz


@inline_kernel
def direction_residual(
    vx: float, vy: float, vz: float, fx: float, fy: float, fz: float, weight: float
) -> tuple[float, float, float, float, float, float, float]:
    """Return how far a vector is from an axis that has no sign, with both gradients.

    For fibre volumes the vector is an edge along u or v; for normal volumes it is the mesh normal,
    see :func:`normal_direction_residual`.

    Parameters
    ----------
    vx, vy, vz : float
        Vector of any length.
    fx, fy, fz : float
        Axis of any length, as sampled from a direction volume.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple of float
        ``weight * (1 - |cos|)``, its gradient at the vector, its gradient at the axis (for the
        chain rule through the volume).
    """
    cosine, ux, uy, uz, wx, wy, wz = cosine_gradient(vx, vy, vz, fx, fy, fz)
    k = -weight if cosine >= 0.0 else weight
    return weight + k * cosine, k * ux, k * uy, k * uz, k * wx, k * wy, k * wz


@inline_kernel
def normal_direction_residual(
    ux: float,
    uy: float,
    uz: float,
    vx: float,
    vy: float,
    vz: float,
    fx: float,
    fy: float,
    fz: float,
    weight: float,
) -> tuple[float, float, float, float, float, float, float]:
    """Return how far the normal of two edges is from an axis without sign, with gradients.

    Parameters
    ----------
    ux, uy, uz : float
        Edge from a vertex along its row.
    vx, vy, vz : float
        Edge from the same vertex along its column.
    fx, fy, fz : float
        Axis of any length, as sampled from a normal volume.
    weight : float
        Factor on the residual.

    Returns
    -------
    tuple of float
        ``weight * (1 - |cos|)`` between u x v and the axis, its gradient at u, its gradient at v.
    """
    residual, nx, ny, nz, _, _, _ = direction_residual(
        uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx, fx, fy, fz, weight
    )
    return (
        residual,
        vy * nz - vz * ny,
        vz * nx - vx * nz,
        vx * ny - vy * nx,
        ny * uz - nz * uy,
        nz * ux - nx * uz,
        nx * uy - ny * ux,
    )
