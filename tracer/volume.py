"""A volume: the levels of an OME-Zarr, local or remote, read by boxes.

Metadata is read as JSON; zarr is imported when voxels are read. Axes are z, y, x; level k is 2^k
times coarser than level 0. What lies outside the volume, and chunks that do not exist, read as 0.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tracer.errors import MissingDependencyError, VolumeError

META_NAME = "meta.json"
_META_EXAMPLE = (
    '{"voxelsize": 7.91, "uuid": "scan", "name": "scan", "type": "vol", "format": "zarr"}'
)
_READABLE = ("uint8", "uint16")
_REMOTE_PACKAGES = {"s3": "s3fs", "http": "aiohttp", "https": "aiohttp"}
Index3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Level:
    """One array of a volume.

    Attributes
    ----------
    name : str
        Name of the array in its group; the group itself where empty.
    shape_zyx : tuple of int
        Voxels along z, y, x.
    chunk_zyx : tuple of int
        Shape of what is stored as one object: a chunk, or a shard.
    dtype : numpy dtype
        As stored.
    key : str
        Format string of a stored object's name, with three indices.
    """

    name: str
    shape_zyx: Index3
    chunk_zyx: Index3
    dtype: np.dtype[Any]
    key: str


class _Store:
    """Files below a local folder or an fsspec URL."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        self.is_remote = "://" in path
        self._filesystem: Any = None
        if self.is_remote:
            import fsspec

            protocol = path.split("://", 1)[0]
            try:
                self._filesystem = fsspec.filesystem(protocol)
            except ImportError as error:
                raise MissingDependencyError(
                    f"{path}: reading {protocol}:// needs the package "
                    f"'{_REMOTE_PACKAGES.get(protocol, protocol)}'; "
                    "run: pip install 'scroll-tracer[remote]'"
                ) from error
            except ValueError as error:
                raise VolumeError(f"{path}: unknown protocol '{protocol}'") from error

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where it does not exist."""
        try:
            if self.is_remote:
                content: bytes = self._filesystem.cat_file(f"{self.path}/{name}")
                return content
            return (Path(self.path) / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise VolumeError(f"{self.path}/{name}: cannot read ({error})") from error

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object, None where the file does not exist."""
        content = self.read(name)
        if content is None:
            return None
        try:
            value = json.loads(content)
        except ValueError as error:
            raise VolumeError(
                f"{self.path}/{name}: not valid JSON ({error}); restore it"
            ) from error
        if not isinstance(value, dict):
            raise VolumeError(f"{self.path}/{name}: must be a JSON object")
        return value

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        if self.is_remote:
            return bool(self._filesystem.exists(f"{self.path}/{name}"))
        return (Path(self.path) / name).exists()

    def fingerprint(self, name: str) -> str:
        """Return size and time of a file, empty where it does not exist."""
        if self.is_remote:
            return ""
        try:
            status = (Path(self.path) / name).stat()
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """An opened OME-Zarr volume.

    Attributes
    ----------
    path : str
        Folder or URL.
    levels : tuple of Level
        Finest first.
    meta : mapping
        Content of ``meta.json``; empty where there is none.
    """

    path: str
    levels: tuple[Level, ...]
    meta: Mapping[str, Any]
    store: _Store = field(repr=False)
    _arrays: dict[int, Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, path: str | Path, *, name: str | None = None, require_meta: bool = True) -> Self:
        """Return an opened volume.

        Parameters
        ----------
        path : str or Path
            OME-Zarr group, a plain zarr array, or a ``.volpkg``; local or any fsspec URL.
        name : str, optional
            Name or uuid of the volume in a ``.volpkg``; needed where it holds several.
        require_meta : bool
            Whether ``meta.json`` with a positive ``voxelsize`` must exist.

        Returns
        -------
        Volume
            With all levels described; no voxel has been read.

        Raises
        ------
        VolumeError
            If there is no readable zarr, or required metadata is missing or unusable.
        MissingDependencyError
            If the URL's protocol needs a package that is not installed.
        """
        location = str(path)
        if location.rstrip("/").endswith(".volpkg"):
            location = _find_in_volpkg(Path(location), name)
        store = _Store(location)
        if not store.is_remote and not Path(location).exists():
            raise VolumeError(f"{location}: no such volume; check the path")
        levels = _read_levels(store)
        meta = store.json(META_NAME) or {}
        volume = cls(path=location, levels=levels, meta=meta, store=store)
        if require_meta:
            _check_meta(location, meta)
        return volume

    @property
    def shape_zyx(self) -> Index3:
        """Return the shape of level 0.

        Returns
        -------
        tuple of int
            Voxels along z, y, x.
        """
        return self.levels[0].shape_zyx

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the native dtype of level 0.

        Returns
        -------
        numpy dtype
            uint8 or uint16 for readable volumes.
        """
        return self.levels[0].dtype.newbyteorder("=")

    @property
    def n_levels(self) -> int:
        """Return the number of levels.

        Returns
        -------
        int
            At least 1.
        """
        return len(self.levels)

    @property
    def uuid(self) -> str:
        """Return the volume's uuid.

        Returns
        -------
        str
            From ``meta.json``, else the folder's name.
        """
        return str(self.meta.get("uuid") or Path(self.path).name)

    @property
    def voxel_size_um(self) -> float:
        """Return the edge of a level-0 voxel.

        Returns
        -------
        float
            Micrometres.

        Raises
        ------
        VolumeError
            If ``meta.json`` or its ``voxelsize`` is missing, zero or not a number.
        """
        _check_meta(self.path, self.meta)
        return float(self.meta["voxelsize"])

    @property
    def identity(self) -> str:
        """Return a digest of what the data is.

        Returns
        -------
        str
            The same for a moved volume, another one for a volume that was made anew.

        Notes
        -----
        Digested are shape, dtype, chunks, the metadata, and size and time of up to 64 stored
        objects spread over level 0: reading the data itself would cost as much as the work that
        the identity is meant to save.
        """
        level = self.levels[0]
        grid = [math.ceil(n / c) for n, c in zip(level.shape_zyx, level.chunk_zyx, strict=True)]
        digest = hashlib.sha256()
        digest.update(repr((level.shape_zyx, level.chunk_zyx, level.dtype.str)).encode())
        digest.update(json.dumps(dict(self.meta), sort_keys=True).encode())
        n = math.prod(grid)
        for flat in range(0, n, max(1, n // 64)):
            index = np.unravel_index(flat, grid)
            digest.update(self.store.fingerprint(level.key.format(*index)).encode() + b";")
        return digest.hexdigest()[:32]

    def level(self, number: int) -> Level:
        """Return one level.

        Parameters
        ----------
        number : int
            0 is the finest.

        Returns
        -------
        Level
            Its description.

        Raises
        ------
        VolumeError
            If the volume has no such level.
        """
        if not 0 <= number < len(self.levels):
            raise VolumeError(
                f"{self.path}: no level {number}; it has levels 0 to {len(self.levels) - 1}"
            )
        return self.levels[number]

    def level_shape_zyx(self, number: int) -> Index3:
        """Return the shape of a level.

        Parameters
        ----------
        number : int
            0 is the finest.

        Returns
        -------
        tuple of int
            Voxels along z, y, x.
        """
        return self.level(number).shape_zyx

    def chunk_shape_zyx(self, number: int) -> Index3:
        """Return the shape of a level's stored objects.

        Parameters
        ----------
        number : int
            0 is the finest.

        Returns
        -------
        tuple of int
            Voxels along z, y, x.
        """
        return self.level(number).chunk_zyx

    def require_prediction(self) -> None:
        """Check that the volume can serve as a surface prediction.

        Raises
        ------
        VolumeError
            If it is not uint8.
        """
        if self.dtype != np.uint8:
            raise VolumeError(
                f"{self.path}: a prediction must be uint8 but this volume is {self.dtype}; convert "
                "it: tracer prepare IN OUT.zarr"
            )

    def chunk_exists(self, number: int, index_zyx: Sequence[int]) -> bool:
        """Return whether a stored object exists; a missing one is all zeros.

        Parameters
        ----------
        number : int
            Level.
        index_zyx : sequence of int
            Index of the object along z, y, x.

        Returns
        -------
        bool
            False outside the volume.
        """
        level = self.level(number)
        grid = (math.ceil(n / c) for n, c in zip(level.shape_zyx, level.chunk_zyx, strict=True))
        if not all(0 <= i < n for i, n in zip(index_zyx, grid, strict=True)):
            return False
        return self.store.exists(level.key.format(*index_zyx))

    def iter_chunk_indices(self, number: int = 0) -> Iterator[Index3]:
        """Yield the indices of the stored objects that exist, in z, y, x order.

        Parameters
        ----------
        number : int
            Level.

        Yields
        ------
        tuple of int
            Index along z, y, x.
        """
        level = self.level(number)
        grid = [math.ceil(n / c) for n, c in zip(level.shape_zyx, level.chunk_zyx, strict=True)]
        for index in np.ndindex(*grid):
            if self.chunk_exists(number, index):
                yield (index[0], index[1], index[2])

    def read(self, number: int, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return the voxels of a box.

        Parameters
        ----------
        number : int
            Level.
        start_zyx, stop_zyx : sequence of int
            Half-open box in voxels of the level; may reach beyond the volume.

        Returns
        -------
        ndarray of uint8 or uint16, shape stop - start
            C-contiguous, native byte order; 0 outside the volume.

        Raises
        ------
        VolumeError
            If the level does not exist, its dtype is not supported, or a chunk cannot be decoded.
        """
        level = self.level(number)
        dtype = level.dtype.newbyteorder("=")
        if dtype.name not in _READABLE:
            raise VolumeError(
                f"{self.path}: dtype {dtype.name} is not supported; convert it to uint8: "
                "tracer prepare IN OUT.zarr"
            )
        shape = [max(0, b - a) for a, b in zip(start_zyx, stop_zyx, strict=True)]
        low = [max(0, a) for a in start_zyx]
        high = [min(n, b) for n, b in zip(level.shape_zyx, stop_zyx, strict=True)]
        whole = low == list(start_zyx) and high == list(stop_zyx)
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return np.zeros(shape, dtype)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        try:
            values = np.asarray(self._array(number)[box])
        except (OSError, ValueError, RuntimeError) as error:
            raise VolumeError(
                f"{self.path}/{level.name}: cannot read voxels {low} to {high} ({error}); a chunk "
                "may be truncated, copy the volume again"
            ) from error
        if whole:
            return np.ascontiguousarray(values, dtype)
        out = np.zeros(shape, dtype)
        inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start_zyx, strict=True))
        out[inner] = values
        return out

    def _array(self, number: int) -> Any:
        """Return the zarr array of a level, opened once."""
        with self._lock:
            if number not in self._arrays:
                import zarr

                level = self.levels[number]
                location = f"{self.path}/{level.name}" if level.name else self.path
                self._arrays[number] = zarr.open_array(location, mode="r")
            return self._arrays[number]


