"""Blocks that may overlap, and how they become one volume again.

A grid of blocks is the product of spans along the three axes. Neighbours share voxels or just meet.
Every voxel belongs to the *core* of exactly one block: cores meet in the middle of the overlaps.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from tracer.predict.window_grid import Index

Span = tuple[int, int]
Box = tuple[Index, Index]
BlockReader = Callable[[int], NDArray[np.uint8] | None]

_CACHE_BYTES = 2**31  # decoded blocks kept while their neighbours are put together


def overlapping_spans(extent: int, edge: int, overlap: int) -> tuple[Span, ...]:
    """Return spans of a given length that overlap and cover an axis.

    Parameters
    ----------
    extent : int
        Voxels along the axis.
    edge : int
        Voxels of a span, fewer only where the axis is shorter.
    overlap : int
        Voxels that neighbours share at least, less than `edge`.

    Returns
    -------
    tuple of tuple of int
        Start and stop; the last one is moved back to end with the axis.
    """
    if extent <= edge:
        return ((0, extent),)
    starts = [*range(0, extent - edge, edge - overlap), extent - edge]
    return tuple((a, a + edge) for a in starts)


def core_spans(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return the disjoint spans that meet in the middle of the overlaps.

    Parameters
    ----------
    spans : tuple of tuple of int
        Ascending, without gaps.

    Returns
    -------
    tuple of tuple of int
        One inside each span; they cover the same axis.
    """
    middles = [(stop + start) // 2 for (_, stop), (start, _) in itertools.pairwise(spans)]
    borders = [spans[0][0], *middles, spans[-1][1]]
    return tuple(itertools.pairwise(borders))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGrid:
    """Blocks of a volume, numbered in C order.

    Attributes
    ----------
    spans : tuple of tuple of tuple of int
        Start and stop of the blocks along z, y and x.
    """

    spans: tuple[tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]

    @classmethod
    def overlapping(cls, shape_zyx: Index, edge: int, overlap: int) -> Self:
        """Return blocks of one size that overlap.

        Parameters
        ----------
        shape_zyx : tuple of int
            Shape of the volume.
        edge : int
            Edge of a block.
        overlap : int
            Voxels that neighbours share.

        Returns
        -------
        BlockGrid
            They cover the volume.
        """
        z, y, x = (overlapping_spans(extent, edge, overlap) for extent in shape_zyx)
        return cls(spans=(z, y, x))

    @classmethod
    def meeting(cls, borders: tuple[tuple[int, ...], ...]) -> Self:
        """Return blocks that meet at given borders.

        Parameters
        ----------
        borders : tuple of tuple of int
            Along z, y and x, the first 0 and the last the extent.

        Returns
        -------
        BlockGrid
            Disjoint blocks.
        """
        z, y, x = (tuple(itertools.pairwise(along)) for along in borders)
        return cls(spans=(z, y, x))

    @property
    def counts(self) -> Index:
        """Return the number of blocks along each axis."""
        z, y, x = (len(along) for along in self.spans)
        return z, y, x

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def _box(self, spans: tuple[tuple[Span, ...], ...], number: int) -> Box:
        index = np.unravel_index(number, self.counts)
        (z0, z1), (y0, y1), (x0, x1) = (
            along[int(i)] for along, i in zip(spans, index, strict=True)
        )
        return (z0, y0, x0), (z1, y1, x1)

    def box(self, number: int) -> Box:
        """Return a block with what it shares.

        Parameters
        ----------
        number : int
            Block.

        Returns
        -------
        tuple of tuple of int
            Start and stop.
        """
        return self._box(self.spans, number)

    def core(self, number: int) -> Box:
        """Return the part of a block that is nobody else's.

        Parameters
        ----------
        number : int
            Block.

        Returns
        -------
        tuple of tuple of int
            Start and stop.
        """
        return self._box(tuple(core_spans(along) for along in self.spans), number)

    def reaching(self, start_zyx: Index, stop_zyx: Index) -> Iterator[int]:
        """Yield the blocks that reach into a box.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Box.

        Yields
        ------
        int
            Numbers, ascending.
        """
        along = [
            [i for i, (a, b) in enumerate(spans) if a < high and b > low]
            for spans, low, high in zip(self.spans, start_zyx, stop_zyx, strict=True)
        ]
        for index in itertools.product(*along):
            yield int(np.ravel_multi_index(index, self.counts))


class BlockMerger:
    """Blocks put together.

    Parameters
    ----------
    grid : BlockGrid
        Where they lie.
    read : callable
        Returns a block's voxels, or None for an empty one.
    blend : {"exact", "gaussian", "crop"}
        Whether overlaps are averaged with Gaussian weights or each block ends at its core.
    """

    def __init__(
        self, grid: BlockGrid, read: BlockReader, blend: Literal["exact", "gaussian", "crop"]
    ) -> None:
        self._grid = grid
        self._read_block = read
        self._blend = blend
        self._kept: OrderedDict[int, NDArray[np.uint8] | None] = OrderedDict()

    def _block(self, number: int) -> NDArray[np.uint8] | None:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        found = self._read_block(number)
        self._kept[number] = found
        held = sum(block.nbytes for block in self._kept.values() if block is not None)
        while held > _CACHE_BYTES and len(self._kept) > 1:
            oldest = self._kept.popitem(last=False)[1]
            held -= 0 if oldest is None else oldest.nbytes
        return found

    def core(self, number: int) -> NDArray[np.uint8] | None:
        """Return the merged voxels of a block's core.

        Parameters
        ----------
        number : int
            Block.

        Returns
        -------
        ndarray of uint8 or None
            None where all are 0.
        """
        start, stop = self._grid.core(number)
        if self._blend != "gaussian":
            block = self._block(number)
            return None if block is None else block[_inside(start, stop, self._grid.box(number)[0])]
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for other in self._grid.reaching(start, stop):
            low, high = self._grid.box(other)
            a = tuple(max(p, q) for p, q in zip(start, low, strict=True))
            b = tuple(min(p, q) for p, q in zip(stop, high, strict=True))
            here = tuple(slice(p - o, q - o) for p, q, o in zip(a, b, start, strict=True))
            weights = _block_weights(low, high, a, b)
            weight[here] += weights
            block = self._block(other)
            if block is not None:
                total[here] += weights * block[_inside(a, b, low)]
        merged = np.round(total / weight).astype(np.uint8)
        return merged if merged.any() else None


def _inside(start: tuple[int, ...], stop: tuple[int, ...], origin: Index) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, origin, strict=True))


def _block_weights(
    low: Index, high: Index, start: tuple[int, ...], stop: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the Gaussian weights of a part of a block: 1 in its middle, an eighth wide."""
    out = np.ones((), np.float64)
    for p, q, a, b in zip(low, high, start, stop, strict=True):
        offsets = np.arange(a, b) - 0.5 * (p + q - 1)
        out = out[..., None] * np.exp(-0.5 * (offsets / max(0.5, (q - p) / 8)) ** 2)
    return out.astype(np.float32)
