"""Which side of a sheet is the recto, from the CT alone: the side that looks at the axis.

The faces of a sheet look the same. What tells them apart is the air before the neighbouring wrap:
walking outward, grey values rise where the air between the wraps ends and the recto begins, and
fall at the verso. So only outward has to be known, and the normals of a scroll meet at its axis.
"""

import itertools

import numpy as np

from tracer.errors import NothingFoundError
from tracer.predict.blocks import Block, read_with_halo
from tracer.predict.orientation import Outward
from tracer.predict.params import PredictParams
from tracer.predict.sheet_filter import CELL, FilterReach, block_normals
from tracer.volume import Volume

_CUBES_ZYX = (4, 7, 7)
_CUBE = 16
_LEAST_SPREAD = 0.1  # of the normals' directions; 0 where all are parallel, 0.5 where even
_LEAST_RADIAL = 0.7  # mean |cosine| of normals with the direction from the axis; 0.64 by chance


def estimate_outward(ct: Volume, params: PredictParams) -> Outward:
    """Return away from the axis that the sheets of a CT wind about.

    Parameters
    ----------
    ct : Volume
        CT of a whole scroll, or of most of its turn.
    params : PredictParams
        ``gradient_sigma``, ``normal_sigma`` and ``coherence``.

    Returns
    -------
    Outward
        The same for the same volume.

    Raises
    ------
    NothingFoundError
        If the sheets do not wind about anything: a piece of a scroll, mostly.

    Notes
    -----
    Sheet normals of 196 cubes of 16 voxels, spread evenly, and the robust meeting point of their
    lines (:func:`tracer.unroll.axis.estimate_axis`).
    """
    from tracer.unroll.axis import estimate_axis

    reach = FilterReach.of(params).smoothing
    starts = [
        sorted({CELL * round((n - _CUBE) * (i + 0.5) / count / CELL) for i in range(count)})
        for n, count in zip(ct.shape_zyx, _CUBES_ZYX, strict=True)
    ]
    points, normals = [], []
    for z, y, x in itertools.product(*starts):
        start = (max(0, z), max(0, y), max(0, x))
        block = Block(0, start, (start[0] + _CUBE, start[1] + _CUBE, start[2] + _CUBE))
        grey = read_with_halo(ct, block, reach)
        inner = grey[reach:-reach, reach:-reach, reach:-reach]
        if not inner.any():
            continue
        found = block_normals(grey, params, reach)
        cells = np.argwhere((found**2).sum(-1) > 0.5)
        there = inner[tuple((CELL * cells).T)] > 0
        cells = cells[there]
        normals.append(found[tuple(cells.T)][:, ::-1])
        points.append((np.array(start) + CELL * cells + 0.5)[:, ::-1])
    if normals:
        all_points = np.concatenate(points).astype(np.float32)
        all_normals = np.concatenate(normals).astype(np.float32)
        flat = np.hypot(all_normals[:, 0], all_normals[:, 1])
        steep = flat > 0.5
        if np.count_nonzero(steep) > 100:
            across = all_normals[steep, :2] / flat[steep, None]
            spread = float(np.linalg.eigvalsh(across.T @ across / len(across))[0])
            axis = estimate_axis(all_points, all_normals)
            radial = all_points[steep, :2] - axis.at(all_points[steep, 2])
            radial /= np.linalg.norm(radial, axis=1, keepdims=True) + 1e-9
            agreement = float(np.abs((across * radial).sum(1)).mean())
            if spread >= _LEAST_SPREAD and agreement >= _LEAST_RADIAL:
                return Outward(axis_zyx=axis.points_xyz[:, ::-1].copy(), direction_zyx=np.zeros(3))
    raise NothingFoundError(
        f"{ct.path}: its sheets do not show an axis that they wind about; give --umbilicus, "
        "--axis-x with --axis-y, or --outward"
    )
