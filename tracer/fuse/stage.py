"""Traces in, one flat surface out.

Winding and height already say where on the sheet every vertex lies, so that nothing has to be grown
column by column: the traces are laid out together in one plane by one global least-squares problem
(:mod:`tracer.unroll.plane`), which keeps lengths, and resampled on a regular grid where they agree.
Holes are filled from all sides, guided by the wraps inside and outside
(:mod:`tracer.unroll.inpaint`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError
from tracer.fuse.params import FuseParams
from tracer.fuse.sources import Source, align
from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis, estimate_axis
from tracer.unroll.frames import build_frames, orientation_signs, patch_normals
from tracer.unroll.inpaint import FILLED, fill_domain, inpaint
from tracer.unroll.layout import Layout
from tracer.unroll.overlaps import Contacts, QuadCells, overlap_pairs
from tracer.unroll.patches import Patches
from tracer.unroll.plane import flatten
from tracer.unroll.resample import resample
from tracer.unroll.sheet import Sheet, used_box
from tracer.workers import Executor

if TYPE_CHECKING:
    from tracer.surface import Surface

_BEYOND_RIM = 0.75  # steps; a node so near to a vertex of a source may lie beyond its rim
_STEPS = ("overlaps", "plane", "surface", "holes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fused:
    """A fused surface.

    Attributes
    ----------
    sheet : Sheet
        The grid: columns along the winding, rows along the axis.
    state : ndarray of uint8, shape (rows, cols)
        100 on a source, 80 inpainted, 0 none.
    column_winding : ndarray of float64, shape (cols,)
        Winding that each column stands for.
    sources : tuple of Source
        Aligned.
    """

    sheet: Sheet
    state: NDArray[np.uint8]
    column_winding: NDArray[np.float64]
    sources: tuple[Source, ...]

    def surface(self, meta: Mapping[str, Any]) -> "Surface":
        """Return it as a surface with its channels.

        Parameters
        ----------
        meta : mapping
            Provenance.

        Returns
        -------
        Surface
            Channels ``state``, ``confidence``, ``winding`` (of the column), ``winding_exact``.
        """
        from tracer.surface import Surface

        there = self.state > 0
        target = np.broadcast_to(self.column_winding[None], there.shape)
        return Surface(
            points_xyz=np.where(there[..., None], self.sheet.points_xyz, -1.0).astype(np.float32),
            valid=there,
            scale=(1.0 / self.sheet.step, 1.0 / self.sheet.step),
            channels={
                "state": self.state,
                "confidence": np.where(there, self.sheet.confidence, 0.0).astype(np.float32),
                "winding": np.where(there, target, np.nan).astype(np.float32),
                "winding_exact": np.where(there, self.sheet.winding, np.nan).astype(np.float32),
            },
            meta=meta,
        )

    def summary(self) -> str:
        """Return the result in a line.

        Returns
        -------
        str
            Text for a person.
        """
        rows, cols = self.state.shape
        there = self.state > 0
        filled = 100 * (self.state == FILLED).sum() / max(there.sum(), 1)
        return (
            f"{rows} x {cols} vertices at step {self.sheet.step:g}, "
            f"{np.ptp(self.column_winding):.2f} wraps, from {len(self.sources)} traces; "
            f"{filled:.1f} % inpainted"
        )


def fuse(
    sources: Sequence[Source],
    params: FuseParams,
    *,
    axis: Axis | None = None,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> Fused:
    """Return one surface from several traces.

    Parameters
    ----------
    sources : sequence of Source
        Traces with windings; the first is the reference.
    params : FuseParams
        Parameters.
    axis : Axis, optional
        The scroll's axis; estimated from the traces where omitted.
    workers : int or Executor
        Processes, or whatever else fills the holes; all the rest is one global problem.
    progress : Progress
        Called after each step.

    Returns
    -------
    Fused
        The surface.

    Raises
    ------
    SurfaceError
        If no trace has a quad with a winding.
    NothingFoundError
        If a trace cannot be aligned.
    """
    aligned = align(sources)
    patches = _weighted(aligned)
    if not len(patches.quads):
        raise SurfaceError("no trace has four neighbouring vertices with a winding")
    cells = QuadCells.build(patches, params.same_surface_th)
    contacts = overlap_pairs(patches, cells, params.same_surface_th)
    progress(1, len(_STEPS), _STEPS[0])
    normals = patch_normals(patches)
    if axis is None:
        axis = estimate_axis(patches.points_xyz, normals)
    signs = orientation_signs(patches, contacts, normals, axis)
    frames = build_frames(normals, signs[patches.grid[:, 0]])
    layout, contacts, sign = _layout(aligned, patches, contacts, axis, params.wind_th)
    plane = flatten(patches, contacts, frames, axis, layout)
    progress(2, len(_STEPS), _STEPS[1])
    step = params.trace_mul * aligned[0].surface.step
    every = int(np.ceil(params.trace_mul - 1e-9))  # holes are filled at the traces' step or finer
    sheet = resample(patches, layout, plane, 0, step / every)
    progress(3, len(_STEPS), _STEPS[2])
    margin, widest = max(1, int(np.ceil(params.extend * every / step))), params.max_hole / step
    sheet = sheet.padded(margin)
    inner = sheet.valid | fill_domain(sheet.valid, int(widest * every), 0)
    sheet, state = inpaint(sheet, widest=int(widest * every), margin=margin, workers=workers)
    there = np.isfinite(sheet.points_xyz[..., 0]) & (np.nan_to_num(sheet.points_xyz[..., 2]) > 0)
    if params.extend == 0:
        there &= inner | _reached(sheet, plane.uv)
    view = _thinning(there, every)
    sheet, state, there = _thinned(sheet, view, step), state[view], there[view]
    box = used_box(there)
    sheet, there = sheet.cropped(box), there[box]
    state = np.where(there, state[box], 0).astype(np.uint8)
    winding = np.where(there, sign * sheet.winding, np.nan)
    progress(4, len(_STEPS), _STEPS[3])
    return Fused(
        sheet=dataclasses.replace(sheet, winding=winding),
        state=state,
        column_winding=_of_columns(winding),
        sources=tuple(aligned),
    )


def _reached(sheet: Sheet, uv: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the nodes that the cells need in which the sources end."""
    at = ((uv - sheet.origin_uv) / sheet.step)[np.isfinite(uv[:, 0])][:, ::-1]
    low = np.floor(at).astype(np.int64)
    reached = np.zeros(sheet.valid.shape, bool)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        node = low + corner
        use = (np.abs(node - at) < _BEYOND_RIM).all(axis=1)
        use &= ((node >= 0) & (node < reached.shape)).all(axis=1)
        reached[tuple(node[use].T)] = True
    return reached


