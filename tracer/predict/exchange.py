"""Blocks for people who run ``nnUNetv2_predict`` themselves: out as tifs, back as one volume.

``blocks.json`` among the exported files says where each block lies. nnU-Net reads only the tifs, so
the folder is its input as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from tracer.atomic import replacing_file, write_json
from tracer.errors import FormatError, OutputError
from tracer.params import Params
from tracer.predict.network_stage import write_merged
from tracer.predict.nnunet_files import (
    CHANNEL,
    read_labels,
    read_probabilities,
    write_spacing,
    write_volume_tif,
)
from tracer.predict.output import Existing, PredictResult
from tracer.predict.overlapping_blocks import BlockGrid, BlockMerger
from tracer.predict.window_grid import Index
from tracer.progress import Progress, silent
from tracer.provenance import provenance
from tracer.volume import Volume

LIST = "blocks.json"
_FORMAT = "tracer-blocks"


class ExportParams(Params):
    """How a volume is cut into blocks."""

    level: int = Field(default=0, ge=0, le=16, description="Level of the CT that is predicted on.")
    block: int = Field(default=600, ge=16, le=2048, description="Edge of a block in voxels.")
    overlap: int = Field(default=50, ge=0, le=512, description="Voxels that neighbours share.")
    spacing: float = Field(
        default=1.0, gt=0.0, description="Edge of a voxel that is written to the spacing files."
    )

    @pydantic.model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if 2 * self.overlap > self.block:
            raise ValueError(f"overlap {self.overlap} is more than half the block {self.block}")
        return self


class ImportParams(Params):
    """How predicted blocks become a volume."""

    blend: Literal["gaussian", "crop"] = Field(
        default="gaussian",
        description="Whether overlaps are averaged with Gaussian weights or cut in the middle.",
    )
    probabilities: bool = Field(
        default=False,
        description="Write 255 times the probability, from the .npz of --save_probabilities.",
    )
    threshold: float = Field(
        default=0.5, gt=0.0, lt=1.0, description="Least probability of a sheet where 0 and 255."
    )
    labels: tuple[int, ...] | None = Field(
        default=None, description="Labels that count as sheet; all but 0 where omitted."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was exported.

    Attributes
    ----------
    folder : Path
        Input folder for ``nnUNetv2_predict``.
    blocks : int
        Blocks of the volume.
    empty : int
        Blocks without CT, which are not written.
    kept : int
        Blocks that were there already.
    """

    folder: Path
    blocks: int
    empty: int
    kept: int

    def summary(self) -> str:
        """Return the result in one line.

        Returns
        -------
        str
            For people.
        """
        kept = f", {self.kept} of them from an earlier run" if self.kept else ""
        return (
            f"{self.folder}: {self.blocks - self.empty} of {self.blocks} blocks "
            f"({self.empty} empty){kept}; predict them with nnUNetv2_predict -i {self.folder}"
        )


def block_name(start_zyx: Index) -> str:
    """Return what a block is called.

    Parameters
    ----------
    start_zyx : tuple of int
        Its first voxel.

    Returns
    -------
    str
        Without channel and suffix.
    """
    return "block_" + "_".join(f"{a:05d}" for a in start_zyx)


