"""A render on many machines: groups of neighbouring tiles go out, encoded tiles come back.

What all tasks share, the surface above all, lies in one file beside the output, which a worker
reads once. Tiles are written by this process, in the order of a local render: the files are the
same to the byte.
"""

import pickle
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tracer.atomic import write_bytes
from tracer.progress import Progress, silent
from tracer.render.canvas import Tile
from tracer.render.job import Job, ReadCount, prepare_job, run_job
from tracer.render.output import Destination, Outputs
from tracer.render.plan import TileChunks
from tracer.surface import Surface
from tracer.workers import Executor

_SHARED = ".shared"
_GROUP_BYTES = 32e6  # of pixels, which one task sends back compressed

Encoded = tuple[list[bytes], bytes]


class _Group(NamedTuple):
    """Some tiles to render."""

    shared: Path
    digest: str
    tiles: tuple[TileChunks, ...]


def run_on_workers(
    job: Job,
    tiles: Sequence[TileChunks],
    surface: Surface,
    outputs: Outputs,
    destination: Destination,
    workers: Executor,
    *,
    skip: Collection[int] = (),
    progress: Progress = silent,
) -> ReadCount:
    """Render tiles on workers and write them here, in their order.

    Parameters
    ----------
    job : Job
        What to render.
    tiles : sequence of TileChunks
        Tiles in order.
    surface : Surface
        Where.
    outputs : Outputs
        Takes the tiles.
    destination : Destination
        Where the outputs are.
    workers : Executor
        Renders.
    skip : collection of int
        Numbers of tiles that are finished.
    progress : Progress
        Called with pixels done.

    Returns
    -------
    ReadCount
        What the workers have read.
    """
    left = [tile for tile in tiles if tile.index not in skip]
    total = float(sum(tile.n_valid for tile in tiles))
    done = total - sum(tile.n_valid for tile in left)
    shared = (destination.directory / _SHARED).absolute()
    params = job.params.model_copy(update={"threads": 1})
    write_bytes(shared, pickle.dumps((job.volume, surface, params, destination)))
    chunks = stored = 0
    groups = [_Group(shared, outputs.digest, tuple(group)) for group in _groups(left, job)]
    try:
        for index, (encoded, read) in workers.run(_render_group, groups, ordered=True):
            for tile, one in zip(groups[index].tiles, encoded, strict=True):
                outputs.commit(job.canvas.tile_at(tile.index), one)
                done += tile.n_valid
            chunks, stored = chunks + read.chunks, stored + read.stored_bytes
            progress(done, total, f"{job.params.layers} layers")
    finally:
        shared.unlink(missing_ok=True)
    return ReadCount(chunks=chunks, stored_bytes=stored)


def _groups(tiles: Sequence[TileChunks], job: Job) -> Iterator[Sequence[TileChunks]]:
    """Yield runs of tiles: neighbours in the volume, which share chunks."""
    tile_bytes = job.params.layers * job.params.tile**2 * job.dtype.itemsize
    size = max(1, int(_GROUP_BYTES // tile_bytes))
    for first in range(0, len(tiles), size):
        yield tiles[first : first + size]


def _render_group(group: _Group) -> tuple[list[Encoded], ReadCount]:
    """Return encoded tiles; runs in a worker."""
    job, outputs = _prepared(group.shared, group.digest)
    found: list[Encoded] = []

    def encode(tile: Tile, block: NDArray[Any], composites: list[NDArray[Any]]) -> Encoded:
        return outputs.encode(tile, block, composites)

    def keep(_: Tile, encoded: Encoded) -> None:
        found.append(encoded)

    read = run_job(job, group.tiles, encode, keep)
    return found, read


@lru_cache(maxsize=1)
def _prepared(shared: Path, digest: str) -> tuple[Job, Outputs]:
    """Return the job and an encoder of its tiles, prepared once per worker."""
    volume, surface, params, destination = pickle.loads(shared.read_bytes())
    job = prepare_job(volume, surface, params)
    outputs = Outputs(job, surface, destination)
    outputs.open_encoder()
    return job, outputs
