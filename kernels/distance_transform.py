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

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import borrowed, inline_kernel, kernel
from tracer.kernels.field_sampling import CODES_PER_VOXEL, ZERO_CODE

_TILE = 4096  # values per step of a minimum: all of its rows stay in the L1 cache; measured


@inline_kernel
def squared_limit(cap: float) -> int:
    """Return the smallest squared distance at which the signed distance reaches a cap.

    Parameters
    ----------
    cap : float
        Voxels from the boundary, which lies half a voxel before the nearest voxel's centre.

    Returns
    -------
    int
        Squared voxels.
    """
    return math.ceil((cap + 0.5) * (cap + 0.5))


@inline_kernel
def window_radius(limit: int) -> int:
    """Return the largest component that a squared distance below a limit can have.

    Parameters
    ----------
    limit : int
        Squared voxels, at least 1.

    Returns
    -------
    int
        Half width of the window that finds all of them.
    """
    return int(math.sqrt(limit - 1))


def window_dtype(cap: float) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest integer type that holds every sum of a transform.

    Parameters
    ----------
    cap : float
        Largest signed distance, voxels.

    Returns
    -------
    type
        numpy.uint8 or numpy.uint16; the work arrays have it.
    """
    limit = squared_limit(cap)
    largest = limit + window_radius(limit) ** 2
    return np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16


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
def _largest(values: NDArray[Any]) -> int:
    """Return the largest of some values."""
    largest = values[0]
    for i in range(values.size):
        value = values[i]
        largest = max(value, largest)
    return int(largest)


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
        is_done = False
        for k in range(1, radius, 2):
            # all that is left is larger: a sheet of 5 voxels is done after two of eight steps
            is_done = k > 1 and k * k >= _largest(target)
            if is_done:
                break
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
        if radius % 2 == 1 and not is_done:
            a, b = centre + radius * stride, centre - radius * stride
            _fold(target, source[a : a + n], source[b : b + n], radius)


@kernel
def _step(
    centre: NDArray[Any], above: NDArray[Any], below: NDArray[Any], step: int, out: NDArray[Any]
) -> None:
    """Fill in the smaller of a value and those one step to either side, plus the step."""
    cast = out.dtype.type
    add = cast(step)
    for i in range(out.size):
        a, b, old = above[i], below[i], centre[i]
        new = cast(min(b, a) + add)
        out[i] = min(old, new)


@kernel
def _square(values: NDArray[Any], radius: int, limit: int, out: NDArray[Any]) -> None:
    """Square distances up to a radius; others become the limit."""
    cast = out.dtype.type
    largest, far = cast(radius), cast(limit)
    for i in range(out.size):
        value = values[i]
        out[i] = cast(value * value) if value <= largest else far


@kernel
def _distances_along_rows(marks: NDArray[Any], radius: int, limit: int, out: NDArray[Any]) -> None:
    """Fill in squared distances along flattened rows from marks that are 0 or radius + 1.

    ``out[i]`` belongs to ``marks[i + radius]``. Steps of 1, 2, 4, ... reach any distance up to the
    radius in a few minima. They run across the ends of rows: the outermost `radius` columns hold no
    distance.
    """
    work = np.empty((2, _TILE + 2 * radius), marks.dtype)
    for start in range(0, out.size, _TILE):
        target = out[start : start + _TILE]
        n = target.size + 2 * radius
        _copy(marks[start : start + n], work[0, :n])
        current, reach = 0, 0
        while reach < radius:
            step = min(reach + 1, radius - reach)
            source, n = work[current], n - 2 * step
            _step(
                source[step : step + n],
                source[2 * step : 2 * step + n],
                source[:n],
                step,
                work[1 - current, :n],
            )
            current, reach = 1 - current, reach + step
        _square(work[current, :n], radius, limit, target)


@kernel
def _mark(
    packed: NDArray[np.uint8],
    plane: int,
    is_foreground: bool,
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    mark: int,
    out: NDArray[Any],
) -> None:
    """Fill in a plane: 0 where a voxel is of the wanted side and lies in the box, else a mark."""
    rows, cols = out.shape
    cast = out.dtype.type
    far, near = cast(mark), cast(0)
    low, high = low_zyx[2], high_zyx[2]
    flip = np.uint8(0) if is_foreground else np.uint8(255)
    bit = np.uint8(128 >> (plane & 7))
    for j in range(rows):
        target = out[j]
        if plane < low_zyx[0] or plane >= high_zyx[0] or j < low_zyx[1] or j >= high_zyx[1]:
            _fill(target, mark)
            continue
        _fill(target[:low], mark)
        _fill(target[high:cols], mark)
        inner = target[low:high]
        source = packed[plane >> 3, j, low:high]
        for k in range(inner.size):
            inner[k] = near if ((source[k] ^ flip) & bit) != 0 else far


@kernel
def _distances_in_plane(
    packed: NDArray[np.uint8],
    plane: int,
    is_foreground: bool,
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    border: int,
    limit: int,
    work: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Fill in the squared distances within one plane, without its first and last rows."""
    radius = window_radius(limit)
    rows, cols = packed.shape[1], packed.shape[2]
    size = rows * cols
    marks, along = work[:size], work[size : 2 * size]
    _mark(packed, plane, is_foreground, low_zyx, high_zyx, radius + 1, marks.reshape((rows, cols)))
    _fill(along[:radius], limit)
    _fill(along[size - radius :], limit)
    _distances_along_rows(marks, radius, limit, along[radius : size - radius])
    _minima_along(along, out, cols, border * cols, radius)


