"""Writing an OME-Zarr volume chunk by chunk, in bounded memory, and going on after a crash.

The volume grows in a hidden folder beside its final name and is renamed when everything, with
``meta.json`` last, is there: whatever is found under the final name is whole. A file in the hidden
folder tells which work it belongs to and which parts of it are finished. The same work continues
there; other work is refused.

Layout: Zarr v2, ``/`` between indices, blosc-zstd, chunks that are zero throughout left out.
"""

import functools
import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tracer.atomic import replacing_file, write_json
from tracer.errors import OutputError, VolumeError
from tracer.pooling import Pooling, pool
from tracer.progress import Progress, silent
from tracer.storage import LocalStorage
from tracer.volume_layout import (
    COMPRESSION_LEVEL,
    GROUP,
    array_metadata,
    checked_chunk,
    checked_dtype,
    checked_shape,
    checked_voxel_size,
    group_attributes,
    shuffle,
    volume_meta,
)
from tracer.volume_meta import META
from tracer.zarr_array import ZarrArray
from tracer.zarr_metadata import V2_ARRAY, V2_ATTRIBUTES, V2_GROUP

if TYPE_CHECKING:
    from filelock import FileLock

DEFAULT_CHUNK = 128
_MOST_LEVELS = 6
_COARSEST_EDGE = 64  # levels below this help no viewer
_WORK = ".work.json"
_JOURNAL = ".finished.jsonl"

Zyx = tuple[int, int, int]


