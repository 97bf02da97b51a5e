"""What a comparison found: both sides, and what they have in common."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tracer.surface import Surface

FARTHEST = 16.0  # voxels; what is further is not covered, half the gap between most wraps


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one side looks from the other.

    Attributes
    ----------
    surfaces : int
        Surfaces of this side.
    area_vx2 : float
        Their area.
    area_cm2 : float
        The same; NaN where no metadata of either side tells the voxel size.
    seconds : float
        Sum of ``elapsed_time_s`` in their metadata; 0 where it is not recorded.
    timed : int
        Surfaces in which it is recorded.
    seconds_per_cm2 : float
        Recorded time per area of those; NaN where there are none.
    covered : float
        Share of the vertices within the tolerance of the other side.
    distance_median, distance_p95 : float
        Of the vertices within 16 voxels of the other side, voxels.
    normal_median_deg, normal_p95_deg : float
        Angle between the normals there, either side up, degrees.
    """

    surfaces: int
    area_vx2: float
    area_cm2: float
    seconds: float
    timed: int
    seconds_per_cm2: float
    covered: float
    distance_median: float
    distance_p95: float
    normal_median_deg: float
    normal_p95_deg: float

    def summary(self, name: str, tolerance: float) -> str:
        """Return the figures in a line.

        Parameters
        ----------
        name : str
            Of this side.
        tolerance : float
            Voxels within which a vertex is covered.

        Returns
        -------
        str
            Text for a person.
        """
        area = f"{self.area_vx2:.0f} vx2"
        if np.isfinite(self.area_cm2):
            area += f" ({self.area_cm2:.3g} cm2)"
        time = ""
        if self.timed:
            part = "" if self.timed == self.surfaces else f" for {self.timed} of them"
            rate = self.seconds_per_cm2
            per_area = f", {rate:.3g} s per cm2" if np.isfinite(rate) else ""
            time = f", {self.seconds:.3g} s{part}{per_area}"
        return (
            f"{name}: {self.surfaces} surfaces, {area}{time}; "
            f"{100 * self.covered:.1f} % within {tolerance:g} voxels of the other, "
            f"distance median {self.distance_median:.2f}, p95 {self.distance_p95:.2f}, normals "
            f"{self.normal_median_deg:.1f} degrees apart (p95 {self.normal_p95_deg:.1f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Two sides.

    Attributes
    ----------
    a, b : Side
        Both.
    tolerance : float
        Voxels within which a vertex is covered.
    symmetric_median, symmetric_p95 : float
        Distances of both sides' vertices taken together, both sides weighing the same, of those
        within 16 voxels of the other side; voxels.
    winding_disagreement : float
        Share of the common vertices at which a surface of A and one of B part by whole turns about
        the axis from where they agree most: one of them has switched sheets. NaN where nothing is
        common.
    surfaces : tuple of tuple of Surface
        Those of A and those of B.
    distances : tuple of tuple of ndarray of float32, shape (rows, cols)
        For each of them the distance of every vertex from the other side, voxels; 16 beyond, NaN
        where there is no vertex.
    """

    a: Side
    b: Side
    tolerance: float
    symmetric_median: float
    symmetric_p95: float
    winding_disagreement: float
    surfaces: tuple[tuple["Surface", ...], tuple["Surface", ...]]
    distances: tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.float32], ...]]

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
            "symmetric_median": self.symmetric_median,
            "symmetric_p95": self.symmetric_p95,
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
        lines = [self.a.summary("A", self.tolerance), self.b.summary("B", self.tolerance)]
        if not np.isnan(self.symmetric_median):
            lines.append(
                f"both ways: distance median {self.symmetric_median:.2f}, "
                f"p95 {self.symmetric_p95:.2f}"
            )
        if not np.isnan(self.winding_disagreement):
            lines.append(
                f"sheets switched at {100 * self.winding_disagreement:.2f} % of the common vertices"
            )
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    """Return a JSON value in which NaN is None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
