"""Where a point of a phantom scroll lies on its sheet: a spiral carried through a deformation.

The sheet is an Archimedean spiral in material coordinates ``u``; the scroll is its image in space,
``X = F_n(... F_1(u))``. Each stage ``F_i`` is invertible by construction:

* *waves*: ``X = u + sum_j A_j sin(K_j . u + PH_j)``, inverted by iteration. It is invertible when
  the Lipschitz bound ``sum_j |A_j| |K_j|`` is below one (the caller checks that).
* *crush*: an affine map of the (x, y) plane, ``c + R(a) diag(s1, s2) R(-a) (u - c)``, whose axis
  ``a`` turns linearly with z and whose centre leans; inverted in closed form since it keeps z.
* *swirl*: a rotation about an axis along z by an angle that falls smoothly to zero with the
  distance from the axis and along z; inverted by the opposite rotation. It folds the sheets.

With r and phi in [0, 2 pi) the polar coordinates of ``u`` about the centre, the winding is
``w = r / pitch - phi / 2 pi``; the recto of wrap k is ``w = k`` and the total angle of its points
``phi + 2 pi k``. Laws: ``to_material(to_space(u))`` is ``u``; the gradient is that of ``w``.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

WAVES, CRUSH, SWIRL = 0, 1, 2
N_TERMS = 9  # values in a row of `terms`; unused ones are zero
N_LOCATED = 8  # values per point of `locate_points`

TWO_PI = 2.0 * math.pi
_FIXED_POINT_STEPS = 1  # contraction first, so that Newton starts close
_NEWTON_STEPS = 8
_SMALL_STEP = 5e-4  # voxels; what remains is about a hundredth of its square
_MAX_STEPS = 300  # plain contraction for the rare point where Newton did not settle
_CLOSE = 1e-9  # voxels

_QUARTERS_PER_RADIAN = 2.0 / math.pi
_QUARTER_HIGH = 1.5707963267341256  # pi / 2 in 33 bits, so that products with it are exact
_QUARTER_LOW = 6.077100506506192e-11  # the rest of it

Point = tuple[float, float, float]


class Spiral(NamedTuple):
    """Numbers that describe a phantom's geometry, for kernels.

    Attributes
    ----------
    geometry : ndarray of float64, shape (3,)
        Centre x, centre y and pitch of the spiral in material coordinates, voxels.
    kinds : ndarray of int64, shape (stages,)
        ``WAVES``, ``CRUSH`` or ``SWIRL``, in the order in which they are applied.
    first : ndarray of int64, shape (stages + 1,)
        Rows ``first[i]`` to ``first[i + 1]`` of `terms` belong to stage i.
    terms : ndarray of float64, shape (rows, 9)
        Waves: K (x, y, z), A (x, y, z), PH. Crush: centre x, y, reference z, s1, s2, angle, angle
        per voxel of z, lean x, y per voxel of z. Swirl: centre x, y, z, radius, half height, angle.
    """

    geometry: NDArray[np.float64]
    kinds: NDArray[np.int64]
    first: NDArray[np.int64]
    terms: NDArray[np.float64]


@inline_kernel
def sine_cosine(phase: float) -> tuple[float, float]:
    """Return sine and cosine, to 2e-15 for phases of a few thousand radians at most.

    Twice as fast as two calls of the C library, and the same bits on every machine: reduction to a
    quarter turn, then the Taylor series, whose remainder is below 1e-16 there.

    Parameters
    ----------
    phase : float
        Radians.

    Returns
    -------
    tuple of float
        Sine and cosine.
    """
    quarter = np.rint(phase * _QUARTERS_PER_RADIAN)
    r = (phase - quarter * _QUARTER_HIGH) - quarter * _QUARTER_LOW
    q = r * r
    tail = q * (1.0 / 362880 + q * (-1.0 / 39916800 + q * (1.0 / 6227020800)))
    sine = r + r * q * (-1.0 / 6 + q * (1.0 / 120 + q * (-1.0 / 5040 + tail)))
    tail = q * (1.0 / 40320 - q * (1.0 / 3628800 - q * (1.0 / 479001600 - q / 87178291200.0)))
    cosine = 1.0 - q * (0.5 - q * (1.0 / 24 - q * (1.0 / 720 - tail)))
    turns = np.int64(quarter)
    odd = float(turns & 1)
    even = 1.0 - odd
    sine_sign = 1.0 - float(turns & 2)
    cosine_sign = 1.0 - float((turns + 1) & 2)
    return sine_sign * (even * sine + odd * cosine), cosine_sign * (even * cosine + odd * sine)


@inline_kernel
def _wave_offset(
    terms: NDArray[np.float64], start: int, stop: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Return the displacement of a waves stage at a material point."""
    dx = dy = dz = 0.0
    for i in range(start, stop):
        t = terms[i]
        s, _ = sine_cosine(t[0] * x + t[1] * y + t[2] * z + t[6])
        dx += t[3] * s
        dy += t[4] * s
        dz += t[5] * s
    return dx, dy, dz


