"""Geometry of a phantom's sheet: where a point lies on it, and where a place of it lies in space.

Conventions: points are x, y, z in voxels of the volume; the recto of wrap k is where the winding
equals k; the recto faces the axis and the papyrus lies outside it (larger winding). Law: `place`
undoes `locate`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import FormatError
from tracer.kernels.phantom import N_LOCATED, TWO_PI, Spiral, locate_points, place_points
from tracer.phantom.deformation import Stage, Waves, build_spiral


class Located(NamedTuple):
    """Where points lie on the sheet.

    Attributes
    ----------
    winding : ndarray of float64, shape (...)
        Continuous winding number; the recto of wrap k is at k.
    wrap : ndarray of int64, shape (...)
        The nearest recto, ``round(winding)``.
    angle : ndarray of float64, shape (...)
        Angle about the axis in material coordinates, [0, 2 pi).
    theta : ndarray of float64, shape (...)
        Total angle along the nearest recto.
    material_z : ndarray of float64, shape (...)
        z on the sheet, voxels.
    gradient : ndarray of float64, shape (..., 3)
        Gradient of the winding in space, per voxel.
    radius : ndarray of float64, shape (...)
        Distance from the axis in material coordinates.
    """

    winding: NDArray[np.float64]
    wrap: NDArray[np.int64]
    angle: NDArray[np.float64]
    theta: NDArray[np.float64]
    material_z: NDArray[np.float64]
    gradient: NDArray[np.float64]
    radius: NDArray[np.float64]

    def distance(self) -> NDArray[np.float64]:
        """Return the signed distance to the nearest recto, positive outward.

        Returns
        -------
        ndarray of float64, shape (...)
            Voxels, to first order: the winding's excess over its gradient in space. The error is
            about the squared distance over twice the radius of curvature.
        """
        slope = np.linalg.norm(self.gradient, axis=-1)
        return np.asarray((self.winding - self.wrap) / slope)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """An Archimedean spiral carried through a deformation.

    Attributes
    ----------
    centre_xy : tuple of float
        Axis of the spiral in material coordinates.
    pitch : float
        Distance of neighbouring wraps in material coordinates, voxels.
    rmin : float
        Radius at which the sheet begins.
    rmax : float
        Radius at which it ends.
    stages : tuple of Stage
        The deformation, in order of application.
    """

    centre_xy: tuple[float, float]
    pitch: float
    rmin: float
    rmax: float
    stages: tuple[Stage, ...] = ()
    _spiral: Spiral = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse an impossible spiral and prepare the numbers for the kernels."""
        if not 0.0 < self.rmin < self.rmax or self.pitch <= 0.0:
            raise FormatError(
                f"sheet: pitch {self.pitch}, rmin {self.rmin}, rmax {self.rmax}: need 0 < pitch "
                "and 0 < rmin < rmax"
            )
        spiral = build_spiral(self.centre_xy, self.pitch, self.stages)
        object.__setattr__(self, "_spiral", spiral)

    @property
    def spiral(self) -> Spiral:
        """Numbers for the kernels.

        Returns
        -------
        Spiral
            Geometry and deformation.
        """
        return self._spiral

    @property
    def theta_range(self) -> tuple[float, float]:
        """Total angles at which the sheet begins and ends.

        Returns
        -------
        tuple of float
            Radians.
        """
        return TWO_PI * self.rmin / self.pitch, TWO_PI * self.rmax / self.pitch

    def locate(self, points_xyz: ArrayLike) -> Located:
        """Return where points lie on the sheet; every other question is answered from this.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels. Places that are not finite give NaN and wrap 0.

        Returns
        -------
        Located
            Arrays of shape (...).
        """
        points = np.ascontiguousarray(points_xyz, dtype=np.float64)
        flat = points.reshape(-1, 3)
        found = np.empty((len(flat), N_LOCATED))
        locate_points(self._spiral, flat, found)
        found = found.reshape(*points.shape[:-1], N_LOCATED)
        winding, angle = found[..., 3], found[..., 4]
        wrap = np.rint(np.nan_to_num(winding)).astype(np.int64)
        dx, dy = found[..., 0] - self.centre_xy[0], found[..., 1] - self.centre_xy[1]
        return Located(
            winding=winding,
            wrap=wrap,
            angle=angle,
            theta=angle + TWO_PI * wrap,
            material_z=found[..., 2],
            gradient=found[..., 5:8],
            radius=np.hypot(dx, dy),
        )

    def winding(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the continuous winding number; the recto of wrap k is at k.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.

        Returns
        -------
        ndarray of float64, shape (...)
            Winding, falling by one across the half plane of angle zero.
        """
        return self.locate(points_xyz).winding

    def theta(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the total angle along the nearest recto: continuous as long as one stays on it.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.

        Returns
        -------
        ndarray of float64, shape (...)
            Radians; a step of 2 pi between neighbours is a sheet switch.
        """
        return self.locate(points_xyz).theta

    def arc_length(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the arc length along the nearest recto in material coordinates.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.

        Returns
        -------
        ndarray of float64, shape (...)
            Voxels, zero at the axis.
        """
        return self.arc_of_theta(self.locate(points_xyz).theta)

    def distance(self, points_xyz: ArrayLike, *, signed: bool = False) -> NDArray[np.float64]:
        """Return the distance to the nearest recto in space.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.
        signed : bool
            Negative inside of the recto (towards the axis) instead of absolute.

        Returns
        -------
        ndarray of float64, shape (...)
            Voxels, to first order (see :meth:`Located.distance`). The sheet's ends are ignored.
        """
        distance = self.locate(points_xyz).distance()
        return distance if signed else np.abs(distance)

    def normal(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the unit normal of the sheet, pointing outward.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.

        Returns
        -------
        ndarray of float64, shape (..., 3)
            Direction of growing winding.
        """
        gradient = self.locate(points_xyz).gradient
        return np.asarray(gradient / np.linalg.norm(gradient, axis=-1, keepdims=True))

    def z_slack(self) -> float:
        """Return by how much z in the volume and on the sheet can differ.

        Returns
        -------
        float
            Voxels.
        """
        waves = [stage for stage in self.stages if isinstance(stage, Waves)]
        return sum(abs(a[2]) for stage in waves for a in stage.amplitudes)

    def arc_of_theta(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Return the arc length at a total angle, in material coordinates.

        Parameters
        ----------
        theta : array_like
            Radians.

        Returns
        -------
        ndarray of float64
            Voxels.
        """
        return np.asarray(self.pitch * np.square(np.asarray(theta, np.float64)) / (2.0 * TWO_PI))

    def theta_of_arc(self, arc_length: ArrayLike) -> NDArray[np.float64]:
        """Return the total angle at an arc length: the inverse of :meth:`arc_of_theta`.

        Parameters
        ----------
        arc_length : array_like
            Voxels.

        Returns
        -------
        ndarray of float64
            Radians.
        """
        arc = np.maximum(np.asarray(arc_length, np.float64), 0.0)
        return np.asarray(np.sqrt(arc * (2.0 * TWO_PI) / self.pitch))

    def point(self, theta: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
        """Return the point of the recto at a total angle and material z.

        Parameters
        ----------
        theta : array_like
            Total angle, radians.
        z : array_like
            Material z, voxels.

        Returns
        -------
        ndarray of float64, shape (..., 3)
            Places in the volume.
        """
        turn, height = np.broadcast_arrays(np.asarray(theta, np.float64), np.asarray(z, np.float64))
        radius = self.pitch * turn / TWO_PI
        x = self.centre_xy[0] + radius * np.cos(turn)
        y = self.centre_xy[1] + radius * np.sin(turn)
        return self.place(np.stack([x, y, height], axis=-1))

    def place(self, material_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the places in the volume of material points.

        Parameters
        ----------
        material_xyz : array_like, shape (..., 3)
            Points before the deformation, voxels.

        Returns
        -------
        ndarray of float64, shape (..., 3)
            Places in the volume.
        """
        material = np.ascontiguousarray(material_xyz, dtype=np.float64)
        placed = np.empty_like(material)
        place_points(self._spiral, material.reshape(-1, 3), placed.reshape(-1, 3))
        return placed
