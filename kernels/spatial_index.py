"""Which quads of many patches lie near a point: a hierarchical hash grid over quads.

Layout of one segment (immutable, shared read-only between processes):

* ``vertices`` float32 (n, 3): the grids of all patches one after the other, row by row; invalid
  vertices are NaN. ``patch_start`` int64 (p + 1) and ``patch_cols`` int64 (p) delimit the grids;
  ``patch_of_block`` int32 says which patch holds vertex 64 k. A quad is named by the vertex of its
  corner (0, 0).
* Every quad is entered into all cells that its bounding box overlaps, on the finest level that
  takes it: level k has cubic cells of 32 * 4**k voxels and takes quads up to that extent, so that a
  quad has at most eight entries whatever its size.
* ``entries`` int64 (m,): cell by cell. Bits 36 and up: the quad. Below, six bits each: x0, 63 - x1,
  y0, 63 - y1, z0, 63 - z1, its bounding box in 1/62 of the cell, rounded outwards; code 0 of a
  lower bound means that the quad begins before the cell. All six are compared at once: lanes of
  twelve bits, of which the lowest unused one survives a subtraction if the code is small enough.
* ``table`` int64 (2**k, 2): open addressing by cell key; -1 is empty, else (start << 28) | count.

A query visits the cells that its box overlaps. A quad that is entered in several of them is
evaluated in the first only, which the code 0 tells without a list of visited quads.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.quad_distance import closest_on_quad, is_beyond

CELL = 32.0  # voxels; a quad of step 20 has an extent of up to 28
N_LEVELS = 8
MAX_COORDINATE = 8.0e6  # voxels; a cell index then fits 20 bits
MAX_VERTICES = 1 << 27  # of one segment
BLOCK_BITS = 6
_COUNT_BITS = 28
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_VERTEX_SHIFT = 36
_CODES = 62.0
_LAST_CODE = 63
_LANES = 0o0077_0077_0077
_GUARDS = 0o0100_0100_0100
_BIAS = 1 << 19


class SegmentView(NamedTuple):
    """Arrays of one segment as kernels take them; see the module."""

    table: NDArray[np.int64]
    entries: NDArray[np.int64]
    vertices: NDArray[np.float32]
    patch_start: NDArray[np.int64]
    patch_cols: NDArray[np.int64]
    patch_of_block: NDArray[np.int32]


@inline_kernel
def _cell_size(level: int) -> float:
    """Return the edge of a level's cells in voxels."""
    return CELL * float(1 << (2 * level))


@inline_kernel
def _slot_of(table: NDArray[np.int64], level: int, ix: int, iy: int, iz: int) -> tuple[int, int]:
    """Return (slot, key): where a cell is in the table, or the empty slot where it belongs."""
    kx, ky, kz = ix + _BIAS, iy + _BIAS, iz + _BIAS
    key = (((level << 20 | kx) << 20 | ky) << 20) | kz
    mixed = (kx * 73856093) ^ (ky * 19349669) ^ (kz * 83492791) ^ (level * 50331653)
    last = table.shape[0] - 1
    slot = (mixed ^ (mixed >> 15)) & last
    while table[slot, 0] != -1 and table[slot, 0] != key:
        slot = (slot + 1) & last
    return slot, key


@inline_kernel
def _box_of_quad(
    vertices: NDArray[np.float32], i: int, cols: int
) -> tuple[float, float, float, float, float, float]:
    """Return (x0, y0, z0, x1, y1, z1) of a quad; NaN where a corner is invalid."""
    x0, y0, z0 = math.inf, math.inf, math.inf
    x1, y1, z1 = -math.inf, -math.inf, -math.inf
    for corner in range(4):
        j = i + (corner & 1) + cols * (corner >> 1)
        x, y, z = float(vertices[j, 0]), float(vertices[j, 1]), float(vertices[j, 2])
        if math.isnan(x):
            return x, x, x, x, x, x
        x0, y0, z0 = min(x0, x), min(y0, y), min(z0, z)
        x1, y1, z1 = max(x1, x), max(y1, y), max(z1, z)
    return x0, y0, z0, x1, y1, z1


