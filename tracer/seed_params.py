"""Parameters of patch growth, with VC3D's key names; shared by seed and expand."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tracer.kernels.growth_grid import GrowthLimits
from tracer.kernels.placement import PlacementWeights
from tracer.params import Params

Mode = Literal["random_seed", "explicit_seed", "expansion", "resume"]


class DirectionField(BaseModel):
    """One volume of directions that the mesh should follow.

    Attributes
    ----------
    zarr : str
        Group with arrays ``x``, ``y``, ``z``, uint8, 128 being zero.
    dir : str
        What the vectors are: the columns' direction, the rows' direction or the sheet normal.
    scale : int
        Level-0 voxels per voxel of the arrays.
    weight : float
        Weight of the residual.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    zarr: str
    dir: Literal["horizontal", "vertical", "normal"]
    scale: int = Field(1, ge=1)
    weight: float = Field(1.0, ge=0.0)


class SeedParams(Params):
    """Parameters of patch growth."""

    ignored_keys: ClassVar[frozenset[str]] = frozenset({"search_effort"})

    thread_limit: int = Field(
        1, ge=1, description="threads per process; growth uses one, use --workers for more"
    )
    cache_root: str | None = Field(
        None, description="folder of the distance field's disk cache, shared by all processes"
    )
    cache_limit_gb: float | None = Field(
        None, gt=0, description="size of the disk cache beyond which its oldest files are removed"
    )
    cache_size: float = Field(1e9, ge=0, description="bytes of memory for loaded chunks")
    mode: Mode | None = Field(
        None, description="how seeds are found; by default explicit where a point is given"
    )
    generations: int = Field(100, ge=1, le=2000, description="rounds of growth")
    step_size: float = Field(20.0, ge=2.0, le=100.0, description="voxels between vertices")
    min_area_cm: float = Field(0.3, ge=0.0, description="smallest patch that is kept, in cm2")
    tgt_overlap_count: int = Field(
        20, ge=1, description="expansion: number of patches that should cover every point"
    )
    rewind_gen: int | None = Field(
        None, ge=1, description="resume: drop what was grown after this generation"
    )
    threshold: int = Field(170, ge=1, le=255, description="smallest prediction value that is sheet")
    rng_seed: int | None = Field(
        None, ge=0, description="makes random seeds repeatable; drawn and recorded where omitted"
    )
    direction_fields: tuple[DirectionField, ...] = Field(
        (), description="volumes of fibre directions or normals that the mesh should follow"
    )
    seed_tolerance: float = Field(
        2.0, ge=0.0, description="voxels that a seed may lie off the prediction"
    )
    start_radius: float = Field(
        24.0, ge=0.0, description="voxels around the seed in which a clean start is looked for"
    )
    worst_distance: float = Field(
        1.0, gt=0.0, description="voxels that an edge may leave the prediction's boundary"
    )
    max_cost: float = Field(0.35, gt=0.0, description="largest placement cost that is accepted")
    thickness_factor: float = Field(
        1.6, gt=1.0, description="runs thicker than this times the sheet, plus 1 voxel, are mergers"
    )
    max_thick: int = Field(2, ge=0, le=9, description="scans, of nine, that may meet a merger")
    max_rough: float = Field(
        1.2, gt=0.0, description="voxels that a sheet may lie off its local plane, in the mean"
    )
    max_tilt: float = Field(
        0.35, gt=0.0, le=1.0, description="largest sine of the angle between mesh and sheet normal"
    )
    max_turn: float = Field(
        0.6, gt=0.0, le=1.0, description="largest sine of the angle between neighbours' normals"
    )
    max_slip: float = Field(
        0.12,
        gt=0.0,
        le=1.0,
        description="largest offset of neighbours along their mean normal, per distance",
    )
    data_weight: float = Field(0.2, ge=0.0, description="weight of the pull to the mid-line")
    joint_iterations: int = Field(
        0,
        ge=0,
        le=200,
        description="steps of a last optimisation of all vertices together; 10 to 20 where wanted",
    )
    straight_weight: float = Field(0.5, ge=0.0, description="weight of straightness")

    @field_validator("mode", mode="before")
    @classmethod
    def _accept_old_mode(cls, value: Any) -> Any:
        """Accept the tutorial's name of the random mode."""
        return "random_seed" if value == "seed" else value

    def limits(self) -> GrowthLimits:
        """Return the limits of acceptance for the kernels.

        Returns
        -------
        GrowthLimits
            With the constants that are not parameters.
        """
        return GrowthLimits(
            generations=self.generations,
            worst_distance=self.worst_distance,
            max_cost=self.max_cost,
            thickness_factor=self.thickness_factor,
            max_thick=self.max_thick,
            max_rough=self.max_rough,
            max_tilt=self.max_tilt,
            max_turn=self.max_turn,
            max_slip=self.max_slip,
            probe_radius=8.0,
            probe_reach=10.0,
            relax_rings=2,
            relax_sweeps=1,
            final_sweeps=1,
        )

    def weights(self, thickness: float) -> PlacementWeights:
        """Return the weights of placement for the kernels.

        Parameters
        ----------
        thickness : float
            Thickness of the sheet, voxels: its half is the depth of the mid-line.

        Returns
        -------
        PlacementWeights
            With the constants that are not parameters.
        """
        return PlacementWeights(
            step=self.step_size,
            straightness=self.straight_weight,
            data=self.data_weight,
            depth=0.5 * thickness,
            edge_samples=5,
        )
