"""Turn scans, blocks and arrays of any kind into the OME-Zarr volume that everything works on.

The volume is written band by band: whole chunk rows along z and y, in bounded memory. Finished
bands are remembered, so the same command continues after a crash. The volume appears under its name
when it is whole.

How grey values are mapped is said in :mod:`tracer.grey_values`, what is read in
:mod:`tracer.scan_source` and :mod:`tracer.block_folder`.
"""

import contextlib
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer import __version__
from tracer.block_folder import BlockFolderSource
from tracer.errors import FormatError, ParamsError, VolumeError
from tracer.grey_values import Mapping, value_mapping
from tracer.prepare_params import PrepareParams
from tracer.progress import Progress, silent
from tracer.scan_files import (
    BLOCK_NAME,
    NPY_SUFFIX,
    NRRD_SUFFIXES,
    TIF_SUFFIXES,
    check_slice_numbers,
    is_zarr,
    list_data_files,
    read_block_file,
    resolve_nrrd_axes,
)
from tracer.scan_source import ArraySource, Source, TifStackSource, ZarrSource
from tracer.tif_stack import TifPages
from tracer.volume_writer import VolumeWriter

_NOT_FACTS = {"max_memory_gb", "name", "voxel_size_um"}  # change no voxel
_COPIES = 4.0  # of a band: as read, converted, and what is in flight

Zyx = tuple[int, int, int]
Box = tuple[Zyx, Zyx]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareResult:
    """A prepared volume.

    Attributes
    ----------
    path : Path
        The volume.
    kind : str
        What it was made from.
    shape_zyx : tuple of int
        Voxels of level 0.
    dtype : str
        Of the voxels.
    n_levels : int
        Levels written.
    origin_zyx : tuple of int
        Where its first voxel lies in the coordinates of the source.
    voxel_size_um : float
        Edge of a voxel in µm.
    n_clipped : int
        Voxels outside of the window.
    n_bands, n_bands_resumed : int
        Bands of level 0, and how many of them an earlier run had finished.
    """

    path: Path
    kind: str
    shape_zyx: Zyx
    dtype: str
    n_levels: int
    origin_zyx: Zyx
    voxel_size_um: float
    n_clipped: int
    n_bands: int
    n_bands_resumed: int

    def summary(self) -> str:
        """Return what was done, in a line or two.

        Returns
        -------
        str
            For people.
        """
        z, y, x = self.shape_zyx
        text = (
            f"{self.path}: {z} x {y} x {x} voxels (z, y, x), {self.dtype}, "
            f"{self.voxel_size_um:g} µm, {self.n_levels} level{'s' * (self.n_levels > 1)}, "
            f"from a {self.kind}"
        )
        if any(self.origin_zyx):
            text += f", starting at {self.origin_zyx} (z, y, x)"
        if self.n_bands_resumed:
            text += f"; continued after {self.n_bands_resumed} of {self.n_bands} bands"
        if self.n_clipped:
            share = 100.0 * self.n_clipped / math.prod(self.shape_zyx)
            text += f"\n{self.n_clipped} voxels ({share:.3g} %) were outside of the window"
        return text


