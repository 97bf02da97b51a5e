"""Thresholds of `tracer check`."""

from pydantic import Field

from tracer.params import Params


class CheckParams(Params):
    """What a surface may be like before it fails."""

    max_scale_factor: float = Field(
        2.0,
        gt=1,
        description="spacing over 1/scale, or its inverse, beyond which the scale is wrong",
    )
    max_bbox_error: float = Field(
        1.0, ge=0, description="voxels that the stored bounding box may be off"
    )
    max_area_error: float = Field(
        0.25, ge=0, description="share that the stored area may be off (VC3D counts nominal cells)"
    )
    max_jumps: int = Field(0, ge=0, description="places where the surface jumps to another wrap")
    max_tail: int = Field(
        7,
        ge=0,
        description="connected vertices that hang between sheets, as the other patches see it",
    )
    memory_gb: float = Field(
        2.0,
        gt=0,
        description="memory for laying a folder out as a whole: larger ones in slabs along z",
    )
    max_folds: float = Field(
        0.001, ge=0, description="share of the cells folded back by more than a right angle"
    )
    max_intersections: int = Field(
        0, ge=0, description="edges of the grid that cross another part of the surface"
    )
    max_hole_share: float = Field(
        0.2, ge=0, description="enclosed holes as a share of the surface's cells"
    )
    max_stretch: float = Field(
        0.5, gt=0, description="95th percentile of the stretch of cells: more is torn"
    )
    min_on_prediction: float = Field(
        0.9, ge=0, le=1, description="share of the vertices within 2 voxels of the prediction"
    )
    threshold: int = Field(170, ge=1, le=255, description="smallest prediction value that is sheet")
