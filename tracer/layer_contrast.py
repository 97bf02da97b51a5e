"""Contrast for ink models: one function of the voxel value for every layer of a stack.

Percentiles stretch the values between two shades of the whole stack to the full range. CLAHE
equalises them locally on top, from the histogram of all layers around a place, so that it is the
same function at that place in every layer and in every chunk that is cut. 0 marks pixels without a
surface: they do not count and stay 0.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.layer_stack import LayerStack

_BINS = 256
_BAND = 128  # rows changed at a time: bounds the memory of the blend


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """What becomes of a voxel value.

    Attributes
    ----------
    low : float
        Value that becomes black.
    high : float
        Value that becomes white.
    white : int
        Largest value of the pixels.
    shape : tuple of int
        (rows, cols) of the layers.
    maps : ndarray of float32, shape (n, m, 257), or None
        For each neighbourhood of the layers the equalising map at the edges of 256 bins, 0 to 1;
        None without CLAHE.
    """

    low: float
    high: float
    white: int
    shape: tuple[int, int]
    maps: NDArray[np.float32] | None = None

    def apply(self, pixels: NDArray[Any], row: int = 0, col: int = 0) -> NDArray[Any]:
        """Return a window of a layer with its contrast changed.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (rows, cols)
            Window of any layer.
        row : int
            Its first row.
        col : int
            Its first column.

        Returns
        -------
        ndarray
            Same shape and dtype; 0 stays 0, nothing else becomes 0.
        """
        if self.maps is None and (self.low, self.high) == (0.0, float(self.white)):
            return pixels
        out = stretch_table(self.low, self.high, self.white)[pixels].astype(pixels.dtype)
        if self.maps is not None:
            for first in range(0, len(out), _BAND):
                band = out[first : first + _BAND]
                out[first : first + _BAND] = self._equalise(band, row + first, col)
        return np.asarray(np.where(pixels > 0, np.maximum(out, 1), 0), dtype=pixels.dtype)

    def _equalise(self, band: NDArray[Any], row: int, col: int) -> NDArray[Any]:
        """Return stretched pixels mapped by the four nearest neighbourhoods, blended."""
        maps = self.maps
        assert maps is not None
        place = (band.astype(np.float32) + 0.5) * (_BINS / (self.white + 1.0))
        level = place.astype(np.intp)
        part = place - level
        r0, r1, fr = _neighbours(row, band.shape[0], self.shape[0], maps.shape[0])
        c0, c1, fc = _neighbours(col, band.shape[1], self.shape[1], maps.shape[1])
        blended = np.zeros(band.shape, dtype=np.float32)
        for rows, row_weight in ((r0, 1 - fr), (r1, fr)):
            for cols, col_weight in ((c0, 1 - fc), (c1, fc)):
                at = maps[rows[:, None], cols, level]
                at += part * (maps[rows[:, None], cols, level + 1] - at)
                blended += row_weight[:, None] * col_weight * at
        return np.asarray(np.floor(blended * self.white + 0.5))


def _neighbours(
    first: int, n: int, size: int, tiles: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the two nearest neighbourhoods of each pixel on an axis, and the weight of the 2nd."""
    at = (first + np.arange(n) + 0.5) / size * tiles - 0.5
    low = np.clip(np.floor(at).astype(np.intp), 0, tiles - 1)
    high = np.minimum(low + 1, tiles - 1)
    return low, high, np.clip(at - low, 0, 1).astype(np.float32)


def stretch_table(low: float, high: float, white: int) -> NDArray[np.int64]:
    """Return what each value becomes when a range is stretched.

    Parameters
    ----------
    low : float
        Becomes 0.
    high : float
        Becomes `white`.
    white : int
        Largest value.

    Returns
    -------
    ndarray of int64, shape (white + 1,)
        Rounded half up.
    """
    values = (np.arange(white + 1, dtype=np.float64) - low) / (high - low) * white
    return np.floor(values.clip(0, white) + 0.5).astype(np.int64)


def percentile_range(
    stack: LayerStack, chosen: Sequence[int], low: float, high: float
) -> tuple[float, float]:
    """Return two percentiles of a whole stack.

    Parameters
    ----------
    stack : LayerStack
        Layers of 8 or 16 bits.
    chosen : sequence of int
        Positions of those that count.
    low : float
        Lower percentile.
    high : float
        Upper percentile.

    Returns
    -------
    tuple of float
        Two different values; pixels that are 0 do not count. The full range of an empty stack.
    """
    white = int(np.iinfo(stack.dtype).max)
    histogram = np.zeros(white + 1, dtype=np.int64)
    for layer in chosen:
        for band in stack.bands(layer):
            histogram += np.bincount(band.ravel(), minlength=white + 1)
    histogram[0] = 0
    cumulative = np.cumsum(histogram)
    if not cumulative[-1]:
        return 0.0, float(white)
    first, last = (
        float(np.searchsorted(cumulative, max(cumulative[-1] * share / 100.0, 1)))
        for share in (low, high)
    )
    return first, max(last, first + 1.0)


def local_maps(
    stack: LayerStack, chosen: Sequence[int], table: NDArray[np.int64], tile: int, limit: float
) -> NDArray[np.float32]:
    """Return the contrast-limited equalising map of each neighbourhood of a stack.

    Parameters
    ----------
    stack : LayerStack
        Layers of 8 or 16 bits.
    chosen : sequence of int
        Positions of those that count.
    table : ndarray of int64
        What each value becomes before it is counted.
    tile : int
        Edge of a neighbourhood in pixels, about.
    limit : float
        No shade counts more than this many times the mean; 1 is no contrast.

    Returns
    -------
    ndarray of float32, shape (n, m, 257)
        Ascending from 0 to 1.

    References
    ----------
    S. M. Pizer et al., Adaptive histogram equalization and its variations, Computer Vision,
    Graphics, and Image Processing 39 (1987), 355-368.
    """
    rows, cols = stack.shape
    n, m = max(1, round(rows / tile)), max(1, round(cols / tile))
    level_of = table * _BINS // len(table)
    row_edges = np.arange(n + 1) * rows // n
    col_tile = np.minimum(((np.arange(cols) + 0.5) / cols * m).astype(np.int64), m - 1)
    maps = np.empty((n, m, _BINS + 1), dtype=np.float32)
    for i in range(n):
        counts = np.zeros(m * _BINS)
        for layer in chosen:
            band = stack.read(layer, slice(row_edges[i], row_edges[i + 1]), slice(0, cols))
            cells = (col_tile * _BINS + level_of[band])[band > 0]
            counts += np.bincount(cells, minlength=m * _BINS)
        for j in range(m):
            maps[i, j] = limited_map(counts[j * _BINS : (j + 1) * _BINS], limit)
    return maps


def limited_map(counts: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Return the equalising map of a histogram whose peaks are cut off and spread.

    Parameters
    ----------
    counts : ndarray of float64, shape (bins,)
        Histogram.
    limit : float
        Peaks are cut at this many times the mean.

    Returns
    -------
    ndarray of float64, shape (bins + 1,)
        Share of the pixels below each edge of the bins; straight for an empty histogram.
    """
    total = counts.sum()
    if not total:
        return np.linspace(0.0, 1.0, len(counts) + 1)
    cut = np.minimum(counts, limit * total / len(counts))
    cut += (total - cut.sum()) / len(counts)
    return np.concatenate([[0.0], np.cumsum(cut) / total])
