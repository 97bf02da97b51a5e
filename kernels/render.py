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
from tracer.kernels.trilinear import ChunkView, chunk_base, sample_anywhere, sample_inside


@inline_kernel
def surface_frame(
    points_xyz: NDArray[np.float32],
    normals_xyz: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: float,
    col: float,
) -> tuple[float, float, float, float, float, float, bool]:
    """Return the point and the unit normal at a fractional grid position.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices.
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals at the vertices, NaN where undefined.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    row : float
        Fractional row.
    col : float
        Fractional column.

    Returns
    -------
    tuple
        (x, y, z, normal x, normal y, normal z, ok).
    """
    x, y, z, ok = sample_point(points_xyz, valid, row, col)
    if not ok:
        return x, y, z, math.nan, math.nan, math.nan, False
    nx, ny, nz, _ = sample_point(normals_xyz, valid, row, col)
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if not length > 0.0:
        return x, y, z, math.nan, math.nan, math.nan, False
    return x, y, z, nx / length, ny / length, nz / length, True


@inline_kernel
def _cell_range(first: float, last: float, size: int) -> tuple[int, int]:
    """Return the lowest and highest voxel index touched between two coordinates, clipped."""
    low = min(first, last)
    high = max(first, last)
    if not (high > -1.0 and low < size):
        return 0, -1
    return max(math.floor(max(low, -1.0)), 0), min(math.floor(min(high, size)) + 1, size - 1)


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
    factor, shift = to_level
    n_layers = offsets.shape[0]
    n_valid = 0
    for i in range(rows.shape[0]):
        for j in range(cols.shape[0]):
            x, y, z, nx, ny, nz, ok = surface_frame(
                points_xyz, normals_xyz, valid, rows[i], cols[j]
            )
            if not ok:
                continue
            n_valid += 1
            first, last = 0, n_layers - 1
            if not _mark_span(
                x,
                y,
                z,
                nx,
                ny,
                nz,
                offsets[first],
                offsets[last],
                factor,
                shift,
                shape_zyx,
                chunk_shape,
                origin,
                True,
                out_touched,
            ):  # the whole column is not inside one chunk: layer by layer, so that none is extra
                for k in range(n_layers):
                    _mark_span(
                        x,
                        y,
                        z,
                        nx,
                        ny,
                        nz,
                        offsets[k],
                        offsets[k],
                        factor,
                        shift,
                        shape_zyx,
                        chunk_shape,
                        origin,
                        False,
                        out_touched,
                    )
    return n_valid


@inline_kernel
def _mark_span(
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    first: float,
    last: float,
    factor: float,
    shift: float,
    shape_zyx: NDArray[np.int64],
    chunk_shape: NDArray[np.int64],
    origin: NDArray[np.int64],
    only_single: bool,
    out_touched: NDArray[np.bool_],
) -> bool:
    """Mark the chunks of the box between two offsets; refuse several chunks if `only_single`."""
    z0, z1 = _cell_range(
        (z + first * nz) * factor + shift, (z + last * nz) * factor + shift, shape_zyx[0]
    )
    y0, y1 = _cell_range(
        (y + first * ny) * factor + shift, (y + last * ny) * factor + shift, shape_zyx[1]
    )
    x0, x1 = _cell_range(
        (x + first * nx) * factor + shift, (x + last * nx) * factor + shift, shape_zyx[2]
    )
    if z0 > z1 or y0 > y1 or x0 > x1:
        return True  # outside the volume
    cz0, cz1 = z0 // chunk_shape[0] - origin[0], z1 // chunk_shape[0] - origin[0]
    cy0, cy1 = y0 // chunk_shape[1] - origin[1], y1 // chunk_shape[1] - origin[1]
    cx0, cx1 = x0 // chunk_shape[2] - origin[2], x1 // chunk_shape[2] - origin[2]
    if only_single and (cz0 != cz1 or cy0 != cy1 or cx0 != cx1):
        return False
    n_z, n_y, n_x = out_touched.shape
    for cz in range(max(cz0, 0), min(cz1, n_z - 1) + 1):
        for cy in range(max(cy0, 0), min(cy1, n_y - 1) + 1):
            for cx in range(max(cx0, 0), min(cx1, n_x - 1) + 1):
                out_touched[cz, cy, cx] = True
    return True


@inline_kernel
def _column_chunk(
    z: float,
    y: float,
    x: float,
    dz: float,
    dy: float,
    dx: float,
    first: float,
    last: float,
    view: ChunkView,
) -> tuple[int, float, float, float]:
    """Return (base, chunk start z, y, x) of the chunk that holds a whole column, else base -2."""
    z0, z1 = z + first * dz, z + last * dz
    y0, y1 = y + first * dy, y + last * dy
    x0, x1 = x + first * dx, x + last * dx
    low_z, low_y, low_x = min(z0, z1), min(y0, y1), min(x0, x1)
    if not (low_z >= 0.0 and low_y >= 0.0 and low_x >= 0.0):
        return -2, 0.0, 0.0, 0.0
    sz, sy, sx = view.chunk_shape[0], view.chunk_shape[1], view.chunk_shape[2]
    cz, cy, cx = int(low_z) // sz, int(low_y) // sy, int(low_x) // sx
    start_z, start_y, start_x = float(cz * sz), float(cy * sy), float(cx * sx)
    # A chunk at the upper faces is padded: its cells are inside as long as it is not left.
    inside_z = max(z0, z1) < start_z + sz - 1 and max(z0, z1) < view.shape_zyx[0] - 1
    inside_y = max(y0, y1) < start_y + sy - 1 and max(y0, y1) < view.shape_zyx[1] - 1
    inside_x = max(x0, x1) < start_x + sx - 1 and max(x0, x1) < view.shape_zyx[2] - 1
    if not (inside_z and inside_y and inside_x):
        return -2, 0.0, 0.0, 0.0
    return chunk_base(view, cz, cy, cx), start_z, start_y, start_x


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
    factor, shift = to_level
    n_layers = offsets.shape[0]
    size_y, size_x = view.chunk_shape[1], view.chunk_shape[2]
    n_valid = 0
    for i in range(rows.shape[0]):
        for j in range(cols.shape[0]):
            x, y, z, nx, ny, nz, ok = surface_frame(
                points_xyz, normals_xyz, valid, rows[i], cols[j]
            )
            if not ok:
                for k in range(n_layers):
                    out_layers[i, k, j] = 0
                continue
            n_valid += 1
            x, y, z = x * factor + shift, y * factor + shift, z * factor + shift
            nx, ny, nz = nx * factor, ny * factor, nz * factor
            base, start_z, start_y, start_x = _column_chunk(
                z, y, x, nz, ny, nx, offsets[0], offsets[n_layers - 1], view
            )
            if base >= 0:
                z -= start_z
                y -= start_y
                x -= start_x
                for k in range(n_layers):
                    t = offsets[k]
                    value = sample_inside(
                        view.pool, base, size_y, size_x, z + t * nz, y + t * ny, x + t * nx
                    )
                    out_layers[i, k, j] = int(value * gain + 0.5)
            elif base == -1:
                for k in range(n_layers):
                    out_layers[i, k, j] = int(view.fill * gain + 0.5)
            else:
                for k in range(n_layers):
                    t = offsets[k]
                    value = sample_anywhere(view, z + t * nz, y + t * ny, x + t * nx)
                    out_layers[i, k, j] = int(value * gain + 0.5)
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
