"""Training labels around surfaces: a band, background as far as is known, and unknown elsewhere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tracer.predict.window_grid import Index
from tracer.surface import Surface

BACKGROUND, SHEET, IGNORE = 0, 1, 2


def label_surfaces(
    surfaces: Sequence[Surface],
    start_zyx: Index,
    stop_zyx: Index,
    *,
    half_width: float,
    known_distance: float,
    level: int = 0,
) -> NDArray[np.uint8]:
    """Return what surfaces say about a box.

    Parameters
    ----------
    surfaces : sequence of Surface
        In level-0 voxels.
    start_zyx, stop_zyx : tuple of int
        Box, in voxels of the level.
    half_width : float
        Half the thickness of the sheet's band, in voxels of the level.
    known_distance : float
        Voxels of the level on both sides of a surface in which there is no other sheet.
    level : int
        Level that is labelled.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        1 in the band, 0 from there to the known distance along the normals, 2 elsewhere, beyond the
        edges of surfaces as well.
    """
    from tracer.kernels.surface_band import paint_distance

    shape = tuple(b - a for a, b in zip(start_zyx, stop_zyx, strict=True))
    distance = np.full(shape, np.inf, np.float32)
    factor = 0.5**level
    for surface in surfaces:
        points = (surface.points_xyz.astype(np.float64) + 0.5) * factor - 0.5
        paint_distance(
            points.astype(np.float32),
            np.asarray(surface.normals(), np.float32),
            surface.valid,
            np.asarray(start_zyx, np.int64),
            known_distance,
            distance,
        )
    out = np.full(shape, IGNORE, np.uint8)
    out[distance <= known_distance] = BACKGROUND
    out[distance <= half_width] = SHEET
    return out
