"""Parameters of the consensus trace, with VC3D's key names."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from tracer.params import Params


class TraceParams(Params):
    """Parameters of `tracer trace`; lengths in voxels of the full-resolution volume."""

    ignored_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "cache_root",
            "cache_size",
            "mode",
            "search_effort",
            "tgt_dir",
            "thread_limit",
        }
    )

    flip_x: bool = Field(False, description="Grow towards the other end of the scroll.")
    global_steps_per_window: int = Field(
        0, ge=0, description="Joint optimisations of each window, with its holes closed."
    )
    src_step: float = Field(20.0, gt=0, description="Step of the surface written, voxels.")
    step: int = Field(10, ge=1, le=100, description="Cells of it between nodes of the trace.")
    max_width: float = Field(80000.0, gt=0, description="Widest trace, voxels.")
    inlier_base_threshold: int = Field(
        20, ge=1, description="Consensus that a node needs at first, in residuals that agree."
    )
    consensus_default_th: int = Field(
        10, ge=1, description="Consensus that suffices where nothing reaches the one above."
    )
    consensus_limit_th: int = Field(
        2, ge=1, description="Consensus that suffices where the trace would end otherwise."
    )
    local_cost_inl_th: float = Field(
        0.2, gt=0, description="Cost on a patch below which the patch supports a node."
    )
    same_surface_th: float = Field(
        2.0, gt=0, description="Patches closer than this are the same sheet, voxels."
    )
    straight_weight: float = Field(0.7, ge=0, description="Weight of straightness on a patch.")
    dist_loss_2d_w: float = Field(1.0, ge=0, description="Weight of distances on a patch.")
    straight_weight_3D: float = Field(
        4.0, ge=0, description="Weight of straightness in space, in the joint optimisation."
    )
    dist_loss_3d_w: float = Field(
        2.0, ge=0, description="Weight of distances in space, in the joint optimisation."
    )
    z_loc_loss_w: float = Field(
        0.1, ge=0, description="Weight of heights: rows follow the volume's z axis."
    )
    sliding_w_scale: float = Field(1.0, gt=0, description="Width of the window; 1 is 2000 voxels.")
    straight_min_count: int = Field(
        1, ge=0, le=6, description="Straight triples that a patch needs to support a node."
    )
    z_range: tuple[float, float] | None = Field(
        None, description="Lowest and highest z to trace, voxels."
    )
    z_min: float | None = Field(None, description="Lowest z to trace, voxels.")
    z_max: float | None = Field(None, description="Highest z to trace, voxels.")
    rng_seed: int | None = Field(
        None, ge=0, description="Recorded; the trace draws no random numbers."
    )
    max_against: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of the residuals that may belong to patches that lead elsewhere.",
    )
    winding_check: bool = Field(
        True,
        description="Lay out all patches first: patches are cut where they jump between wraps "
        "(where no suspects.json says so), refused where the layout has them on another wrap, and "
        "gaps are bridged.",
    )
    memory_gb: float = Field(
        8.0,
        gt=0,
        description="Memory that laying them out may take, about; beyond it that is done in slabs "
        "along z.",
    )
    both_ways: bool = Field(
        True, description="Grow towards the other end of the scroll as well, afterwards."
    )
    bridge: float = Field(
        400.0,
        ge=0,
        description="Widest gap between patches that the trace goes on beyond, voxels; 0: none, as "
        "in VC3D.",
    )
    max_hole: float = Field(
        60.0,
        ge=0,
        description="Widest hole to close in the surface written, along its shorter side, voxels; "
        "0: none.",
    )
    threshold: int = Field(
        170,
        ge=1,
        le=255,
        description="Lowest value of the prediction that counts as sheet; what closes holes is "
        "moved to its middle.",
    )
    preview_every: int = Field(
        50, ge=1, description="Generations between previews, from which a trace can be resumed."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse thresholds and ranges in the wrong order."""
        if self.consensus_limit_th > self.consensus_default_th:
            raise ValueError(
                f"consensus_limit_th {self.consensus_limit_th} is above consensus_default_th "
                f"{self.consensus_default_th}; the limit is the laxer one"
            )
        low, high = self.heights()
        if not low < high:
            raise ValueError(f"the range of z is empty: {low} to {high}")
        return self

    def heights(self) -> tuple[float, float]:
        """Return between which heights to trace.

        Returns
        -------
        tuple of float
            Lowest and highest z, infinite where there is no limit; `z_range` and `z_min`, `z_max`
            both count.
        """
        low, high = self.z_range or (float("-inf"), float("inf"))
        if self.z_min is not None:
            low = max(low, self.z_min)
        if self.z_max is not None:
            high = min(high, self.z_max)
        return low, high

    @property
    def spacing(self) -> float:
        """Return the distance of neighbouring nodes.

        Returns
        -------
        float
            Voxels.
        """
        return self.step * self.src_step

    @property
    def window(self) -> int:
        """Return how many columns the window has.

        Returns
        -------
        int
            At least 6: two frozen neighbours on the left, some to grow.
        """
        return max(round(2.0 * 1000.0 / self.spacing * self.sliding_w_scale), 6)