class VolumeWriter:
    """A volume in the making. Make one with :meth:`create`.

    Parameters
    ----------
    path : Path
        Final name.
    shape_zyx : tuple of int
        Voxels of level 0.
    dtype : dtype
        uint8 or uint16.
    chunk : int
        Edge of a chunk in voxels.
    voxel_size_um : float
        Edge of a level-0 voxel in µm.
    name : str
        Name and uuid.

    Attributes
    ----------
    path : Path
        Final name, which appears with :meth:`finish`.
    shape_zyx : tuple of int
        Voxels of level 0.
    dtype : dtype
        uint8 or uint16.
    chunk : int
        Edge of a chunk in voxels.
    resumed : bool
        Whether unfinished work was found and is continued.

    Notes
    -----
    Processes may share a writer (it can be pickled) as long as no two of them write into the same
    chunk and only one of them calls anything but :meth:`write` and :meth:`read`.
    """

    def __init__(
        self,
        path: Path,
        shape_zyx: Zyx,
        dtype: np.dtype[Any],
        chunk: int,
        voxel_size_um: float,
        name: str,
    ) -> None:
        self.path = path
        self.shape_zyx = shape_zyx
        self.dtype = dtype
        self.chunk = chunk
        self.resumed = False
        self._voxel_size_um = voxel_size_um
        self._name = name
        self._overwrite = False
        self._folder = path.with_name(f".{path.name}.unfinished")
        self._finished: dict[str, Any] = {}
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}  # held by the process that made the writer

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape_zyx: Sequence[int],
        dtype: DTypeLike,
        voxel_size_um: float,
        name: str | None = None,
        *,
        chunk: int = DEFAULT_CHUNK,
        work: Mapping[str, Any] | None = None,
        restart: bool = False,
        overwrite: bool = False,
    ) -> "VolumeWriter":
        """Start a volume, or continue an unfinished one of the same work.

        Parameters
        ----------
        path : str or Path
            Folder to create, usually ``<name>.zarr``.
        shape_zyx : sequence of int
            Voxels of level 0 along z, y, x.
        dtype : dtype
            uint8 or uint16.
        voxel_size_um : float
            Edge of a level-0 voxel in µm.
        name : str, optional
            Name and uuid; that of the folder without ``.zarr`` where omitted.
        chunk : int
            Edge of a chunk in voxels, even.
        work : mapping, optional
            JSON-serialisable facts that identify the work (inputs, parameters). Unfinished work
            with equal facts is continued, see :attr:`finished`; without them, it is discarded.
        restart : bool
            Discard unfinished work, whatever it was.
        overwrite : bool
            Replace an existing volume; the old one stays until the new one is finished.

        Returns
        -------
        VolumeWriter
            A writer with level 0 ready to be written.

        Raises
        ------
        VolumeError
            If shape, dtype, chunk or voxel size are unusable.
        OutputError
            If `path` exists, cannot be written, or holds unfinished work of another kind.
        """
        target = Path(path).absolute()
        writer = cls(
            target,
            checked_shape(shape_zyx, target),
            checked_dtype(dtype, target),
            checked_chunk(chunk, target),
            checked_voxel_size(voxel_size_um, target),
            name or target.name.removesuffix(".zarr"),
        )
        writer._overwrite = overwrite
        if target.exists() and not overwrite:
            raise OutputError(f"{target}: exists already; choose another name or overwrite it")
        writer._take_lock()
        try:
            writer._begin(work, restart=restart)
        except OutputError:
            writer.close()
            raise
        return writer

    @property
    def finished(self) -> Mapping[str, Any]:
        """Return what :meth:`mark_finished` recorded, by key."""
        return self._finished

    @property
    def n_levels(self) -> int:
        """Return the number of levels that :meth:`finish` makes: down to 64 voxels, at most 6."""
        halvings = math.ceil(math.log2(max(1.0, max(self.shape_zyx) / _COARSEST_EDGE)))
        return min(_MOST_LEVELS, 1 + halvings)

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
        """
        z, y, x = (-(-n // 2**level) for n in self.shape_zyx)
        return z, y, x

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return what was written so far to a box of level 0.

        Parameters
        ----------
        start_zyx : sequence of int
            First voxel per axis.
        stop_zyx : sequence of int
            One past the last voxel per axis.

        Returns
        -------
        ndarray, shape stop_zyx - start_zyx
            Voxels; 0 where nothing was written.
        """
        return self._level(0).read(start_zyx, stop_zyx)

    def write(self, start_zyx: Sequence[int], block: NDArray[Any]) -> None:
        """Write a box of level 0.

        Parameters
        ----------
        start_zyx : sequence of int
            First voxel per axis.
        block : ndarray, shape (z, y, x)
            Voxels of the volume's dtype. Parts outside of the volume are left out. Chunks that the
            block covers in part keep their other voxels; boxes of whole chunks are fastest.

        Raises
        ------
        VolumeError
            If the block is not 3-D or of another dtype.
        OutputError
            If a chunk cannot be written.
        """
        self._write(0, start_zyx, block)

    def mark_finished(self, key: str, value: Any = True) -> None:
        """Record that a part of the work is done and needs not be done again.

        Parameters
        ----------
        key : str
            The caller's name of the part.
        value : object
            JSON-serialisable, to be found in :attr:`finished`.
        """
        self._finished[key] = value
        line = json.dumps([key, value], allow_nan=False)
        try:
            with (self._folder / _JOURNAL).open("a", encoding="utf-8") as journal:
                journal.write(line + "\n")
        except OSError as error:
            raise _cannot_write(self._folder / _JOURNAL, error) from error

    def finish(
        self,
        pooling: Pooling = "mean",
        *,
        extra: Mapping[str, Any] | None = None,
        workers: int = 1,
        progress: Progress = silent,
    ) -> Path:
        """Build the coarser levels, write the metadata and let the volume appear.

        Parameters
        ----------
        pooling : {"mean", "max", "nearest"}
            How a level is made from the finer one: mean for CT, max for predictions, nearest for
            labels.
        extra : mapping, optional
            Further keys of ``meta.json``, such as provenance.
        workers : int
            Threads; the result does not depend on them.
        progress : Progress
            Called with the chunks done and in all.

        Returns
        -------
        Path
            The finished volume.

        Raises
        ------
        OutputError
            If something cannot be written.
        """
        self._build_pyramid(pooling, workers, progress)
        write_json(self._folder / V2_GROUP, GROUP)
        write_json(
            self._folder / V2_ATTRIBUTES, group_attributes(self._name, self.n_levels, pooling)
        )
        meta = volume_meta(
            self.shape_zyx, self.dtype, self._voxel_size_um, self._name, self._content_digest()
        )
        write_json(self._folder / META, {**(extra or {}), **meta})
        try:
            if self._overwrite and self.path.exists():
                old = self.path.with_name(f".{self.path.name}.replaced")
                shutil.rmtree(old, ignore_errors=True)
                self.path.rename(old)
                self._folder.rename(self.path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                self._folder.rename(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        for name in (_WORK, _JOURNAL):  # last: up to here a crash can be continued from
            (self.path / name).unlink(missing_ok=True)
        self.close()
        return self.path

    def abandon(self) -> None:
        """Remove everything written so far."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let other processes write this volume; what is unfinished stays and can be continued."""
        if self._lock is not None:
            self.path.with_name(f".{self.path.name}.lock").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _take_lock(self) -> None:
        from filelock import FileLock, Timeout

        path = self.path.with_name(f".{self.path.name}.lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{self.path}: is being written by another process; wait for it or end it"
            ) from error
        except OSError as error:
            raise _cannot_write(path, error) from error
        self._lock = lock

    def _begin(self, work: Mapping[str, Any] | None, *, restart: bool) -> None:
        """Take over the unfinished folder of the same work, or start an empty one."""
        facts = {
            "shape_zyx": list(self.shape_zyx),
            "dtype": self.dtype.name,
            "chunk": self.chunk,
            "work": None if work is None else json.loads(json.dumps(work)),
        }
        found = None if restart or work is None else self._found_work()
        if found is not None:
            if found != facts:
                raise OutputError(
                    f"{self._folder}: unfinished work from other input or parameters "
                    f"({_difference(found, facts)}); restart, which discards it, or remove it"
                )
            self._finished = dict(self._read_journal())
            self.resumed = True
            return
        try:
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True)
            for level in range(self.n_levels):
                (self._folder / str(level)).mkdir()
                write_json(
                    self._folder / str(level) / V2_ARRAY,
                    array_metadata(self.level_shape_zyx(level), self.dtype, self.chunk),
                )
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        write_json(self._folder / _WORK, facts)  # last: without it the folder is started anew

    def _found_work(self) -> Any:
        try:
            return json.loads((self._folder / _WORK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _read_journal(self) -> Iterator[tuple[str, Any]]:
        try:
            text = (self._folder / _JOURNAL).read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may have been cut short by a crash
                key, value = json.loads(line)
                yield key, value
        if text and not text.endswith("\n"):
            whole = text[: text.rfind("\n") + 1]
            with replacing_file(self._folder / _JOURNAL) as temporary:
                temporary.write_text(whole, encoding="utf-8")

    def _level(self, level: int) -> ZarrArray:
        array = ZarrArray.open(LocalStorage(self._folder), str(level))
        assert array is not None  # _begin made it
        return ZarrArray(array.storage, array.metadata, cache_bytes=0)  # it is being changed

    def _grid(self, level: int) -> Zyx:
        z, y, x = (-(-n // self.chunk) for n in self.level_shape_zyx(level))
        return z, y, x

    def _write(self, level: int, start_zyx: Sequence[int], block: NDArray[Any]) -> None:
        if block.ndim != 3 or block.dtype != self.dtype:
            raise VolumeError(
                f"{self.path}: a block of {block.dtype} {block.shape} does not fit a volume of "
                f"{self.dtype} with axes z, y, x; convert it first"
            )
        shape = self.level_shape_zyx(level)
        low = [max(0, int(a)) for a in start_zyx]
        high = [min(n, int(a) + b) for a, b, n in zip(start_zyx, block.shape, shape, strict=True)]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return
        array: ZarrArray | None = None
        ranges = [
            range(a // self.chunk, -(-b // self.chunk)) for a, b in zip(low, high, strict=True)
        ]
        for index in itertools.product(*ranges):
            first = [i * self.chunk for i in index]
            last = [min(f + self.chunk, n) for f, n in zip(first, shape, strict=True)]
            at = [max(a, f) for a, f in zip(low, first, strict=True)]
            to = [min(b, e) for b, e in zip(high, last, strict=True)]
            part = block[
                tuple(
                    slice(a - int(s), b - int(s)) for a, b, s in zip(at, to, start_zyx, strict=True)
                )
            ]
            if at == first and to == last and list(part.shape) == [self.chunk] * 3:
                chunk = np.ascontiguousarray(part)
            else:
                chunk = np.zeros((self.chunk,) * 3, self.dtype)
                if at != first or to != last:
                    array = array or self._level(level)
                    chunk = array.read(first, [f + self.chunk for f in first])
                chunk[tuple(slice(a - f, b - f) for a, b, f in zip(at, to, first, strict=True))] = (
                    part
                )
            self._write_chunk(level, index, chunk)

    def _chunk_path(self, level: int, index: Sequence[int]) -> Path:
        return self._folder / str(level) / "/".join(str(i) for i in index)

    def _write_chunk(self, level: int, index: Sequence[int], chunk: NDArray[Any]) -> None:
        import imagecodecs

        path = self._chunk_path(level, index)
        if not chunk.any():
            path.unlink(missing_ok=True)
            return
        data = imagecodecs.blosc_encode(
            chunk.tobytes(),
            level=COMPRESSION_LEVEL,
            compressor="zstd",
            shuffle=shuffle(self.dtype),
            typesize=self.dtype.itemsize,
            numthreads=1,  # more would make the bytes depend on the machine
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from error
        with replacing_file(path) as temporary:
            temporary.write_bytes(data)

    def _build_pyramid(self, pooling: Pooling, workers: int, progress: Progress) -> None:
        grids = [self._grid(level) for level in range(1, self.n_levels)]
        total, done = sum(map(math.prod, grids)), 0
        with ThreadPoolExecutor(max(1, workers)) as threads:
            for level, grid in enumerate(grids, start=1):
                pool_chunk = functools.partial(
                    self._pool_chunk, self._level(level - 1), level, pooling
                )
                for row in range(grid[0]):
                    key = f"level/{level}/{pooling}/{row}"
                    if key not in self._finished:
                        row_indices = itertools.product([row], range(grid[1]), range(grid[2]))
                        for _ in threads.map(pool_chunk, row_indices):
                            pass  # raises what a thread raised
                        self.mark_finished(key)
                    done += grid[1] * grid[2]
                    progress(done, total, f"level {level}")

    def _pool_chunk(self, finer: ZarrArray, level: int, pooling: Pooling, index: Zyx) -> None:
        start = [2 * self.chunk * i for i in index]
        stop = [min(a + 2 * self.chunk, n) for a, n in zip(start, finer.shape, strict=True)]
        fine = finer.read(start, stop)
        if fine.any():
            self._write(level, [self.chunk * i for i in index], pool(fine, pooling))

    def _content_digest(self) -> str:
        """Return a digest of all of level 0, whatever order it was written in."""
        digest = hashlib.sha256()
        for index in itertools.product(*map(range, self._grid(0))):
            try:
                data = self._chunk_path(0, index).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            digest.update(f"{index}{len(data)}".encode())
            digest.update(data)
        return digest.hexdigest()


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot write ({error.strerror or error}); check permissions and free space"
    )


def _difference(found: Any, wanted: Mapping[str, Any]) -> str:
    """Return the first fact in which two pieces of work differ."""
    found = found if isinstance(found, dict) else {}
    flat_found = {**found, **(found.get("work") or {})}
    flat_wanted = {**wanted, **(wanted.get("work") or {})}
    for key in sorted({*flat_found, *flat_wanted} - {"work"}):
        if flat_found.get(key) != flat_wanted.get(key):
            was, now = (str(flat.get(key)) for flat in (flat_found, flat_wanted))
            if len(was) + len(now) > 80:
                return f"'{key}' differs"
            return f"{key} was {was}, now {now}"
    return "it does not say which"
