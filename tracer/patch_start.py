"""Find a clean spot near a seed: the mid-line of one single sheet, with its normal.

A seed may lie in a blob or where two wraps merge; a patch that starts there straddles two sheets
before it has grown at all. So the first quad has to pass the same tests as any later vertex, and
where it does not, sheet voxels around the seed are tried in the order of their distance: first
those of the sheet that the seed lies on, then those of its neighbours.
"""

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.direction_volume import DirectionGuides, open_guides
from tracer.errors import SeedError
from tracer.growing_grid import GrowingGrid
from tracer.kernels import growth, patch_start
from tracer.kernels.axis_guides import HORIZONTAL, VERTICAL
from tracer.kernels.placement import EMPTY, ON_SHEET
from tracer.kernels.sheet_probe import scan_across

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.seed_params import SeedParams

_BALL_RADIUS = 8  # voxels: neighbourhood of the local sheet normal
REGION_HALF = 32  # voxels: neighbourhood in which the sheets' thickness is measured
_REGION_STRIDE = 4
LONGEST_RUN = 24.0  # voxels: longer runs are no sheets
_MIN_SAMPLES = 20  # fewer sheet voxels or scans than this say nothing
_LATTICE = 4  # voxels: spacing of alternative starts
_MAX_STARTS = 60  # first quads tried
_ON_SHEET = 1.0  # voxels beyond the boundary that still count as on the sheet
_DEEP = 0.3  # alternatives lie at least this share of the thickness inside the sheet
_START_SWEEPS = 12
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


def find_start(
    field: "DistanceField",
    seed_xyz: NDArray[np.float64],
    params: "SeedParams",
    limits: growth.GrowthLimits,
) -> tuple[GrowingGrid, Start]:
    """Return a grid with its first quad on a clean spot near the seed.

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

    Returns
    -------
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
    region = max(REGION_HALF + LONGEST_RUN, params.start_radius)
    margin = region + 2.0 * params.step_size + limits.probe_reach
    field.ensure_box(seed - margin, seed + margin)
    distance = float(field.sample(seed[None])[0])
    if distance > params.seed_tolerance:
        raise SeedError(
            f"{where} lies {_at_least(distance, field.cap)} voxels off the prediction; pick a "
            f"point on it or raise seed_tolerance ({params.seed_tolerance:g})"
        )
    thickness = region_thickness(field, seed)
    candidates = _candidates(field, seed, thickness, params.start_radius)
    aligned = (_aligned(field, candidate, thickness, limits) for candidate in candidates)
    directions = open_guides(params.direction_fields)
    for found in itertools.islice((s for s in aligned if s is not None), _MAX_STARTS):
        start = found if directions is None else _along_fibres(found, directions)
        grid = _first_quad(field, start, params, limits)
        if grid is not None:
            return grid, start
    raise SeedError(
        f"{where} has no clean single sheet within {params.start_radius:g} voxels: sheets merge or "
        "the prediction is ragged there; pick another point"
    )


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
) -> NDArray[np.float64]:
    """Return the seed and sheet voxels around it: those of its own sheet first, nearest first."""
    if thickness == 0.0:
        return seed[None][:0]
    points = np.zeros(((2 * int(radius) // _LATTICE + 1) ** 3, 3))
    n = patch_start.sheet_voxels(
        field.view(), seed, int(radius), _LATTICE, _DEEP * thickness, points
    )
    points = points[:n]
    squared = ((points - seed) ** 2).sum(axis=1)
    around = (squared > 0) & (squared <= radius**2)
    points, squared = points[around], squared[around]
    # Within reach, a sheet is so flat that the straight way to a point of it stays on it.
    parts = np.linspace(0.0, 1.0, max(2, int(radius)))[:, None, None]
    distances = field.sample(seed + parts * (points - seed))
    leaves_sheet = (distances > max(_ON_SHEET, float(distances[0].max(initial=0.0)))).any(axis=0)
    return np.concatenate([seed[None], points[np.lexsort((squared, leaves_sheet))]])


def _aligned(
    field: "DistanceField",
    point: NDArray[np.float64],
    thickness: float,
    limits: growth.GrowthLimits,
) -> Start | None:
    """Return a start at the mid-line next to a point, None where no single sheet is seen."""
    moments = np.zeros(9)
    view = field.view()
    if patch_start.sheet_covariance(view, point, _BALL_RADIUS, moments) < _MIN_SAMPLES:
        return None
    xx, xy, xz, yy, yz, zz = moments[3:]
    _, axes = np.linalg.eigh(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    normal = axes[:, 0]
    along = _AXIS - (_AXIS @ normal) * normal
    if np.linalg.norm(along) < _TOO_STEEP:
        along = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    v = along / np.linalg.norm(along)
    u = np.cross(v, normal)
    x, y, z = (float(value) for value in point)
    nx, ny, nz = (float(value) for value in normal)
    scan = scan_across(view, x, y, z, nx, ny, nz, limits.probe_reach)
    if not scan.found or scan.thickness > limits.thickness_factor * thickness + 1.0:
        return None
    return Start(point + scan.centre * normal, u, v, thickness)


def _along_fibres(start: Start, directions: DirectionGuides) -> Start:
    """Return a start whose columns, or else rows, follow the fibres; their sides are kept."""
    normal = np.cross(start.u, start.v)
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
            return start._replace(u=along, v=np.cross(normal, along))
        return start._replace(u=np.cross(along, normal), v=along)
    return start


def _first_quad(
    field: "DistanceField", start: Start, params: "SeedParams", limits: growth.GrowthLimits
) -> GrowingGrid | None:
    """Return a grid whose relaxed first quad passes all tests, None where it does not."""
    weights = params.weights(start.thickness)
    grid = GrowingGrid(params.generations)
    grid.put_quad(start.origin_xyz, start.u, start.v, params.step_size, start.thickness)
    patch, view = grid.patch, field.view()
    growth.relax(patch, grid.box, 0, view, weights, _START_SWEEPS, np.zeros((4, 9)))
    normal, quality, work = np.zeros(3), np.zeros(3), np.zeros((9, 3))
    row0, row1, col0, col1 = grid.box
    for row in range(row0, row1 + 1):
        for col in range(col0, col1 + 1):
            patch.state[row, col] = EMPTY
            reason = growth.judge_vertex(
                patch,
                row,
                col,
                view,
                patch.points[row, col].copy(),
                start.thickness,
                weights.edge_samples,
                limits,
                work,
                normal,
                quality,
            )
            if reason != growth.ACCEPT or quality[0] < _MIN_CLEAN:
                return None
            patch.state[row, col] = ON_SHEET
            patch.normals[row, col] = normal
            patch.confidence[row, col] = quality[0]
            patch.tilt[row, col] = quality[1]
    return grid
