"""A network over a volume: which windows a block needs, and what comes out of them.

What runs the network (nnU-Net, a TorchScript or an ONNX file) is a :class:`Network`; everything
about blocks, grey values, spacing and empty regions is here, once for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError
from tracer.predict.intensity import GreyFigures, GreyScale, Normalisation
from tracer.predict.window_grid import Index, WindowGrid, split_axis
from tracer.volume import Volume

SURE = 30.0  # log-odds; a probability of 1e-13, which is what "nothing there" is
_CUBIC_MARGIN = 16  # voxels after which a cubic spline has forgotten the border, to 1e-9


class Network(Protocol):
    """What runs a network on windows."""

    @property
    def name(self) -> str:
        """Return what to call it."""

    @property
    def patch_zyx(self) -> Index:
        """Return the shape of a window in voxels of the network."""

    @property
    def halo_zyx(self) -> Index:
        """Return the voxels it sees beyond a window on each side."""

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Return its voxels in voxels of the images that it was trained on."""

    @property
    def normalisation(self) -> Normalisation:
        """Return what it wants grey values to be."""

    def log_odds(
        self,
        data: NDArray[np.float32],
        windows: Sequence[Index],
        box: tuple[slice, slice, slice],
    ) -> NDArray[np.float32]:
        """Return the log-odds of sheet against background in a box.

        Parameters
        ----------
        data : ndarray of float32, shape (z, y, x)
            Normalised grey values.
        windows : sequence of tuple of int
            Starts of the windows to run, in `data`, in C order; at least one.
        box : tuple of slice
            Part of `data` that is wanted.

        Returns
        -------
        ndarray of float32, shape of the box
            NaN where no window lies.
        """

    def facts(self) -> dict[str, Any]:
        """Return what identifies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeNetwork:
    """A network over one level of a volume.

    Attributes
    ----------
    network : Network
        Runs the windows.
    volume : Volume
        CT.
    level : int
        Level that is predicted on.
    grid : WindowGrid
        Windows in voxels of the network.
    scale : GreyScale
        Mapping of grey values.
    """

    network: Network
    volume: Volume
    level: int
    grid: WindowGrid
    scale: GreyScale

    @classmethod
    def of(
        cls, network: Network, volume: Volume, level: int, step: float, figures: GreyFigures | None
    ) -> "VolumeNetwork":
        """Return a network over a level of a volume.

        Parameters
        ----------
        network : Network
            Runs the windows.
        volume : Volume
            CT.
        level : int
            Level that is predicted on.
        step : float
            Largest distance of two windows as a share of the patch.
        figures : GreyFigures or None
            Needed where the normalisation says so.

        Returns
        -------
        VolumeNetwork
            Ready to predict boxes.
        """
        fine = volume.level_shape_zyx(level)
        shape = [
            max(1, round(extent / spacing))
            for extent, spacing in zip(fine, network.spacing_zyx, strict=True)
        ]
        grid = WindowGrid.of((shape[0], shape[1], shape[2]), network.patch_zyx, step)
        scale = network.normalisation.fitted(volume.dtype, figures)
        return cls(network=network, volume=volume, level=level, grid=grid, scale=scale)

    @property
    def resampled(self) -> bool:
        """Return whether the network's voxels are not the volume's."""
        return self.grid.shape_zyx != self.volume.level_shape_zyx(self.level)

    def borders(self, edge: int) -> tuple[tuple[int, ...], ...]:
        """Return borders of blocks that lie where windows start.

        Parameters
        ----------
        edge : int
            Wanted edge in voxels.

        Returns
        -------
        tuple of tuple of int
            Along z, y and x, in voxels of the volume.
        """
        fine = self.volume.level_shape_zyx(self.level)
        return tuple(
            tuple(round(v * n / m) for v in split_axis(starts, m, max(1, round(edge * m / n))))
            for starts, n, m in zip(self.grid.starts, fine, self.grid.shape_zyx, strict=True)
        )

    def probability(
        self, start_zyx: Index, stop_zyx: Index, grid: WindowGrid | None = None
    ) -> NDArray[np.float32] | None:
        """Return the probability of sheet in a box.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Box inside the volume.
        grid : WindowGrid, optional
            Other windows, in voxels of the box: those of the box as an image of its own.

        Returns
        -------
        ndarray of float32, shape (z, y, x)
            0 to 1; None where every window is empty.
        """
        odds = (
            self._resampled_odds(start_zyx, stop_zyx)
            if self.resampled
            else self._odds(start_zyx, stop_zyx, grid)
        )
        if odds is None:
            return None
        out = np.clip(np.nan_to_num(odds, nan=-SURE), -SURE, SURE)
        np.negative(out, out=out)
        np.exp(out, out=out)
        out += 1.0
        np.reciprocal(out, out=out)
        return np.asarray(out, np.float32)

    def _odds(
        self, start: Index, stop: Index, grid: WindowGrid | None
    ) -> NDArray[np.float32] | None:
        """Return log-odds in a box of the volume, whose voxels are the network's."""
        origin: Index = (0, 0, 0)
        if grid is not None:
            origin, start, stop = start, (0, 0, 0), grid.shape_zyx
        windows_of = grid or self.grid
        windows = windows_of.touching(start, stop)
        low, high = windows_of.bounds(windows)
        low = _shifted(low, self.network.halo_zyx, -1)
        high = _shifted(high, self.network.halo_zyx, 1)
        inner = [
            (max(a, 0), min(b, n)) for a, b, n in zip(low, high, windows_of.shape_zyx, strict=True)
        ]
        grey = self.volume.read(
            self.level,
            [a + o for (a, _), o in zip(inner, origin, strict=True)],
            [b + o for (_, b), o in zip(inner, origin, strict=True)],
        )
        pads = [(a - lo, hi - b) for (a, b), lo, hi in zip(inner, low, high, strict=True)]
        return self._run(self.scale.apply(grey), grey != 0, pads, windows, low, start, stop)

    def _run(
        self,
        data: NDArray[np.float32],
        present: NDArray[np.bool_],
        pads: Sequence[tuple[int, int]],
        windows: Sequence[Index],
        low: Index,
        start: Index,
        stop: Index,
    ) -> NDArray[np.float32] | None:
        """Return log-odds of windows that hold anything; the rest of them is left out."""
        data, present = np.pad(data, pads), np.pad(present, pads)
        shifted = [_shifted(window, low, -1) for window in windows]
        full = [
            window
            for window in shifted
            if present[
                tuple(slice(a, a + n) for a, n in zip(window, self.grid.patch_zyx, strict=True))
            ].any()
        ]
        if not full:
            return None
        z, y, x = (slice(a - o, b - o) for a, b, o in zip(start, stop, low, strict=True))
        odds = self.network.log_odds(data, full, (z, y, x))
        self._refuse_nan(odds, full, (z, y, x))
        return odds

    def _refuse_nan(
        self, odds: NDArray[np.float32], windows: Sequence[Index], box: tuple[slice, slice, slice]
    ) -> None:
        """Refuse a network that returns NaN in its windows; outside of them NaN is nothing."""
        unknown = np.isnan(odds)
        if not unknown.any():
            return
        for window in windows:
            z, y, x = (
                slice(max(0, a - cut.start), max(0, a + n - cut.start))
                for a, n, cut in zip(window, self.grid.patch_zyx, box, strict=True)
            )
            if unknown[z, y, x].any():
                raise FormatError(
                    f"{self.network.name}: returns NaN instead of probabilities, as a network "
                    "does whose training diverged; look at its training log and train it anew"
                )

    def _resampled_odds(self, start: Index, stop: Index) -> NDArray[np.float32] | None:
        """Return log-odds in a box where the network's voxels are larger or smaller.

        nnU-Net brings images to its spacing by cubic and results back by linear interpolation,
        voxel i of n lying at (i + 0.5) m / n − 0.5 of m.
        """
        import scipy.ndimage as ndi

        fine = self.volume.level_shape_zyx(self.level)
        coarse = self.grid.shape_zyx
        ratios = [m / n for n, m in zip(fine, coarse, strict=True)]
        first, last = [], []
        for a, b, r, m in zip(start, stop, ratios, coarse, strict=True):
            first.append(min(m - 1, max(0, int(np.floor((a + 0.5) * r - 0.5)))))
            last.append(min(m, max(1, int(np.floor((b - 0.5) * r - 0.5)) + 2)))
        c_start, c_stop = (first[0], first[1], first[2]), (last[0], last[1], last[2])
        windows = self.grid.touching(c_start, c_stop)
        low, high = self.grid.bounds(windows)
        low = _shifted(low, self.network.halo_zyx, -1)
        high = _shifted(high, self.network.halo_zyx, 1)
        inner = _clipped(low, high, coarse)
        box = [
            (
                max(0, int(np.floor((a + 0.5) / r - 0.5)) - _CUBIC_MARGIN),
                min(n, int(np.ceil((b - 0.5) / r - 0.5)) + 1 + _CUBIC_MARGIN),
            )
            for (a, b), r, n in zip(inner, ratios, fine, strict=True)
        ]
        grey = self.volume.read(self.level, [a for a, _ in box], [b for _, b in box])
        offsets = [
            (a + 0.5) / r - 0.5 - lo for (a, _), (lo, _), r in zip(inner, box, ratios, strict=True)
        ]
        shape = tuple(b - a for a, b in inner)
        steps = [1.0 / r for r in ratios]
        data = ndi.affine_transform(
            self.scale.apply(grey), steps, offsets, shape, order=3, mode="nearest"
        )
        present = (
            ndi.affine_transform(
                (grey != 0).astype(np.float32), steps, offsets, shape, order=1, mode="nearest"
            )
            > 0
        )
        pads = [(a - lo, hi - b) for (a, b), lo, hi in zip(inner, low, high, strict=True)]
        odds = self._run(data, present, pads, windows, low, c_start, c_stop)
        if odds is None:
            return None
        back = [(a + 0.5) * r - 0.5 - c for a, r, c in zip(start, ratios, c_start, strict=True)]
        out = ndi.affine_transform(
            np.nan_to_num(odds, nan=-SURE),
            ratios,
            back,
            tuple(b - a for a, b in zip(start, stop, strict=True)),
            order=1,
            mode="nearest",
        )
        return np.asarray(out, np.float32)


def _clipped(low: Index, high: Index, shape: Index) -> list[tuple[int, int]]:
    return [(max(a, 0), min(b, n)) for a, b, n in zip(low, high, shape, strict=True)]


def _shifted(index: Index, by: Index, sign: int) -> Index:
    z, y, x = (a + sign * b for a, b in zip(index, by, strict=True))
    return z, y, x
