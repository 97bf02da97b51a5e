"""Walk a volume in blocks with a halo."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, int, int]


class Readable(Protocol):
    """What blocks are read from: a :class:`tracer.volume.Volume` or the like."""

    @property
    def shape_zyx(self) -> Index:
        """Return the shape of level 0."""

    def read(self, level: int, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
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