@inline_kernel
def _crush_matrix(t: NDArray[np.float64], z: float) -> tuple[float, float, float, float, float]:
    """Return the symmetric matrix (a, b, c) and half the difference and the angle of a crush."""
    angle = t[5] + t[6] * (z - t[2])
    mean = 0.5 * (t[3] + t[4])
    half = 0.5 * (t[3] - t[4])
    c2 = math.cos(2.0 * angle)
    s2 = math.sin(2.0 * angle)
    return mean + half * c2, half * s2, mean - half * c2, half, angle


@inline_kernel
def _swirl_angle(t: NDArray[np.float64], x: float, y: float, z: float) -> float:
    """Return the angle by which a swirl turns a point, in radians."""
    q = ((x - t[0]) ** 2 + (y - t[1]) ** 2) / (t[3] * t[3])
    h = (z - t[2]) / t[4]
    if q >= 1.0 or h * h >= 1.0:
        return 0.0
    return float(t[5] * (1.0 - q) ** 3 * (1.0 - h * h) ** 2)


@inline_kernel
def _stage_to_space(
    spiral: Spiral, stage: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Return a point carried through one stage."""
    start = spiral.first[stage]
    kind = spiral.kinds[stage]
    if kind == WAVES:
        dx, dy, dz = _wave_offset(spiral.terms, start, spiral.first[stage + 1], x, y, z)
        return x + dx, y + dy, z + dz
    t = spiral.terms[start]
    px = x - t[0]
    py = y - t[1]
    if kind == CRUSH:
        a, b, c, _, _ = _crush_matrix(t, z)
        lean = z - t[2]
        return t[0] + a * px + b * py + t[7] * lean, t[1] + b * px + c * py + t[8] * lean, z
    angle = _swirl_angle(t, x, y, z)
    ca = math.cos(angle)
    sa = math.sin(angle)
    return t[0] + ca * px - sa * py, t[1] + sa * px + ca * py, z


@inline_kernel
def _stage_jacobian(
    spiral: Spiral, stage: int, x: float, y: float, z: float
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """Return the Jacobian of one stage, row by row."""
    start = spiral.first[stage]
    kind = spiral.kinds[stage]
    if kind == WAVES:
        xx = yy = zz = 1.0
        xy = xz = yx = yz = zx = zy = 0.0
        for i in range(start, spiral.first[stage + 1]):
            t = spiral.terms[i]
            _, c = sine_cosine(t[0] * x + t[1] * y + t[2] * z + t[6])
            kx = t[0] * c
            ky = t[1] * c
            kz = t[2] * c
            xx += t[3] * kx
            xy += t[3] * ky
            xz += t[3] * kz
            yx += t[4] * kx
            yy += t[4] * ky
            yz += t[4] * kz
            zx += t[5] * kx
            zy += t[5] * ky
            zz += t[5] * kz
        return xx, xy, xz, yx, yy, yz, zx, zy, zz
    t = spiral.terms[start]
    px = x - t[0]
    py = y - t[1]
    if kind == CRUSH:
        a, b, c, half, angle = _crush_matrix(t, z)
        turn = 2.0 * half * t[6]
        c2 = math.cos(2.0 * angle)
        s2 = math.sin(2.0 * angle)
        dx = turn * (c2 * py - s2 * px) + t[7]
        dy = turn * (c2 * px + s2 * py) + t[8]
        return a, b, dx, b, c, dy, 0.0, 0.0, 1.0
    q = (px * px + py * py) / (t[3] * t[3])
    h = (z - t[2]) / t[4]
    if q >= 1.0 or h * h >= 1.0:
        return 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
    radial = (1.0 - q) ** 3
    axial = (1.0 - h * h) ** 2
    slope = -6.0 * t[5] * (1.0 - q) ** 2 * axial / (t[3] * t[3])
    gx = slope * px
    gy = slope * py
    gz = -4.0 * t[5] * radial * (1.0 - h * h) * h / t[4]
    angle = t[5] * radial * axial
    ca = math.cos(angle)
    sa = math.sin(angle)
    ex = -sa * px - ca * py  # derivative of the turned point by the angle
    ey = ca * px - sa * py
    return (
        ca + ex * gx,
        -sa + ex * gy,
        ex * gz,
        sa + ey * gx,
        ca + ey * gy,
        ey * gz,
        0.0,
        0.0,
        1.0,
    )


@inline_kernel
def _solve(
    a: float,
    b: float,
    c: float,
    d: float,
    e: float,
    f: float,
    g: float,
    h: float,
    i: float,
    x: float,
    y: float,
    z: float,
) -> tuple[float, float, float]:
    """Return the solution of a 3 x 3 system given row by row."""
    ei = e * i - f * h
    di = d * i - f * g
    dh = d * h - e * g
    det = a * ei - b * di + c * dh
    sx = x * ei - b * (y * i - f * z) + c * (y * h - e * z)
    sy = a * (y * i - f * z) - x * di + c * (d * z - y * g)
    sz = a * (e * z - y * h) - b * (d * z - y * g) + x * dh
    return sx / det, sy / det, sz / det


@inline_kernel
def _newton_step(
    terms: NDArray[np.float64], start: int, stop: int, u: Point, target: Point
) -> tuple[float, float, float]:
    """Return the Newton step towards the point that a waves stage carries to `target`."""
    rx = target[0] - u[0]
    ry = target[1] - u[1]
    rz = target[2] - u[2]
    xx = yy = zz = 1.0
    xy = xz = yx = yz = zx = zy = 0.0
    for i in range(start, stop):
        t = terms[i]
        phase = t[0] * u[0] + t[1] * u[1] + t[2] * u[2] + t[6]
        s, c = sine_cosine(phase)
        rx -= t[3] * s
        ry -= t[4] * s
        rz -= t[5] * s
        kx = t[0] * c
        ky = t[1] * c
        kz = t[2] * c
        xx += t[3] * kx
        xy += t[3] * ky
        xz += t[3] * kz
        yx += t[4] * kx
        yy += t[4] * ky
        yz += t[4] * kz
        zx += t[5] * kx
        zy += t[5] * ky
        zz += t[5] * kz
    return _solve(xx, xy, xz, yx, yy, yz, zx, zy, zz, rx, ry, rz)


@inline_kernel
def _waves_to_material(
    spiral: Spiral, stage: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Return the point that a waves stage carries to (x, y, z)."""
    start = spiral.first[stage]
    stop = spiral.first[stage + 1]
    ux = x
    uy = y
    uz = z
    for _ in range(_FIXED_POINT_STEPS):
        dx, dy, dz = _wave_offset(spiral.terms, start, stop, ux, uy, uz)
        ux = x - dx
        uy = y - dy
        uz = z - dz
    for _ in range(_NEWTON_STEPS):
        sx, sy, sz = _newton_step(spiral.terms, start, stop, (ux, uy, uz), (x, y, z))
        ux += sx
        uy += sy
        uz += sz
        if sx * sx + sy * sy + sz * sz < _SMALL_STEP * _SMALL_STEP:
            return ux, uy, uz
    for _ in range(_MAX_STEPS):
        dx, dy, dz = _wave_offset(spiral.terms, start, stop, ux, uy, uz)
        gap = (x - dx - ux) ** 2 + (y - dy - uy) ** 2 + (z - dz - uz) ** 2
        ux = x - dx
        uy = y - dy
        uz = z - dz
        if gap < _CLOSE * _CLOSE:
            break
    return ux, uy, uz


@inline_kernel
def to_space(spiral: Spiral, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return the place in space of a material point.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    x : float
        Material x, voxels.
    y : float
        Material y.
    z : float
        Material z.

    Returns
    -------
    tuple of float
        x, y, z in the volume.
    """
    for stage in range(spiral.kinds.shape[0]):
        x, y, z = _stage_to_space(spiral, stage, x, y, z)
    return x, y, z


@inline_kernel
def to_material(spiral: Spiral, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return the material point that lies at a place in space.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    x : float
        x in the volume, voxels.
    y : float
        y in the volume.
    z : float
        z in the volume.

    Returns
    -------
    tuple of float
        Material x, y, z.
    """
    for back in range(spiral.kinds.shape[0]):
        stage = spiral.kinds.shape[0] - 1 - back
        kind = spiral.kinds[stage]
        if kind == WAVES:
            x, y, z = _waves_to_material(spiral, stage, x, y, z)
            continue
        t = spiral.terms[spiral.first[stage]]
        if kind == CRUSH:
            a, b, c, _, _ = _crush_matrix(t, z)
            lean = z - t[2]
            px = x - t[0] - t[7] * lean
            py = y - t[1] - t[8] * lean
            det = a * c - b * b
            x = t[0] + (c * px - b * py) / det
            y = t[1] + (a * py - b * px) / det
        else:
            angle = -_swirl_angle(t, x, y, z)
            ca = math.cos(angle)
            sa = math.sin(angle)
            px = x - t[0]
            py = y - t[1]
            x = t[0] + ca * px - sa * py
            y = t[1] + sa * px + ca * py
    return x, y, z


@inline_kernel
def material_gradient(
    spiral: Spiral, x: float, y: float, z: float, gx: float, gy: float, gz: float
) -> tuple[float, float, float]:
    """Return a gradient at a material point as a gradient in space.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    x : float
        Material x, voxels.
    y : float
        Material y.
    z : float
        Material z.
    gx : float
        Derivative by material x.
    gy : float
        Derivative by material y.
    gz : float
        Derivative by material z.

    Returns
    -------
    tuple of float
        Derivatives by x, y and z in the volume.
    """
    for stage in range(spiral.kinds.shape[0]):
        xx, xy, xz, yx, yy, yz, zx, zy, zz = _stage_jacobian(spiral, stage, x, y, z)
        gx, gy, gz = _solve(xx, yx, zx, xy, yy, zy, xz, yz, zz, gx, gy, gz)
        if stage + 1 < spiral.kinds.shape[0]:
            x, y, z = _stage_to_space(spiral, stage, x, y, z)
    return gx, gy, gz


@inline_kernel
def wind(spiral: Spiral, x: float, y: float) -> tuple[float, float, float]:
    """Return the winding, angle and radius of a material point.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    x : float
        Material x, voxels.
    y : float
        Material y.

    Returns
    -------
    tuple of float
        Winding (recto of wrap k at k), angle in [0, 2 pi), radius.
    """
    px = x - spiral.geometry[0]
    py = y - spiral.geometry[1]
    radius = math.sqrt(px * px + py * py)
    angle = math.atan2(py, px)
    if angle < 0.0:
        angle += TWO_PI
    return radius / spiral.geometry[2] - angle / TWO_PI, angle, radius


@kernel
def locate_points(
    spiral: Spiral, points_xyz: NDArray[np.float64], out_located: NDArray[np.float64]
) -> None:
    """Write where points lie on the sheet.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    points_xyz : ndarray of float64, shape (n, 3)
        Places in space, voxels. A place that is not finite gives NaN.
    out_located : ndarray of float64, shape (n, 8)
        Material x, y, z; winding; angle in [0, 2 pi); gradient of the winding in space (x, y, z).
    """
    pitch = spiral.geometry[2]
    for i in range(points_xyz.shape[0]):
        x, y, z = points_xyz[i, 0], points_xyz[i, 1], points_xyz[i, 2]
        out = out_located[i]
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            out[:] = np.nan
            continue
        x, y, z = to_material(spiral, x, y, z)
        winding, angle, radius = wind(spiral, x, y)
        px = (x - spiral.geometry[0]) / radius
        py = (y - spiral.geometry[1]) / radius
        gx = px / pitch + py / (TWO_PI * radius)
        gy = py / pitch - px / (TWO_PI * radius)
        out[0] = x
        out[1] = y
        out[2] = z
        out[3] = winding
        out[4] = angle
        out[5], out[6], out[7] = material_gradient(spiral, x, y, z, gx, gy, 0.0)


@kernel
def place_points(
    spiral: Spiral, material_xyz: NDArray[np.float64], out_points_xyz: NDArray[np.float64]
) -> None:
    """Write where material points lie in space.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    material_xyz : ndarray of float64, shape (n, 3)
        Material points, voxels.
    out_points_xyz : ndarray of float64, shape (n, 3)
        Their places in the volume, voxels.
    """
    for i in range(material_xyz.shape[0]):
        x, y, z = to_space(spiral, material_xyz[i, 0], material_xyz[i, 1], material_xyz[i, 2])
        out_points_xyz[i, 0] = x
        out_points_xyz[i, 1] = y
        out_points_xyz[i, 2] = z
