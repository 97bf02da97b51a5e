"""The last pass: move the sheet along its normals to the middle of the predicted one.

Every node looks along its normal for the run of foreground that it lies in or next to. The middle of
a run of believable thickness says how far to move; where runs are merged with a neighbour's, torn or
missing, the move is that of the surroundings. Moves are along the normal and a voxel or two, so
that distances within the sheet hardly change.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.progress import Progress, silent
from tracer.unroll.inpaint import FILLED
from tracer.unroll.resample import Sheet

_SPACING = 0.5  # voxels between samples along a normal
_CHUNK = 128  # voxels read at a time along each axis
_ROUNDS = 2  # the second one looks along better normals
_THICKEST = 1.6  # of the usual thickness; thicker runs are merged sheets
_THINNEST = 0.4  # of the usual thickness
_MOST_SPREAD = 1.5  # voxels from the neighbours' median move beyond which a run is another thing
_STIFFNESS = 0.05  # weight of second differences of the move against one good run
_SUPPORTED = 0.3  # share of good runs around an extrapolated node that lets it stay
_PASSES = 4  # of reweighting


class PredictionVolume(Protocol):
    """What is needed of a volume."""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Return the shape of level 0."""

    def read(
        self, level: int, start_zyx: tuple[int, int, int], stop_zyx: tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        """Return a block; 0 outside the volume."""


def sample_foreground(
    volume: PredictionVolume, points_xyz: NDArray[np.float64], threshold: int
) -> NDArray[np.float32]:
    """Return how much foreground there is at points, trilinear, chunk by chunk.

    Parameters
    ----------
    volume : PredictionVolume
        Surface prediction.
    points_xyz : ndarray of float64, shape (n, 3)
        Points in voxels; NaN gives 0.
    threshold : int
        Lowest value that counts as foreground.

    Returns
    -------
    ndarray of float32, shape (n,)
        0 to 1.
    """
    out = np.zeros(len(points_xyz), np.float32)
    limit = np.array(volume.shape_zyx[::-1], dtype=np.float64)
    usable = np.isfinite(points_xyz).all(axis=1)
    usable &= (np.nan_to_num(points_xyz) >= 0).all(axis=1)
    usable &= (np.nan_to_num(points_xyz) < limit).all(axis=1)
    index = np.flatnonzero(usable)
    chunk = (points_xyz[index] // _CHUNK).astype(np.int64)
    counts = np.maximum(limit // _CHUNK + 1, 1).astype(np.int64)
    keys = (chunk[:, 2] * counts[1] + chunk[:, 1]) * counts[0] + chunk[:, 0]
    order = np.argsort(keys, kind="stable")
    index, chunk, keys = index[order], chunk[order], keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else []
    for first, last in zip(starts, [*starts[1:], len(keys)], strict=True):
        rows = index[first:last]
        low = chunk[first] * _CHUNK
        top = np.minimum(low + _CHUNK + 1, limit.astype(np.int64) + 1)
        block = volume.read(0, tuple(low[::-1].tolist()), tuple(top[::-1].tolist()))
        out[rows] = _trilinear(block >= threshold, points_xyz[rows] - low)
    return out


def _trilinear(block: NDArray[np.bool_], points_xyz: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a block (z, y, x) at points relative to its first voxel."""
    whole = np.floor(points_xyz).astype(np.int64)
    x, y, z = (points_xyz - whole).astype(np.float32).T
    i, j, k = whole.T
    total = np.zeros(len(points_xyz), np.float32)
    for dz, wz in ((0, 1 - z), (1, z)):
        for dy, wy in ((0, 1 - y), (1, y)):
            for dx, wx in ((0, 1 - x), (1, x)):
                total += wz * wy * wx * block[k + dz, j + dy, i + dx]
    return total


def pull_to_prediction(
    sheet: Sheet,
    state: NDArray[np.uint8],
    volume: PredictionVolume,
    *,
    threshold: int,
    reach: float,
    extrapolated: NDArray[np.bool_],
    progress: Progress = silent,
) -> tuple[Sheet, NDArray[np.uint8]]:
    """Return the sheet moved to the middle of the predicted sheet.

    Parameters
    ----------
    sheet : Sheet
        Filled.
    state : ndarray of uint8, shape (rows, cols)
        100 on data, 80 filled, 0 none.
    volume : PredictionVolume
        Surface prediction.
    threshold : int
        Lowest value that counts as foreground.
    reach : float
        How far a node looks to either side, voxels; less than half the gap between wraps.
    extrapolated : ndarray of bool, shape (rows, cols)
        Nodes beyond the rim of the data: those that find no prediction are removed.
    progress : Progress
        Called after each round.

    Returns
    -------
    sheet : Sheet
        Moved.
    state : ndarray of uint8, shape (rows, cols)
        Without the extrapolated nodes that nothing supports.
    """
    points = sheet.points_xyz.copy()
    found = np.zeros(sheet.valid.shape, bool)
    for number in range(_ROUNDS):
        normals = sheet_normals(points)
        middle, found = _middles(points, normals, volume, threshold, reach)
        move = smooth_moves(middle, found, sheet.valid)
        points += np.nan_to_num(normals) * np.clip(move, -reach, reach)[..., None]
        progress(number + 1, _ROUNDS, "pulling to the prediction")
    lost = extrapolated & (state == FILLED) & (_share_around(found) < _SUPPORTED)
    points[lost] = np.nan
    confidence = np.where((state == FILLED) & found, np.maximum(sheet.confidence, 0.5), sheet.confidence)
    moved = dataclasses.replace(
        sheet,
        points_xyz=points,
        winding=np.where(lost, np.nan, sheet.winding),
        confidence=np.where(lost, 0.0, confidence).astype(np.float32),
    )
    return moved, np.where(lost, 0, state).astype(np.uint8)


def sheet_normals(points_xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit normals d/dcol x d/drow of a grid.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where there is none.

    Returns
    -------
    ndarray of float64, shape (rows, cols, 3)
        NaN where a node has no neighbour along an axis.
    """
    slopes = []
    for axis in (0, 1):
        difference = np.diff(points_xyz, axis=axis)
        pad = [(0, 0)] * 3
        pad[axis] = (1, 1)
        padded = np.pad(difference, pad, constant_values=np.nan)
        low = np.take(padded, np.arange(points_xyz.shape[axis]), axis=axis)
        high = np.take(padded, np.arange(1, points_xyz.shape[axis] + 1), axis=axis)
        slopes.append(np.where(np.isnan(low), high, np.where(np.isnan(high), low, low + high)))
    normals = np.cross(slopes[1], slopes[0])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.asarray(normals / np.where(length > 0, length, np.nan))


def _middles(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    volume: PredictionVolume,
    threshold: int,
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where along its normal each node finds the middle of a believable run."""
    half = int(np.ceil(2 * reach / _SPACING))  # runs may end beyond the reach
    offsets = _SPACING * np.arange(-half, half + 1)
    ready = np.isfinite(normals[..., 0])
    middle, width = np.zeros(ready.shape), np.full(ready.shape, np.nan)
    for rows in _row_blocks(ready.shape):
        use = ready[rows]
        at, along = points[rows][use], normals[rows][use]
        rays = at[:, None] + offsets[None, :, None] * along[:, None]
        profile = sample_foreground(volume, rays.reshape(-1, 3), threshold)
        found, thickness = _nearest_run(profile.reshape(len(at), -1), offsets)
        middle[rows][use], width[rows][use] = found, thickness
    seen = np.isfinite(width)
    if not seen.any():
        return middle, seen
    usual = float(np.median(width[seen]))
    good = seen & (width > _THINNEST * usual) & (width < _THICKEST * usual)
    return middle, good & (np.abs(middle) <= reach)


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of rows of about a hundred thousand nodes."""
    size = max(1, 100_000 // max(shape[1], 1))
    for first in range(0, shape[0], size):
        yield slice(first, first + size)


def _nearest_run(
    profile: NDArray[np.float32], offsets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return middle and width of the run of foreground nearest to offset 0; NaN where none ends."""
    n, m = profile.shape
    inside = profile >= 0.5
    columns = np.arange(m)
    centre = m // 2
    distance = np.where(inside, np.abs(columns - centre)[None], m)
    seed = distance.argmin(axis=1)
    has = inside.any(axis=1)
    rows = np.arange(n)
    blocked_left = np.where(~inside & (columns[None] < seed[:, None]), columns[None], -1).max(axis=1)
    blocked_right = np.where(~inside & (columns[None] > seed[:, None]), columns[None], m).min(axis=1)
    ends = has & (blocked_left >= 0) & (blocked_right < m)
    left, right = np.clip(blocked_left, 0, m - 2), np.clip(blocked_right, 1, m - 1)

    def crossing(outer: NDArray[np.int64], inner: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = profile[rows, outer].astype(np.float64), profile[rows, inner].astype(np.float64)
        share = np.clip((0.5 - a) / np.where(b > a, b - a, 1.0), 0.0, 1.0)
        return np.asarray(offsets[outer] + share * (offsets[inner] - offsets[outer]))

    low, high = crossing(left, left + 1), crossing(right, right - 1)
    middle = np.where(ends, 0.5 * (low + high), 0.0)
    return middle, np.where(ends, high - low, np.nan)


def smooth_moves(
    middle: NDArray[np.float64], found: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the move of every node: what was found, without outliers, carried into the rest.

    Parameters
    ----------
    middle : ndarray of float64, shape (rows, cols)
        Moves that were found.
    found : ndarray of bool, shape (rows, cols)
        Where.
    valid : ndarray of bool, shape (rows, cols)
        Nodes of the sheet.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        0 off the sheet.
    """
    from scipy.sparse import csc_array, diags_array
    from scipy.sparse.linalg import splu

    from tracer.unroll.inpaint import second_differences

    if not found.any():
        return np.zeros(valid.shape)
    bend = second_differences(valid)
    number = np.cumsum(valid.ravel()) - 1
    size = int(valid.sum())
    data = np.where(found, middle, 0.0)[valid]
    weight = found[valid].astype(np.float64)
    rough = csc_array(bend.T @ bend) * _STIFFNESS + 1e-4 * diags_array(np.ones(size))
    move = np.zeros(size)
    for _ in range(_PASSES):
        move = splu(csc_array(rough + diags_array(weight))).solve(weight * data)
        miss = (data - move) / _MOST_SPREAD
        weight = found[valid] / (1.0 + miss**4)
    out = np.zeros(valid.size)
    at = valid.ravel()
    out[at] = move[number[at]]
    return out.reshape(valid.shape)


def _share_around(found: NDArray[np.bool_]) -> NDArray[np.float64]:
    from scipy import ndimage

    return np.asarray(ndimage.uniform_filter(found.astype(np.float64), 3, mode="constant"))
