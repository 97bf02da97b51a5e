"""The scroll's axis: a polyline (x, y) over z, read from a file, given, or estimated from patches.

The axis only has to run inside the innermost wrap: it tells turns apart and which side of a patch
is outward; lengths never depend on it.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import FormatError, ParamsError

_SLABS = 16  # slabs along z in which the axis is estimated; it bends slowly
_MIN_PER_SLAB = 50  # vertices; fewer do not fix a point
_ROUNDS = 12  # of reweighting; the weights settle after about six
_HUBER = 0.1  # share of the slab's extent within which a normal's line counts fully


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """A polyline along z.

    Attributes
    ----------
    points_xyz : ndarray of float64, shape (k, 3)
        Control points with ascending z; straight beyond the first and the last.
    """

    points_xyz: NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.asarray(self.points_xyz, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise FormatError(
                f"axis has shape {points.shape}; it must be (k, 3) with at least one x, y, z"
            )
        if not np.isfinite(points).all():
            raise FormatError("axis has a coordinate that is not finite; remove that point")
        points = points[np.argsort(points[:, 2], kind="stable")]
        points = points[np.r_[True, np.diff(points[:, 2]) > 0]]
        points.setflags(write=False)
        object.__setattr__(self, "points_xyz", points)

    def at(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return the axis at some heights.

        Parameters
        ----------
        z : array_like of float
            Heights in voxels, any shape.

        Returns
        -------
        ndarray of float64, shape (..., 2)
            x and y; constant beyond the ends.
        """
        heights = np.asarray(z, dtype=np.float64)
        known = self.points_xyz
        return np.stack([np.interp(heights, known[:, 2], known[:, axis]) for axis in (0, 1)], -1)

    def turns(self, points_xyz: NDArray[Any]) -> NDArray[np.float64]:
        """Return the azimuth of points about the axis.

        Parameters
        ----------
        points_xyz : ndarray, shape (..., 3)
            Points in voxels.

        Returns
        -------
        ndarray of float64, shape (...)
            Turns in [0, 1), from x towards y.
        """
        points = np.asarray(points_xyz, dtype=np.float64)
        offset = points[..., :2] - self.at(points[..., 2])
        return np.asarray(np.arctan2(offset[..., 1], offset[..., 0]) / (2 * math.pi) % 1.0)

    def radii(self, points_xyz: NDArray[Any]) -> NDArray[np.float64]:
        """Return the distance of points from the axis.

        Parameters
        ----------
        points_xyz : ndarray, shape (..., 3)
            Points in voxels.

        Returns
        -------
        ndarray of float64, shape (...)
            Voxels.
        """
        points = np.asarray(points_xyz, dtype=np.float64)
        return np.asarray(np.linalg.norm(points[..., :2] - self.at(points[..., 2]), axis=-1))


