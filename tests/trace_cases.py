"""Flat patches with a known layout, and traces begun on them."""

import numpy as np

from tracer.surface import Surface
from tracer.trace.params import TraceParams
from tracer.trace.patches import Suspicions, TracePatches
from tracer.trace.state import begin_trace, make_work
from tracer.unroll.flat_patches import FlatPatches

STEP = 10.0
PARAMS = {"src_step": STEP, "step": 2, "consensus_default_th": 6}


def plane(low, high, *, name, z=(20.0, 120.0), angle=0.0, y=50.0, bend=None, tags=None):
    """Return a patch in the plane y = const from x = low to high; `bend` adds to y by x."""
    middle = np.array([0.5 * (low + high), 0.5 * sum(z)])
    reach = 0.75 * np.hypot(high - low, z[1] - z[0])
    n = int(2 * reach / STEP) + 1
    down, right = np.meshgrid(*2 * ((np.arange(n) - 0.5 * n) * STEP,), indexing="ij")
    x = middle[0] + np.cos(angle) * right - np.sin(angle) * down
    height = middle[1] - np.sin(angle) * right - np.cos(angle) * down
    valid = (x >= low - 1e-6) & (x <= high + 1e-6) & (height >= z[0]) & (height <= z[1])
    across = y + (np.zeros_like(x) if bend is None else bend(x))
    points = np.stack([x, across, height], axis=-1)
    rows, cols = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    return Surface(
        points_xyz=np.where(valid[box][..., None], points[box], -1).astype(np.float32),
        valid=valid[box],
        scale=(1 / STEP, 1 / STEP),
        meta={"uuid": name, "tags": tags or {}},
    )


def prepared(surfaces, *, layout=True, moved=None):
    """Return patches ready to be traced, laid out as they lie; `moved` puts some elsewhere."""
    uv, winding, component = {}, {}, {}
    for surface in surfaces:
        at = surface.points_xyz[..., [0, 2]].copy()
        at[..., 0] += (moved or {}).get(surface.name, 0.0)
        at[~surface.valid] = np.nan
        uv[surface.name] = at
        winding[surface.name] = (at[..., 0] / 1000.0).astype(np.float32)
        component[surface.name] = np.where(surface.valid, 0, -1).astype(np.int32)
    return TracePatches(
        names=tuple(s.name for s in surfaces),
        surfaces=tuple(surfaces),
        approved=frozenset(s.name for s in surfaces if "approved" in s.meta["tags"]),
        suspicions=Suspicions(),
        layout=FlatPatches(uv=uv, component=component, winding=winding) if layout else None,
    )


def begun(surfaces, *, layout=True, moved=None, **values):
    """Return (trace, table, work, params, patches) of a trace begun on the first surface."""
    params = TraceParams.from_mapping({**PARAMS, **values})
    patches = prepared(surfaces, layout=layout, moved=moved)
    table = patches.table(params.spacing, 0)
    work = make_work(len(surfaces))
    trace = begin_trace(table, work, 0, surfaces[0].valid, params)
    return trace, table, work, params, patches


def nodes_of(trace):
    """Return the numbers of all nodes."""
    return np.flatnonzero(trace.state.status)
