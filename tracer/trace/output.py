"""The surface of a trace: fine, with what is known about every vertex, as tifxyz."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError
from tracer.kernels.trace_bridge import fill_from_layout
from tracer.kernels.trace_output import fill_surface
from tracer.kernels.trace_state import SUPPORTED, SUPPORTS, PatchTable, TraceWork
from tracer.surface import Surface
from tracer.trace.holes import close_holes, drop_torn, finer, node_windings, pull_holes
from tracer.trace.params import TraceParams
from tracer.trace.patches import TracePatches
from tracer.trace.state import Trace
from tracer.unroll.data_pass import PredictionVolume
from tracer.unroll.inpaint import DATA

_REACH = 2  # coarse cells from a node within which the layout is asked for points


def trace_surface(
    trace: Trace,
    table: PatchTable,
    work: TraceWork,
    params: TraceParams,
    patches: TracePatches | None = None,
    prediction: PredictionVolume | None = None,
) -> Surface:
    """Return the fine surface of a trace.

    Parameters
    ----------
    trace : Trace
        The trace.
    table : PatchTable
        The patches.
    work : TraceWork
        Scratch.
    params : TraceParams
        Parameters.
    patches : TracePatches, optional
        The patches with their layout; holes are closed where it is given.
    prediction : PredictionVolume, optional
        The volume that the patches were grown on; what closes holes is moved to its sheets.

    Returns
    -------
    Surface
        At `src_step`, cropped, showing the side of the seed patch whatever the direction of
        growth. Channels: ``confidence``, ``support`` (patches averaged), ``inliers_sum``
        (residuals that agreed on the nearest node), ``generations``, ``state`` (100 on patches, 80
        where a hole was closed).

    Raises
    ------
    NothingFoundError
        If no vertex could be filled.
    """
    state, rows = trace.state, trace.limits.n_rows
    cols, step = trace.used_cols, params.step
    shape = ((rows + 1) * step + 1, (cols + 1) * step + 1)
    xyz = np.full((*shape, 3), np.nan, np.float32)
    corners = np.zeros(shape, np.uint8)
    support = np.zeros(shape, np.uint16)
    confidence = np.zeros(shape, np.float32)
    fill_surface(
        table,
        state,
        work,
        rows,
        0,
        cols,
        step,
        params.same_surface_th,
        params.max_against,
        trace.limits.z_min,
        trace.limits.z_max,
        xyz,
        corners,
        support,
        confidence,
    )
    known = np.isfinite(xyz[..., 0])
    if params.bridge > 0:
        fill_from_layout(
            table, state, trace.limits, work, cols, step, _REACH, xyz, support, confidence
        )
        torn = drop_torn(xyz, np.isfinite(xyz[..., 0]) & ~known, params.src_step)
        support[torn], confidence[torn] = 0, 0.0
    if not np.isfinite(xyz[..., 0]).any():
        raise NothingFoundError("the trace has no surface; choose another seed patch")
    filled_state = np.where(np.isfinite(xyz[..., 0]), DATA, 0).astype(np.uint8)
    if patches is not None and params.max_hole > 0:
        winding = finer(node_windings(trace, patches), step)
        xyz, filled_state = close_holes(xyz, winding, params.src_step, params.max_hole)
        if prediction is not None:
            gap = patches.layout.gap if patches.layout is not None else float("nan")
            xyz = pull_holes(
                *(xyz, filled_state, prediction, params.src_step),
                threshold=params.threshold,
                gap=gap,
            )
    valid = np.isfinite(xyz[..., 0])
    at = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    box = (slice(at[0][0], at[0][-1] + 1), slice(at[1][0], at[1][-1] + 1))
    channels: dict[str, NDArray[Any]] = {
        "confidence": confidence,
        "state": filled_state,
        "support": support,
        "inliers_sum": _nearest(state.support, rows, cols, step).astype(np.uint16),
        "generations": _nearest(state.generation, rows, cols, step).astype(np.uint16),
    }
    turn = (slice(None), slice(None, None, -1)) if trace.flipped else (slice(None), slice(None))
    there = valid[box][turn]
    return Surface(
        points_xyz=np.where(there[..., None], xyz[box][turn], np.float32(-1.0)),
        valid=there,
        scale=(1.0 / params.src_step, 1.0 / params.src_step),
        channels={
            name: np.where(there, grid[box][turn], 0).astype(grid.dtype)
            for name, grid in channels.items()
        },
    )


def _nearest(values: NDArray[np.int32], rows: int, cols: int, step: int) -> NDArray[np.int32]:
    """Return values of nodes on the fine grid, which has one more coarse cell on each side."""
    coarse = values[: rows * cols].reshape(cols, rows).T
    row = np.clip(np.round(np.arange((rows + 1) * step + 1) / step).astype(int) - 1, 0, rows - 1)
    col = np.clip(np.round(np.arange((cols + 1) * step + 1) / step).astype(int) - 1, 0, cols - 1)
    return coarse[np.ix_(row, col)]


def used_patches(trace: Trace) -> NDArray[np.int64]:
    """Return the patches that support a node.

    Parameters
    ----------
    trace : Trace
        The trace.

    Returns
    -------
    ndarray of int64
        Ascending.
    """
    state = trace.state
    nodes = np.flatnonzero(state.status == SUPPORTED)
    found = state.entry_patch[nodes][state.entry_state[nodes] == SUPPORTS]
    return np.unique(found).astype(np.int64)
