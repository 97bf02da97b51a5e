"""Rows of tif pages, so that a stack of large slices is read band by band in bounded memory."""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Shape and type of the pixels of a page.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    dtype : dtype
        In native byte order.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} {self.dtype}"


class TifPages:
    """The pages of one tif file as slices of a volume.

    Parameters
    ----------
    path : Path
        File with one page (a slice of a stack) or several (a 3-D tif).

    Attributes
    ----------
    path : Path
        The file.
    layout : PageLayout
        Of every page.
    n_pages : int
        Number of slices.

    Raises
    ------
    FormatError
        If it is not a readable tif of single-channel pages of one shape, or is truncated.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        # It reports damage by logging as well; without a handler that goes to standard error.
        logging.getLogger("tifffile").addHandler(logging.NullHandler())
        self.path = path
        try:
            self._tif = tifffile.TiffFile(path)
        except (OSError, ValueError, struct.error, IndexError, KeyError) as error:
            raise _unreadable(path, error) from error
        try:
            self._inspect()
        except (ValueError, struct.error, IndexError, KeyError, OSError, TypeError) as error:
            self.close()
            raise error if isinstance(error, FormatError) else _unreadable(path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def _inspect(self) -> None:
        """Check every page without decoding it."""
        first = self._tif.pages[0]
        if len(first.shape) != 2:
            raise FormatError(
                f"{self.path}: its pages have shape {first.shape}; a slice is one channel of rows "
                "and columns, so convert it to greyscale, one page per slice"
            )
        rows, cols = first.shape
        self.layout = PageLayout((rows, cols), np.dtype(first.dtype))
        self.n_pages = len(self._tif.pages)
        series = self._tif.series[0]
        # ImageJ writes large stacks as one page in front of all the pixels
        self._stacked_at = None
        if self.n_pages == 1 and len(series.shape) == 3 and series.dataoffset is not None:
            self.n_pages = int(series.shape[0])
            self._stacked_at = int(series.dataoffset)
        images = int((self._tif.imagej_metadata or {}).get("images", 1))
        if images > self.n_pages:
            raise FormatError(
                f"{self.path}: truncated, {self.n_pages} of {images} images; restore the file"
            )
        size = self.path.stat().st_size
        for number, page in enumerate(self._tif.pages):
            layout = (page.shape, np.dtype(page.dtype))
            if layout != (self.layout.shape, self.layout.dtype):
                raise FormatError(
                    f"{self.path}: page {number} is {layout[0]} {layout[1]}, but page 0 is "
                    f"{self.layout}; the slices of a volume have to agree"
                )
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
            if self._stacked_at is not None:
                end = self._stacked_at + self.n_pages * self._page_bytes
            if end > size:
                raise FormatError(
                    f"{self.path}: truncated, {size} bytes instead of {end}; restore the file"
                )

    @property
    def _page_bytes(self) -> int:
        return self.layout.shape[0] * self.layout.shape[1] * self.layout.dtype.itemsize

    def read_rows(self, page: int, start: int, stop: int) -> NDArray[Any]:
        """Return some rows of a page, decoding no more than the strips or tiles they lie in.

        Parameters
        ----------
        page : int
            Slice.
        start, stop : int
            First row, and one past the last.

        Returns
        -------
        ndarray, shape (stop - start, cols)
            Pixels in native byte order.

        Raises
        ------
        FormatError
            If the data is damaged.
        """
        try:
            return self._read_rows(page, start, stop)
        except (OSError, ValueError, RuntimeError, struct.error, IndexError, TypeError) as error:
            raise _unreadable(self.path, error) from error

    def _read_rows(self, number: int, start: int, stop: int) -> NDArray[Any]:
        cols = self.layout.shape[1]
        page = self._tif.pages[0 if self._stacked_at is not None else number]
        stored = self.layout.dtype.newbyteorder(self._tif.byteorder)
        if self._stacked_at is not None:
            at = self._stacked_at + number * self._page_bytes
        elif page.is_memmappable:
            at = page.dataoffsets[0]
        else:
            return self._decode_rows(page, start, stop)
        pixels = np.fromfile(
            self.path,
            dtype=stored,
            count=(stop - start) * cols,
            offset=at + start * cols * stored.itemsize,
        )
        return pixels.reshape(stop - start, cols).astype(self.layout.dtype, copy=False)

    def _decode_rows(self, page: Any, start: int, stop: int) -> NDArray[Any]:
        out = np.zeros((stop - start, self.layout.shape[1]), self.layout.dtype)
        for index in _segments_of_rows(page, start, stop):
            if page.databytecounts[index] == 0:
                continue
            handle = self._tif.filehandle
            with handle.lock:
                handle.seek(page.dataoffsets[index])
                data = handle.read(page.databytecounts[index])
            # decoded: (depth, rows, cols, samples) at (separate, depth, row, col, sample)
            decoded, at, _ = page.decode(data, index, jpegtables=page.jpegtables)
            if decoded is None:
                continue
            row, col = at[2], at[3]
            segment = decoded[0, :, : out.shape[1] - col, 0]
            first, last = max(start, row), min(stop, row + segment.shape[0])
            out[first - start : last - start, col : col + segment.shape[1]] = segment[
                first - row : last - row
            ]
        return out


def _segments_of_rows(page: Any, start: int, stop: int) -> Iterator[int]:
    """Yield the indices of the strips or tiles of a page that hold rows of [start, stop)."""
    if page.is_tiled:
        per_row = -(-page.imagewidth // page.tilewidth)
        height = page.tilelength
    else:
        per_row = 1
        height = min(page.rowsperstrip, page.imagelength)
    for row in range(start // height, -(-stop // height)):
        yield from range(row * per_row, (row + 1) * per_row)


def _unreadable(path: Path, error: Exception) -> FormatError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return FormatError(f"{path}: damaged or not a tif ({reason}); restore the file")
