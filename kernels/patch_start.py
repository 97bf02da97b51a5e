"""Where and how a patch starts: local sheet thickness, normal and a clean spot near a seed.

Coordinates are voxels in the order x, y, z.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel, kernel
from tracer.kernels.field_sampling import FieldView, borrow_view, nearest_distance
from tracer.kernels.sheet_probe import RING, probe_sheet, scan_across

_THIRD = 2.0 * math.pi / 3.0
_FEWEST_CLEAN = 6  # of the nine scans around a start; the quad's vertices need more
_BOUNDARY = 1.0  # voxels: a sheet voxel this close to the boundary has a well-defined gradient


@kernel
def boundary_thicknesses(
    view: FieldView,
    centre_xyz: NDArray[np.float64],
    half: int,
    stride: int,
    reach: float,
    out_thickness: NDArray[np.float64],
) -> int:
    """Return how many thicknesses were measured across the sheets of a box, and fill them in.

    A sheet voxel next to the boundary is scanned along the field's gradient, which is the sheet's
    normal there. The voxels looked at are staggered, one in every cube of a lattice: a plain
    lattice misses the boundary of a flat sheet along an axis altogether.

    Parameters
    ----------
    view : FieldView
        Signed distance field of the box and `reach` around it.
    centre_xyz : ndarray of float64, shape (3,)
        Centre of the box.
    half : int
        Half its edge length, voxels.
    stride : int
        Mean spacing of the voxels looked at.
    reach : float
        Longest run that is measured, voxels.
    out_thickness : ndarray of float64, shape (n,)
        Filled with thicknesses, voxels.

    Returns
    -------
    int
        Number of entries filled.
    """
    view = borrow_view(view)
    n = 0
    steps = 2 * half // stride
    for i in range(steps):
        for j in range(steps):
            for k in range(steps):
                if n == out_thickness.shape[0]:
                    return n
                x = math.floor(centre_xyz[0]) - half + stride * k + (i + j) % stride
                y = math.floor(centre_xyz[1]) - half + stride * j + (i + k) % stride
                z = math.floor(centre_xyz[2]) - half + stride * i + (j + k) % stride
                distance = nearest_distance(view, x, y, z)
                if not -_BOUNDARY < distance < 0.0:
                    continue
                gx = nearest_distance(view, x + 1, y, z) - nearest_distance(view, x - 1, y, z)
                gy = nearest_distance(view, x, y + 1, z) - nearest_distance(view, x, y - 1, z)
                gz = nearest_distance(view, x, y, z + 1) - nearest_distance(view, x, y, z - 1)
                length = math.sqrt(gx * gx + gy * gy + gz * gz)
                if length < 1.0:
                    continue
                scan = scan_across(view, x, y, z, gx / length, gy / length, gz / length, reach)
                out_thickness[n] = scan.thickness
                n += 1
    return n


@kernel
def sheet_covariance(
    view: FieldView, centre_xyz: NDArray[np.float64], radius: int, out_moments: NDArray[np.float64]
) -> int:
    """Return the number of sheet voxels in a ball and fill in their moments.

    Parameters
    ----------
    view : FieldView
        Signed distance field of the ball.
    centre_xyz : ndarray of float64, shape (3,)
        Centre of the ball.
    radius : int
        Its radius, voxels.
    out_moments : ndarray of float64, shape (9,)
        Filled with the mean offset (x, y, z) and the covariance (xx, xy, xz, yy, yz, zz).

    Returns
    -------
    int
        Number of sheet voxels; the moments are zero where it is 0.
    """
    view = borrow_view(view)
    out_moments[:] = 0.0
    n = 0
    cx = math.floor(centre_xyz[0] + 0.5)
    cy = math.floor(centre_xyz[1] + 0.5)
    cz = math.floor(centre_xyz[2] + 0.5)
    for dz in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if dx * dx + dy * dy + dz * dz > radius * radius:
                    continue
                if nearest_distance(view, cx + dx, cy + dy, cz + dz) >= 0.0:
                    continue
                n += 1
                out_moments[0] += dx
                out_moments[1] += dy
                out_moments[2] += dz
                out_moments[3] += dx * dx
                out_moments[4] += dx * dy
                out_moments[5] += dx * dz
                out_moments[6] += dy * dy
                out_moments[7] += dy * dz
                out_moments[8] += dz * dz
    if n > 0:
        out_moments /= n
        mx, my, mz = out_moments[0], out_moments[1], out_moments[2]
        out_moments[3] -= mx * mx
        out_moments[4] -= mx * my
        out_moments[5] -= mx * mz
        out_moments[6] -= my * my
        out_moments[7] -= my * mz
        out_moments[8] -= mz * mz
    return n


@inline_kernel
def smallest_axis(
    xx: float, xy: float, xz: float, yy: float, yz: float, zz: float
) -> tuple[float, float, float, bool]:
    """Return the unit eigenvector of the smallest eigenvalue of a symmetric matrix.

    Parameters
    ----------
    xx, xy, xz, yy, yz, zz : float
        The matrix.

    Returns
    -------
    tuple
        x, y, z, its largest component positive, and whether it is defined: the two smallest
        eigenvalues of a line or a point are equal.

    References
    ----------
    O. K. Smith, "Eigenvalues of a symmetric 3 x 3 matrix", 1961.
    """
    mean = (xx + yy + zz) / 3.0
    a, b, c = xx - mean, yy - mean, zz - mean
    scale = math.sqrt((a * a + b * b + c * c + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0)
    if not scale > 1e-9 * abs(mean):
        return 0.0, 0.0, 1.0, False
    det = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    half = min(1.0, max(-1.0, det / (2.0 * scale * scale * scale)))
    smallest = 2.0 * scale * math.cos(math.acos(half) / 3.0 + _THIRD)
    a, b, c = a - smallest, b - smallest, c - smallest
    # the eigenvector is across the rows: take the best conditioned of their cross products
    x0, y0, z0 = xy * yz - xz * b, xz * xy - a * yz, a * b - xy * xy
    x1, y1, z1 = xy * c - xz * yz, xz * xz - a * c, a * yz - xy * xz
    x2, y2, z2 = b * c - yz * yz, yz * xz - xy * c, xy * yz - b * xz
    n0, n1, n2 = (
        x0 * x0 + y0 * y0 + z0 * z0,
        x1 * x1 + y1 * y1 + z1 * z1,
        x2 * x2 + y2 * y2 + z2 * z2,
    )
    x, y, z, n = x0, y0, z0, n0
    if n1 > n:
        x, y, z, n = x1, y1, z1, n1
    if n2 > n:
        x, y, z, n = x2, y2, z2, n2
    if not n > 1e-12 * scale**4:
        return 0.0, 0.0, 1.0, False
    largest = x
    if abs(y) > abs(largest):
        largest = y
    if abs(z) > abs(largest):
        largest = z
    length = math.copysign(math.sqrt(n), largest)
    return x / length, y / length, z / length, True


@kernel
def align_start(
    view: FieldView,
    point_xyz: NDArray[np.float64],
    ball_radius: int,
    fewest_voxels: int,
    probe_radius: float,
    probe_reach: float,
    thickness_limit: float,
    max_thick: int,
    out_origin: NDArray[np.float64],
    out_normal: NDArray[np.float64],
) -> bool:
    """Return whether one single sheet is seen at a point; fill in its mid-line and normal.

    Parameters
    ----------
    view : FieldView
        Signed distance field around the point.
    point_xyz : ndarray of float64, shape (3,)
        Point in voxels.
    ball_radius : int
        Ball whose sheet voxels give the normal, voxels.
    fewest_voxels : int
        Sheet voxels that it has to hold.
    probe_radius, probe_reach : float
        Radius of the ring of scans and reach of each, voxels.
    thickness_limit : float
        Thickest run of a single sheet, voxels.
    max_thick : int
        Thick scans, of nine, that are tolerated.
    out_origin : ndarray of float64, shape (3,)
        Filled with the point of the mid-line next to the given one.
    out_normal : ndarray of float64, shape (3,)
        Filled with the sheet's unit normal.

    Returns
    -------
    bool
        Whether the sheet is thin there and most scans around are clean.
    """
    view = borrow_view(view)
    point, origin, normal = borrowed(point_xyz), borrowed(out_origin), borrowed(out_normal)
    moments = np.empty(9)
    if sheet_covariance(view, point, ball_radius, moments) < fewest_voxels:
        return False
    nx, ny, nz, known = smallest_axis(
        moments[3], moments[4], moments[5], moments[6], moments[7], moments[8]
    )
    if not known:
        return False
    scan = scan_across(view, point[0], point[1], point[2], nx, ny, nz, probe_reach)
    if not scan.found or scan.thickness > thickness_limit:
        return False
    x, y, z = point[0] + scan.centre * nx, point[1] + scan.centre * ny, point[2] + scan.centre * nz
    centres = np.empty((RING + 1, 3))
    probe = probe_sheet(
        view, x, y, z, nx, ny, nz, probe_radius, probe_reach, thickness_limit, centres
    )
    origin[0], origin[1], origin[2] = x, y, z
    normal[0], normal[1], normal[2] = nx, ny, nz
    return probe.clean >= _FEWEST_CLEAN and probe.thick <= max_thick and not probe.centre_thick


@kernel
def deepest_voxels(
    view: FieldView,
    centre_xyz: NDArray[np.float64],
    half: int,
    stride: int,
    depth: float,
    out_points: NDArray[np.float64],
) -> int:
    """Return how many cubes around a point reach deep into a sheet, and list their deepest voxels.

    One voxel of every cube, because a lattice can miss the middle of a thin sheet altogether.

    Parameters
    ----------
    view : FieldView
        Signed distance field of the box.
    centre_xyz : ndarray of float64, shape (3,)
        Centre of the box.
    half : int
        Half the box's edge length, voxels.
    stride : int
        Edge length of the cubes.
    depth : float
        Voxels at least this deep inside the sheet count.
    out_points : ndarray of float64, shape (n, 3)
        Filled with points x, y, z, cube by cube; of equally deep voxels the first.

    Returns
    -------
    int
        Number of points filled.
    """
    view = borrow_view(view)
    n = 0
    steps = half // stride
    x0 = math.floor(centre_xyz[0] + 0.5)
    y0 = math.floor(centre_xyz[1] + 0.5)
    z0 = math.floor(centre_xyz[2] + 0.5)
    for i in range(-steps, steps):
        for j in range(-steps, steps):
            for k in range(-steps, steps):
                if n == out_points.shape[0]:
                    return n
                deepest = math.inf
                px = py = pz = 0.0
                for dz in range(stride):
                    for dy in range(stride):
                        for dx in range(stride):
                            x = x0 + stride * k + dx
                            y = y0 + stride * j + dy
                            z = z0 + stride * i + dz
                            distance = nearest_distance(view, x, y, z)
                            if distance < deepest:
                                deepest = distance
                                px, py, pz = x, y, z
                if deepest <= -depth:
                    out_points[n, 0], out_points[n, 1], out_points[n, 2] = px, py, pz
                    n += 1
    return n
