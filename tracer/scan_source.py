"""What a volume can be made from: tif stacks, 3-D tifs, NRRD, npy, Zarr, folders of blocks.

Every source answers for any box inside its shape and decodes little more than the box, so that a
source of any size is read in bounded memory. Everything that can be checked without decoding all
of the data is checked when a source is opened, before anything is written.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, TracerWarning, VolumeError
from tracer.scan_files import files_digest
from tracer.storage import open_storage
from tracer.tif_stack import TifPages
from tracer.volume import Volume, describe_missing_volume, spread_keys
from tracer.zarr_array import ZarrArray
from tracer.zarr_metadata import read_attributes

Zyx = tuple[int, int, int]


class Source(Protocol):
    """A scan to convert.

    Attributes
    ----------
    kind : str
        What it is, for people.
    where : str
        Path or URL, for messages.
    shape_zyx : tuple of int
        Voxels.
    dtype : dtype
        Of the voxels, native byte order.
    origin_zyx : tuple of int
        Where its first voxel lies in the volume that it was cut from.
    voxel_size_um : float or None
        If the source itself says so.
    """

    kind: str
    where: str
    shape_zyx: Zyx
    dtype: np.dtype[Any]
    origin_zyx: Zyx
    voxel_size_um: float | None

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return a box inside of the source."""

    def is_empty(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> bool:
        """Return whether a box is known to hold nothing."""

    def facts(self) -> Mapping[str, Any]:
        """Return what identifies the source, in order to notice that it has changed."""

    def close(self) -> None:
        """Close the files."""


class TifStackSource:
    """A folder of 2-D tifs, one per slice, or one tif with a page per slice.

    Parameters
    ----------
    paths : sequence of Path
        Files in the order of slices.
    where : str
        What was given.

    Raises
    ------
    FormatError
        If a file is damaged or of another shape or type than the first.
    """

    origin_zyx = (0, 0, 0)
    voxel_size_um: float | None = None

    def __init__(self, paths: Sequence[Path], where: str) -> None:
        self.where = where
        self._paths = list(paths)
        self._is_single = len(self._paths) == 1 and Path(where).is_file()
        self.kind = "3-D tif" if self._is_single else f"stack of {len(self._paths)} tifs"
        self._open_pages = TifPages(self._paths[0])
        try:
            self._inspect()
        except FormatError:
            self.close()
            raise

    def _inspect(self) -> None:
        """Check every file without decoding it."""
        first = self._open_pages
        rows, cols = first.layout.shape
        self.dtype = first.layout.dtype
        self.shape_zyx = (first.n_pages if self._is_single else len(self._paths), rows, cols)
        if self._is_single and first.n_pages == 1:
            raise FormatError(
                f"{self.where}: holds a single slice; for a stack of 2-D tifs give their folder"
            )
        for path in () if self._is_single else self._paths:
            with contextlib.closing(TifPages(path)) as pages:
                if pages.n_pages != 1:
                    raise FormatError(
                        f"{path}: has {pages.n_pages} pages; a stack has one slice per file. For "
                        "overlapping 3-D blocks name each file by its origin, z_y_x.tif"
                    )
                if pages.layout != first.layout:
                    raise FormatError(
                        f"{path}: is {pages.layout}, but {self._paths[0].name} is {first.layout}; "
                        "remove or re-export the odd one, slices of a stack have to agree"
                    )

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return a box.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        ndarray
            Its voxels.
        """
        shape = [b - a for a, b in zip(start_zyx, stop_zyx, strict=True)]
        out = np.empty(shape, self.dtype)
        for z in range(start_zyx[0], stop_zyx[0]):
            page = z
            if not self._is_single:
                page = 0
                if self._open_pages.path != self._paths[z]:
                    self._open_pages.close()
                    self._open_pages = TifPages(self._paths[z])
            rows = self._open_pages.read_rows(page, start_zyx[1], stop_zyx[1])
            out[z - start_zyx[0]] = rows[:, start_zyx[2] : stop_zyx[2]]
        return out

    def is_empty(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> bool:
        """Return False: every slice has to be looked at.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        bool
            Always False.
        """
        return False

    def facts(self) -> Mapping[str, Any]:
        """Return what identifies the source.

        Returns
        -------
        dict
            Digest of names, sizes and times of the files.
        """
        return {"input": files_digest(self._paths)}

    def close(self) -> None:
        """Close the file that was read last."""
        self._open_pages.close()


class ArraySource:
    """An array in memory or mapped from a file.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        Voxels.
    kind : str
        What it is.
    path : Path
        Where it is from.

    Raises
    ------
    FormatError
        If it is not 3-D, or not numbers.
    """

    origin_zyx = (0, 0, 0)
    voxel_size_um: float | None = None

    def __init__(self, array: NDArray[Any], kind: str, path: Path) -> None:
        self.kind = kind
        self.where = str(path)
        self._path = path
        if array.ndim != 3 or 0 in array.shape:
            raise FormatError(f"{path}: has shape {array.shape}; a volume has axes z, y, x")
        if array.dtype.kind not in "uifb":
            raise FormatError(f"{path}: holds {array.dtype}, which are not grey values")
        self._array = array
        self.shape_zyx = (array.shape[0], array.shape[1], array.shape[2])
        self.dtype = array.dtype.newbyteorder("=")

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return a box.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        ndarray
            Its voxels.
        """
        box = tuple(slice(a, b) for a, b in zip(start_zyx, stop_zyx, strict=True))
        return np.ascontiguousarray(self._array[box], dtype=self.dtype)

    def is_empty(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> bool:
        """Return False: the voxels have to be looked at.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        bool
            Always False.
        """
        return False

    def facts(self) -> Mapping[str, Any]:
        """Return what identifies the source.

        Returns
        -------
        dict
            Digest of name, size and time of the file.
        """
        return {"input": files_digest([self._path])}

    def close(self) -> None:
        """Let go of the array, and of the file that it may be mapped from."""
        self._array = np.zeros((0, 0, 0), self.dtype)


class ZarrSource:
    """A 3-D Zarr array of any type, or level 0 of a volume.

    Parameters
    ----------
    location : str
        Path or URL of the array or group.

    Raises
    ------
    VolumeError
        If there is no usable array.
    """

    origin_zyx = (0, 0, 0)

    def __init__(self, location: str) -> None:
        storage = open_storage(location)
        if read_attributes(storage) is None:
            raise describe_missing_volume(storage)
        array = ZarrArray.open(storage, "") or ZarrArray.open(storage, "0")
        if array is None:
            raise VolumeError(f"{storage.root}/0: missing; give the path of the array itself")
        if len(array.shape) != 3 or 0 in array.shape:
            raise VolumeError(f"{array.where}: has shape {array.shape}; a volume has axes z, y, x")
        self._array = array
        self.where = array.where
        self.kind = f"zarr v{array.metadata.zarr_format} array"
        self.shape_zyx = (array.shape[0], array.shape[1], array.shape[2])
        self.dtype = array.dtype
        self.voxel_size_um = _voxel_size_of_volume(location)

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return a box.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        ndarray
            Its voxels.
        """
        return self._array.read(start_zyx, stop_zyx)

    def is_empty(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> bool:
        """Return False: missing chunks cost next to nothing to read.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        bool
            Always False.
        """
        return False

    def facts(self) -> Mapping[str, Any]:
        """Return what identifies the source.

        Returns
        -------
        dict
            Digest of its metadata and of the sizes of up to 256 stored objects.
        """
        storage, metadata = self._array.storage, self._array.metadata
        sizes = storage.sizes(spread_keys(metadata, 256))
        return {"input": hashlib.sha256(metadata.raw + json.dumps(sizes).encode()).hexdigest()}

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _voxel_size_of_volume(location: str) -> float | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)
            return Volume.open(location).voxel_size_um
    except VolumeError:
        return None
