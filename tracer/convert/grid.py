"""Surfaces on other grids: a part, mirrored, at another step; painted as labels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracer.errors import ParamsError

if TYPE_CHECKING:
    from tracer.surface import Surface
    from tracer.volume import Volume

_BLOCK = 128  # voxels of a side of the blocks that labels are painted in


def crop(surface: "Surface", rows: slice, cols: slice) -> "Surface":
    """Return a part of a surface.

    Parameters
    ----------
    surface : Surface
        A surface.
    rows, cols : slice
        Which part of the grid.

    Returns
    -------
    Surface
        With its channels.

    Raises
    ------
    ParamsError
        If the part is empty.
    """
    part = surface.valid[rows, cols]
    if not part.any():
        raise ParamsError(
            f"rows {rows.start}:{rows.stop}, columns {cols.start}:{cols.stop}: no vertex is there; "
            f"the grid has {surface.shape[0]} x {surface.shape[1]}"
        )
    return dataclasses.replace(
        surface,
        points_xyz=surface.points_xyz[rows, cols],
        valid=part,
        channels={name: grid[rows, cols] for name, grid in surface.channels.items()},
    )


def mirror(surface: "Surface", axis: str) -> "Surface":
    """Return a surface on a mirrored grid; its points stay where they are, its normals turn.

    Parameters
    ----------
    surface : Surface
        A surface.
    axis : str
        ``cols`` reverses the order of the columns, ``rows`` that of the rows.

    Returns
    -------
    Surface
        With its channels.
    """
    view = (slice(None), slice(None, None, -1)) if axis == "cols" else (slice(None, None, -1),)
    return dataclasses.replace(
        surface,
        points_xyz=surface.points_xyz[view],
        valid=surface.valid[view],
        channels={name: grid[view] for name, grid in surface.channels.items()},
    )


def resample(surface: "Surface", step: float) -> "Surface":
    """Return a surface at another step, bilinear; channels by the nearest vertex.

    Parameters
    ----------
    surface : Surface
        A surface.
    step : float
        Voxels between vertices.

    Returns
    -------
    Surface
        Valid where all vertices around are.
    """
    rows, cols = (
        max(1, round((n - 1) / (scale * step)) + 1)
        for n, scale in zip(surface.shape, surface.scale[::-1], strict=True)
    )
    grids = np.meshgrid(
        np.arange(rows) * step * surface.scale[1],
        np.arange(cols) * step * surface.scale[0],
        indexing="ij",
    )
    at = [np.minimum(grid, n - 1.0) for grid, n in zip(grids, surface.shape, strict=True)]
    points, valid = surface.sample(*at)
    nearest = tuple(np.rint(a).astype(np.int64) for a in at)
    return dataclasses.replace(
        surface,
        points_xyz=np.where(valid[..., None], points, np.float32(-1.0)),
        valid=valid,
        scale=(1.0 / step, 1.0 / step),
        channels={name: grid[nearest] for name, grid in surface.channels.items()},
    )


def rasterise(
    surfaces: Sequence["Surface"], like: "Volume", out: Path, half_width: float
) -> tuple[int, int]:
    """Write a label volume in which bands around surfaces are 255.

    Parameters
    ----------
    surfaces : sequence of Surface
        Surfaces.
    like : Volume
        Gives shape and voxel size.
    out : Path
        OME-Zarr to create.
    half_width : float
        Half the thickness of the band, voxels.

    Returns
    -------
    tuple of int
        Blocks painted, voxels set. Blocks without a surface are never touched.
    """
    from tracer.predict.surface_labels import SHEET, label_surfaces
    from tracer.volume_writer import VolumeWriter

    writer = VolumeWriter.create(out, like.shape_zyx, np.uint8, like.voxel_size_um)
    painted = voxels = 0
    boxes = [surface.bbox_xyz[:, ::-1] for surface in surfaces]
    for index in np.ndindex(*(-(-n // _BLOCK) for n in like.shape_zyx)):
        start = np.array(index) * _BLOCK
        stop = np.minimum(start + _BLOCK, like.shape_zyx)
        near = [
            surface
            for surface, (low, high) in zip(surfaces, boxes, strict=True)
            if (low - half_width - 1 < stop).all() and (high + half_width + 1 > start).all()
        ]
        if not near:
            continue
        z0, y0, x0 = start.tolist()
        z1, y1, x1 = stop.tolist()
        label = label_surfaces(
            near, (z0, y0, x0), (z1, y1, x1), half_width=half_width, known_distance=half_width
        )
        band = np.where(label == SHEET, 255, 0).astype(np.uint8)
        if band.any():
            writer.write((z0, y0, x0), band)
            painted += 1
            voxels += int((band > 0).sum())
    writer.finish("max")
    return painted, voxels
