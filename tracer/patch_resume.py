"""Put a saved patch back into a grid that can grow on.

Vertices younger than ``rewind_gen`` are left out, so that what went wrong can be grown again under
other parameters. What a surface does not store is taken from the prediction: the thickness of the
sheet is measured around the patch, and every vertex is judged where it lies. Nobody is thrown out
by that: a patch that a person has mended may hold vertices that growth would have refused.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError
from tracer.growing_grid import GrowingGrid
from tracer.kernels.growth_grid import N_REASONS
from tracer.kernels.growth_review import review_vertices
from tracer.kernels.placement import BRIDGED, ON_SHEET
from tracer.patch_start import LONGEST_RUN, REGION_HALF, region_thickness

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.seed_params import SeedParams
    from tracer.surface import Surface

_STEP_TOLERANCE = 0.01  # share: scales are stored rounded
_PLACES = 16  # vertices around which the thickness of the sheet is measured
_LAST_GENERATION = np.iinfo(np.uint16).max  # that the channel can hold


def resume_grid(
    field: "DistanceField", surface: "Surface", params: "SeedParams"
) -> tuple[GrowingGrid, float]:
    """Return a grid that holds a surface, with room for further generations.

    Parameters
    ----------
    field : DistanceField
        Signed distance field of the prediction.
    surface : Surface
        The patch. Without a channel ``generations`` all vertices count as generation 1; where a
        channel ``confidence`` is zero a vertex counts as bridged, which does not expand.
    params : SeedParams
        Growth parameters; `generations` is the room for growth.

    Returns
    -------
    grid : GrowingGrid
        All accepted vertices with a free neighbour are its fringe.
    thickness : float
        Median thickness of the sheets around the patch, voxels.

    Raises
    ------
    SurfaceError
        If the steps differ, a vertex lies outside the volume, no vertex is old enough or no sheet
        shows where the patch lies.

    Notes
    -----
    Vertices without a neighbour along a row and one along a column have no normal; they are left
    out.
    """
    name = surface.name or "surface"
    _check_step(name, surface.scale, params.step_size)
    generations = _generations(name, surface)
    known = surface.valid & np.isfinite(surface.normals()).all(axis=-1)
    if params.rewind_gen is not None:
        known &= generations <= params.rewind_gen
    if not known.any():
        first = f" up to generation {params.rewind_gen}" if params.rewind_gen is not None else ""
        raise SurfaceError(f"{name}: no quad{first} to grow from; raise rewind_gen")
    points = surface.points_xyz.astype(np.float64)
    _check_inside(name, points, known, field.shape_zyx)
    thickness = _thickness(field, points[known], params)
    if thickness == 0.0:
        raise SurfaceError(
            f"{name}: the prediction shows no sheet where the patch lies; use the volume that it "
            "was grown on"
        )
    rows, cols = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    known = known[window]
    grid = GrowingGrid(params.generations, *known.shape)
    state = np.where(known, ON_SHEET, 0).astype(np.uint8)
    confidence = surface.channels.get("confidence")
    if confidence is not None and confidence.ndim == 2 and (confidence[window][known] > 0).any():
        state[known & ~(confidence[window] > 0)] = BRIDGED
    grid.put_patch(
        points[window],
        surface.normals()[window].astype(np.float64),
        state,
        np.where(known, generations[window], 0),
        thickness,
    )
    _review(field, grid, params, thickness)
    return grid, thickness


def _check_step(name: str, scale: tuple[float, float], step: float) -> None:
    for found in (1.0 / scale[0], 1.0 / scale[1]):
        if abs(found - step) > _STEP_TOLERANCE * step:
            raise SurfaceError(
                f"{name}: its vertices are {found:g} voxels apart but step_size is {step:g}; set "
                f"step_size to {found:g}"
            )


def _generations(name: str, surface: "Surface") -> NDArray[np.int64]:
    """Return the generation of each vertex, 1 where the surface does not say."""
    channel = surface.channels.get("generations")
    if channel is None:
        return np.ones(surface.shape, np.int64)
    stored = channel[surface.valid] if channel.ndim == 2 else np.array([-1])
    if not ((stored >= 0) & (stored <= _LAST_GENERATION)).all():
        raise SurfaceError(
            f"{name}: channel 'generations' must be a grid of numbers from 0 to "
            f"{_LAST_GENERATION}; remove it to start from generation 1"
        )
    return np.where(surface.valid, channel, 0).astype(np.int64)


def _check_inside(
    name: str,
    points: NDArray[np.float64],
    known: NDArray[np.bool_],
    shape_zyx: tuple[int, int, int],
) -> None:
    last_xyz = np.array(shape_zyx[::-1]) - 1
    outside = known & ~((points >= 0) & (points <= last_xyz)).all(axis=-1)
    if outside.any():
        row, col = np.argwhere(outside)[0]
        raise SurfaceError(
            f"{name}: vertex ({row}, {col}) at "
            + "({:g}, {:g}, {:g})".format(*points[row, col])
            + f" lies outside the volume of {last_xyz[0] + 1} x {last_xyz[1] + 1} x "
            f"{last_xyz[2] + 1} voxels (x, y, z); use the volume that it was grown on"
        )


def _thickness(field: "DistanceField", points: NDArray[np.float64], params: "SeedParams") -> float:
    """Return the median thickness of the sheets around some of the vertices, 0 without any."""
    margin = REGION_HALF + LONGEST_RUN + 2.0 * params.step_size
    found = []
    for chosen in np.unique(np.linspace(0, len(points) - 1, _PLACES).astype(np.int64)):
        field.ensure_box(points[chosen] - margin, points[chosen] + margin)
        found.append(region_thickness(field, points[chosen]))
    measured = [thickness for thickness in found if thickness > 0.0]
    return float(np.median(measured)) if measured else 0.0


def _review(
    field: "DistanceField", grid: GrowingGrid, params: "SeedParams", thickness: float
) -> None:
    """Fill in what the surface does not store: sheet normals, costs, confidence and tilt."""
    limits, weights = params.limits(), params.weights(thickness)
    reach = 2.0 * weights.step + limits.probe_reach + limits.probe_radius
    reasons = np.full(grid.patch.state.shape, N_REASONS, np.uint8)
    for box in grid.tiles():
        field.ensure(grid.chunks_of(box, reach))
        review_vertices(
            grid.patch, box, field.view(), thickness, weights, limits, grid.work, reasons
        )
