"""Volumes of directions that a mesh should follow: fibres along its columns or rows, or normals.

A group holds arrays ``x``, ``y`` and ``z`` of uint8, axes z, y, x, in which 128 is zero and a
component is ``(value - 128) / 127``. Voxel i covers the level-0 voxels ``i * scale`` to
``(i + 1) * scale - 1``. A direction has no sign: neighbouring voxels may point either way, so they
are turned to the same side before they are blended. Where all three values are 0 (nothing stored,
or beyond the volume) or the blend is too short to have a direction, none is known.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import VolumeError
from tracer.kernels.axis_guides import HORIZONTAL, NORMAL, VERTICAL, AxisGuides
from tracer.kernels.placement import ON_SHEET
from tracer.storage import open_storage
from tracer.zarr_array import ZarrArray
from tracer.zarr_metadata import read_array_metadata

if TYPE_CHECKING:
    from tracer.growing_grid import GrowingGrid
    from tracer.seed_params import DirectionField

KINDS = {"horizontal": HORIZONTAL, "vertical": VERTICAL, "normal": NORMAL}
_COMPONENTS = ("x", "y", "z")
_ZERO = 128.0
_UNIT = 127.0
_SHORTEST = 0.1  # of a unit vector: shorter blends are noise
_BLOCK = 32  # voxels: points are looked up block by block, which bounds what is read at a time
_CACHE_BYTES = 32 * 2**20  # of decoded chunks, for each of the three arrays


class DirectionVolume:
    """One volume of directions.

    Parameters
    ----------
    zarr : str
        Path or URL of the group.
    scale : int
        Level-0 voxels per voxel.

    Raises
    ------
    VolumeError
        If an array is missing, is not uint8 with three axes, or its shape differs from the others.
    """

    def __init__(self, zarr: str, scale: int = 1) -> None:
        storage = open_storage(zarr)
        self.scale = scale
        self._arrays: list[ZarrArray] = []
        for name in _COMPONENTS:
            metadata = read_array_metadata(storage, name)
            if metadata is None:
                raise VolumeError(
                    f"{zarr}: no array '{name}'; a direction field is a group of the arrays x, y "
                    "and z"
                )
            if metadata.dtype != np.uint8 or len(metadata.shape) != 3:
                raise VolumeError(
                    f"{zarr}/{name}: {len(metadata.shape)} axes of {metadata.dtype}; a direction "
                    "field has three axes of uint8, 128 being zero"
                )
            if self._arrays and metadata.shape != self._arrays[0].shape:
                raise VolumeError(
                    f"{zarr}/{name}: shape {metadata.shape} differs from {self._arrays[0].shape} "
                    "of x; the three components must agree"
                )
            self._arrays.append(ZarrArray(storage, metadata, cache_bytes=_CACHE_BYTES))

    def sample(self, points_xyz: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the unit axes at points.

        Parameters
        ----------
        points_xyz : ndarray of float64, shape (n, 3)
            Points in level-0 voxels.

        Returns
        -------
        ndarray of float32, shape (n, 3)
            x, y, z, of either sign; zeros where no direction is known.

        Raises
        ------
        VolumeError
            If a chunk is damaged or cannot be read.
        """
        position = ((points_xyz - 0.5 * (self.scale - 1)) / self.scale)[:, ::-1]
        first = np.floor(position).astype(np.int64)
        corners = np.zeros((len(position), 8, 3))
        blocks, member = np.unique(first // _BLOCK, axis=0, return_inverse=True)
        order = np.argsort(member.ravel(), kind="stable")
        bounds = np.searchsorted(member.ravel()[order], np.arange(len(blocks) + 1))
        for number, block in enumerate(blocks):
            rows = order[bounds[number] : bounds[number + 1]]
            corners[rows] = self._corners(block * _BLOCK, first[rows])
        fraction = position - first
        weights = np.stack(
            [
                np.where(np.array(corner) == 1, fraction, 1.0 - fraction).prod(axis=1)
                for corner in np.ndindex(2, 2, 2)
            ],
            axis=1,
        )
        return _blended(corners, weights)

    def _corners(self, start: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the vectors at the eight voxels around each of the points of a block."""
        stop = start + _BLOCK + 1
        raw = np.stack([array.read(list(start), list(stop)) for array in self._arrays], axis=-1)
        vectors = np.where((raw == 0).all(axis=-1, keepdims=True), 0.0, (raw - _ZERO) / _UNIT)
        z, y, x = (first - start).T
        return np.stack(
            [vectors[z + dz, y + dy, x + dx] for dz, dy, dx in np.ndindex(2, 2, 2)], axis=1
        )


def _blended(corners: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit means of vectors without sign, turned to the side of the heaviest."""
    weighted = corners * weights[..., None]
    lengths = (weighted**2).sum(axis=-1)
    heaviest = corners[np.arange(len(corners)), lengths.argmax(axis=1)]
    side = np.where((corners * heaviest[:, None, :]).sum(axis=-1) < 0.0, -1.0, 1.0)
    mean = (weighted * side[..., None]).sum(axis=1)
    length = np.linalg.norm(mean, axis=-1, keepdims=True)
    known = length > _SHORTEST
    return np.where(known, mean / np.where(known, length, 1.0), 0.0).astype(np.float32)


class DirectionGuides:
    """The direction fields of a stage, sampled at the vertices of a growing patch.

    Nothing is sampled while a vertex is placed: growth stops after each generation, the vertices
    that can still move are looked up where they are, and the next generation follows them.

    Parameters
    ----------
    fields : tuple of DirectionField
        As in the parameters.

    Raises
    ------
    VolumeError
        If a field cannot be opened.
    """

    def __init__(self, fields: "tuple[DirectionField, ...]") -> None:
        self._volumes = [DirectionVolume(field.zarr, field.scale) for field in fields]
        self.kinds = np.array([KINDS[field.dir] for field in fields], np.int64)
        self.weights = np.array([field.weight for field in fields], np.float64)

    def new_guides(self, shape: tuple[int, int]) -> AxisGuides:
        """Return guides for a grid that know no axis yet.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns.

        Returns
        -------
        AxisGuides
            For the placement; filled in by :meth:`update`.
        """
        axes = np.zeros((*shape, len(self._volumes), 3), np.float32)
        return AxisGuides(axes, self.kinds, self.weights)

    def update(self, grid: "GrowingGrid", guides: AxisGuides, oldest: int) -> None:
        """Look up the axes at the vertices of a patch where they are now.

        Parameters
        ----------
        grid : GrowingGrid
            The patch.
        guides : AxisGuides
            Of this grid; the axes change.
        oldest : int
            Vertices of an earlier generation keep theirs.

        Raises
        ------
        VolumeError
            If a field cannot be read.
        """
        row0, row1, col0, col1 = grid.box
        window = np.s_[row0 : row1 + 1, col0 : col1 + 1]
        patch = grid.patch
        chosen = (patch.state[window] >= ON_SHEET) & (patch.generation[window] >= oldest)
        points = patch.points[window][chosen]
        for number, volume in enumerate(self._volumes):
            guides.axes[window][..., number, :][chosen] = volume.sample(points)

    def axis_at(self, kind: int, point_xyz: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the axis of a kind at a point.

        Parameters
        ----------
        kind : int
            HORIZONTAL, VERTICAL or NORMAL.
        point_xyz : ndarray of float64, shape (3,)
            Point in voxels.

        Returns
        -------
        ndarray of float64, shape (3,), or None
            Unit axis of the first field of this kind, with a weight, that knows one.
        """
        for number, volume in enumerate(self._volumes):
            if self.kinds[number] == kind and self.weights[number] > 0.0:
                axis: NDArray[np.float64] = volume.sample(point_xyz[None])[0].astype(np.float64)
                if axis.any():
                    return axis
        return None


@lru_cache(maxsize=2)
def open_guides(fields: "tuple[DirectionField, ...]") -> DirectionGuides | None:
    """Return the direction fields of the parameters, opened once per process.

    Parameters
    ----------
    fields : tuple of DirectionField
        As in the parameters.

    Returns
    -------
    DirectionGuides or None
        None where there are none.

    Raises
    ------
    VolumeError
        If a field cannot be opened.
    """
    return DirectionGuides(fields) if fields else None
