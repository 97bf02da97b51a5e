"""Where the windows of a network lie: at the same places however a volume is cut into blocks.

A network sees a window of a fixed shape, its patch. nnU-Net spreads windows evenly over an image,
at most a share of the patch apart, and averages their overlaps with Gaussian weights. If every
block were such an image, the windows of two blocks would lie differently and the prediction would
change at the border. Here the positions are those of the *whole volume*, and a block is predicted
from all windows that reach into it. Each voxel gets the same windows in the same order::

    volume   |------------------------------------------|
    windows  [0......)   [2......)   [4......)   [6......)
                   [1......)   [3......)   [5......)
    block                |============|        needs 1 2 3 4

Blocks end where windows start, so that no more windows than needed are computed twice.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, int, int]


def window_starts(extent: int, patch: int, step: float) -> tuple[int, ...]:
    """Return where windows start along one axis, as nnU-Net spreads them.

    Parameters
    ----------
    extent : int
        Voxels of the volume along the axis.
    patch : int
        Voxels of a window along the axis.
    step : float
        Largest distance of two windows as a share of the patch, above 0 and at most 1.

    Returns
    -------
    tuple of int
        Ascending. One negative or zero start where the volume is smaller than the patch: it is
        padded on both sides.
    """
    if extent <= patch:
        return (-((patch - extent) // 2),)
    count = math.ceil((extent - patch) / max(1.0, patch * step)) + 1  # a slice: every one, once
    actual = (extent - patch) / (count - 1)
    return tuple(int(np.round(actual * i)) for i in range(count))


def split_axis(starts: Sequence[int], extent: int, edge: int) -> tuple[int, ...]:
    """Return borders of blocks along one axis that lie where windows start.

    Parameters
    ----------
    starts : sequence of int
        Starts of the windows.
    extent : int
        Voxels of the volume along the axis.
    edge : int
        Wanted edge of a block in voxels; met to half a window step where the step allows it.

    Returns
    -------
    tuple of int
        Ascending, from 0 to the extent.
    """
    borders = [0]
    for here, following in itertools.pairwise([*(s for s in starts if 0 < s < extent), extent]):
        if following - borders[-1] > edge and here > borders[-1]:
            borders.append(here)
    return (*borders, extent)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGrid:
    """The windows of a network over a volume.

    Attributes
    ----------
    shape_zyx : tuple of int
        Shape of the volume.
    patch_zyx : tuple of int
        Shape of a window.
    starts : tuple of tuple of int
        Starts along z, y and x; every combination is a window.
    """

    shape_zyx: Index
    patch_zyx: Index
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, shape_zyx: Index, patch_zyx: Index, step: float) -> Self:
        """Return the windows over a volume.

        Parameters
        ----------
        shape_zyx : tuple of int
            Shape of the volume.
        patch_zyx : tuple of int
            Shape of a window.
        step : float
            Largest distance of two windows as a share of the patch.

        Returns
        -------
        WindowGrid
            They cover the volume.
        """
        z, y, x = (
            window_starts(n, patch, step) for n, patch in zip(shape_zyx, patch_zyx, strict=True)
        )
        return cls(shape_zyx=shape_zyx, patch_zyx=patch_zyx, starts=(z, y, x))

    def touching(self, start_zyx: Index, stop_zyx: Index) -> list[Index]:
        """Return the starts of the windows that reach into a box, in C order.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Box, not empty.

        Returns
        -------
        list of tuple of int
            At least one.
        """
        z, y, x = (
            [s for s in starts if s < b and s + patch > a]
            for starts, patch, a, b in zip(
                self.starts, self.patch_zyx, start_zyx, stop_zyx, strict=True
            )
        )
        return list(itertools.product(z, y, x))

    def bounds(self, windows: Sequence[Index]) -> tuple[Index, Index]:
        """Return the box around windows.

        Parameters
        ----------
        windows : sequence of tuple of int
            Their starts; at least one.

        Returns
        -------
        tuple of tuple of int
            Start and stop; they may lie outside of a volume smaller than the patch.
        """
        low, high = np.min(windows, axis=0), np.max(windows, axis=0) + self.patch_zyx
        return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def gaussian_window(patch: Sequence[int], floor: float = 1e-4) -> NDArray[np.float32]:
    """Return the weights of a window: a Gaussian of an eighth of its extent, 1 in the middle.

    Parameters
    ----------
    patch : sequence of int
        Extents.
    floor : float
        Least weight along an axis, so that no voxel is lost.

    Returns
    -------
    ndarray of float32, shape patch
        Positive.
    """
    out = np.ones((), np.float64)
    for extent in patch:
        offsets = np.arange(extent) - 0.5 * (extent - 1)
        weights = np.exp(-0.5 * (offsets / max(0.5, extent / 8)) ** 2)
        out = out[..., None] * np.maximum(weights, floor)
    return out.astype(np.float32)
