"""Make a phantom: CT, prediction, truth and ink image, chunk by chunk.

Layout of the directory: ``ct.zarr`` and ``prediction.zarr`` (OME-Zarr), ``ink.tif`` (what is
written, in z and arc length) and ``truth.json``, which is written last.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracer import __version__
from tracer.atomic import replacing_file, write_json
from tracer.errors import OutputError
from tracer.phantom.ink import draw_ink
from tracer.phantom.levels import local_spacing, plan_phantom
from tracer.phantom.params import PhantomParams
from tracer.phantom.truth import INK_FILE, TRUTH_FILE, Truth
from tracer.phantom.voxels import Index, render_box
from tracer.progress import Progress, silent
from tracer.tif import write_tif
from tracer.volume_writer import VolumeWriter

CT, PREDICTION = "ct.zarr", "prediction.zarr"
_UNFINISHED = ".phantom-unfinished"  # marks what a killed run left, which may be overwritten
_CHUNK = 128  # voxels; boxes are chunks, so that each is written once
_FAR = 3.0  # voxels from the recto beyond which a positive is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomResult:
    """What was made.

    Attributes
    ----------
    directory : Path
        Where it lies.
    truth : Truth
        Its truth.
    spacing_median : float
        Median distance of neighbouring wraps, voxels.
    spacing_range : tuple of float
        2nd and 98th percentile of it.
    positive : float
        Share of the voxels that the prediction takes for recto.
    wrong : float
        Share of those that lie more than 3 voxels from the recto, estimated from samples.
    """

    directory: Path
    truth: Truth
    spacing_median: float
    spacing_range: tuple[float, float]
    positive: float
    wrong: float

    def summary(self) -> str:
        """Return what was made in two lines.

        Returns
        -------
        str
            Text for a person.
        """
        first, last = (angle / (2.0 * np.pi) for angle in self.truth.theta_range)
        low, high = self.spacing_range
        return (
            f"{self.directory}: {' x '.join(map(str, self.truth.size_zyx))} voxels, "
            f"{last - first:.1f} wraps, distance of wraps {self.spacing_median:.1f} "
            f"({low:.1f} to {high:.1f}) voxels\n"
            f"prediction: {100 * self.positive:.1f} % positive, "
            f"{100 * self.wrong:.0f} % of these wrong"
        )


class _Tally:
    """Counts positives, and how many of a sample of them are wrong."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.positive = self.sampled = self.wrong = 0

    def add(self, start_zyx: Index, prediction: NDArray[np.uint8]) -> None:
        """Count the positives of a box; every third voxel along each axis is judged."""
        self.positive += int(np.count_nonzero(prediction))
        found = 3 * np.argwhere(prediction[::3, ::3, ::3]) + np.array(start_zyx)
        points = found[:, ::-1].astype(np.float64)
        located = self._truth.locate(points)
        good = np.abs(located.distance()) <= _FAR
        good &= self._truth.is_inside(points, located)
        self.sampled += len(points)
        self.wrong += int(np.count_nonzero(~good))


def make_phantom(
    directory: Path, params: PhantomParams, *, progress: Progress | None = None
) -> PhantomResult:
    """Make a phantom in a directory.

    Parameters
    ----------
    directory : Path
        Where to put it; created where missing.
    params : PhantomParams
        What to make.
    progress : Progress, optional
        Called after each chunk.

    Returns
    -------
    PhantomResult
        The truth and a few figures.

    Raises
    ------
    OutputError
        If there is something of that name already, or the directory cannot be written.

    Notes
    -----
    Memory is bounded by a chunk and the ink image (one byte per square voxel of the sheet). The
    result depends on the parameters only.
    """
    truth = replace(plan_phantom(params), source=directory / TRUTH_FILE)
    letters = params.letters(truth.z_range[1] - truth.z_range[0])
    ink = draw_ink(params.text, truth.ink_shape(), letters)
    marker = directory / _UNFINISHED
    again = _claim(directory, marker)
    ct, prediction = (_create_volume(directory / name, params, again) for name in (CT, PREDICTION))
    tally = _write_voxels(truth, ink, ct, prediction, progress or silent)
    with replacing_file(directory / INK_FILE) as temporary:
        write_tif(temporary, ink)
    spacing = local_spacing(truth)
    low, high = np.percentile(spacing, [2.0, 98.0])
    result = PhantomResult(
        directory=directory,
        truth=truth,
        spacing_median=float(np.median(spacing)),
        spacing_range=(float(low), float(high)),
        positive=tally.positive / float(np.prod(truth.size_zyx)),
        wrong=tally.wrong / max(1, tally.sampled),
    )
    write_json(
        directory / TRUTH_FILE,
        {
            **truth.to_json(),
            "source": "tracer phantom",
            "tracer_version": __version__,
            "params": params.effective(),
            "spacing_median": result.spacing_median,
            "spacing_range": list(result.spacing_range),
            "wrong_positives": result.wrong,
        },
    )
    marker.unlink()
    return result


def _claim(directory: Path, marker: Path) -> bool:
    """Return whether a killed run left a phantom here; refuse to touch anything else."""
    if marker.exists():
        return True
    for name in (TRUTH_FILE, CT, PREDICTION):
        if (directory / name).exists():
            raise OutputError(
                f"{directory / name}: exists already; remove it or choose another directory"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise OutputError(f"{directory}: cannot write ({error.strerror})") from error
    return False


def _write_voxels(
    truth: Truth,
    ink: NDArray[np.uint8],
    ct: VolumeWriter,
    prediction: VolumeWriter,
    progress: Progress,
) -> _Tally:
    """Write both volumes chunk by chunk and return what was counted."""
    tally = _Tally(truth)
    boxes = list(_boxes(truth.size_zyx))
    for done, (start, stop) in enumerate(boxes):
        grey, positive = render_box(truth, ink, start, stop)
        ct.write(start, grey)
        if positive.any():
            prediction.write(start, positive)
            tally.add(start, positive)
        progress(done + 1, len(boxes), "chunks")
    ct.finish(pooling="mean")
    prediction.finish(pooling="max")
    return tally


def _create_volume(path: Path, params: PhantomParams, overwrite: bool) -> VolumeWriter:
    """Return a writer for a volume whose identifier follows from the parameters."""
    text = json.dumps(params.effective(), sort_keys=True)
    digest = hashlib.sha256(f"{__version__} {text}".encode()).hexdigest()[:12]
    return VolumeWriter.create(
        path,
        params.size_zyx,
        np.uint8,
        params.voxel_size_um,
        f"phantom-{digest}-{path.stem}",
        chunk=_CHUNK,
        overwrite=overwrite,
    )


def _boxes(size_zyx: Index) -> Iterator[tuple[Index, Index]]:
    """Yield first voxel and end of every chunk."""
    for z, y, x in product(*(range(0, size, _CHUNK) for size in size_zyx)):
        stop = tuple(min(a + _CHUNK, n) for a, n in zip((z, y, x), size_zyx, strict=True))
        yield (z, y, x), (stop[0], stop[1], stop[2])
