"""Parameters of the prediction stage."""

from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field

from tracer.params import Params

_INSET = 1.5  # voxels; the recto of the phantoms lies 1.3 to 1.7 behind the steepest rise


class PredictParams(Params):
    """How sheets are found in a CT volume without a network."""

    method: Literal["sheet-filter"] = Field(
        default="sheet-filter", description="How sheets are found: the built-in filter on the CT."
    )
    sigma: float = Field(
        default=2.0,
        ge=0.7,
        le=12.0,
        description="Finest scale in voxels: about a quarter of a sheet's thickness.",
    )
    scales: int = Field(
        default=3, ge=1, le=6, description="Number of scales; the strongest counts."
    )
    scale_ratio: float = Field(
        default=1.5,
        gt=1.0,
        le=4.0,
        description="Each scale is this much coarser than the one before.",
    )
    gradient_sigma: float = Field(
        default=1.0,
        ge=0.5,
        le=6.0,
        description="Smoothing in voxels before the sheet normal is estimated.",
    )
    normal_sigma: float = Field(
        default=4.0,
        ge=1.0,
        le=24.0,
        description="Neighbourhood in voxels that agrees on one sheet normal.",
    )
    coherence: float = Field(
        default=0.3,
        ge=0.0,
        lt=1.0,
        description="Least agreement of the gradients on one normal; where sheets of different "
        "directions meet it is low, and nothing is predicted.",
    )
    planarity: float = Field(
        default=0.5, ge=0.0, le=1.0, description="How strongly tubes and blobs are suppressed."
    )
    disc_radius: float = Field(
        default=4.0,
        ge=0.0,
        le=16.0,
        description="Radius in voxels of the disc in the sheet that the response is averaged over.",
    )
    threshold: float = Field(
        default=0.2,
        gt=0.0,
        le=10.0,
        description="Least response of a sheet, in contrasts of the volume; lower finds more.",
    )
    contrast: float = Field(
        default=0.0,
        ge=0.0,
        description="Grey values per unit of response; 0 measures it on the volume.",
    )
    half_width: float = Field(
        default=1.0,
        ge=0.5,
        le=8.0,
        description="Half the thickness in voxels of a predicted sheet.",
    )
    polarity: Literal["bright", "dark"] = Field(
        default="bright", description="Whether papyrus is brighter or darker than its surroundings."
    )
    face: Literal["mid-line", "recto", "verso"] = Field(
        default="mid-line",
        description="Which surface is predicted: a sheet's middle, or its side towards (recto) or "
        "away from (verso) the axis.",
    )
    inset: float | None = Field(
        default=None,
        ge=-8.0,
        le=8.0,
        description="Faces: voxels by which they lie deeper in the sheet than where the grey value "
        "rises fastest; 1.5 where omitted, as on the phantoms.",
    )
    umbilicus: Path | None = Field(
        default=None, description="JSON file of the scroll's axis (control_points of z, y, x)."
    )
    axis_x: float | None = Field(
        default=None, description="x of a straight axis along z, in voxels."
    )
    axis_y: float | None = Field(
        default=None, description="y of a straight axis along z, in voxels."
    )
    outward: tuple[float, float, float] | None = Field(
        default=None, description="Fixed outward direction x, y, z, for a piece far from the axis."
    )
    max_radius: float = Field(
        default=0.0,
        ge=0.0,
        description="Voxels from the axis beyond which nothing is predicted, to leave out a case; "
        "0: no limit.",
    )
    output: Literal["binary", "probability"] = Field(
        default="binary",
        description="0 and 255, or 255 r/(r + threshold) with the response r of the sheet.",
    )
    block: int = Field(
        default=128, ge=32, le=1024, description="Edge in voxels of the blocks that are worked on."
    )

    @pydantic.model_validator(mode="after")
    def _outward_is_clear(self) -> Self:
        if (self.axis_x is None) != (self.axis_y is None):
            raise ValueError("axis_x and axis_y must be given together")
        given = [self.umbilicus is not None, self.axis_x is not None, self.outward is not None]
        if sum(given) > 1:
            raise ValueError("give one of umbilicus, axis_x with axis_y, or outward")
        if self.inset is not None and self.face == "mid-line":
            raise ValueError("inset moves faces; the mid-line has none: choose a face or leave it")
        if self.outward is not None and self.max_radius > 0:
            raise ValueError("max_radius is about an axis: give one instead of outward")
        if self.outward is not None and not any(self.outward):
            raise ValueError("outward must not be the zero vector")
        return self

    @property
    def needs_axis(self) -> bool:
        """Return whether what is outward has to be known."""
        return self.face != "mid-line" or self.max_radius > 0

    @property
    def shift(self) -> float:
        """Return how far marked voxels move along the outward normal."""
        if self.face == "mid-line":
            return 0.0
        deeper = _INSET if self.inset is None else self.inset
        return deeper if self.face == "recto" else -deeper

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Return the scales in voxels, finest first."""
        return tuple(self.sigma * self.scale_ratio**i for i in range(self.scales))
