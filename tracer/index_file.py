"""A segment of the spatial index as a file that is mapped, not read.

Layout: 8 bytes magic, 8 bytes length of the header (little endian), a JSON header, then the arrays,
each aligned to 64 bytes. The header names the format, so that another version is not misread.
"""

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from tracer.atomic import replacing_file
from tracer.errors import OutputError
from tracer.index_segment import Segment
from tracer.kernels.spatial_index import BLOCK_BITS, CELL, SegmentView

FORMAT = {"version": 1, "cell": CELL}
SUFFIX = ".segment"
_MAGIC = b"TRACERIX"
_ALIGN = 64


def write_segment(store: Path, segment: Segment) -> Segment:
    """Write a segment to a file of its own and return it mapped.

    Parameters
    ----------
    store : Path
        Directory of the store.
    segment : Segment
        Anything in memory.

    Returns
    -------
    Segment
        The same, mapped from the file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    arrays = {**segment.view._asdict(), "boxes": segment.boxes}
    digest = hashlib.blake2b(digest_size=12)
    for name, fingerprint in zip(segment.names, segment.fingerprints, strict=True):
        digest.update(f"{name}\0{fingerprint}\0".encode())
    file = f"{digest.hexdigest()}{SUFFIX}"
    layout: dict[str, list[Any]] = {}
    offset = 0
    for key, array in arrays.items():
        layout[key] = [array.dtype.str, list(array.shape), offset]
        offset += -(-array.nbytes // _ALIGN) * _ALIGN
    header = json.dumps(
        {
            "format": FORMAT,
            "names": segment.names,
            "fingerprints": segment.fingerprints,
            "levels": segment.levels,
            "n_rejected": segment.n_rejected,
            "problems": dict(segment.problems),
            "arrays": layout,
            "bytes": offset,
        }
    ).encode()
    with replacing_file(store / file) as temporary, temporary.open("wb") as out:
        out.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        out.write(b"\0" * (-out.tell() % _ALIGN))
        for array in arrays.values():
            out.write(np.ascontiguousarray(array).data)
            out.write(b"\0" * (-array.nbytes % _ALIGN))
    mapped = read_segment(store / file)
    if mapped is None:
        raise OutputError(f"{store / file}: cannot be read back; check the file system")
    return mapped


def read_segment(path: Path) -> Segment | None:
    """Return a segment mapped from a file, or None if the file is not a whole segment.

    Parameters
    ----------
    path : Path
        File of a store.

    Returns
    -------
    Segment or None
        With read-only arrays.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if mapped[:8] != _MAGIC:
            return None
        length = int.from_bytes(mapped[8:16], "little")
        header = json.loads(mapped[16 : 16 + length])
        start = -(-(16 + length) // _ALIGN) * _ALIGN
        if header["format"] != FORMAT or len(mapped) != start + header["bytes"]:
            return None
        arrays = {
            key: np.frombuffer(
                mapped, dtype=dtype, count=int(np.prod(shape)), offset=start + offset
            ).reshape(shape)
            for key, (dtype, shape, offset) in header["arrays"].items()
        }
        boxes = arrays.pop("boxes")
        segment = Segment(
            names=tuple(header["names"]),
            fingerprints=tuple(header["fingerprints"]),
            view=SegmentView(**arrays),
            levels=int(header["levels"]),
            boxes=boxes,
            n_rejected=int(header["n_rejected"]),
            problems=header["problems"],
            file=str(path.absolute()),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return segment if _is_consistent(segment) else None


def _is_consistent(segment: Segment) -> bool:
    """Return whether the kernels can walk the arrays without leaving them."""
    view, n_patches = segment.view, len(segment.names)
    return (
        len(segment.fingerprints) == n_patches == len(view.patch_cols) == len(segment.boxes)
        and len(view.patch_start) == n_patches + 1
        and int(view.patch_start[-1]) == len(view.vertices)
        and len(view.patch_of_block) == -(-len(view.vertices) // (1 << BLOCK_BITS))
        and len(view.table) & (len(view.table) - 1) == 0
    )
