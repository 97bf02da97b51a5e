"""A small reader of NRRD files: one attached or detached data file, raw or gzip.

NRRD lists sizes fastest first and names no order. Standard writers have x fastest, label cubes of
the Vesuvius Challenge z. :func:`read_nrrd` therefore returns the axes as the file lists them, and
the caller says what they are.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError

_TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_DTYPES = {name: np.dtype(dtype) for dtype, names in _TYPES.items() for name in names}
_RAW, _GZIP = ("raw",), ("gzip", "gz")
_HEADER_AT_MOST = 2**20  # bytes; segment tables of label files take some kilobytes
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class NrrdHeader:
    """What the header of an NRRD file says.

    Attributes
    ----------
    sizes : tuple of int
        Elements per axis, fastest first.
    dtype : dtype
        As stored, possibly big-endian.
    is_gzip : bool
        Whether the data is compressed.
    origin : tuple of float or None
        ``space origin``, in the order of the file.
    data_path : Path
        File with the data.
    data_offset : int
        Where the data starts in it, in bytes; -1 if it is the end of the file that counts.
    lines_skipped, bytes_skipped : int
        To skip from there.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    is_gzip: bool
    origin: tuple[float, ...] | None
    data_path: Path
    data_offset: int
    lines_skipped: int
    bytes_skipped: int


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Return the header of an NRRD file.

    Parameters
    ----------
    path : Path
        ``.nrrd`` or ``.nhdr``.

    Returns
    -------
    NrrdHeader
        What is needed to read its data.

    Raises
    ------
    FormatError
        If it is not a NRRD file of a kind that this reader knows.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_AT_MOST)
    except OSError as error:
        raise FormatError(f"{path}: cannot read ({error.strerror}); check the path") from error
    if not head.startswith(b"NRRD"):
        raise FormatError(f"{path}: not an NRRD file; check or convert it")
    blank = re.search(rb"\r?\n\r?\n", head)
    text = head[: blank.start()] if blank else head
    offset = blank.end() if blank else len(head)
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines()[1:]:
        name, separator, value = line.partition(": ")
        if separator and not line.startswith("#") and ":=" not in name:
            fields[name.strip().lower().replace(" ", "")] = value.strip()
    try:
        return _header(path, fields, offset, attached=blank is not None)
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: unusable NRRD header ({error}); re-save the file") from error


def _header(path: Path, fields: dict[str, str], offset: int, *, attached: bool) -> NrrdHeader:
    encoding = fields["encoding"].lower()
    if encoding not in _RAW + _GZIP:
        raise ValueError(f"encoding is {encoding!r}, only raw and gzip are read")
    if fields["type"].lower() not in _DTYPES:
        raise ValueError(f"type is {fields['type']!r}")
    dtype = _DTYPES[fields["type"].lower()]
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(">" if fields["endian"].lower() == "big" else "<")
    sizes = tuple(int(n) for n in fields["sizes"].split())
    if len(sizes) != int(fields["dimension"]) or min(sizes, default=0) < 1:
        raise ValueError(f"sizes are {fields['sizes']!r}")
    data_path = path
    detached = fields.get("datafile")
    if detached is not None:
        if detached.startswith("LIST") or "%" in detached:
            raise ValueError("its data is spread over several files")
        data_path, offset = path.parent / detached, 0
    elif not attached:
        raise ValueError("no empty line ends the header, the file is truncated")
    origin = fields.get("spaceorigin")
    return NrrdHeader(
        sizes=sizes,
        dtype=dtype,
        is_gzip=encoding in _GZIP,
        origin=None if origin is None else tuple(map(float, re.findall(_NUMBER, origin))),
        data_path=data_path,
        data_offset=offset,
        lines_skipped=int(fields.get("lineskip", 0)),
        bytes_skipped=int(fields.get("byteskip", 0)),
    )


def read_nrrd(path: Path) -> NDArray[Any]:
    """Return the data of an NRRD file.

    Parameters
    ----------
    path : Path
        ``.nrrd`` or ``.nhdr``.

    Returns
    -------
    ndarray, shape sizes
        Axes in the order of the file, the first being the fastest (Fortran order). Byte order as
        stored; read-only, and a memory map where the file is raw.

    Raises
    ------
    FormatError
        If the file is damaged or of a kind that this reader does not know.
    """
    header = read_nrrd_header(path)
    n_bytes = int(np.prod(header.sizes, dtype=np.int64)) * header.dtype.itemsize
    try:
        if header.is_gzip:
            flat = np.frombuffer(_gunzip(header, n_bytes), header.dtype)
        else:
            flat = _map_raw(header, n_bytes)
    except OSError as error:
        raise FormatError(
            f"{header.data_path}: cannot read ({error.strerror or error}); restore the file"
        ) from error
    except (ValueError, zlib.error) as error:
        raise FormatError(
            f"{header.data_path}: damaged or truncated NRRD data ({error}); restore the file"
        ) from error
    return flat.reshape(header.sizes, order="F")


def _map_raw(header: NrrdHeader, n_bytes: int) -> NDArray[Any]:
    size = header.data_path.stat().st_size
    if header.bytes_skipped == -1:
        start = size - n_bytes
    else:
        start = header.data_offset + _skip_lines(header) + header.bytes_skipped
    if start < 0 or size - start < n_bytes:
        raise ValueError(f"{max(0, size - start)} bytes instead of {n_bytes}")
    return np.memmap(
        header.data_path,
        header.dtype,
        mode="r",
        offset=start,
        shape=n_bytes // header.dtype.itemsize,
    )


def _skip_lines(header: NrrdHeader) -> int:
    with header.data_path.open("rb") as file:
        file.seek(header.data_offset)
        return sum(len(file.readline()) for _ in range(header.lines_skipped))


def _gunzip(header: NrrdHeader, n_bytes: int) -> bytes:
    """Return the decompressed data; never more than the header promises."""
    with header.data_path.open("rb") as file:
        file.seek(header.data_offset + _skip_lines(header))
        compressed = file.read()
    inflater = zlib.decompressobj(wbits=31)
    skip = max(0, header.bytes_skipped)
    data = inflater.decompress(compressed, n_bytes + skip)[skip:]
    if len(data) != n_bytes:
        raise ValueError(f"{len(data)} bytes instead of {n_bytes}")
    return data
