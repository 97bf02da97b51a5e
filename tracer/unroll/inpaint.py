"""Fill the holes of the sheet from what is around them: their rims and the wraps next to them.

A hole is bounded by data on its rim, and the wrap inside and the wrap outside say how the sheet
runs across it: a roll's wraps lie on each other. The differences between neighbouring nodes of
those wraps, averaged and brought to the length of a step, are the guide; the positions are the
least-squares integral of the guide between the rims, smooth where no wrap guides.
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.sheet import Sheet
from tracer.workers import Executor, run_tasks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_SMOOTHNESS = 0.02  # weight of second differences; they only decide where nothing guides
_UNGUIDED = 1.0  # the same where no neighbouring wrap is known
_BEND_WINDOW = 5  # nodes over which the curvature of a rim is averaged
_DIRECT = 150_000  # unknowns up to which a hole is solved directly
_BATCH = 3000.0  # nodes of holes that one task fills
_PASSES = 2  # the second one is also guided by what the first one filled
_FILLED_WEIGHT = 0.25  # of a guide that was itself filled in
_NEAR_RIM = 8.0  # steps over which the confidence of a filled node falls to a third
_Grids = list[NDArray[np.float64]]
_Hole = tuple[
    NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], _Grids, _Grids, _Grids
]  # points, fixed, inside, guides, weights, bends
DATA, FILLED, NOTHING = 100, 80, 0  # VC3D's values of the `state` channel


def fill_domain(valid: NDArray[np.bool_], widest: int, margin: int) -> NDArray[np.bool_]:
    """Return which nodes are to be filled.

    Parameters
    ----------
    valid : ndarray of bool, shape (rows, cols)
        Nodes with data.
    widest : int
        Nodes between data to the left and right, or above and below, no further apart than this
        are filled.
    margin : int
        So many nodes beyond the rim are filled, within the grid.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
        Nodes without data that are to be filled.
    """
    from scipy import ndimage

    between = np.zeros_like(valid)
    for axis in (0, 1):
        index = np.arange(valid.shape[axis])
        index = index[:, None] if axis == 0 else index[None, :]
        before = np.maximum.accumulate(np.where(valid, index, -widest - 1), axis=axis)
        after = np.where(valid, index, 2 * max(valid.shape) + widest)
        after = np.flip(np.minimum.accumulate(np.flip(after, axis), axis=axis), axis)
        between |= (before >= 0) & (after < valid.shape[axis]) & (after - before <= widest)
    whole = ndimage.binary_fill_holes(valid | between)
    if margin > 0:
        whole = ndimage.binary_dilation(whole, np.ones((3, 3), bool), iterations=margin)
    return np.asarray(whole & ~valid)


def inpaint(
    sheet: Sheet, *, widest: int, margin: int, workers: int | Executor = 1
) -> tuple[Sheet, NDArray[np.uint8]]:
    """Return the sheet with its holes filled, and the state of every node.

    Parameters
    ----------
    sheet : Sheet
        With holes.
    widest : int
        Widest hole that is filled along a row or column, nodes; enclosed holes always are.
    margin : int
        Nodes to extrapolate beyond the rim.
    workers : int or Executor
        Processes, or whatever else fills holes: each is a problem of its own.

    Returns
    -------
    sheet : Sheet
        Data nodes are unchanged.
    state : ndarray of uint8, shape (rows, cols)
        100 on data, 80 filled, 0 none.
    """
    valid = sheet.valid
    hole = fill_domain(valid, widest, margin)
    if not hole.any():
        return sheet, np.where(valid, DATA, NOTHING).astype(np.uint8)
    winding = fill_winding(sheet.winding, valid)
    points = sheet.points_xyz
    bends = rim_bends(points)
    trust = np.where(valid, 1.0, 0.0)
    for _ in range(_PASSES):
        guide, weight = guide_gradients(points, trust, winding, sheet.step)
        points = _integrate(sheet.points_xyz, valid, hole, guide, weight, bends, workers)
        filled = hole & np.isfinite(points[..., 0])
        trust = np.where(valid, 1.0, np.where(filled, _FILLED_WEIGHT, 0.0))
    from scipy import ndimage

    far = ndimage.distance_transform_edt(~valid)
    confidence = np.where(filled, 0.3 * np.exp(-far / _NEAR_RIM), sheet.confidence)
    state = np.where(valid, DATA, np.where(filled, FILLED, NOTHING)).astype(np.uint8)
    done = dataclasses.replace(
        sheet,
        points_xyz=points,
        winding=np.where(state > 0, winding, np.nan),
        confidence=confidence.astype(np.float32),
    )
    return done, state


def fill_winding(winding: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the winding of every node: its mean course along the columns plus a smooth rest.

    Parameters
    ----------
    winding : ndarray of float64, shape (rows, cols)
        Known where `valid`.
    valid : ndarray of bool, shape (rows, cols)
        Nodes with data.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Known values unchanged.
    """
    columns = np.arange(winding.shape[1])
    count = valid.sum(axis=0)
    known = count > 0
    total = np.where(valid, winding, 0.0).sum(axis=0)
    # a column's mean moves when rows come and go, so the course is built from differences
    both = valid[:, 1:] & valid[:, :-1]
    slope = np.where(both, np.diff(np.where(valid, winding, 0.0), axis=1), 0.0).sum(axis=0)
    measured = both.any(axis=0)
    slope = slope / np.maximum(both.sum(axis=0), 1)
    if measured.any():
        slope = np.interp(columns[:-1], columns[:-1][measured], slope[measured])
    course = np.concatenate([[0.0], np.cumsum(slope)])
    level = np.interp(columns, columns[known], (total - course * count)[known] / count[known])
    rest = np.where(valid, winding - course - level, 0.0)
    return np.asarray(course + level + diffuse(rest, valid))


