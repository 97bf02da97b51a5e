"""The last pass: move the sheet along its normals to the middle of the predicted one.

Every node looks along its normal for the run of foreground that it lies in or next to. The middle
of a run of believable thickness says how far to move; where runs are merged with a neighbour's,
torn or missing, the move is that of the surroundings. Moves are along the normal and a voxel or
two, so that distances within the sheet hardly change.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.progress import Progress, silent
from tracer.unroll.inpaint import FILLED, diffuse
from tracer.unroll.sheet import Sheet

_SPACING = 1.0  # voxel between samples along a normal; ends of runs are interpolated
_CHUNK = 128  # voxels read at a time along each axis
_REACH_OF_DATA = 0.6  # of the reach: patches are on the sheet, filled nodes need not be
_FEWEST_AROUND = 5  # good runs within two nodes, itself included; a lone run is chance
_ROUNDS = 2  # the second one looks along better normals
_THICKEST = 1.6  # of the usual thickness; thicker runs are merged sheets
_THINNEST = 0.4  # of the usual thickness
_MOST_SPREAD = 1.5  # voxels from the neighbours' median move beyond which a run is another thing
_BEYOND_RIM = 0.25  # of a step; where the sheet goes on for so far, the next node is kept
_REACH_OF_GAP = 0.4  # nearer to the next wrap than to its own a node would be pulled to that one
_SUPPORTED = 0.3  # share of good runs around an extrapolated node that lets it stay


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
    from tracer.kernels.unroll_profile import sample_mask

    out = np.zeros(len(points_xyz), np.float32)
    limit = np.array(volume.shape_zyx[::-1], dtype=np.int64)
    known = np.nan_to_num(points_xyz, nan=-1.0)
    index = np.flatnonzero(((known >= 0) & (known < limit)).all(axis=1))
    chunk = (known[index] // _CHUNK).astype(np.int64)
    counts = limit // _CHUNK + 1
    keys = (chunk[:, 2] * counts[1] + chunk[:, 1]) * counts[0] + chunk[:, 0]
    order = np.argsort(keys, kind="stable")
    index, chunk, keys = index[order], chunk[order], keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]).tolist() if len(keys) else []
    for first, last in zip(starts, [*starts[1:], len(keys)], strict=False):
        low = chunk[first] * _CHUNK
        top = np.minimum(low + _CHUNK + 1, limit)
        z0, y0, x0 = low[::-1].tolist()
        z1, y1, x1 = top[::-1].tolist()
        block = volume.read(0, (z0, y0, x0), (z1, y1, x1))
        sample_mask(block, threshold, low, known, index[first:last], out)
    return out


def safe_reach(reach: float, gap: float) -> float:
    """Return how far nodes may move without getting to the next wrap.

    Parameters
    ----------
    reach : float
        As far as is wanted, voxels.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where unknown.

    Returns
    -------
    float
        Voxels.
    """
    return float(np.nanmin([reach, _REACH_OF_GAP * gap]))


def pull_to_prediction(
    sheet: Sheet,
    state: NDArray[np.uint8],
    volume: PredictionVolume,
    *,
    threshold: int,
    reach: float,
    extrapolated: NDArray[np.bool_] | None = None,
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
    extrapolated : ndarray of bool, shape (rows, cols), optional
        Nodes beyond the rim. If given, only they move (the others lie in the middle already), and
        those that find no prediction are removed.
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
        asked = sheet.valid if extrapolated is None else extrapolated
        middle, found = _middles(points, normals, asked, volume, threshold, reach)
        found &= (state == FILLED) | (np.abs(middle) <= _REACH_OF_DATA * reach)
        move = smooth_moves(middle, found | (sheet.valid & ~asked), sheet.valid)
        move[~asked] = 0.0
        points += np.nan_to_num(normals) * np.clip(move, -reach, reach)[..., None]
        progress(number + 1, _ROUNDS, "pulling to the prediction")
    lost = np.zeros_like(found)
    if extrapolated is not None:
        near_rim = _towards_known(points, sheet.valid & ~extrapolated)
        _, near = _middles(near_rim, sheet_normals(points), extrapolated, volume, threshold, reach)
        lost = extrapolated & (_share_around(found | near, extrapolated) < _SUPPORTED)
    points[lost] = np.nan
    confidence = np.where(
        (state == FILLED) & found, np.maximum(sheet.confidence, 0.5), sheet.confidence
    )
    moved = dataclasses.replace(
        sheet,
        points_xyz=points,
        winding=np.where(lost, np.nan, sheet.winding),
        confidence=np.where(lost, 0.0, confidence).astype(np.float32),
    )
    return moved, np.where(lost, 0, state).astype(np.uint8)


def _towards_known(points: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return points moved most of the way to their known neighbours: the sheet may end between."""
    total, count = np.zeros(points.shape), np.zeros(known.shape)
    safe = np.where(known[..., None], points, 0.0)
    for axis in (0, 1):
        for shift in (-1, 1):
            beside = np.roll(known, shift, axis=axis)
            edge = 0 if shift == 1 else -1
            beside[(edge, slice(None)) if axis == 0 else (slice(None), edge)] = False
            total += np.where(beside[..., None], np.roll(safe, shift, axis=axis), 0.0)
            count += beside
    mean = total / np.maximum(count, 1.0)[..., None]
    moved = mean + _BEYOND_RIM * (points - mean)
    return np.where(count[..., None] > 0, moved, points)


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
    asked: NDArray[np.bool_],
    volume: PredictionVolume,
    threshold: int,
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where along its normal each node finds the middle of a believable run."""
    half = int(np.ceil(2 * reach / _SPACING))  # runs may end beyond the reach
    offsets = np.arange(-half, half + 1, dtype=np.float64) * _SPACING
    ready = np.isfinite(normals[..., 0]) & asked
    middle, width = np.zeros(ready.shape), np.full(ready.shape, np.nan)
    for rows in _row_blocks(ready.shape):
        use = ready[rows]
        at, along = points[rows][use], normals[rows][use]
        rays = at[:, None] + offsets[None, :, None] * along[:, None]
        profile = sample_foreground(volume, rays.reshape(-1, 3), threshold)
        found, thickness = _nearest_run(profile.reshape(len(at), len(offsets)), offsets)
        middle[rows][use], width[rows][use] = found, thickness
    seen = np.isfinite(width)
    if not seen.any():
        return middle, seen
    usual = float(np.median(width[seen]))
    good = seen & (width > _THINNEST * usual) & (width < _THICKEST * usual)
    return middle, good & (np.abs(middle) <= reach)


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of rows of about fifty thousand nodes."""
    size = max(1, 50_000 // max(shape[1], 1))
    for first in range(0, shape[0], size):
        yield slice(first, min(first + size, shape[0]))


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
    blocked_left = np.where(~inside & (columns[None] < seed[:, None]), columns[None], -1).max(
        axis=1
    )
    blocked_right = np.where(~inside & (columns[None] > seed[:, None]), columns[None], m).min(
        axis=1
    )
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
    if not found.any():
        return np.zeros(valid.shape)
    median, count = _median_around(middle, found)
    good = found & (np.abs(middle - median) < _MOST_SPREAD) & (count >= _FEWEST_AROUND)
    move = diffuse(np.where(good, middle, 0.0), good)
    for axis in (0, 1):
        move = _blend_with_neighbours(move, valid, axis)
    return np.where(valid, move, 0.0)


def _median_around(
    values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the median of the known values within two nodes, and how many there are."""
    padded = np.pad(np.where(known, values, np.nan), 2, constant_values=np.nan)
    out = np.zeros(values.shape)
    counts = np.zeros(values.shape, np.int64)
    for rows in _row_blocks(values.shape):
        part = padded[rows.start : rows.stop + 4]
        windows = np.lib.stride_tricks.sliding_window_view(part, (5, 5))
        windows = np.sort(windows.reshape(*windows.shape[:2], 25), axis=-1)  # NaN last
        count = np.isfinite(windows).sum(axis=-1)
        middle = np.maximum(count - 1, 0) // 2
        median = np.take_along_axis(windows, middle[..., None], axis=-1)[..., 0]
        out[rows] = np.nan_to_num(median)
        counts[rows] = count
    return out, counts


def _blend_with_neighbours(
    values: NDArray[np.float64], valid: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    """Return values averaged with the valid neighbours along an axis, weights 1 2 1."""
    turned, there = np.moveaxis(values, axis, 0), np.moveaxis(valid, axis, 0).astype(np.float64)
    total, weight = 2.0 * turned * there, 2.0 * there
    total[1:] += turned[:-1] * there[:-1]
    weight[1:] += there[:-1]
    total[:-1] += turned[1:] * there[1:]
    weight[:-1] += there[1:]
    return np.moveaxis(np.where(there > 0, total / np.maximum(weight, 1.0), 0.0), 0, axis)


def _share_around(found: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of the nodes asked that found something, around each node."""
    from scipy import ndimage

    hits = ndimage.uniform_filter((found & asked).astype(np.float64), 3, mode="constant")
    tries = ndimage.uniform_filter(asked.astype(np.float64), 3, mode="constant")
    return np.asarray(hits / np.maximum(tries, 1e-9))
