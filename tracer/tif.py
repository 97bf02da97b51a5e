"""Tif grids: the few kinds that surfaces consist of quickly, all others through tifffile."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError

_BIG_TIFF_FROM_BYTES = 2**32 - 2**25  # what tifffile itself switches at

# Tags of a baseline tif that the quick reader understands, with the value that it requires.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS = 256, 257, 258, 259, 273
_SAMPLES, _ROWS_PER_STRIP, _COUNTS, _PREDICTOR, _SAMPLE_FORMAT = 277, 278, 279, 317, 339
_TILE_WIDTH, _FILL_ORDER = 322, 266
_FIELD = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}
_DTYPES = {(1, 8): "<u1", (1, 16): "<u2", (1, 32): "<u4", (3, 32): "<f4", (3, 64): "<f8"}
_PLAIN, _LZW = 1, 5


def read_tif(path: Path) -> NDArray[Any]:
    """Return the first page of a tif file.

    Parameters
    ----------
    path : Path
        Any tif that tifffile reads. Small uncompressed or LZW single-strip files, which is what
        surfaces consist of, take a path of a few microseconds instead of a millisecond.

    Returns
    -------
    ndarray, shape (rows, cols) or (rows, cols, samples)
        Pixels in native byte order.

    Raises
    ------
    FormatError
        If the file is missing, truncated or not a tif.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot read ({error.strerror}); restore the file") from error
    quick = _read_quick(data)
    if quick is not None:
        return quick
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            pixels = np.asarray(page.asarray())
    except (OSError, ValueError, RuntimeError, struct.error, IndexError, KeyError) as error:
        raise FormatError(f"{path}: not a readable tif ({error}); restore the file") from error
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _read_quick(data: bytes) -> NDArray[Any] | None:
    """Return the pixels of a plain little-endian tif, or None if tifffile has to look at it."""
    if data[:4] != b"II*\0" or len(data) < 10:
        return None
    tags = _read_tags(data)
    if tags is None:
        return None
    one = {key: value[0] for key, value in tags.items() if value}
    kind = _DTYPES.get((one.get(_SAMPLE_FORMAT, 1), one.get(_BITS, 1)))
    compression = one.get(_COMPRESSION, 1)
    if (
        kind is None
        or compression not in (_PLAIN, _LZW)
        or one.get(_SAMPLES, 1) != 1
        or one.get(_PREDICTOR, 1) != 1
        or one.get(_FILL_ORDER, 1) != 1
        or _TILE_WIDTH in tags
        or not {_WIDTH, _HEIGHT, _OFFSETS, _COUNTS} <= one.keys()
    ):
        return None
    dtype = np.dtype(kind)
    shape = (one[_HEIGHT], one[_WIDTH])
    row_bytes = shape[1] * dtype.itemsize
    rows_per_strip = min(one.get(_ROWS_PER_STRIP, shape[0]), shape[0])
    strips = []
    for index, (offset, count) in enumerate(zip(tags[_OFFSETS], tags[_COUNTS], strict=False)):
        strip = data[offset : offset + count]
        expected = min(rows_per_strip, shape[0] - index * rows_per_strip) * row_bytes
        if compression == _LZW:
            strip = _decode_lzw(strip, expected)
        if len(strip) < expected:
            return None  # truncated: tifffile says how
        strips.append(strip[:expected])
    whole = b"".join(strips)
    if len(whole) != shape[0] * row_bytes:
        return None
    pixels = np.frombuffer(whole, dtype=dtype).reshape(shape)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def _read_tags(data: bytes) -> dict[int, Sequence[int]] | None:
    """Return tag number to integer values of the first directory of a classic tif."""
    try:
        (start,) = struct.unpack_from("<I", data, 4)
        (n_tags,) = struct.unpack_from("<H", data, start)
        tags: dict[int, Sequence[int]] = {}
        for entry in struct.iter_unpack("<HHI4s", data[start + 2 : start + 2 + 12 * n_tags]):
            tag, field, count, inline = entry
            if field not in _FIELD:
                continue
            letter, size = _FIELD[field]
            if count * size <= 4:
                tags[tag] = struct.unpack_from(f"<{count}{letter}", inline)
            else:
                (offset,) = struct.unpack("<I", inline)
                tags[tag] = struct.unpack_from(f"<{count}{letter}", data, offset)
    except struct.error:
        return None
    return tags


def _decode_lzw(strip: bytes, expected_bytes: int) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.lzw_decode(strip, out=expected_bytes))
    except (RuntimeError, ValueError):
        return b""


def write_tif(path: Path, pixels: NDArray[Any]) -> None:
    """Write one grid as an LZW-compressed tif; BigTIFF where it has to be.

    Parameters
    ----------
    path : Path
        File to create; not atomic, surfaces are written into a temporary directory.
    pixels : ndarray, shape (rows, cols) or (rows, cols, 3)
        Grid; a last axis of 3 samples is written as RGB.
    """
    import tifffile

    tifffile.imwrite(
        path,
        np.ascontiguousarray(pixels),
        compression="lzw",
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        bigtiff=pixels.nbytes >= _BIG_TIFF_FROM_BYTES,
        metadata=None,
        software=False,
    )


def write_pages(path: Path, pages: Sequence[NDArray[Any]]) -> None:
    """Write several grids as the pages of one LZW-compressed tif.

    Parameters
    ----------
    path : Path
        File to create; not atomic.
    pages : sequence of ndarray
        Pages in order; they may differ in dtype.
    """
    import tifffile

    big = sum(page.nbytes for page in pages) >= _BIG_TIFF_FROM_BYTES
    with tifffile.TiffWriter(path, bigtiff=big) as tif:
        for page in pages:
            tif.write(
                np.ascontiguousarray(page),
                compression="lzw",
                photometric="minisblack",
                metadata=None,
                software=False,
            )
