"""Mend a prediction: mask by the CT, close holes along the sheets, thin, drop specks.

The first three steps look at a neighbourhood and are done block by block with a halo. Specks are
connected components, which may cross any number of blocks: see :mod:`tracer.predict.components`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tracer.params import Params
from tracer.predict.params import PredictParams
from tracer.predict.sheet_filter import CELL, FilterReach, block_normals, even


class CleanParams(Params):
    """How a prediction is mended."""

    threshold: int = Field(
        default=170, ge=1, le=255, description="Least value of the prediction that counts as sheet."
    )
    hole_radius: int = Field(
        default=3,
        ge=0,
        le=32,
        description="Radius in voxels of the holes closed along the sheet; 0: none. Beyond half "
        "the gap between wraps it joins them.",
    )
    thin: bool = Field(default=False, description="Reduce sheets to a band around their middle.")
    half_width: float = Field(
        default=1.0, ge=0.5, le=8.0, description="Half the thickness in voxels of a thinned sheet."
    )
    max_thickness: float = Field(
        default=12.0,
        ge=2.0,
        le=64.0,
        description="Thickest sheet in voxels that is thinned rightly.",
    )
    smooth_radius: int = Field(
        default=3,
        ge=0,
        le=16,
        description="Radius in voxels over which a thinned sheet is evened out.",
    )
    min_component: int = Field(
        default=500, ge=0, description="Components of fewer voxels are dropped; 0 keeps all."
    )
    normal_sigma: float = Field(
        default=4.0,
        ge=1.0,
        le=24.0,
        description="Neighbourhood in voxels that agrees on one sheet normal.",
    )
    block: int = Field(
        default=128, ge=32, le=1024, description="Edge in voxels of the blocks that are worked on."
    )

    def as_filter(self) -> PredictParams:
        """Return the filter parameters that govern normals and thinning.

        Returns
        -------
        PredictParams
            One fine scale, so that the normals alone set the reach.
        """
        return PredictParams(
            sigma=0.7, scales=1, gradient_sigma=1.5, normal_sigma=self.normal_sigma, coherence=0.0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanReach:
    """How far each step looks, in voxels; all even.

    Attributes
    ----------
    average : int
        Evening out a thinned sheet.
    walk : int
        The walk to the two sides of a sheet that is thinned.
    close : int
        Closing along the sheet.
    normals : int
        The orientation field.
    """

    average: int
    walk: int
    close: int
    normals: int

    @classmethod
    def of(cls, params: CleanParams) -> Self:
        """Return the reach for given parameters.

        Parameters
        ----------
        params : CleanParams
            Parameters.

        Returns
        -------
        CleanReach
            Smallest even reach of each step; 0 for a step that is left out.
        """
        return cls(
            average=even(1.5 * params.smooth_radius + 1) if params.thin else 0,
            walk=even(params.max_thickness + 2) if params.thin else 0,
            close=even(params.hole_radius + 2) if params.hole_radius else 0,
            normals=FilterReach.of(params.as_filter()).smoothing,
        )

    @property
    def halo(self) -> int:
        """Return the voxels needed on every side of a block."""
        local = self.average + self.walk + self.close
        return local + self.normals if local else 0


def _cut(array: NDArray[np.generic], margin: int) -> NDArray[np.generic]:
    """Return an array without a margin of its first three axes, C-contiguous."""
    inner = slice(margin, -margin) if margin else slice(None)
    return np.ascontiguousarray(array[inner, inner, inner])


def clean_block(
    prediction: NDArray[np.uint8],
    params: CleanParams,
    *,
    support: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return one block of a prediction, mended but for small components.

    Parameters
    ----------
    prediction : ndarray of uint8, shape (z + 2 halo, y + 2 halo, x + 2 halo)
        Prediction of the block and its halo; even extents.
    params : CleanParams
        Steps.
    support : ndarray of bool, same shape, optional
        Where there is CT; elsewhere nothing is predicted, and no hole closed.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        Value of the prediction where it is kept, 255 in closed holes, 0 elsewhere.
    """
    from tracer.kernels.sheet_closing import close_along_sheet

    reach = CleanReach.of(params)
    mask = prediction >= params.threshold
    if support is not None:
        mask &= support
    values = np.asarray(_cut(np.where(mask, prediction, np.uint8(0)), reach.halo), np.uint8)
    if reach.halo == 0 or not mask.any():
        return values
    coverage = mask.astype(np.float32)
    normals = block_normals(coverage, params.as_filter(), reach.normals)
    coverage = np.asarray(_cut(coverage, reach.normals), np.float32)
    if reach.close:
        closed = close_along_sheet(coverage, normals, params.hole_radius, reach.close)
        if support is not None:
            closed &= np.asarray(_cut(support, reach.normals + reach.close), np.bool_)
        coverage = closed.astype(np.float32)
        normals = np.asarray(_cut(normals, reach.close // CELL), np.float32)
    if reach.walk:
        coverage = _thinned(coverage, normals, params, reach)
    kept = coverage > 0
    return np.asarray(
        np.where(kept, np.where(values > 0, values, np.uint8(255)), np.uint8(0)), np.uint8
    )


def _thinned(
    coverage: NDArray[np.float32],
    normals: NDArray[np.float32],
    params: CleanParams,
    reach: CleanReach,
) -> NDArray[np.float32]:
    """Return 1 within half a width of the middle of sheets, 0 elsewhere."""
    from tracer.kernels.label_faces import average_offsets, locate_in_instances

    sheets, inner, outer = locate_in_instances(
        coverage.astype(np.uint16), normals, params.max_thickness, 0.0, reach.walk
    )
    normals = np.asarray(_cut(normals, reach.walk // CELL), np.float32)
    middle = average_offsets(
        sheets,
        np.asarray(0.5 * (inner - outer), np.float32),
        normals,
        params.smooth_radius,
        True,
        reach.average,
    )
    return np.asarray(np.abs(middle) <= params.half_width, np.float32)
