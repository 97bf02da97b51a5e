"""A fused surface at a finer step, with the detail of its sources.

Vertices are located on every source. Between vertices that all were found, their locations are
interpolated and the source is looked up, so that the detail is the source's own. Elsewhere cubic
curves run through the vertices: a chord of 40 voxels leaves a wrap of radius 60 by three. What
grounding moves fades out over one coarse cell beyond, and a source fades in from its rim, so that
neither has a seam.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError, ParamsError
from tracer.fuse.sources import Source, align, winding_at
from tracer.workers import Executor, executor_of

if TYPE_CHECKING:
    from tracer.surface import Surface

_WIND_TH = 0.3  # windings that differ by less may be the same place
_FARTHEST = 20.0  # voxels from a source
_STRETCH = 3.0  # steps of the source per step of the fused surface, relative: more is a tear
_ASIDE = 0.3  # of the distance that may be along the surface: normals differ
_RIM = 0.1  # steps of the source that a vertex may lie beyond its rim
_BAND = 0.5  # wraps; a source is searched band by band, so that its next wrap hides nothing
_OVERLAP = 0.15  # wraps by which bands overlap on either side: more than a cell spans
_STATE = {"grounded": 100, "interpolated": 80}


def ground(
    fused: Source,
    factor: int,
    sources: Sequence[Source],
    meta: Mapping[str, Any],
    *,
    workers: int | Executor = 1,
) -> "Surface":
    """Return a fused surface upsampled, with the detail of its sources.

    Parameters
    ----------
    fused : Source
        The fused surface with its winding.
    factor : int
        Fine cells per coarse cell.
    sources : sequence of Source
        The traces it was made of.
    meta : mapping
        Provenance.
    workers : int or Executor
        Processes, or whatever else looks the sources up: each is a task.

    Returns
    -------
    Surface
        Of (rows - 1) * factor + 1 rows, likewise columns. Channels ``state`` (100 grounded, 80
        interpolated) and ``winding``.

    Raises
    ------
    ParamsError
        If the factor is less than 1.
    NothingFoundError
        If no source has the surface's winding anywhere.
    """
    from scipy import ndimage

    from tracer.surface import Surface

    if factor < 1:
        raise ParamsError(f"scale is {factor}; it must be a whole number, 1 or more")
    coarse = fused.surface
    rows, cols = ((n - 1) * factor + 1 for n in coarse.shape)
    at = _fine_places(coarse.shape, factor)
    base = upsample(
        np.where(coarse.valid[..., None], coarse.points_xyz, np.nan).astype(np.float64), factor
    )
    valid = np.isfinite(base[..., 0])
    total, weight = np.zeros((rows, cols, 3)), np.zeros((rows, cols))
    aligned = align([fused, *sources])[1:]
    bare = dataclasses.replace(fused, surface=dataclasses.replace(coarse, channels={}))
    tasks = [(bare, source, factor) for source in aligned]
    with executor_of(workers) as pool:  # in this order, so that sums are the same
        for k, (points, found) in pool.run(_look_up_one, tasks, ordered=True):
            depth = ndimage.distance_transform_edt(np.pad(found, 1))[1:-1, 1:-1]
            share = np.where(found, aligned[k].weight * np.minimum(depth / factor, 1.0), 0.0)
            total += np.where(found[..., None], points, 0.0) * share[..., None]
            weight += share
    grounded = valid & (weight > 0)
    if not grounded.any():
        raise NothingFoundError("no vertex of the surface lies on a source; check the windings")
    move = total / np.maximum(weight, 1e-12)[..., None] - np.nan_to_num(base)
    out, nearest = ndimage.distance_transform_edt(~grounded, return_indices=True)
    fade = np.clip(1.0 - out / factor, 0.0, 1.0)
    fine = base + fade[..., None] * move[tuple(nearest)]
    there = valid & (np.nan_to_num(fine[..., 2]) > 0)
    winding = winding_at(fused, at[0].ravel(), at[1].ravel()).reshape(rows, cols)
    state = np.where(grounded, _STATE["grounded"], _STATE["interpolated"])
    return Surface(
        points_xyz=np.where(there[..., None], fine, -1.0).astype(np.float32),
        valid=there,
        scale=(coarse.scale[0] * factor, coarse.scale[1] * factor),
        channels={
            "state": np.where(there, state, 0).astype(np.uint8),
            "winding": np.where(there, winding, np.nan).astype(np.float32),
        },
        meta=meta,
    )


def _fine_places(shape: tuple[int, int], factor: int) -> Sequence[NDArray[np.float64]]:
    """Return where the fine vertices lie on the coarse grid: rows and columns."""
    rows, cols = (np.arange((n - 1) * factor + 1) / factor for n in shape)
    return np.meshgrid(rows, cols, indexing="ij")


def _look_up_one(
    task: tuple[Source, Source, int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the points of one source at the fine places; runs in a worker."""
    fused, source, factor = task
    return _look_up(fused, source, _fine_places(fused.surface.shape, factor))


