"""Parameters of `tracer fuse`, with VC3D's key names."""

from typing import ClassVar

from pydantic import Field

from tracer.params import Params


class FuseParams(Params):
    """Parameters of fusing; lengths in voxels of the full-resolution volume."""

    # weights of VC3D's column-by-column optimiser; one global solve has none of these steps
    ignored_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "dist_w",
            "straight_w",
            "surf_w",
            "z_loc_loss_w",
            "wind_w",
            "inpaint_back_range",
            "opt_w",
        }
    )

    trace_mul: float = Field(
        1.0, gt=0, description="spacing of the result, in steps of the first trace"
    )
    wind_th: float = Field(
        0.3, gt=0, le=0.5, description="windings that differ by less may be the same place"
    )
    same_surface_th: float = Field(
        2.0, gt=0, description="voxels within which two traces are the same sheet"
    )
    max_hole: float = Field(
        1000.0, ge=0, description="widest gap that is bridged along a row or column, voxels"
    )
    extend: float = Field(0.0, ge=0, description="voxels to extrapolate beyond the traces")
