"""What is measured on one surface, without any truth."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.overlaps import QuadCells, cast_to_next
from tracer.unroll.patches import Patches

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.surface import Surface
    from tracer.volume import Volume

ON_PREDICTION_VX = (1.0, 2.0, 5.0)
_INPAINTED = 80  # in the channel state
_BATCH = 20_000  # vertices looked up at a time
_BESIDE = 4.0  # voxels off the surface at which the prediction's normal is taken
_OWN_CELLS = 1  # a quad so near on the grid is the edge's own surroundings


def count_islands(valid: NDArray[np.bool_]) -> int:
    """Return the number of connected parts of a grid.

    Parameters
    ----------
    valid : ndarray of bool, shape (rows, cols)
        Valid vertices.

    Returns
    -------
    int
        Connected along rows and columns.
    """
    from scipy import ndimage

    return int(ndimage.label(valid)[1])


def hole_cells(valid: NDArray[np.bool_]) -> tuple[int, int]:
    """Return number and total size of the holes that a surface encloses.

    Parameters
    ----------
    valid : ndarray of bool, shape (rows, cols)
        Valid vertices.

    Returns
    -------
    tuple of int
        Holes, and invalid vertices in them.
    """
    from scipy import ndimage

    holes = ndimage.binary_fill_holes(valid) & ~valid
    return int(ndimage.label(holes)[1]), int(holes.sum())


def folded_cells(surface: "Surface") -> NDArray[np.bool_]:
    """Return the cells that are folded back over a neighbour.

    Parameters
    ----------
    surface : Surface
        A surface.

    Returns
    -------
    ndarray of bool, shape (rows - 1, cols - 1)
        Cells whose normal is more than 90 degrees from that of the next cell along a row or column.
    """
    points = surface.points_xyz.astype(np.float64)
    first = points[1:, 1:] - points[:-1, :-1]
    second = points[1:, :-1] - points[:-1, 1:]
    normal = np.cross(first, second)
    normal[~surface.valid_quads] = np.nan
    folded = np.zeros(normal.shape[:2], bool)
    for axis in (0, 1):
        low = np.take(normal, np.arange(normal.shape[axis] - 1), axis=axis)
        high = np.take(normal, np.arange(1, normal.shape[axis]), axis=axis)
        against = np.einsum("ijk,ijk->ij", low, high) < 0
        pad = [(0, 0), (0, 0)]
        for pair in ((0, 1), (1, 0)):
            pad[axis] = pair
            folded |= np.pad(against, pad)
    return folded


def self_intersections(surface: "Surface") -> NDArray[np.int32]:
    """Return the grid edges that cross another part of the surface.

    Parameters
    ----------
    surface : Surface
        A surface.

    Returns
    -------
    ndarray of int32, shape (n, 2)
        Row and column of the first vertex of every such edge. Exact: edges against bilinear cells.
    """
    patches = Patches.from_surfaces([surface])
    if not len(patches.quads):
        return np.empty((0, 2), np.int32)
    cells = QuadCells.build(patches, 0.0)
    i, j = patches.edges.T
    vector = patches.points_xyz[j].astype(np.float64) - patches.points_xyz[i]
    length = np.linalg.norm(vector, axis=1)
    real = length > 1e-6
    i, j, vector, length = i[real], j[real], vector[real], length[real]
    crossed = np.zeros(len(i), bool)
    quad, along = cast_to_next(
        patches,
        cells,
        patches.points_xyz[i],
        (vector / length[:, None]).astype(np.float32),
        nearest=0.01,
        farthest=float(length.max(initial=0.0)),
    )
    hit = (quad >= 0) & (along < length - 0.01)
    corner = patches.grid[patches.quads[quad[hit], 0], 1:]
    away = np.ones(int(hit.sum()), bool)
    for end in (i, j):
        offset = patches.grid[end[hit], 1:] - corner
        away &= ((offset < -_OWN_CELLS) | (offset > _OWN_CELLS + 1)).any(axis=1)
    crossed[hit] = away
    return patches.grid[i[crossed], 1:]


def on_prediction(field: "DistanceField", surface: "Surface") -> tuple[float, ...]:
    """Return the shares of the vertices near the prediction; inpainted ones do not count.

    Parameters
    ----------
    field : DistanceField
        Of the prediction.
    surface : Surface
        A surface.

    Returns
    -------
    tuple of float
        Within 1, 2 and 5 voxels.
    """
    asked = surface.valid.copy()
    if "state" in surface.channels:  # of fused surfaces: inpainted vertices bridge its holes
        asked &= surface.channels["state"] != _INPAINTED
    points = surface.points_xyz[asked].astype(np.float64)
    near = np.zeros(len(ON_PREDICTION_VX))
    for first in range(0, len(points), _BATCH):
        distance = field.sample(points[first : first + _BATCH])
        near += [(distance <= limit).sum() for limit in ON_PREDICTION_VX]
    return tuple((near / max(len(points), 1)).tolist())


def normal_agreement(field: "DistanceField", surface: "Surface") -> tuple[float, float]:
    """Return how far the surface's normals are from those of the predicted sheet.

    Beside a sheet distances from it grow fastest along its normal, so that is where it is taken
    from: some voxels off on either side.

    Parameters
    ----------
    field : DistanceField
        Of the prediction.
    surface : Surface
        A surface.

    Returns
    -------
    tuple of float
        Median and 95th percentile of the angles, either side up, degrees; NaN where no vertex has
        a sheet and free space beside it.
    """
    normals = surface.normals()
    use = surface.valid & np.isfinite(normals).all(axis=-1)
    points, normal = surface.points_xyz[use].astype(np.float64), normals[use].astype(np.float64)
    angles = [np.empty(0)]
    for first in range(0, len(points), _BATCH):
        here, up = points[first : first + _BATCH], normal[first : first + _BATCH]
        on = field.sample(here) <= ON_PREDICTION_VX[1]
        for side in (_BESIDE, -_BESIDE):
            distance, slope = field.sample(here + side * up, gradient=True)
            length = np.linalg.norm(slope, axis=1)
            known = on & (distance > 0.5) & (distance < field.cap - 0.5) & (length > 0.5)
            cosine = np.abs(np.einsum("ij,ij->i", slope[known], up[known])) / length[known]
            angles.append(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))))
    angle = np.concatenate(angles)
    if not len(angle):
        return float("nan"), float("nan")
    return float(np.median(angle)), float(np.percentile(angle, 95))


def ct_support(volume: "Volume", surface: "Surface") -> float:
    """Return how many vertices lie where the CT is not 0.

    Parameters
    ----------
    volume : Volume
        The scan, in which 0 is masked out.
    surface : Surface
        A surface.

    Returns
    -------
    float
        The share; vertices outside the volume have none.
    """
    points = surface.points_xyz[surface.valid][:, ::-1]
    index = np.floor(points).astype(np.int64)
    chunk = np.asarray(volume.chunk_shape_zyx(0))
    inside = ((index >= 0) & (index < volume.shape_zyx)).all(axis=1)
    index = index[inside]
    keys, where = np.unique(index // chunk, axis=0, return_inverse=True)
    found = 0
    for number, key in enumerate(keys):
        start = key * chunk
        stop = np.minimum(start + chunk, volume.shape_zyx)
        block = volume.read(0, tuple(start.tolist()), tuple(stop.tolist()))
        at = index[where.ravel() == number] - start
        found += int((block[tuple(at.T)] > 0).sum())
    return found / max(len(points), 1)
