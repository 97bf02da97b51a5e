"""Sheets in a CT volume: where the grey value is a ridge across a locally flat layer.

Four steps, each a batch kernel over a block that shrinks by the reach of the step ("valid"
convolution), so that a block with enough halo gives the same bits as the whole volume:

1. :func:`convolve_axis` smooths (Gaussian, separable).
2. :func:`structure_tensor` averages the gradient's outer product over cells of 2 x 2 x 2 voxels;
   smoothed further, its main axis is the local sheet normal.
3. :func:`ridge_response` is the second derivative across the sheet, less the largest one along it,
   or :func:`face_response` the slope across the sheet on the side that looks inward.
4. :func:`average_along_sheet` averages the response over a disc in the sheet, and
   :func:`mark_ridges` keeps voxels within half a width of a maximum along the normal.

Offsets are floored before they are added to a voxel's index: ``index + floor(offset)`` and the
fraction do not depend on where a block starts, ``floor(index + offset)`` would.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

CELL = 2  # voxels per cell of the orientation field, along each axis
TINY = 1e-12  # squared gap to the next eigenvalue, relative: the cubic is good to 1e-8 there
RING_SAMPLES = 8  # per ring; two rings average a disc well enough (16 samples instead of 4 r^2)
OUTER_RING_WEIGHT = 0.6  # samples farther out count less: a sheet bends away from its tangent plane
CENTRE_WEIGHT = 2.0
WALK_STEP = 0.5  # voxels; finer steps move no boundary by more than rounding


@kernel
def convolve_axis(
    volume: NDArray[np.float32], weights: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """Return a volume correlated with weights along one axis, without its margins.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
        Any numeric dtype.
    weights : ndarray of float64, shape (taps,)
        At most as many as the volume has voxels along the axis.
    axis : int
        0, 1 or 2.

    Returns
    -------
    ndarray of float32
        Shorter by taps − 1 along the axis.
    """
    taps = weights.shape[0]
    nz, ny, nx = volume.shape
    if axis == 0:
        nz -= taps - 1
    elif axis == 1:
        ny -= taps - 1
    else:
        nx -= taps - 1
    out = np.empty((nz, ny, nx), np.float32)
    row = np.empty(nx, np.float64)
    for z in range(nz):
        for y in range(ny):
            row[:] = 0.0
            for k in range(taps):
                weight = weights[k]
                if axis == 0:
                    source = volume[z + k, y]
                elif axis == 1:
                    source = volume[z, y + k]
                else:
                    source = volume[z, y, k:]
                for x in range(nx):
                    row[x] += weight * source[x]
            for x in range(nx):
                out[z, y, x] = row[x]
    return out


@inline_kernel
def largest_eigenvalue(a: float, b: float, c: float, d: float, e: float, f: float) -> float:
    """Return the largest eigenvalue of a symmetric 3 x 3 matrix.

    Parameters
    ----------
    a, b, c : float
        Diagonal.
    d, e, f : float
        Elements (0, 1), (0, 2) and (1, 2).

    Returns
    -------
    float
        By the trigonometric solution of the characteristic cubic.
    """
    mean = (a + b + c) / 3.0
    p = (
        (a - mean) * (a - mean)
        + (b - mean) * (b - mean)
        + (c - mean) * (c - mean)
        + 2.0 * (d * d + e * e + f * f)
    ) / 6.0
    if p <= 0.0:
        return mean
    s = math.sqrt(p)
    aa, bb, cc = (a - mean) / s, (b - mean) / s, (c - mean) / s
    dd, ee, ff = d / s, e / s, f / s
    half = 0.5 * (aa * (bb * cc - ff * ff) - dd * (dd * cc - ff * ee) + ee * (dd * ff - bb * ee))
    half = min(1.0, max(-1.0, half))
    return mean + 2.0 * s * math.cos(math.acos(half) / 3.0)


@inline_kernel
def main_axis(
    a: float, b: float, c: float, d: float, e: float, f: float
) -> tuple[float, float, float]:
    """Return the unit eigenvector of the largest eigenvalue of a symmetric 3 x 3 matrix.

    Parameters
    ----------
    a, b, c : float
        Diagonal.
    d, e, f : float
        Elements (0, 1), (0, 2) and (1, 2).

    Returns
    -------
    tuple of float
        Unit vector of either sign; zeros where the largest eigenvalue is not unique.
    """
    value = largest_eigenvalue(a, b, c, d, e, f)
    a, b, c = a - value, b - value, c - value
    # The rows of the shifted matrix span the plane across the axis: the longest of their three
    # cross products is the axis.
    x0, y0, z0 = d * f - e * b, e * d - a * f, a * b - d * d
    x1, y1, z1 = d * c - e * f, e * e - a * c, a * f - d * e
    x2, y2, z2 = b * c - f * f, f * e - d * c, d * f - b * e
    n0 = x0 * x0 + y0 * y0 + z0 * z0
    n1 = x1 * x1 + y1 * y1 + z1 * z1
    n2 = x2 * x2 + y2 * y2 + z2 * z2
    if n1 > n0:
        x0, y0, z0, n0 = x1, y1, z1, n1
    if n2 > n0:
        x0, y0, z0, n0 = x2, y2, z2, n2
    if n0 <= TINY * value * value * value * value or n0 <= 0.0:
        return 0.0, 0.0, 0.0
    length = math.sqrt(n0)
    return x0 / length, y0 / length, z0 / length


@kernel
def structure_tensor(smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gradient's outer product, averaged over cells of 2 x 2 x 2 voxels.

    Parameters
    ----------
    smooth : ndarray of float32, shape (2 a + 2, 2 b + 2, 2 c + 2)
        Smoothed volume; one voxel on every side serves the central differences only.

    Returns
    -------
    ndarray of float32, shape (6, a, b, c)
        Components zz, yy, xx, zy, zx, yx.
    """
    nz, ny, nx = (
        (smooth.shape[0] - 2) // CELL,
        (smooth.shape[1] - 2) // CELL,
        (smooth.shape[2] - 2) // CELL,
    )
    out = np.empty((6, nz, ny, nx), np.float32)
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                zz = yy = xx = zy = zx = yx = 0.0
                for dz in range(CELL):
                    z = CELL * i + dz + 1
                    for dy in range(CELL):
                        y = CELL * j + dy + 1
                        for dx in range(CELL):
                            x = CELL * k + dx + 1
                            gz = 0.5 * (float(smooth[z + 1, y, x]) - float(smooth[z - 1, y, x]))
                            gy = 0.5 * (float(smooth[z, y + 1, x]) - float(smooth[z, y - 1, x]))
                            gx = 0.5 * (float(smooth[z, y, x + 1]) - float(smooth[z, y, x - 1]))
                            zz += gz * gz
                            yy += gy * gy
                            xx += gx * gx
                            zy += gz * gy
                            zx += gz * gx
                            yx += gy * gx
                share = 1.0 / (CELL * CELL * CELL)
                out[0, i, j, k] = share * zz
                out[1, i, j, k] = share * yy
                out[2, i, j, k] = share * xx
                out[3, i, j, k] = share * zy
                out[4, i, j, k] = share * zx
                out[5, i, j, k] = share * yx
    return out


