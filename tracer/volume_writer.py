"""Write an OME-Zarr volume chunk by chunk: level 0 first, the pyramid and ``meta.json`` last.

What we write is zarr v2 with separator ``/``, chunks of 128³ and blosc-zstd, because VC3D and every
other tool read that. A volume without ``meta.json`` is unfinished; :meth:`VolumeWriter.open` goes
on with it after an interruption.
"""

import itertools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tracer.atomic import write_bytes, write_json
from tracer.errors import OutputError, VolumeError
from tracer.progress import Progress, silent

Pooling = Literal["mean", "max", "nearest"]
Index3 = tuple[int, int, int]

_SMALLEST = 64  # the pyramid ends with the first level whose longest side is at most this
_MOST_LEVELS = 6
_DTYPES = ("uint8", "uint16")


class VolumeWriter:
    """A volume that is being written.

    Parameters
    ----------
    path : Path
        Folder of the volume.
    shape_zyx : tuple of int
        Voxels along z, y, x.
    dtype : numpy dtype
        uint8 or uint16.
    chunk : int
        Edge of a chunk.
    meta : dict
        What will become ``meta.json``.

    Notes
    -----
    Made by :meth:`create` and :meth:`open`. Several writers, also in several processes, may write to
    one volume as long as each chunk is written by one of them at a time.
    """

    def __init__(
        self, path: Path, shape_zyx: Index3, dtype: np.dtype[Any], chunk: int, meta: dict[str, Any]
    ) -> None:
        self.path = path
        self.shape_zyx = shape_zyx
        self.dtype = dtype
        self.chunk = chunk
        self.meta = meta
        self._arrays: dict[int, Any] = {}

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape_zyx: Sequence[int],
        dtype: DTypeLike,
        voxel_size_um: float,
        name: str | None = None,
        *,
        chunk: int = 128,
        uuid: str | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Return a writer for a new, empty volume.

        Parameters
        ----------
        path : str or Path
            Folder to create.
        shape_zyx : sequence of int
            Voxels along z, y, x.
        dtype : dtype
            uint8 or uint16.
        voxel_size_um : float
            Edge of a voxel in micrometres.
        name : str, optional
            Name of the volume; the folder's stem where omitted.
        chunk : int
            Edge of a chunk.
        uuid : str, optional
            Identifier; the name where omitted.
        overwrite : bool
            Remove what is there.

        Returns
        -------
        VolumeWriter
            Nothing but the arrays' metadata exists yet.

        Raises
        ------
        OutputError
            If the folder exists already or cannot be written.
        VolumeError
            If dtype, shape or voxel size are unusable.
        """
        folder = Path(path)
        kind = np.dtype(dtype)
        shape = (int(shape_zyx[0]), int(shape_zyx[1]), int(shape_zyx[2]))
        if kind.name not in _DTYPES:
            raise VolumeError(f"{folder}: cannot write {kind.name}; volumes are uint8 or uint16")
        if min(shape) < 1 or not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
            raise VolumeError(f"{folder}: unusable shape {shape} or voxel size {voxel_size_um} um")
        if folder.exists() and any(folder.iterdir()):
            if not overwrite:
                raise OutputError(f"{folder}: exists already; remove it or choose another name")
            shutil.rmtree(folder)
        label = name or folder.stem
        meta = {
            "height": shape[1],
            "width": shape[2],
            "slices": shape[0],
            "min": 0.0,
            "max": float(np.iinfo(kind).max),
            "name": label,
            "type": "vol",
            "uuid": uuid or label,
            "voxelsize": float(voxel_size_um),
            "format": "zarr",
        }
        writer = cls(folder, shape, kind, chunk, meta)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot create ({error.strerror})") from error
        write_json(folder / ".zgroup", {"zarr_format": 2})
        for level, level_shape in enumerate(writer.level_shapes()):
            writer._create_level(level, level_shape)
        return writer

    @classmethod
    def open(cls, path: str | Path, meta: dict[str, Any]) -> Self:
        """Return a writer that goes on with an unfinished volume.

        Parameters
        ----------
        path : str or Path
            Folder of the volume.
        meta : dict
            What will become ``meta.json``, as :meth:`create` made it.

        Returns
        -------
        VolumeWriter
            With whatever has been written so far.

        Raises
        ------
        VolumeError
            If there is no such volume.
        """
        folder = Path(path)
        try:
            header = json.loads((folder / "0" / ".zarray").read_bytes())
        except (OSError, ValueError) as error:
            raise VolumeError(f"{folder}: no unfinished volume to go on with ({error})") from error
        shape = tuple(header["shape"])
        return cls(folder, shape, np.dtype(header["dtype"]), int(header["chunks"][0]), meta)

    def level_shapes(self) -> list[Index3]:
        """Return the shapes of all levels.

        Returns
        -------
        list of tuple of int
            Finest first; each is half the one before, rounded up.
        """
        shapes = [self.shape_zyx]
        while max(shapes[-1]) > _SMALLEST and len(shapes) < _MOST_LEVELS:
            z, y, x = shapes[-1]
            shapes.append(((z + 1) // 2, (y + 1) // 2, (x + 1) // 2))
        return shapes

    def _create_level(self, level: int, shape: Index3) -> None:
        folder = self.path / str(level)
        folder.mkdir(exist_ok=True)
        header = {
            "shape": list(shape),
            "chunks": [self.chunk] * 3,
            "dtype": "|u1" if self.dtype == np.uint8 else "<u2",
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
            "compressor": {
                "id": "blosc",
                "cname": "zstd",
                "clevel": 3,
                "shuffle": 1,
                "blocksize": 0,
            },
            "zarr_format": 2,
        }
        write_json(folder / ".zarray", header)

    def _array(self, level: int) -> Any:
        if level not in self._arrays:
            import zarr

            # Chunks of zeros are not stored: readers see the fill value, and emptiness stays cheap.
            array = zarr.open_array(
                str(self.path / str(level)), mode="r+", config={"write_empty_chunks": False}
            )
            self._arrays[level] = array
        return self._arrays[level]

    def write(self, start_zyx: Sequence[int], block: NDArray[Any]) -> None:
        """Write a box of level 0.

        Parameters
        ----------
        start_zyx : sequence of int
            First voxel along z, y, x.
        block : ndarray, shape (nz, ny, nx)
            Voxels of the volume's dtype. Boxes that share a chunk must not be written at the same
            time.

        Raises
        ------
        VolumeError
            If the box reaches beyond the volume or has another dtype.
        OutputError
            If a chunk cannot be written.
        """
        stop = [a + n for a, n in zip(start_zyx, block.shape, strict=True)]
        if min(start_zyx) < 0 or any(b > n for b, n in zip(stop, self.shape_zyx, strict=True)):
            raise VolumeError(
                f"{self.path}: box {list(start_zyx)} to {stop} leaves {self.shape_zyx}"
            )
        if block.dtype != self.dtype:
            raise VolumeError(f"{self.path}: block is {block.dtype}, volume is {self.dtype}")
        self._write(0, start_zyx, block)

    def _write(self, level: int, start_zyx: Sequence[int], block: NDArray[Any]) -> None:
        box = tuple(slice(a, a + n) for a, n in zip(start_zyx, block.shape, strict=True))
        try:
            self._array(level)[box] = block
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot write level {level} ({error}); check permissions and space"
            ) from error

    def chunk_origins(self, level: int = 0) -> Iterator[Index3]:
        """Yield the first voxel of every chunk of a level, in z, y, x order.

        Parameters
        ----------
        level : int
            0 is the finest.

        Yields
        ------
        tuple of int
            First voxel along z, y, x.
        """
        shape = self.level_shapes()[level]
        yield from itertools.product(*(range(0, n, self.chunk) for n in shape))

    def finish(self, pooling: Pooling = "mean", *, progress: Progress = silent) -> None:
        """Build the pyramid and write the metadata that makes the volume a finished one.

        Parameters
        ----------
        pooling : {"mean", "max", "nearest"}
            ``mean`` for CT, ``max`` for predictions.
        progress : Progress
            Called per chunk.
        """
        shapes = self.level_shapes()
        total = sum(math.prod(math.ceil(n / self.chunk) for n in shape) for shape in shapes[1:])
        done = 0
        for level in range(1, len(shapes)):
            for origin in self.chunk_origins(level):
                self._pool_chunk(level, origin, shapes, pooling)
                done += 1
                progress(done, total, f"level {level}")
        write_json(
            self.path / ".zattrs", {"multiscales": [_multiscale(self, len(shapes), pooling)]}
        )
        write_json(self.path / "meta.json", self.meta)

    def _pool_chunk(
        self, level: int, origin: Index3, shapes: list[Index3], pooling: Pooling
    ) -> None:
        fine = tuple(
            slice(2 * a, min(2 * (a + self.chunk), n))
            for a, n in zip(origin, shapes[level - 1], strict=True)
        )
        if not self._any_stored(level - 1, origin):
            return
        block = np.asarray(self._array(level - 1)[fine])
        if block.any():
            self._write(level, origin, pool_block(block, pooling))

    def _any_stored(self, level: int, coarse_origin: Index3) -> bool:
        """Return whether one of the eight chunks below a coarser chunk exists."""
        first = [2 * (a // self.chunk) for a in coarse_origin]
        return any(
            (self.path / str(level) / f"{first[0] + i}/{first[1] + j}/{first[2] + k}").exists()
            for i, j, k in itertools.product(range(2), repeat=3)
        )

    def save_state(self, name: str, value: str) -> None:
        """Write a small marker file beside the levels, atomically.

        Parameters
        ----------
        name : str
            File name; hidden names are ignored by readers.
        value : str
            Its content.
        """
        write_bytes(self.path / name, value.encode())


def pool_block(block: NDArray[Any], pooling: Pooling) -> NDArray[Any]:
    """Return a block at half the resolution.

    Parameters
    ----------
    block : ndarray of uint8 or uint16, shape (nz, ny, nx)
        Voxels; an odd last plane is repeated.
    pooling : {"mean", "max", "nearest"}
        How eight voxels become one; the mean is rounded half up.

    Returns
    -------
    ndarray, shape (ceil(nz / 2), ceil(ny / 2), ceil(nx / 2))
        Of the same dtype.
    """
    if pooling == "nearest":
        return np.ascontiguousarray(block[::2, ::2, ::2])
    padded = np.pad(block, [(0, n % 2) for n in block.shape], mode="edge")
    corners = [padded[i::2, j::2, k::2] for i, j, k in itertools.product(range(2), repeat=3)]
    if pooling == "max":
        highest: NDArray[Any] = corners[0]
        for corner in corners[1:]:
            highest = np.maximum(highest, corner)
        return highest
    total = np.full(corners[0].shape, 4, np.uint32)
    for corner in corners:
        total += corner
    return (total >> 3).astype(block.dtype)


def _multiscale(writer: VolumeWriter, n_levels: int, pooling: Pooling) -> dict[str, Any]:
    """Return the NGFF 0.4 description of the levels."""
    return {
        "version": "0.4",
        "name": writer.meta["name"],
        "axes": [{"name": axis, "type": "space"} for axis in "zyx"],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": [float(2**level)] * 3}],
            }
            for level in range(n_levels)
        ],
        "metadata": {"downsampling_method": pooling},
    }
