"""Which patches pass through one point, or through both of two."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tracer.collection import PatchCollection
from tracer.errors import CollectionError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FoundPatch:
    """Where a patch passes the points.

    Attributes
    ----------
    name : str
        Name of the patch.
    places : tuple of (float, float, float)
        For each point the fractional row, the fractional column and the distance in voxels.
    """

    name: str
    places: tuple[tuple[float, float, float], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FindResult:
    """Patches through all of the points.

    Attributes
    ----------
    patches : tuple of FoundPatch
        Nearest first, by the largest of a patch's distances.
    through : tuple of int
        Number of patches through each point alone.
    n_patches : int
        Patches looked at.
    """

    patches: tuple[FoundPatch, ...]
    through: tuple[int, ...]
    n_patches: int

    def summary(self) -> str:
        """Return the result in words.

        Returns
        -------
        str
            One line per patch and one for the counts.
        """
        lines = [
            "  ".join(
                [p.name, *(f"row {r:.2f} col {c:.2f} distance {d:.2f}" for r, c, d in p.places)]
            )
            for p in self.patches
        ]
        each = " and ".join(str(n) for n in self.through)
        both = f"; {len(self.patches)} through both" if len(self.through) > 1 else ""
        lines.append(f"{each} of {self.n_patches} patches through the point{both}")
        return "\n".join(lines)


def find_patches(
    collection: PatchCollection, points_xyz: ArrayLike | Sequence[float], *, tolerance: float = 2.0
) -> FindResult:
    """Return the patches that pass through all of the points.

    Parameters
    ----------
    collection : PatchCollection
        Where to look.
    points_xyz : array_like of float, shape (n, 3)
        Points in voxels.
    tolerance : float
        Largest distance in voxels, inclusive.

    Returns
    -------
    FindResult
        Exact, see :mod:`tracer.spatial_index`.

    Raises
    ------
    CollectionError
        If there is no point or it is not finite.
    """
    points = np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise CollectionError(f"points are {points.tolist()}; give x y z in voxels, all finite")
    index = collection.index()
    hits = index.query(points, tolerance)
    places: dict[int, list[tuple[float, float, float]]] = {}
    for patch, row, col, distance in zip(
        hits.patch_index.tolist(),
        hits.rows.tolist(),
        hits.cols.tolist(),
        hits.distances.tolist(),
        strict=True,
    ):
        places.setdefault(patch, []).append((row, col, distance))
    found = [
        FoundPatch(name=index.names[patch], places=tuple(at))
        for patch, at in places.items()
        if len(at) == len(points)
    ]
    found.sort(key=lambda p: (max(distance for _, _, distance in p.places), p.name))
    return FindResult(
        patches=tuple(found),
        through=tuple(int(n) for n in np.diff(hits.offsets)),
        n_patches=len(index),
    )