def diffuse(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values spread into the unknown nodes by normalised averaging, coarse to fine.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, cols)
        Known where `valid`.
    valid : ndarray of bool, shape (rows, cols)
        Which values are known.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Known values unchanged.
    """
    if valid.all() or min(values.shape) < 2:
        mean = values[valid].mean() if valid.any() else 0.0
        return np.where(valid, values, mean)
    rows, cols = (n + n % 2 for n in values.shape)
    padded = np.zeros((rows, cols))
    weight = np.zeros((rows, cols))
    padded[: values.shape[0], : values.shape[1]] = np.where(valid, values, 0.0)
    weight[: values.shape[0], : values.shape[1]] = valid
    blocks = (rows // 2, 2, cols // 2, 2)
    total = weight.reshape(blocks).sum(axis=(1, 3))
    coarse = padded.reshape(blocks).sum(axis=(1, 3)) / np.maximum(total, 1.0)
    coarse = diffuse(coarse, total > 0)
    fine = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: values.shape[0], : values.shape[1]]
    out = np.where(valid, values, fine)
    for _ in range(4):  # smooths the blocks away
        around = np.pad(out, 1, mode="edge")
        mean = 0.25 * (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:])
        out = np.where(valid, values, mean)
    return out


def guide_gradients(
    points_xyz: NDArray[np.float64],
    trust: NDArray[np.float64],
    winding: NDArray[np.float64],
    step: float,
) -> tuple[tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
    """Return how the wraps next to each node run.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where unknown.
    trust : ndarray of float64, shape (rows, cols)
        How much a node may guide; 0 where unknown.
    winding : ndarray of float64, shape (rows, cols)
        Winding of every node, monotonic along rows.
    step : float
        Distance of the nodes, voxels.

    Returns
    -------
    guides : tuple of ndarray, shapes (rows - 1, cols, 3) and (rows, cols - 1, 3)
        Expected differences of neighbouring nodes, down a column and along a row.
    weights : tuple of ndarray, shapes (rows - 1, cols) and (rows, cols - 1)
        Their weights; 0 where no wrap is near.
    """
    rows, cols = trust.shape
    sums = [np.zeros((rows - 1, cols, 3)), np.zeros((rows, cols - 1, 3))]
    weights = [np.zeros((rows - 1, cols)), np.zeros((rows, cols - 1))]
    for turn in (-1.0, 1.0):
        beside, known = _beside(points_xyz, trust, winding, turn)
        for axis in (0, 1):
            low = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
            high = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            weight = np.minimum(known[low], known[high])
            difference = np.where(weight[..., None] > 0, beside[high] - beside[low], 0.0)
            sums[axis] += weight[..., None] * difference
            weights[axis] += weight
    for axis in (0, 1):
        guide = sums[axis] / np.maximum(weights[axis], 1e-9)[..., None]
        length = np.linalg.norm(guide, axis=-1, keepdims=True)
        usable = (length[..., 0] > 0.3 * step) & (length[..., 0] < 3.0 * step)
        sums[axis] = guide * step / np.where(length > 0, length, 1.0)
        weights[axis] = np.where(usable, np.minimum(weights[axis], 1.0), 0.0)
    return tuple(sums), tuple(weights)


def rim_bends(
    points_xyz: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the second differences of the data, smoothed and carried into the unknown nodes.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where unknown.

    Returns
    -------
    tuple of ndarray of float64, shape (rows, cols, 3)
        Down the columns and along the rows. What nothing guides goes on as curved as its rim: a
        straight line would leave a wrap of radius 50 by eight voxels within a step of 20.
    """
    from scipy import ndimage

    bends = []
    for axis in (0, 1):
        bend = np.full(points_xyz.shape, np.nan)
        if points_xyz.shape[axis] > 2:
            middle = (slice(1, -1), slice(None)) if axis == 0 else (slice(None), slice(1, -1))
            bend[middle] = np.diff(points_xyz, n=2, axis=axis)
        known = np.isfinite(bend[..., 0])
        weight = ndimage.uniform_filter(known.astype(np.float64), _BEND_WINDOW, mode="constant")
        carried = np.zeros(points_xyz.shape)
        for part in range(3):
            total = ndimage.uniform_filter(
                np.where(known, bend[..., part], 0.0), _BEND_WINDOW, mode="constant"
            )
            near = weight > 1e-9
            mean = np.where(near, total / np.where(near, weight, 1.0), 0.0)
            carried[..., part] = diffuse(mean, near)
        bends.append(carried)
    return bends[0], bends[1]


