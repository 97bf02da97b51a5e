"""Can the hidden text be read: the correlation of a rendered surface with the true ink.

A pixel is compared with the ink at the place that the surface's own continuation gives it: where a
surface has switched to another wrap, it is expected to show the text of the sheet it came from.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError
from tracer.kernels.phantom import TWO_PI
from tracer.phantom.truth import Truth
from tracer.score import vertex_areas, wrap_offsets

if TYPE_CHECKING:
    from tracer.surface import Surface

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Legibility:
    """How well a render shows the text.

    Attributes
    ----------
    correlation : float
        Normalised correlation with the true ink over the pixels that the surface covers.
    coverage : float
        Share of the sheet that those pixels cover.
    whole_correlation : float
        The same correlation over the whole sheet, what is not covered taken as blank.
    """

    correlation: float
    coverage: float
    whole_correlation: float


def measure_legibility(
    image: NDArray[Any], surface: "Surface", truth: Truth, *, pixels_per_voxel: float = 1.0
) -> Legibility:
    """Return how well a rendered image of a surface shows the text of a phantom.

    Parameters
    ----------
    image : ndarray, shape (height, width)
        One layer, or a composite of layers, rendered from `surface`; pixel (0, 0) shows its first
        vertex.
    surface : Surface
        The surface.
    truth : Truth
        The phantom's truth.
    pixels_per_voxel : float
        The scale at which `image` was rendered.

    Returns
    -------
    Legibility
        Correlations; NaN where nothing varies.

    Raises
    ------
    SurfaceError
        If the image shows no valid part of the surface.
    """
    arc, z = _unrolled(surface, truth)
    ink = truth.ink_image()
    seen = np.zeros(ink.shape)
    count = np.zeros(ink.shape, np.int64)
    values: list[NDArray[np.float64]] = []
    truths: list[NDArray[np.float64]] = []
    per_col = surface.scale[0] / pixels_per_voxel
    per_row = surface.scale[1] / pixels_per_voxel
    cols = np.arange(image.shape[1], dtype=np.float64) * per_col
    recipe_arc, recipe_z = truth.ink_origin()
    for first in range(0, image.shape[0], _ROWS_AT_ONCE):
        pixels = image[first : first + _ROWS_AT_ONCE].astype(np.float64)
        rows = np.arange(first, first + len(pixels), dtype=np.float64) * per_row
        at_arc = _interpolate(arc, rows, cols)
        at_z = _interpolate(z, rows, cols)
        known = np.isfinite(at_arc)
        values.append(pixels[known])
        truths.append(truth.ink(at_arc[known], at_z[known]))
        col = np.rint(at_arc[known] - recipe_arc).astype(np.int64)
        row = np.rint(at_z[known] - recipe_z).astype(np.int64)
        hit = (col >= 0) & (col < ink.shape[1]) & (row >= 0) & (row < ink.shape[0])
        np.add.at(seen, (row[hit], col[hit]), pixels[known][hit])
        np.add.at(count, (row[hit], col[hit]), 1)
    shown = np.concatenate(values)
    if not len(shown):
        raise SurfaceError("the image shows no valid part of the surface; check the scale")
    covered = count > 0
    whole = np.where(covered, seen / np.maximum(count, 1), shown.mean())
    return Legibility(
        correlation=_correlation(shown, np.concatenate(truths)),
        coverage=float(covered.mean()),
        whole_correlation=_correlation(whole.ravel(), ink.ravel().astype(np.float64)),
    )


def _unrolled(surface: "Surface", truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return arc length and z on the sheet that the surface follows, NaN where invalid."""
    valid = surface.valid
    points = np.where(valid[..., None], surface.points_xyz, np.nan).astype(np.float64)
    located = truth.locate(points)
    step = 1.0 / min(surface.scale)
    offsets = wrap_offsets(located, valid, step, vertex_areas(surface.quad_areas()))
    theta = located.angle + TWO_PI * (located.wrap - offsets)
    return truth.arc_of_theta(theta), located.material_z


def _interpolate(
    grid: NDArray[np.float64], rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return bilinear values at the crossings of rows and columns, NaN beyond the grid."""
    inside_r = rows <= grid.shape[0] - 1
    inside_c = cols <= grid.shape[1] - 1
    r = np.clip(np.floor(rows).astype(np.int64), 0, max(0, grid.shape[0] - 2))
    c = np.clip(np.floor(cols).astype(np.int64), 0, max(0, grid.shape[1] - 2))
    below, right = np.minimum(r + 1, grid.shape[0] - 1), np.minimum(c + 1, grid.shape[1] - 1)
    v = (rows - r)[:, None]
    u = (cols - c)[None, :]
    upper = grid[r][:, c] * (1.0 - u) + grid[r][:, right] * u
    lower = grid[below][:, c] * (1.0 - u) + grid[below][:, right] * u
    values = upper * (1.0 - v) + lower * v
    return np.where(inside_r[:, None] & inside_c[None, :], values, np.nan)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else float("nan")
