"""From rendered layers to ink models: chunks of a stack of layers, and its contrast.

Chunks are vertical strips of a given width that overlap, named ``<stack>_<first column>``, so that
the place of a chunk, and of a prediction made from it, is in its name; :mod:`tracer.stitch` joins
predictions again.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field

from tracer.layer_contrast import Contrast, local_maps, percentile_range, stretch_table
from tracer.layer_stack import LayerStack, read_picture, write_picture
from tracer.params import Params
from tracer.progress import Progress, silent

MASK_NAME = "mask.png"


class SplitParams(Params):
    """How layers are cut into chunks for an ink model."""

    width: int = Field(10000, ge=1, description="Columns of a chunk.")
    overlap: int = Field(0, ge=0, description="Columns that neighbouring chunks share.")
    layers_range: str = Field("", description="Only these layers, FIRST:END, e.g. 5:21.")
    contrast: Literal["none", "percentile", "clahe"] = Field(
        "none", description="Contrast to apply, the same for all layers and chunks."
    )
    low_percentile: float = Field(1.0, ge=0, lt=100, description="Becomes black.")
    high_percentile: float = Field(99.0, gt=0, le=100, description="Becomes white.")
    clahe_tile: int = Field(256, ge=16, description="CLAHE: edge of a neighbourhood, in pixels.")
    clahe_limit: float = Field(2.0, ge=1, description="CLAHE: clip limit, 1 is no contrast.")
    suffix: Literal["tif", "png", "jpg"] = Field("tif", description="Format of the chunks.")

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overlap >= self.width:
            raise ValueError(f"overlap {self.overlap} must be less than width {self.width}")
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile")
        return self


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """What a split wrote.

    Attributes
    ----------
    folders : tuple of Path
        Where the layers are, one folder per chunk, left to right.
    layers : int
        Layers in each.
    """

    folders: tuple[Path, ...]
    layers: int

    def summary(self) -> str:
        """Return what was written in one line.

        Returns
        -------
        str
            For people.
        """
        if len(self.folders) == 1:
            return f"{self.layers} layers in {self.folders[0]}"
        return f"{len(self.folders)} chunks of {self.layers} layers in {self.folders[0].parent}"


def chunk_starts(cols: int, width: int, overlap: int) -> list[int]:
    """Return the first columns of the chunks.

    Parameters
    ----------
    cols : int
        Columns of the picture.
    width : int
        Columns of a chunk.
    overlap : int
        Columns that neighbours share; less than `width`.

    Returns
    -------
    list of int
        Ascending from 0; the last chunk ends at the picture's edge and may be narrower.
    """
    step = width - overlap
    return list(range(0, max(cols - overlap, 1), step))


def split_layers(
    folder: Path, out: Path, params: SplitParams | None = None, *, progress: Progress = silent
) -> SplitResult:
    """Cut a stack of layers into overlapping chunks.

    Parameters
    ----------
    folder : Path
        Numbered layers.
    out : Path
        Gets a folder ``<name>_<first column>`` per chunk, with the layers under their old numbers;
        ``mask.png`` is cut along.
    params : SplitParams, optional
        How.
    progress : Progress
        Called with layers done.

    Returns
    -------
    SplitResult
        The folders.

    Raises
    ------
    FormatError
        If a layer cannot be read.
    ParamsError
        If the range of layers selects nothing.
    OutputError
        If a chunk cannot be written.
    """
    params = params or SplitParams()
    stack = LayerStack(folder)
    starts = chunk_starts(stack.shape[1], params.width, params.overlap)
    name = folder.resolve().name
    digits = len(str(starts[-1]))
    targets = [(out / f"{name}_{start:0{digits}d}", start) for start in starts]
    return _write_chunks(stack, targets, params.width, params, progress)


def contrast_layers(
    folder: Path, out: Path, params: SplitParams | None = None, *, progress: Progress = silent
) -> SplitResult:
    """Write a stack of layers with its contrast changed.

    Parameters
    ----------
    folder : Path
        Numbered layers.
    out : Path
        Gets the layers under their old numbers, and ``mask.png``.
    params : SplitParams, optional
        Contrast, range of layers and format; width and overlap have no effect.
    progress : Progress
        Called with layers done.

    Returns
    -------
    SplitResult
        One folder.

    Raises
    ------
    FormatError
        If a layer cannot be read.
    ParamsError
        If the range of layers selects nothing.
    OutputError
        If a layer cannot be written.
    """
    params = params or SplitParams(contrast="percentile")
    stack = LayerStack(folder)
    return _write_chunks(stack, [(out, 0)], stack.shape[1], params, progress)


def _write_chunks(
    stack: LayerStack,
    targets: list[tuple[Path, int]],
    width: int,
    params: SplitParams,
    progress: Progress,
) -> SplitResult:
    chosen = stack.select(params.layers_range)
    contrast = make_contrast(stack, chosen, params)
    mask = stack.folder / MASK_NAME
    done = 0
    for target, start in targets:
        target.mkdir(parents=True, exist_ok=True)
        cols = slice(start, min(start + width, stack.shape[1]))
        for layer in chosen:
            pixels = stack.read(layer, slice(0, stack.shape[0]), cols)
            path = target / f"{stack.paths[layer].stem}.{params.suffix}"
            write_picture(path, contrast.apply(pixels, 0, start))
            done += 1
            progress(done, len(chosen) * len(targets), "layers")
        if mask.exists():
            write_picture(target / MASK_NAME, read_picture(mask)[:, cols])
    return SplitResult(folders=tuple(target for target, _ in targets), layers=len(chosen))


def make_contrast(stack: LayerStack, chosen: Sequence[int], params: SplitParams) -> Contrast:
    """Return the contrast that suits a whole stack.

    Parameters
    ----------
    stack : LayerStack
        Layers.
    chosen : sequence of int
        Positions of the layers that count.
    params : SplitParams
        Kind and strength.

    Returns
    -------
    Contrast
        One function of value and place for all layers.

    Raises
    ------
    FormatError
        If a layer cannot be read.
    """
    white = (1 << 8 * stack.dtype.itemsize) - 1
    if params.contrast == "none":
        return Contrast(low=0.0, high=float(white), white=white, shape=stack.shape)
    low, high = percentile_range(stack, chosen, params.low_percentile, params.high_percentile)
    maps = None
    if params.contrast == "clahe":
        table = stretch_table(low, high, white)
        maps = local_maps(stack, chosen, table, params.clahe_tile, params.clahe_limit)
    return Contrast(low=low, high=high, white=white, shape=stack.shape, maps=maps)