@inline_kernel
def _level_of_box(x0: float, y0: float, z0: float, x1: float, y1: float, z1: float) -> int:
    """Return the level that takes a quad, -1 for an invalid one, -2 for one out of range."""
    if math.isnan(x0):
        return -1
    low, high = min(x0, y0, z0), max(x1, y1, z1)
    if low < -MAX_COORDINATE or high > MAX_COORDINATE:
        return -2
    extent = max(x1 - x0, y1 - y0, z1 - z0)
    for level in range(N_LEVELS):
        if extent <= _cell_size(level):
            return level
    return -2


@inline_kernel
def _code(x: float, origin: float, per_voxel: float) -> int:
    """Return a coordinate in a cell as 0 (before it) .. 63 (at its end or after); monotonic."""
    return int(min(max(math.floor((x - origin) * per_voxel) + 1.0, 0.0), 63.0))


@inline_kernel
def _lanes(x: int, y: int, z: int) -> int:
    """Return three codes in lanes of twelve bits."""
    return x | (y << 12) | (z << 24)


@kernel
def count_entries(
    vertices: NDArray[np.float32],
    patch_start: NDArray[np.int64],
    patch_cols: NDArray[np.int64],
    first_vertex: int,
    n_cells: int,
    table: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Count the entries of every cell into the table until it is half full.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Grids of all patches; NaN where invalid.
    patch_start : ndarray of int64, shape (p + 1,)
        First vertex of each patch.
    patch_cols : ndarray of int64, shape (p,)
        Columns of each patch.
    first_vertex : int
        Where to go on after the table was enlarged; 0 at first.
    n_cells : int
        Cells in the table so far.
    table : ndarray of int64, shape (2**k, 2)
        Key (-1: empty) and number of entries; changed in place.

    Returns
    -------
    tuple of int
        (vertex to go on with, or n when done; cells in the table; quads out of range).
    """
    n_patches = patch_cols.shape[0]
    n_rejected = 0
    for patch in range(n_patches):
        if patch_start[patch + 1] <= first_vertex:
            continue
        cols = patch_cols[patch]
        for i in range(max(first_vertex, patch_start[patch]), patch_start[patch + 1] - cols):
            if (i - patch_start[patch]) % cols == cols - 1:
                continue
            if 2 * (n_cells + 8) > table.shape[0]:
                return i, n_cells, n_rejected
            x0, y0, z0, x1, y1, z1 = _box_of_quad(vertices, i, cols)
            level = _level_of_box(x0, y0, z0, x1, y1, z1)
            if level < 0:
                n_rejected += level == -2
                continue
            size = _cell_size(level)
            for ix in range(math.floor(x0 / size), math.floor(x1 / size) + 1):
                for iy in range(math.floor(y0 / size), math.floor(y1 / size) + 1):
                    for iz in range(math.floor(z0 / size), math.floor(z1 / size) + 1):
                        slot, key = _slot_of(table, level, ix, iy, iz)
                        if table[slot, 0] == -1:
                            table[slot, 0] = key
                            table[slot, 1] = 0
                            n_cells += 1
                        table[slot, 1] += 1
    return vertices.shape[0], n_cells, n_rejected


@kernel
def move_cells(table: NDArray[np.int64], out_table: NDArray[np.int64]) -> None:
    """Copy all cells into a table of another size.

    Parameters
    ----------
    table : ndarray of int64, shape (2**k, 2)
        Source.
    out_table : ndarray of int64, shape (2**j, 2)
        Target, all -1; more slots than there are cells.
    """
    for i in range(table.shape[0]):
        key = table[i, 0]
        if key != -1:
            mask = (1 << 20) - 1
            iz = (key & mask) - _BIAS
            iy = ((key >> 20) & mask) - _BIAS
            ix = ((key >> 40) & mask) - _BIAS
            slot, _ = _slot_of(out_table, key >> 60, ix, iy, iz)
            out_table[slot, 0] = key
            out_table[slot, 1] = table[i, 1]


@kernel
def fill_entries(
    vertices: NDArray[np.float32],
    patch_start: NDArray[np.int64],
    patch_cols: NDArray[np.int64],
    table: NDArray[np.int64],
    out_entries: NDArray[np.int64],
) -> None:
    """Turn counts into places and fill the entries, cells in the order in which they are met.

    Parameters
    ----------
    vertices : ndarray of float32, shape (n, 3)
        Grids of all patches; NaN where invalid.
    patch_start : ndarray of int64, shape (p + 1,)
        First vertex of each patch.
    patch_cols : ndarray of int64, shape (p,)
        Columns of each patch.
    table : ndarray of int64, shape (2**k, 2)
        From :func:`count_entries`; the counts become (start << 28) | count.
    out_entries : ndarray of int64, shape (m,)
        Quads and boxes, see the module.
    """
    # A count is stored as -2 - count until its cell gets a place; `room` counts down from it.
    for slot in range(table.shape[0]):
        if table[slot, 0] != -1:
            table[slot, 1] = -2 - table[slot, 1]
    room = np.zeros(table.shape[0], dtype=np.int64)
    n_placed = 0
    for patch in range(patch_cols.shape[0]):
        cols = patch_cols[patch]
        for i in range(patch_start[patch], patch_start[patch + 1] - cols):
            if (i - patch_start[patch]) % cols == cols - 1:
                continue
            x0, y0, z0, x1, y1, z1 = _box_of_quad(vertices, i, cols)
            level = _level_of_box(x0, y0, z0, x1, y1, z1)
            if level < 0:
                continue
            size = _cell_size(level)
            per_voxel = _CODES / size
            for ix in range(math.floor(x0 / size), math.floor(x1 / size) + 1):
                for iy in range(math.floor(y0 / size), math.floor(y1 / size) + 1):
                    for iz in range(math.floor(z0 / size), math.floor(z1 / size) + 1):
                        slot, _ = _slot_of(table, level, ix, iy, iz)
                        if table[slot, 1] < 0:
                            count = -2 - table[slot, 1]
                            table[slot, 1] = (n_placed << _COUNT_BITS) | count
                            room[slot] = n_placed
                            n_placed += count
                        entry = room[slot]
                        room[slot] += 1
                        cx, cy, cz = ix * size, iy * size, iz * size
                        low = _lanes(
                            _code(x0, cx, per_voxel),
                            _code(y0, cy, per_voxel),
                            _code(z0, cz, per_voxel),
                        )
                        high = _lanes(
                            _LAST_CODE - _code(x1, cx, per_voxel),
                            _LAST_CODE - _code(y1, cy, per_voxel),
                            _LAST_CODE - _code(z1, cz, per_voxel),
                        )
                        out_entries[entry] = (i << _VERTEX_SHIFT) | (high << 6) | low


@inline_kernel
def _patch_of_vertex(
    patch_of_block: NDArray[np.int32], patch_start: NDArray[np.int64], vertex: int
) -> int:
    """Return the patch whose grid holds a vertex; a binary search took a third of a query."""
    patch = int(patch_of_block[vertex >> BLOCK_BITS])
    while patch_start[patch + 1] <= vertex:
        patch += 1
    return patch


@inline_kernel
def _closest_on_entry(
    view: SegmentView, i: int, cols: int, x: float, y: float, z: float, tolerance: float
) -> tuple[float, float, float]:
    """Return (squared distance, u, v) on a quad; infinite where it is surely too far."""
    p = view.vertices
    ax, ay, az = p[i, 0] - x, p[i, 1] - y, p[i, 2] - z
    j = i + 1
    bx, by, bz = p[j, 0] - x - ax, p[j, 1] - y - ay, p[j, 2] - z - az
    j = i + cols
    cx, cy, cz = p[j, 0] - x - ax, p[j, 1] - y - ay, p[j, 2] - z - az
    j = i + cols + 1
    dx = p[j, 0] - x - ax - bx - cx
    dy = p[j, 1] - y - ay - by - cy
    dz = p[j, 2] - z - az - bz - cz
    if is_beyond(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz, tolerance):
        return math.inf, 0.0, 0.0
    return closest_on_quad(ax, ay, az, bx, by, bz, cx, cy, cz, dx, dy, dz)


@inline_kernel
def _in_reach(x: float) -> float:
    """Return a coordinate limited to where there can be quads."""
    return min(max(x, -MAX_COORDINATE - CELL), MAX_COORDINATE + CELL)


@kernel
def query_points(
    view: SegmentView,
    ids: NDArray[np.int32],
    levels: int,
    points_xyz: NDArray[np.float64],
    tolerance: float,
    first_point: int,
    out_point: NDArray[np.int64],
    out_patch: NDArray[np.int32],
    out_place: NDArray[np.float64],
) -> tuple[int, int]:
    """Find the closest point of every patch within a tolerance of each query point.

    Parameters
    ----------
    view : SegmentView
        The indexed patches.
    ids : ndarray of int32, shape (p,)
        Number to report for each patch; -1 leaves it out.
    levels : int
        Bit k is set where level k has entries.
    points_xyz : ndarray of float64, shape (n, 3)
        Query points in voxels; points that are not finite find nothing.
    tolerance : float
        Largest distance in voxels, inclusive.
    first_point : int
        Query point to begin with.
    out_point : ndarray of int64, shape (m,)
        Query point of each hit, ascending.
    out_patch : ndarray of int32, shape (m,)
        Reported number of its patch, ascending for each query point.
    out_place : ndarray of float64, shape (m, 3)
        Fractional row, fractional column and squared distance of the closest point.

    Returns
    -------
    tuple of int
        (next query point, hits). Less than n points are done where `m` was too small; the next
        one alone may need as many hits as there are patches.

    Notes
    -----
    Among equally close points of a patch the one of the lowest (row, col) is taken, so that results
    do not depend on how the index is laid out.
    """
    table, entries = view.table, view.entries
    patch_of_block, patch_start, patch_cols = view.patch_of_block, view.patch_start, view.patch_cols
    n_hits = 0
    n_vertices = view.vertices.shape[0]
    limit2 = tolerance * tolerance
    for point in range(first_point, points_xyz.shape[0]):
        x, y, z = points_xyz[point, 0], points_xyz[point, 1], points_xyz[point, 2]
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            continue
        x0, x1 = _in_reach(x - tolerance), _in_reach(x + tolerance)
        y0, y1 = _in_reach(y - tolerance), _in_reach(y + tolerance)
        z0, z1 = _in_reach(z - tolerance), _in_reach(z + tolerance)
        begin = n_hits
        for level in range(N_LEVELS):
            if not levels & (1 << level):
                continue
            size = _cell_size(level)
            per_voxel = _CODES / size
            ix0, ix1 = math.floor(x0 / size), math.floor(x1 / size)
            iy0, iy1 = math.floor(y0 / size), math.floor(y1 / size)
            iz0, iz1 = math.floor(z0 / size), math.floor(z1 / size)
            for ix in range(ix0, ix1 + 1):
                for iy in range(iy0, iy1 + 1):
                    for iz in range(iz0, iz1 + 1):
                        slot, _ = _slot_of(table, level, ix, iy, iz)
                        if table[slot, 0] == -1:
                            continue
                        cx, cy, cz = ix * size, iy * size, iz * size
                        largest_low = _GUARDS | _lanes(
                            _code(x1, cx, per_voxel),
                            _code(y1, cy, per_voxel),
                            _code(z1, cz, per_voxel),
                        )
                        largest_high = _GUARDS | _lanes(
                            _LAST_CODE - _code(x0, cx, per_voxel),
                            _LAST_CODE - _code(y0, cy, per_voxel),
                            _LAST_CODE - _code(z0, cz, per_voxel),
                        )
                        # a quad that begins before this cell has been seen in an earlier one
                        smallest_low = _lanes(ix > ix0, iy > iy0, iz > iz0)
                        start = table[slot, 1] >> _COUNT_BITS
                        stop = start + (table[slot, 1] & _COUNT_MASK)
                        for index in range(start, min(stop, entries.shape[0])):
                            entry = entries[index]
                            low = entry & _LANES
                            high = (entry >> 6) & _LANES
                            if (
                                (largest_low - low)
                                & (largest_high - high)
                                & ((low | _GUARDS) - smallest_low)
                                & _GUARDS
                            ) != _GUARDS:
                                continue
                            i = entry >> _VERTEX_SHIFT
                            patch = _patch_of_vertex(patch_of_block, patch_start, i)
                            cols = patch_cols[patch]
                            number = ids[patch]
                            # the second test cannot fail unless the file was damaged
                            if number < 0 or i + cols + 1 >= n_vertices:
                                continue
                            d2, u, v = _closest_on_entry(view, i, cols, x, y, z, tolerance)
                            if not d2 <= limit2:
                                continue
                            local = i - patch_start[patch]
                            row, col = local // cols + v, local % cols + u
                            hit = n_hits - 1
                            while hit >= begin and out_patch[hit] != number:
                                hit -= 1
                            if hit < begin:
                                if n_hits == out_patch.shape[0]:
                                    return point, begin
                                hit = n_hits
                                n_hits += 1
                                out_point[hit] = point
                                out_patch[hit] = number
                                out_place[hit, 2] = math.inf
                            if d2 < out_place[hit, 2] or (
                                d2 == out_place[hit, 2]
                                and (
                                    row < out_place[hit, 0]
                                    or (row == out_place[hit, 0] and col < out_place[hit, 1])
                                )
                            ):
                                out_place[hit, 0] = row
                                out_place[hit, 1] = col
                                out_place[hit, 2] = d2
        sort_hits(out_patch, out_place, begin, n_hits)
    return points_xyz.shape[0], n_hits


@inline_kernel
def sort_hits(
    out_patch: NDArray[np.int32], out_place: NDArray[np.float64], begin: int, end: int
) -> None:
    """Sort the few hits of one query point by patch.

    Parameters
    ----------
    out_patch : ndarray of int32, shape (m,)
        Patch numbers; sorted in place.
    out_place : ndarray of float64, shape (m, 3)
        Their places; moved along.
    begin : int
        First hit.
    end : int
        One past the last hit.
    """
    for i in range(begin + 1, end):
        patch = out_patch[i]
        row, col, d2 = out_place[i, 0], out_place[i, 1], out_place[i, 2]
        j = i - 1
        while j >= begin and out_patch[j] > patch:
            out_patch[j + 1] = out_patch[j]
            out_place[j + 1, 0] = out_place[j, 0]
            out_place[j + 1, 1] = out_place[j, 1]
            out_place[j + 1, 2] = out_place[j, 2]
            j -= 1
        out_patch[j + 1] = patch
        out_place[j + 1, 0] = row
        out_place[j + 1, 1] = col
        out_place[j + 1, 2] = d2


@kernel
def sort_all_hits(
    offsets: NDArray[np.int64], out_patch: NDArray[np.int32], out_place: NDArray[np.float64]
) -> None:
    """Sort the hits of every query point by patch.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n + 1,)
        Hits of query point i are offsets[i]:offsets[i + 1].
    out_patch : ndarray of int32, shape (m,)
        Patch numbers; sorted in place.
    out_place : ndarray of float64, shape (m, 3)
        Their places; moved along.
    """
    for point in range(offsets.shape[0] - 1):
        sort_hits(out_patch, out_place, offsets[point], offsets[point + 1])
