"""One surface from many: sample the patches at the nodes of the plane and combine them robustly."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.layout import Layout
from tracer.unroll.patches import Patches
from tracer.unroll.plane import Plane
from tracer.unroll.sheet import Sheet

_FEATHER = 3  # cells over which a patch fades in from its rim: no seams where the set changes
_AREA_RATIO = (0.5, 2.0)  # area of a quad in the plane over that in space; others are torn
_SCALE = 1.0  # voxels at which a sample counts half; patches are off by about that much
_APART = 4.0  # voxels beyond which two samples are different sheets; wraps are 8 or more apart
_RIM = 0.5  # nodes beyond its rim at which a patch still says where the sheet is
_STRIP = 2048  # columns at a time
_LONGEST_EDGE = 1.7  # steps; the fused surface is torn where it is longer
_SHORTEST_EDGE = 0.4  # steps


def rim_distance(patches: Patches, usable: NDArray[np.bool_], most: int) -> NDArray[np.int32]:
    """Return how many cells every vertex is away from the rim of its patch.

    Parameters
    ----------
    patches : Patches
        The patches.
    usable : ndarray of bool, shape (n,)
        Vertices that count.
    most : int
        Distance at which counting stops.

    Returns
    -------
    ndarray of int32, shape (n,)
        0 on the rim.
    """
    i, j = patches.edges.T
    inner = usable.copy()
    distance = np.zeros(patches.n_vertices, np.int32)
    for _ in range(most):
        both = inner[i] & inner[j]
        around = np.bincount(i[both], minlength=len(inner)) + np.bincount(
            j[both], minlength=len(inner)
        )
        inner = inner & (around == 4)
        distance += inner
    return np.asarray(distance)


def usable_quads(patches: Patches, layout: Layout, plane: Plane) -> NDArray[np.int32]:
    """Return the quads that lie on one wrap and are not torn by the layout.

    Parameters
    ----------
    patches : Patches
        The patches.
    layout : Layout
        Windings and cuts.
    plane : Plane
        Unrolled coordinates.

    Returns
    -------
    ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    """
    quads = patches.quads
    component = layout.component[quads]
    winding = layout.winding[quads]
    keep = (component >= 0).all(axis=1) & (np.ptp(component, axis=1) == 0)
    keep &= np.ptp(winding, axis=1) < 0.5
    quads = quads[keep]
    flat = plane.uv[quads]
    first, second = flat[:, 3] - flat[:, 0], flat[:, 2] - flat[:, 1]
    flat_area = 0.5 * np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    space = patches.points_xyz[quads].astype(np.float64)
    normal = np.cross(space[:, 3] - space[:, 0], space[:, 2] - space[:, 1])
    area = 0.5 * np.linalg.norm(normal, axis=1)
    good = (flat_area > _AREA_RATIO[0] * area) & (flat_area < _AREA_RATIO[1] * area)
    return np.asarray(quads[good])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Values of quads at the nodes of a grid in the plane.

    Attributes
    ----------
    node : ndarray of int64, shape (n,)
        row * cols + col of each sample.
    quad : ndarray of int32, shape (n,)
        Where it comes from.
    value : ndarray of float32, shape (n, k)
        Interpolated values.
    """

    node: NDArray[np.int64]
    quad: NDArray[np.int32]
    value: NDArray[np.float32]


def sample_quads(
    quads: NDArray[np.int32],
    uv: NDArray[np.float64],
    values: NDArray[np.float64],
    origin: NDArray[np.float64],
    step: float,
    wanted: NDArray[np.bool_],
    *,
    reach: float = 0.0,
) -> Samples:
    """Return the values of all quads at some nodes of a grid.

    Parameters
    ----------
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    uv : ndarray of float64, shape (n, 2)
        Plane coordinates of the vertices.
    values : ndarray of float64, shape (n, k)
        What is interpolated.
    origin : ndarray of float64, shape (2,)
        U and V of node (0, 0).
    step : float
        Distance of the nodes, voxels.
    wanted : ndarray of bool, shape (rows, cols)
        Nodes to sample.
    reach : float
        How far beyond its sides a quad is continued, nodes.

    Returns
    -------
    Samples
        In the order of the quads.
    """
    from tracer.kernels.unroll_raster import rasterise_quads

    nodes_at_most = np.floor(np.ptp(uv[quads], axis=1) / step + 2 * reach) + 1
    capacity = int(nodes_at_most.prod(axis=1).sum())
    node = np.empty(capacity, np.int64)
    quad = np.empty(capacity, np.int32)
    value = np.empty((capacity, values.shape[1]), np.float32)
    n = rasterise_quads(quads, uv, values, origin, step, wanted, reach, node, quad, value)
    return Samples(node=node[:n], quad=quad[:n], value=value[:n])


