"""Parameters of a phantom."""

from typing import Literal

import pydantic

from tracer.params import Params

Level = Literal["easy", "normal", "hard"]
SMALLEST = 96  # voxels per axis: below that not even two wraps fit


class PhantomParams(Params):
    """What kind of synthetic scroll to make."""

    size_zyx: tuple[int, int, int] = pydantic.Field(
        default=(512, 512, 512), description="Shape of the volume (z, y, x) in voxels."
    )
    level: Level = pydantic.Field(
        default="normal",
        description="easy: a clean prediction; normal: holes and bridges; hard: crushed, merged, "
        "torn and folded as real scrolls are.",
    )
    rng_seed: int = pydantic.Field(
        default=0, ge=0, description="Seed of all randomness; same seed, same bytes."
    )
    text: str = pydantic.Field(
        default="PHILODEMUS", description="Text written on the recto, over and over."
    )
    letter_height: float = pydantic.Field(
        default=0.0,
        ge=0.0,
        description="Height of a capital in voxels; 0 chooses a fifth of the sheet's height, "
        "between 24 and 96.",
    )
    voxel_size_um: float = pydantic.Field(
        default=7.91, gt=0.0, description="Edge of a voxel in micrometres."
    )

    @pydantic.field_validator("size_zyx")
    @classmethod
    def _not_too_small(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < SMALLEST:
            raise ValueError(f"every axis needs at least {SMALLEST} voxels; make the volume larger")
        return value

    def letters(self, sheet_height: float) -> float:
        """Return the height of a capital.

        Parameters
        ----------
        sheet_height : float
            Extent of the sheet along z, voxels.

        Returns
        -------
        float
            Voxels.
        """
        return self.letter_height or min(96.0, max(24.0, sheet_height / 5.0))
