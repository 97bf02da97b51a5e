"""Small pictures beside the layers: the mask of valid pixels and a preview."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import replacing_file
from tracer.render.canvas import Canvas
from tracer.render.geometry import Geometry

PREVIEW_PIXELS = 2048  # longest side of a preview


def write_png(path: Path, shape: tuple[int, int], bands: Iterable[NDArray[np.uint8]]) -> None:
    """Write an 8-bit grey png band by band, whatever its size.

    Parameters
    ----------
    path : Path
        File to create, atomically.
    shape : tuple of int
        (rows, cols).
    bands : iterable of ndarray of uint8, shape (n, cols)
        Rows from top to bottom.
    """
    rows, cols = shape
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", cols, rows, 8, 0, 0, 0, 0))
        packer = zlib.compressobj(3)
        for band in bands:
            lines = np.zeros((band.shape[0], cols + 1), dtype=np.uint8)  # leading 0: no filter
            lines[:, 1:] = band
            data = packer.compress(lines.tobytes())
            if data:
                _write_chunk(file, b"IDAT", data)
        _write_chunk(file, b"IDAT", packer.flush())
        _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data)
    file.write(struct.pack(">I", zlib.crc32(name + data)))


def write_mask(path: Path, geometry: Geometry, canvas: Canvas) -> None:
    """Write which pixels show the surface: 255, else 0.

    Parameters
    ----------
    path : Path
        The png to create.
    geometry : Geometry
        The surface.
    canvas : Canvas
        The picture.
    """
    down, across = canvas.tiles_shape

    def bands() -> Iterable[NDArray[np.uint8]]:
        for row in range(down):
            yield np.concatenate(
                [tile_mask(geometry, canvas, row * across + col) for col in range(across)], axis=1
            )

    write_png(path, canvas.shape, bands())


def tile_mask(geometry: Geometry, canvas: Canvas, index: int) -> NDArray[np.uint8]:
    """Return the mask of one tile.

    Parameters
    ----------
    geometry : Geometry
        The surface.
    canvas : Canvas
        The picture.
    index : int
        Row-major number of the tile.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        255 where the surface is, else 0.
    """
    from tracer.kernels.render import mark_valid_pixels

    rows, cols = canvas.grid_positions(canvas.tile_at(index))
    mask = np.empty((len(rows), len(cols)), dtype=np.uint8)
    mark_valid_pixels(geometry.normals_xyz, geometry.valid, rows, cols, mask)
    return np.asarray(canvas.oriented(mask), dtype=np.uint8)


class Preview:
    """A picture reduced by a whole factor, from tiles in any order.

    Parameters
    ----------
    shape : tuple of int
        (rows, cols) of the large picture.
    longest : int
        Most pixels along a side of the small one.
    """

    def __init__(self, shape: tuple[int, int], longest: int = PREVIEW_PIXELS) -> None:
        self.factor = max(1, -(-max(shape) // longest))
        self._shape = shape
        small = (-(-shape[0] // self.factor), -(-shape[1] // self.factor))
        self._sums = np.zeros(small, dtype=np.float64)

    def add(self, row: int, col: int, pixels: NDArray[np.generic]) -> None:
        """Add a tile.

        Parameters
        ----------
        row : int
            Its first row.
        col : int
            Its first column.
        pixels : ndarray, shape (height, width)
            Values of 8 or 16 bits.
        """
        values = pixels.astype(np.float64) / (257.0 if pixels.dtype.itemsize == 2 else 1.0)
        at_rows = (row + np.arange(values.shape[0])) // self.factor
        at_cols = (col + np.arange(values.shape[1])) // self.factor
        row_starts = np.flatnonzero(np.diff(at_rows, prepend=-1))
        col_starts = np.flatnonzero(np.diff(at_cols, prepend=-1))
        sums = np.add.reduceat(np.add.reduceat(values, row_starts, axis=0), col_starts, axis=1)
        self._sums[np.ix_(at_rows[row_starts], at_cols[col_starts])] += sums

    def save(self, path: Path) -> None:
        """Write the picture.

        Parameters
        ----------
        path : Path
            File to create, atomically; its suffix decides on the format.
        """
        from PIL import Image

        counts = [
            np.minimum(self.factor, n - np.arange(small) * self.factor)
            for n, small in zip(self._shape, self._sums.shape, strict=True)
        ]
        means = self._sums / np.multiply.outer(counts[0], counts[1])
        picture = Image.fromarray(np.floor(means + 0.5).clip(0, 255).astype(np.uint8))
        with replacing_file(path) as temporary:
            picture.save(temporary, format="PNG" if path.suffix == ".png" else "JPEG", quality=90)
