"""The hand-over to training: images and labels as a raw data set of nnU-Net.

Written is what nnU-Net's own commands expect, and nothing else::

    nnUNet_raw/Dataset060_Sheets/
        dataset.json
        imagesTr/scroll_00000_00256_00512_0000.tif   grey values
        imagesTr/scroll_00000_00256_00512.json       spacing
        labelsTr/scroll_00000_00256_00512.tif        0 background, 1 sheet, 2 ignore
        labelsTr/scroll_00000_00256_00512.json       spacing

Large images are cut into crops. Labels are volumes, or surfaces: those become a band around the
surface, with background on both sides as far as is known, and *ignore* everywhere else, because
nobody has said that there is no other sheet.
"""

import contextlib
import itertools
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from tracer.atomic import replacing_directory
from tracer.errors import FormatError, NothingFoundError, OutputError, ParamsError, TracerWarning
from tracer.params import Params
from tracer.predict.nnunet_files import CHANNEL, write_spacing, write_volume_tif
from tracer.predict.overlapping_blocks import overlapping_spans
from tracer.predict.surface_labels import BACKGROUND, IGNORE, SHEET, label_surfaces
from tracer.predict.window_grid import Index
from tracer.progress import Progress, silent

_CHANNELS = {"CT": "CT", "z-score": "zscore", "rescale": "rescale_to_0_1", "none": "noNorm"}


class DatasetParams(Params):
    """How a training set is made."""

    id: int = Field(
        default=1, ge=1, le=999, description="Number of the data set, 1 to 999, as nnU-Net has it."
    )
    name: str = Field(
        default="Sheets",
        pattern=r"^[A-Za-z0-9][\w-]*$",
        description="Name of the data set: letters, digits, - and _.",
    )
    level: int = Field(
        default=0, ge=0, le=16, description="Level of zarr volumes that is trained on."
    )
    crop: int = Field(
        default=256, ge=0, le=2048, description="Edge of the crops in voxels; 0 keeps images whole."
    )
    min_known: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="Least share of a crop that is annotated or it is left out; crops without CT "
        "or without a sheet are left out as well.",
    )
    half_width: float = Field(
        default=2.0,
        ge=0.5,
        le=16.0,
        description="Surfaces: half the thickness in voxels of the band that is labelled sheet.",
    )
    known_distance: float = Field(
        default=6.0,
        ge=1.0,
        le=64.0,
        description="Surfaces: voxels on both sides of a surface in which there is no other sheet, "
        "at most half the distance of wraps; beyond it is ignored.",
    )
    ignore_label: int | None = Field(
        default=None, ge=1, description="Label volumes: value that means unknown."
    )
    normalisation: Literal["CT", "z-score", "rescale", "none"] = Field(
        default="CT",
        description="What nnU-Net does to grey values: CT uses figures of the whole data set, so "
        "that it does not depend on the crop.",
    )
    spacing: float = Field(
        default=1.0, gt=0.0, description="Edge of a voxel that is written to the spacing files."
    )

    @pydantic.model_validator(mode="after")
    def _band_is_known(self) -> "DatasetParams":
        if self.known_distance <= self.half_width:
            raise ValueError(
                f"known_distance {self.known_distance} must be more than half_width "
                f"{self.half_width}, or there is no background"
            )
        return self

    @property
    def folder_name(self) -> str:
        """Return the name of the folder, such as Dataset060_Sheets."""
        return f"Dataset{self.id:03d}_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetResult:
    """What a training set holds.

    Attributes
    ----------
    path : Path
        Its folder.
    cases : int
        Crops written.
    left_out : int
        Crops without CT, without sheet or hardly annotated.
    sheet, ignored : float
        Shares of the voxels written.
    """

    path: Path
    cases: int
    left_out: int
    sheet: float
    ignored: float

    def summary(self) -> str:
        """Return the result in one line.

        Returns
        -------
        str
            For people.
        """
        return (
            f"{self.path}: {self.cases} cases ({self.left_out} crops left out), "
            f"{100 * self.sheet:.1f} % sheet, {100 * self.ignored:.1f} % ignored"
        )


class _Image(Protocol):
    """Boxes of an image or of labels."""

    @property
    def shape_zyx(self) -> Index: ...
    @property
    def where(self) -> str: ...
    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]: ...
    def close(self) -> None: ...


