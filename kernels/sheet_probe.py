r"""What a signed distance field looks like around a point: one sheet, a merger, a gap or nothing.

A scan walks from a point along a normal in both directions and finds the run of sheet voxels
nearest to it::

        + + + + . . . [ # # # # # ] . . .        # sheet   . outside   + next wrap
                    x-----> centre of the run, its thickness, and what lies on the other side

Scans of a point and of a ring around it see whether the sheet is single (thin runs whose centres
lie in one plane), merged with its neighbour (thick runs) or missing (no run). The plane through the
centres is the local sheet, so its tilt against the mesh is the normal deviation.

Codes are those of :class:`tracer.kernels.field_sampling.FieldView`, read at the nearest voxel.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import fused_kernel, inline_kernel, kernel
from tracer.kernels.field_sampling import FieldView, nearest_distance

RING = 8  # scans around the centre


class Scan(NamedTuple):
    """What one scan along the normal found.

    Attributes
    ----------
    found : bool
        Whether a run of sheet voxels lies within reach.
    centre : float
        Offset of the middle of the nearest run along the normal, voxels.
    thickness : float
        Length of that run, voxels; at least the part within reach.
    other : float
        Distance to the nearest run on the opposite side where the start lies outside, else inf.
    """

    found: bool
    centre: float
    thickness: float
    other: float


class SheetProbe(NamedTuple):
    """What the scans of a point and its ring found.

    Attributes
    ----------
    clean : int
        Scans, of 1 + RING, that met one thin run close to the plane of the others.
    thick : int
        Scans that met a run thicker than the limit: merged sheets or a blob.
    empty : int
        Scans that met nothing within reach.
    centre_thick : bool
        Whether the scan at the point itself is thick.
    thickness : float
        Mean thickness of the clean runs, voxels; 0 where there is none.
    slope_u, slope_v : float
        Slope of the plane through the run centres along the two tangents; 0 where undefined.
    rms : float
        Root mean square of the run centres about that plane, voxels.
    """

    clean: int
    thick: int
    empty: int
    centre_thick: bool
    thickness: float
    slope_u: float
    slope_v: float
    rms: float


@fused_kernel
def _first_inside(
    view: FieldView,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    reach: float,
) -> float:
    """Return the distance along (nx, ny, nz) to the first sheet voxel, inf if beyond reach."""
    t = 0.0
    while t <= reach:
        distance = nearest_distance(view, x + t * nx, y + t * ny, z + t * nz)
        if distance < 0.0:
            return t
        t += max(1.0, distance - 0.5)  # nothing can be nearer than the distance says
    return math.inf


@fused_kernel
def _run_length(
    view: FieldView,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    reach: float,
) -> float:
    """Return how far the sheet continues along (nx, ny, nz) from a point inside it."""
    t = 0.0
    inside = nearest_distance(view, x, y, z)
    while t <= reach:
        distance = nearest_distance(
            view, x + (t + 1.0) * nx, y + (t + 1.0) * ny, z + (t + 1.0) * nz
        )
        if distance >= 0.0:
            # the boundary lies between two samples: interpolate
            return t + min(1.0, -inside / max(distance - inside, 1e-6))
        t += 1.0
        inside = distance
    return t


@kernel
def scan_across(
    view: FieldView,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    reach: float,
) -> Scan:
    """Return the run of sheet voxels nearest to a point along a direction.

    Parameters
    ----------
    view : FieldView
        Signed distance field around the point.
    x, y, z : float
        Point in voxels.
    nx, ny, nz : float
        Unit direction across the sheet.
    reach : float
        How far to look to either side, voxels.

    Returns
    -------
    Scan
        The nearest run.
    """
    if nearest_distance(view, x, y, z) < 0.0:
        up = _run_length(view, x, y, z, nx, ny, nz, reach)
        down = _run_length(view, x, y, z, -nx, -ny, -nz, reach)
        return Scan(True, 0.5 * (up - down), up + down, math.inf)
    up = _first_inside(view, x, y, z, nx, ny, nz, reach)
    down = _first_inside(view, x, y, z, -nx, -ny, -nz, reach)
    if up == math.inf and down == math.inf:
        return Scan(False, 0.0, 0.0, math.inf)
    near, other, sign = (up, down, 1.0) if up <= down else (down, up, -1.0)
    sx, sy, sz = sign * nx, sign * ny, sign * nz
    length = 0.5 + _run_length(view, x + near * sx, y + near * sy, z + near * sz, sx, sy, sz, reach)
    return Scan(True, sign * (near - 0.5 + 0.5 * length), length, other)


@inline_kernel
def tangents(nx: float, ny: float, nz: float) -> tuple[float, float, float, float, float, float]:
    """Return two unit vectors that complete a unit normal to an orthogonal frame.

    Parameters
    ----------
    nx, ny, nz : float
        Unit normal.

    Returns
    -------
    tuple of float
        First tangent (x, y, z), second tangent (x, y, z).
    """
    if abs(nz) < 0.9:
        ux, uy, uz = -ny, nx, 0.0
    else:
        ux, uy, uz = 0.0, -nz, ny
    length = math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / length, uy / length, uz / length
    return ux, uy, uz, ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux


@kernel
def probe_sheet(
    view: FieldView,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    radius: float,
    reach: float,
    thickness_limit: float,
    centres: NDArray[np.float64],
) -> SheetProbe:
    """Return what the scans of a point and of a ring around it found.

    Parameters
    ----------
    view : FieldView
        Signed distance field around the point.
    x, y, z : float
        Point in voxels.
    nx, ny, nz : float
        Unit normal of the mesh.
    radius : float
        Radius of the ring, voxels.
    reach : float
        How far each scan looks to either side, voxels.
    thickness_limit : float
        Thickest run of a single sheet, voxels.
    centres : ndarray of float64, shape (RING + 1, 3)
        Scratch: tangent coordinates and run centre of the accepted scans.

    Returns
    -------
    SheetProbe
        Counts, mean thickness and the plane through the run centres.
    """
    ux, uy, uz, vx, vy, vz = tangents(nx, ny, nz)
    n = 0
    thick = 0
    empty = 0
    centre_thick = False
    thickness = 0.0
    for k in range(RING + 1):
        du = dv = 0.0
        if k > 0:
            angle = 2.0 * math.pi * (k - 1) / RING
            du, dv = radius * math.cos(angle), radius * math.sin(angle)
        scan = scan_across(
            view,
            x + du * ux + dv * vx,
            y + du * uy + dv * vy,
            z + du * uz + dv * vz,
            nx,
            ny,
            nz,
            reach,
        )
        if not scan.found:
            empty += 1
        elif scan.thickness > thickness_limit:
            thick += 1
            if k == 0:
                centre_thick = True
        else:
            centres[n, 0], centres[n, 1], centres[n, 2] = du, dv, scan.centre
            thickness += scan.thickness
            n += 1
    if n > 0:
        thickness /= n
    slope_u, slope_v, rms = _plane(centres, n)
    return SheetProbe(n, thick, empty, centre_thick, thickness, slope_u, slope_v, rms)


@inline_kernel
def _plane(centres: NDArray[np.float64], n: int) -> tuple[float, float, float]:
    """Return the slopes of the least-squares plane w = a + b u + c v and the residual."""
    if n < 4:
        return 0.0, 0.0, 0.0
    mu = mv = mw = 0.0
    for i in range(n):
        mu += centres[i, 0]
        mv += centres[i, 1]
        mw += centres[i, 2]
    mu, mv, mw = mu / n, mv / n, mw / n
    uu = uv = vv = uw = vw = ww = 0.0
    for i in range(n):
        a, b, c = centres[i, 0] - mu, centres[i, 1] - mv, centres[i, 2] - mw
        uu, uv, vv = uu + a * a, uv + a * b, vv + b * b
        uw, vw, ww = uw + a * c, vw + b * c, ww + c * c
    det = uu * vv - uv * uv
    if det < 1e-6 * (uu + vv) * (uu + vv):
        return 0.0, 0.0, math.sqrt(ww / n)
    b = (uw * vv - vw * uv) / det
    c = (vw * uu - uw * uv) / det
    left = max(0.0, ww - b * uw - c * vw)
    return b, c, math.sqrt(left / n)