@kernel
def cell_normals(tensor: NDArray[np.float32], coherence: float) -> NDArray[np.float32]:
    """Return the sheet normal of every cell.

    Parameters
    ----------
    tensor : ndarray of float32, shape (6, a, b, c)
        Structure tensor, components zz, yy, xx, zy, zx, yx.
    coherence : float
        Least (first − second) / (first + second) of its eigenvalues: 1 where all gradients are
        parallel, 0 where sheets of different directions meet.

    Returns
    -------
    ndarray of float32, shape (a, b, c, 3)
        Unit normals (z, y, x) of either sign; zeros where there is no direction.
    """
    _, nz, ny, nx = tensor.shape
    out = np.empty((nz, ny, nx, 3), np.float32)
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                a = float(tensor[0, i, j, k])
                b = float(tensor[1, i, j, k])
                c = float(tensor[2, i, j, k])
                d = float(tensor[3, i, j, k])
                e = float(tensor[4, i, j, k])
                f = float(tensor[5, i, j, k])
                z, y, x = main_axis(a, b, c, d, e, f)
                first = largest_eigenvalue(a, b, c, d, e, f)
                last = -largest_eigenvalue(-a, -b, -c, -d, -e, -f)
                second = a + b + c - first - last
                if first - second < coherence * (first + second):
                    z = y = x = 0.0
                out[i, j, k, 0] = z
                out[i, j, k, 1] = y
                out[i, j, k, 2] = x
    return out


