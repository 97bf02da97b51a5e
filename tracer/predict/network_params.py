"""Parameters of predicting with a network."""

from typing import Literal, Self

import pydantic
from pydantic import Field

from tracer.params import Params


class NetworkParams(Params):
    """How a network is applied to a CT volume."""

    level: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Level of the CT that is predicted on; the prediction has its voxels.",
    )
    block: int = Field(
        default=600,
        ge=16,
        le=1024,
        description="Edge in voxels of the blocks that are predicted at a time, about.",
    )
    blend: Literal["exact", "gaussian", "crop"] = Field(
        default="exact",
        description="How blocks meet: exact gives the prediction without blocks; gaussian and crop "
        "predict each block as an image of its own and blend or cut the overlaps.",
    )
    overlap: int = Field(
        default=50,
        ge=0,
        le=512,
        description="Voxels that neighbouring blocks share where they are blended or cropped; "
        "exact blocks take what their windows need.",
    )
    step: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Largest distance of two windows of the network as a share of its patch.",
    )
    mirroring: bool = Field(
        default=True,
        description="Average over mirrored windows, 8 times the work, where the network was "
        "trained for it.",
    )
    folds: str = Field(
        default="",
        pattern=r"^(all|\d+(,\d+)*)?$",
        description="Folds that are averaged, such as 0,1,4 or all; empty takes every fold_N of "
        "the model.",
    )
    checkpoint: Literal["auto", "final", "best"] = Field(
        default="auto",
        description="Which checkpoint_*.pth: auto takes final where every fold has it.",
    )
    device: Literal["auto", "cuda", "cpu", "mps"] = Field(
        default="auto", description="Where the network runs; auto takes the fastest there is."
    )
    probabilities: bool = Field(
        default=False, description="Write 255 times the probability instead of 0 and 255."
    )
    threshold: float = Field(
        default=0.5, gt=0.0, lt=1.0, description="Least probability of a sheet where 0 and 255."
    )
    labels: str = Field(
        default="",
        pattern=r"^([\w-]+(,[\w-]+)*)?$",
        description="Names of the model's labels that count as sheet; empty: all but background.",
    )
    mask_empty: bool = Field(
        default=True, description="Predict nothing where the CT is 0, which is where it is masked."
    )
    slice_axes: str = Field(
        default="z",
        pattern=r"^[zyx](,[zyx]){0,2}$",
        description="2-D models: axes across which slices are taken, averaged, such as z,y,x.",
    )
    slice_patch: int = Field(
        default=256,
        ge=16,
        le=4096,
        description="2-D models: edge in voxels of a window, where the model leaves it open.",
    )
    slice_channels: int = Field(
        default=1,
        ge=1,
        le=257,
        description="2-D models: neighbouring slices seen at once, where the model leaves it open.",
    )
    slice_normalisation: Literal["divide-by-255", "z-score", "none"] = Field(
        default="divide-by-255", description="2-D models: how grey values are brought to scale."
    )

    @pydantic.model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.blend != "exact" and 2 * self.overlap > self.block:
            raise ValueError(f"overlap {self.overlap} is more than half the block {self.block}")
        axes = self.slice_axes.split(",")
        if len(set(axes)) != len(axes):
            raise ValueError(f"slice_axes {self.slice_axes} names an axis twice")
        return self
