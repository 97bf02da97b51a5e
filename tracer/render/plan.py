"""Which chunk is read when: every tile's chunks, the order of the tiles, the slot of every chunk.

Everything is decided before the first byte is read, so that a dry run can say what a render will
read and nothing depends on the timing of threads:

1. each tile's chunks are found exactly, pixel by pixel, from the surface alone;
2. tiles are sorted along a Hilbert curve through the volume, because neighbouring wraps, far apart
   on the canvas, share chunks;
3. chunks get slots of a pool of fixed size. The chunk whose next use is furthest in the future
   makes room (Belady's rule, which no other policy beats), but never one that a tile of the last
   `WINDOW` tiles uses: those may still be in work.
"""

import dataclasses
import heapq
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tracer.errors import ParamsError
from tracer.progress import Progress, silent
from tracer.render.canvas import Canvas
from tracer.render.chunk_source import ChunkSource
from tracer.render.geometry import Geometry
from tracer.render.workers import executor

WINDOW = 8  # tiles in work at once; fixed, so that the plan does not depend on the threads
_HILBERT_BITS = 12  # chunks per axis of the largest scroll scans: 1,000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampling:
    """What is sampled where along the normal.

    Attributes
    ----------
    offsets : ndarray of float64, shape (layers,)
        Along the normal, in level-0 voxels, ascending.
    to_level : tuple of float
        (factor, shift) from level-0 to level coordinates.
    """

    offsets: NDArray[np.float64]
    to_level: tuple[float, float]

    @classmethod
    def at(cls, level: int, layers: int) -> "Sampling":
        """Return the sampling of a number of layers.

        Parameters
        ----------
        level : int
            OME-Zarr level.
        layers : int
            Number of layers.

        Returns
        -------
        Sampling
            Layer i at i - (layers - 1) / 2. A voxel of level k is the mean of 2^k voxels along
            each axis, so its centre lies between them.
        """
        factor = 0.5**level
        return cls(
            offsets=np.arange(layers, dtype=np.float64) - (layers - 1) / 2.0,
            to_level=(factor, 0.5 * factor - 0.5),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileChunks:
    """The chunks of one tile.

    Attributes
    ----------
    index : int
        Row-major number of the tile.
    n_valid : int
        Pixels that show the surface; a tile without any touches no chunk.
    chunks : ndarray of int64, shape (n, 3)
        Chunk indices z, y, x, sorted.
    """

    index: int
    n_valid: int
    chunks: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One tile of the schedule.

    Attributes
    ----------
    tile : TileChunks
        What to render.
    slots : ndarray of int32, shape (n,)
        Slot of each of the tile's chunks.
    loads : tuple of int
        Which of the tile's chunks have to be read first, by position.
    """

    tile: TileChunks
    slots: NDArray[np.int32]
    loads: tuple[int, ...]


def touched_chunks(
    geometry: Geometry, canvas: Canvas, sampling: Sampling, source: ChunkSource, index: int
) -> TileChunks:
    """Return the chunks that the samples of one tile touch.

    Parameters
    ----------
    geometry : Geometry
        The surface.
    canvas : Canvas
        The picture.
    sampling : Sampling
        Level and offsets.
    source : ChunkSource
        Only its shapes are used.
    index : int
        Row-major number of the tile.

    Returns
    -------
    TileChunks
        Exactly the chunks with a corner of a sampled cell.
    """
    from tracer.kernels.render import mark_chunks

    rows, cols = canvas.grid_positions(canvas.tile_at(index))
    shape = np.asarray(source.shape_zyx, dtype=np.int64)
    chunk = np.asarray(source.chunk_shape_zyx, dtype=np.int64)
    none = TileChunks(index=index, n_valid=0, chunks=np.empty((0, 3), dtype=np.int64))
    r0, r1 = int(rows[0]), int(rows[-1]) + 2
    c0, c1 = int(cols[0]), int(cols[-1]) + 2
    valid = geometry.valid[r0:r1, c0:c1]
    if not valid.any():
        return none
    vertices = geometry.points_xyz[r0:r1, c0:c1][valid][:, ::-1].astype(np.float64)
    reach = np.abs(sampling.offsets).max()
    factor, shift = sampling.to_level
    low = np.floor((vertices.min(axis=0) - reach) * factor + shift).astype(np.int64)
    high = np.floor((vertices.max(axis=0) + reach) * factor + shift).astype(np.int64) + 1
    first = np.clip(low, 0, shape - 1) // chunk
    last = np.clip(high, 0, shape - 1) // chunk
    touched = np.zeros(tuple(last - first + 1), dtype=bool)
    n_valid = mark_chunks(
        geometry.points_xyz,
        geometry.normals_xyz,
        geometry.valid,
        rows,
        cols,
        sampling.offsets,
        sampling.to_level,
        shape,
        chunk,
        first,
        touched,
    )
    if n_valid == 0:
        return none
    return TileChunks(index=index, n_valid=n_valid, chunks=np.argwhere(touched) + first)


def plan_tiles(
    geometry: Geometry,
    canvas: Canvas,
    sampling: Sampling,
    source: ChunkSource,
    *,
    threads: int = 1,
    progress: Progress = silent,
) -> list[TileChunks]:
    """Return the tiles that show the surface, in the order in which they are rendered.

    Parameters
    ----------
    geometry : Geometry
        The surface.
    canvas : Canvas
        The picture.
    sampling : Sampling
        Level and offsets.
    source : ChunkSource
        Only its shapes are used.
    threads : int
        Threads to use; the result does not depend on them.
    progress : Progress
        Called with tiles done.

    Returns
    -------
    list of TileChunks
        Sorted along a Hilbert curve through the volume. The order depends on nothing else.
    """
    tiles = []
    with executor(threads) as workers:
        found = workers.map(
            partial(touched_chunks, geometry, canvas, sampling, source), range(canvas.n_tiles)
        )
        for done, tile in enumerate(found, start=1):
            if tile.n_valid:
                tiles.append(tile)
            progress(done, canvas.n_tiles, "finding chunks")
    centres = np.array(
        [tile.chunks.mean(axis=0) if len(tile.chunks) else (0.0, 0.0, 0.0) for tile in tiles]
    ).reshape(-1, 3)
    keys = hilbert_keys(np.floor(centres + 0.5).astype(np.int64), _HILBERT_BITS)
    order = np.lexsort((np.array([tile.index for tile in tiles], dtype=np.int64), keys))
    return [tiles[i] for i in order]


def hilbert_keys(cells: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return the position of cells on a Hilbert curve.

    Parameters
    ----------
    cells : ndarray of int64, shape (n, 3)
        Coordinates, 0 to 2^bits - 1.
    bits : int
        Bits per coordinate, at most 20.

    Returns
    -------
    ndarray of int64, shape (n,)
        Cells with neighbouring keys are neighbours.

    References
    ----------
    J. Skilling, Programming the Hilbert curve, AIP Conf. Proc. 707 (2004), 381-387.
    """
    x = [np.clip(cells[:, axis], 0, 2**bits - 1).copy() for axis in range(3)]
    bit = 1 << (bits - 1)
    while bit > 1:  # undo the excess rotations
        low = bit - 1
        for axis in range(3):
            is_set = (x[axis] & bit) != 0
            swap = np.where(is_set, 0, (x[0] ^ x[axis]) & low)
            x[0] = np.where(is_set, x[0] ^ low, x[0] ^ swap)
            x[axis] = x[axis] ^ swap
        bit >>= 1
    x[1] ^= x[0]  # Gray code
    x[2] ^= x[1]
    turn = np.zeros_like(x[0])
    bit = 1 << (bits - 1)
    while bit > 1:
        turn = np.where((x[2] & bit) != 0, turn ^ (bit - 1), turn)
        bit >>= 1
    key = np.zeros_like(x[0])
    for position in range(bits - 1, -1, -1):
        for axis in range(3):
            key = (key << 1) | (((x[axis] ^ turn) >> position) & 1)
    return key


def schedule(
    tiles: Sequence[TileChunks], slots: int, *, window: int = WINDOW
) -> tuple[list[Step], int]:
    """Return when each chunk is read and into which slot.

    Parameters
    ----------
    tiles : sequence of TileChunks
        In the order in which they are rendered.
    slots : int
        Chunks that fit into memory.
    window : int
        Tiles that may be in work at once; lowered to what the slots allow.

    Returns
    -------
    steps : list of Step
        One per tile.
    window : int
        The window that was possible: before step t loads, step t - window must have finished.

    Raises
    ------
    ParamsError
        If the slots do not even hold the chunks of one tile.
    """
    ids = [[tuple(chunk) for chunk in tile.chunks.tolist()] for tile in tiles]
    need = max((len(chunks) for chunks in ids), default=0)
    if need > slots:
        raise ParamsError(
            f"memory_gb allows {slots} chunks in memory but one tile touches {need}; "
            "raise memory_gb or lower tile"
        )
    while window > 1 and _largest_window(ids, window) > slots:
        window -= 1
    uses: dict[tuple[int, ...], list[int]] = {}
    for step, chunks in enumerate(ids):
        for chunk in chunks:
            uses.setdefault(chunk, []).append(step)
    for steps in uses.values():
        steps.reverse()  # the next use is at the end
    free = list(range(slots - 1, -1, -1))
    slot_of: dict[tuple[int, ...], int] = {}
    last_use: dict[tuple[int, ...], int] = {}
    furthest: list[tuple[int, tuple[int, ...]]] = []
    plan = []
    never = len(tiles)
    for step, (tile, chunks) in enumerate(zip(tiles, ids, strict=True)):
        loads = []
        for position, chunk in enumerate(chunks):
            uses[chunk].pop()
            last_use[chunk] = step
            if chunk not in slot_of:
                loads.append(position)
        for position in loads:
            if not free:
                victim = _victim(furthest, slot_of, uses, last_use, step, window, never)
                free.append(slot_of.pop(victim))
            slot_of[chunks[position]] = free.pop()
        for chunk in chunks:
            heapq.heappush(furthest, (-(uses[chunk][-1] if uses[chunk] else never), chunk))
        slots_of_tile = np.array([slot_of[chunk] for chunk in chunks], dtype=np.int32)
        plan.append(Step(tile=tile, slots=slots_of_tile, loads=tuple(loads)))
    return plan, window


def _largest_window(ids: Sequence[Sequence[tuple[int, ...]]], window: int) -> int:
    """Return the most chunks that any run of `window` tiles needs."""
    count: dict[tuple[int, ...], int] = {}
    largest = 0
    for step, chunks in enumerate(ids):
        for chunk in chunks:
            count[chunk] = count.get(chunk, 0) + 1
        if step >= window:
            for chunk in ids[step - window]:
                count[chunk] -= 1
                if not count[chunk]:
                    del count[chunk]
        largest = max(largest, len(count))
    return largest


def _victim(
    furthest: list[tuple[int, tuple[int, ...]]],
    slot_of: dict[tuple[int, ...], int],
    uses: dict[tuple[int, ...], list[int]],
    last_use: dict[tuple[int, ...], int],
    step: int,
    window: int,
    never: int,
) -> tuple[int, ...]:
    """Return the resident chunk with the furthest next use that no tile in work needs."""
    kept = []
    while True:
        entry = heapq.heappop(furthest)
        chunk = entry[1]
        next_use = uses[chunk][-1] if uses[chunk] else never
        if chunk not in slot_of or next_use != -entry[0]:
            continue  # used since, or gone: a newer entry speaks for it
        if last_use[chunk] > step - window:
            kept.append(entry)
            continue
        for other in kept:
            heapq.heappush(furthest, other)
        return chunk
