"""Exact Euclidean distances up to a cap, and the codes of the signed distance field.

Squared distances are separable: a scan along z, then minima over windows along y and x. Because
distances beyond the cap do not matter the windows are short and squares fit into uint8, and each
inner loop runs over two contiguous rows, so that the compiler turns it into vector instructions.

Axes are z, y, x.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.field_sampling import CODES_PER_VOXEL, ZERO_CODE

LONGEST_WINDOW = 9  # voxels: 174 + 9² is the largest sum and still fits into uint8
FAR_SQUARED = 174  # stands for every squared distance beyond the window

BACKGROUND = 0
SHEET = 1
OUTSIDE_VOLUME = 2


@inline_kernel
def _lower(target: NDArray[np.uint8], source: NDArray[np.uint8], add: np.uint8) -> None:
    """Lower a row to another row plus a constant, where that is smaller."""
    for x in range(target.shape[0]):
        target[x] = min(target[x], np.uint8(source[x] + add))


@kernel
def scan_along_z(
    kinds: NDArray[np.uint8], wanted: int, window: int, out: NDArray[np.uint8]
) -> None:
    """Fill in squared distances along z to the nearest voxel of a kind.

    Parameters
    ----------
    kinds : ndarray of uint8, shape (nz, ny, nx)
        Kinds of voxels.
    wanted : int
        The kind that distances are measured to.
    window : int
        Distances up to this many voxels are exact; at most LONGEST_WINDOW.
    out : ndarray of uint8, shape (nz, ny, nx)
        Filled with squared distances, FAR_SQUARED beyond the window.
    """
    nz, ny, nx = kinds.shape
    far = np.uint8(window + 1)
    one = np.uint8(1)
    for z in range(nz):
        for y in range(ny):
            kind, row = kinds[z, y], out[z, y]
            for x in range(nx):
                row[x] = np.uint8(0) if kind[x] == wanted else far
    for z in range(1, nz):
        for y in range(ny):
            _lower(out[z, y], out[z - 1, y], one)
    for z in range(nz - 2, -1, -1):
        for y in range(ny):
            _lower(out[z, y], out[z + 1, y], one)
    for z in range(nz):
        for y in range(ny):
            row = out[z, y]
            for x in range(nx):
                distance = row[x]
                row[x] = np.uint8(FAR_SQUARED) if distance >= far else np.uint8(distance * distance)


@kernel
def minimum_along_y(source: NDArray[np.uint8], window: int, out: NDArray[np.uint8]) -> None:
    """Fill in the minimum over k of ``source[z, y + k, x] + k²``.

    Parameters
    ----------
    source : ndarray of uint8, shape (nz, ny, nx)
        Squared distances along z.
    window : int
        Largest absolute value of k.
    out : ndarray of uint8, shape (nz, ny, nx)
        Filled with squared distances in the z, y plane.
    """
    nz, ny, _ = source.shape
    for z in range(nz):
        for y in range(ny):
            row = out[z, y]
            row[:] = source[z, y]
            for k in range(max(-window, -y), min(window, ny - 1 - y) + 1):
                _lower(row, source[z, y + k], np.uint8(k * k))


@kernel
def minimum_along_x(source: NDArray[np.uint8], window: int, out: NDArray[np.uint8]) -> None:
    """Fill in the minimum over k of ``source[z, y, x + k] + k²``.

    Parameters
    ----------
    source : ndarray of uint8, shape (nz, ny, nx)
        Squared distances in the z, y plane.
    window : int
        Largest absolute value of k.
    out : ndarray of uint8, shape (nz, ny, nx)
        Filled with squared distances.
    """
    nz, ny, nx = source.shape
    for z in range(nz):
        for y in range(ny):
            row, given = out[z, y], source[z, y]
            row[:] = given
            for k in range(1, min(window, nx - 1) + 1):
                square = np.uint8(k * k)
                _lower(row[: nx - k], given[k:], square)
                _lower(row[k:], given[: nx - k], square)


@kernel
def squared_distances(
    kinds: NDArray[np.uint8],
    wanted: int,
    window: int,
    work: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Fill in squared Euclidean distances to the nearest voxel of a kind.

    Parameters
    ----------
    kinds : ndarray of uint8, shape (nz, ny, nx)
        Kinds of voxels.
    wanted : int
        The kind that distances are measured to.
    window : int
        Distances up to this many voxels are exact; at most LONGEST_WINDOW.
    work : ndarray of uint8, shape (nz, ny, nx)
        Scratch.
    out : ndarray of uint8, shape (nz, ny, nx)
        Filled with squared distances; where the true one exceeds window² so does the value.

    References
    ----------
    A. Meijster, J. Roerdink, W. Hesselink: A general algorithm for computing distance transforms in
    linear time (2000), for the separation into one scan and two minimisations.
    """
    scan_along_z(kinds, wanted, window, out)
    minimum_along_y(out, window, work)
    minimum_along_x(work, window, out)


@kernel
def encode_signed(
    kinds: NDArray[np.uint8],
    outside_squared: NDArray[np.uint8],
    inside_squared: NDArray[np.uint8],
    border: int,
    cap: float,
    out_codes: NDArray[np.uint8],
) -> bool:
    """Fill in the codes of the signed distance.

    Parameters
    ----------
    kinds : ndarray of uint8, shape (nz, ny, nx)
        SHEET, BACKGROUND or OUTSIDE_VOLUME.
    outside_squared : ndarray of uint8, shape (nz, ny, nx)
        Squared distance to the sheet.
    inside_squared : ndarray of uint8, shape (nz, ny, nx)
        Squared distance to the background.
    border : int
        Voxels that the inputs have around `out_codes`.
    cap : float
        Largest signed distance to either side, voxels; at most ``LONGEST_WINDOW - 1``.
    out_codes : ndarray of uint8, shape (nz - 2 border, ...)
        Filled with ``round(8 signed) + 64``, where signed is the distance to the nearest voxel of
        the other kind minus one half, negative on the sheet.

    Returns
    -------
    bool
        Whether any code differs from the cap's.
    """
    outside_codes = np.empty(256, np.uint8)
    inside_codes = np.empty(256, np.uint8)
    for squared in range(256):
        code = math.floor(CODES_PER_VOXEL * min(cap, math.sqrt(squared) - 0.5) + 0.5)
        outside_codes[squared] = np.uint8(ZERO_CODE + code)
        inside_codes[squared] = np.uint8(ZERO_CODE - code)
    cap_code = outside_codes[255]
    nz, ny, nx = out_codes.shape
    differs = False
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                i, j, k = z + border, y + border, x + border
                kind = kinds[i, j, k]
                code = cap_code
                if kind == BACKGROUND:
                    code = outside_codes[outside_squared[i, j, k]]
                elif kind == SHEET:
                    code = inside_codes[inside_squared[i, j, k]]
                differs |= code != cap_code
                out_codes[z, y, x] = code
    return differs
