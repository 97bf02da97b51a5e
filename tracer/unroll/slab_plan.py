"""Which slabs along z a collection is solved in, so that each fits into memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_OVERLAP = 8.0  # steps that neighbouring slabs share
_BINS = 4  # of an overlap, in which vertices are counted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extents:
    """How high patches reach and how many vertices they have, from their metadata.

    Attributes
    ----------
    directories : tuple of Path
        The patches.
    z : ndarray of float64, shape (n, 2)
        Lowest and highest z, voxels.
    vertices : ndarray of float64, shape (n,)
        About as many.
    step : float
        Median distance of neighbouring vertices, voxels.
    """

    directories: tuple[Path, ...]
    z: NDArray[np.float64]
    vertices: NDArray[np.float64]
    step: float

    @classmethod
    def read(cls, directories: Sequence[Path]) -> "Extents":
        """Return the extents of some patches; those without usable metadata are loaded.

        Parameters
        ----------
        directories : sequence of Path
            Surface directories.

        Returns
        -------
        Extents
            Unreadable patches have no vertices.
        """
        found = [_extent(directory) for directory in directories]
        steps = [step for _, _, n, step in found if n > 0]
        return cls(
            directories=tuple(directories),
            z=np.array([[low, high] for low, high, _, _ in found], np.float64).reshape(-1, 2),
            vertices=np.array([n for _, _, n, _ in found], np.float64),
            step=float(np.median(steps)) if steps else 1.0,
        )

    def within(self, low: float, high: float) -> list[int]:
        """Return the patches that reach into a slab.

        Parameters
        ----------
        low, high : float
            Its ends, voxels.

        Returns
        -------
        list of int
            Their numbers.
        """
        inside = (self.z[:, 1] >= low) & (self.z[:, 0] <= high) & (self.vertices > 0)
        return [int(index) for index in np.flatnonzero(inside)]


def _extent(directory: Path) -> tuple[float, float, float, float]:
    """Return lowest z, highest z, vertices and step of a patch."""
    from tracer.errors import TracerError
    from tracer.surface import Surface

    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        (_, _, low), (_, _, high) = meta["bbox"]
        scale = float(meta["scale"][0]) * float(meta["scale"][1])
        n = float(meta["area_vx2"]) * scale
        return float(low), float(high), n, float(scale**-0.5)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        pass
    try:
        surface = Surface.load(directory, channels=())
    except TracerError:  # load_patches says so, where it belongs
        return 0.0, 0.0, 0.0, 1.0
    z = surface.points_xyz[surface.valid][:, 2]
    if not len(z):
        return 0.0, 0.0, 0.0, 1.0
    return float(z.min()), float(z.max()), float(len(z)), surface.step


def plan_slabs(extents: Extents, most_vertices: float) -> list[tuple[float, float]]:
    """Return the slabs in which a collection is solved.

    Parameters
    ----------
    extents : Extents
        The patches.
    most_vertices : float
        Of one slab; a slab is at least twice as high as an overlap, however many that holds.

    Returns
    -------
    list of tuple of float
        Lowest and highest z of each, from the lowest up; one where all fits at once.
    """
    used = extents.vertices > 0
    if extents.vertices.sum() <= most_vertices or not used.any():
        return [(-np.inf, np.inf)]
    overlap = _OVERLAP * extents.step
    bin_height = overlap / _BINS
    bottom = float(extents.z[used, 0].min())
    n_bins = max(1, int(np.ceil((extents.z[used, 1].max() - bottom) / bin_height)))
    first = ((extents.z[used, 0] - bottom) / bin_height).astype(int)
    last = np.minimum(((extents.z[used, 1] - bottom) / bin_height).astype(int), n_bins - 1)
    share = extents.vertices[used] / (last - first + 1)
    edges = np.zeros(n_bins + 1)
    np.add.at(edges, first, share)
    np.add.at(edges, last + 1, -share)
    counts = np.cumsum(np.cumsum(edges)[:n_bins])
    slabs, begin = [], 0
    while True:
        before = counts[begin - 1] if begin else 0.0
        end = int(np.searchsorted(counts, before + most_vertices, side="right"))
        end = max(end, begin + 2 * _BINS)
        if end >= n_bins:
            slabs.append((bottom + begin * bin_height, np.inf))
            break
        slabs.append((bottom + begin * bin_height, bottom + end * bin_height))
        begin = end - _BINS
    slabs[0] = (-np.inf, slabs[0][1])
    return slabs
