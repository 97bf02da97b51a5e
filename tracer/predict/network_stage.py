"""The stage that predicts a volume with networks: blocks, parts, and the finished volume."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, OutputError, ParamsError
from tracer.predict.block_store import BlockStore
from tracer.predict.blocks import Block
from tracer.predict.intensity import GreyFigures
from tracer.predict.network import Network, VolumeNetwork
from tracer.predict.network_params import NetworkParams
from tracer.predict.output import BlockOutput, Existing, PredictResult
from tracer.predict.overlapping_blocks import BlockGrid, BlockMerger
from tracer.predict.window_grid import Index, WindowGrid
from tracer.progress import Progress, silent
from tracer.provenance import provenance
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter
from tracer.workers import Executor, run_tasks

_KEEP = Existing()
_LOADED: dict[str, Any] = {}  # a worker's networks, kept between its blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which share of the blocks a process does.

    Attributes
    ----------
    number : int
        0 to count − 1.
    count : int
        Processes in all.
    """

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ParamsError(
                f"part-id = {self.number}: must be 0 to {self.count - 1} for {self.count} part(s)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """What a process did whose volume is not finished.

    Attributes
    ----------
    output : Path
        Volume that will appear.
    done : int
        Blocks that this process has done.
    missing : int
        Blocks that are not done by anyone; 0 where another process is putting them together.
    blocks : int
        Blocks of the volume.
    """

    output: Path
    done: int
    missing: int
    blocks: int

    def summary(self) -> str:
        """Return the result in one line.

        Returns
        -------
        str
            For people.
        """
        what = (
            f"{self.missing} of {self.blocks} blocks are left to the other parts, the last of "
            "which makes the volume"
            if self.missing
            else "another part is making the volume"
        )
        return f"{self.output}: {self.done} blocks done; {what}"


def load_network(model: Path, params: NetworkParams) -> Sequence[Network]:
    """Return what runs a model.

    Parameters
    ----------
    model : Path
        Folder of an nnU-Net model, or a TorchScript or ONNX file.
    params : NetworkParams
        How to run it.

    Returns
    -------
    sequence of Network
        One, or one per axis that a 2-D model is run across.

    Raises
    ------
    FormatError
        If it is neither.
    """
    from tracer.predict.nnunet import ModelFolder, NnunetNetwork
    from tracer.predict.slices import SUFFIXES, load_slice_networks

    if model.is_dir():
        return [NnunetNetwork(ModelFolder.find(model, params.folds, params.checkpoint), params)]
    if model.suffix.lower() in SUFFIXES and model.is_file():
        return load_slice_networks(model, params)
    raise FormatError(
        f"{model}: no such model; give the folder of an nnU-Net model, or a 2-D model as one of "
        f"{', '.join(SUFFIXES)}"
    )


class BlockPredictor:
    """Networks over one level of a volume, block by block.

    Parameters
    ----------
    ct : Volume
        CT.
    networks : sequence of Network
        Averaged.
    params : NetworkParams
        Level, blocks and output.
    figures : GreyFigures, optional
        Of the CT, where they were measured before.

    Attributes
    ----------
    grid : BlockGrid
        Blocks.
    figures : GreyFigures or None
        Of the CT, where a normalisation needs them.
    """

    def __init__(
        self,
        ct: Volume,
        networks: Sequence[Network],
        params: NetworkParams,
        figures: GreyFigures | None = None,
    ) -> None:
        self._ct = ct
        self._params = params
        needed = any(network.normalisation.needs_figures for network in networks)
        self.figures = figures
        if needed and figures is None:
            self.figures = GreyFigures.measure(ct, params.level)
        self._placed = [
            VolumeNetwork.of(network, ct, params.level, params.step, self.figures)
            for network in networks
        ]
        shape = ct.level_shape_zyx(params.level)
        self.grid = (
            BlockGrid.meeting(self._placed[0].borders(params.block))
            if params.blend == "exact"
            else BlockGrid.overlapping(shape, params.block, params.overlap)
        )

    def block(self, number: int) -> NDArray[np.uint8] | None:
        """Return the prediction of a block.

        Parameters
        ----------
        number : int
            Block.

        Returns
        -------
        ndarray of uint8 or None
            255 times the probability; None where there is nothing.
        """
        start, stop = self.grid.box(number)
        outside = None
        if self._params.mask_empty:
            outside = self._ct.read(self._params.level, start, stop) == 0
            if outside.all():
                return None
        total: NDArray[np.float32] | None = None
        for placed in self._placed:
            own = None
            if self._params.blend != "exact":
                z, y, x = (b - a for a, b in zip(start, stop, strict=True))
                own = WindowGrid.of((z, y, x), placed.grid.patch_zyx, self._params.step)
            probability = placed.probability(start, stop, own)
            if probability is not None:
                total = probability if total is None else total + probability
        if total is None:
            return None
        out = np.round(total * (255.0 / len(self._placed))).astype(np.uint8)
        if outside is not None:
            out[outside] = 0
        return out


def predict_with_network(
    ct: Volume,
    output: Path,
    models: Sequence[Path],
    params: NetworkParams,
    *,
    part: Part | None = None,
    existing: Existing = _KEEP,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> PredictResult | PartResult:
    """Predict the sheets of a CT volume with trained networks.

    Parameters
    ----------
    ct : Volume
        CT, uint8 or uint16.
    output : Path
        OME-Zarr volume to make. Unfinished work with the same parameters is continued.
    models : sequence of Path
        nnU-Net model folders, TorchScript or ONNX files; their probabilities are averaged.
    params : NetworkParams
        Networks, blocks and output.
    part : Part, optional
        Share of the blocks to do; all of them where omitted.
    existing : Existing
        What to do about what is already there.
    workers : int or Executor
        Processes, or whatever else predicts the blocks; each loads the networks.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult or PartResult
        Counts; a PartResult where other parts are not finished.

    Raises
    ------
    OutputError
        If the output exists or cannot be written.
    """
    part = part or Part()
    if output.exists() and not existing.overwrite:
        raise OutputError(f"{output}: exists already; choose another name or overwrite it")
    was_there = output.exists()
    networks = [network for model in models for network in load_network(model, params)]
    predictor = BlockPredictor(ct, networks, params)
    facts = [network.facts() for network in networks]
    work = {
        "stage": "predict with network",
        "ct": ct.identity,
        "models": facts,
        "params": params.effective(),
    }
    folder = output.with_name(f".{output.name}.blocks")
    store = BlockStore.open(folder, predictor.grid, work, restart=existing.restart)
    resumed = len(predictor.grid) - len(store.missing())
    own = [n for n in range(len(predictor.grid)) if n % part.count == part.number]
    done = _predict_blocks(store, own, predictor, ct, models, params, workers, progress)
    if not folder.exists() or (output.exists() and not was_there):  # another part was faster
        return PartResult(output=output, done=done, missing=0, blocks=len(predictor.grid))
    if store.missing():
        return PartResult(
            output=output, done=done, missing=len(store.missing()), blocks=len(predictor.grid)
        )
    extra = {"models": facts, "devices": sorted({getattr(n, "device", "cpu") for n in networks})}
    return _put_together(store, ct, output, params, work, extra, existing, resumed, progress)


def _predict_blocks(
    store: BlockStore,
    own: Sequence[int],
    predictor: BlockPredictor,
    ct: Volume,
    models: Sequence[Path],
    params: NetworkParams,
    workers: int | Executor,
    progress: Progress,
) -> int:
    """Predict the blocks that are not there yet; return their number."""
    everywhere = (ct, tuple(models), params, predictor.figures)
    _LOADED.update(key=_key(*everywhere[:3]), predictor=predictor)  # where this process does it
    handed_out: list[int] = []

    def tasks() -> Iterator[tuple[Any, ...]]:
        for number in own:
            if not store.has(number):  # another part may have been faster
                handed_out.append(number)
                yield (*everywhere, number)

    done = 0
    try:
        for index, voxels in run_tasks(_predict_one, tasks(), workers):
            store.write(handed_out[index], voxels)
            done += 1
            progress(done, len(own), "blocks")
    finally:
        _LOADED.clear()
    return done


def _key(ct: Volume, models: tuple[Path, ...], params: NetworkParams) -> tuple[Any, ...]:
    """Return what identifies loaded networks."""
    return ct.identity, models, params.model_dump_json()


def _predict_one(
    task: tuple[Any, ...],
) -> NDArray[np.uint8] | None:
    """Return the prediction of one block; runs in a worker, which keeps the networks."""
    ct, models, params, figures, number = task
    key = _key(ct, models, params)
    if _LOADED.get("key") != key:
        networks = [network for model in models for network in load_network(model, params)]
        _LOADED.update(key=key, predictor=BlockPredictor(ct, networks, params, figures))
    predictor: BlockPredictor = _LOADED["predictor"]
    return predictor.block(number)


def _put_together(
    store: BlockStore,
    ct: Volume,
    output: Path,
    params: NetworkParams,
    work: Mapping[str, Any],
    extra: Mapping[str, Any],
    existing: Existing,
    resumed: int,
    progress: Progress,
) -> PredictResult | PartResult:
    """Make the volume of finished blocks, unless another process is doing it."""
    from filelock import FileLock, Timeout

    blocks = len(store.grid)
    lock = FileLock(store.folder / "merge.lock")
    try:
        with lock.acquire(timeout=0):
            merger = BlockMerger(store.grid, store.read, params.blend)
            result = write_merged(
                merger,
                store.grid,
                output,
                voxel_size_um=ct.voxel_size_um * 2**params.level,
                shape_zyx=ct.level_shape_zyx(params.level),
                threshold=None if params.probabilities else params.threshold,
                work=work,
                made=provenance("tracer predict", params, volume=ct, extra=extra),
                existing=existing,
                resumed=resumed,
                progress=progress,
            )
    except Timeout:
        return PartResult(output=output, done=0, missing=0, blocks=blocks)
    store.remove()
    return result


def write_merged(
    merger: BlockMerger,
    grid: BlockGrid,
    output: Path,
    *,
    voxel_size_um: float,
    shape_zyx: Index,
    threshold: float | None,
    work: Mapping[str, Any],
    made: Mapping[str, Any],
    existing: Existing,
    resumed: int = 0,
    progress: Progress = silent,
) -> PredictResult:
    """Write the volume that blocks make together.

    Parameters
    ----------
    merger : BlockMerger
        Gives the voxels of a block's core.
    grid : BlockGrid
        Blocks.
    output : Path
        OME-Zarr volume to make.
    voxel_size_um : float
        Of the volume.
    shape_zyx : tuple of int
        Of the volume.
    threshold : float or None
        Least probability that becomes 255; None keeps probabilities.
    work, made : mapping
        What identifies the work, and its provenance.
    existing : Existing
        What to do about what is already there.
    resumed : int
        Blocks that an earlier run had predicted.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult
        Counts.
    """
    writer = VolumeWriter.create(
        output,
        shape_zyx,
        np.uint8,
        voxel_size_um,
        work={**work, "threshold": threshold},
        restart=existing.restart,
        overwrite=existing.overwrite,
    )
    cores = [Block(number, *grid.core(number)) for number in range(len(grid))]
    out = BlockOutput(writer, cores)

    def merged(block: Block) -> NDArray[np.uint8] | None:
        values = merger.core(block.number)
        if values is None or threshold is None:
            return values
        return np.where(values >= 255.0 * threshold, np.uint8(255), np.uint8(0))

    try:
        out.write(merged, progress=progress)
        out.resumed_blocks = resumed
        return out.finish(made, progress=progress)
    finally:
        writer.close()  # what is unfinished can be continued, by this process as well
