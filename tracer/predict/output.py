"""A prediction on disk: made block by block, continued after a crash, finished with a pyramid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.predict.blocks import Block, iterate_blocks
from tracer.progress import Progress, silent
from tracer.volume_writer import VolumeWriter
from tracer.workers import Executor, run_tasks

BlockWork = Callable[[Block], NDArray[np.uint8] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """What to do about what is already there.

    Attributes
    ----------
    overwrite : bool
        Replace a finished output.
    restart : bool
        Discard unfinished work instead of continuing it.
    """

    overwrite: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What a prediction stage did.

    Attributes
    ----------
    output : Path
        Volume.
    blocks : int
        Blocks of the volume.
    empty_blocks : int
        Blocks in which nothing was predicted.
    resumed_blocks : int
        Blocks that an earlier, interrupted run had finished.
    voxels : int
        Voxels of the volume.
    sheet_voxels : int
        Predicted voxels.
    notes : mapping
        Further figures by name.
    """

    output: Path
    blocks: int
    empty_blocks: int
    resumed_blocks: int
    voxels: int
    sheet_voxels: int
    notes: Mapping[str, float]

    def summary(self) -> str:
        """Return the result in one line.

        Returns
        -------
        str
            For people.
        """
        resumed = f", {self.resumed_blocks} from an earlier run" if self.resumed_blocks else ""
        notes = "".join(f"; {name} {value:g}" for name, value in self.notes.items())
        return (
            f"{self.output}: {self.sheet_voxels} voxels predicted "
            f"({100 * self.sheet_voxels / self.voxels:.1f} %), "
            f"{self.blocks} blocks ({self.empty_blocks} empty{resumed}){notes}"
        )


class BlockOutput:
    """A volume that is written block by block.

    Parameters
    ----------
    writer : VolumeWriter
        Writer, new or continued.
    blocks : int or sequence of Block
        Edge of a block in voxels, or the blocks themselves.

    Attributes
    ----------
    writer : VolumeWriter
        Writer.
    counts : dict
        Block number to its predicted voxels.
    resumed_blocks : int
        Blocks that were done before.
    """

    def __init__(self, writer: VolumeWriter, blocks: int | Sequence[Block]) -> None:
        self.writer = writer
        self._blocks = (
            list(iterate_blocks(writer.shape_zyx, blocks))
            if isinstance(blocks, int)
            else list(blocks)
        )
        self.counts: dict[int, int] = {
            int(key.removeprefix("block/")): int(value)
            for key, value in writer.finished.items()
            if key.startswith("block/")
        }
        self.resumed_blocks = len(self.counts)

    @property
    def sheet_voxels(self) -> int:
        """Return the predicted voxels of all finished blocks."""
        return sum(self.counts.values())

    def write(
        self, work: BlockWork, *, workers: int | Executor = 1, progress: Progress = silent
    ) -> None:
        """Do the blocks that are not done yet.

        Parameters
        ----------
        work : callable
            Returns the voxels of a block, or None for an empty one; picklable where there are
            several workers.
        workers : int or Executor
            Processes, or whatever else runs the tasks; only this process writes.
        progress : callable
            Progress callback.
        """
        left = [block for block in self._blocks if block.number not in self.counts]
        tasks = ((work, block) for block in left)
        progress(len(self.counts), len(self._blocks), "blocks")
        for index, voxels in run_tasks(_work_on, tasks, workers):
            block, count = left[index], 0
            if voxels is not None:
                z, y, x = block.shape_zyx
                count = int(np.count_nonzero(voxels[:z, :y, :x]))
                if count:
                    self.writer.write(block.start_zyx, voxels[:z, :y, :x])
            self.writer.mark_finished(f"block/{block.number}", count)
            self.counts[block.number] = count
            progress(len(self.counts), len(self._blocks), "blocks")

    def finish(
        self,
        provenance: Mapping[str, Any],
        *,
        notes: Mapping[str, float] | None = None,
        progress: Progress = silent,
    ) -> PredictResult:
        """Build the pyramid and let the volume appear.

        Parameters
        ----------
        provenance : mapping
            How the volume was made; goes into ``meta.json``.
        notes : mapping, optional
            Figures for the result.
        progress : callable
            Progress callback.

        Returns
        -------
        PredictResult
            Summary of the finished volume.
        """
        output = self.writer.finish("max", extra=provenance, progress=progress)
        z, y, x = self.writer.shape_zyx
        return PredictResult(
            output=output,
            blocks=len(self.counts),
            empty_blocks=sum(count == 0 for count in self.counts.values()),
            resumed_blocks=self.resumed_blocks,
            voxels=z * y * x,
            sheet_voxels=self.sheet_voxels,
            notes=dict(notes or {}),
        )


def _work_on(task: tuple[BlockWork, Block]) -> NDArray[np.uint8] | None:
    """Return the voxels of one block; runs in a worker."""
    work, block = task
    return work(block)