def _check_meta(path: str, meta: Mapping[str, Any]) -> None:
    where = f"{path.rstrip('/')}/{META_NAME}"
    if not meta:
        raise VolumeError(f"{where}: missing; create it with at least {_META_EXAMPLE}")
    size = meta.get("voxelsize")
    if not isinstance(size, int | float) or not math.isfinite(size) or size <= 0:
        raise VolumeError(
            f"{where}: voxelsize is {size!r}; set it to the edge of a voxel in micrometres, "
            'e.g. "voxelsize": 7.91'
        )


def _find_in_volpkg(package: Path, name: str | None) -> str:
    """Return the path of a volume in a volume package, by folder name, name or uuid."""
    folder = package / "volumes"
    if not folder.is_dir():
        raise VolumeError(f"{package}: no folder 'volumes' in this volume package")
    found = {}
    for candidate in sorted(folder.iterdir()):
        if candidate.is_dir() and _is_zarr(_Store(str(candidate))):
            meta = _Store(str(candidate)).json(META_NAME) or {}
            names = {candidate.name, candidate.stem, str(meta.get("name")), str(meta.get("uuid"))}
            found[candidate] = names
    matching = [path for path, names in found.items() if name is None or name in names]
    if len(matching) != 1:
        wanted = f"no volume '{name}'" if name and not matching else "several volumes"
        listing = ", ".join(path.name for path in found) or "none"
        raise VolumeError(f"{package}: {wanted} in this package; name one of: {listing}")
    return str(matching[0])


