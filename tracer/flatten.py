"""One surface on a regular, nearly isometric grid: what fusing does for a single trace.

Its winding says where on the spiral it lies. A robust least-squares problem in the frames of its
vertices (:mod:`tracer.unroll.plane`) lays it out in the plane, a few solves of the symmetric
Dirichlet energy (:mod:`tracer.unroll.isometry`) stretch it as little as a sheet that is not
developable allows, and it is sampled on a regular grid there, with its channels.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError, TracerWarning
from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis
from tracer.unroll.frames import build_frames, orientation_signs, patch_normals
from tracer.unroll.inpaint import inpaint
from tracer.unroll.isometry import minimise_stretch
from tracer.unroll.layout import Layout
from tracer.unroll.overlaps import Contacts
from tracer.unroll.patches import Patches
from tracer.unroll.plane import Plane, first_guess
from tracer.unroll.plane import flatten as lay_flat
from tracer.unroll.resample import resample, sample_quads, usable_quads
from tracer.unroll.sheet import Sheet, used_box
from tracer.winding import Winding, solve_winding

if TYPE_CHECKING:
    from tracer.surface import Surface

_MOST_AT_ONCE = 10_000  # vertices that are laid out without a coarser grid
_COARSER = 3
_CUT = 0.5  # wraps between neighbours; more is a jump
_TELL = 0.01  # share of the vertices that may be left out silently
_DERIVED = frozenset(("winding", "wind_vis", "state"))  # made anew
_STEPS = ("winding", "plane", "isometry", "surface")
_NO_CONTACTS = Contacts(
    vertex=np.empty(0, np.int32),
    quad=np.empty(0, np.int32),
    s=np.empty(0, np.float32),
    t=np.empty(0, np.float32),
    distance=np.empty(0, np.float32),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """How far the cells of a surface are from squares of its step.

    Attributes
    ----------
    stretch_median, stretch_p95 : float
        Larger of the longest singular value and the inverse of the shortest, minus 1.
    shear_median_deg, shear_p95_deg : float
        Deviation of the cells' corners from a right angle, degrees.
    area_median, area_p95 : float
        Deviation of the cells' areas from step squared, relative.
    dirichlet : float
        Mean symmetric Dirichlet energy, 1 for an isometry.
    """

    stretch_median: float
    stretch_p95: float
    shear_median_deg: float
    shear_p95_deg: float
    area_median: float
    area_p95: float
    dirichlet: float

    def summary(self) -> str:
        """Return the figures in a line.

        Returns
        -------
        str
            Medians and 95th percentiles.
        """
        return (
            f"stretch {100 * self.stretch_median:.2f} % (p95 {100 * self.stretch_p95:.1f}), "
            f"shear {self.shear_median_deg:.2f} degrees (p95 {self.shear_p95_deg:.1f}), "
            f"area {100 * self.area_median:.2f} % (p95 {100 * self.area_p95:.1f}), "
            f"symmetric Dirichlet energy {self.dirichlet:.4f}"
        )

    def to_json(self) -> dict[str, float]:
        """Return the figures as a JSON object.

        Returns
        -------
        dict
            Name to value.
        """
        return {key: round(float(value), 6) for key, value in dataclasses.asdict(self).items()}


def cell_maps(surface: "Surface") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return singular values and shear of every cell's map from the grid into space.

    Parameters
    ----------
    surface : Surface
        A surface.

    Returns
    -------
    singular : ndarray of float64, shape (cells, 2)
        Larger one first; 1 and 1 for a square of the nominal step.
    shear_deg : ndarray of float64, shape (cells,)
        Deviation from a right angle between the mean row and the mean column direction, degrees.
    """
    points = surface.points_xyz.astype(np.float64)
    quads = surface.valid_quads
    a, b = points[:-1, :-1][quads], points[:-1, 1:][quads]
    c, d = points[1:, :-1][quads], points[1:, 1:][quads]
    along = 0.5 * (b - a + d - c) * surface.scale[0]
    down = 0.5 * (c - a + d - b) * surface.scale[1]
    aa, bb = (np.einsum("ij,ij->i", v, v) for v in (along, down))
    ab = np.einsum("ij,ij->i", along, down)
    half, root = 0.5 * (aa + bb), np.sqrt(0.25 * (aa - bb) ** 2 + ab**2)
    singular = np.sqrt(np.maximum(np.stack([half + root, half - root], axis=1), 0.0))
    cosine = np.clip(ab / np.maximum(np.sqrt(aa * bb), 1e-12), -1.0, 1.0)
    return singular, np.abs(90.0 - np.degrees(np.arccos(cosine)))


