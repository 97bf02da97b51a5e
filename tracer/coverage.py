"""How much of a prediction the patches of a collection cover, measured on a fixed sample.

Counting every sheet voxel of a scroll would read hundreds of gigabytes; a sample of some thousand
voxels gives the fraction to a percent. It is drawn once per run from (rng_seed, chunk), so that it
does not depend on anything else, and only its uncovered points are looked at again.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tracer.spatial_index import SpatialIndex
    from tracer.volume import Volume

COVERED_WITHIN = 2.0  # voxels between a sheet voxel and the patch that covers it
_CHUNKS = 128  # chunks that the sample is drawn from
_POINTS = 8192  # sample points in all
_REGIONS = 4  # regions along each axis in the report


@dataclass(slots=True, eq=False)
class CoverageSample:
    """Sheet voxels of a prediction, and which of them are covered.

    Attributes
    ----------
    points_xyz : ndarray of float64, shape (n, 3)
        Sheet voxels with sheet on all six sides where there are any, so that the rim of a thick
        band does not count as uncovered.
    weights : ndarray of float64, shape (n,)
        Share of the prediction that each stands for; they add up to 1.
    covered : ndarray of bool, shape (n,)
        Whether a patch passes within two voxels.
    shape_zyx : tuple of int
        Shape of the volume.
    """

    points_xyz: NDArray[np.float64]
    weights: NDArray[np.float64]
    covered: NDArray[np.bool_]
    shape_zyx: tuple[int, int, int]

    @classmethod
    def draw(cls, volume: "Volume", threshold: int, rng_seed: int) -> "CoverageSample":
        """Return a fresh sample with nothing covered.

        Parameters
        ----------
        volume : Volume
            Surface prediction.
        threshold : int
            Voxels of at least this value are sheet.
        rng_seed : int
            Seed of the sample.

        Returns
        -------
        CoverageSample
            Empty where the prediction is empty.
        """
        chunk = np.array(volume.chunk_shape_zyx(0))
        grid = -(-np.array(volume.shape_zyx) // chunk)
        order = np.random.default_rng([rng_seed, 0xC0]).permutation(int(grid.prod()))
        points, counts = [], []
        for flat in order:
            index = np.array(np.unravel_index(int(flat), grid))
            if not volume.chunk_exists(0, tuple(int(i) for i in index)):
                continue
            found = _inner_voxels(volume, threshold, index * chunk, (index + 1) * chunk)
            if len(found):
                rng = np.random.default_rng([rng_seed, 0xC1, int(flat)])
                most = min(len(found), _POINTS // _CHUNKS)
                points.append(found[rng.choice(len(found), most, replace=False)])
                counts.append(len(found))
            if len(points) == _CHUNKS:
                break
        if not points:
            return cls(np.zeros((0, 3)), np.zeros(0), np.zeros(0, bool), volume.shape_zyx)
        weights = np.concatenate(
            [np.full(len(p), n / len(p)) for p, n in zip(points, counts, strict=True)]
        )
        sample = np.concatenate(points)[:, ::-1].astype(np.float64)
        return cls(sample, weights / weights.sum(), np.zeros(len(sample), bool), volume.shape_zyx)

    def update(self, index: "SpatialIndex") -> None:
        """Mark the points that patches pass near.

        Parameters
        ----------
        index : SpatialIndex
            New patches, or all of them.
        """
        open_points = np.flatnonzero(~self.covered)
        hits = index.query(self.points_xyz[open_points], COVERED_WITHIN)
        self.covered[open_points[np.diff(hits.offsets) > 0]] = True

    @property
    def fraction(self) -> float:
        """Return the covered share of the prediction.

        Returns
        -------
        float
            0 to 1.
        """
        return float(self.weights[self.covered].sum())

    def by_region(self) -> dict[str, float]:
        """Return the covered share along z, in equal slabs.

        Returns
        -------
        dict of str to float
            ``"z 0-127"`` to fraction; slabs without prediction are left out.
        """
        edges = np.linspace(0, self.shape_zyx[0], _REGIONS + 1).astype(int)
        shares = {}
        for low, high in itertools.pairwise(edges):
            inside = (self.points_xyz[:, 2] >= low) & (self.points_xyz[:, 2] < high)
            total = self.weights[inside].sum()
            if total > 0:
                covered = self.weights[inside & self.covered].sum()
                shares[f"z {low}-{high - 1}"] = float(covered / total)
        return shares


def _inner_voxels(
    volume: "Volume", threshold: int, start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sheet voxels of a box with sheet on all six sides, z, y, x."""
    box = volume.read(0, tuple((start - 1).tolist()), tuple((stop + 1).tolist())) >= threshold
    inner = box[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            window = [slice(1, -1)] * 3
            window[axis] = side
            inner &= box[tuple(window)]
    chosen = inner if inner.any() else box[1:-1, 1:-1, 1:-1]
    return np.argwhere(chosen) + start