def export_blocks(
    ct: Volume, folder: Path, params: ExportParams, *, progress: Progress = silent
) -> ExportResult:
    """Write the blocks of a CT volume as nnU-Net's input. What is there already is kept.

    Parameters
    ----------
    ct : Volume
        CT.
    folder : Path
        Folder to make or to continue.
    params : ExportParams
        Blocks.
    progress : callable
        Progress callback.

    Returns
    -------
    ExportResult
        Counts.

    Raises
    ------
    OutputError
        If the folder holds blocks of something else.
    """
    shape = ct.level_shape_zyx(params.level)
    grid = BlockGrid.overlapping(shape, params.block, params.overlap)
    facts = {
        "format": _FORMAT,
        "ct": ct.identity,
        "params": params.effective(),
        "shape_zyx": list(shape),
        "voxel_size_um": ct.voxel_size_um * 2**params.level,
        "spans": grid.spans,
    }
    facts = json.loads(json.dumps(facts))
    listing = folder / LIST
    if listing.exists():
        found = _read_listing(listing)
        if {key: found.get(key) for key in facts} != facts:
            raise OutputError(f"{folder}: holds blocks of another volume or size; remove it")
    elif folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty and holds no {LIST}; choose another folder")
    empty, kept = [], 0
    for number in range(len(grid)):
        start, stop = grid.box(number)
        path = folder / f"{block_name(start)}{CHANNEL}.tif"
        if path.exists():
            kept += 1
        else:
            voxels = ct.read(params.level, start, stop)
            if voxels.any():
                folder.mkdir(parents=True, exist_ok=True)
                write_spacing(folder / f"{block_name(start)}.json", params.spacing)
                with replacing_file(path) as temporary:
                    write_volume_tif(temporary, voxels)
            else:
                empty.append(number)
        progress(number + 1, len(grid), "blocks")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(listing, {**facts, "empty": empty})
    return ExportResult(folder=folder, blocks=len(grid), empty=len(empty), kept=kept)


def _read_listing(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise ValueError(found["format"])
    except OSError as error:
        raise FormatError(
            f"{path}: cannot read it ({error.strerror}); give the folder that "
            "`tracer predict export-blocks` wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: not a list of blocks ({error}); export them anew") from error
    listing: Mapping[str, Any] = found
    return listing


def import_blocks(
    blocks: Path,
    predictions: Path,
    output: Path,
    params: ImportParams,
    *,
    existing: Existing | None = None,
    progress: Progress = silent,
) -> PredictResult:
    """Make a volume of predicted blocks.

    Parameters
    ----------
    blocks : Path
        Folder that :func:`export_blocks` wrote.
    predictions : Path
        Folder that ``nnUNetv2_predict`` wrote: ``block_….tif``, or ``.npz`` with probabilities.
    output : Path
        OME-Zarr volume to make. Unfinished work with the same parameters is continued.
    params : ImportParams
        Blending and output.
    existing : Existing, optional
        What to do about what is already there.
    progress : callable
        Progress callback.

    Returns
    -------
    PredictResult
        Counts.

    Raises
    ------
    FormatError
        If a prediction is missing, damaged or of another shape.
    """
    listing = _read_listing(blocks / LIST)
    (z, y, x) = (tuple((int(a), int(b)) for a, b in along) for along in listing["spans"])
    grid = BlockGrid(spans=(z, y, x))
    empty = set(listing["empty"])
    suffix = ".npz" if params.probabilities else ".tif"
    paths = {
        number: predictions / f"{block_name(grid.box(number)[0])}{suffix}"
        for number in range(len(grid))
        if number not in empty
    }
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        hint = "; predict with --save_probabilities" if params.probabilities else ""
        raise FormatError(
            f"{missing[0]}: {len(missing)} of {len(paths)} predicted blocks are missing{hint}"
        )
    read_file = read_probabilities if params.probabilities else read_labels

    def read(number: int) -> NDArray[np.uint8] | None:
        if number in empty:
            return None
        voxels = read_file(paths[number], params.labels)
        start, stop = grid.box(number)
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        if voxels.shape != shape:
            raise FormatError(f"{paths[number]}: of shape {voxels.shape}, the block is {shape}")
        return voxels

    work = {
        "stage": "import blocks",
        "ct": listing["ct"],
        "params": params.effective(),
        "files": [[path.name, path.stat().st_size] for path in paths.values()],
    }
    a, b, c = listing["shape_zyx"]
    return write_merged(
        BlockMerger(grid, read, params.blend),
        grid,
        output,
        voxel_size_um=listing["voxel_size_um"],
        shape_zyx=(a, b, c),
        threshold=None if params.probabilities else params.threshold,
        work=work,
        made=provenance("tracer predict import-blocks", params),
        existing=existing or Existing(),
        progress=progress,
    )