@kernel
def orient_normals(
    normals: NDArray[np.float32],
    origin_zyx: NDArray[np.int64],
    centres_yx: NDArray[np.float64],
    outward_zyx: NDArray[np.float64],
) -> None:
    """Turn normals in place so that they point outward.

    Parameters
    ----------
    normals : ndarray of float32, shape (a, b, c, 3)
        Unit normals (z, y, x) of cells.
    origin_zyx : ndarray of int64, shape (3,)
        Voxel of the volume at which cell (0, 0, 0) starts.
    centres_yx : ndarray of float64, shape (a, 2) or (0, 2)
        Where the scroll's axis passes each layer of cells, in voxels of the volume. Outward is
        away from it. Empty: `outward_zyx` holds everywhere.
    outward_zyx : ndarray of float64, shape (3,)
        Fixed outward direction for a volume without an axis.
    """
    nz, ny, nx, _ = normals.shape
    oz, oy, ox = outward_zyx[0], outward_zyx[1], outward_zyx[2]
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                if centres_yx.shape[0] > 0:
                    oz = 0.0
                    oy = origin_zyx[1] + CELL * j + 0.5 * (CELL - 1) - centres_yx[i, 0]
                    ox = origin_zyx[2] + CELL * k + 0.5 * (CELL - 1) - centres_yx[i, 1]
                along = (
                    oz * float(normals[i, j, k, 0])
                    + oy * float(normals[i, j, k, 1])
                    + ox * float(normals[i, j, k, 2])
                )
                if along < 0.0:
                    for m in range(3):
                        normals[i, j, k, m] = -normals[i, j, k, m]


