"""VC3D's point collections: points with winding annotations, and how a surface meets them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, NothingFoundError

if TYPE_CHECKING:
    from tracer.surface import Surface

NEAR_VX = 8.0  # a point further from the surface is missed by it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointCollection:
    """Points of one collection.

    Attributes
    ----------
    name : str
        Its name.
    points_xyz : ndarray of float64, shape (n, 3)
        Voxels.
    winding : ndarray of float64, shape (n,)
        Annotation; NaN where there is none.
    is_absolute : bool
        Whether windings are comparable with other collections'.
    """

    name: str
    points_xyz: NDArray[np.float64]
    winding: NDArray[np.float64]
    is_absolute: bool


def read_point_collections(path: Path) -> list[PointCollection]:
    """Return the collections in a file.

    Parameters
    ----------
    path : Path
        VC3D's JSON.

    Returns
    -------
    list of PointCollection
        In the order of their keys.

    Raises
    ------
    FormatError
        If it is not such a file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if "vc_pointcollections_json_version" not in value:
            raise KeyError("vc_pointcollections_json_version")
        found = []
        for key in sorted(value["collections"], key=lambda k: (len(k), k)):
            entry = value["collections"][key]
            points = [
                entry["points"][k] for k in sorted(entry["points"], key=lambda k: (len(k), k))
            ]
            windings = [point.get("wind_a") for point in points]
            found.append(
                PointCollection(
                    name=str(entry.get("name", key)),
                    points_xyz=np.array([p["p"] for p in points], np.float64).reshape(-1, 3),
                    winding=np.array([np.nan if w is None else w for w in windings], np.float64),
                    is_absolute=bool(entry.get("metadata", {}).get("winding_is_absolute", False)),
                )
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path}: not a point collection file ({error}); give VC3D's JSON"
        ) from error
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMetrics:
    """How a surface with windings meets annotated points.

    Attributes
    ----------
    points : int
        Points asked.
    in_surface_metric : float
        Share of the points within 8 voxels of the surface.
    surface_missing_fraction : float
        The others: 1 - in_surface_metric.
    winding_error_fraction : float
        Of the pairs of consecutive points of a collection that both lie on the surface, the share
        whose winding difference is not the annotated one (by more than half a wrap). NaN without
        such a pair.
    """

    points: int
    in_surface_metric: float
    surface_missing_fraction: float
    winding_error_fraction: float


def point_metrics(
    surface: "Surface", winding: NDArray[np.float64], collections: list[PointCollection]
) -> PointMetrics:
    """Return how a surface meets annotated points; exact and deterministic.

    Parameters
    ----------
    surface : Surface
        A surface.
    winding : ndarray of float64, shape (rows, cols)
        Its winding, growing outward like the annotations; NaN where unknown.
    collections : list of PointCollection
        Annotated points.

    Returns
    -------
    PointMetrics
        Shares.

    Raises
    ------
    NothingFoundError
        If there is no point.
    """
    from tracer.fuse.sources import Source, winding_at
    from tracer.spatial_index import SpatialIndex

    points = np.concatenate([np.empty((0, 3)), *(c.points_xyz for c in collections)])
    if not len(points):
        raise NothingFoundError("the collections hold no point")
    hits = SpatialIndex.from_surfaces({"surface": surface}).query(points, NEAR_VX)
    met = np.full(len(points), np.nan)
    met[hits.point_index] = winding_at(
        Source(surface=surface, winding=winding), hits.rows, hits.cols
    )
    on = np.zeros(len(points), bool)
    on[hits.point_index] = True
    wrong = pairs = first = 0
    for collection in collections:
        n = len(collection.points_xyz)
        ours, theirs = met[first : first + n], collection.winding
        known = np.isfinite(ours) & np.isfinite(theirs)
        off = np.diff(ours[known]) - np.diff(theirs[known])
        wrong += int((np.abs(off) > 0.5).sum())
        pairs += len(off)
        first += n
    share = float(on.mean())
    return PointMetrics(
        points=len(points),
        in_surface_metric=share,
        surface_missing_fraction=1.0 - share,
        winding_error_fraction=wrong / pairs if pairs else float("nan"),
    )


def metrics_of_path(path: Path, collections: Path) -> dict[str, Any]:
    """Return how the surface at a path meets the points in a file.

    Parameters
    ----------
    path : Path
        A surface; its winding is solved.
    collections : Path
        VC3D's JSON.

    Returns
    -------
    dict
        The metrics by name, rounded; null where undefined.
    """
    from tracer.score import find_surfaces
    from tracer.surface import Surface
    from tracer.winding import solve_winding

    surface = Surface.load(find_surfaces([path])[0], channels=())
    winding = solve_winding(surface).values.astype(np.float64)
    found = asdict(point_metrics(surface, winding, read_point_collections(collections)))
    return {
        key: None if isinstance(value, float) and np.isnan(value) else round(value, 5)
        for key, value in found.items()
    }
