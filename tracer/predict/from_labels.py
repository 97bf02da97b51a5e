"""Turn labels of whole sheets into the surface prediction that tracing starts from.

A label says which sheet a voxel belongs to; a prediction marks one thin surface per sheet. Each
instance is handled by itself, so that the surfaces of two sheets which touch do not merge.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from tracer.params import Params
from tracer.predict.orientation import Outward
from tracer.predict.params import PredictParams
from tracer.predict.sheet_filter import CELL, FilterReach, block_normals, even

RIM = 2  # voxels around a block in which instances are compared; one is needed, two are even


class FromLabelsParams(Params):
    """How a surface is derived from instance labels."""

    face: Literal["mid-line", "recto", "verso", "all"] = Field(
        default="mid-line",
        description="Which surface: the middle of a sheet, its side towards (recto) or away from "
        "(verso) the axis, or the whole sheet less what touches another one.",
    )
    half_width: float = Field(
        default=1.0,
        ge=0.5,
        le=8.0,
        description="Half the thickness in voxels of the predicted surface.",
    )
    max_thickness: float = Field(
        default=32.0,
        ge=2.0,
        le=128.0,
        description="Thickest sheet in voxels; beyond it the middle is off.",
    )
    max_gap: float = Field(
        default=4.0, ge=0.0, le=32.0, description="Widest crack in voxels that is part of a sheet."
    )
    smooth_radius: int = Field(
        default=4,
        ge=0,
        le=16,
        description="Radius in voxels over which rough faces are evened out.",
    )
    normal_sigma: float = Field(
        default=6.0,
        ge=1.0,
        le=24.0,
        description="Neighbourhood in voxels that agrees on one sheet normal.",
    )
    ignore_label: int | None = Field(
        default=None, ge=1, description="Label that means unknown; it becomes background."
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
    block: int = Field(
        default=128, ge=32, le=1024, description="Edge in voxels of the blocks that are worked on."
    )

    @pydantic.model_validator(mode="after")
    def _outward_is_known(self) -> Self:
        self.as_filter()
        known = (self.umbilicus, self.axis_x, self.outward) != (None, None, None)
        if self.face in ("recto", "verso") and not known:
            raise ValueError(
                f"face {self.face} needs to know what is outward: "
                "give umbilicus, axis_x with axis_y, or outward"
            )
        return self

    def as_filter(self) -> PredictParams:
        """Return the filter parameters that govern the normals and what is outward.

        Returns
        -------
        PredictParams
            With the checks of the faces.
        """
        face: Literal["mid-line", "recto", "verso"] = (
            "mid-line" if self.face == "all" else self.face
        )
        return PredictParams(
            face=face,
            gradient_sigma=2.0,
            normal_sigma=self.normal_sigma,
            coherence=0.0,
            umbilicus=self.umbilicus,
            axis_x=self.axis_x,
            axis_y=self.axis_y,
            outward=self.outward,
            sigma=0.7,
            scales=1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReach:
    """How far each step looks, in voxels; all even.

    Attributes
    ----------
    rim : int
        Where instances are compared.
    average : int
        The average in the sheet.
    walk : int
        The walk to the faces.
    normals : int
        The orientation field.
    """

    rim: int
    average: int
    walk: int
    normals: int

    @classmethod
    def of(cls, params: FromLabelsParams) -> Self:
        """Return the reach for given parameters.

        Parameters
        ----------
        params : FromLabelsParams
            Parameters.

        Returns
        -------
        LabelReach
            Smallest even reach of each step.
        """
        return cls(
            rim=RIM,
            average=even(1.5 * params.smooth_radius + 1),
            walk=even(params.max_thickness + 2),
            normals=FilterReach.of(params.as_filter()).smoothing,
        )

    @property
    def halo(self) -> int:
        """Return the voxels needed on every side of a block, one of them for the contacts."""
        return self.rim + self.average + self.walk + self.normals + 2


def _without_contacts(labels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return 255 inside instances, 0 elsewhere and where two touch; two smaller on every side."""
    from tracer.kernels.label_faces import separate_instances

    apart = separate_instances(labels)
    return np.where(apart, np.float32(255), np.float32(0))[1:-1, 1:-1, 1:-1]


def labels_block(
    labels: NDArray[np.generic],
    params: FromLabelsParams,
    *,
    start_zyx: tuple[int, int, int] = (0, 0, 0),
    outward: Outward | None = None,
) -> NDArray[np.uint8]:
    """Return the prediction of one block of labels.

    Parameters
    ----------
    labels : ndarray of an unsigned integer type, shape (z + 2 halo, y + 2 halo, x + 2 halo)
        Instance per voxel, 0 for none.
    params : FromLabelsParams
        Face and widths.
    start_zyx : tuple of int
        Voxel of the volume at which the block without halo starts; even.
    outward : Outward, optional
        Needed for the faces.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        255 on the surface, 0 elsewhere.
    """
    from tracer.kernels.label_faces import separate_instances

    reach = LabelReach.of(params)
    instances = np.ascontiguousarray(labels, np.uint16)
    if params.ignore_label is not None:
        instances = np.where(instances == params.ignore_label, np.uint16(0), instances)
    spare = reach.halo - 1
    if not instances.any() or params.face == "all":
        inner = slice(spare, -spare)
        apart = separate_instances(np.ascontiguousarray(instances[inner, inner, inner]))
        return np.where(apart, np.uint8(255), np.uint8(0))
    surface = _surface_instances(instances, params, reach, start_zyx, outward)
    inner = slice(RIM - 1, 1 - RIM)
    apart = separate_instances(np.ascontiguousarray(surface[inner, inner, inner]))
    return np.where(apart, np.uint8(255), np.uint8(0))


def _surface_instances(
    instances: NDArray[np.uint16],
    params: FromLabelsParams,
    reach: LabelReach,
    start_zyx: tuple[int, int, int],
    outward: Outward | None,
) -> NDArray[np.uint16]:
    """Return the instance of every voxel on a surface, for the block and its rim."""
    from tracer.kernels.label_faces import average_offsets, locate_in_instances

    frame = reach.rim + reach.average + reach.walk
    corner = (start_zyx[0] - frame, start_zyx[1] - frame, start_zyx[2] - frame)
    grey = np.ascontiguousarray(_without_contacts(instances))
    normals = block_normals(grey, params.as_filter(), reach.normals, corner, outward)
    cut = reach.normals + 2
    instances = np.ascontiguousarray(instances[cut:-cut, cut:-cut, cut:-cut])
    located, inner, outer = locate_in_instances(
        instances, normals, params.max_thickness, params.max_gap, reach.walk
    )
    cells = reach.walk // CELL
    normals = np.ascontiguousarray(normals[cells:-cells, cells:-cells, cells:-cells])
    if params.face == "mid-line":
        offset = np.asarray(0.5 * (inner - outer), np.float32)
    else:
        offset = inner if params.face == "recto" else outer
    even = average_offsets(
        located,
        offset,
        normals,
        params.smooth_radius,
        params.face == "mid-line",
        reach.average,
    )
    if params.face == "mid-line":
        on_surface = np.abs(even) <= params.half_width
    else:
        on_surface = even <= 2.0 * params.half_width
    cut = reach.average
    located = located[cut:-cut, cut:-cut, cut:-cut]
    return np.where(on_surface, located, np.uint16(0))
