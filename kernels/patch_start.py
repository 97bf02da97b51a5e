"""Where and how a patch starts: local sheet thickness, normal and a clean spot near a seed.

Coordinates are voxels in the order x, y, z.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.field_sampling import FieldView, borrow_view, nearest_distance
from tracer.kernels.sheet_probe import scan_across

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
