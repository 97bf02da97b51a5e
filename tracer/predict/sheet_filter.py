"""The built-in sheet filter on one block of a CT volume, with the halo that makes it seamless.

A block is read with a halo as wide as the filter reaches, and every step returns what it can know
without its neighbours' results. The bits of a voxel therefore do not depend on the blocks. Frames
(all of even origin, since the orientation field lives on cells of two voxels)::

    halo ................................. grey values
      | smoothing ........................ response = block + shift + ridge + disc
          | disc ......................... averaged response = block + shift + ridge
              | ridge .................... ridges = block + shift
                  | shift ................ block
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tracer.predict.orientation import Outward
from tracer.predict.params import PredictParams

TRUNCATE = 3.0  # sigmas; a Gaussian's tail beyond holds 0.3 % of its weight
TENSOR_TRUNCATE = 2.5  # the orientation field is smooth: less halo matters more here
CELL = 2


def gaussian_weights(sigma: float, truncate: float = TRUNCATE) -> NDArray[np.float64]:
    """Return the weights of a normalised Gaussian.

    Parameters
    ----------
    sigma : float
        Standard deviation in samples.
    truncate : float
        Reach in standard deviations.

    Returns
    -------
    ndarray of float64, shape (2 r + 1,)
        Symmetric weights that sum to one.
    """
    offsets = np.arange(-_reach(sigma, truncate), _reach(sigma, truncate) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float64)


def _reach(sigma: float, truncate: float) -> int:
    return max(1, math.ceil(truncate * sigma))


def even(value: float) -> int:
    """Return the smallest even number that is not below a value.

    Parameters
    ----------
    value : float
        At least 0.

    Returns
    -------
    int
        Even number.
    """
    return 2 * math.ceil(value / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterReach:
    """How far each step of the filter looks, in voxels; all even.

    Attributes
    ----------
    shift : int
        Moving a face into its sheet.
    ridge : int
        The walk to the ridge along the normal.
    disc : int
        The average in the sheet.
    smoothing : int
        Smoothing, derivatives and the orientation field.
    """

    shift: int
    ridge: int
    disc: int
    smoothing: int

    @classmethod
    def of(cls, params: PredictParams) -> Self:
        """Return the reach of a filter.

        Parameters
        ----------
        params : PredictParams
            Its parameters.

        Returns
        -------
        FilterReach
            Smallest even reach of each step.
        """
        ridge = even(params.half_width + 2)
        disc = even(params.disc_radius + 1) if params.disc_radius > 0 else 0
        tensor = CELL * _reach(params.normal_sigma / CELL, TENSOR_TRUNCATE)
        normals = tensor + 1 + _reach(params.gradient_sigma, TRUNCATE)
        response = 1 + max(_reach(sigma, TRUNCATE) for sigma in params.sigmas)
        return cls(
            shift=even(abs(params.shift) + 1) if params.shift else 0,
            ridge=ridge,
            disc=disc,
            smoothing=even(max(normals, response)),
        )

    @property
    def halo(self) -> int:
        """Return the voxels needed on every side of a block."""
        return self.shift + self.ridge + self.disc + self.smoothing


def _smoothed(
    volume: NDArray[np.generic], sigma: float, truncate: float = TRUNCATE
) -> NDArray[np.float32]:
    from tracer.kernels.sheet_filter import convolve_axis

    weights = gaussian_weights(sigma, truncate)
    out = np.ascontiguousarray(volume, np.float32)
    for axis in range(3):
        out = convolve_axis(out, weights, axis)
    return out


def _trimmed(volume: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    inner = slice(margin, -margin) if margin else slice(None)
    return volume[inner, inner, inner]


def block_normals(
    grey: NDArray[np.generic],
    params: PredictParams,
    reach: int,
    start_zyx: tuple[int, int, int] = (0, 0, 0),
    outward: Outward | None = None,
) -> NDArray[np.float32]:
    """Return the sheet normals of the cells of a block.

    Parameters
    ----------
    grey : ndarray, shape (z + 2 reach, y + 2 reach, x + 2 reach)
        Grey values of the block with a halo; even extents.
    params : PredictParams
        ``gradient_sigma`` and ``normal_sigma``.
    reach : int
        Even width of the halo.
    start_zyx : tuple of int
        Voxel of the volume at which the block without halo starts; even.
    outward : Outward, optional
        Turns the normals outward; else their signs are arbitrary.

    Returns
    -------
    ndarray of float32, shape (z/2, y/2, x/2, 3)
        Unit normals (z, y, x).
    """
    from tracer.kernels.sheet_filter import cell_normals, orient_normals, structure_tensor

    tensor_reach = _reach(params.normal_sigma / CELL, TENSOR_TRUNCATE)
    spare = reach - CELL * tensor_reach - 1 - _reach(params.gradient_sigma, TRUNCATE)
    smooth = np.ascontiguousarray(_trimmed(_smoothed(grey, params.gradient_sigma), spare))
    tensor = structure_tensor(smooth)
    del smooth
    normals = cell_normals(
        np.stack(
            [
                _smoothed(component, params.normal_sigma / CELL, TENSOR_TRUNCATE)
                for component in tensor
            ]
        ),
        params.coherence,
    )
    if outward is not None:
        z = start_zyx[0] + CELL * np.arange(normals.shape[0]) + 0.5 * (CELL - 1)
        orient_normals(
            normals,
            np.array(start_zyx, np.int64),
            outward.centres_yx(z),
            outward.direction_zyx,
        )
    return normals


def _response(
    grey: NDArray[np.generic],
    normals: NDArray[np.float32],
    params: PredictParams,
    reach: int,
    contrast: float,
) -> NDArray[np.float32]:
    """Return the strongest response over all scales; `reach` smaller than `grey` on every side."""
    from tracer.kernels.sheet_filter import face_response, ridge_response

    shape = tuple(extent - 2 * reach for extent in grey.shape)
    response = np.zeros(shape, np.float32)
    sign = 1.0 if params.polarity == "bright" else -1.0
    for sigma in params.sigmas:
        spare = reach - 1 - _reach(sigma, TRUNCATE)
        smooth = np.ascontiguousarray(_trimmed(_smoothed(grey, sigma), spare))
        if params.face == "mid-line":
            gain = sign * sigma * sigma / contrast
            ridge_response(smooth, normals, gain, params.planarity, response)
        else:
            # Walking outward the grey value rises into the sheet at its inner side: the recto.
            inner = 1.0 if params.face == "recto" else -1.0
            face_response(smooth, normals, sign * inner * sigma / contrast, response)
    return response


def filter_block(
    grey: NDArray[np.generic],
    params: PredictParams,
    contrast: float,
    *,
    start_zyx: tuple[int, int, int] = (0, 0, 0),
    outward: Outward | None = None,
) -> NDArray[np.uint8]:
    """Return the prediction of one block.

    Parameters
    ----------
    grey : ndarray, shape (z + 2 halo, y + 2 halo, x + 2 halo)
        Grey values of the block and its halo; even extents.
    params : PredictParams
        Scales, thresholds, face and kind of output.
    contrast : float
        Grey values per unit of response; positive.
    start_zyx : tuple of int
        Voxel of the volume at which the block without halo starts; even.
    outward : Outward, optional
        Needed for the faces and for ``max_radius``.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        0 off the sheets and where the grey value is 0, which is where a masked CT holds nothing.
    """
    from tracer.kernels.sheet_filter import average_along_sheet, mark_ridges
    from tracer.kernels.sheet_shift import shift_along_normals

    reach = FilterReach.of(params)
    frame = reach.shift + reach.ridge + reach.disc
    frame_start = (start_zyx[0] - frame, start_zyx[1] - frame, start_zyx[2] - frame)
    normals = block_normals(grey, params, reach.smoothing, frame_start, outward)
    response = _response(grey, normals, params, reach.smoothing, contrast)
    if reach.disc:
        response = average_along_sheet(response, normals, params.disc_radius, reach.disc)
        cells = reach.disc // CELL
        normals = np.ascontiguousarray(normals[cells:-cells, cells:-cells, cells:-cells])
    ridges = mark_ridges(response, normals, params.threshold, params.half_width, reach.ridge)
    if reach.shift:
        cells = reach.ridge // CELL
        normals = np.ascontiguousarray(normals[cells:-cells, cells:-cells, cells:-cells])
        ridges = shift_along_normals(ridges, normals, params.shift, reach.shift)
    ridges[_trimmed(np.asarray(grey), reach.halo) == 0] = 0.0
    if outward is not None and params.max_radius > 0:
        z, y, x = (a + n for a, n in zip(start_zyx, ridges.shape, strict=True))
        ridges[outward.radii(start_zyx, (z, y, x)) >= params.max_radius] = 0.0
    if params.output == "binary":
        return np.where(ridges > 0, np.uint8(255), np.uint8(0))
    share = ridges / (ridges + np.float32(params.threshold))
    return np.asarray(np.round(255.0 * share), np.uint8)