def measure_distortion(surface: "Surface") -> Distortion:
    """Return how far the cells of a surface are from squares.

    Parameters
    ----------
    surface : Surface
        A surface.

    Returns
    -------
    Distortion
        Over all cells.

    Raises
    ------
    SurfaceError
        If the surface has no cell.
    """
    singular, shear = cell_maps(surface)
    if not len(shear):
        raise SurfaceError(f"{surface.name or 'surface'}: no four neighbouring vertices are valid")
    safe = np.maximum(singular, 1e-6)
    stretch = np.maximum(safe[:, 0], 1.0 / safe[:, 1]) - 1.0
    area = np.abs(singular.prod(axis=1) - 1.0)
    energy = 0.25 * (safe**2 + safe**-2).sum(axis=1)
    middle, far = (
        [float(np.percentile(values, q)) for values in (stretch, shear, area)] for q in (50, 95)
    )
    return Distortion(
        stretch_median=middle[0],
        stretch_p95=far[0],
        shear_median_deg=middle[1],
        shear_p95_deg=far[1],
        area_median=middle[2],
        area_p95=far[2],
        dirichlet=float(np.median(energy)),
    )


def flatten(
    surface: "Surface",
    *,
    step: float | None = None,
    fill: bool = False,
    axis: Axis | None = None,
    meta: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> "Surface":
    """Return a surface on a regular grid of its own plane.

    Parameters
    ----------
    surface : Surface
        A surface. Parts that cannot be placed relative to its largest one are left out; where it
        jumps over a wrap the wrap stays empty.
    step : float, optional
        Voxels between vertices; the surface's own where omitted.
    fill : bool
        Fill its holes.
    axis : Axis, optional
        The scroll's axis; estimated where omitted.
    meta : dict, optional
        Metadata of the result.
    progress : Progress
        Called after each step.

    Returns
    -------
    Surface
        Columns run around the scroll, rows along its axis. Channels ``winding``, ``state`` (100 on
        the surface, 80 filled) and those of the surface, empty where it is filled.

    Raises
    ------
    SurfaceError
        If the surface has no quad.

    Warns
    -----
    TracerWarning
        If parts are left out.
    """
    from tracer.surface import Surface

    winding = solve_winding(surface, axis=axis)
    progress(1, len(_STEPS), _STEPS[0])
    patches, layout, plane = _lay_out(surface, winding)
    _tell_parts(surface, layout.component)
    progress(2, len(_STEPS), _STEPS[1])
    quads = usable_quads(patches, layout, plane)
    quads = quads[layout.component[quads[:, 0]] == 0]
    spacing = surface.step if step is None else step
    uv = minimise_stretch(patches, quads, plane.uv)
    plane = dataclasses.replace(plane, uv=_on_nodes(uv, spacing))
    progress(3, len(_STEPS), _STEPS[2])
    sheet = resample(patches, layout, plane, 0, spacing)
    place = _places(patches, quads, plane, sheet)
    state = np.where(sheet.valid, 100, 0).astype(np.uint8)
    if fill:
        sheet, state = inpaint(sheet, widest=0, margin=0)
    box = used_box(sheet.valid)
    sheet, state, place = sheet.cropped(box), state[box], place[box]
    there = sheet.valid & (np.nan_to_num(sheet.points_xyz[..., 2]) > 0)
    carried = {
        name: _carry(grid, np.where((there & (state == 100))[..., None], place, np.nan))
        for name, grid in surface.channels.items()
        if name not in _DERIVED
    }
    progress(4, len(_STEPS), _STEPS[3])
    return Surface(
        points_xyz=np.where(there[..., None], sheet.points_xyz, -1.0).astype(np.float32),
        valid=there,
        scale=(1.0 / spacing, 1.0 / spacing),
        channels={
            **carried,
            "state": np.where(there, state, 0).astype(np.uint8),
            "winding": np.where(there, sheet.winding, np.nan).astype(np.float32),
        },
        meta=meta or {},
    )


def _lay_out(surface: "Surface", winding: Winding) -> tuple[Patches, Layout, Plane]:
    """Return a surface in the plane, beginning where every third node has come to lie.

    Only so do long waves settle on a fine grid: 150,000 nodes took 4.9 s from the first guess.
    """
    patches = Patches.from_surfaces([surface])
    layout = _layout(patches, winding)
    start = first_guess(patches, winding.axis, layout)
    if patches.n_vertices > _MOST_AT_ONCE:
        coarse = (slice(None, None, _COARSER), slice(None, None, _COARSER))
        fewer = dataclasses.replace(
            surface,
            points_xyz=surface.points_xyz[coarse],
            valid=surface.valid[coarse],
            scale=(surface.scale[0] / _COARSER, surface.scale[1] / _COARSER),
            channels={},
        )
        thinned = dataclasses.replace(
            winding, values=winding.values[coarse], component=winding.component[coarse]
        )
        some, its_layout, below = _lay_out(fewer, thinned)
        moved = below.uv - first_guess(some, winding.axis, its_layout)
        start += _interpolated(some, moved, fewer.shape, patches)
    frames = build_frames(*_oriented(patches, winding.axis))
    return (
        patches,
        layout,
        lay_flat(patches, _NO_CONTACTS, frames, winding.axis, layout, start=start),
    )


def _interpolated(
    coarse: Patches, moved: NDArray[np.float64], shape: tuple[int, int], fine: Patches
) -> NDArray[np.float64]:
    """Return what was found on every third node at all nodes; beyond holes that of the nearest."""
    from scipy import ndimage

    grid = np.full((*shape, 2), np.nan)
    grid[coarse.grid[:, 1], coarse.grid[:, 2]] = moved
    unknown = np.isnan(grid[..., 0])
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    grid = grid[tuple(nearest)]
    place = fine.grid[:, 1:].T / _COARSER
    parts = [ndimage.map_coordinates(grid[..., k], place, order=1, mode="nearest") for k in (0, 1)]
    return np.stack(parts, axis=1)


def _layout(patches: Patches, winding: Winding) -> Layout:
    """Return the layout that a winding says."""
    _, rows, cols = patches.grid.T
    value = winding.values[rows, cols].astype(np.float64)
    i, j = patches.edges.T
    return Layout(
        winding=value,
        component=winding.component[rows, cols],
        n_components=winding.n_components,
        cut=np.abs(value[i] - value[j]) > _CUT,
        support=np.zeros(patches.n_vertices, np.int32),
        gap=winding.gap,
        handedness=winding.handedness,
        disagreeing=np.zeros(patches.n_vertices, np.int32),
        violated=0.0,
    )


def _tell_parts(surface: "Surface", component: NDArray[np.int32]) -> None:
    """Warn of what is left out."""
    left_out = float((component != 0).mean())
    if left_out > _TELL:
        warnings.warn(
            f"{surface.name or 'surface'}: {100 * left_out:.0f} % of the vertices are in "
            f"{component.max()} parts that no wrap connects to the largest one, and left out; mask "
            "the largest part and flatten again to get the others",
            TracerWarning,
            stacklevel=3,
        )


def _oriented(patches: Patches, axis: Axis) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return normals and the sign per vertex that turns them outward."""
    normals = patch_normals(patches)
    signs = orientation_signs(patches, _NO_CONTACTS, normals, axis)
    return normals, signs[patches.grid[:, 0]]


def _on_nodes(uv: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return coordinates moved by less than a step, so that level rows meet the nodes' rows."""
    known = np.isfinite(uv[:, 0])
    phase = np.exp(2j * np.pi * uv[known] / step).mean(axis=0)
    return np.asarray(uv - np.angle(phase) / (2 * np.pi) * step)


def _places(
    patches: Patches, quads: NDArray[np.int32], plane: Plane, sheet: Sheet
) -> NDArray[np.float64]:
    """Return the row and column of the surface at every node of the sheet, NaN off it."""
    shape = sheet.valid.shape
    value = patches.grid[:, 1:].astype(np.float64)
    origin = np.array(sheet.origin_uv)
    found = sample_quads(quads, plane.uv, value, origin, sheet.step, np.ones(shape, bool))
    place = np.full((shape[0] * shape[1], 2), np.nan)
    place[found.node[::-1]] = found.value[::-1]  # of several the first one, whatever the order
    return place.reshape(*shape, 2)


def _carry(grid: NDArray[Any], place: NDArray[np.float64]) -> NDArray[Any]:
    """Return a channel at fractional places: bilinear if it is of floats, else of the nearest."""
    known = np.isfinite(place[..., 0])
    rows, cols = np.where(known, place[..., 0], 0.0), np.where(known, place[..., 1], 0.0)
    last = (grid.shape[0] - 1, grid.shape[1] - 1)
    near = grid[np.minimum(np.rint(rows).astype(int), last[0]), np.rint(cols).astype(int)]
    outside = known.reshape(known.shape + (1,) * (grid.ndim - 2))
    if not np.issubdtype(grid.dtype, np.floating):
        return np.where(outside, near, np.zeros((), grid.dtype)).astype(grid.dtype)
    r, c = np.floor(rows).astype(int), np.floor(cols).astype(int)
    total = np.zeros(near.shape)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (rows - r)) * np.abs(1 - right - (cols - c))
            value = grid[np.minimum(r + down, last[0]), np.minimum(c + right, last[1])]
            weight = weight.reshape(outside.shape)
            total += np.where(weight > 0, weight * value, 0.0)
    smooth = np.where(np.isfinite(total), total, near)
    return np.where(outside, smooth, np.nan).astype(grid.dtype)
