"""Voxels of a phantom: boxes of grey values and prediction.

Material coordinates are computed exactly on a lattice of every fourth voxel and interpolated in
between; the error is a few hundredths of a voxel, since the deformation is smooth.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.phantom import TWO_PI, Spiral, material_gradient, to_material, wind
from tracer.kernels.phantom_looks import Recipe, case_voxel, is_blob, scroll_voxel
from tracer.kernels.phantom_noise import grain, uniform

LATTICE = 4  # voxels between places whose material coordinates are computed exactly
_GRIT_SHARE = 2e-5  # of 2 x 2 x 2 voxel cells that hold a grain of sand
_GRIT_VALUE = 400.0  # its grey value before blur
_GRAIN, _GRIT = 0x3F6A1B5, 0x4D2C9E7  # salts


@kernel
def locate_lattice(
    spiral: Spiral, start_zyx: NDArray[np.int64], out_lattice: NDArray[np.float64]
) -> None:
    """Write material coordinates and winding slope of every fourth place of a block.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    start_zyx : ndarray of int64, shape (3,)
        First place, a multiple of ``LATTICE``.
    out_lattice : ndarray of float64, shape (nz, ny, nx, 4)
        Material x, y, z and the length of the winding's gradient in space.
    """
    nz, ny, nx, _ = out_lattice.shape
    pitch = spiral.geometry[2]
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                x, y, z = to_material(
                    spiral,
                    float(start_zyx[2] + LATTICE * k),
                    float(start_zyx[1] + LATTICE * j),
                    float(start_zyx[0] + LATTICE * i),
                )
                px = x - spiral.geometry[0]
                py = y - spiral.geometry[1]
                # Near the axis there is no sheet; keep the slope finite there.
                r2 = max(px * px + py * py, 1.0)
                r = math.sqrt(r2)
                gx = px / (r * pitch) + py / (TWO_PI * r2)
                gy = py / (r * pitch) - px / (TWO_PI * r2)
                gx, gy, gz = material_gradient(spiral, x, y, z, gx, gy, 0.0)
                out_lattice[i, j, k, 0] = x
                out_lattice[i, j, k, 1] = y
                out_lattice[i, j, k, 2] = z
                out_lattice[i, j, k, 3] = math.sqrt(gx * gx + gy * gy + gz * gz)


@kernel
def render_block(
    spiral: Spiral,
    recipe: Recipe,
    ink: NDArray[np.uint8],
    size_zyx: NDArray[np.int64],
    start_zyx: NDArray[np.int64],
    lattice: NDArray[np.float64],
    out_ct: NDArray[np.float32],
    out_prediction: NDArray[np.uint8],
) -> None:
    """Write the grey values before blur, and the prediction, of a block.

    Parameters
    ----------
    spiral : Spiral
        The phantom.
    recipe : Recipe
        Its looks.
    ink : ndarray of uint8, shape (z, arc)
        The ink image.
    size_zyx : ndarray of int64, shape (3,)
        Shape of the volume.
    start_zyx : ndarray of int64, shape (3,)
        First voxel of the block.
    lattice : ndarray of float64, shape (nz, ny, nx, 4)
        What :func:`locate_lattice` wrote from ``floor(start / LATTICE) * LATTICE`` on, covering
        the block.
    out_ct : ndarray of float32, shape (z, y, x)
        Grey values with noise, not clipped.
    out_prediction : ndarray of uint8, shape (z, y, x)
        0 or 255.
    """
    nz, ny, nx = out_ct.shape
    pitch = spiral.geometry[2]
    row = np.empty((lattice.shape[2], 4))
    base = start_zyx // LATTICE
    half_size = 0.5 * min(size_zyx[1], size_zyx[2])
    for i in range(nz):
        z = start_zyx[0] + i
        li = z // LATTICE - base[0]
        tz = (z % LATTICE) / LATTICE
        sheet_here = recipe.z_first <= z < recipe.z_end
        for j in range(ny):
            y = start_zyx[1] + j
            lj = y // LATTICE - base[1]
            ty = (y % LATTICE) / LATTICE
            for k in range(lattice.shape[2]):
                for m in range(4):
                    low = lattice[li, lj, k, m] * (1 - ty) + lattice[li, lj + 1, k, m] * ty
                    high = lattice[li + 1, lj, k, m] * (1 - ty) + lattice[li + 1, lj + 1, k, m] * ty
                    row[k, m] = low * (1.0 - tz) + high * tz
            for k in range(nx):
                x = start_zyx[2] + k
                lk = x // LATTICE - base[2]
                tx = (x % LATTICE) / LATTICE
                value = recipe.air
                positive = False
                if sheet_here:
                    winding, angle, _ = wind(
                        spiral,
                        row[lk, 0] * (1.0 - tx) + row[lk + 1, 0] * tx,
                        row[lk, 1] * (1.0 - tx) + row[lk + 1, 1] * tx,
                    )
                    material_z = row[lk, 2] * (1.0 - tx) + row[lk + 1, 2] * tx
                    slope = row[lk, 3] * (1.0 - tx) + row[lk + 1, 3] * tx
                    value, positive = scroll_voxel(
                        recipe, pitch, ink, winding, angle, material_z, slope
                    )
                    positive = positive or is_blob(recipe, float(x), float(y), float(z))
                if recipe.case > 0.0:
                    more, shell = case_voxel(
                        recipe,
                        x - 0.5 * size_zyx[2],
                        y - 0.5 * size_zyx[1],
                        float(z),
                        half_size,
                    )
                    value = max(value, recipe.air + more) if more > 0.0 else value
                    positive = positive or (shell and recipe.case_predicted > 0.0)
                if uniform(recipe.seed + _GRIT, x >> 1, y >> 1, z >> 1) < _GRIT_SHARE:
                    value = _GRIT_VALUE
                value += recipe.noise * grain(recipe.seed + _GRAIN, x, y, z)
                out_ct[i, j, k] = value
                out_prediction[i, j, k] = 255 if positive else 0


@kernel
def blur_block(
    ct: NDArray[np.float32], weight: float, work: NDArray[np.float32], out_ct: NDArray[np.uint8]
) -> None:
    """Write a block of grey values blurred along each axis, rounded and clipped.

    Parameters
    ----------
    ct : ndarray of float32, shape (z + 2, y + 2, x + 2)
        Grey values with a border of one voxel; overwritten.
    weight : float
        Weight of each neighbour along an axis; the voxel itself keeps the rest.
    work : ndarray of float32, shape (z + 2, y + 2, x + 2)
        Work array.
    out_ct : ndarray of uint8, shape (z, y, x)
        Grey values.
    """
    nz, ny, nx = ct.shape
    mid = np.float32(1.0 - 2.0 * weight)
    side = np.float32(weight)
    for i in range(nz):
        for j in range(ny):
            for k in range(1, nx - 1):
                work[i, j, k] = mid * ct[i, j, k] + side * (ct[i, j, k - 1] + ct[i, j, k + 1])
    for i in range(nz):
        for j in range(1, ny - 1):
            for k in range(1, nx - 1):
                ct[i, j, k] = mid * work[i, j, k] + side * (work[i, j - 1, k] + work[i, j + 1, k])
    for i in range(1, nz - 1):
        for j in range(1, ny - 1):
            for k in range(1, nx - 1):
                value = mid * ct[i, j, k] + side * (ct[i - 1, j, k] + ct[i + 1, j, k])
                rounded = np.rint(min(255.0, max(0.0, float(value))))
                out_ct[i - 1, j - 1, k - 1] = np.uint8(rounded)
