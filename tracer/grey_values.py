"""Mapping grey values of any type to those of a volume, uint8 or uint16.

uint16 becomes uint8 by v / 257, rounded: 0 stays 0 and 65535 becomes 255. uint8 becomes uint16 by
v * 257, and the way back is the identity. Other types have no natural range: a window [low, high]
is mapped to the range of the output, values outside are clipped and counted, NaN becomes 0. Labels
are kept as they are; one that does not fit is an error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import ParamsError

_8_FROM_16 = 257  # 65535 / 255

Mapping = Callable[[NDArray[Any]], tuple[NDArray[Any], int]]


def value_mapping(
    found: np.dtype[Any],
    wanted: np.dtype[Any],
    *,
    keep: bool = False,
    window: tuple[float, float] | None = None,
    where: str = "input",
) -> Mapping:
    """Return the function that maps voxels of one type to another.

    Parameters
    ----------
    found : dtype
        Of the source, native byte order.
    wanted : dtype
        uint8 or uint16.
    keep : bool
        Copy values instead of mapping the range.
    window : tuple of float, optional
        Values that become 0 and the largest.
    where : str
        The source, for messages.

    Returns
    -------
    callable
        Takes an array and returns the mapped one and the number of clipped voxels. It raises
        ParamsError for a value that is to be kept and does not fit.

    Raises
    ------
    ParamsError
        If the range of the source is unknown and there is no window.
    """
    if window is not None:
        low, high = window
        return lambda voxels: _apply_window(voxels, low, high, wanted)
    if found == wanted:
        return lambda voxels: (voxels, 0)
    if keep:
        return lambda voxels: (_keep(voxels, wanted, where), 0)
    if found == np.bool_:
        largest = np.iinfo(wanted).max
        return lambda voxels: (voxels.astype(wanted) * wanted.type(largest), 0)
    if (found, wanted) == (np.dtype(np.uint16), np.dtype(np.uint8)):
        table = ((np.arange(65536) + _8_FROM_16 // 2) // _8_FROM_16).astype(np.uint8)
        return lambda voxels: (table[voxels], 0)
    if (found, wanted) == (np.dtype(np.uint8), np.dtype(np.uint16)):
        return lambda voxels: (voxels.astype(np.uint16) * np.uint16(_8_FROM_16), 0)
    raise ParamsError(
        f"{where}: is {found}, whose range is not known; give --window-min and --window-max, or "
        "--convert keep for labels"
    )


def _apply_window(
    voxels: NDArray[Any], low: float, high: float, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    largest = float(np.iinfo(dtype).max)
    values = voxels.astype(np.float64)
    n_clipped = int(np.count_nonzero((values < low) | (values > high)))
    values -= low
    values *= largest / (high - low)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=largest, neginf=0.0)
    np.clip(values, 0.0, largest, out=values)
    values += 0.5
    return values.astype(dtype), n_clipped


def _keep(voxels: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    kept = np.zeros(voxels.shape, dtype)
    with np.errstate(invalid="ignore"):
        kept[...] = voxels.astype(dtype)
    wrong = kept != voxels
    if wrong.any():
        raise ParamsError(
            f"{where}: value {voxels[wrong][0]} does not fit {dtype}; use --dtype uint16, or "
            "--convert scale"
        )
    return kept
