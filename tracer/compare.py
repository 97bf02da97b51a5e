"""Two surfaces, or two collections: how far apart, what only one covers, where windings differ."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError
from tracer.progress import Progress, silent

if TYPE_CHECKING:
    from tracer.spatial_index import SpatialIndex
    from tracer.surface import Surface
    from tracer.unroll.axis import Axis

_FARTHEST = 16.0  # voxels; what is further is not covered, half the gap between most wraps


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one side looks from the other.

    Attributes
    ----------
    surfaces : int
        Surfaces of this side.
    area_vx2 : float
        Their area.
    seconds : float
        Sum of ``elapsed_time_s`` in their metadata; 0 where it is not recorded.
    covered : float
        Share of the vertices within the tolerance of the other side.
    distance_median, distance_p95 : float
        Of the vertices within 16 voxels of the other side, voxels.
    normal_median_deg : float
        Angle between the normals there, either side up, degrees.
    """

    surfaces: int
    area_vx2: float
    seconds: float
    covered: float
    distance_median: float
    distance_p95: float
    normal_median_deg: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Two sides.

    Attributes
    ----------
    a, b : Side
        Both.
    tolerance : float
        Voxels within which a vertex is covered.
    winding_disagreement : float
        Share of the common vertices at which a surface of A and one of B part by whole turns about
        the axis from where they agree most: one of them has switched sheets. NaN where nothing is
        common.
    far : ndarray of float32, shape (rows, cols)
        Distance of every vertex of a single surface A from B, voxels; 16 beyond. Empty for
        collections.
    """

    a: Side
    b: Side
    tolerance: float
    winding_disagreement: float
    far: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object.

        Returns
        -------
        dict
            Figures that do not exist are null.
        """
        values = {
            "a": asdict(self.a),
            "b": asdict(self.b),
            "tolerance": self.tolerance,
            "winding_disagreement": self.winding_disagreement,
        }
        plain: dict[str, Any] = _plain(values)
        return plain

    def summary(self) -> str:
        """Return the figures in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        lines = []
        for name, side in (("A", self.a), ("B", self.b)):
            speed = f", {side.seconds:.0f} s" if side.seconds else ""
            lines.append(
                f"{name}: {side.surfaces} surfaces, {side.area_vx2:.0f} vx2{speed}; "
                f"{100 * side.covered:.1f} % within {self.tolerance:g} voxels of the other, "
                f"distance median {side.distance_median:.2f}, p95 {side.distance_p95:.2f}, normals "
                f"{side.normal_median_deg:.1f} degrees apart"
            )
        if not np.isnan(self.winding_disagreement):
            lines.append(
                f"sheets switched at {100 * self.winding_disagreement:.2f} % of the common vertices"
            )
        return "\n".join(lines)


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
    seen = []
    for number in (0, 1):
        seen.append(_side(sides[number], sides[1 - number], indexes[1 - number], tolerance))
        progress(number + 1, 2, ("A to B", "B to A")[number])
    single = len(sides[0]) == len(sides[1]) == 1
    far = np.empty((0, 0), np.float32)
    disagreement = _winding_disagreement(sides[0], sides[1], indexes[1], tolerance)
    if single:
        far = np.full(sides[0][0].shape, np.nan, np.float32)
        far[sides[0][0].valid] = seen[0][1]
    return Comparison(
        a=seen[0][0],
        b=seen[1][0],
        tolerance=tolerance,
        winding_disagreement=disagreement,
        far=far,
    )


def _side(
    own: list["Surface"], other: list["Surface"], index: "SpatialIndex", tolerance: float
) -> tuple[Side, NDArray[np.float64]]:
    """Return the figures of one side, and the distances of its vertices."""
    normals = [surface.normals() for surface in other]
    distances, angles = [], []
    for surface in own:
        points = surface.points_xyz[surface.valid]
        hits = index.query(points, _FARTHEST)
        nearest = np.full(len(points), _FARTHEST)
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
    near = distance[distance < _FARTHEST]
    times = [surface.meta.get("elapsed_time_s", 0.0) for surface in own]
    side = Side(
        surfaces=len(own),
        area_vx2=float(sum(surface.area_vx2 for surface in own)),
        seconds=float(sum(t for t in times if isinstance(t, int | float))),
        covered=float((distance <= tolerance).mean()),
        distance_median=float(np.median(near)) if len(near) else float("nan"),
        distance_p95=float(np.percentile(near, 95)) if len(near) else float("nan"),
        normal_median_deg=float(np.median(angle)) if len(angle) else float("nan"),
    )
    return side, distance


def _winding_disagreement(
    a: list["Surface"], b: list["Surface"], index: "SpatialIndex", tolerance: float
) -> float:
    """Return the share of the common vertices at which one of two surfaces has switched sheets.

    The azimuth about the axis is unwrapped over each grid. At a common place two surfaces then
    differ by whole turns, the same everywhere unless one of them has changed sheets in between.
    """
    from tracer.errors import TracerError
    from tracer.unroll.axis import estimate_axis

    points = np.concatenate([s.points_xyz[s.valid] for s in (*a, *b)])
    normals = np.concatenate([s.normals()[s.valid] for s in (*a, *b)])
    known = np.isfinite(normals[:, 0])
    try:
        axis = estimate_axis(points[known], normals[known])
    except TracerError:
        return float("nan")
    unwrapped = [_unwrap(surface, axis) for surface in b]
    differing = common = 0
    for surface in a:
        total, part = (grid[surface.valid] for grid in _unwrap(surface, axis))
        hits = index.query(surface.points_xyz[surface.valid], tolerance)
        theirs = np.full((2, len(hits.distances)), np.nan)
        for number in np.unique(hits.patch_index):
            on = hits.patch_index == number
            at = (np.rint(hits.rows[on]).astype(int), np.rint(hits.cols[on]).astype(int))
            theirs[:, on] = [grid[at] for grid in unwrapped[number]]
        use = theirs[1] >= 0
        off = np.rint(total[hits.point_index] - theirs[0])[use]
        keys = np.stack([part[hits.point_index], hits.patch_index, theirs[1]])[:, use]
        _, pair = np.unique(keys, axis=1, return_inverse=True)
        order = np.argsort(pair.ravel(), kind="stable")
        starts = np.flatnonzero(np.diff(pair.ravel()[order], prepend=-1))
        for group in np.split(off[order], starts[1:]):
            if len(group):
                common += len(group)
                differing += len(group) - int(np.unique(group, return_counts=True)[1].max())
    return differing / common if common else float("nan")


def _unwrap(surface: "Surface", axis: "Axis") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return turns about the axis, continuous over each connected part, and the parts; -1 none."""
    from tracer.kernels.score import unwrap_angles

    turns = np.where(surface.valid, axis.turns(surface.points_xyz), 0.0)
    whole, part = np.zeros(turns.shape, np.int64), np.empty(turns.shape, np.int64)
    work = np.empty((4, turns.size), np.int64)
    unwrap_angles(2 * np.pi * turns, surface.valid, np.zeros(turns.shape), work, whole, part)
    return turns + whole, part


def _plain(value: Any) -> Any:
    """Return a JSON value in which NaN is None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def difference_picture(comparison: Comparison) -> bytes:
    """Return a single surface A coloured by its distance from B: green near, dark red far.

    Parameters
    ----------
    comparison : Comparison
        Of two single surfaces.

    Returns
    -------
    bytes
        PNG.
    """
    from tracer.check.pictures import grid_png
    from tracer.unroll.pictures import heat

    return grid_png(heat(1.0 - comparison.far.astype(np.float64) / _FARTHEST))