@kernel
def ridge_response(
    smooth: NDArray[np.float32],
    normals: NDArray[np.float32],
    gain: float,
    planarity: float,
    out_response: NDArray[np.float32],
) -> None:
    """Raise a response to the curvature of the grey value across the sheet.

    Parameters
    ----------
    smooth : ndarray of float32, shape (z + 2, y + 2, x + 2)
        Smoothed volume; one more voxel on every side than the response.
    normals : ndarray of float32, shape (⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉, 3)
        Sheet normals of the cells of the response.
    gain : float
        Factor of the response: sigma² / contrast for bright sheets, negative for dark ones.
    planarity : float
        Share of the curvature along the sheet that is taken off, 0 to 1: tubes and blobs curve
        along it, too.
    out_response : ndarray of float32, shape (z, y, x)
        Raised to the new value where that is larger; never below 0 when it starts at 0.
    """
    nz, ny, nx = out_response.shape
    for i in range(nz):
        z = i + 1
        for j in range(ny):
            y = j + 1
            for k in range(nx):
                x = k + 1
                n = normals[i // CELL, j // CELL, k // CELL]
                n0, n1, n2 = float(n[0]), float(n[1]), float(n[2])
                twice = 2.0 * float(smooth[z, y, x])
                zz = float(smooth[z + 1, y, x]) + float(smooth[z - 1, y, x]) - twice
                yy = float(smooth[z, y + 1, x]) + float(smooth[z, y - 1, x]) - twice
                xx = float(smooth[z, y, x + 1]) + float(smooth[z, y, x - 1]) - twice
                zy = 0.25 * (
                    (float(smooth[z + 1, y + 1, x]) - float(smooth[z + 1, y - 1, x]))
                    - (float(smooth[z - 1, y + 1, x]) - float(smooth[z - 1, y - 1, x]))
                )
                zx = 0.25 * (
                    (float(smooth[z + 1, y, x + 1]) - float(smooth[z + 1, y, x - 1]))
                    - (float(smooth[z - 1, y, x + 1]) - float(smooth[z - 1, y, x - 1]))
                )
                yx = 0.25 * (
                    (float(smooth[z, y + 1, x + 1]) - float(smooth[z, y + 1, x - 1]))
                    - (float(smooth[z, y - 1, x + 1]) - float(smooth[z, y - 1, x - 1]))
                )
                across = n0 * n0 * zz + n1 * n1 * yy + n2 * n2 * xx
                across += 2.0 * (n0 * n1 * zy + n0 * n2 * zx + n1 * n2 * yx)
                along = zz + yy + xx - across
                value = -gain * across - planarity * abs(gain * along)
                if value > out_response[i, j, k] and n0 * n0 + n1 * n1 + n2 * n2 > 0.5:
                    out_response[i, j, k] = value


@kernel
def face_response(
    smooth: NDArray[np.float32],
    normals: NDArray[np.float32],
    gain: float,
    out_response: NDArray[np.float32],
) -> None:
    """Raise a response to the slope of the grey value along the normal.

    Parameters
    ----------
    smooth : ndarray of float32, shape (z + 2, y + 2, x + 2)
        Smoothed volume; one more voxel on every side than the response.
    normals : ndarray of float32, shape (⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉, 3)
        Oriented normals of the cells of the response.
    gain : float
        Factor of the response: sigma / contrast for the face at which the grey value rises along
        the normal, negative for the other face.
    out_response : ndarray of float32, shape (z, y, x)
        Raised to the new value where that is larger.
    """
    nz, ny, nx = out_response.shape
    for i in range(nz):
        z = i + 1
        for j in range(ny):
            y = j + 1
            for k in range(nx):
                x = k + 1
                n = normals[i // CELL, j // CELL, k // CELL]
                gz = 0.5 * (float(smooth[z + 1, y, x]) - float(smooth[z - 1, y, x]))
                gy = 0.5 * (float(smooth[z, y + 1, x]) - float(smooth[z, y - 1, x]))
                gx = 0.5 * (float(smooth[z, y, x + 1]) - float(smooth[z, y, x - 1]))
                value = gain * (float(n[0]) * gz + float(n[1]) * gy + float(n[2]) * gx)
                if value > out_response[i, j, k]:
                    out_response[i, j, k] = value


@inline_kernel
def sample_offset(
    volume: NDArray[np.float32], z: int, y: int, x: int, dz: float, dy: float, dx: float
) -> float:
    """Return a volume interpolated trilinearly at an offset from a voxel.

    Parameters
    ----------
    volume : ndarray of float32, shape (z, y, x)
        Reaches one voxel beyond the sample on the upper sides.
    z, y, x : int
        Voxel.
    dz, dy, dx : float
        Offset from it.

    Returns
    -------
    float
        The same bits wherever in the array the voxel lies.
    """
    lz, ly, lx = math.floor(dz), math.floor(dy), math.floor(dx)
    fz, fy, fx = dz - lz, dy - ly, dx - lx
    z, y, x = z + int(lz), y + int(ly), x + int(lx)
    c00 = float(volume[z, y, x]) * (1.0 - fx) + float(volume[z, y, x + 1]) * fx
    c01 = float(volume[z, y + 1, x]) * (1.0 - fx) + float(volume[z, y + 1, x + 1]) * fx
    c10 = float(volume[z + 1, y, x]) * (1.0 - fx) + float(volume[z + 1, y, x + 1]) * fx
    c11 = float(volume[z + 1, y + 1, x]) * (1.0 - fx) + float(volume[z + 1, y + 1, x + 1]) * fx
    return (c00 * (1.0 - fy) + c01 * fy) * (1.0 - fz) + (c10 * (1.0 - fy) + c11 * fy) * fz


@inline_kernel
def tangents(n0: float, n1: float, n2: float) -> tuple[float, float, float, float, float, float]:
    """Return two unit vectors that span the plane across a unit normal.

    Parameters
    ----------
    n0, n1, n2 : float
        Unit normal.

    Returns
    -------
    tuple of float
        The coordinate axis farthest from the normal, projected into the plane; then the normal
        times it.
    """
    if abs(n0) <= abs(n1) and abs(n0) <= abs(n2):
        a0, a1, a2 = 1.0 - n0 * n0, -n0 * n1, -n0 * n2
    elif abs(n1) <= abs(n2):
        a0, a1, a2 = -n1 * n0, 1.0 - n1 * n1, -n1 * n2
    else:
        a0, a1, a2 = -n2 * n0, -n2 * n1, 1.0 - n2 * n2
    length = math.sqrt(a0 * a0 + a1 * a1 + a2 * a2)
    a0, a1, a2 = a0 / length, a1 / length, a2 / length
    return a0, a1, a2, n1 * a2 - n2 * a1, n2 * a0 - n0 * a2, n0 * a1 - n1 * a0


@kernel
def average_along_sheet(
    response: NDArray[np.float32], normals: NDArray[np.float32], radius: float, margin: int
) -> NDArray[np.float32]:
    """Return the response averaged over a disc in the plane of the sheet.

    Parameters
    ----------
    response : ndarray of float32, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        At least 0.
    normals : ndarray of float32
        Sheet normals of the cells of `response`.
    radius : float
        Of the disc, in voxels; the farthest samples lie there.
    margin : int
        Voxels that the result is smaller on every side; at least radius + 1.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Zero where the response itself is zero: averaging smooths and bridges weak spots, but it
        makes no sheet where nothing curves.
    """
    nz, ny, nx = response.shape
    out = np.zeros((nz - 2 * margin, ny - 2 * margin, nx - 2 * margin), np.float32)
    offsets = np.empty((2 * RING_SAMPLES, 3), np.float64)
    for m in range(RING_SAMPLES):
        inner = 2.0 * math.pi * m / RING_SAMPLES
        outer = 2.0 * math.pi * (m + 0.5) / RING_SAMPLES
        offsets[m, 0] = 0.5 * radius * math.cos(inner)
        offsets[m, 1] = 0.5 * radius * math.sin(inner)
        offsets[m, 2] = 1.0
        offsets[RING_SAMPLES + m, 0] = radius * math.cos(outer)
        offsets[RING_SAMPLES + m, 1] = radius * math.sin(outer)
        offsets[RING_SAMPLES + m, 2] = OUTER_RING_WEIGHT
    total = CENTRE_WEIGHT + RING_SAMPLES * (1.0 + OUTER_RING_WEIGHT)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                if response[z, y, x] <= 0.0:
                    continue
                n = normals[z // CELL, y // CELL, x // CELL]
                a0, a1, a2, b0, b1, b2 = tangents(float(n[0]), float(n[1]), float(n[2]))
                value = CENTRE_WEIGHT * float(response[z, y, x])
                for m in range(2 * RING_SAMPLES):
                    p, q = offsets[m, 0], offsets[m, 1]
                    value += offsets[m, 2] * sample_offset(
                        response, z, y, x, p * a0 + q * b0, p * a1 + q * b1, p * a2 + q * b2
                    )
                out[z - margin, y - margin, x - margin] = value / total
    return out


@inline_kernel
def ridge_offset(
    response: NDArray[np.float32],
    z: int,
    y: int,
    x: int,
    n0: float,
    n1: float,
    n2: float,
    reach: float,
) -> tuple[float, float]:
    """Return how far along the normal the next maximum lies, uphill from a voxel.

    Parameters
    ----------
    response : ndarray of float32, shape (z, y, x)
        Response.
    z, y, x : int
        Voxel at least reach + 2 from every side.
    n0, n1, n2 : float
        Unit normal.
    reach : float
        Farthest offset of interest, in voxels.

    Returns
    -------
    tuple of float
        Signed offset and the response there. The offset is infinite where the maximum is beyond
        the reach or the voxel lies in a valley, which belongs to neither side.
    """
    centre = float(response[z, y, x])
    ahead = sample_offset(response, z, y, x, WALK_STEP * n0, WALK_STEP * n1, WALK_STEP * n2)
    behind = sample_offset(response, z, y, x, -WALK_STEP * n0, -WALK_STEP * n1, -WALK_STEP * n2)
    if ahead <= centre and behind <= centre:
        return 0.0, centre
    if ahead >= centre and behind >= centre:
        return math.inf, centre
    step = WALK_STEP if ahead > behind else -WALK_STEP
    last = max(ahead, behind)
    offset = step
    while abs(offset) <= reach:
        following = offset + step
        value = sample_offset(response, z, y, x, following * n0, following * n1, following * n2)
        if value <= last:
            return offset, last
        offset, last = following, value
    return math.inf, last


@kernel
def mark_ridges(
    response: NDArray[np.float32],
    normals: NDArray[np.float32],
    threshold: float,
    half_width: float,
    margin: int,
) -> NDArray[np.float32]:
    """Return, per voxel, the response of the ridge it belongs to.

    Parameters
    ----------
    response : ndarray of float32, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        Averaged response.
    normals : ndarray of float32
        Sheet normals of the cells of `response`.
    threshold : float
        Least response of a ridge.
    half_width : float
        Largest distance to the ridge along the normal, in voxels.
    margin : int
        Voxels that the result is smaller on every side; even, at least half_width + 2.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Response at the ridge, at least `threshold`; 0 off the ridges. Voxels in the valley
        between two ridges stay 0, so that close sheets keep a gap wherever a voxel lies in it.
    """
    nz, ny, nx = response.shape
    out = np.zeros((nz - 2 * margin, ny - 2 * margin, nx - 2 * margin), np.float32)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                if response[z, y, x] <= 0.0:
                    continue
                n = normals[z // CELL, y // CELL, x // CELL]
                offset, value = ridge_offset(
                    response, z, y, x, float(n[0]), float(n[1]), float(n[2]), half_width
                )
                if value >= threshold and abs(offset) <= half_width:
                    out[z - margin, y - margin, x - margin] = value
    return out
