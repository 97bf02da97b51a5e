"""One surface on a regular, nearly isometric grid: what fusing does for a single trace.

The surface is laid out in the plane by one robust least-squares problem in the frames of its
vertices (:mod:`tracer.unroll.plane`), which keeps lengths and angles as far as a sheet that is
not developable allows, and is sampled on a regular grid there.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError
from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis
from tracer.unroll.inpaint import inpaint
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import Patches
from tracer.unroll.resample import resample, used_box
from tracer.unroll.stage import solve

if TYPE_CHECKING:
    from tracer.surface import Surface


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
        A surface. Where it jumps to another wrap it is cut; only the largest part is kept.
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
        Columns run around the scroll, rows along its axis. Channels ``winding``, and ``state``
        (100 on the surface, 80 filled).

    Raises
    ------
    CollectionError
        If the surface has no quad.
    """
    from tracer.surface import Surface

    patches = Patches.from_surfaces([surface])
    spacing = surface.step if step is None else step
    solved = solve(patches, UnrollParams(step=spacing), axis=axis, progress=progress)
    sheet = resample(patches, solved.layout, solved.plane, 0, spacing)
    state = np.where(sheet.valid, 100, 0).astype(np.uint8)
    if fill:
        sheet, state = inpaint(sheet, widest=0, margin=0)
    box = used_box(sheet.valid)
    sheet, state = sheet.cropped(box), state[box]
    there = sheet.valid & (np.nan_to_num(sheet.points_xyz[..., 2]) > 0)
    return Surface(
        points_xyz=np.where(there[..., None], sheet.points_xyz, -1.0).astype(np.float32),
        valid=there,
        scale=(1.0 / spacing, 1.0 / spacing),
        channels={
            "state": np.where(there, state, 0).astype(np.uint8),
            "winding": np.where(there, sheet.winding, np.nan).astype(np.float32),
        },
        meta=meta or {},
    )
