"""The signed distance field by SciPy, of a whole volume at once."""

import numpy as np
from scipy.ndimage import distance_transform_edt


def squared_distances(mask, limit):
    """Return squared distances to the nearest True voxel, cut off at a limit."""
    if not mask.any():
        return np.full(mask.shape, limit)
    squares = np.rint(distance_transform_edt(~mask) ** 2).astype(np.int64)
    return np.minimum(squares, limit)


def signed_distances(mask, cap, deepest=7.9):
    """Return the signed distance to the boundary; outside the volume belongs to neither side."""
    outside = np.full(mask.shape, np.inf) if not mask.any() else distance_transform_edt(~mask)
    inside = np.full(mask.shape, np.inf) if mask.all() else distance_transform_edt(mask)
    return np.where(mask, -np.minimum(inside - 0.5, deepest), np.minimum(outside - 0.5, cap))


def codes(mask, cap):
    """Return the signed distances in eighths of a voxel, plus 64."""
    return (np.round(8 * signed_distances(mask, cap)) + 64).astype(np.uint8)
