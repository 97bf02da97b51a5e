"""The render stage: a surface in, layers on disk or in memory out."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.progress import Progress, silent
from tracer.render.canvas import Canvas, Tile
from tracer.render.distributed import run_on_workers
from tracer.render.job import plan_job, prepare_job, run_job
from tracer.render.output import Destination, Outputs
from tracer.render.params import RenderParams
from tracer.render.plan import schedule
from tracer.surface import Surface
from tracer.workers import Executor

if TYPE_CHECKING:
    from tracer.volume import Volume


_PLANNING_SHARE = 0.15  # of the time, roughly: finding chunks against sampling them


def _part(progress: Progress, first: float, last: float) -> Progress:
    """Return a callback for a part of the work that takes the share `first` to `last`."""

    def update(done: float, total: float, note: str = "") -> None:
        share = done / total if total else 1.0
        progress(first + (last - first) * share, 1.0, note)

    return update


def _with_rate(progress: Progress) -> Progress:
    """Return a callback for pixels done that adds their rate to the note."""
    started = time.monotonic()
    before: float | None = None

    def update(done: float, total: float, note: str = "") -> None:
        nonlocal before
        before = done if before is None else before
        rate = (done - before) / max(time.monotonic() - started, 1e-3) / 1e6
        progress(done, total, f"{note}, {rate:.2f} Mpixel/s")

    return update


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RenderResult:
    """What a render wrote.

    Attributes
    ----------
    directory : Path
        Where everything lies.
    shape : tuple of int
        (layers written, rows, cols).
    um_per_pixel : float
        Pixel size.
    valid_pixels : int
        Pixels of a layer that show the surface.
    tiles : int
        Tiles of the canvas.
    tiles_kept : int
        Tiles that an earlier, interrupted run had finished.
    chunks_touched : int
        Distinct chunks that the whole picture needs.
    chunks_read : int
        Chunks read by this run, repetitions included.
    bytes_read : int
        Stored bytes read by this run.
    was_complete : bool
        True where an earlier run had already made the same picture.
    """

    directory: Path
    shape: tuple[int, int, int]
    um_per_pixel: float
    valid_pixels: int = 0
    tiles: int = 0
    tiles_kept: int = 0
    chunks_touched: int = 0
    chunks_read: int = 0
    bytes_read: int = 0
    was_complete: bool = False

    def summary(self) -> str:
        """Return what was done in one or two lines.

        Returns
        -------
        str
            For people.
        """
        layers, rows, cols = self.shape
        size = f"{cols} x {rows} pixels, {layers} layers, {self.um_per_pixel:.3g} µm per pixel"
        if self.was_complete:
            return f"{self.directory}: complete already ({size})"
        kept = f", {self.tiles_kept} tiles kept" if self.tiles_kept else ""
        return (
            f"{self.directory}: {size}\n"
            f"read {self.chunks_read} chunks ({self.bytes_read / 1e6:.1f} MB stored){kept}"
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCount:
    """What a render would read.

    Attributes
    ----------
    shape : tuple of int
        (layers, rows, cols) of the picture.
    touched : int
        Distinct chunks that samples touch.
    reads : int
        Chunks that would be read, repetitions for want of memory included.
    present : int
        Touched chunks that exist; the others are empty and cost nothing.
    stored_bytes : int
        Size of those that exist, as stored: what goes over the network when each is read once.
    decoded_bytes : int
        Memory that all touched chunks would take.
    is_estimate : bool
        True where `present` and `stored_bytes` are extrapolated from a sample of the chunks.
    """

    shape: tuple[int, int, int]
    touched: int
    reads: int
    present: int
    stored_bytes: int
    decoded_bytes: int
    is_estimate: bool

    def summary(self) -> str:
        """Return the count in a few lines.

        Returns
        -------
        str
            For people.
        """
        layers, rows, cols = self.shape
        about = "about " if self.is_estimate else ""
        again = self.reads - self.touched
        return (
            f"{cols} x {rows} pixels, {layers} layers\n"
            f"touches {self.touched} chunks ({self.decoded_bytes / 1e9:.2f} GB decoded), "
            f"{about}{self.present} of them exist: {about}{self.stored_bytes / 1e6:.1f} MB to read"
            + (f"\n{again} reads are repetitions; memory_gb avoids them" if again else "")
        )


def render_surface(
    volume: "Volume",
    surface: Surface,
    out: str | Path,
    params: RenderParams | None = None,
    *,
    overwrite: bool = False,
    workers: Executor | None = None,
    progress: Progress = silent,
) -> RenderResult:
    """Render the flattened layers of a surface to disk.

    Parameters
    ----------
    volume : Volume
        What to sample, uint8 or uint16.
    surface : Surface
        Where.
    out : str or Path
        Directory, or a pattern such as ``dir/%02d.tif``, or a ``.zarr``.
    params : RenderParams, optional
        How; defaults where omitted.
    overwrite : bool
        Replace a render with other parameters instead of refusing.
    workers : Executor, optional
        Renders the tiles; threads of this process where omitted.
    progress : Progress
        Called with pixels done.

    Returns
    -------
    RenderResult
        What was written. An interrupted render with the same input and parameters is continued,
        a complete one is left alone.

    Raises
    ------
    SurfaceError
        If the surface is empty, lies outside the volume or its recto cannot be told.
    VolumeError
        If the volume lacks the level or cannot be read.
    ParamsError
        If crop, ranges or memory do not fit.
    OutputError
        If `out` holds something else or cannot be written.
    """
    params = (params or RenderParams()).resolve_paths()
    job = prepare_job(volume, surface, params)
    destination = Destination.parse(out, params)
    outputs = Outputs(job, surface, destination)
    shape = (len(params.written_layers), *job.canvas.shape)
    if outputs.begin(overwrite=overwrite):
        outputs.add_pictures()
        return RenderResult(
            directory=destination.directory,
            shape=shape,
            um_per_pixel=job.um_per_pixel,
            was_complete=True,
        )
    try:
        tiles = plan_job(job, progress=_part(progress, 0.0, _PLANNING_SHARE))
        kept = outputs.finished()
        rendering = _with_rate(_part(progress, _PLANNING_SHARE, 1.0))
        if workers is None:
            read = run_job(
                job, tiles, outputs.encode, outputs.commit, skip=kept, progress=rendering
            )
        else:
            read = run_on_workers(
                *(job, tiles, surface, outputs, destination, workers),
                skip=kept,
                progress=rendering,
            )
        result = RenderResult(
            directory=destination.directory,
            shape=shape,
            um_per_pixel=job.um_per_pixel,
            valid_pixels=sum(tile.n_valid for tile in tiles),
            tiles=job.canvas.n_tiles,
            tiles_kept=len(kept),
            chunks_touched=len({tuple(c) for tile in tiles for c in tile.chunks.tolist()}),
            chunks_read=read.chunks,
            bytes_read=read.stored_bytes,
        )
        outputs.finish(
            {"valid_pixels": result.valid_pixels, "chunks_touched": result.chunks_touched},
            progress=progress,
        )
    finally:
        outputs.close()
    return result


def render_layers(
    volume: "Volume", surface: Surface, params: RenderParams | None = None
) -> NDArray[Any]:
    """Return the flattened layers of a surface.

    Parameters
    ----------
    volume : Volume
        What to sample.
    surface : Surface
        Where.
    params : RenderParams, optional
        How; what concerns files has no effect.

    Returns
    -------
    ndarray of uint8 or uint16, shape (layers, rows, cols)
        The written layers of the whole canvas, in memory.

    Raises
    ------
    SurfaceError
        If the surface is empty, lies outside the volume or its recto cannot be told.
    VolumeError
        If the volume lacks the level or cannot be read.
    ParamsError
        If crop, ranges or memory do not fit.
    """
    params = params or RenderParams()
    job = prepare_job(volume, surface, params)
    chosen = params.written_layers
    out = np.zeros((len(chosen), *job.canvas.shape), dtype=job.dtype)

    def keep(tile: Tile, block: NDArray[Any], composites: list[NDArray[Any]]) -> None:
        rows = slice(tile.row, tile.row + tile.height)
        cols = slice(tile.col, tile.col + tile.width)
        out[:, rows, cols] = block[chosen.start : chosen.stop]

    run_job(job, plan_job(job), keep, _nothing)
    return out


def _nothing(tile: Tile, value: None) -> None:
    """Do nothing with a tile that has been kept already."""


def count_chunks(
    volume: "Volume", surface: Surface, params: RenderParams | None = None
) -> ChunkCount:
    """Return what a render would read, without reading a voxel.

    Parameters
    ----------
    volume : Volume
        What would be sampled.
    surface : Surface
        Where.
    params : RenderParams, optional
        How.

    Returns
    -------
    ChunkCount
        Exact, except for the stored sizes of remote chunks.

    Raises
    ------
    SurfaceError
        If the surface is empty, lies outside the volume or its recto cannot be told.
    VolumeError
        If the volume lacks the level.
    ParamsError
        If crop, ranges or memory do not fit.
    """
    params = params or RenderParams()
    job = prepare_job(volume, surface, params)
    tiles = plan_job(job)
    touched = sorted({tuple(chunk) for tile in tiles for chunk in tile.chunks.tolist()})
    steps, _ = schedule(tiles, max(1, min(job.slots(), len(touched))))
    present, stored_bytes, is_estimate = job.source.measure(touched)
    canvas: Canvas = job.canvas
    return ChunkCount(
        shape=(len(params.written_layers), *canvas.shape),
        touched=len(touched),
        reads=sum(len(step.loads) for step in steps),
        present=present,
        stored_bytes=stored_bytes,
        decoded_bytes=len(touched) * job.chunk_bytes,
        is_estimate=is_estimate,
    )
