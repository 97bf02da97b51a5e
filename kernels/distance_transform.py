"""Exact Euclidean distances up to a cap, for both sides of a mask, by SIMD minima over windows.

The squared distance to the nearest voxel of a set separates into one minimum per axis:
``d(p) = min over k of d'(p + k) + k²``. Below a cap of a few voxels the window is so short that the
plain minimum, taken over whole rows of small integers at a time, is many times faster than the
linear-time algorithms that follow parabolas: LLVM turns every step into minima of 32 bytes.

Masks are packed eight voxels to a byte along z, so that unpacking is vectorised along x and a
block can be put together from its neighbours bytewise. Bit 7 is the lowest z.

References
----------
A. Meijster, J. Roerdink, W. Hesselink, "A general algorithm for computing distance transforms in
linear time", 2000 (the separation into one-dimensional minima).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel

_TILE = 4096  # values per step of a minimum: all of its rows stay in the L1 cache; measured


def window_dtype(limit: int, radius: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest integer type that holds every sum of a transform.

    Parameters
    ----------
    limit : int
        Squared distances from here on are not told apart.
    radius : int
        Half width of the window.

    Returns
    -------
    type
        numpy.uint8 or numpy.uint16; the work arrays of :func:`squared_distances` have it.
    """
    return np.uint8 if limit + radius * radius <= np.iinfo(np.uint8).max else np.uint16


@kernel
def pack_mask(values: NDArray[np.uint8], threshold: int, out_packed: NDArray[np.uint8]) -> bool:
    """Fill in the packed mask of the values from a threshold on; return whether any bit is set.

    Parameters
    ----------
    values : ndarray of uint8, shape (n, rows, cols)
        Voxels, axes z, y, x.
    threshold : int
        Smallest foreground value.
    out_packed : ndarray of uint8, shape (ceil(n / 8), rows, cols)
        One bit per voxel, packed along z, the lowest z in bit 7; missing voxels are 0.

    Returns
    -------
    bool
        Whether there is any foreground.
    """
    n, rows, cols = values.shape
    smallest = np.uint8(threshold)
    seen = np.uint8(0)
    for i in range(out_packed.shape[0]):
        for j in range(rows):
            target = out_packed[i, j]
            target[:] = 0
            for b in range(min(8, n - 8 * i)):
                bit = np.uint8(128 >> b)
                source = values[8 * i + b, j]
                for k in range(cols):
                    target[k] |= bit if source[k] >= smallest else np.uint8(0)
            for k in range(cols):
                seen |= target[k]
    return bool(seen != 0)