def prepare(
    source: str | Path,
    out: str | Path,
    params: PrepareParams | None = None,
    *,
    workers: int = 1,
    restart: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PrepareResult:
    """Make an OME-Zarr volume of a scan.

    Parameters
    ----------
    source : str or Path
        Folder of 2-D tifs, 3-D tif, NRRD, npy, Zarr array or volume (also a URL), or a folder of
        blocks named ``z_y_x``.
    out : str or Path
        Volume to create.
    params : PrepareParams, optional
        How.
    workers : int
        Threads that compress; the result does not depend on them.
    restart : bool
        Discard unfinished work of an earlier run instead of continuing it.
    overwrite : bool
        Replace an existing volume when the new one is finished.
    progress : Progress
        Called with the chunks done and in all.

    Returns
    -------
    PrepareResult
        What was made.

    Raises
    ------
    FormatError
        If an input file is damaged or does not fit the others.
    VolumeError
        If an input array cannot be read.
    ParamsError
        If parameters are missing or do not suit the input.
    OutputError
        If the output exists, cannot be written, or was begun with other input or parameters.
    """
    params = params or PrepareParams()
    with contextlib.closing(open_source(source, params)) as opened:
        return _prepare(opened, Path(out), params, workers, restart, overwrite, progress)


def _prepare(
    opened: Source,
    out: Path,
    params: PrepareParams,
    workers: int,
    restart: bool,
    overwrite: bool,
    progress: Progress,
) -> PrepareResult:
    voxel_size_um = params.voxel_size_um or opened.voxel_size_um
    if voxel_size_um is None or not voxel_size_um > 0:
        raise ParamsError(
            f"{opened.where}: does not say its voxel size; give --voxel-size-um, µm per voxel, for "
            "example 7.91"
        )
    mapping = value_mapping(
        opened.dtype,
        np.dtype(params.dtype),
        keep=params.convert == "keep",
        window=params.window,
        where=opened.where,
    )
    effective = params.effective()
    writer = VolumeWriter.create(
        out,
        opened.shape_zyx,
        params.dtype,
        voxel_size_um,
        params.name,
        chunk=params.chunk,
        work={**opened.facts(), **{k: v for k, v in effective.items() if k not in _NOT_FACTS}},
        restart=restart,
        overwrite=overwrite,
    )
    try:
        counts = _write_level_0(writer, opened, mapping, params, workers, progress)
        kept = {k: v for k, v in effective.items() if k != "max_memory_gb"}
        path = writer.finish(
            params.pooling,
            extra={
                "source": "tracer prepare",
                "tracer_version": __version__,
                "params": kept,
                "origin_zyx": list(opened.origin_zyx),
            },
            workers=workers,
            progress=lambda done, total, note="": progress(
                counts.n_chunks + done, counts.n_chunks + total, note
            ),
        )
    except (FormatError, VolumeError, ParamsError):
        writer.abandon()  # bad input: there is nothing to continue
        raise
    finally:
        writer.close()
    return PrepareResult(
        path=path,
        kind=opened.kind,
        shape_zyx=opened.shape_zyx,
        dtype=params.dtype,
        n_levels=writer.n_levels,
        origin_zyx=opened.origin_zyx,
        voxel_size_um=voxel_size_um,
        n_clipped=counts.n_clipped,
        n_bands=counts.n_bands,
        n_bands_resumed=counts.n_resumed,
    )


def open_source(source: str | Path, params: PrepareParams) -> Source:
    """Return what a volume is to be made from, checked as far as possible.

    Parameters
    ----------
    source : str or Path
        What the user gave.
    params : PrepareParams
        How blocks are placed and NRRD axes are read.

    Returns
    -------
    Source
        Readable in boxes.

    Raises
    ------
    FormatError
        If files are damaged, do not fit each other, or are of no known kind.
    VolumeError
        If it is a Zarr array that cannot be used.
    ParamsError
        If the parameters do not suit it.
    """
    location = str(source)
    if is_zarr(location):
        return ZarrSource(location)
    path = Path(location)
    if path.is_dir():
        return _open_folder(path, params)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder; check the path")
    suffix = path.suffix.lower()
    if suffix in TIF_SUFFIXES:
        return TifStackSource([path], location)
    if suffix in NRRD_SUFFIXES or suffix == NPY_SUFFIX:
        axes = resolve_nrrd_axes([path], params.nrrd_axes)
        kind = "npy array" if suffix == NPY_SUFFIX else "NRRD file"
        return ArraySource(read_block_file(path, axes), kind, path)
    raise FormatError(
        f"{path}: not a kind of scan that is known; give a folder of tifs or blocks, a tif, NRRD, "
        "npy, or a zarr array"
    )


def _open_folder(folder: Path, params: PrepareParams) -> Source:
    paths = list_data_files(folder)
    if not paths:
        empty = not any(folder.iterdir())
        state = "is empty" if empty else "holds no tif, NRRD or npy file"
        raise FormatError(f"{folder}: {state}; give the folder with the slices or blocks")
    if len(paths) == 1 and not BLOCK_NAME.match(paths[0].name):
        return open_source(paths[0], params)
    is_stack = all(path.suffix.lower() in TIF_SUFFIXES for path in paths)
    if is_stack and all(BLOCK_NAME.match(path.name) for path in paths):
        pages = TifPages(paths[0])
        is_stack = pages.n_pages == 1  # 2-D: slices that happen to be numbered like that
        pages.close()
    if is_stack:
        check_slice_numbers(paths)
        return TifStackSource(paths, str(folder))
    return BlockFolderSource(
        paths,
        str(folder),
        origin_zyx=params.origin_zyx,
        overlap=params.overlap,
        nrrd_axes=params.nrrd_axes,
        cache_bytes=int(params.max_memory_gb * 1e9 / 2),
    )


@dataclass(slots=True)
class _Counts:
    n_chunks: int = 0
    n_bands: int = 0
    n_resumed: int = 0
    n_clipped: int = 0


def _bands(shape_zyx: Zyx, chunk: int, bytes_per_voxel: int, limit_bytes: float) -> list[Box]:
    """Return boxes of whole chunk rows, as thick along y as the memory allows."""
    row_bytes = chunk * shape_zyx[2] * bytes_per_voxel * _COPIES
    rows = max(1, int(limit_bytes / row_bytes) // chunk) * chunk
    starts = itertools.product(range(0, shape_zyx[0], chunk), range(0, shape_zyx[1], rows))
    return [
        (
            (z, y, 0),
            (min(z + chunk, shape_zyx[0]), min(y + rows, shape_zyx[1]), shape_zyx[2]),
        )
        for z, y in starts
    ]


def _write_level_0(
    writer: VolumeWriter,
    source: Source,
    mapping: Mapping,
    params: PrepareParams,
    workers: int,
    progress: Progress,
) -> _Counts:
    widest = max(source.dtype.itemsize, np.dtype(params.dtype).itemsize)
    limit = params.max_memory_gb * 1e9 / 2  # the other half is for the source's own buffers
    bands = _bands(source.shape_zyx, params.chunk, widest, limit)
    counts = _Counts(n_bands=len(bands))
    total = sum(_n_chunks(band, params.chunk) for band in bands)
    total_of_all = math.ceil(total * 8 / 7)  # the pyramid adds an eighth, a sixty-fourth, ...
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for band in bands:
            start, stop = band
            key = f"band/{start[0]}/{start[1]}-{stop[1]}"
            if key in writer.finished:
                counts.n_resumed += 1
            else:
                n_clipped = 0
                if not source.is_empty(start, stop):
                    voxels, n_clipped = mapping(source.read(start, stop))
                    _write_band(writer, start, voxels, params.chunk, pool)
                writer.mark_finished(key, n_clipped)
            counts.n_clipped += int(writer.finished[key])
            counts.n_chunks += _n_chunks(band, params.chunk)
            progress(counts.n_chunks, total_of_all, "level 0")
    return counts


def _n_chunks(box: Box, chunk: int) -> int:
    return math.prod(-(-(b - a) // chunk) for a, b in zip(*box, strict=True))


def _write_band(
    writer: VolumeWriter,
    start: Zyx,
    voxels: NDArray[Any],
    chunk: int,
    pool: ThreadPoolExecutor,
) -> None:
    """Write a band, one column of chunks per task: no two tasks touch the same chunk."""

    def write(x: int) -> None:
        writer.write((start[0], start[1], x), voxels[:, :, x : x + chunk])

    for _ in pool.map(write, range(0, voxels.shape[2], chunk)):
        pass