def _beside(
    points_xyz: NDArray[np.float64],
    trust: NDArray[np.float64],
    winding: NDArray[np.float64],
    turn: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the point of the wrap `turn` further at the same azimuth and row, and its trust."""
    rows, cols = trust.shape
    out = np.full((rows, cols, 3), np.nan)
    known = np.zeros((rows, cols))
    if cols < 2:
        return out, known
    columns = np.arange(cols, dtype=np.float64)
    for row in range(rows):
        course = winding[row]
        sign = 1.0 if course[-1] >= course[0] else -1.0
        course = np.maximum.accumulate(sign * course)
        wanted = course + sign * turn
        at = np.interp(wanted, course, columns, left=np.nan, right=np.nan)
        inside = np.isfinite(at)
        low = np.clip(np.nan_to_num(at).astype(np.int64), 0, cols - 2)
        share = np.nan_to_num(at) - low
        both = np.minimum(trust[row, low], trust[row, low + 1])
        known[row] = np.where(inside, both, 0.0)
        mixed = (1 - share)[:, None] * points_xyz[row, low] + share[:, None] * points_xyz[
            row, low + 1
        ]
        out[row] = np.where(known[row, :, None] > 0, mixed, np.nan)
    return out, known


def _integrate(
    points_xyz: NDArray[np.float64],
    valid: NDArray[np.bool_],
    hole: NDArray[np.bool_],
    guides: tuple[NDArray[np.float64], ...],
    weights: tuple[NDArray[np.float64], ...],
    bends: tuple[NDArray[np.float64], ...],
    workers: int | Executor,
) -> NDArray[np.float64]:
    """Return the points with every hole filled by the integral of the guides between its rims."""
    from scipy import ndimage

    out = points_xyz.copy()
    labels, n_holes = ndimage.label(hole, np.ones((3, 3), int))
    boxes = [
        tuple(
            slice(max(0, part.start - 2), min(size, part.stop + 2))
            for part, size in zip(found, hole.shape, strict=True)
        )
        for found in ndimage.find_objects(labels)
    ]
    bounded = [k for k in range(n_holes) if valid[boxes[k]].any()]
    batches = _batches(bounded, ndimage.sum_labels(hole, labels, np.arange(1, n_holes + 1)))

    def tasks() -> Iterator[list[_Hole]]:
        for batch in batches:
            holes = []
            for k in batch:
                box = boxes[k]
                near = [
                    [grid[axis][_cut(box, axis)] for axis in (0, 1)] for grid in (guides, weights)
                ]
                inside = labels[box] == k + 1
                near_bends = [bend[box] for bend in bends]
                holes.append((points_xyz[box], valid[box], inside, *near, near_bends))
            yield holes

    for index, filled in run_tasks(_fill_holes, tasks(), workers):
        for k, solved in zip(batches[index], filled, strict=True):
            out[boxes[k]][labels[boxes[k]] == k + 1] = solved
    return out


def _batches(holes: list[int], sizes: NDArray[np.float64]) -> list[list[int]]:
    """Return holes in groups that are worth a task."""
    batches: list[list[int]] = []
    room = 0.0
    for k in holes:
        if room <= 0:
            batches.append([])
            room = _BATCH
        batches[-1].append(k)
        room -= float(sizes[k])
    return batches


def _cut(box: tuple[slice, ...], axis: int) -> tuple[slice, ...]:
    """Return the part of differences along an axis that lies in a box of nodes."""
    return tuple(
        slice(part.start, part.stop - 1) if k == axis else part for k, part in enumerate(box)
    )


def _fill_holes(holes: list[_Hole]) -> list[NDArray[np.float64]]:
    """Return the positions of the nodes of some holes; runs in a worker."""
    return [_fill_one(*hole) for hole in holes]


def _fill_one(
    points: NDArray[np.float64],
    fixed: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    guides: _Grids,
    weights: _Grids,
    bends: _Grids,
) -> NDArray[np.float64]:
    """Return the positions of the nodes of one hole."""
    from scipy.sparse import csc_array, diags_array, vstack
    from scipy.sparse.linalg import cg, splu

    rows, cols = inside.shape
    index = np.arange(rows * cols).reshape(rows, cols)
    known = fixed | inside
    unguided = np.ones((rows, cols), bool)
    blocks, rights, scales = [], [], []
    for axis in (0, 1):
        low = index[:-1].ravel() if axis == 0 else index[:, :-1].ravel()
        high = index[1:].ravel() if axis == 0 else index[:, 1:].ravel()
        weight = weights[axis].ravel()
        use = (inside.ravel()[low] | inside.ravel()[high]) & known.ravel()[low]
        use &= known.ravel()[high] & (weight > 0)
        unguided.ravel()[low[use]] = False
        unguided.ravel()[high[use]] = False
        blocks.append(_rows([(low[use], -1.0), (high[use], 1.0)], rows * cols))
        rights.append(guides[axis].reshape(-1, 3)[use])
        scales.append(weight[use])
    for axis in (0, 1):
        parts = (
            [index[:-2], index[1:-1], index[2:]]
            if axis == 0
            else [
                index[:, :-2],
                index[:, 1:-1],
                index[:, 2:],
            ]
        )
        a, b, c = (part.ravel() for part in parts)
        use = known.ravel()[a] & known.ravel()[b] & known.ravel()[c]
        use &= inside.ravel()[a] | inside.ravel()[b] | inside.ravel()[c]
        blocks.append(_rows([(a[use], 1.0), (b[use], -2.0), (c[use], 1.0)], rows * cols))
        rights.append(bends[axis].reshape(-1, 3)[b[use]])
        scales.append(np.where(unguided.ravel()[b[use]], _UNGUIDED, _SMOOTHNESS))
    matrix = vstack(blocks, format="csr")
    right = np.concatenate(rights)
    root = np.sqrt(np.concatenate(scales))
    matrix = diags_array(root) @ matrix
    at_fixed = np.where(fixed.ravel()[:, None], np.nan_to_num(points.reshape(-1, 3)), 0.0)
    right = right * root[:, None] - matrix @ at_fixed
    free = matrix[:, np.flatnonzero(inside.ravel())]
    normal = csc_array(free.T @ free)
    normal = csc_array(normal + 1e-9 * diags_array(np.ones(normal.shape[0])))
    target = free.T @ right
    if normal.shape[0] <= _DIRECT:
        return np.asarray(splu(normal).solve(np.ascontiguousarray(target)))
    scale = diags_array(1.0 / normal.diagonal())
    solved = [cg(normal, target[:, k], M=scale, rtol=1e-7, maxiter=5000)[0] for k in range(3)]
    return np.stack(solved, axis=1)


def _rows(parts: list[tuple[NDArray[np.int64], float]], n_columns: int) -> "csr_array":
    """Return a matrix whose row r holds the given coefficients at column[r] of each part."""
    from scipy.sparse import csr_array

    n = len(parts[0][0])
    data = np.tile([value for _, value in parts], n)
    columns = np.stack([column for column, _ in parts], axis=1).ravel()
    starts = len(parts) * np.arange(n + 1)
    return csr_array((data, columns, starts), shape=(n, n_columns))
