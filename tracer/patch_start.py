"""Find a clean spot near a seed: the mid-line of one single sheet, with its normal.

A seed may lie in a blob or where two wraps merge; a patch that starts there straddles two sheets
before it has grown at all. So the first quad has to pass the same tests as any later vertex, and
where it does not, sheet voxels around the seed are tried in the order of their distance: first
those of the sheet that the seed lies on, then those of its neighbours.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.direction_volume import DirectionGuides, open_guides
from tracer.errors import SeedError
from tracer.growing_grid import GrowingGrid, cross
from tracer.kernels import growth_grid, growth_settling, patch_start
from tracer.kernels.axis_guides import HORIZONTAL, VERTICAL

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.seed_params import SeedParams

_BALL_RADIUS = 8  # voxels: neighbourhood of the local sheet normal
REGION_HALF = 32  # voxels: neighbourhood in which the sheets' thickness is measured
_REGION_STRIDE = 4
LONGEST_RUN = 24.0  # voxels: longer runs are no sheets
_MIN_SAMPLES = 20  # fewer sheet voxels or scans than this say nothing
_CUBE = 4  # voxels: one alternative start per cube of this edge length
_ON_SHEET = 1.0  # voxels beyond the boundary that still count as on the sheet
_DEEP = 0.3  # alternatives lie at least this share of the thickness inside the sheet
_BEST_OF = 12  # acceptable starts of which the cleanest is taken, where none is clean all over
_MIN_CLEAN = 7.5 / 9  # share of clean scans around each vertex of the first quad
_TOO_STEEP = 0.2  # length of the projected z axis below which rows follow x instead
_AXIS = np.array([0.0, 0.0, 1.0])


class Start(NamedTuple):
    """Where a patch starts.

    Attributes
    ----------
    origin_xyz : ndarray of float64, shape (3,)
        Middle of the first quad, on the sheet's mid-line.
    u, v : ndarray of float64, shape (3,)
        Unit directions of columns and rows.
    thickness : float
        Median thickness of the sheets around, voxels.
    """

    origin_xyz: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    thickness: float


def find_starts(
    field: "DistanceField",
    seed_xyz: NDArray[np.float64],
    params: "SeedParams",
    limits: growth_grid.GrowthLimits,
    taken: Sequence[NDArray[np.float64]] = (),
) -> Iterator[tuple[GrowingGrid, Start]]:
    """Yield grids with their first quad on a clean spot near the seed, the best one first.

    Parameters
    ----------
    field : DistanceField
        Signed distance field; the surroundings of the seed are loaded.
    seed_xyz : ndarray of float64, shape (3,)
        Seed in voxels, x, y, z.
    params : SeedParams
        Growth parameters.
    limits : GrowthLimits
        Limits of acceptance.
    taken : sequence of ndarray of float64, shape (n, 3)
        Points that later starts keep a step away from; may grow between two of them.

    Yields
    ------
    grid : GrowingGrid
        With the first quad placed, relaxed and accepted.
    start : Start
        Where it lies.

    Raises
    ------
    SeedError
        If the seed lies outside the volume, off the prediction, or nowhere near a clean sheet.
    VolumeError
        If the volume or a direction field cannot be read.

    Notes
    -----
    Where a direction field gives the columns' or the rows' direction, the quad is turned to it.
    """
    seed = np.asarray(seed_xyz, np.float64)
    where = "seed ({:g}, {:g}, {:g})".format(*seed)
    shape_xyz = np.array(field.shape_zyx[::-1])
    if not ((seed >= 0).all() and (seed <= shape_xyz - 1).all()):
        raise SeedError(
            f"{where} lies outside the volume of {shape_xyz[0]} x {shape_xyz[1]} x {shape_xyz[2]} "
            "voxels (x, y, z); give level-0 voxel coordinates in this order"
        )
    # half a diagonal of the quad, half a step that it may shift, and its scans
    quad = 1.25 * params.step_size + limits.probe_reach + limits.probe_radius
    margin = max(REGION_HALF + LONGEST_RUN, params.start_radius + quad)
    field.ensure_box(seed - margin, seed + margin)
    distance = float(field.sample(seed[None])[0])
    if distance > params.seed_tolerance:
        raise SeedError(
            f"{where} lies {_at_least(distance, field.cap)} voxels off the prediction; pick a "
            f"point on it or raise seed_tolerance ({params.seed_tolerance:g})"
        )
    thickness = region_thickness(field, seed)
    trial = GrowingGrid(1)
    n_found = 0
    for candidates in _candidates(field, seed, thickness, params.start_radius):
        starts = _clean_starts(field, trial, candidates, thickness, params, limits, taken)
        while (best := _best_of(starts)) is not None:
            grid = GrowingGrid(params.generations)
            _try_quad(field, grid, best, params, limits)
            n_found += 1
            yield grid, best
            field.ensure_box(seed - margin, seed + margin)  # the patch may have displaced chunks
    if n_found == 0:
        raise SeedError(
            f"{where} has no clean single sheet within {params.start_radius:g} voxels: sheets "
            "merge or the prediction is ragged there; pick another point"
        )


def _best_of(starts: Iterator[tuple[float, Start]]) -> Start | None:
    """Return a start that is clean all over, or the cleanest of the next few."""
    found: list[tuple[float, Start]] = []
    for clean, start in starts:
        found.append((clean, start))
        if clean == 1.0 or len(found) == _BEST_OF:
            break
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _clean_starts(
    field: "DistanceField",
    trial: GrowingGrid,
    candidates: NDArray[np.float64],
    thickness: float,
    params: "SeedParams",
    limits: growth_grid.GrowthLimits,
    taken: Sequence[NDArray[np.float64]],
) -> Iterator[tuple[float, Start]]:
    """Yield the acceptable ones of some candidates, and how clean they are."""
    directions = open_guides(params.direction_fields)
    for candidate in candidates:
        start = _aligned(field, candidate, thickness, limits)
        if start is None or any(_is_near(start, points, params.step_size) for points in taken):
            continue
        if directions is not None:
            start = _along_fibres(start, directions)
        clean = _try_quad(field, trial, start, params, limits)
        if clean > 0.0:
            yield clean, start


def _is_near(start: Start, points_xyz: NDArray[np.float64], distance: float) -> bool:
    """Return whether any point lies within a distance of a start."""
    offsets = points_xyz - start.origin_xyz
    return bool((np.einsum("ij,ij->i", offsets, offsets) < distance * distance).any())


def _at_least(distance: float, cap: float) -> str:
    return f"more than {cap:g}" if distance >= cap else f"{distance:.1f}"


def region_thickness(field: "DistanceField", point_xyz: NDArray[np.float64]) -> float:
    """Return the median thickness of the sheets around a point.

    Parameters
    ----------
    field : DistanceField
        Signed distance field, loaded up to ``REGION_HALF + LONGEST_RUN`` around the point.
    point_xyz : ndarray of float64, shape (3,)
        Point in voxels.

    Returns
    -------
    float
        Voxels; 0 where there is no sheet.
    """
    thicknesses = np.zeros(8192)
    n = patch_start.boundary_thicknesses(
        field.view(), point_xyz, REGION_HALF, _REGION_STRIDE, LONGEST_RUN, thicknesses
    )
    return float(np.median(thicknesses[:n])) if n >= _MIN_SAMPLES else 0.0


def _candidates(
    field: "DistanceField", seed: NDArray[np.float64], thickness: float, radius: float
) -> Iterator[NDArray[np.float64]]:
    """Yield groups of points: the seed, sheet voxels of its own sheet, of others; nearest first."""
    if thickness == 0.0:
        return
    yield seed[None]
    points = np.zeros(((2 * int(radius) // _CUBE + 1) ** 3, 3))
    n = patch_start.deepest_voxels(
        field.view(), seed, int(radius), _CUBE, _DEEP * thickness, points
    )
    squared = ((points[:n] - seed) ** 2).sum(axis=1)
    order = np.argsort(squared, kind="stable")
    points = points[:n][order[squared[order] <= radius**2]]
    # Within reach, a sheet is so flat that the straight way to a point of it stays on it.
    parts = np.linspace(0.0, 1.0, max(2, int(radius)))[:, None, None]
    distances = field.sample(seed + parts * (points - seed))
    leaves_sheet = (distances > max(_ON_SHEET, float(distances[0].max(initial=0.0)))).any(axis=0)
    yield points[~leaves_sheet]
    yield points[leaves_sheet]


def _aligned(
    field: "DistanceField",
    point: NDArray[np.float64],
    thickness: float,
    limits: growth_grid.GrowthLimits,
) -> Start | None:
    """Return a start at the mid-line next to a point, None where no single sheet is seen."""
    origin, normal = np.empty(3), np.empty(3)
    is_sheet = patch_start.align_start(
        field.view(),
        point,
        _BALL_RADIUS,
        _MIN_SAMPLES,
        limits.probe_radius,
        limits.probe_reach,
        limits.thickness_factor * thickness + 1.0,
        limits.max_thick,
        origin,
        normal,
    )
    if not is_sheet:
        return None
    along = _AXIS - (_AXIS @ normal) * normal
    if along @ along < _TOO_STEEP**2:
        along = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    v = along / np.sqrt(along @ along)
    return Start(origin, cross(v, normal), v, thickness)


def _along_fibres(start: Start, directions: DirectionGuides) -> Start:
    """Return a start whose columns, or else rows, follow the fibres; their sides are kept."""
    normal = cross(start.u, start.v)
    for kind, given in ((HORIZONTAL, start.u), (VERTICAL, start.v)):
        axis = directions.axis_at(kind, start.origin_xyz)
        if axis is None:
            continue
        along = axis - (axis @ normal) * normal
        length = np.linalg.norm(along)
        if length < _TOO_STEEP:
            continue
        along *= np.copysign(1.0 / length, along @ given)
        if kind == HORIZONTAL:
            return start._replace(u=along, v=cross(normal, along))
        return start._replace(u=cross(along, normal), v=along)
    return start


def _try_quad(
    field: "DistanceField",
    grid: GrowingGrid,
    start: Start,
    params: "SeedParams",
    limits: growth_grid.GrowthLimits,
) -> float:
    """Lay the first quad into a grid; return the mean share of clean scans, 0 where it fails."""
    weights = params.weights(start.thickness)
    grid.put_quad(start.origin_xyz, start.u, start.v, params.step_size, start.thickness)
    return growth_settling.settle_quad(
        grid.patch,
        grid.box,
        field.view(),
        start.thickness,
        weights,
        limits,
        _MIN_CLEAN,
        grid.work,
    )
