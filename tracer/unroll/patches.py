"""All patches of a collection as flat arrays: what every step of the unrolling works on.

Vertices of all patches are numbered through, patch by patch, row by row. Sixty bytes or so per
vertex stay in memory; everything larger is made, used and dropped step by step.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import CollectionError, TracerError, TracerWarning

if TYPE_CHECKING:
    from tracer.surface import Surface

SOURCE = "tracer unroll"
APPROVED_WEIGHT = 4.0  # a person looked at the patch: it outvotes a few that nobody looked at


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """The vertices, edges and quads of many patches.

    Attributes
    ----------
    names : tuple of str
        Names of the patches.
    points_xyz : ndarray of float32, shape (n, 3)
        Valid vertices in voxels.
    grid : ndarray of int32, shape (n, 3)
        Patch, row and column of each vertex.
    edges : ndarray of int32, shape (e, 2)
        Neighbours on a grid: (row, col) first, then (row, col + 1) or (row + 1, col).
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11 of the cells whose corners are all valid.
    weights : ndarray of float32, shape (patches,)
        How much a patch counts.
    steps : ndarray of float32, shape (patches,)
        Nominal distance of neighbouring vertices, voxels.
    """

    names: tuple[str, ...]
    points_xyz: NDArray[np.float32]
    grid: NDArray[np.int32]
    edges: NDArray[np.int32]
    quads: NDArray[np.int32]
    weights: NDArray[np.float32]
    steps: NDArray[np.float32]

    @property
    def n_vertices(self) -> int:
        """Return the number of vertices.

        Returns
        -------
        int
            Over all patches.
        """
        return len(self.points_xyz)

    @property
    def step(self) -> float:
        """Return the usual distance of neighbouring vertices.

        Returns
        -------
        float
            Median over the patches, voxels.
        """
        return float(np.median(self.steps))

    @classmethod
    def from_surfaces(
        cls, surfaces: Sequence["Surface"], names: Sequence[str] | None = None
    ) -> "Patches":
        """Return the flat arrays of some surfaces.

        Parameters
        ----------
        surfaces : sequence of Surface
            Patches. Masked vertices are invalid already.
        names : sequence of str, optional
            Names; the surfaces' own where omitted.

        Returns
        -------
        Patches
            Surfaces without a valid vertex are kept as names without vertices.
        """
        points, grids, edges, quads = [], [], [], []
        first = 0
        for index, surface in enumerate(surfaces):
            valid = surface.valid
            number = np.full(valid.shape, -1, np.int32)
            n = int(valid.sum())
            number[valid] = np.arange(first, first + n, dtype=np.int32)
            rows, cols = np.nonzero(valid)
            points.append(surface.points_xyz[valid])
            grids.append(np.stack([np.full(n, index), rows, cols], axis=1).astype(np.int32))
            for low, high in (
                (number[:, :-1], number[:, 1:]),
                (number[:-1], number[1:]),
            ):
                pairs = np.stack([low.ravel(), high.ravel()], axis=1)
                edges.append(pairs[(pairs >= 0).all(axis=1)])
            corners = (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:])
            cells = np.stack([corner.ravel() for corner in corners], axis=1)
            quads.append(cells[(cells >= 0).all(axis=1)])
            first += n
        return cls(
            names=tuple(names if names is not None else [s.name for s in surfaces]),
            points_xyz=np.concatenate(points or [np.empty((0, 3), np.float32)]),
            grid=np.concatenate(grids or [np.empty((0, 3), np.int32)]),
            edges=np.concatenate(edges or [np.empty((0, 2), np.int32)]),
            quads=np.concatenate(quads or [np.empty((0, 4), np.int32)]),
            weights=np.array([patch_weight(s) for s in surfaces], np.float32),
            steps=np.array([s.step for s in surfaces], np.float32),
        )


def patch_weight(surface: "Surface") -> float:
    """Return how much a patch counts.

    Parameters
    ----------
    surface : Surface
        A patch with its metadata.

    Returns
    -------
    float
        1, or more where a person approved it.
    """
    tags = surface.meta.get("tags")
    return APPROVED_WEIGHT if isinstance(tags, dict) and "approved" in tags else 1.0


def is_defective(surface: "Surface") -> bool:
    """Return whether a person marked a patch as defective.

    Parameters
    ----------
    surface : Surface
        A patch with its metadata.

    Returns
    -------
    bool
        True if it must not count.
    """
    tags = surface.meta.get("tags")
    return isinstance(tags, dict) and "defective" in tags


def is_unrolled(surface: "Surface") -> bool:
    """Return whether a surface is itself the result of an unrolling.

    Parameters
    ----------
    surface : Surface
        A surface with its metadata.

    Returns
    -------
    bool
        True if it must not be counted as a further witness.
    """
    return surface.meta.get("source") == SOURCE


def patch_directories(paths: Path) -> list[Path]:
    """Return the finished surfaces in a collection.

    Parameters
    ----------
    paths : Path
        Folder of patches.

    Returns
    -------
    list of Path
        Directories with a ``meta.json``, sorted by name.

    Raises
    ------
    CollectionError
        If there is no such folder.
    """
    from tracer.collection import PatchCollection

    collection = PatchCollection.open(paths)
    return [collection.patch_path(name) for name in sorted(collection.names())]


def load_patches(
    directories: Iterable[Path], *, z_range: tuple[float, float] | None = None
) -> Patches:
    """Return the patches in some directories, without the defective and the unreadable ones.

    Parameters
    ----------
    directories : iterable of Path
        Surface directories.
    z_range : tuple of float, optional
        Lowest and highest z of the vertices that are wanted, voxels; all where omitted.

    Returns
    -------
    Patches
        In the order given; those without a vertex are left out.

    Raises
    ------
    CollectionError
        If there is not a single usable patch.

    Warns
    -----
    TracerWarning
        For every patch that cannot be read.
    """
    from tracer.surface import Surface

    surfaces, names = [], []
    for directory in directories:
        try:
            surface = Surface.load(directory, channels=())
        except TracerError as error:
            warnings.warn(f"left out: {error}", TracerWarning, stacklevel=2)
            continue
        if z_range is not None:
            surface = _between(surface, *z_range)
        if surface.valid.any() and not is_defective(surface) and not is_unrolled(surface):
            surfaces.append(surface)
            names.append(directory.name)
    if not surfaces:
        raise CollectionError(
            "the collection holds no usable patch (all are missing, empty or defective); "
            "grow some with `tracer seed`"
        )
    return Patches.from_surfaces(surfaces, names)


def _between(surface: "Surface", low: float, high: float) -> "Surface":
    """Return a surface without the vertices below and above a range of z."""
    z = surface.points_xyz[..., 2]
    return dataclasses.replace(surface, valid=surface.valid & (z >= low) & (z <= high))
