"""Close holes of a sheet in its own plane, where the neighbouring sheets cannot be reached."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.sheet_filter import CELL, sample_offset, tangents

LINES = 4  # through a voxel, 45 degrees apart in the plane of the sheet
SOLID = 0.75  # interpolated mask; nearest voxels would thicken oblique sheets by their stair steps
NEEDED = 3  # of them must meet the sheet on both sides: a sheet's edge and a bend meet at most two


@kernel
def close_along_sheet(
    mask: NDArray[np.float32], normals: NDArray[np.float32], radius: int, margin: int
) -> NDArray[np.bool_]:
    """Return a mask with the holes of its sheets closed.

    Parameters
    ----------
    mask : ndarray of float32, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        1 in sheets, 0 elsewhere.
    normals : ndarray of float32
        Unit sheet normals of the cells of `mask`; zeros where there is none.
    radius : int
        How far the sheet may be from a voxel of a hole, in voxels, in each of two directions.
    margin : int
        Voxels that the result is smaller on every side; even, at least radius + 2.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        The mask, and the voxels that meet it on both sides along at least three of four lines in
        the plane of the sheet.
    """
    nz, ny, nx = mask.shape
    out = np.zeros((nz - 2 * margin, ny - 2 * margin, nx - 2 * margin), np.bool_)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                if mask[z, y, x] > 0.5:
                    out[z - margin, y - margin, x - margin] = True
                    continue
                n = normals[z // CELL, y // CELL, x // CELL]
                n0, n1, n2 = float(n[0]), float(n[1]), float(n[2])
                if n0 * n0 + n1 * n1 + n2 * n2 < 0.5:
                    continue
                a0, a1, a2, b0, b1, b2 = tangents(n0, n1, n2)
                lines = 0
                for m in range(LINES):
                    if lines + LINES - m < NEEDED:
                        break
                    p = math.cos(math.pi * m / LINES)
                    q = math.sin(math.pi * m / LINES)
                    sides = 0
                    for side in range(2):
                        sign = 1.0 - 2.0 * side
                        d0 = sign * (p * a0 + q * b0)
                        d1 = sign * (p * a1 + q * b1)
                        d2 = sign * (p * a2 + q * b2)
                        for step in range(1, radius + 1):
                            d = float(step)
                            inside = sample_offset(mask, z, y, x, d * d0, d * d1, d * d2)
                            if inside >= SOLID:
                                sides += 1
                                break
                        if sides == side:
                            break
                    if sides == 2:
                        lines += 1
                if lines >= NEEDED:
                    out[z - margin, y - margin, x - margin] = True
    return out
