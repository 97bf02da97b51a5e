"""One render, planned: geometry, canvas, sampling, schedule; and its execution tile by tile."""

import dataclasses
import math
import os
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tracer.errors import ParamsError, SurfaceError, VolumeError
from tracer.progress import Progress, silent
from tracer.render.canvas import Canvas, Tile, plan_canvas
from tracer.render.chunk_source import ChunkPool, ChunkSource
from tracer.render.geometry import Geometry, prepare_geometry
from tracer.render.params import RenderParams
from tracer.render.plan import WINDOW, Sampling, Step, TileChunks, plan_tiles, schedule
from tracer.render.workers import executor
from tracer.surface import Surface

if TYPE_CHECKING:
    from tracer.volume import Volume

_GB = 1e9
_REMOTE_READERS = 16  # requests in flight; they wait, they do not compute
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Everything that is known before the first chunk is read.

    Attributes
    ----------
    volume : Volume
        What is sampled.
    source : ChunkSource
        The chunks of its level.
    params : RenderParams
        How.
    geometry : Geometry
        Where.
    canvas : Canvas
        The picture.
    sampling : Sampling
        Offsets and level coordinates.
    """

    volume: "Volume"
    source: ChunkSource
    params: RenderParams
    geometry: Geometry
    canvas: Canvas
    sampling: Sampling

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return the kind of output pixels.

        Returns
        -------
        dtype
            uint8 or uint16.
        """
        return np.dtype(np.uint16 if self.params.depth == "16" else np.uint8)

    @property
    def gain(self) -> float:
        """Return the factor from voxels to pixels.

        Returns
        -------
        float
            1, 257 or 1 / 257.
        """
        return float(257.0 ** (self.dtype.itemsize - self.source.dtype.itemsize))

    @property
    def um_per_pixel(self) -> float:
        """Return the size of an output pixel.

        Returns
        -------
        float
            Micrometres.
        """
        return float(self.volume.voxel_size_um * 2**self.params.level / self.params.scale)

    @property
    def chunk_bytes(self) -> int:
        """Return the memory of one decoded chunk.

        Returns
        -------
        int
            Bytes.
        """
        return int(math.prod(self.source.chunk_shape_zyx)) * int(self.source.dtype.itemsize)

    @property
    def threads(self) -> int:
        """Return the number of threads to use.

        Returns
        -------
        int
            At least 1.
        """
        return self.params.threads or os.cpu_count() or 1

    def slots(self) -> int:
        """Return how many chunks fit into memory beside the tiles in work.

        Returns
        -------
        int
            Number of chunks.

        Raises
        ------
        ParamsError
            If not a single one does.
        """
        # Per tile in work: its layers, a copy in the picture's orientation, compressed data.
        tile_bytes = 3 * self.params.layers * self.params.tile**2 * self.dtype.itemsize
        surface_bytes = self.geometry.points_xyz.nbytes * 2 + self.geometry.valid.nbytes
        left = self.params.memory_gb * _GB - WINDOW * tile_bytes - surface_bytes
        slots = int(left // self.chunk_bytes)
        if slots < 1:
            needed = WINDOW * tile_bytes + surface_bytes + 27 * self.chunk_bytes
            raise ParamsError(
                f"memory_gb = {self.params.memory_gb:g} is too little for {self.params.layers} "
                f"layers in tiles of {self.params.tile}; give {needed / _GB:.1f} or lower tile"
            )
        return slots

    def composite(self, block: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the composites of one tile.

        Parameters
        ----------
        block : ndarray, shape (height, layers, width)
            All layers.

        Returns
        -------
        list of ndarray, shape (height, width)
            In the order of ``params.composites``.
        """
        chosen = self.params.composite_layers
        part = block[:, chosen.start : chosen.stop]
        return [self._composite(part, name) for name in self.params.composites]

    def _composite(self, part: NDArray[Any], name: str) -> NDArray[Any]:
        if name == "max":
            return np.asarray(part.max(axis=1))
        if name == "min":
            return np.asarray(part.min(axis=1))
        if name == "mean":
            n = part.shape[1]
            doubled = 2 * part.sum(axis=1, dtype=np.uint32) + n
            return np.asarray(doubled // (2 * n), dtype=part.dtype)
        from tracer.kernels.render import composite_alpha

        white = float(np.iinfo(part.dtype).max)
        image = np.empty((part.shape[0], part.shape[2]), dtype=part.dtype)
        params = self.params
        composite_alpha(
            part,
            params.alpha_min * white,
            params.alpha_max * white,
            params.alpha_opacity,
            params.alpha_cutoff,
            image,
        )
        return image


def prepare_job(volume: "Volume", surface: Surface, params: RenderParams) -> Job:
    """Return a render that is ready to be planned.

    Parameters
    ----------
    volume : Volume
        What to sample.
    surface : Surface
        Where.
    params : RenderParams
        How.

    Returns
    -------
    Job
        With geometry and canvas.

    Raises
    ------
    VolumeError
        If the volume lacks the level or is neither 8 nor 16 bits.
    SurfaceError
        If the surface is empty or lies outside the volume.
    """
    if params.level >= volume.n_levels:
        raise VolumeError(
            f"{volume.path}: has no level {params.level}; choose 0 to {volume.n_levels - 1}"
        )
    if np.dtype(volume.dtype) not in (np.uint8, np.uint16):
        raise VolumeError(
            f"{volume.path}: voxels are {np.dtype(volume.dtype)}; only uint8 and uint16 render, "
            "convert it with `tracer prepare`"
        )
    geometry = prepare_geometry(surface, params)
    _check_overlap(volume, surface, geometry)
    return Job(
        volume=volume,
        source=ChunkSource(volume, params.level),
        params=params,
        geometry=geometry,
        canvas=plan_canvas(surface.shape, geometry.scale, params),
        sampling=Sampling.at(params.level, params.layers),
    )


def _check_overlap(volume: "Volume", surface: Surface, geometry: Geometry) -> None:
    points = geometry.points_xyz[geometry.valid]
    low, high = points.min(axis=0), points.max(axis=0)
    shape_xyz = np.asarray(volume.shape_zyx)[::-1]
    if (high < 0).any() or (low > shape_xyz - 1).any():
        raise SurfaceError(
            f"surface {surface.name or '(unnamed)'} spans x, y, z {_box(low, high)} but volume "
            f"{volume.path} spans {_box(np.zeros(3), shape_xyz - 1)}: they do not meet; check "
            "that they belong together, or give affine or scale_segmentation"
        )


def _box(low: NDArray[Any], high: NDArray[Any]) -> str:
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return " ".join(f"{a:.0f}..{b:.0f}" for a, b in pairs)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadCount:
    """What a run has read.

    Attributes
    ----------
    chunks : int
        Chunks, repetitions included.
    stored_bytes : int
        Their size as stored; decoded where they are not plain Zarr v2.
    """

    chunks: int
    stored_bytes: int


def run_job(
    job: Job,
    tiles: Sequence[TileChunks],
    encode: Callable[[Tile, NDArray[Any], list[NDArray[Any]]], T],
    commit: Callable[[Tile, T], None],
    *,
    skip: Collection[int] = (),
    progress: Progress = silent,
) -> ReadCount:
    """Render tiles and hand them on, in their order.

    Parameters
    ----------
    job : Job
        What to render.
    tiles : sequence of TileChunks
        Tiles in order.
    encode : callable
        Called in threads with the tile, its layers (layers, height, width) and its composites
        (height, width), all turned as on the output.
    commit : callable
        Called in the calling thread, in order, with what `encode` returned.
    skip : collection of int
        Numbers of tiles that are finished.
    progress : Progress
        Called with pixels done.

    Returns
    -------
    ReadCount
        What was read.
    """
    left = [tile for tile in tiles if tile.index not in skip]
    total = float(sum(tile.n_valid for tile in tiles))
    done = total - sum(tile.n_valid for tile in left)
    chunks = {tuple(chunk) for tile in left for chunk in tile.chunks.tolist()}
    slots = max(1, min(job.slots(), len(chunks)))
    steps, window = schedule(left, slots)
    pool = ChunkPool(job.source, slots)
    loads: list[Future[int]] = []
    pending: deque[tuple[Step, Future[T]]] = deque()
    with (
        executor(job.threads) as workers,
        executor(_REMOTE_READERS if job.source.is_remote else 0) as remote_readers,
    ):
        readers = remote_readers if job.source.is_remote else workers

        def collect() -> None:
            nonlocal done
            step, future = pending.popleft()
            commit(job.canvas.tile_at(step.tile.index), future.result())
            done += step.tile.n_valid
            progress(done, total, f"{job.params.layers} layers")

        loading: dict[int, Future[int]] = {}
        for step in steps:
            if len(pending) >= window:
                collect()
            for position in step.loads:
                slot = int(step.slots[position])
                z, y, x = step.tile.chunks[position].tolist()
                loading[slot] = readers.submit(pool.load, slot, (z, y, x))
                loads.append(loading[slot])
            wanted = [loading[int(slot)] for slot in step.slots]
            pending.append((step, workers.submit(_render_step, job, pool, step, wanted, encode)))
        while pending:
            collect()
    return ReadCount(chunks=len(loads), stored_bytes=sum(load.result() for load in loads))


def _render_step(
    job: Job,
    pool: ChunkPool,
    step: Step,
    wanted: list[Future[int]],
    encode: Callable[[Tile, NDArray[Any], list[NDArray[Any]]], T],
) -> T:
    """Return one tile, encoded, as soon as its chunks are there."""
    from tracer.kernels.render import render_tile

    wait(wanted)
    for future in wanted:
        future.result()
    tile = job.canvas.tile_at(step.tile.index)
    rows, cols = job.canvas.grid_positions(tile)
    block = np.empty((len(rows), job.params.layers, len(cols)), dtype=job.dtype)
    render_tile(
        job.geometry.points_xyz,
        job.geometry.normals_xyz,
        job.geometry.valid,
        rows,
        cols,
        job.sampling.offsets,
        job.sampling.to_level,
        pool.view(step.tile.chunks, step.slots),
        job.gain,
        block,
    )
    composites = [job.canvas.oriented(image) for image in job.composite(block)]
    return encode(tile, job.canvas.oriented(block.transpose(1, 0, 2)), composites)


def plan_job(job: Job, *, progress: Progress = silent) -> list[TileChunks]:
    """Return the tiles of a render, in the order in which they are rendered.

    Parameters
    ----------
    job : Job
        What to render.
    progress : Progress
        Called with tiles done.

    Returns
    -------
    list of TileChunks
        Tiles that show the surface.
    """
    return plan_tiles(
        job.geometry,
        job.canvas,
        job.sampling,
        job.source,
        threads=job.threads,
        progress=progress,
    )
