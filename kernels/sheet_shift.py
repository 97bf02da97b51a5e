"""Move marked voxels along the sheet normals: a face into its sheet."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.sheet_filter import CELL


@kernel
def shift_along_normals(
    ridges: NDArray[np.float32], normals: NDArray[np.float32], shift: float, margin: int
) -> NDArray[np.float32]:
    """Return marked voxels moved along the sheet normals.

    Parameters
    ----------
    ridges : ndarray of float32, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        Values of voxels.
    normals : ndarray of float32
        Sheet normals of the cells of `ridges`.
    shift : float
        How far values move along the normal, in voxels; against it where negative.
    margin : int
        Voxels that the result is smaller on every side; even, at least |shift| + 1.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Mean of the marked voxels around the place that a voxel came from, where they hold at least
        half of its trilinear weight.
    """
    nz, ny, nx = ridges.shape
    out = np.zeros((nz - 2 * margin, ny - 2 * margin, nx - 2 * margin), np.float32)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                n = normals[z // CELL, y // CELL, x // CELL]
                dz, dy, dx = -shift * n[0], -shift * n[1], -shift * n[2]
                lz, ly, lx = math.floor(dz), math.floor(dy), math.floor(dx)
                total = share = 0.0
                for corner in range(8):
                    i, j, k = corner >> 2, (corner >> 1) & 1, corner & 1
                    value = ridges[z + lz + i, y + ly + j, x + lx + k]
                    if value > 0.0:
                        weight = abs(1.0 - i - dz + lz) * abs(1.0 - j - dy + ly)
                        weight *= abs(1.0 - k - dx + lx)
                        total += weight * value
                        share += weight
                if share >= 0.5:
                    out[z - margin, y - margin, x - margin] = total / share
    return out