def _is_zarr(store: _Store) -> bool:
    return any(store.exists(name) for name in (".zgroup", ".zattrs", ".zarray", "zarr.json"))


def _read_levels(store: _Store) -> tuple[Level, ...]:
    """Return the levels that a group's metadata names, or those called 0, 1, 2, ..."""
    whole = _read_level(store, "")
    if whole is not None:
        return (whole,)
    attributes = store.json(".zattrs")
    if attributes is None:
        attributes = (store.json("zarr.json") or {}).get("attributes") or {}
    attributes = attributes.get("ome", attributes)
    scales = attributes.get("multiscales") or []
    names = [str(d["path"]) for d in scales[0].get("datasets", [])] if scales else []
    if not names:
        names = []
        while _read_level(store, str(len(names))) is not None:
            names.append(str(len(names)))
    levels = tuple(level for name in names if (level := _read_level(store, name)) is not None)
    if not levels:
        raise VolumeError(
            f"{store.path}: not an OME-Zarr volume (no array '0'); turn scans into one: "
            "tracer prepare IN OUT.zarr"
        )
    return levels


def _read_level(store: _Store, name: str) -> Level | None:
    """Return the description of an array, None where there is none."""
    prefix = f"{name}/" if name else ""
    v2 = store.json(f"{prefix}.zarray")
    v3 = None if v2 is not None else store.json(f"{prefix}zarr.json")
    try:
        if v2 is not None:
            separator = v2.get("dimension_separator", ".")
            key = prefix + separator.join(["{}"] * 3)
            return _level(name, v2["shape"], v2["chunks"], v2["dtype"], key)
        if v3 is None or v3.get("node_type") != "array":
            return None
        chunk = v3["chunk_grid"]["configuration"]["chunk_shape"]
        encoding = v3.get("chunk_key_encoding", {"name": "default"})
        is_default = encoding.get("name") == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
        key = prefix + ("c" + separator if is_default else "") + separator.join(["{}"] * 3)
        return _level(name, v3["shape"], chunk, v3["data_type"], key)
    except (KeyError, TypeError, ValueError) as error:
        raise VolumeError(f"{store.path}/{prefix}: unreadable array metadata ({error})") from error


def _level(
    name: str, shape: Sequence[int], chunk: Sequence[int], dtype: DTypeLike, key: str
) -> Level:
    if len(shape) != 3:
        raise ValueError(f"{len(shape)} axes instead of z, y, x")
    return Level(
        name=name,
        shape_zyx=(int(shape[0]), int(shape[1]), int(shape[2])),
        chunk_zyx=(int(chunk[0]), int(chunk[1]), int(chunk[2])),
        dtype=np.dtype(dtype),
        key=key,
    )