class _Level:
    """One level of a volume."""

    def __init__(self, location: Path, level: int) -> None:
        from tracer.volume import Volume

        self._volume = Volume.open(location, require_meta=False)
        self._level = level
        self.shape_zyx = self._volume.level_shape_zyx(level)
        self.where = str(location)

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[Any]:
        return self._volume.read(self._level, start_zyx, stop_zyx)

    def close(self) -> None:
        pass  # a volume holds no files open


class _SurfaceLabels:
    """Labels that are painted around surfaces when a box is asked for."""

    def __init__(self, paths: Sequence[Path], where: Path, image: _Image, p: DatasetParams) -> None:
        from tracer.surface import Surface

        self._surfaces = [Surface.load(path) for path in paths]
        self._params = p
        self.shape_zyx = image.shape_zyx
        self.where = str(where)

    def read(self, start_zyx: Sequence[int], stop_zyx: Sequence[int]) -> NDArray[np.uint8]:
        p = self._params
        start, stop = tuple(map(int, start_zyx)), tuple(map(int, stop_zyx))
        return label_surfaces(
            self._surfaces,
            (start[0], start[1], start[2]),
            (stop[0], stop[1], stop[2]),
            half_width=p.half_width,
            known_distance=p.known_distance,
            level=p.level,
        )

    def close(self) -> None:
        self._surfaces.clear()


def _open_image(location: Path, level: int) -> _Image:
    from tracer.prepare import open_source
    from tracer.prepare_params import PrepareParams
    from tracer.scan_files import is_zarr

    if is_zarr(str(location)):
        return _Level(location, level)
    if level:
        raise ParamsError(f"level = {level}: {location} is not a zarr volume and has no levels")
    return open_source(location, PrepareParams())


