"""Holes of a trace, closed: smooth, and guided by the wraps next to them."""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels.trace_state import SUPPORTED
from tracer.trace.patches import TracePatches
from tracer.trace.state import Trace
from tracer.unroll.data_pass import (
    PredictionVolume,
    pull_to_prediction,
    safe_reach,
    sample_foreground,
)
from tracer.unroll.inpaint import DATA, FILLED, NOTHING, fill_winding, inpaint
from tracer.unroll.sheet import Sheet, is_torn

_REACH = 5.0  # voxels that what closes a hole may be off
_ON_PREDICTION = 0.5  # share of a trace on the prediction; with less it was made of something else


def node_windings(trace: Trace, patches: TracePatches) -> NDArray[np.float64]:
    """Return the winding of every node by the layout of the patches.

    Parameters
    ----------
    trace : Trace
        The trace.
    patches : TracePatches
        Its patches.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Turns, with those missing filled in; NaN throughout where there is no layout.
    """
    rows, cols = trace.limits.n_rows, max(trace.used_cols, 1)
    state, layout = trace.state, patches.layout
    winding = np.full(rows * cols, np.nan)
    if layout is not None:
        known = (state.status[: rows * cols] == SUPPORTED) & (state.n_entries[: rows * cols] > 0)
        known &= np.isfinite(state.flat[: rows * cols, 0])
        for node in np.flatnonzero(known).tolist():
            grid = layout.winding[patches.names[state.entry_patch[node, 0]]]
            row, col = np.rint(state.entry_location[node, 0]).astype(np.int64)
            winding[node] = grid[row, col]
    by_row = winding.reshape(cols, rows).T
    valid = np.isfinite(by_row)
    if valid.sum() < 2:
        return np.full((rows, cols), np.nan)
    return fill_winding(np.where(valid, by_row, 0.0), valid)


def close_holes(
    points_xyz: NDArray[np.float32], winding: NDArray[np.float64], step: float, max_hole: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return points with the holes between them filled, and what each point comes from.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Points of a trace; NaN where there is none.
    winding : ndarray of float64, shape (rows, cols)
        Turns, everywhere; NaN throughout where nothing is known of the wraps next to it.
    step : float
        Distance of neighbouring points, voxels.
    max_hole : float
        Widest hole to fill along its shorter side, voxels.

    Returns
    -------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Points given are unchanged.
    state : ndarray of uint8, shape (rows, cols)
        100 on patches, 80 filled, 0 none.
    """
    from scipy import ndimage

    valid = np.isfinite(points_xyz[..., 0])
    state = np.where(valid, DATA, NOTHING).astype(np.uint8)
    most = int(max_hole / step)
    if most < 1 or min(valid.shape) < 3:
        return points_xyz, state
    sheet = _as_sheet(points_xyz, winding, step)
    done, found = inpaint(sheet, widest=most, margin=0)
    filled = (found > 0) & ~valid & (np.nan_to_num(done.points_xyz[..., 2]) > 0.0)
    torn = filled & is_torn(np.where(filled[..., None], done.points_xyz, sheet.points_xyz), step)
    labels, _ = ndimage.label(filled)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        mine = labels[box] == number
        if min(part.stop - part.start for part in box) > most or (torn[box] & mine).any():
            filled[box][mine] = False
    state[filled] = found[filled]
    points = np.where(filled[..., None], done.points_xyz, points_xyz).astype(np.float32)
    return points, state


def pull_holes(
    points_xyz: NDArray[np.float32],
    state: NDArray[np.uint8],
    prediction: PredictionVolume,
    step: float,
    *,
    threshold: int,
    gap: float,
) -> NDArray[np.float32]:
    """Return points with what closes holes moved to the middle of the predicted sheet.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Points of a trace with its holes closed.
    state : ndarray of uint8, shape (rows, cols)
        100 on patches, 80 filled, 0 none.
    prediction : PredictionVolume
        Surface prediction. Where the patches do not lie on it nothing is moved.
    step : float
        Distance of neighbouring points, voxels.
    threshold : int
        Lowest value that counts as sheet.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where unknown.

    Returns
    -------
    ndarray of float32, shape (rows, cols, 3)
        Points on patches are unchanged, as are those that find no sheet or would be torn off.
    """
    filled, known = state == FILLED, points_xyz[state == DATA].astype(np.float64)
    if not filled.any():
        return points_xyz
    if np.mean(sample_foreground(prediction, known, threshold) >= 0.5) < _ON_PREDICTION:
        return points_xyz
    moved, _ = pull_to_prediction(
        _as_sheet(points_xyz, np.zeros(state.shape), step),
        state,
        prediction,
        threshold=threshold,
        reach=safe_reach(_REACH, gap),
    )
    points = np.where(filled[..., None], moved.points_xyz, points_xyz)
    torn = filled & is_torn(points, step)
    return np.where(torn[..., None], points_xyz, points).astype(np.float32)


def _as_sheet(points_xyz: NDArray[np.float32], winding: NDArray[np.float64], step: float) -> Sheet:
    """Return points of a trace as the surfaces of `unroll` are; NaN windings become 0."""
    valid = np.isfinite(points_xyz[..., 0])
    nothing = np.zeros(0, np.int64)
    return Sheet(
        points_xyz=points_xyz.astype(np.float64),
        winding=winding if np.isfinite(winding).all() else np.zeros(valid.shape),
        confidence=valid.astype(np.float32),
        agreeing=valid.astype(np.float32),
        origin_uv=(0.0, 0.0),
        step=step,
        outliers=nothing,
        samples=nothing,
    )


def drop_torn(
    points_xyz: NDArray[np.float32], fresh: NDArray[np.bool_], step: float
) -> NDArray[np.bool_]:
    """Remove the fresh points that do not fit the points around them.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Points, NaN where there is none; changed.
    fresh : ndarray of bool, shape (rows, cols)
        Points that are in question.
    step : float
        Distance of neighbouring points, voxels.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
        Those removed.
    """
    torn = fresh & is_torn(points_xyz.astype(np.float64), step)
    points_xyz[torn] = np.nan
    return torn


def finer(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Return values of nodes on the fine grid, which has one more coarse cell on each side.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, cols)
        Values at the nodes, all finite.
    step : int
        Fine cells per coarse cell.

    Returns
    -------
    ndarray of float64, shape ((rows + 1) * step + 1, (cols + 1) * step + 1)
        Linear between nodes and beyond them.
    """
    padded = (
        np.pad(values, 1, mode="reflect", reflect_type="odd")
        if min(values.shape) > 1
        else (np.pad(values, 1, mode="edge"))
    )
    for axis in (0, 1):
        at = np.arange((values.shape[axis] + 1) * step + 1) / step
        low = np.minimum(at.astype(np.int64), padded.shape[axis] - 2)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        below, above = np.take(padded, low, axis), np.take(padded, low + 1, axis)
        padded = (1.0 - share) * below + share * above
    return padded
