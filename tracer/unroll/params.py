"""Parameters of the unrolling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tracer.errors import ParamsError
from tracer.params import Params


class UnrollParams(Params):
    """Parameters of `tracer unroll`; lengths in voxels of the full-resolution volume."""

    step: float = Field(20.0, gt=0, description="Distance of neighbouring vertices, voxels.")
    same_surface_th: float = Field(
        2.0,
        gt=0,
        description="Patches closer than this are the same sheet, voxels; much less than the gap "
        "between wraps.",
    )
    threshold: int = Field(
        170, ge=1, le=255, description="Lowest value of the prediction that counts as sheet."
    )
    reach: float = Field(
        5.0,
        gt=0,
        description="How far the surface may move to the prediction's middle, voxels; at "
        "most 0.4 of the measured gap between wraps.",
    )
    joint_iterations: int = Field(
        0,
        ge=0,
        description="With a prediction: steps of a last pass in which all nodes of a window move "
        "together, data against isometry (native Ceres); 0 for none, which was nearer to the "
        "sheet wherever it was measured.",
    )
    max_hole: float = Field(
        1000.0,
        ge=0,
        description="Widest gap that is bridged along a row or column, voxels; enclosed holes are "
        "always filled.",
    )
    extend: float = Field(
        20.0,
        ge=0,
        description="How far to extrapolate beyond the patches, voxels; with a prediction again "
        "and again, as long as the sheet is found there.",
    )
    min_component: float = Field(
        0.001,
        ge=0,
        le=1,
        description="Groups of patches that touch no others are left out below this share of all "
        "vertices.",
    )
    memory_gb: float = Field(
        8.0,
        gt=0,
        description="Memory that the solve may take, about; a collection that needs more is solved "
        "in slabs along z that overlap.",
    )
    split: Literal["none", "wrap", "column"] = Field(
        "none", description="One surface for all, one per wrap, or one per column of columns."
    )
    column_width: float = Field(
        2000.0, gt=0, description="Width of a column for --split column, voxels."
    )
    turn_min: float | None = Field(None, description="First turn to write; all where omitted.")
    turn_max: float | None = Field(None, description="Last turn to write; all where omitted.")
    z_min: float | None = Field(None, description="First z to write, voxels.")
    z_max: float | None = Field(None, description="Last z to write, voxels.")

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for low, high, name in (
            (self.turn_min, self.turn_max, "turn"),
            (self.z_min, self.z_max, "z"),
        ):
            if low is not None and high is not None and low >= high:
                raise ValueError(f"{name}_min {low} must be below {name}_max {high}")
        return self


def parse_range(text: str, what: str) -> tuple[float | None, float | None]:
    """Return the ends of a range given as ``a:b``.

    Parameters
    ----------
    text : str
        Either end may be empty.
    what : str
        What to call the range in messages.

    Returns
    -------
    tuple of float or None
        First and last value.

    Raises
    ------
    ParamsError
        If the text is not a range.
    """
    parts = text.split(":")
    try:
        if len(parts) != 2:
            raise ValueError(f"{len(parts) - 1} colons")
        low, high = (float(part) if part.strip() else None for part in parts)
    except ValueError as error:
        raise ParamsError(f"{what}: '{text}' is not a range ({error}); give a:b") from error
    return low, high
