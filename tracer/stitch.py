"""Predictions of chunks of a picture, joined to one picture with Gaussian weights.

The place of a chunk is in its name, or in that of its folder, which ends in its first column, as
:mod:`tracer.layers` names chunks. Where chunks overlap the middle of each counts most, so that no
seam shows.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tracer.errors import FormatError, ParamsError
from tracer.layer_stack import read_picture
from tracer.params import Params

_PLACE = re.compile(r"(\d+)$")
_BORDER_WEIGHT = 0.05  # of a prediction's outermost column against its middle


class StitchParams(Params):
    """How predictions of chunks are joined to one picture."""

    scale: float = Field(
        1.0, gt=0, description="Prediction pixels per layer pixel, e.g. 0.25 for a 4 x coarser one."
    )
    flip: Literal["none", "vertical", "horizontal", "both"] = Field(
        "none", description="Mirror the picture, to view it."
    )
    average: int = Field(
        0, ge=0, description="Smooth the picture over this many pixels, to view it."
    )
    boost: float = Field(1.0, gt=0, description="Multiply the picture by this, to view it.")


def stitch_predictions(
    files: Sequence[Path], params: StitchParams | None = None, *, cols: int = 0
) -> NDArray[np.float32]:
    """Return one picture from predictions of overlapping chunks.

    Parameters
    ----------
    files : sequence of Path
        npy, png or tif, 0 to 1 or full range of an integer type; the name, or that of its folder,
        ends in the chunk's first column. Several files of one chunk are averaged.
    params : StitchParams, optional
        Scale and viewing options.
    cols : int
        Columns of the picture; 0 takes what the chunks cover.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        0 to 1; Gaussian weights across each chunk, so that its middle counts most.

    Raises
    ------
    FormatError
        If a file is unreadable or of another height.
    ParamsError
        If no file is given or a name holds no column.
    """
    params = params or StitchParams()
    if not files:
        raise ParamsError("no predictions to stitch; give npy, png or tif files, or a folder")
    placed = sorted((_first_col(path), str(path), path) for path in files)
    total: NDArray[np.float64] = np.zeros((0, 0))
    weight: NDArray[np.float64] = np.zeros(0)
    for first, _, path in placed:
        values = read_prediction(path)
        start = round(first * params.scale)
        if not total.size:
            total = np.zeros((values.shape[0], max(round(cols * params.scale), 1)))
            weight = np.zeros(total.shape[1])
        if values.shape[0] != total.shape[0]:
            raise FormatError(
                f"{path}: {values.shape[0]} rows but the first chunk has {total.shape[0]}; "
                "predictions of one picture have one height"
            )
        end = start + values.shape[1]
        if cols and end > total.shape[1]:
            end = total.shape[1]
            values = values[:, : max(end - start, 0)]
        elif end > total.shape[1]:
            total = np.pad(total, ((0, 0), (0, end - total.shape[1])))
            weight = np.pad(weight, (0, end - len(weight)))
        across = gaussian_weights(values.shape[1])
        total[:, start:end] += across * values
        weight[start:end] += across
    return _view(total / np.where(weight > 0, weight, 1.0), params)


def gaussian_weights(n: int) -> NDArray[np.float64]:
    """Return the weight of each column of a chunk.

    Parameters
    ----------
    n : int
        Columns.

    Returns
    -------
    ndarray of float64, shape (n,)
        1 in the middle, falling to 0.05 at the edges, symmetric.
    """
    at = (np.arange(n) + 0.5) / max(n, 1) * 2 - 1
    return np.asarray(np.exp(np.log(_BORDER_WEIGHT) * at**2))


def _first_col(path: Path) -> int:
    for name in (path.stem, path.parent.name):
        match = _PLACE.search(name)
        if match:
            return int(match.group(1))
    raise ParamsError(
        f"{path}: neither its name nor its folder's ends in the chunk's first column; "
        "rename it, e.g. trace_10000.npy"
    )


def read_prediction(path: Path) -> NDArray[np.float64]:
    """Return a prediction as values from 0 to 1.

    Parameters
    ----------
    path : Path
        npy, png, jpg or tif.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Integers divided by the largest value of their type, floats as they are.

    Raises
    ------
    FormatError
        If it is no picture or holds values that are not finite.
    """
    pixels = np.squeeze(read_picture(path))
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise FormatError(f"{path}: shape {pixels.shape} is not a picture")
    values = pixels.astype(np.float64)
    if pixels.dtype.kind in "ui":
        values /= np.iinfo(pixels.dtype).max
    if not np.isfinite(values).all():
        raise FormatError(f"{path}: holds values that are not finite")
    return values


def to_grey(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values from 0 to 1 as 8-bit grey.

    Parameters
    ----------
    picture : ndarray of float32
        Clipped to 0 to 1.

    Returns
    -------
    ndarray of uint8
        Rounded half up.
    """
    shades = np.floor(np.clip(picture, 0.0, 1.0) * 255.0 + 0.5)
    return np.asarray(shades, dtype=np.uint8)


def _view(picture: NDArray[np.float64], params: StitchParams) -> NDArray[np.float32]:
    if params.flip in ("vertical", "both"):
        picture = picture[::-1]
    if params.flip in ("horizontal", "both"):
        picture = picture[:, ::-1]
    if params.average > 1:
        from scipy.ndimage import uniform_filter

        picture = uniform_filter(picture, params.average, mode="nearest")
    if params.boost != 1.0:
        picture = np.clip(picture * params.boost, 0.0, 1.0)
    return np.ascontiguousarray(picture, dtype=np.float32)
