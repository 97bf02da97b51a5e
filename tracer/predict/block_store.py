"""Predicted blocks on disk: done by any number of processes, each block once, in any order.

A block is a file that appears whole. There is no other state: a process that is killed loses the
block that it was at, and several machines that see the folder can share the work. ``work.json``
says what the blocks are of, so that a folder is never continued with other inputs or parameters.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import write_bytes, write_json
from tracer.errors import FormatError, OutputError
from tracer.predict.overlapping_blocks import BlockGrid

_WORK = "work.json"


class BlockStore:
    """The folder of the predicted blocks of one volume. Make one with :meth:`open`.

    Parameters
    ----------
    folder : Path
        Where it is.
    grid : BlockGrid
        Where the blocks lie.
    """

    def __init__(self, folder: Path, grid: BlockGrid) -> None:
        self.folder = folder
        self.grid = grid

    @classmethod
    def open(
        cls, folder: Path, grid: BlockGrid, work: Mapping[str, Any], *, restart: bool
    ) -> "BlockStore":
        """Start a folder of blocks, or continue one of the same work.

        Parameters
        ----------
        folder : Path
            Where it is or shall be.
        grid : BlockGrid
            Where the blocks lie.
        work : mapping
            JSON-serialisable facts that identify the work.
        restart : bool
            Discard what is there.

        Returns
        -------
        BlockStore
            Ready to be written.

        Raises
        ------
        OutputError
            If it cannot be written or holds blocks of other work.
        """
        if restart:
            shutil.rmtree(folder, ignore_errors=True)
        wanted = json.loads(json.dumps({**work, "spans": grid.spans}))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot write ({error.strerror or error}); check permissions and space"
            ) from error
        try:
            found = json.loads((folder / _WORK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            write_json(folder / _WORK, wanted)
            found = wanted
        if found != wanted:
            keys = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
            raise OutputError(
                f"{folder}: predicted blocks from other input or parameters ('{keys[0]}' differs); "
                "restart, which discards them, or remove the folder"
            )
        return cls(folder, grid)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.block"

    def has(self, number: int) -> bool:
        """Return whether a block is done.

        Parameters
        ----------
        number : int
            Block.

        Returns
        -------
        bool
            True for empty ones as well.
        """
        return self._path(number).is_file()

    def missing(self) -> list[int]:
        """Return the blocks that are not done.

        Returns
        -------
        list of int
            Ascending.
        """
        return [number for number in range(len(self.grid)) if not self.has(number)]

    def write(self, number: int, voxels: NDArray[np.uint8] | None) -> None:
        """Keep a block.

        Parameters
        ----------
        number : int
            Block.
        voxels : ndarray of uint8 or None
            None where all are 0.
        """
        import imagecodecs

        if voxels is None or not voxels.any():
            write_bytes(self._path(number), b"")
            return
        data = np.ascontiguousarray(voxels)
        packed = imagecodecs.blosc_encode(
            data.tobytes(), level=5, compressor="zstd", shuffle=1, typesize=1, numthreads=1
        )
        write_bytes(self._path(number), bytes(packed))

    def read(self, number: int) -> NDArray[np.uint8] | None:
        """Return a block.

        Parameters
        ----------
        number : int
            Block that is done.

        Returns
        -------
        ndarray of uint8, shape of the block, or None
            None where all are 0.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        import imagecodecs

        data = self._path(number).read_bytes()
        if not data:
            return None
        start, stop = self.grid.box(number)
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        try:
            values = np.frombuffer(imagecodecs.blosc_decode(data), np.uint8).reshape(shape)
        except (RuntimeError, ValueError) as error:
            raise FormatError(
                f"{self._path(number)}: a damaged block; remove it and predict again"
            ) from error
        return values

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