@kernel
def _copy(source: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy a row. Slice assignment checks for overlaps and is not vectorised: 3x the time."""
    for i in range(out.size):
        out[i] = source[i]


@kernel
def _fill(out: NDArray[Any], value: int) -> None:
    """Fill a row."""
    for i in range(out.size):
        out[i] = value


@kernel
def _fold(out: NDArray[Any], above: NDArray[Any], below: NDArray[Any], distance: int) -> None:
    """Lower `out` to what lies at one distance to either side, plus the distance squared."""
    cast = out.dtype.type
    square = cast(distance * distance)
    for i in range(out.size):
        a, b, old = above[i], below[i], out[i]
        new = cast((min(b, a)) + square)
        out[i] = min(old, new)


@kernel
def _fold_two(
    out: NDArray[Any],
    above: NDArray[Any],
    below: NDArray[Any],
    next_above: NDArray[Any],
    next_below: NDArray[Any],
    distance: int,
) -> None:
    """Do the same for a distance and the next one, with half the traffic on `out`."""
    cast = out.dtype.type
    square = cast(distance * distance)
    next_square = cast((distance + 1) * (distance + 1))
    for i in range(out.size):
        a, b, old = above[i], below[i], out[i]
        new = cast((min(b, a)) + square)
        a, b = next_above[i], next_below[i]
        other = cast((min(b, a)) + next_square)
        new = min(other, new)
        out[i] = min(old, new)


@kernel
def _minima_along(
    source: NDArray[Any], out: NDArray[Any], stride: int, first: int, radius: int
) -> None:
    """Fill in the windowed minima along one axis of flattened arrays.

    ``out[i] = min over |k| <= radius of source[i + first + k * stride] + k²``. Along the fastest
    axis windows run across the ends of rows: the outermost `radius` columns hold no distance.
    """
    for start in range(0, out.size, _TILE):
        target = out[start : start + _TILE]
        n = target.size
        centre = first + start
        _copy(source[centre : centre + n], target)
        for k in range(1, radius, 2):
            a, b = centre + k * stride, centre - k * stride
            c, d = a + stride, b - stride
            _fold_two(
                target,
                source[a : a + n],
                source[b : b + n],
                source[c : c + n],
                source[d : d + n],
                k,
            )
        if radius % 2 == 1:
            a, b = centre + radius * stride, centre - radius * stride
            _fold(target, source[a : a + n], source[b : b + n], radius)


@kernel
def _mark(
    packed: NDArray[np.uint8],
    is_foreground: bool,
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    limit: int,
    out: NDArray[Any],
) -> None:
    """Fill in 0 where a voxel belongs to the wanted side and lies in the box, else the limit."""
    planes, rows, _ = out.shape
    cast = out.dtype.type
    far, near = cast(limit), cast(0)
    flip = np.uint8(0) if is_foreground else np.uint8(255)
    for i in range(planes):
        bit = np.uint8(128 >> (i & 7))
        for j in range(rows):
            target = out[i, j]
            _fill(target, limit)
            if i < low_zyx[0] or i >= high_zyx[0] or j < low_zyx[1] or j >= high_zyx[1]:
                continue
            inner = target[low_zyx[2] : high_zyx[2]]
            source = packed[i >> 3, j, low_zyx[2] : high_zyx[2]]
            for k in range(inner.size):
                inner[k] = near if ((source[k] ^ flip) & bit) != 0 else far


@kernel
def squared_distances(
    packed: NDArray[np.uint8],
    is_foreground: bool,
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    border: int,
    radius: int,
    limit: int,
    work: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Fill in exact squared distances to one side of a mask, up to a limit.

    Parameters
    ----------
    packed : ndarray of uint8, shape (ceil(planes / 8), rows, cols)
        Mask of a block, see :func:`pack_mask`.
    is_foreground : bool
        Which voxels to measure to: those of the mask or all others.
    low_zyx, high_zyx : ndarray of int64, shape (3,)
        Half-open box of the block that counts; voxels outside belong to neither side.
    border : int
        Voxels of the block on every side that get no distance; at least `radius`.
    radius : int
        Half width of the window: every distance below the limit has components up to this.
    limit : int
        What larger squared distances become; ``limit - 1 < (radius + 1)²``.
    work : ndarray of uint8 or uint16, shape (planes * rows * cols,)
        Overwritten; of :func:`window_dtype`.
    out : ndarray of the same dtype and shape
        Starts with the result: ``planes - 2 border`` planes of ``rows - 2 border`` rows of `cols`
        values, of which the first and last `border` of each row mean nothing.

    Notes
    -----
    Three passes over the block, 2 radius + 1 minima per voxel and pass.
    """
    n_rows = packed.shape[1]
    cols = packed.shape[2]
    planes = out.size // (n_rows * cols)
    kept_rows = n_rows - 2 * border
    kept = (planes - 2 * border) * kept_rows * cols
    _mark(packed, is_foreground, low_zyx, high_zyx, limit, work.reshape((planes, n_rows, cols)))
    _fill(out[:border], limit)
    _fill(out[out.size - border :], limit)
    _minima_along(work, out[border : out.size - border], 1, border, radius)
    for i in range(planes):
        _minima_along(
            out[i * n_rows * cols : (i + 1) * n_rows * cols],
            work[i * kept_rows * cols : (i + 1) * kept_rows * cols],
            cols,
            border * cols,
            radius,
        )
    stride = kept_rows * cols
    _minima_along(work, out[:kept], stride, border * stride, radius)


@kernel
def signed_codes(
    packed: NDArray[np.uint8],
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    border: int,
    radii: tuple[int, int],
    codes_outside: NDArray[np.uint8],
    codes_inside: NDArray[np.uint8],
    work: NDArray[Any],
    out_codes: NDArray[np.uint8],
) -> None:
    """Fill in the codes of the signed distance to the boundary of a mask.

    Parameters
    ----------
    packed : ndarray of uint8, shape (ceil(planes / 8), rows, cols)
        Mask of a block, see :func:`pack_mask`.
    low_zyx, high_zyx : ndarray of int64, shape (3,)
        Half-open box of the block that lies in the volume.
    border : int
        Voxels of the block on every side that get no code.
    radii : tuple of int
        Half widths of the windows outside and inside the mask.
    codes_outside, codes_inside : ndarray of uint8, shape (limit + 1,)
        Code of each squared distance to the mask, and to its complement.
    work : ndarray of uint8 or uint16, shape (3, planes * rows * cols)
        Overwritten.
    out_codes : ndarray of uint8, shape (planes - 2 border, rows - 2 border, cols - 2 border)
        The codes. A voxel of the mask gets one of `codes_inside`.
    """
    outside, inside = work[1], work[2]
    squared_distances(
        packed, True, low_zyx, high_zyx, border, radii[0], codes_outside.size - 1, work[0], outside
    )
    squared_distances(
        packed, False, low_zyx, high_zyx, border, radii[1], codes_inside.size - 1, work[0], inside
    )
    planes, rows, cols = out_codes.shape
    for i in range(planes):
        for j in range(rows):
            start = (i * rows + j) * packed.shape[2] + border
            to_mask = outside[start : start + cols]
            to_rest = inside[start : start + cols]
            target = out_codes[i, j]
            for k in range(cols):
                square = to_mask[k]
                target[k] = codes_outside[square] if square > 0 else codes_inside[to_rest[k]]
