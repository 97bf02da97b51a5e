"""Parameters of the render stage."""

import re
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from tracer.params import Params

COMPOSITES = ("max", "mean", "min", "alpha")
_VC3D_FLIPS = {"-1": "none", "0": "vertical", "1": "horizontal", "2": "both"}


class RenderParams(Params):
    """What to render and how; every field is an option of ``tracer render``."""

    scale: float = Field(1.0, gt=0, le=64, description="Output pixels per voxel of the level.")
    level: int = Field(0, ge=0, le=16, description="OME-Zarr level to sample; 0 is the finest.")
    layers: int = Field(
        1, ge=1, le=1024, description="Number of layers, one level-0 voxel apart, centred."
    )
    layers_range: str = Field(
        "", description="Write only these layers, FIRST:END as in Python, e.g. 5:21."
    )
    crop_x: int = Field(0, ge=0, description="First canvas column of the crop, in pixels.")
    crop_y: int = Field(0, ge=0, description="First canvas row of the crop, in pixels.")
    crop_width: int = Field(0, ge=0, description="Columns of the crop; 0 is all.")
    crop_height: int = Field(0, ge=0, description="Rows of the crop; 0 is all.")
    rotate: int = Field(
        0, description="Turn the picture counter-clockwise by 0, 90, 180 or 270 degrees."
    )
    flip: Literal["none", "vertical", "horizontal", "both"] = Field(
        "none", description="Mirror the picture after turning it; 0, 1, 2 work as well."
    )
    affine: str = Field(
        "", description="JSON or text file with a 3x4 or 4x4 matrix for the surface's x, y, z."
    )
    invert_affine: bool = Field(False, description="Apply the inverse of the affine matrix.")
    scale_segmentation: float = Field(
        1.0, gt=0, description="Multiply the surface's coordinates by this before the affine."
    )
    flip_normals: bool = Field(False, description="Reverse the order of the layers.")
    recto_up: bool = Field(
        False, description="Order the layers so that the last one is nearest the scroll's centre."
    )
    umbilicus: str = Field(
        "", description="JSON or text file with x, y, z points of the scroll's axis, for recto-up."
    )
    composite: str = Field(
        "", description="Also write these composites of the layers: max, mean, min, alpha."
    )
    composite_range: str = Field(
        "", description="Layers that composites are made of, FIRST:END; empty is all."
    )
    alpha_min: float = Field(
        0.0, ge=0, lt=1, description="Alpha composite: transparent up to this share of white."
    )
    alpha_max: float = Field(
        1.0, gt=0, le=1, description="Alpha composite: full opacity from this share of white."
    )
    alpha_opacity: float = Field(
        0.9, gt=0, le=1, description="Alpha composite: opacity of one layer."
    )
    alpha_cutoff: float = Field(
        1.0, gt=0, le=1, description="Alpha composite: stop when this opaque."
    )
    depth: Literal["8", "16"] = Field(
        "8", description="Bits per pixel of the output; a 16-bit volume is scaled by 1/257 to 8."
    )
    output: Literal["tif", "zarr", "both"] = Field(
        "tif", description="A tif per layer, an OME-Zarr with a 2-D pyramid, or both."
    )
    compression: Literal["lzw", "deflate", "zstd", "none"] = Field(
        "lzw", description="Compression of the tifs."
    )
    mask: bool = Field(True, description="Also write mask.png, 255 where there is surface.")
    preview: Literal["none", "jpg", "png"] = Field(
        "jpg", description="Also write a small picture of the first composite or middle layer."
    )
    tile: int = Field(256, ge=16, le=4096, description="Edge of a tile in pixels, multiple of 16.")
    memory_gb: float = Field(2.0, gt=0, description="Memory for decoded chunks and tiles in work.")
    threads: int = Field(1, ge=0, description="Threads; 0 is one per core.")

    @pydantic.field_validator("flip", mode="before")
    @classmethod
    def _vc3d_flip(cls, value: Any) -> Any:
        return _VC3D_FLIPS.get(str(value), value)

    @pydantic.field_validator("rotate")
    @classmethod
    def _quarter_turn(cls, value: int) -> int:
        if value % 90:
            raise ValueError("must be a multiple of 90")
        return value % 360

    @pydantic.field_validator("tile")
    @classmethod
    def _tile_for_tif(cls, value: int) -> int:
        if value % 16:
            raise ValueError("must be a multiple of 16, as tif requires")
        return value

    @pydantic.field_validator("layers_range", "composite_range")
    @classmethod
    def _range_syntax(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d+:\d+", value):
            raise ValueError("must be FIRST:END, e.g. 5:21")
        return value

    @pydantic.field_validator("composite")
    @classmethod
    def _known_composites(cls, value: str) -> str:
        for name in value.split(",") if value else ():
            if name not in COMPOSITES:
                raise ValueError(f"'{name}' is not one of {', '.join(COMPOSITES)}")
        return ",".join(dict.fromkeys(value.split(","))) if value else ""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("layers_range", "composite_range"):
            chosen = _parse_range(getattr(self, name), self.layers)
            if not 0 <= chosen[0] < chosen[1] <= self.layers:
                raise ValueError(
                    f"{name} {getattr(self, name)} does not lie within the {self.layers} layers"
                )
        if self.alpha_max <= self.alpha_min:
            raise ValueError("alpha_max must be above alpha_min")
        if self.invert_affine and not self.affine:
            raise ValueError("invert_affine needs affine")
        return self

    @property
    def written_layers(self) -> range:
        """Return the indices of the layers that are written.

        Returns
        -------
        range
            All, or those of ``layers_range``.
        """
        return range(*_parse_range(self.layers_range, self.layers))

    @property
    def composite_layers(self) -> range:
        """Return the indices of the layers that composites are made of.

        Returns
        -------
        range
            All, or those of ``composite_range``.
        """
        return range(*_parse_range(self.composite_range, self.layers))

    @property
    def composites(self) -> tuple[str, ...]:
        """Return the names of the composites.

        Returns
        -------
        tuple of str
            In the order given.
        """
        return tuple(self.composite.split(",")) if self.composite else ()

    def content(self) -> dict[str, Any]:
        """Return the parameters that the pixels depend on.

        Returns
        -------
        dict
            Without memory, threads and what can be added to a finished render.
        """
        free = {"memory_gb", "threads", "preview", "mask"}
        return {key: value for key, value in self.effective().items() if key not in free}

    def resolve_paths(self) -> Self:
        """Return the parameters with absolute paths.

        Returns
        -------
        RenderParams
            Files keep their meaning when they are read from another directory.
        """
        update = {
            name: str(Path(getattr(self, name)).absolute())
            for name in ("affine", "umbilicus")
            if getattr(self, name)
        }
        return self.model_copy(update=update)


def _parse_range(text: str, n: int) -> tuple[int, int]:
    """Return (first, end) of a range option; the empty option is everything."""
    if not text:
        return 0, n
    first, end = text.split(":")
    return int(first), int(end)
