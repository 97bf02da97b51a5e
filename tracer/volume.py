"""A volume: the levels of an OME-Zarr, with its voxel size and its identity.

Axes are z, y, x. Level k is 2**k times coarser than level 0. Opening reads a few small JSON files
and imports no zarr; data is read when asked for, and lies anywhere that fsspec opens.

Law: ``read`` is defined for every box. Where the volume has no voxel the result is 0, so no caller
has to clip.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import TracerWarning, VolumeError
from tracer.storage import Storage, open_storage
from tracer.volpkg import find_volume
from tracer.volume_meta import VolumeMeta, listed_levels, read_meta
from tracer.zarr_array import ZarrArray
from tracer.zarr_metadata import ArrayMetadata, read_attributes

_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
_SIZES_HASHED = 256  # level-0 objects whose sizes go into the identity
_CONTENTS_HASHED = 8  # objects of the coarsest level whose bytes do
_CONTENT_BYTES = 2**22  # larger ones, which are shards, count by their size alone

Zyx = tuple[int, int, int]


class Volume:
    """An opened OME-Zarr volume. Make one with :meth:`open`.

    Parameters
    ----------
    storage : Storage
        Where it lies.
    levels : sequence of ZarrArray
        Finest first.
    meta : VolumeMeta
        Its ``meta.json``.
    has_multiscales : bool
        Whether NGFF metadata described the levels.

    Attributes
    ----------
    path : str
        Absolute path, or URL.
    meta : VolumeMeta
        Its ``meta.json``.
    has_multiscales : bool
        Whether NGFF metadata described the levels.

    Notes
    -----
    Reading is safe from several threads. A volume can be pickled; a worker gets its own caches.
    """

    def __init__(
        self,
        storage: Storage,
        levels: Sequence[ZarrArray],
        meta: VolumeMeta,
        *,
        has_multiscales: bool = True,
    ) -> None:
        self._storage = storage
        self._levels = tuple(levels)
        self.path = storage.root
        self.meta = meta
        self.has_multiscales = has_multiscales

    def __repr__(self) -> str:
        return f"Volume({self.path!r}, {self.shape_zyx}, {self.dtype}, {self.n_levels} levels)"

    @classmethod
    def open(
        cls, path: str | Path, *, name: str | None = None, require_meta: bool = True
    ) -> "Volume":
        """Open a volume without reading its data.

        Parameters
        ----------
        path : str or Path
            OME-Zarr group (v2 or v3), with or without ``multiscales``: a folder, or any URL that
            fsspec opens. Or a ``.volpkg`` folder.
        name : str, optional
            Name or uuid of a volume of a ``.volpkg``; not needed where it holds just one.
        require_meta : bool
            Insist on ``meta.json`` and a usable voxel size, without which areas and most of the
            pipeline are meaningless. If False, they may be missing and the voxel size is NaN.

        Returns
        -------
        Volume
            The volume.

        Raises
        ------
        VolumeError
            If there is no usable volume; the message says what to do.
        MissingDependencyError
            If a URL needs a package that is not installed.
        """
        storage = open_storage(find_volume(path, name))
        attributes = read_attributes(storage)
        if attributes is None:
            raise describe_missing_volume(storage)
        listed, scale_um = listed_levels(attributes)
        levels = _open_levels(storage, listed)
        meta = read_meta(storage, required=require_meta, ngff_voxel_size_um=scale_um)
        return cls(storage, levels, meta, has_multiscales=listed is not None)

    @property
    def shape_zyx(self) -> Zyx:
        """Return the voxels of level 0 per axis."""
        return self.level_shape_zyx(0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return uint8 or uint16."""
        return self._levels[0].dtype

    @property
    def n_levels(self) -> int:
        """Return the number of levels."""
        return len(self._levels)

    @property
    def voxel_size_um(self) -> float:
        """Return the edge of a level-0 voxel in µm; NaN only if opened without `require_meta`."""
        return self.meta.voxel_size_um

    @property
    def uuid(self) -> str:
        """Return the name that other files refer to the volume by."""
        return self.meta.uuid or self.name

    @property
    def name(self) -> str:
        """Return the name for people; that of the folder where ``meta.json`` has none."""
        return self.meta.name or self.path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr")

    def level(self, level: int) -> ZarrArray:
        """Return the array of a level.

        Parameters
        ----------
        level : int
            0 is the finest.

        Returns
        -------
        ZarrArray
            Its array.

        Raises
        ------
        VolumeError
            If the volume has no such level.
        """
        if not 0 <= level < len(self._levels):
            last = len(self._levels) - 1
            have = "only level 0" if last == 0 else f"levels 0 to {last}"
            raise VolumeError(
                f"{self.path}: has no level {level}, {have}; choose one of these, or build a "
                "pyramid with `tracer prepare`"
            )
        return self._levels[level]

    def level_shape_zyx(self, level: int) -> Zyx:
        """Return the voxels of a level per axis.

        Parameters
        ----------
        level : int
            0 is the finest.

        Returns
        -------
        tuple of int
            Voxels along z, y, x.

        Raises
        ------
        VolumeError
            If the volume has no such level.
        """
        z, y, x = self.level(level).shape
        return z, y, x

    def chunk_shape_zyx(self, level: int) -> Zyx:
        """Return the voxels of a chunk of a level per axis: the unit in which data is decoded.

        Parameters
        ----------
        level : int
            0 is the finest.

        Returns
        -------
        tuple of int
            Voxels along z, y, x; of the inner chunks where the array is sharded.

        Raises
        ------
        VolumeError
            If the volume has no such level.
        """
        z, y, x = self.level(level).metadata.chunks
        return z, y, x

    def read(self, level: int, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return the voxels of a box.

        Parameters
        ----------
        level : int
            0 is the finest.
        start_zyx : sequence of int
            First voxel per axis, in voxels of the level; may be negative.
        stop_zyx : sequence of int
            One past the last voxel per axis; may lie beyond the volume.

        Returns
        -------
        ndarray of uint8 or uint16, shape stop_zyx - start_zyx
            C-contiguous, writable, native byte order; 0 outside of the volume, the fill value where
            no chunk is stored.

        Raises
        ------
        VolumeError
            If the volume has no such level, or a chunk is damaged or cannot be read.
        """
        return self.level(level).read(start_zyx, stop_zyx)

    def chunk_exists(self, level: int, chunk_index_zyx: Sequence[int]) -> bool:
        """Return whether anything is stored for a chunk.

        Parameters
        ----------
        level : int
            0 is the finest.
        chunk_index_zyx : sequence of int
            Index of the chunk per axis.

        Returns
        -------
        bool
            False means fill value throughout. In a sharded volume True says only that the shard
            around the chunk is stored.

        Raises
        ------
        VolumeError
            If the volume has no such level, or cannot be reached.
        """
        return self.level(level).chunk_exists(chunk_index_zyx)

    def iter_chunk_indices(self, level: int = 0) -> Iterator[Zyx]:
        """Yield the indices of the chunks for which something is stored.

        Parameters
        ----------
        level : int
            0 is the finest.

        Yields
        ------
        tuple of int
            Chunk index along z, y, x, each once. The order depends on the stored names alone. Where
            the storage cannot list its files (web servers), every chunk is asked for.

        Raises
        ------
        VolumeError
            If the volume has no such level, or cannot be reached.
        """
        for index in self.level(level).iter_chunk_indices():
            yield index[0], index[1], index[2]

    def require_prediction(self) -> None:
        """Check that the volume can be a surface prediction.

        Raises
        ------
        VolumeError
            If it is not uint8.
        """
        if self.dtype != np.uint8:
            raise VolumeError(
                f"{self.path}: is {self.dtype}, but a surface prediction is uint8 (0 background, "
                "255 sheet); convert it with `tracer prepare`, or pass the prediction, not the CT"
            )

    def require_voxel_size(self) -> float:
        """Return the voxel size, or say how to supply it.

        Returns
        -------
        float
            Edge of a level-0 voxel in µm.

        Raises
        ------
        VolumeError
            If it is not known.
        """
        if not self.voxel_size_um > 0:
            read_meta(self._storage, required=True)
        return self.voxel_size_um

    @cached_property
    def identity(self) -> str:
        """Return a digest of what the data is, whatever path it is read through.

        Returns
        -------
        str
            64 hexadecimal digits.

        Notes
        -----
        Hashed are ``meta.json``, the metadata of every level, the sizes of up to 256 stored objects
        of level 0 and the bytes of up to 8 of the coarsest level, each evenly spread over the
        volume. The coarsest level depends on all voxels, so a volume that was made anew differs,
        and volumes of ours carry a digest of all of level 0 in ``meta.json`` besides. Times and
        paths are left out: copies, moved volumes and other ways to reach the same data share
        caches. Not noticed is an edit in place, by a foreign tool, that leaves the coarsest level
        and all sampled compressed sizes as they were; give such a volume a new ``uuid``.
        """
        digest = hashlib.sha256()
        for part in (self.meta.raw, *(a.metadata.raw for a in self._levels)):
            digest.update(hashlib.sha256(part).digest())
        finest, coarsest = self._levels[0].metadata, self._levels[-1].metadata
        sizes = self._storage.sizes(spread_keys(finest, _SIZES_HASHED))
        digest.update(json.dumps(sizes).encode())
        keys = spread_keys(coarsest, _CONTENTS_HASHED)
        sizes = self._storage.sizes(keys)
        digest.update(json.dumps(sizes).encode())
        small = [k for k, n in zip(keys, sizes, strict=True) if 0 <= n <= _CONTENT_BYTES]
        for content in self._storage.get_many(small):
            digest.update(hashlib.sha256(content or b"").digest())
        return digest.hexdigest()


def describe_missing_volume(storage: Storage) -> VolumeError:
    """Return the error that says what lies at a place where a volume should.

    Parameters
    ----------
    storage : Storage
        A place without a Zarr node.

    Returns
    -------
    VolumeError
        To be raised.
    """
    where = storage.root
    if storage.is_local:
        folder = Path(where)
        if not folder.exists():
            return VolumeError(f"{where}: no such volume; check the path")
        if folder.is_file():
            return VolumeError(
                f"{where}: a file, not an OME-Zarr folder; convert it with `tracer prepare`"
            )
        if not any(folder.iterdir()):
            return VolumeError(f"{where}: an empty folder, not an OME-Zarr volume; check the path")
        if (folder / "x.tif").is_file():
            return VolumeError(f"{where}: a surface (tifxyz), not a volume; give the volume")
    return VolumeError(
        f"{where}: not an OME-Zarr volume, it has neither .zgroup nor .zattrs nor zarr.json; check "
        "the path, or convert tifs with `tracer prepare`"
    )


def _open_levels(storage: Storage, listed: list[str] | None) -> list[ZarrArray]:
    """Return the usable levels, finest first."""
    levels: list[ZarrArray] = []
    for path in listed if listed is not None else map(str, range(64)):
        array = ZarrArray.open(storage, path)
        if array is None:
            break
        if levels and not _is_coarser(levels[0].shape, array.shape, len(levels)):
            warnings.warn(
                f"{array.where}: shape {array.shape} is not 1/{2 ** len(levels)} of level 0, "
                f"{levels[0].shape}; this and coarser levels are not used",
                TracerWarning,
                stacklevel=4,
            )
            break
        _check_level(array)
        levels.append(array)
    if not levels and listed is None:
        root = ZarrArray.open(storage, "")
        if root is not None:
            _check_level(root)
            levels.append(root)
    if not levels:
        first = listed[0] if listed else "0"
        raise VolumeError(
            f"{storage.root}/{first}: missing, the volume has no full-resolution level; "
            "restore or re-make it"
        )
    if any(array.dtype != levels[0].dtype for array in levels):
        shown = ", ".join(str(array.dtype) for array in levels)
        raise VolumeError(
            f"{storage.root}: the levels differ in data type ({shown}); re-make the volume with "
            "`tracer prepare`"
        )
    return levels


def _is_coarser(fine: Sequence[int], coarse: Sequence[int], level: int) -> bool:
    return len(fine) == len(coarse) and all(
        abs(c - f / 2**level) <= 1.0 for f, c in zip(fine, coarse, strict=True)
    )


def _check_level(array: ZarrArray) -> None:
    if len(array.shape) != 3:
        raise VolumeError(
            f"{array.where}: has {len(array.shape)} axes {array.shape}, but a volume has z, y, x; "
            "extract one channel first"
        )
    if 0 in array.shape:
        raise VolumeError(f"{array.where}: is empty, its shape is {array.shape}; re-make it")
    if array.dtype not in _DTYPES:
        raise VolumeError(
            f"{array.where}: is {array.dtype}, but a volume is uint8 or uint16; convert it with "
            "`tracer prepare`"
        )


def spread_keys(metadata: ArrayMetadata, at_most: int) -> list[str]:
    """Return the keys of stored objects, evenly spread over the grid in C order.

    Parameters
    ----------
    metadata : ArrayMetadata
        Of the array.
    at_most : int
        Number of keys.

    Returns
    -------
    list of str
        Keys, whether or not anything is stored there.
    """
    grid = [-(-n // s) for n, s in zip(metadata.shape, metadata.shards, strict=True)]
    per_object = [s // c for s, c in zip(metadata.shards, metadata.chunks, strict=True)]
    total = math.prod(grid)
    count = min(total, at_most)
    keys = []
    for position in range(count):
        index = np.unravel_index(position * total // count, grid)
        keys.append(
            metadata.object_key(tuple(int(i) * k for i, k in zip(index, per_object, strict=True)))
        )
    return keys