@kernel
def squared_distances(
    packed: NDArray[np.uint8],
    is_foreground: bool,
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    border: int,
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
        Voxels of the block on every side that get no distance; at least the window's radius.
    limit : int
        What larger squared distances become.
    work : ndarray of uint8 or uint16, shape (2, planes * rows * cols)
        Overwritten; of :func:`window_dtype`.
    out : ndarray of the same dtype, shape (planes * rows * cols,)
        Starts with the result: ``planes - 2 border`` planes of ``rows - 2 border`` rows of `cols`
        values, of which the first and last `border` of each row mean nothing.

    Notes
    -----
    Three passes over the block; two of them take 2 radius + 1 minima per voxel.
    """
    radius = window_radius(limit)
    rows, cols = packed.shape[1], packed.shape[2]
    planes = out.size // (rows * cols)
    stride = (rows - 2 * border) * cols
    within = work[1]
    for i in range(planes):
        _distances_in_plane(
            packed,
            i,
            is_foreground,
            low_zyx,
            high_zyx,
            border,
            limit,
            work[0],
            within[i * stride : (i + 1) * stride],
        )
    kept = (planes - 2 * border) * stride
    _minima_along(within, out[:kept], stride, border * stride, radius)


@kernel
def _encode(
    outside: NDArray[Any],
    inside: NDArray[Any],
    cap: float,
    deepest: float,
    out_codes: NDArray[np.uint8],
) -> None:
    """Fill in the codes of a row; single precision is exact enough, by a factor of 50."""
    scale, half = np.float32(CODES_PER_VOXEL), np.float32(0.5)
    largest_out, largest_in = np.float32(cap), np.float32(deepest)
    zero = np.int32(ZERO_CODE)
    for i in range(out_codes.size):
        to_mask = np.int32(outside[i])
        square = np.float32(np.int32(to_mask + np.int32(inside[i])))  # one of them is 0
        distance = np.float32(np.sqrt(square)) - half
        if to_mask > 0:
            code = zero + np.int32(scale * min(distance, largest_out) + half)
        else:
            code = zero - np.int32(scale * min(distance, largest_in) + half)
        out_codes[i] = np.uint8(code)


@kernel
def signed_codes(
    packed: NDArray[np.uint8],
    low_zyx: NDArray[np.int64],
    high_zyx: NDArray[np.int64],
    border: int,
    cap: float,
    deepest: float,
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
    cap, deepest : float
        Largest distances outside and inside the mask, voxels.
    work : ndarray of uint8 or uint16, shape (3, planes * rows * cols)
        Overwritten; of :func:`window_dtype` for the larger of both.
    out_codes : ndarray of uint8, shape (planes - 2 border, rows - 2 border, cols - 2 border)
        ``round(8 signed distance) + 64``.
    """
    packed, work, out_codes = borrowed(packed), borrowed(work), borrowed(out_codes)
    limit, deep_limit = squared_limit(cap), squared_limit(deepest)
    radius, deep_radius = window_radius(limit), window_radius(deep_limit)
    planes, rows, cols = out_codes.shape
    n_cols = packed.shape[2]
    stride = (packed.shape[1] - 2 * border) * n_cols
    outside, inside = work[1], work[2]
    plane_work = work[0]
    to_mask, to_rest = plane_work[:stride], plane_work[stride : 2 * stride]
    # Plane by plane: what the next pass reads was written just before and is still in the cache.
    for i in range(planes + 2 * border):
        box = slice(i * stride, (i + 1) * stride)
        _distances_in_plane(
            packed, i, True, low_zyx, high_zyx, border, limit, plane_work, outside[box]
        )
        _distances_in_plane(
            packed, i, False, low_zyx, high_zyx, border, deep_limit, plane_work, inside[box]
        )
        k = i - 2 * border
        if k < 0:
            continue
        _minima_along(outside, to_mask, stride, (k + border) * stride, radius)
        _minima_along(inside, to_rest, stride, (k + border) * stride, deep_radius)
        for j in range(rows):
            row = slice(j * n_cols + border, j * n_cols + border + cols)
            _encode(to_mask[row], to_rest[row], cap, deepest, out_codes[k, j])