def read_axis(path: Path) -> Axis:
    """Return the axis in an umbilicus file.

    Parameters
    ----------
    path : Path
        VC3D's JSON (``control_points`` with x, y, z) or plain text: one point per line as z y x or,
        with a header line ``x y z``, in that order; separated by commas or blanks.

    Returns
    -------
    Axis
        The axis.

    Raises
    ------
    FormatError
        If the file is missing or neither of the two.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot read umbilicus ({error}); give another file") from error
    try:
        if text.lstrip().startswith("{"):
            control = json.loads(text)["control_points"]
            points = [[float(point[key]) for key in "xyz"] for point in control]
        else:
            points = _parse_lines(text)
        return Axis(points_xyz=np.array(points, dtype=np.float64).reshape(-1, 3))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: not an umbilicus ({error}); expected JSON with control_points or lines of "
            "z, y, x"
        ) from error


def _parse_lines(text: str) -> list[list[float]]:
    """Return x, y, z of the lines of a text file."""
    order = "zyx"
    points = []
    for line in text.splitlines():
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if sorted(word.lower() for word in words) == ["x", "y", "z"]:
            order = "".join(words).lower()
            continue
        if len(words) != 3:
            raise ValueError(f"line '{line.strip()}' has {len(words)} values instead of 3")
        value = dict(zip(order, map(float, words), strict=True))
        points.append([value[key] for key in "xyz"])
    return points


def parse_axis(text: str) -> Axis:
    """Return the axis given on the command line.

    Parameters
    ----------
    text : str
        ``x,y`` for an axis parallel to z, or ``x,y,z`` points separated by semicolons.

    Returns
    -------
    Axis
        The axis.

    Raises
    ------
    ParamsError
        If the text is neither.
    """
    try:
        points = [[float(word) for word in part.split(",")] for part in text.split(";")]
    except ValueError as error:
        raise ParamsError(
            f"axis: '{text}' is not numbers ({error}); give x,y or x,y,z;…"
        ) from error
    if len(points) == 1 and len(points[0]) == 2:
        points = [[*points[0], 0.0]]
    if any(len(point) != 3 for point in points):
        raise ParamsError(f"axis: '{text}' must be x,y or several x,y,z separated by semicolons")
    return Axis(points_xyz=np.array(points))


def choose_axis(umbilicus: Path | None, text: str | None) -> Axis | None:
    """Return the axis that was given, if any.

    Parameters
    ----------
    umbilicus : Path or None
        Umbilicus file.
    text : str or None
        Axis as text.

    Returns
    -------
    Axis or None
        None where it is to be estimated.

    Raises
    ------
    ParamsError
        If both are given.
    """
    if umbilicus is not None and text is not None:
        raise ParamsError("axis: both an umbilicus file and an axis are given; give one of them")
    if umbilicus is not None:
        return read_axis(umbilicus)
    return None if text is None else parse_axis(text)


def estimate_axis(points_xyz: NDArray[np.float32], normals: NDArray[np.float32]) -> Axis:
    """Return the line that the normals of a wound sheet point at.

    Parameters
    ----------
    points_xyz : ndarray of float32, shape (n, 3)
        Vertices in voxels.
    normals : ndarray of float32, shape (n, 3)
        Unit normals of any sign; NaN where unknown.

    Returns
    -------
    Axis
        One point per slab of z.

    Raises
    ------
    ParamsError
        If the normals do not point at a common place; a given axis helps.

    Notes
    -----
    Robust least squares over the normals' lines: the point with the least sum of Huber distances to
    them, with the bend along z smoothed. A crushed scroll's normals miss its axis by much, but
    to both sides of it.
    """
    flat = np.hypot(normals[:, 0], normals[:, 1])
    usable = np.isfinite(flat) & (flat > 0.5)
    points = points_xyz[usable].astype(np.float64)
    direction = normals[usable, :2] / flat[usable, None]
    if len(points) < _MIN_PER_SLAB:
        return Axis(points_xyz=_centre(points_xyz)[None])
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1).astype(np.float64)
    level = np.einsum("ij,ij->i", across, points[:, :2])
    whole = _meet(across, level, points[:, :2])
    z = points[:, 2]
    bounds = np.linspace(z.min(), z.max() + 1e-6, _SLABS + 1)
    found: list[Sequence[float]] = []
    weights = []
    for low, high in itertools.pairwise(bounds):
        inside = (z >= low) & (z < high)
        if inside.sum() >= _MIN_PER_SLAB and _spread(across[inside]) > 0.05:
            x, y = _meet(across[inside], level[inside], points[inside, :2], start=whole)
            found.append((x, y, float(z[inside].mean())))
            weights.append(math.sqrt(inside.sum()) * _spread(across[inside]))
    if len(found) < 4:
        return Axis(points_xyz=np.array([[*whole, float(z.mean())]]))
    return Axis(points_xyz=_smoothed(np.array(found), np.array(weights)))


def _centre(points_xyz: NDArray[np.float32]) -> NDArray[np.float64]:
    if not len(points_xyz):
        raise ParamsError(
            "axis: there is no vertex to estimate it from; give --axis or --umbilicus"
        )
    return np.asarray(points_xyz.mean(axis=0, dtype=np.float64))


def _spread(across: NDArray[np.float64]) -> float:
    """Return 0 where all lines are parallel, 0.5 where their directions are even."""
    return float(np.linalg.eigvalsh(across.T @ across / len(across))[0])


def _meet(
    across: NDArray[np.float64],
    level: NDArray[np.float64],
    points_xy: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the point that lines ``across . x = level`` come closest to, robustly."""
    extent = float(np.linalg.norm(np.ptp(points_xy, axis=0)))
    x = np.median(points_xy, axis=0) if start is None else start
    for _ in range(_ROUNDS):
        distance = np.abs(across @ x - level)
        weight = 1.0 / np.maximum(distance, _HUBER * extent + 1e-9)
        normal = (across * weight[:, None]).T @ across
        normal += 1e-6 * np.trace(normal) * np.eye(2)
        right = (across * weight[:, None]).T @ level + 1e-6 * np.trace(normal) * x
        x = np.linalg.solve(normal, right)
    return np.asarray(x)


def _smoothed(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points whose x and y follow a robust parabola in z."""
    z = points[:, 2]
    at = (z - z.mean()) / max(float(np.ptp(z)), 1e-9)
    out = points.copy()
    for axis in (0, 1):
        value = points[:, axis]
        robust = weights.copy()
        fit = value
        for _ in range(_ROUNDS):
            fit = np.polyval(np.polyfit(at, value, 2, w=robust), at)
            error = np.abs(value - fit)
            robust = weights / (1.0 + error / (np.median(error) + 1e-6))
        out[:, axis] = fit
    return out