def resample(
    patches: Patches,
    layout: Layout,
    plane: Plane,
    component: int,
    step: float,
    *,
    beyond: bool = False,
) -> Sheet:
    """Return one component as a regular grid.

    Parameters
    ----------
    patches : Patches
        The patches.
    layout : Layout
        Windings and cuts.
    plane : Plane
        Unrolled coordinates.
    component : int
        Which component.
    step : float
        Distance of the nodes, voxels.
    beyond : bool
        Continue patches by half a node beyond their rims, apart from the surface.

    Returns
    -------
    Sheet
        Its columns run along U, its rows along V.
    """
    quads = usable_quads(patches, layout, plane)
    quads = quads[layout.component[quads[:, 0]] == component]
    used = plane.uv[np.unique(quads)] if len(quads) else np.zeros((1, 2))
    low = np.floor(used.min(axis=0) / step) * step
    cols, rows = (np.ceil((used.max(axis=0) - low) / step).astype(int) + 1).tolist()
    active = layout.component == component
    feather = (rim_distance(patches, active, _FEATHER) + 0.5) / (_FEATHER + 0.5)
    trust = feather * patches.weights[patches.grid[:, 0]] * (1.0 + np.minimum(layout.support, 3))
    values = np.column_stack([patches.points_xyz, layout.winding, trust]).astype(np.float64)
    points = np.full((rows, cols, 3), np.nan)
    winding = np.full((rows, cols), np.nan)
    confidence = np.zeros((rows, cols), np.float32)
    agreeing = np.zeros((rows, cols), np.float32)
    further = np.full((rows, cols, 4), np.nan, np.float32) if beyond else None
    rim = _RIM if beyond else 0.0
    n_patches = len(patches.names)
    outliers, samples = np.zeros(n_patches, np.int64), np.zeros(n_patches, np.int64)
    left = plane.uv[quads, 0].min(axis=1) if len(quads) else np.empty(0)
    right = plane.uv[quads, 0].max(axis=1) if len(quads) else np.empty(0)
    for first in range(0, cols, _STRIP):
        last = min(first + _STRIP, cols)
        origin = np.array([low[0] + first * step, low[1]])
        here = right >= origin[0] - rim * step
        here &= left <= low[0] + (last - 1 + rim) * step
        if not here.any():
            continue
        strip = _Strip.sample(
            patches, quads[here], plane.uv, values, origin, step, (rows, last - first), rim
        )
        points[:, first:last] = strip.points_xyz
        winding[:, first:last] = strip.winding
        confidence[:, first:last] = strip.confidence
        agreeing[:, first:last] = strip.agreeing
        if further is not None:
            further[:, first:last] = strip.beyond
        outliers += np.bincount(strip.owner[strip.is_outlier], minlength=n_patches)
        samples += np.bincount(strip.owner, minlength=n_patches)
    sheet = Sheet(
        points_xyz=points,
        winding=winding,
        confidence=confidence,
        agreeing=agreeing,
        origin_uv=(float(low[0]), float(low[1])),
        step=step,
        outliers=outliers,
        samples=samples,
        beyond=further,
    )
    return _without_tears(sheet)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Strip:
    """Some columns of the sheet, and where their samples came from."""

    points_xyz: NDArray[np.float64]
    winding: NDArray[np.float64]
    confidence: NDArray[np.float32]
    agreeing: NDArray[np.float32]
    beyond: NDArray[np.float32]
    owner: NDArray[np.int32]
    is_outlier: NDArray[np.bool_]

    @classmethod
    def sample(
        cls,
        patches: Patches,
        quads: NDArray[np.int32],
        uv: NDArray[np.float64],
        values: NDArray[np.float64],
        origin: NDArray[np.float64],
        step: float,
        shape: tuple[int, int],
        rim: float,
    ) -> "_Strip":
        """Return the combined samples at the nodes of one strip."""
        from tracer.kernels.unroll_raster import combine_samples

        place = quads, uv, values, origin, step
        missing = np.ones(shape, bool)
        inside = sample_quads(*place, missing)
        missing.ravel()[inside.node] = False
        outside = sample_quads(*place, missing & (rim > 0), reach=rim)
        node = np.concatenate([inside.node, outside.node])
        quad = np.concatenate([inside.quad, outside.quad])
        value = np.concatenate([inside.value, outside.value])
        owner = patches.grid[quads[quad, 0], 0]
        order = np.lexsort((quad, owner, node))
        node, value, owner = node[order], value[order], owner[order]
        # a node on the edge of two quads of a patch was sampled twice
        fresh = np.ones(len(node), bool)
        fresh[1:] = (node[1:] != node[:-1]) | (owner[1:] != owner[:-1])
        node, value, owner = node[fresh], np.ascontiguousarray(value[fresh]), owner[fresh]
        n_nodes = shape[0] * shape[1]
        starts = np.searchsorted(node, np.arange(n_nodes + 1))
        points = np.empty((n_nodes, 3))
        count, share, spread = np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes)
        outlier = np.zeros(len(node), bool)
        weight = np.maximum(value[:, 4], 1e-3)
        combine_samples(
            starts,
            np.ascontiguousarray(value[:, :3]),
            weight,
            _SCALE,
            _APART,
            points,
            count,
            share,
            spread,
            outlier,
        )
        counted = np.where(outlier, 0.0, weight)
        total = np.bincount(node, counted, n_nodes)
        turned = np.bincount(node, counted * value[:, 3], n_nodes)
        winding = np.where(total > 0, turned / np.where(total > 0, total, 1.0), np.nan)
        confidence = share * count / (count + 1.0) / (1.0 + (spread / _APART) ** 2)
        beyond = np.column_stack([points, winding]).reshape(*shape, 4)
        on_patch = ~missing
        return cls(
            points_xyz=np.where(on_patch[..., None], beyond[..., :3], np.nan),
            winding=np.where(on_patch, beyond[..., 3], np.nan),
            confidence=np.where(on_patch, confidence.reshape(shape), 0.0).astype(np.float32),
            agreeing=np.where(on_patch, count.reshape(shape), 0.0).astype(np.float32),
            beyond=np.where(missing[..., None], beyond, np.nan).astype(np.float32),
            owner=owner[~missing.ravel()[node]],
            is_outlier=outlier[~missing.ravel()[node]],
        )


def _without_tears(sheet: Sheet) -> Sheet:
    """Return the sheet without the worse ends of edges that are far too long or too short."""
    points = sheet.points_xyz.copy()
    bad = np.zeros(points.shape[:2], bool)
    for axis in (0, 1):
        length = np.linalg.norm(np.diff(points, axis=axis), axis=-1) / sheet.step
        torn = (length > _LONGEST_EDGE) | (length < _SHORTEST_EDGE)
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in (0, 1))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in (0, 1))
        lower_is_worse = sheet.confidence[low] <= sheet.confidence[high]
        bad[low] |= torn & lower_is_worse
        bad[high] |= torn & ~lower_is_worse
    points[bad] = np.nan
    return dataclasses.replace(
        sheet,
        points_xyz=points,
        winding=np.where(bad, np.nan, sheet.winding),
        confidence=np.where(bad, 0.0, sheet.confidence).astype(np.float32),
        agreeing=np.where(bad, 0.0, sheet.agreeing).astype(np.float32),
    )
