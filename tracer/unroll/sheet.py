"""A surface as a grid in the plane, with holes: what patches become."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STRETCH = 1.5  # of the step; a guess that is stretched more has missed the sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """The plane's grid: one surface, with holes.

    Attributes
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes in space; NaN where no patch is.
    winding : ndarray of float64, shape (rows, cols)
        Winding of the nodes; NaN where no patch is.
    confidence : ndarray of float32, shape (rows, cols)
        0 to 1: how many patches agree, and how well.
    agreeing : ndarray of float32, shape (rows, cols)
        Number of patches that agree.
    origin_uv : tuple of float
        U and V of node (0, 0).
    step : float
        Distance of neighbouring nodes, voxels.
    outliers : ndarray of int64, shape (patches,)
        Samples of each patch that lie on another sheet than the majority.
    samples : ndarray of int64, shape (patches,)
        All samples of each patch.
    beyond : ndarray of float32, shape (rows, cols, 4), optional
        Position and winding by a patch that ends less than a node away; NaN where there is none.
    """

    points_xyz: NDArray[np.float64]
    winding: NDArray[np.float64]
    confidence: NDArray[np.float32]
    agreeing: NDArray[np.float32]
    origin_uv: tuple[float, float]
    step: float
    outliers: NDArray[np.int64]
    samples: NDArray[np.int64]
    beyond: NDArray[np.float32] | None = None

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Return where there is a surface.

        Returns
        -------
        ndarray of bool, shape (rows, cols)
            True for nodes with a position.
        """
        return np.isfinite(self.points_xyz[..., 0])

    def padded(self, margin: int) -> "Sheet":
        """Return the sheet on a larger grid.

        Parameters
        ----------
        margin : int
            Empty nodes to add on every side.

        Returns
        -------
        Sheet
            The same surface.
        """
        around = ((margin, margin), (margin, margin))
        return dataclasses.replace(
            self,
            points_xyz=np.pad(self.points_xyz, (*around, (0, 0)), constant_values=np.nan),
            winding=np.pad(self.winding, around, constant_values=np.nan),
            confidence=np.pad(self.confidence, around),
            agreeing=np.pad(self.agreeing, around),
            beyond=None
            if self.beyond is None
            else np.pad(self.beyond, (*around, (0, 0)), constant_values=np.nan),
            origin_uv=(
                self.origin_uv[0] - margin * self.step,
                self.origin_uv[1] - margin * self.step,
            ),
        )

    def cropped(self, box: tuple[slice, slice]) -> "Sheet":
        """Return a part of the sheet.

        Parameters
        ----------
        box : tuple of slice
            Rows and columns to keep.

        Returns
        -------
        Sheet
            On a smaller grid.
        """
        return dataclasses.replace(
            self,
            points_xyz=self.points_xyz[box],
            winding=self.winding[box],
            confidence=self.confidence[box],
            agreeing=self.agreeing[box],
            beyond=None if self.beyond is None else self.beyond[box],
            origin_uv=(
                self.origin_uv[0] + (box[1].start or 0) * self.step,
                self.origin_uv[1] + (box[0].start or 0) * self.step,
            ),
        )


def used_box(used: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns that hold anything.

    Parameters
    ----------
    used : ndarray of bool, shape (rows, cols)
        What counts.

    Returns
    -------
    tuple of slice
        Smallest box; everything where nothing is used.
    """
    if not used.any():
        return slice(0, used.shape[0]), slice(0, used.shape[1])
    rows, cols = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def is_torn(points_xyz: NDArray[np.float64], step: float) -> NDArray[np.bool_]:
    """Return which points have a neighbour at a distance that no sheet would have.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where there is none.
    step : float
        Nominal distance of neighbours, voxels.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
        False next to nothing.
    """
    torn = np.zeros(points_xyz.shape[:2], bool)
    for axis in (0, 1):
        length = np.linalg.norm(np.diff(points_xyz, axis=axis), axis=-1) / step
        off = (length < 1.0 / _STRETCH) | (length > _STRETCH)  # NaN, next to nothing, is not
        low = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        high = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        torn[low] |= off
        torn[high] |= off
    return torn