def _open_labels(location: Path, image: _Image, params: DatasetParams) -> _Image:
    from tracer.scan_files import is_zarr
    from tracer.score import find_surfaces

    if location.is_dir() and not is_zarr(str(location)):
        surfaces = find_surfaces([location]) if any(location.rglob("meta.json")) else []
        if surfaces:
            return _SurfaceLabels(surfaces, location, image, params)
    return _open_image(location, params.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    image: NDArray[Any]
    label: NDArray[np.uint8]


class _Pair:
    """An image and what is known about it, in crops."""

    def __init__(self, image: Path, label: Path, params: DatasetParams) -> None:
        self._params = params
        self._image = _open_image(image, params.level)
        self._labels = _open_labels(label, self._image, params)
        self.painted = isinstance(self._labels, _SurfaceLabels)
        if self._image.shape_zyx != self._labels.shape_zyx:
            self.close()
            raise FormatError(
                f"{label}: labels of shape {self._labels.shape_zyx} do not fit the image {image} "
                f"of shape {self._image.shape_zyx}"
            )
        edge = params.crop or max(self._image.shape_zyx)
        spans = [overlapping_spans(extent, edge, 0) for extent in self._image.shape_zyx]
        self.boxes = list(itertools.product(*spans))

    def close(self) -> None:
        """Let go of the files."""
        self._image.close()
        self._labels.close()

    def case(self, spans: Sequence[tuple[int, int]], stem: str) -> _Case | None:
        """Return a crop, or None where it teaches nothing."""
        start, stop = [a for a, _ in spans], [b for _, b in spans]
        grey = self._image.read(start, stop)
        if not grey.any():
            return None
        label = self._label(self._labels.read(start, stop))
        label[(grey == 0) & (label == IGNORE)] = BACKGROUND  # masked: there is nothing
        known = np.count_nonzero((label != IGNORE) & (grey != 0)) / label.size
        if known < self._params.min_known or not (label == SHEET).any():
            return None
        return _Case(name=stem + "".join(f"_{a:05d}" for a in start), image=grey, label=label)

    def _label(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        if self.painted:
            return np.asarray(values, np.uint8)
        if self._params.ignore_label is None and set(np.unique(values).tolist()) == {0, 1, 2}:
            warnings.warn(
                f"{self._labels.where}: holds the labels 0, 1 and 2, and 2 counts as sheet; if it "
                "means unknown, give ignore_label 2",
                TracerWarning,
                stacklevel=2,
            )
        out = np.where(values != 0, np.uint8(SHEET), np.uint8(BACKGROUND))
        if self._params.ignore_label is not None:
            out[values == self._params.ignore_label] = IGNORE
        return np.asarray(out, np.uint8)


def make_dataset(
    raw: Path,
    pairs: Sequence[tuple[Path, Path]],
    params: DatasetParams,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DatasetResult:
    """Write a raw data set of nnU-Net.

    Parameters
    ----------
    raw : Path
        nnU-Net's folder ``nnUNet_raw``; the data set becomes a folder in it.
    pairs : sequence of tuple of Path
        Image (zarr, tif, NRRD, npy or a folder of them) and its labels: a volume of the same shape,
        a surface, or a folder of surfaces in level-0 voxels of the image.
    params : DatasetParams
        Number and name, crops and bands.
    overwrite : bool
        Replace a data set of that number and name.
    progress : callable
        Progress callback.

    Returns
    -------
    DatasetResult
        Counts.

    Raises
    ------
    OutputError
        If the data set exists.
    ParamsError
        If another data set has the number.
    NothingFoundError
        If no crop is of any use.
    """
    folder = raw / params.folder_name
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder}: exists already; choose another id or overwrite it")
    others = [p.name for p in sorted(raw.glob(f"Dataset{params.id:03d}_*")) if p != folder]
    if others:
        raise ParamsError(f"id = {params.id}: {raw / others[0]} has it already; choose another one")
    with contextlib.ExitStack() as stack:
        opened = []
        for image, label in pairs:
            opened.append(_Pair(image, label, params))
            stack.callback(opened[-1].close)
        stems = _distinct([image.absolute() for image, _ in pairs])
        with replacing_directory(folder) as temporary:
            cases, counts = _write(temporary, opened, stems, params, progress)
    total = sum(len(pair.boxes) for pair in opened)
    shares = counts / counts.sum()
    return DatasetResult(
        path=folder,
        cases=cases,
        left_out=total - cases,
        sheet=float(shares[SHEET]),
        ignored=float(shares[IGNORE]),
    )


def _write(
    folder: Path,
    pairs: Sequence[_Pair],
    stems: Sequence[str],
    params: DatasetParams,
    progress: Progress,
) -> tuple[int, NDArray[np.int64]]:
    """Write all cases and return their number and the voxels of each label."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    todo = [(p, s, b) for p, s in zip(pairs, stems, strict=True) for b in p.boxes]
    counts = np.zeros(3, np.int64)
    cases = 0
    for position, (pair, stem, box) in enumerate(todo):
        case = pair.case(box, stem)
        if case is not None:
            _write_case(folder, case, params.spacing)
            counts += np.bincount(case.label.ravel(), minlength=3)
            cases += 1
        progress(position + 1, len(todo), "crops")
    if cases == 0:
        raise NothingFoundError(
            f"{params.folder_name}: none of {len(todo)} crops holds CT and an annotated sheet; "
            "check that images and labels belong together"
        )
    ignore = any(pair.painted for pair in pairs) or params.ignore_label is not None
    text = json.dumps(_description(params, cases, ignore=ignore), indent=4)
    (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")
    return cases, counts


def _distinct(images: Sequence[Path]) -> list[str]:
    """Return names for images: that of the file, of its folder, too, or a number if need be."""
    stems = [image.name.split(".")[0] for image in images]
    if len(set(stems)) < len(stems):
        stems = [f"{image.parent.name}-{s}" for image, s in zip(images, stems, strict=True)]
    if len(set(stems)) < len(stems):
        stems = [f"{number:03d}-{stem}" for number, stem in enumerate(stems)]
    return [re.sub(r"[^\w-]+", "-", stem).strip("-") or "image" for stem in stems]


def _description(params: DatasetParams, cases: int, *, ignore: bool) -> dict[str, Any]:
    """Return the content of ``dataset.json``."""
    labels = {"background": BACKGROUND, "sheet": SHEET}
    if ignore:
        labels["ignore"] = IGNORE
    return {
        "channel_names": {"0": _CHANNELS[params.normalisation]},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".tif",
        "name": params.folder_name,
    }


def _write_case(folder: Path, case: _Case, spacing: float) -> None:
    """Write an image, its label and their spacing files."""
    for name, suffix, voxels in (
        ("imagesTr", CHANNEL, case.image),
        ("labelsTr", "", case.label),
    ):
        write_volume_tif(folder / name / f"{case.name}{suffix}.tif", voxels)
        write_spacing(folder / name / f"{case.name}.json", spacing)
