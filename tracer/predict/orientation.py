"""What is outward in a scroll: away from its axis, or one fixed direction."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outward:
    """Outward direction at every voxel.

    Attributes
    ----------
    axis_zyx : ndarray of float64, shape (n, 3)
        Points of the axis by growing z; empty where the direction is fixed.
    direction_zyx : ndarray of float64, shape (3,)
        Fixed direction, used where there is no axis.
    """

    axis_zyx: NDArray[np.float64]
    direction_zyx: NDArray[np.float64]

    @classmethod
    def fixed(cls, direction_xyz: tuple[float, float, float]) -> Self:
        """Return one direction for the whole volume.

        Parameters
        ----------
        direction_xyz : tuple of float
            Not the zero vector.

        Returns
        -------
        Outward
            Without an axis.
        """
        return cls(
            axis_zyx=np.zeros((0, 3)), direction_zyx=np.asarray(direction_xyz[::-1], np.float64)
        )

    @classmethod
    def straight(cls, x: float, y: float) -> Self:
        """Return away from a straight axis along z.

        Parameters
        ----------
        x, y : float
            Where the axis passes, in voxels.

        Returns
        -------
        Outward
            With an axis of one point.
        """
        return cls(axis_zyx=np.array([[0.0, y, x]]), direction_zyx=np.zeros(3))

    @classmethod
    def of(
        cls,
        umbilicus: Path | None,
        axis_x: float | None,
        axis_y: float | None,
        direction_xyz: tuple[float, float, float] | None,
    ) -> Self | None:
        """Return what parameters say is outward.

        Parameters
        ----------
        umbilicus : Path or None
            Umbilicus file.
        axis_x, axis_y : float or None
            Where a straight axis passes, in voxels.
        direction_xyz : tuple of float or None
            Fixed direction.

        Returns
        -------
        Outward or None
            The first that is given.
        """
        if umbilicus is not None:
            return cls.load(umbilicus)
        if axis_x is not None and axis_y is not None:
            return cls.straight(axis_x, axis_y)
        return cls.fixed(direction_xyz) if direction_xyz is not None else None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return away from the axis in an umbilicus file.

        Parameters
        ----------
        path : Path
            JSON object with ``control_points``: objects of z, y and x in voxels.

        Returns
        -------
        Outward
            With an axis that is linear between the points and constant beyond them.

        Raises
        ------
        FormatError
            If the file cannot be read or holds no points.
        """
        try:
            points = json.loads(path.read_text(encoding="utf-8"))["control_points"]
            axis = np.array([[p["z"], p["y"], p["x"]] for p in points], np.float64)
        except OSError as error:
            raise FormatError(f"{path}: cannot read the umbilicus ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: not an umbilicus ({type(error).__name__}: {error}); "
                "expected control_points with z, y and x"
            ) from error
        if axis.shape[0] == 0 or not np.isfinite(axis).all():
            raise FormatError(f"{path}: control_points must hold finite points")
        return cls(axis_zyx=axis[np.argsort(axis[:, 0], kind="stable")], direction_zyx=np.zeros(3))

    def centres_yx(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the axis passes given slices.

        Parameters
        ----------
        z : ndarray of float64, shape (n,)
            Slices in voxels.

        Returns
        -------
        ndarray of float64, shape (n, 2)
            y and x; of shape (0, 2) where the direction is fixed.
        """
        if self.axis_zyx.shape[0] == 0:
            return np.zeros((0, 2))
        heights = self.axis_zyx[:, 0]
        return np.stack([np.interp(z, heights, self.axis_zyx[:, i]) for i in (1, 2)], axis=-1)

    def radii(
        self, start_zyx: tuple[int, int, int], stop_zyx: tuple[int, int, int]
    ) -> NDArray[np.float64]:
        """Return how far every voxel of a box lies from the axis.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Box in voxels of the volume.

        Returns
        -------
        ndarray of float64, shape (z, y, x)
            Distance in the slice, in voxels; only where there is an axis.
        """
        z, y, x = (
            np.arange(a, b, dtype=np.float64) for a, b in zip(start_zyx, stop_zyx, strict=True)
        )
        centres = self.centres_yx(z)
        return np.hypot(
            y[None, :, None] - centres[:, 0, None, None],
            x[None, None, :] - centres[:, 1, None, None],
        )

    def least_radius(
        self, start_zyx: tuple[int, int, int], stop_zyx: tuple[int, int, int]
    ) -> float:
        """Return the smallest distance of a box from the axis.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Box in voxels of the volume.

        Returns
        -------
        float
            0 where the axis passes through it; voxels.
        """
        centres = self.centres_yx(np.arange(start_zyx[0], stop_zyx[0], dtype=np.float64))
        low, high = np.array(start_zyx[1:]), np.array(stop_zyx[1:]) - 1
        outside = np.maximum(0.0, np.maximum(low - centres, centres - high))
        return float(np.hypot(outside[:, 0], outside[:, 1]).min())
