"""How much foreground there is along rays through a block of a prediction."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel


@kernel
def sample_mask(
    block: NDArray[np.uint8],
    threshold: int,
    low_xyz: NDArray[np.int64],
    points_xyz: NDArray[np.float64],
    chosen: NDArray[np.int64],
    out_share: NDArray[np.float32],
) -> None:
    """Fill the trilinear share of foreground at some points.

    Parameters
    ----------
    block : ndarray of uint8, shape (nz, ny, nx)
        Part of a prediction.
    threshold : int
        Lowest value that counts as foreground.
    low_xyz : ndarray of int64, shape (3,)
        Position of the block's first voxel.
    points_xyz : ndarray of float64, shape (n, 3)
        Points in voxels.
    chosen : ndarray of int64, shape (m,)
        The points to sample; those outside the block count as 0.
    out_share : ndarray of float32, shape (n,)
        0 to 1, at the chosen points.
    """
    nz, ny, nx = block.shape
    for p in chosen:
        x = points_xyz[p, 0] - low_xyz[0]
        y = points_xyz[p, 1] - low_xyz[1]
        z = points_xyz[p, 2] - low_xyz[2]
        i = math.floor(x)
        j = math.floor(y)
        k = math.floor(z)
        total = 0.0
        for dz in range(2):
            wz = z - k if dz == 1 else 1.0 - (z - k)
            for dy in range(2):
                wy = y - j if dy == 1 else 1.0 - (y - j)
                for dx in range(2):
                    wx = x - i if dx == 1 else 1.0 - (x - i)
                    if (
                        0 <= k + dz < nz
                        and 0 <= j + dy < ny
                        and 0 <= i + dx < nx
                        and block[k + dz, j + dy, i + dx] >= threshold
                    ):
                        total += wz * wy * wx
        out_share[p] = total
