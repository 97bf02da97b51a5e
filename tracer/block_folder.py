"""A folder of 3-D blocks named by their origin, ``z_y_x``, that may overlap.

Where blocks overlap, the one whose name sorts last wins, or the larger value. Between blocks the
volume is 0.
"""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, ParamsError
from tracer.nrrd import read_nrrd_header
from tracer.scan_files import (
    BLOCK_NAME,
    NPY_SUFFIX,
    NRRD_SUFFIXES,
    files_digest,
    read_block_file,
    resolve_nrrd_axes,
)
from tracer.tif_stack import TifPages

Zyx = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    path: Path
    start_zyx: Zyx
    shape_zyx: Zyx
    dtype: np.dtype[Any]

    @property
    def stop_zyx(self) -> Zyx:
        z, y, x = (a + n for a, n in zip(self.start_zyx, self.shape_zyx, strict=True))
        return z, y, x


class BlockFolderSource:
    """Blocks placed into one volume.

    Parameters
    ----------
    paths : sequence of Path
        Block files.
    where : str
        Their folder.
    origin_zyx : tuple of int or None
        Where the volume starts, in the coordinates of the names; None for the lowest corner of all
        blocks.
    overlap : {"last", "max"}
        What counts where blocks overlap.
    nrrd_axes : {"auto", "xyz", "zyx"}
        Order of the axes of NRRD blocks, fastest first.
    cache_bytes : int
        How much of decoded blocks to keep.

    Attributes
    ----------
    n_blocks : int
        Number of files.

    Raises
    ------
    FormatError
        If a file is damaged, not named by its origin, or of another type than the others.
    ParamsError
        If a block lies below the wanted origin.
    """

    voxel_size_um: float | None = None

    def __init__(
        self,
        paths: Sequence[Path],
        where: str,
        *,
        origin_zyx: Zyx | None,
        overlap: str,
        nrrd_axes: str,
        cache_bytes: int,
    ) -> None:
        self.where = where
        self.n_blocks = len(paths)
        self.kind = f"folder of {len(paths)} blocks"
        self._overlap = overlap
        self._paths = sorted(paths, key=lambda path: path.name)
        self._nrrd_axes = resolve_nrrd_axes(self._paths, nrrd_axes)
        self._blocks = [_inspect(path, self._nrrd_axes) for path in self._paths]
        self.dtype = self._blocks[0].dtype
        for block in self._blocks:
            if block.dtype != self.dtype:
                raise FormatError(
                    f"{block.path}: is {block.dtype}, but {self._paths[0].name} is {self.dtype}; "
                    "blocks of a volume have to agree"
                )
        low = np.min([block.start_zyx for block in self._blocks], axis=0)
        high = np.max([block.stop_zyx for block in self._blocks], axis=0)
        if origin_zyx is not None:
            for block in self._blocks:
                if any(a < b for a, b in zip(block.start_zyx, origin_zyx, strict=True)):
                    raise ParamsError(
                        f"{block.path}: starts at {block.start_zyx}, below the origin "
                        f"{origin_zyx}; choose a lower origin or remove the block"
                    )
            low = np.asarray(origin_zyx)
        self.origin_zyx = (int(low[0]), int(low[1]), int(low[2]))
        extent = high - low
        self.shape_zyx = (int(extent[0]), int(extent[1]), int(extent[2]))
        self._cache_bytes = cache_bytes
        self._loaded: OrderedDict[Path, NDArray[Any]] = OrderedDict()

    def _touching(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> list[_Block]:
        absolute = [
            (a + o, b + o) for a, b, o in zip(start_zyx, stop_zyx, self.origin_zyx, strict=True)
        ]
        return [
            block
            for block in self._blocks
            if all(
                lo < b and hi > a
                for (a, b), lo, hi in zip(absolute, block.start_zyx, block.stop_zyx, strict=True)
            )
        ]

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        """Return a box.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        ndarray
            Its voxels; 0 between blocks.

        Raises
        ------
        FormatError
            If a block is damaged.
        """
        out = np.zeros([b - a for a, b in zip(start_zyx, stop_zyx, strict=True)], self.dtype)
        for block in self._touching(start_zyx, stop_zyx):
            to, of = [], []
            for axis, (a, b) in enumerate(zip(start_zyx, stop_zyx, strict=True)):
                start = block.start_zyx[axis] - self.origin_zyx[axis]
                low, high = max(a, start), min(b, start + block.shape_zyx[axis])
                to.append(slice(low - a, high - a))
                of.append(slice(low - start, high - start))
            target = out[tuple(to)]
            voxels = self._load(block)[tuple(of)]
            if self._overlap == "max":
                np.maximum(target, voxels, out=target)
            else:
                target[...] = voxels
        return out

    def _load(self, block: _Block) -> NDArray[Any]:
        found = self._loaded.pop(block.path, None)
        if found is None:
            found = read_block_file(block.path, self._nrrd_axes)
            kept = sum(array.nbytes for array in self._loaded.values()) + found.nbytes
            while self._loaded and kept > self._cache_bytes:
                kept -= self._loaded.popitem(last=False)[1].nbytes
        self._loaded[block.path] = found
        return found

    def is_empty(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> bool:
        """Return whether no block reaches into a box.

        Parameters
        ----------
        start_zyx, stop_zyx : sequence of int
            Box inside of the source.

        Returns
        -------
        bool
            True where the volume is 0 for want of blocks.
        """
        return not self._touching(start_zyx, stop_zyx)

    def facts(self) -> Mapping[str, Any]:
        """Return what identifies the source.

        Returns
        -------
        dict
            Digest of names, sizes and times of the files.
        """
        return {"input": files_digest(self._paths)}

    def close(self) -> None:
        """Let go of decoded blocks."""
        self._loaded.clear()


def _inspect(path: Path, nrrd_axes: str) -> _Block:
    """Return what a block is without decoding it."""
    match = BLOCK_NAME.match(path.name)
    if match is None:
        raise FormatError(
            f"{path}: not named by its origin; blocks are called z_y_x, e.g. 02000_02256_02000.tif"
        )
    shape: tuple[int, ...]
    suffix = path.suffix.lower()
    if suffix in NRRD_SUFFIXES:
        header = read_nrrd_header(path)
        shape = header.sizes[::-1] if nrrd_axes == "xyz" else header.sizes
        dtype = header.dtype
        if not header.is_gzip:
            read_block_file(path, nrrd_axes)  # mapped, not read: checks that nothing is cut off
    elif suffix == NPY_SUFFIX:
        mapped = read_block_file(path, nrrd_axes)
        shape, dtype = mapped.shape, mapped.dtype
    else:
        with contextlib.closing(TifPages(path)) as pages:
            shape, dtype = (pages.n_pages, *pages.layout.shape), pages.layout.dtype
    if len(shape) != 3 or math.prod(shape) == 0:
        raise FormatError(f"{path}: has shape {shape}; a block has axes z, y, x")
    z, y, x = map(int, match.groups())
    return _Block(
        path=path,
        start_zyx=(z, y, x),
        shape_zyx=(shape[0], shape[1], shape[2]),
        dtype=dtype.newbyteorder("="),
    )
