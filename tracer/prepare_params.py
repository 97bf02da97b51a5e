"""Parameters of :func:`tracer.prepare.prepare`."""

from typing import Literal, Self

import pydantic

from tracer.params import Params

Zyx = tuple[int, int, int]


class PrepareParams(Params):
    """How a scan becomes a volume."""

    voxel_size_um: float | None = pydantic.Field(
        None, gt=0, description="µm per voxel; needed unless the source says so itself."
    )
    name: str | None = pydantic.Field(
        None, description="Name and uuid of the volume; that of the folder if omitted."
    )
    dtype: Literal["uint8", "uint16"] = pydantic.Field(
        "uint8", description="Type of the voxels written; the tracer works on uint8."
    )
    convert: Literal["scale", "keep"] = pydantic.Field(
        "scale",
        description="'scale' maps the range of values (uint16 to uint8: v/257, rounded); 'keep' "
        "copies them, as labels need it.",
    )
    window_min: float | None = pydantic.Field(
        None, description="Value that becomes 0; needed for float and signed data."
    )
    window_max: float | None = pydantic.Field(
        None, description="Value that becomes the largest; needed for float and signed data."
    )
    pooling: Literal["mean", "max", "nearest"] = pydantic.Field(
        "mean",
        description="How coarser levels are made: mean for CT, max for predictions, nearest for "
        "labels.",
    )
    chunk: int = pydantic.Field(
        128, ge=2, multiple_of=2, description="Edge of a chunk in voxels; even."
    )
    overlap: Literal["last", "max"] = pydantic.Field(
        "last",
        description="Where blocks overlap: the one whose name sorts last, or the larger value.",
    )
    origin: str | None = pydantic.Field(
        None, description="Blocks: z,y,x at which the volume starts, in the names' coordinates."
    )
    crop_to_blocks: bool = pydantic.Field(
        True,
        description="Blocks: start the volume at their lowest corner; otherwise at 0,0,0, so that "
        "coordinates stay those of the scroll. --origin wins.",
    )
    nrrd_axes: Literal["auto", "xyz", "zyx"] = pydantic.Field(
        "auto",
        description="Axes of NRRD files, fastest first; 'auto' compares 'space origin' with the "
        "names of blocks, else xyz.",
    )
    max_memory_gb: float = pydantic.Field(
        2.0, gt=0, description="Memory to stay within, in GB, apart from the program itself."
    )

    @pydantic.field_validator("origin")
    @classmethod
    def _check_origin(cls, origin: str | None) -> str | None:
        if origin is not None:
            _parse_zyx(origin)
        return origin

    @pydantic.model_validator(mode="after")
    def _check_window(self) -> Self:
        if (self.window_min is None) != (self.window_max is None):
            raise ValueError("window_min and window_max go together; give both")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("window_min must be less than window_max")
        if self.window is not None and self.convert == "keep":
            raise ValueError("a window has no effect with convert 'keep'; leave one of them out")
        return self

    @property
    def window(self) -> tuple[float, float] | None:
        """Return the values that become 0 and the largest; None without a window."""
        if self.window_min is None or self.window_max is None:
            return None
        return self.window_min, self.window_max

    @property
    def origin_zyx(self) -> Zyx | None:
        """Return where a volume of blocks starts; None for the lowest corner of the blocks."""
        if self.origin is None:
            return None if self.crop_to_blocks else (0, 0, 0)
        return _parse_zyx(self.origin)


def _parse_zyx(text: str) -> Zyx:
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError("must be three whole numbers, z,y,x, such as 2000,2000,2000") from None
    return z, y, x
