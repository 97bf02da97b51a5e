"""The prediction stages on volumes: predict, clean, from labels, score."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError, VolumeError
from tracer.predict.blocks import Block, Index, read_with_halo
from tracer.predict.clean import CleanParams, CleanReach, clean_block
from tracer.predict.components import label_block, measure_components
from tracer.predict.estimate_outward import estimate_outward
from tracer.predict.from_labels import FromLabelsParams, LabelReach, labels_block
from tracer.predict.orientation import Outward
from tracer.predict.output import BlockOutput, Existing, PredictResult
from tracer.predict.params import PredictParams
from tracer.predict.score import PredictionScore, score_masks
from tracer.predict.sheet_filter import FilterReach, filter_block
from tracer.progress import Progress, silent
from tracer.provenance import provenance
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter
from tracer.workers import Executor

_KEEP = Existing()
_SAMPLES = 5  # per axis: 125 cubes of 32 voxels estimate the contrast to about a percent
_SAMPLE_EDGE = 32
_MOST_SCORED = 1 << 27  # voxels; the topology score takes about 75 bytes per voxel


def measure_contrast(volume: Volume) -> float:
    """Return the standard deviation of a CT's grey values where it holds any.

    Parameters
    ----------
    volume : Volume
        CT; zeros count as masked.

    Returns
    -------
    float
        From cubes spread evenly over level 0; the same for the same volume.

    Raises
    ------
    NothingFoundError
        If all samples are zero or of one grey value.
    """
    starts = [
        sorted({round((n - _SAMPLE_EDGE) * (i + 0.5) / _SAMPLES) for i in range(_SAMPLES)})
        for n in volume.shape_zyx
    ]
    count = 0
    total = squares = 0.0
    for start in itertools.product(*starts):
        stop = tuple(a + _SAMPLE_EDGE for a in start)
        values = volume.read(0, start, stop).astype(np.float64)
        values = values[values > 0]
        count += values.size
        total += float(values.sum())
        squares += float((values * values).sum())
    variance = squares / count - (total / count) ** 2 if count else 0.0
    if variance <= 0.0:
        raise NothingFoundError(
            f"{volume.path}: the sampled voxels are empty or of one grey value; "
            "check that this is the CT, or give --contrast"
        )
    return float(np.sqrt(variance))


def _axis(outward: Outward | None) -> list[list[float]] | None:
    """Return the points of an axis, so that an edited umbilicus file is other work."""
    return None if outward is None else outward.axis_zyx.tolist()


def _open(
    output: Path, like: Volume, work: Mapping[str, Any], edge: int, existing: Existing
) -> BlockOutput:
    """Return an output of the shape and voxel size of a volume, new or continued."""
    writer = VolumeWriter.create(
        output,
        like.shape_zyx,
        np.uint8,
        like.voxel_size_um,
        work=work,
        restart=existing.restart,
        overwrite=existing.overwrite,
    )
    return BlockOutput(writer, edge)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Filter:
    """What finds the sheets of one block of a CT."""

    ct: Volume
    params: PredictParams
    contrast: float
    outward: Outward | None

    def __call__(self, block: Block) -> NDArray[np.uint8] | None:
        params, outward = self.params, self.outward
        if outward is not None and 0 < params.max_radius <= outward.least_radius(
            block.start_zyx, block.stop_zyx
        ):
            return None
        if not self.ct.read(0, block.start_zyx, block.stop_zyx).any():
            return None
        grey = read_with_halo(self.ct, block, FilterReach.of(params).halo)
        return filter_block(grey, params, self.contrast, start_zyx=block.start_zyx, outward=outward)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LabelSurface:
    """What turns one block of labels into a prediction."""

    labels: Volume
    params: FromLabelsParams
    outward: Outward | None

    def __call__(self, block: Block) -> NDArray[np.uint8] | None:
        values = read_with_halo(self.labels, block, LabelReach.of(self.params).halo)
        if not values.any():
            return None
        return labels_block(values, self.params, start_zyx=block.start_zyx, outward=self.outward)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mend:
    """What mends one block of a prediction."""

    prediction: Volume
    ct: Volume | None
    params: CleanParams

    def __call__(self, block: Block) -> NDArray[np.uint8] | None:
        halo = CleanReach.of(self.params).halo
        values = read_with_halo(self.prediction, block, halo)
        if not values.any():
            return None
        support = None if self.ct is None else read_with_halo(self.ct, block, halo) != 0
        return clean_block(values, self.params, support=support)


def predict(
    ct: Volume,
    output: Path,
    params: PredictParams,
    *,
    existing: Existing = _KEEP,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> PredictResult:
    """Predict the sheets of a CT volume with the built-in filter.

    Parameters
    ----------
    ct : Volume
        CT, uint8 or uint16.
    output : Path
        OME-Zarr volume to make. Unfinished work with the same parameters is continued.
    params : PredictParams
        Filter and output.
    existing : Existing
        What to do about what is already there.
    workers : int or Executor
        Processes, or whatever else works on the blocks.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult
        Counts, and the contrast that was used.
    """
    outward = Outward.of(params.umbilicus, params.axis_x, params.axis_y, params.outward)
    if outward is None and params.needs_axis:
        outward = estimate_outward(ct, params)
    contrast = params.contrast or measure_contrast(ct)
    work = {
        "stage": "predict",
        "ct": ct.identity,
        "params": params.effective(),
        "axis": _axis(outward),
    }
    out = _open(output, ct, work, params.block, existing)
    filtered = _Filter(ct=ct, params=params, contrast=contrast, outward=outward)
    out.write(filtered, workers=workers, progress=progress)
    extra = {"contrast": contrast, "axis_zyx": _axis(outward)}
    made = provenance("tracer predict", params, volume=ct, extra=extra)
    return out.finish(made, notes={"contrast": contrast}, progress=progress)


def predict_from_labels(
    labels: Volume,
    output: Path,
    params: FromLabelsParams,
    *,
    existing: Existing = _KEEP,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> PredictResult:
    """Turn a volume of sheet instance labels into a surface prediction.

    Parameters
    ----------
    labels : Volume
        Instance per voxel, 0 for none; uint8 or uint16.
    output : Path
        OME-Zarr volume to make. Unfinished work with the same parameters is continued.
    params : FromLabelsParams
        Face and widths.
    existing : Existing
        What to do about what is already there.
    workers : int or Executor
        Processes, or whatever else works on the blocks.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult
        Counts.
    """
    outward = Outward.of(params.umbilicus, params.axis_x, params.axis_y, params.outward)
    work = {
        "stage": "from-labels",
        "labels": labels.identity,
        "params": params.effective(),
        "axis": _axis(outward),
    }
    out = _open(output, labels, work, params.block, existing)
    surface = _LabelSurface(labels=labels, params=params, outward=outward)
    out.write(surface, workers=workers, progress=progress)
    made = provenance("tracer predict from-labels", params, volume=labels)
    return out.finish(made, progress=progress)


def clean(
    prediction: Volume,
    output: Path,
    params: CleanParams,
    *,
    ct: Volume | None = None,
    existing: Existing = _KEEP,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> PredictResult:
    """Mend a prediction.

    Parameters
    ----------
    prediction : Volume
        uint8 prediction.
    output : Path
        OME-Zarr volume to make. Unfinished work with the same parameters is continued.
    params : CleanParams
        Steps.
    ct : Volume, optional
        CT of the same shape; where it is 0, nothing is predicted.
    existing : Existing
        What to do about what is already there.
    workers : int or Executor
        Processes, or whatever else works on the blocks.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult
        Counts, and the number of components before small ones were dropped.

    Raises
    ------
    VolumeError
        If the prediction is not uint8 or the CT has another shape.
    """
    prediction.require_prediction()
    if ct is not None and ct.shape_zyx != prediction.shape_zyx:
        raise VolumeError(
            f"{ct.path}: CT of shape {ct.shape_zyx} does not fit the prediction "
            f"{prediction.path} of shape {prediction.shape_zyx}"
        )
    work = {
        "stage": "clean",
        "prediction": prediction.identity,
        "ct": ct.identity if ct is not None else None,
        "params": params.effective(),
    }
    out = _open(output, prediction, work, params.block, existing)
    mend = _Mend(prediction=prediction, ct=ct, params=params)
    notes: dict[str, float] = {}
    made = provenance("tracer predict clean", params, volume=prediction)
    if params.min_component == 0:
        out.write(mend, workers=workers, progress=progress)
        return out.finish(made, progress=progress)
    # Components are known only when the whole volume is mended: it waits beside the output.
    beside = output.with_name(f"{output.name}.mended")
    mended = _open(beside, prediction, work, params.block, Existing(restart=existing.restart))
    mended.write(mend, workers=workers, progress=progress)
    read = mended.writer.read

    def read_mask(start: Index, stop: Index) -> NDArray[np.bool_]:
        return np.asarray(read(start, stop) > 0, np.bool_)

    shape = prediction.shape_zyx
    sizes = measure_components(read_mask, shape, params.block, progress=progress)

    def drop(block: Block) -> NDArray[np.uint8]:
        labels, _ = label_block(read_mask, shape, block)
        z, y, x = block.shape_zyx
        large = sizes.of_block(block, labels[:z, :y, :x]) >= params.min_component
        return np.where(large, read(block.start_zyx, block.stop_zyx), np.uint8(0))

    out.write(drop, progress=progress)
    notes["components"] = sizes.components
    notes["dropped voxels"] = mended.sheet_voxels - out.sheet_voxels
    result = out.finish(made, notes=notes, progress=progress)
    mended.writer.abandon()
    return result


def score(
    prediction: Volume,
    label: Volume,
    *,
    box_zyx: tuple[Index, Index] | None = None,
    threshold: float = 127.5,
    ignore_label: int | None = None,
    tolerance: float = 2.0,
) -> PredictionScore:
    """Score a prediction against a label volume.

    Parameters
    ----------
    prediction : Volume
        Foreground where at least `threshold`.
    label : Volume
        Foreground where neither 0 nor `ignore_label`; of the same shape.
    box_zyx : tuple of tuple of int, optional
        Start and stop of the part to score; the whole volume where omitted.
    threshold : float
        Least value of the prediction's foreground.
    ignore_label : int, optional
        Label that means unknown.
    tolerance : float
        Of the surface Dice, in voxels.

    Returns
    -------
    PredictionScore
        All scores.

    Raises
    ------
    VolumeError
        If the shapes differ or the part is too large to be held in memory.
    """
    if prediction.shape_zyx != label.shape_zyx:
        raise VolumeError(
            f"{prediction.path} {prediction.shape_zyx} and {label.path} {label.shape_zyx} "
            "differ in shape"
        )
    start, stop = box_zyx or ((0, 0, 0), prediction.shape_zyx)
    voxels = int(np.prod([max(0, b - a) for a, b in zip(start, stop, strict=True)]))
    if not 0 < voxels <= _MOST_SCORED:
        raise VolumeError(
            f"{prediction.path}: a box of {voxels} voxels cannot be scored; "
            f"choose one of 1 to {_MOST_SCORED} with --start and --stop"
        )
    return score_masks(
        prediction.read(0, start, stop),
        label.read(0, start, stop),
        threshold=threshold,
        ignore_label=ignore_label,
        tolerance=tolerance,
    )
