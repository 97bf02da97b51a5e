"""Score surfaces against a phantom's truth: coverage, sheet switches, distance, distortion.

Distances are those of vertices from the nearest recto. A surface *switches* where its vertices lie
on another wrap than the one that continues its main part: the angle about the axis is unwrapped
over the grid, which tells the wrap each vertex should be on if the surface had stayed on its sheet.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError, SurfaceError
from tracer.kernels.score import TWO_PI, mark_near_points, unwrap_angles
from tracer.progress import Progress, silent

if TYPE_CHECKING:
    from tracer.phantom.sheet import Located
    from tracer.phantom.truth import Truth
    from tracer.surface import Surface

NEAR = 3.0  # voxels within which a surface counts as on the recto
RECTO_STEP = 4.0  # voxels between samples of the true recto
_CELL = 8.0  # voxels; samples are looked up by cells of this size
_GAP_OF_CIRCUMFERENCE = 0.25  # islands across a wider gap are judged on their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of one surface, or of many with their vertices, edges and areas pooled.

    Attributes
    ----------
    area_vx2 : float
        Area of the quads, square voxels.
    n_vertices : int
        Valid vertices.
    distance_median : float
        Median distance of the vertices from the nearest recto, voxels.
    distance_p95 : float
        95th percentile of it.
    within : float
        Fraction of the vertices within 3 voxels of a recto.
    outside : float
        Fraction of the vertices beyond the sheet's ends.
    switch_rate : float
        Fraction of the area on another wrap than the one that continues its surface's main part.
    switch_edges : int
        Grid edges whose total angle jumps by more than half a turn.
    normal_median_deg : float
        Median angle between the surface's and the sheet's normal, degrees.
    normal_p95_deg : float
        95th percentile of it.
    length_distortion : float
        Median deviation of grid edges from their nominal length, relative.
    area_distortion : float
        Median deviation of quads from their nominal area, relative.
    hole_vx2 : float
        Nominal area of the holes that the surface encloses, square voxels.
    self_intersections : int
        Grid edges that cross another part of their surface.
    """

    area_vx2: float
    n_vertices: int
    distance_median: float
    distance_p95: float
    within: float
    outside: float
    switch_rate: float
    switch_edges: int
    normal_median_deg: float
    normal_p95_deg: float
    length_distortion: float
    area_distortion: float
    hole_vx2: float
    self_intersections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceScore(Figures):
    """How one surface compares with the truth.

    Attributes
    ----------
    name : str
        Name of the surface.
    coverage : float
        Fraction of the true recto's area within 3 voxels of it.
    """

    name: str
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Figures):
    """How a set of surfaces compares with the truth.

    Attributes
    ----------
    n_surfaces : int
        Surfaces scored.
    n_switched : int
        Surfaces with at least one switch edge.
    area_cm2 : float
        Sum of their areas, square centimetres.
    coverage : float
        Fraction of the true recto's area within 3 voxels of a surface.
    surfaces : tuple of SurfaceScore
        One by one.
    """

    n_surfaces: int
    n_switched: int
    area_cm2: float
    coverage: float
    surfaces: tuple[SurfaceScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the score as a JSON object.

        Returns
        -------
        dict
            All figures; those that do not exist (a surface without quads has no normal) are null.
        """
        return {key: _nullable(value) for key, value in asdict(self).items()}

    def summary(self) -> str:
        """Return the main figures in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        return (
            f"{self.n_surfaces} surfaces, {self.area_cm2:.3f} cm2, "
            f"coverage {self.coverage:.3f} of the recto\n"
            f"distance median {self.distance_median:.2f}, p95 {self.distance_p95:.2f} voxels, "
            f"within {NEAR:g}: {100 * self.within:.1f} %, "
            f"beyond the sheet: {100 * self.outside:.1f} %\n"
            f"sheet switches in {self.n_switched} of {self.n_surfaces} surfaces, "
            f"{100 * self.switch_rate:.2f} % of the area, {self.switch_edges} edges\n"
            f"normals off by {self.normal_median_deg:.1f} degrees (p95 {self.normal_p95_deg:.1f}); "
            f"distortion of lengths {100 * self.length_distortion:.1f} %, "
            f"of areas {100 * self.area_distortion:.1f} % (medians); "
            f"holes {self.hole_vx2:.0f} vx2, "
            f"{self.self_intersections} edges cross their own surface"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """What is measured on one surface: values per vertex, edge or quad, and sums."""

    distance: NDArray[np.float64]
    outside: NDArray[np.bool_]
    normal_deg: NDArray[np.float64]
    edge_error: NDArray[np.float64]
    quad_error: NDArray[np.float64]
    area_vx2: float
    vertex_vx2: float
    switched_vx2: float
    switch_edges: int
    hole_vx2: float
    self_intersections: int


def _nullable(value: Any) -> Any:
    """Return a JSON value in which NaN is None."""
    if isinstance(value, dict):
        return {key: _nullable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nullable(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def find_surfaces(paths: Iterable[Path | str]) -> list[Path]:
    """Return the surfaces at some paths: surfaces themselves, or directories of surfaces.

    Parameters
    ----------
    paths : iterable of Path or str
        Directories.

    Returns
    -------
    list of Path
        Directories with a ``meta.json``, sorted within a directory of surfaces.

    Raises
    ------
    SurfaceError
        If a path is no directory, or an unfinished surface.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise SurfaceError(f"{path}: no such directory; give a surface or a folder of surfaces")
        if (path / "meta.json").exists():
            found.append(path)
            continue
        if (path / "x.tif").exists():
            raise SurfaceError(
                f"{path}: no meta.json, so this is not a finished surface; wait for its writer or "
                "remove it"
            )
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        found += [entry for entry in entries if (entry / "meta.json").exists()]
    return found


def score_paths(
    paths: Iterable[Path | str], truth: "Truth", *, progress: Progress | None = None
) -> Score:
    """Return how the surfaces at some paths compare with the truth; one is loaded at a time.

    Parameters
    ----------
    paths : iterable of Path or str
        Surfaces or directories of surfaces.
    truth : Truth
        The phantom's truth.
    progress : Progress, optional
        Called after each surface.

    Returns
    -------
    Score
        Pooled figures and those of each surface.
    """
    from tracer.surface import Surface

    report = progress or silent
    found = find_surfaces(paths)

    def load() -> Iterator[Surface]:
        for done, path in enumerate(found):
            yield Surface.load(path)
            report(done + 1, len(found), path.name)

    return score_surfaces(load(), truth)


def score_surfaces(surfaces: Iterable["Surface"], truth: "Truth") -> Score:
    """Return how surfaces compare with the truth.

    Parameters
    ----------
    surfaces : iterable of Surface
        Taken one at a time, so that they need not all fit in memory. One without a valid vertex
        is passed over.
    truth : Truth
        The phantom's truth.

    Returns
    -------
    Score
        Pooled figures and those of each surface.

    Raises
    ------
    NothingFoundError
        If there is no surface with a valid vertex.
    """
    recto = _RectoSamples(truth)
    names: list[str] = []
    coverages: list[float] = []
    measured: list[_Measured] = []
    for surface in surfaces:
        if not surface.valid.any():
            continue
        coverages.append(recto.mark(surface))
        names.append(surface.name)
        measured.append(_measure(surface, truth))
    if not names:
        raise NothingFoundError("no surface with a valid vertex to score; check the paths")
    pooled = _figures(measured)
    return Score(
        **pooled,
        n_surfaces=len(names),
        n_switched=sum(one.switch_edges > 0 for one in measured),
        area_cm2=pooled["area_vx2"] * (truth.voxel_size_um * 1e-4) ** 2,
        coverage=recto.coverage(),
        surfaces=tuple(
            SurfaceScore(name=name, coverage=coverage, **_figures([one]))
            for name, coverage, one in zip(names, coverages, measured, strict=True)
        ),
    )


def _figures(measured: list[_Measured]) -> dict[str, Any]:
    """Return the fields of :class:`Figures` from what was measured on some surfaces."""

    def pooled(name: str) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(getattr(one, name), np.float64) for one in measured])

    distance, normal = pooled("distance"), pooled("normal_deg")
    vertex_area = sum(one.vertex_vx2 for one in measured)
    switched = sum(one.switched_vx2 for one in measured)
    return {
        "area_vx2": sum(one.area_vx2 for one in measured),
        "n_vertices": len(distance),
        "distance_median": _percentile(distance, 50),
        "distance_p95": _percentile(distance, 95),
        "within": float((distance <= NEAR).mean()),
        "outside": float(pooled("outside").mean()),
        "switch_rate": switched / vertex_area if vertex_area > 0.0 else 0.0,
        "switch_edges": sum(one.switch_edges for one in measured),
        "normal_median_deg": _percentile(normal, 50),
        "normal_p95_deg": _percentile(normal, 95),
        "length_distortion": _percentile(pooled("edge_error"), 50),
        "area_distortion": _percentile(pooled("quad_error"), 50),
        "hole_vx2": sum(one.hole_vx2 for one in measured),
        "self_intersections": sum(one.self_intersections for one in measured),
    }


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def _measure(surface: "Surface", truth: "Truth") -> _Measured:
    """Return what is measured on one surface."""
    from tracer.check.measures import self_intersections

    valid = surface.valid
    points = np.where(valid[..., None], surface.points_xyz, np.nan).astype(np.float64)
    located = truth.locate(points)
    step_row, step_col = 1.0 / surface.scale[1], 1.0 / surface.scale[0]
    quads = surface.quad_areas()
    has_quad = surface.valid_quads
    vertices = vertex_areas(quads)
    offsets = wrap_offsets(located, valid, max(step_row, step_col), vertices)
    jumps = [np.abs(np.diff(located.theta, axis=axis)) > 0.5 * TWO_PI for axis in (0, 1)]
    edges = (
        np.linalg.norm(np.diff(points, axis=0), axis=-1) / step_row,
        np.linalg.norm(np.diff(points, axis=1), axis=-1) / step_col,
    )
    lengths = np.concatenate([edge[np.isfinite(edge)] for edge in edges])
    return _Measured(
        distance=np.abs(located.distance()[valid]),
        outside=~truth.is_inside(points, located)[valid],
        normal_deg=_normal_errors(surface, located),
        edge_error=np.abs(lengths - 1.0),
        quad_error=np.abs(quads[has_quad] / (step_row * step_col) - 1.0),
        area_vx2=float(quads.sum()),
        vertex_vx2=float(vertices.sum()),
        switched_vx2=float(vertices[valid & (offsets != 0)].sum()),
        switch_edges=int(sum(jump.sum() for jump in jumps)),
        hole_vx2=_enclosed_cells(valid) * step_row * step_col,
        self_intersections=len(self_intersections(surface)),
    )


def wrap_offsets(
    located: "Located",
    valid: NDArray[np.bool_],
    step: float,
    weights: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return by how many wraps each vertex is off the sheet that its surface follows.

    Parameters
    ----------
    located : Located
        Where the vertices of a grid lie; arrays of shape (rows, cols).
    valid : ndarray of bool, shape (rows, cols)
        Valid vertices.
    step : float
        Nominal spacing of the grid, voxels.
    weights : ndarray of float64, shape (rows, cols)
        Weight of each vertex in the vote on which sheet the surface follows.

    Returns
    -------
    ndarray of int64, shape (rows, cols)
        Zero on the sheet that most of the area follows, separately for parts that are too far
        apart to be related (a quarter of the circumference); zero where invalid.
    """
    turns = np.zeros(valid.shape, np.int64)
    component = np.empty(valid.shape, np.int64)
    limit = _GAP_OF_CIRCUMFERENCE * TWO_PI * np.nan_to_num(located.radius) / step
    work = np.empty((4, valid.size), np.int64)
    n = unwrap_angles(located.angle, valid, limit, work, turns, component)
    offsets = np.where(valid, located.wrap - turns, 0)
    order = np.argsort(component[valid], kind="stable")
    values = offsets[valid][order]
    shares = weights[valid][order]
    bounds = np.searchsorted(component[valid][order], np.arange(n + 1))
    main = np.zeros(max(n, 1), np.int64)
    for i in range(n):
        part = slice(bounds[i], bounds[i + 1])
        found, index = np.unique(values[part], return_inverse=True)
        # The smallest share keeps a vote to vertices that belong to no quad.
        votes = np.bincount(index, weights=shares[part] + 1e-9)
        main[i] = found[np.argmax(votes)]
    return np.where(valid, offsets - main[np.maximum(component, 0)], 0)


def _quad_areas(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of the quads from their diagonals; NaN where a corner is invalid."""
    first = points[1:, 1:] - points[:-1, :-1]
    second = points[1:, :-1] - points[:-1, 1:]
    return np.asarray(0.5 * np.linalg.norm(np.cross(first, second), axis=-1))


def vertex_areas(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a quarter of the area of the quads around each vertex.

    Parameters
    ----------
    quads : ndarray of float64, shape (rows - 1, cols - 1)
        Areas of the quads; NaN or zero where there is none.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Square voxels; zero for vertices that belong to no quad.
    """
    padded = np.pad(np.nan_to_num(quads), 1)
    return 0.25 * (padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1])


def _normal_errors(surface: "Surface", located: "Located") -> NDArray[np.float64]:
    """Return the angles between the surface's and the sheet's normals, either side up, degrees."""
    gradient = located.gradient / np.linalg.norm(located.gradient, axis=-1, keepdims=True)
    cosine = np.abs(np.einsum("rck,rck->rc", surface.normals().astype(np.float64), gradient))
    return np.asarray(np.degrees(np.arccos(np.clip(cosine[np.isfinite(cosine)], 0.0, 1.0))))


def _enclosed_cells(valid: NDArray[np.bool_]) -> int:
    """Return the number of invalid vertices that valid ones enclose."""
    from scipy import ndimage

    return int(ndimage.binary_fill_holes(valid).sum() - valid.sum())


class _RectoSamples:
    """Samples of the true recto, and which of them a surface has come near to."""

    def __init__(self, truth: "Truth") -> None:
        points, valid, _, _ = truth.recto_grid(RECTO_STEP)
        areas = vertex_areas(_quad_areas(np.where(valid[..., None], points, np.nan)))
        points, areas = points[valid], areas[valid]
        low = np.floor(points.min(axis=0) / _CELL).astype(np.int64)
        cells = np.floor(points / _CELL).astype(np.int64) - low
        self._origin = low * _CELL
        self._shape = cells.max(axis=0) + 1
        flat = (cells[:, 2] * self._shape[1] + cells[:, 1]) * self._shape[0] + cells[:, 0]
        order = np.argsort(flat, kind="stable")
        self._points = points[order] - self._origin
        self._areas = areas[order]
        self._total = float(areas.sum())
        n_cells = int(np.prod(self._shape))
        self._first = np.searchsorted(flat[order], np.arange(n_cells + 1))
        self._near = np.zeros(len(points), np.bool_)

    def mark(self, surface: "Surface") -> float:
        """Mark the samples within reach of a surface; return their share of the recto's area."""
        heights = surface.points_xyz[..., 2][surface.valid] - self._origin[2]
        low, high = (
            np.floor((heights.min() - NEAR) / _CELL),
            np.floor((heights.max() + NEAR) / _CELL),
        )
        plane = int(self._shape[0] * self._shape[1])
        layers = np.clip([low, high + 1], 0, self._shape[2]).astype(np.int64)
        first, end = self._first[layers * plane]
        others = self._near[first:end].copy()
        self._near[first:end] = False
        mark_near_points(
            surface.points_xyz.astype(np.float64) - self._origin,
            surface.valid,
            self._points,
            self._first,
            self._shape,
            _CELL,
            NEAR,
            self._near,
        )
        own = float(self._areas[first:end][self._near[first:end]].sum())
        self._near[first:end] |= others
        return own / self._total

    def coverage(self) -> float:
        """Return the share of the recto's area that was marked."""
        return float(self._areas[self._near].sum() / self._total)
