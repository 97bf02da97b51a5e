"""Compare two surfaces or collections."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.compare.figures import FARTHEST, Comparison, Side
from tracer.compare.windings import winding_disagreement
from tracer.errors import NothingFoundError
from tracer.progress import Progress, silent

if TYPE_CHECKING:
    from tracer.spatial_index import SpatialIndex
    from tracer.surface import Surface

_TIME = "elapsed_time_s"  # in meta.json, VC3D's and ours: wall seconds of one surface


def compare(a: Path, b: Path, *, tolerance: float = 3.0, progress: Progress = silent) -> Comparison:
    """Return how two surfaces or collections differ.

    Parameters
    ----------
    a, b : Path
        A surface or a folder of surfaces each, ours or VC3D's.
    tolerance : float
        Voxels within which a vertex is covered.
    progress : Progress
        Called after each side.

    Returns
    -------
    Comparison
        Figures both ways.

    Raises
    ------
    NothingFoundError
        If a side has no surface.
    """
    from tracer.score import find_surfaces
    from tracer.spatial_index import SpatialIndex
    from tracer.surface import Surface

    sides = []
    for path in (a, b):
        found = find_surfaces([path])
        if not found:
            raise NothingFoundError(f"{path}: no finished surface; give one or a folder of them")
        sides.append([Surface.load(one, channels=()) for one in found])
    indexes = [
        SpatialIndex.from_surfaces({f"{k:08d}": s for k, s in enumerate(side)}) for side in sides
    ]
    voxel_sizes = [size for side in sides for size in map(voxel_size_um, side) if size > 0]
    voxel_size = voxel_sizes[0] if voxel_sizes else float("nan")
    seen = []
    for number in (0, 1):
        other = sides[1 - number]
        seen.append(_side(sides[number], other, indexes[1 - number], tolerance, voxel_size))
        progress(number + 1, 2, ("A to B", "B to A")[number])
    median, p95 = _both_ways([distance for _, distance in seen])
    grids = [_as_grids(side, one[1]) for side, one in zip(sides, seen, strict=True)]
    return Comparison(
        a=seen[0][0],
        b=seen[1][0],
        tolerance=tolerance,
        symmetric_median=median,
        symmetric_p95=p95,
        winding_disagreement=winding_disagreement(sides, indexes, tolerance),
        surfaces=(tuple(sides[0]), tuple(sides[1])),
        distances=(grids[0], grids[1]),
    )


def voxel_size_um(surface: "Surface") -> float:
    """Return the voxel size that a surface's metadata tells.

    Parameters
    ----------
    surface : Surface
        A surface, ours or VC3D's.

    Returns
    -------
    float
        From the volume it was made on, or from its two areas; 0 where neither is there.
    """
    volume = surface.meta.get("target_volume")
    if isinstance(volume, Mapping) and _is_positive(volume.get("voxelsize")):
        return float(volume["voxelsize"])
    cm2, vx2 = surface.meta.get("area_cm2"), surface.meta.get("area_vx2")
    if _is_positive(cm2) and _is_positive(vx2):
        return float(np.sqrt(float(cm2) / float(vx2)) * 1e4)  # type: ignore[arg-type]
    return 0.0


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _side(
    own: list["Surface"],
    other: list["Surface"],
    index: "SpatialIndex",
    tolerance: float,
    voxel_size: float,
) -> tuple[Side, NDArray[np.float64]]:
    """Return the figures of one side, and the distances of its vertices."""
    normals = [surface.normals() for surface in other]
    distances, angles = [], []
    for surface in own:
        points = surface.points_xyz[surface.valid]
        hits = index.query(points, FARTHEST)
        nearest = np.full(len(points), FARTHEST)
        np.minimum.at(nearest, hits.point_index, hits.distances)
        distances.append(nearest)
        best = hits.distances <= nearest[hits.point_index]
        at = np.flatnonzero(best)
        mine = surface.normals()[surface.valid][hits.point_index[at]]
        theirs = np.empty_like(mine)
        for number in np.unique(hits.patch_index[at]):
            on = hits.patch_index[at] == number
            rows = np.rint(hits.rows[at][on]).astype(int)
            cols = np.rint(hits.cols[at][on]).astype(int)
            theirs[on] = normals[number][rows, cols]
        cosine = np.abs(np.einsum("ij,ij->i", mine, theirs))
        angles.append(np.degrees(np.arccos(np.clip(cosine[np.isfinite(cosine)], 0.0, 1.0))))
    distance, angle = np.concatenate(distances), np.concatenate(angles)
    near = distance[distance < FARTHEST]
    to_cm2 = (voxel_size * 1e-4) ** 2
    timed = [one for one in own if _is_positive(one.meta.get(_TIME))]
    seconds = float(sum(one.meta[_TIME] for one in timed))
    timed_cm2 = sum(one.area_vx2 for one in timed) * to_cm2
    side = Side(
        surfaces=len(own),
        area_vx2=float(sum(surface.area_vx2 for surface in own)),
        area_cm2=float(sum(surface.area_vx2 for surface in own) * to_cm2),
        seconds=seconds,
        timed=len(timed),
        seconds_per_cm2=seconds / timed_cm2 if timed_cm2 > 0 else float("nan"),
        covered=float((distance <= tolerance).mean()) if len(distance) else float("nan"),
        distance_median=_percentile(near, 50),
        distance_p95=_percentile(near, 95),
        normal_median_deg=_percentile(angle, 50),
        normal_p95_deg=_percentile(angle, 95),
    )
    return side, distance


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def _both_ways(distances: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return median and 95th percentile of both sides' distances, the sides weighing the same."""
    near = [distance[distance < FARTHEST] for distance in distances]
    if not all(len(part) for part in near):
        return float("nan"), float("nan")
    values = np.concatenate(near)
    weights = np.concatenate([np.full(len(part), 0.5 / len(part)) for part in near])
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    at = np.minimum(np.searchsorted(passed, (0.5, 0.95)), len(values) - 1)
    median, p95 = values[order][at].tolist()
    return median, p95


def _as_grids(
    surfaces: list["Surface"], distance: NDArray[np.float64]
) -> tuple[NDArray[np.float32], ...]:
    """Return the distances of the vertices of some surfaces on their grids."""
    grids, first = [], 0
    for surface in surfaces:
        grid = np.full(surface.shape, np.nan, np.float32)
        count = int(surface.valid.sum())
        grid[surface.valid] = distance[first : first + count]
        first += count
        grids.append(grid)
    return tuple(grids)
