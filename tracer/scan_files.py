"""The files that scans come in: which belong together, in what order, and how one is read."""

import contextlib
import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, TracerWarning
from tracer.nrrd import read_nrrd, read_nrrd_header
from tracer.storage import is_url
from tracer.tif_stack import TifPages
from tracer.zarr_metadata import V2_ARRAY, V2_ATTRIBUTES, V2_GROUP, V3_NODE

TIF_SUFFIXES = (".tif", ".tiff")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
NPY_SUFFIX = ".npy"
BLOCK_NAME = re.compile(r"^(\d+)_(\d+)_(\d+)(?!\d)")


def files_digest(paths: Sequence[Path]) -> str:
    """Return a digest of names, sizes and times of files.

    Parameters
    ----------
    paths : sequence of Path
        Existing files, in order.

    Returns
    -------
    str
        Differs when a file is replaced or touched.
    """
    facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def read_block_file(path: Path, nrrd_axes: str) -> NDArray[Any]:
    """Return a whole 3-D file.

    Parameters
    ----------
    path : Path
        NRRD, npy or tif.
    nrrd_axes : {"xyz", "zyx"}
        Order of the axes of an NRRD file, fastest first.

    Returns
    -------
    ndarray, shape (z, y, x)
        Its voxels, possibly a read-only memory map.

    Raises
    ------
    FormatError
        If the file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix in NRRD_SUFFIXES:
        data = read_nrrd(path)
        return data.T if nrrd_axes == "xyz" else data
    if suffix == NPY_SUFFIX:
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise FormatError(
                f"{path}: damaged or not an npy array ({reason}); restore the file"
            ) from error
        return mapped
    with contextlib.closing(TifPages(path)) as pages:
        rows = pages.layout.shape[0]
        return np.stack([pages.read_rows(z, 0, rows) for z in range(pages.n_pages)])


def resolve_nrrd_axes(paths: Sequence[Path], wanted: str) -> str:
    """Return the order of axes of NRRD files.

    Parameters
    ----------
    paths : sequence of Path
        Files; those that are no NRRD are passed over.
    wanted : {"auto", "xyz", "zyx"}
        What the user asked for, fastest axis first. ``auto`` compares ``space origin`` of the
        headers with the z_y_x in the names: the order in which they agree is that of the axes.

    Returns
    -------
    str
        ``xyz``, which is the common one, or ``zyx``.

    Warns
    -----
    TracerWarning
        If blocks are named by their origin and still do not tell.
    """
    if wanted != "auto":
        return wanted
    undecided = False
    for path in paths:
        match = BLOCK_NAME.match(path.name)
        if path.suffix.lower() not in NRRD_SUFFIXES or match is None:
            continue
        origin_zyx = tuple(map(float, match.groups()))
        origin = read_nrrd_header(path).origin
        if origin_zyx != origin_zyx[::-1] and origin in (origin_zyx, origin_zyx[::-1]):
            return "zyx" if origin == origin_zyx else "xyz"
        undecided = True
    if undecided:
        warnings.warn(
            f"{paths[0]}: 'space origin' does not tell the order of the axes; x is taken as the "
            "fastest. If the blocks do not join, use --nrrd-axes zyx",
            TracerWarning,
            stacklevel=2,
        )
    return "xyz"


def list_data_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may be slices or blocks, in natural order.

    Parameters
    ----------
    folder : Path
        Folder, not searched recursively.

    Returns
    -------
    list of Path
        Visible tif, NRRD and npy files; ``slice_9`` before ``slice_10``.
    """
    suffixes = (*TIF_SUFFIXES, *NRRD_SUFFIXES, NPY_SUFFIX)
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(found, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[int | str], str]:
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name


def is_zarr(location: str) -> bool:
    """Return whether a path or URL is to be read as Zarr.

    Parameters
    ----------
    location : str
        What the user gave.

    Returns
    -------
    bool
        True for URLs and for folders with Zarr metadata or a name ending in ``.zarr``.
    """
    if is_url(location):
        return True
    folder = Path(location)
    names = (V2_ARRAY, V2_GROUP, V2_ATTRIBUTES, V3_NODE)
    return folder.is_dir() and (
        folder.suffix == ".zarr" or any((folder / name).is_file() for name in names)
    )


def check_slice_numbers(paths: Sequence[Path]) -> None:
    """Refuse a stack in which a slice is missing, which would shift all that follow.

    Parameters
    ----------
    paths : sequence of Path
        Files in the order of slices. Names without a number are not checked.

    Raises
    ------
    FormatError
        If the last numbers in the names do not rise in equal steps.
    """
    found = [re.findall(r"\d+", path.stem) for path in paths]
    if len(paths) < 3 or not all(found):
        return
    numbers = [int(digits[-1]) for digits in found]
    step = min(b - a for a, b in itertools.pairwise(numbers))
    for path, (a, b) in zip(paths[1:], itertools.pairwise(numbers), strict=True):
        if b - a != step or step < 1:
            raise FormatError(
                f"{path}: slice numbers jump from {a} to {b}, others by {step}; restore the "
                "missing slice or rename the files"
            )
