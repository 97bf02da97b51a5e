"""Rendering of flattened layers: which chunks a tile touches, its samples, its composite.

A canvas pixel lies at a fractional grid position (row, col) of the surface. Its point is bilinear
in the four vertices around it, its normal is the bilinear mean of their unit normals, normalised.
Layer i is sampled at point + offsets[i] * normal. A pixel is valid where every vertex with a
non-zero weight is valid and has a normal.

Points and offsets are in voxels of the full-resolution volume; ``to_level`` (factor, shift) turns
such a coordinate c into the coordinate c * factor + shift of the level that is sampled.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.quad_mesh import sample_point
from tracer.kernels.trilinear import ChunkView, is_between, sample_lines


@inline_kernel
def _across(
    points_xyz: NDArray[np.float32],
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: float,
    col: int,
) -> tuple[float, float, float, float, float, float, bool]:
    """Return point and mean normal at a fractional row of one grid column, and whether they are."""
    n_rows, n_cols = valid.shape
    if not (row >= 0.0 and row <= n_rows - 1 and col >= 0 and col < n_cols):
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False
    r0 = int(row)
    f = row - r0
    r1 = r0 + 1 if f > 0.0 else r0
    ok = valid[r0, col] and valid[r1, col]
    g = 1.0 - f
    return (
        g * points_xyz[r0, col, 0] + f * points_xyz[r1, col, 0],
        g * points_xyz[r0, col, 1] + f * points_xyz[r1, col, 1],
        g * points_xyz[r0, col, 2] + f * points_xyz[r1, col, 2],
        g * normals_xyz[r0, col, 0] + f * normals_xyz[r1, col, 0],
        g * normals_xyz[r0, col, 1] + f * normals_xyz[r1, col, 1],
        g * normals_xyz[r0, col, 2] + f * normals_xyz[r1, col, 2],
        ok,
    )


@kernel
def row_lines(
    points_xyz: NDArray[np.float32],
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: float,
    cols: NDArray[np.float64],
    to_level: tuple[float, float],
    out_lines: NDArray[np.float64],
    out_pixels: NDArray[np.int64],
) -> int:
    """Fill points and normals along one row of pixels, valid pixels only.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices.
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals at the vertices, NaN where undefined.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    row : float
        Grid row.
    cols : ndarray of float64, shape (width,)
        Grid columns, ascending.
    to_level : tuple of float
        (factor, shift) from full-resolution to level coordinates.
    out_lines : ndarray of float64, shape (width, 6)
        Point z, y, x and direction z, y, x, both in voxels of the level; the direction is as long
        as one full-resolution voxel. Packed: entry i belongs to pixel ``out_pixels[i]``.
    out_pixels : ndarray of int64, shape (width,)
        Pixel column of each entry.

    Returns
    -------
    int
        Number of valid pixels.

    Notes
    -----
    Neighbouring pixels share a cell: its sides are interpolated once.
    """
    factor, shift = to_level
    n = 0
    at = -1
    lx = ly = lz = lu = lv = lw = 0.0
    rx = ry = rz = ru = rv = rw = 0.0
    left_ok = right_ok = False
    for j in range(cols.shape[0]):
        if not (cols[j] >= 0.0 and cols[j] < valid.shape[1]):
            continue
        c0 = int(cols[j])
        f = cols[j] - c0
        if c0 != at:
            at = c0
            lx, ly, lz, lu, lv, lw, left_ok = _across(points_xyz, normals_xyz, valid, row, c0)
            rx, ry, rz, ru, rv, rw, right_ok = _across(points_xyz, normals_xyz, valid, row, c0 + 1)
        if not (left_ok and (right_ok or f == 0.0)):
            continue
        x, y, z, nx, ny, nz = lx, ly, lz, lu, lv, lw
        if f > 0.0:
            x += f * (rx - lx)
            y += f * (ry - ly)
            z += f * (rz - lz)
            nx += f * (ru - lu)
            ny += f * (rv - lv)
            nz += f * (rw - lw)
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if not length > 0.0:
            continue
        out_lines[n, 0] = z * factor + shift
        out_lines[n, 1] = y * factor + shift
        out_lines[n, 2] = x * factor + shift
        unit = factor / length
        out_lines[n, 3] = nz * unit
        out_lines[n, 4] = ny * unit
        out_lines[n, 5] = nx * unit
        out_pixels[n] = j
        n += 1
    return n


@inline_kernel
def _touched_range(first: float, last: float, size: int) -> tuple[int, int]:
    """Return the lowest and highest voxel touched between two coordinates; empty outside."""
    low = min(first, last)
    high = max(first, last)
    if not (high > -1.0 and low < size):
        return 0, -1
    return max(math.floor(max(low, -1.0)), 0), min(math.floor(min(high, size)) + 1, size - 1)


@kernel
def _mark_box(
    bz: float,
    by: float,
    bx: float,
    ez: float,
    ey: float,
    ex: float,
    shape_zyx: NDArray[np.int64],
    chunk_shape: NDArray[np.int64],
    origin: NDArray[np.int64],
    only_single: bool,
    out_touched: NDArray[np.bool_],
) -> tuple[bool, float, float, float]:
    """Mark the chunks that cells of a box of points touch; refuse several if `only_single`.

    Returns whether it marked, and the first voxel z, y, x of the chunk if there was just one.
    """
    z0, z1 = _touched_range(bz, ez, shape_zyx[0])
    y0, y1 = _touched_range(by, ey, shape_zyx[1])
    x0, x1 = _touched_range(bx, ex, shape_zyx[2])
    if z0 > z1 or y0 > y1 or x0 > x1:
        return True, -1e18, -1e18, -1e18
    cz0, cz1 = z0 // chunk_shape[0], z1 // chunk_shape[0]
    cy0, cy1 = y0 // chunk_shape[1], y1 // chunk_shape[1]
    cx0, cx1 = x0 // chunk_shape[2], x1 // chunk_shape[2]
    if only_single and (cz0 != cz1 or cy0 != cy1 or cx0 != cx1):
        return False, -1e18, -1e18, -1e18
    n_z, n_y, n_x = out_touched.shape
    for cz in range(max(cz0 - origin[0], 0), min(cz1 - origin[0], n_z - 1) + 1):
        for cy in range(max(cy0 - origin[1], 0), min(cy1 - origin[1], n_y - 1) + 1):
            for cx in range(max(cx0 - origin[2], 0), min(cx1 - origin[2], n_x - 1) + 1):
                out_touched[cz, cy, cx] = True
    return (
        True,
        float(cz0 * chunk_shape[0]),
        float(cy0 * chunk_shape[1]),
        float(cx0 * chunk_shape[2]),
    )


@kernel
def mark_chunks(
    points_xyz: NDArray[np.float32],
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    offsets: NDArray[np.float64],
    to_level: tuple[float, float],
    shape_zyx: NDArray[np.int64],
    chunk_shape: NDArray[np.int64],
    origin: NDArray[np.int64],
    out_touched: NDArray[np.bool_],
) -> int:
    """Mark every chunk that the samples of a tile touch.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices.
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals at the vertices.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    rows : ndarray of float64, shape (height,)
        Grid rows of the tile's pixel rows.
    cols : ndarray of float64, shape (width,)
        Grid columns of the tile's pixel columns.
    offsets : ndarray of float64, shape (layers,)
        Layer offsets along the normal, ascending or descending.
    to_level : tuple of float
        (factor, shift) from full-resolution to level coordinates.
    shape_zyx : ndarray of int64, shape (3,)
        Voxels of the level.
    chunk_shape : ndarray of int64, shape (3,)
        Voxels of a chunk.
    origin : ndarray of int64, shape (3,)
        Chunk index of ``out_touched[0, 0, 0]``.
    out_touched : ndarray of bool, shape (nz, ny, nx)
        Set to True where touched, otherwise left alone. Chunks outside this box are not recorded.

    Returns
    -------
    int
        Number of valid pixels of the tile.
    """
    n_layers, width = offsets.shape[0], cols.shape[0]
    first, last = offsets[0], offsets[n_layers - 1]
    lines = np.empty((width, 6))
    pixels = np.empty(width, dtype=np.int64)
    # The chunk that the latest column lay in: most of its neighbours add nothing to it.
    hz, hy, hx = -1e18, -1e18, -1e18
    tz, ty, tx = chunk_shape[0] - 1.0, chunk_shape[1] - 1.0, chunk_shape[2] - 1.0
    n_valid = 0
    for row in rows:
        n = row_lines(points_xyz, normals_xyz, valid, row, cols, to_level, lines, pixels)
        n_valid += n
        for i in range(n):
            z, y, x = lines[i, 0], lines[i, 1], lines[i, 2]
            dz, dy, dx = lines[i, 3], lines[i, 4], lines[i, 5]
            z0, y0, x0 = z + first * dz, y + first * dy, x + first * dx
            z1, y1, x1 = z + last * dz, y + last * dy, x + last * dx
            bz, by, bx = min(z0, z1), min(y0, y1), min(x0, x1)
            ez, ey, ex = max(z0, z1), max(y0, y1), max(x0, x1)
            if is_between(bz - hz, by - hy, bx - hx, ez - hz, ey - hy, ex - hx, tz, ty, tx):
                continue
            marked, hz, hy, hx = _mark_box(
                bz, by, bx, ez, ey, ex, shape_zyx, chunk_shape, origin, True, out_touched
            )
            if marked:
                continue
            # Not all in one chunk: layer by layer, so that no chunk is marked in vain.
            for k in range(n_layers):
                qz, qy, qx = z + offsets[k] * dz, y + offsets[k] * dy, x + offsets[k] * dx
                if not is_between(qz - hz, qy - hy, qx - hx, qz - hz, qy - hy, qx - hx, tz, ty, tx):
                    _, hz, hy, hx = _mark_box(
                        qz, qy, qx, qz, qy, qx, shape_zyx, chunk_shape, origin, False, out_touched
                    )
    return n_valid


@kernel
def render_tile(
    points_xyz: NDArray[np.float32],
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    offsets: NDArray[np.float64],
    to_level: tuple[float, float],
    view: ChunkView,
    gain: float,
    out_layers: NDArray[np.uint8] | NDArray[np.uint16],
) -> int:
    """Fill the layers of one tile.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices.
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals at the vertices.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    rows : ndarray of float64, shape (height,)
        Grid rows of the tile's pixel rows.
    cols : ndarray of float64, shape (width,)
        Grid columns of the tile's pixel columns.
    offsets : ndarray of float64, shape (layers,)
        Layer offsets along the normal, ascending or descending.
    to_level : tuple of float
        (factor, shift) from full-resolution to level coordinates.
    view : ChunkView
        Every chunk that :func:`mark_chunks` names.
    gain : float
        Factor from voxel values to output values: 1, or 1 / 257 from 16 to 8 bits.
    out_layers : ndarray of uint8 or uint16, shape (height, layers, width)
        Samples, rounded half up; 0 at invalid pixels. Layers lie between rows and columns so
        that neighbouring layers do not compete for the same cache lines.

    Returns
    -------
    int
        Number of valid pixels.
    """
    n_layers, width = offsets.shape[0], cols.shape[0]
    lines = np.empty((width, 6))
    pixels = np.empty(width, dtype=np.int64)
    values = np.empty(width * n_layers)
    n_valid = 0
    for i in range(rows.shape[0]):
        n = row_lines(points_xyz, normals_xyz, valid, rows[i], cols, to_level, lines, pixels)
        n_valid += n
        if n < width:
            out_layers[i] = 0
        sample_lines(view, lines, n, offsets, gain, values)
        for entry in range(n):
            for k in range(n_layers):
                out_layers[i, k, pixels[entry]] = np.int32(values[entry * n_layers + k] + 0.5)
    return n_valid


@kernel
def mark_valid_pixels(
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    out_mask: NDArray[np.uint8],
) -> None:
    """Fill which pixels of a tile show the surface.

    Parameters
    ----------
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals at the vertices.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    rows : ndarray of float64, shape (height,)
        Grid rows of the tile's pixel rows.
    cols : ndarray of float64, shape (width,)
        Grid columns of the tile's pixel columns.
    out_mask : ndarray of uint8, shape (height, width)
        255 where :func:`render_tile` samples, else 0.
    """
    for i in range(rows.shape[0]):
        for j in range(cols.shape[0]):
            nx, ny, nz, ok = sample_point(normals_xyz, valid, rows[i], cols[j])
            out_mask[i, j] = 255 if ok and nx * nx + ny * ny + nz * nz > 0.0 else 0


@kernel
def composite_alpha(
    layers: NDArray[np.uint8] | NDArray[np.uint16],
    low: float,
    high: float,
    opacity: float,
    cutoff: float,
    out_image: NDArray[np.uint8] | NDArray[np.uint16],
) -> None:
    """Fill the front-to-back alpha blend of the layers of one tile, the last layer in front.

    Parameters
    ----------
    layers : ndarray of uint8 or uint16, shape (height, layers, width)
        Samples.
    low : float
        Value up to which a voxel is transparent.
    high : float
        Value from which a voxel has the full opacity; above `low`.
    opacity : float
        Opacity of one layer at `high`, 0 to 1.
    cutoff : float
        Accumulated opacity at which the ray ends, 0 to 1.
    out_image : ndarray of uint8 or uint16, shape (height, width)
        Sum of value times its visible opacity, over black, rounded half up.
    """
    height, n_layers, width = layers.shape
    scale = opacity / (high - low)
    for i in range(height):
        for j in range(width):
            colour = 0.0
            through = 1.0
            for k in range(n_layers - 1, -1, -1):
                value = float(layers[i, k, j])
                alpha = min(max((value - low) * scale, 0.0), opacity)
                colour += through * alpha * value
                through *= 1.0 - alpha
                if 1.0 - through >= cutoff:
                    break
            out_image[i, j] = int(colour + 0.5)
