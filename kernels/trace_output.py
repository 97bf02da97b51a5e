"""The fine surface of a trace: the patches' own points, averaged over the patches.

Inside a coarse cell the location on each patch is interpolated between the corners, and looked up.
Where a corner is no node of the trace, or lies off the patch, its location is extrapolated from the
nodes around it; a patch then counts by the weights of the corners that it has, so that it fades in
and out. The surface thus reaches the rim of the patches instead of ending at the last full cell.
"""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.trace_location import patch_normal, predict_location, sample_patch
from tracer.kernels.trace_state import (
    EMPTY,
    SUPPORTS,
    PatchTable,
    TraceState,
    TraceWork,
    find_entry,
)

_FEWEST_CORNERS = 2
_MOST_PATCHES = 128


@kernel
def _cell_patches(
    state: TraceState, rows: int, row: int, col: int, out_patch: NDArray[np.int64]
) -> tuple[int, int]:
    """Return how many corners of a cell exist and how many patches support one; fill those."""
    n_cols = state.status.shape[0] // rows
    corners = 0
    n = 0
    for corner in range(4):
        r, c = row + corner // 2, col + corner % 2
        if r < 0 or c < 0 or r >= rows or c >= n_cols:
            continue
        node = c * rows + r
        if state.status[node] == EMPTY:
            continue
        corners += 1
        for k in range(state.n_entries[node]):
            if state.entry_state[node, k] != SUPPORTS:
                continue
            patch = state.entry_patch[node, k]
            known = False
            for i in range(n):
                known = known or out_patch[i] == patch
            if not known and n < out_patch.shape[0]:
                out_patch[n] = patch
                n += 1
    out_patch[:n].sort()
    return corners, n


@kernel
def _corner_locations(
    table: PatchTable,
    state: TraceState,
    work: TraceWork,
    rows: int,
    row: int,
    col: int,
    patch: int,
    out_location: NDArray[np.float64],
    out_has: NDArray[np.float64],
) -> bool:
    """Fill the locations of a cell's corners on a patch; return whether all four could be had."""
    n_cols = state.status.shape[0] // rows
    for corner in range(4):
        r, c = row + corner // 2, col + corner % 2
        inside = r >= 0 and c >= 0 and r < rows and c < n_cols
        out_has[corner] = 0.0
        if inside:
            k = find_entry(state, c * rows + r, patch)
            if k >= 0:
                out_has[corner] = 1.0
                out_location[corner, 0] = state.entry_location[c * rows + r, k, 0]
                out_location[corner, 1] = state.entry_location[c * rows + r, k, 1]
                continue
        # nodes beyond the grid get numbers beyond the arrays; only their row and column are used
        _gather(state, rows, r, c, patch, work)
        lr, lc, ok = predict_location(
            work.one_location, work.one_known, table.cells[patch], float(state.hand[patch])
        )
        if not ok:
            return False
        out_location[corner, 0] = lr
        out_location[corner, 1] = lc
    return True


@kernel
def _gather(state: TraceState, rows: int, row: int, col: int, patch: int, work: TraceWork) -> None:
    """Fill the neighbourhood of a node that need not be on the grid."""
    n_cols = state.status.shape[0] // rows
    for i in range(25):
        work.one_known[i] = False
        r, c = row + i // 5 - 2, col + i % 5 - 2
        if i == 12 or r < 0 or c < 0 or r >= rows or c >= n_cols:
            continue
        k = find_entry(state, c * rows + r, patch)
        if k >= 0:
            work.one_known[i] = True
            work.one_location[i, 0] = state.entry_location[c * rows + r, k, 0]
            work.one_location[i, 1] = state.entry_location[c * rows + r, k, 1]


