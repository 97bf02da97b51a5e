"""Walk a volume in blocks with a halo, remember which are done, and go on after a crash.

A journal beside the output holds one line per finished block. Its first line identifies the work
(inputs and parameters); a journal of other work is not continued. A line that a crash cut short is
ignored, so its block is done again.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.errors import OutputError

Index = tuple[int, int, int]


class Readable(Protocol):
    """What blocks are read from: a :class:`tracer.volume.Volume` or the like."""

    @property
    def shape_zyx(self) -> Index:
        """Return the shape of level 0."""

    def read(self, level: int, start_zyx: Index, stop_zyx: Index) -> NDArray[Any]:
        """Return a box of a level; zeros outside the volume."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a volume.

    Attributes
    ----------
    number : int
        Position in the order of work.
    start_zyx, stop_zyx : tuple of int
        Its box; inside the volume.
    """

    number: int
    start_zyx: Index
    stop_zyx: Index

    @property
    def shape_zyx(self) -> Index:
        """Return the extents."""
        z, y, x = (b - a for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))
        return z, y, x


def block_grid(shape_zyx: Index, edge: int) -> Index:
    """Return the number of blocks along each axis.

    Parameters
    ----------
    shape_zyx : tuple of int
        Shape of the volume.
    edge : int
        Edge of a block in voxels.

    Returns
    -------
    tuple of int
        At least one each.
    """
    z, y, x = (max(1, math.ceil(extent / edge)) for extent in shape_zyx)
    return z, y, x


def iterate_blocks(shape_zyx: Index, edge: int) -> Iterator[Block]:
    """Yield the blocks of a volume in C order.

    Parameters
    ----------
    shape_zyx : tuple of int
        Shape of the volume.
    edge : int
        Edge of a block in voxels; blocks at the upper sides are cut off.

    Yields
    ------
    Block
        Disjoint boxes that cover the volume.
    """
    grid = block_grid(shape_zyx, edge)
    for number, index in enumerate(itertools.product(*(range(n) for n in grid))):
        z, y, x = (edge * i for i in index)
        stop = tuple(min(a + edge, n) for a, n in zip((z, y, x), shape_zyx, strict=True))
        yield Block(number, (z, y, x), (stop[0], stop[1], stop[2]))


def read_with_halo(volume: Readable, block: Block, halo: int) -> NDArray[Any]:
    """Return a block with a halo; beyond the volume its outermost voxels are repeated.

    Parameters
    ----------
    volume : Readable
        Source.
    block : Block
        Box to read.
    halo : int
        Voxels on every side; even.

    Returns
    -------
    ndarray, shape (z + 2 halo, y + 2 halo, x + 2 halo)
        Native dtype; extents rounded up to even numbers. Repeating instead of the zeros that a
        volume reads as outside keeps its faces from looking like sheets.
    """
    start = [a - halo for a in block.start_zyx]
    stop = [
        a - halo + 2 * math.ceil((b - a + 2 * halo) / 2)
        for a, b in zip(block.start_zyx, block.stop_zyx, strict=True)
    ]
    low = [min(max(a, 0), n - 1) for a, n in zip(start, volume.shape_zyx, strict=True)]
    high = [max(min(b, n), 1) for b, n in zip(stop, volume.shape_zyx, strict=True)]
    inner = volume.read(0, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    padding = [(a - b, d - c) for a, b, c, d in zip(low, start, high, stop, strict=True)]
    return np.ascontiguousarray(np.pad(inner, padding, mode="edge"))


def work_identity(**facts: object) -> str:
    """Return a digest of what a piece of work is made of.

    Parameters
    ----------
    **facts : object
        JSON-serialisable inputs and parameters.

    Returns
    -------
    str
        Equal for equal facts.
    """
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """Which blocks of a piece of work are done, on disk.

    Parameters
    ----------
    path : Path
        Journal file.
    identity : str
        What the work is; see :func:`work_identity`.

    Attributes
    ----------
    done : dict
        Block number to the counts recorded for it.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.done: dict[int, Mapping[str, int]] = {}
        lines = self._lines()
        if lines and lines[0] == {"work": identity}:
            self.done = {int(line["block"]): line["counts"] for line in lines[1:]}
        else:
            self._append({"work": identity}, mode="w")

    def _lines(self) -> list[Any]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.split("\n")[:-1] if _is_whole(line)]

    def _append(self, value: Mapping[str, Any], mode: str = "a") -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                # A line cut short by a crash is ended here, so that it spoils no other.
                file.write(("\n" if mode == "a" else "") + json.dumps(value) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot write ({error.strerror}); check permissions and free space"
            ) from error

    def record(self, block: Block, counts: Mapping[str, int]) -> None:
        """Remember that a block is finished.

        Parameters
        ----------
        block : Block
            Finished, and on disk.
        counts : mapping
            What was found in it.
        """
        self._append({"block": block.number, "counts": dict(counts)})
        self.done[block.number] = dict(counts)

    def total(self, key: str) -> int:
        """Return the sum of a count over all finished blocks.

        Parameters
        ----------
        key : str
            Name of the count.

        Returns
        -------
        int
            Sum.
        """
        return sum(counts.get(key, 0) for counts in self.done.values())


def _is_whole(line: str) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and ("work" in value or {"block", "counts"} <= value.keys())