def _thinning(there: NDArray[np.bool_], every: int) -> tuple[slice, slice]:
    """Return which rows and columns to keep: of every few, those that hold the most nodes."""
    count = {
        (row, col): int(there[row::every, col::every].sum())
        for row in range(every)
        for col in range(every)
    }
    row, col = max(count, key=lambda phase: (count[phase], -phase[0], -phase[1]))
    return slice(row, None, every), slice(col, None, every)


def _thinned(sheet: Sheet, view: tuple[slice, slice], step: float) -> Sheet:
    """Return some rows and columns of a sheet."""
    low_u, low_v = sheet.origin_uv
    return dataclasses.replace(
        sheet,
        points_xyz=sheet.points_xyz[view],
        winding=sheet.winding[view],
        confidence=sheet.confidence[view],
        agreeing=sheet.agreeing[view],
        origin_uv=(low_u + view[1].start * sheet.step, low_v + view[0].start * sheet.step),
        step=step,
    )


def _weighted(sources: Sequence[Source]) -> Patches:
    """Return the traces as patches, weighted, without vertices of unknown winding."""
    surfaces = [
        dataclasses.replace(s.surface, valid=s.surface.valid & np.isfinite(s.winding), channels={})
        for s in sources
    ]
    names = [s.surface.name or f"trace {k}" for k, s in enumerate(sources)]
    patches = Patches.from_surfaces(surfaces, names)
    return dataclasses.replace(patches, weights=np.array([s.weight for s in sources], np.float32))


def _layout(
    sources: Sequence[Source],
    patches: Patches,
    contacts: Contacts,
    axis: Axis,
    wind_th: float,
) -> tuple[Layout, Contacts, float]:
    """Return the layout that the given windings say, counted outward, and its sign."""
    patch, rows, cols = patches.grid.T
    winding = np.empty(patches.n_vertices)
    for k, source in enumerate(sources):
        own = patch == k
        winding[own] = source.winding[rows[own], cols[own]]
    radius = axis.radii(patches.points_xyz)
    sign = 1.0 if np.cov(winding, radius)[0, 1] >= 0 else -1.0
    winding *= sign
    i, j = patches.edges.T
    cut = np.abs(winding[i] - winding[j]) > 0.5
    turns = axis.turns(patches.points_xyz)
    forward = (turns[j] - turns[i] + 0.5) % 1.0 - 0.5
    handedness = 1 if (forward * (winding[j] - winding[i]))[~cut].sum() >= 0 else -1
    corners = winding[contacts.corners(patches)]
    agree = (np.abs(corners - winding[contacts.vertex][:, None]) < wind_th).all(axis=1)
    contacts = contacts.select(np.asarray(agree))
    support = np.bincount(contacts.vertex, minlength=patches.n_vertices).astype(np.int32)
    layout = Layout(
        winding=winding,
        component=np.zeros(patches.n_vertices, np.int32),
        n_components=1,
        cut=cut,
        support=support,
        gap=float("nan"),
        handedness=handedness,
        disagreeing=np.zeros(patches.n_vertices, np.int32),
        violated=0.0,
    )
    return layout, contacts, sign


def _of_columns(winding: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median winding of each column, interpolated over empty columns."""
    columns = np.arange(winding.shape[1])
    known = np.isfinite(winding).any(axis=0)
    median = np.array([np.nanmedian(winding[:, c]) for c in columns[known]])
    return np.asarray(np.interp(columns, columns[known], median))