def _look_up(
    fused: Source, source: Source, at: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the points of a source at fine places of the fused surface, and where it has them."""
    location, found = _locate(fused, source)
    r = np.clip(np.floor(at[0]).astype(np.int64), 0, found.shape[0] - 2)
    c = np.clip(np.floor(at[1]).astype(np.int64), 0, found.shape[1] - 2)
    s, t = at[1] - c, at[0] - r
    place = np.zeros((*r.shape, 2))
    usable = np.ones(r.shape, bool)
    low, high = np.full((*r.shape, 2), np.inf), np.full((*r.shape, 2), -np.inf)
    for dr, dc, share in (
        (0, 0, (1 - s) * (1 - t)),
        (0, 1, s * (1 - t)),
        (1, 0, (1 - s) * t),
        (1, 1, s * t),
    ):
        used = share > 1e-9
        corner = location[r + dr, c + dc]
        usable &= ~used | found[r + dr, c + dc]
        place += np.where(used[..., None], share[..., None] * corner, 0.0)
        low = np.where(used[..., None], np.fmin(low, corner), low)
        high = np.where(used[..., None], np.fmax(high, corner), high)
    widest = _STRETCH * fused.surface.step / source.surface.step
    usable &= ((high - low) < widest).all(axis=-1)
    points, there = source.surface.sample(place[..., 0], place[..., 1])
    usable &= there
    return np.where(usable[..., None], points, 0.0).astype(np.float64), usable


def _locate(fused: Source, source: Source) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where on a source each vertex of the fused surface lies."""
    from tracer.spatial_index import SpatialIndex

    index = SpatialIndex.from_surfaces(_bands(source))
    valid = fused.surface.valid & np.isfinite(fused.winding)
    hits = index.query(fused.surface.points_xyz[valid], _FARTHEST)
    near = winding_at(source, hits.rows, hits.cols)
    same = np.abs(near - fused.winding[valid][hits.point_index]) < _WIND_TH
    at, _ = source.surface.sample(hits.rows, hits.cols)
    offset = at - fused.surface.points_xyz[valid][hits.point_index]
    normals = np.nan_to_num(fused.surface.normals()[valid][hits.point_index])
    across = np.einsum("ij,ij->i", offset, normals)
    aside = np.sqrt(np.maximum(hits.distances**2 - across**2, 0.0))  # beyond the source's rim
    same &= aside < np.maximum(_ASIDE * hits.distances, _RIM * source.surface.step)
    kept = np.flatnonzero(same)
    point = hits.point_index[kept]
    kept = kept[np.lexsort((hits.cols[kept], hits.rows[kept], hits.distances[kept], point))]
    point, first = np.unique(hits.point_index[kept], return_index=True)  # the nearest of each
    kept = kept[first]
    rows, cols = (part[point] for part in np.nonzero(valid))
    location = np.full((*valid.shape, 2), np.nan)
    found = np.zeros(valid.shape, bool)
    location[rows, cols] = np.stack([hits.rows[kept], hits.cols[kept]], axis=1)
    found[rows, cols] = True
    return location, found


def _bands(source: Source) -> "dict[str, Surface]":
    """Return a source as overlapping bands of its winding, on the same grid."""
    known = source.surface.valid & np.isfinite(source.winding)
    winding = np.where(known, source.winding, np.nan)
    low, high = (int(np.rint(edge(winding) / _BAND)) for edge in (np.nanmin, np.nanmax))
    bands = {}
    for k in range(low, high + 1):
        with np.errstate(invalid="ignore"):
            inside = known & (np.abs(winding - k * _BAND) <= 0.5 * _BAND + _OVERLAP)
        if inside.any():
            bands[f"{k - low:06d}"] = dataclasses.replace(source.surface, valid=inside, channels={})
    return bands


def upsample(points_xyz: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return a grid with more nodes, on cubic curves (Catmull and Rom) through the given ones.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where there is none.
    factor : int
        Fine cells per coarse cell.

    Returns
    -------
    ndarray of float64, shape ((rows - 1) * factor + 1, (cols - 1) * factor + 1, 3)
        The given nodes unchanged; NaN where a cell lacks a corner. Beside a rim the curve goes on
        as it bends; where only two nodes follow each other it is straight.
    """
    out = points_xyz
    for axis in (1, 0):
        out = np.moveaxis(_upsample_first(np.moveaxis(out, axis, 0), factor), 0, axis)
    return out


def _upsample_first(nodes: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return more nodes along the first axis."""
    n = len(nodes)
    fine = np.full(((n - 1) * factor + 1, *nodes.shape[1:]), np.nan)
    fine[::factor] = nodes
    if n < 2 or factor == 1:
        return fine
    gone = np.full((1, *nodes.shape[1:]), np.nan)
    before = np.concatenate([gone, nodes[:-2]])
    begin, end = nodes[:-1], nodes[1:]
    after = np.concatenate([nodes[2:], gone])
    lacks_before, lacks_after = np.isnan(before), np.isnan(after)
    # a missing one is where the parabola through the others puts it, else in line
    from_after = np.where(lacks_after, 2 * begin - end, 3 * begin - 3 * end + after)
    from_before = np.where(lacks_before, 2 * end - begin, 3 * end - 3 * begin + before)
    before = np.where(lacks_before, from_after, before)
    after = np.where(lacks_after, from_before, after)
    for k in range(1, factor):
        t = k / factor
        fine[k::factor] = 0.5 * (
            (-t + 2 * t**2 - t**3) * before
            + (2 - 5 * t**2 + 3 * t**3) * begin
            + (t + 4 * t**2 - 3 * t**3) * end
            + (-(t**2) + t**3) * after
        )
    return fine