@kernel
def fill_surface(
    table: PatchTable,
    state: TraceState,
    work: TraceWork,
    rows: int,
    first_col: int,
    last_col: int,
    step: int,
    same_surface: float,
    max_against: float,
    z_min: float,
    z_max: float,
    out_xyz: NDArray[np.float32],
    out_corners: NDArray[np.uint8],
    out_support: NDArray[np.uint16],
    out_confidence: NDArray[np.float32],
) -> None:
    """Fill the fine surface of some columns of a trace.

    Parameters
    ----------
    table : PatchTable
        The patches.
    state : TraceState
        The trace.
    work : TraceWork
        Scratch.
    rows : int
        Rows of the trace.
    first_col : int
        First coarse column; column 0 of the output lies one coarse cell before it.
    last_col : int
        One past the last coarse column.
    step : int
        Fine cells per coarse cell.
    same_surface : float
        Distance along the normal within which patches are the same sheet, voxels.
    max_against : float
        Largest share of weight that may lie elsewhere.
    z_min : float
        Lowest height to fill.
    z_max : float
        Largest height to fill.
    out_xyz : ndarray of float32, shape ((rows + 1) * step + 1, (cols + 1) * step + 1, 3)
        Points, NaN before; one coarse cell more than the trace on each side.
    out_corners : ndarray of uint8, same grid
        Corners of the cell that a point comes from, zero before: fuller cells win.
    out_support : ndarray of uint16, same grid
        Patches averaged.
    out_confidence : ndarray of float32, same grid
        Share of the patches that agree, times n / (n + 1) for n of them; less beyond the trace.
    """
    patches = np.empty(_MOST_PATCHES, np.int64)
    location = np.empty((_MOST_PATCHES, 4, 2), np.float64)
    has = np.empty((_MOST_PATCHES, 4), np.float64)
    usable = np.empty(_MOST_PATCHES, np.bool_)
    sample = np.empty((_MOST_PATCHES, 7), np.float64)
    v = table.mesh.vertices
    for col in range(first_col - 1, last_col):
        for row in range(-1, rows):
            corners, n = _cell_patches(state, rows, row, col, patches)
            if corners < _FEWEST_CORNERS:
                continue
            for i in range(n):
                usable[i] = _corner_locations(
                    table, state, work, rows, row, col, patches[i], location[i], has[i]
                )
            for i_row in range(step + 1):
                for i_col in range(step + 1):
                    out_row = (row + 1) * step + i_row
                    out_col = (col - first_col + 1) * step + i_col
                    if out_corners[out_row, out_col] >= corners:
                        continue
                    fr, fc = i_row / step, i_col / step
                    m = 0
                    for i in range(n):
                        if not usable[i]:
                            continue
                        w0, w1 = (1.0 - fr) * (1.0 - fc), (1.0 - fr) * fc
                        w2, w3 = fr * (1.0 - fc), fr * fc
                        weight = w0 * has[i, 0] + w1 * has[i, 1] + w2 * has[i, 2] + w3 * has[i, 3]
                        lr = (
                            w0 * location[i, 0, 0]
                            + w1 * location[i, 1, 0]
                            + w2 * location[i, 2, 0]
                            + w3 * location[i, 3, 0]
                        )
                        lc = (
                            w0 * location[i, 0, 1]
                            + w1 * location[i, 1, 1]
                            + w2 * location[i, 2, 1]
                            + w3 * location[i, 3, 1]
                        )
                        p = patches[i]
                        first, p_rows, p_cols = (
                            table.mesh.patch_start[p],
                            table.rows[p],
                            table.mesh.patch_cols[p],
                        )
                        x, y, z, ok = sample_patch(v, first, p_rows, p_cols, lr, lc)
                        nx, ny, nz, sloped = patch_normal(v, first, p_rows, p_cols, lr, lc)
                        if not (ok and sloped) or z < z_min or z > z_max:
                            continue
                        sample[m, 0], sample[m, 1], sample[m, 2] = x, y, z
                        sample[m, 3], sample[m, 4], sample[m, 5] = nx, ny, nz
                        sample[m, 6] = weight + 1e-3
                        m += 1
                    best = -1.0
                    total = 0.0
                    chosen = 0
                    for i in range(m):
                        agreeing = 0.0
                        for j in range(m):
                            if _is_same_sheet(sample, i, j, same_surface):
                                agreeing += sample[j, 6]
                        total += sample[i, 6]
                        if agreeing > best:
                            best = agreeing
                            chosen = i
                    if m == 0 or total - best > max_against * total:
                        continue
                    x = y = z = 0.0
                    n_used = 0
                    for j in range(m):
                        if _is_same_sheet(sample, chosen, j, same_surface):
                            w = sample[j, 6] / best
                            x += w * sample[j, 0]
                            y += w * sample[j, 1]
                            z += w * sample[j, 2]
                            n_used += 1
                    out_xyz[out_row, out_col, 0] = x
                    out_xyz[out_row, out_col, 1] = y
                    out_xyz[out_row, out_col, 2] = z
                    out_corners[out_row, out_col] = corners
                    out_support[out_row, out_col] = n_used
                    out_confidence[out_row, out_col] = (
                        best / total * n_used / (n_used + 1.0) * (0.25 * corners)
                    )


@kernel
def _is_same_sheet(sample: NDArray[np.float64], i: int, j: int, limit: float) -> bool:
    """Return whether sample j lies on the tangent plane of sample i."""
    dx = sample[j, 0] - sample[i, 0]
    dy = sample[j, 1] - sample[i, 1]
    dz = sample[j, 2] - sample[i, 2]
    return bool(abs(dx * sample[i, 3] + dy * sample[i, 4] + dz * sample[i, 5]) <= limit)
