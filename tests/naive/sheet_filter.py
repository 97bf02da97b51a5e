"""Oracles of the sheet filter: SciPy and plain loops."""

import math

import numpy as np
import scipy.ndimage as ndi


def correlate(volume, weights, axis):
    """Return the part of a 1-D correlation that needs no padding."""
    full = ndi.correlate1d(volume.astype(np.float64), weights, axis=axis, mode="nearest")
    taps = len(weights)
    keep = [slice(None)] * 3
    keep[axis] = slice(taps // 2, volume.shape[axis] - (taps - 1 - taps // 2))
    return full[tuple(keep)]


def structure_tensor(smooth):
    """Return the cell means of the gradient products, components first."""
    inner = tuple(slice(1, -1) for _ in range(3))
    gradient = [np.gradient(smooth.astype(np.float64), axis=axis)[inner] for axis in range(3)]
    components = []
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        product = gradient[i] * gradient[j]
        a, b, c = (extent // 2 for extent in product.shape)
        product = product[: 2 * a, : 2 * b, : 2 * c]
        components.append(product.reshape(a, 2, b, 2, c, 2).mean((1, 3, 5)))
    return np.stack(components)


def hessian(volume, z, y, x):
    """Return the matrix of central second differences at a voxel."""
    unit = np.eye(3, dtype=int)
    here = np.array([z, y, x])

    def at(offset):
        return float(volume[tuple(here + offset)])

    out = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            if i == j:
                out[i, i] = at(unit[i]) + at(-unit[i]) - 2.0 * at(0 * unit[i])
            else:
                out[i, j] = 0.25 * (
                    at(unit[i] + unit[j])
                    - at(unit[i] - unit[j])
                    - at(unit[j] - unit[i])
                    + at(-unit[i] - unit[j])
                )
    return out


def ridge_value(volume, z, y, x, normal, gain, planarity):
    """Return the response of one voxel of one scale, before it is compared with others."""
    curvature = hessian(volume, z, y, x)
    across = float(normal @ curvature @ normal)
    along = float(np.trace(curvature)) - across
    return -gain * across - planarity * abs(gain * along)


def sample(volume, point):
    """Return the trilinear interpolation at a point (z, y, x)."""
    return float(
        ndi.map_coordinates(
            volume.astype(np.float64), np.asarray(point)[:, None], order=1, prefilter=False
        )[0]
    )


def disc_mean(volume, voxel, normal, radius):
    """Return the weighted mean over two rings of eight samples around a voxel."""
    axis = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = axis - normal * (axis @ normal)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    total, weight = 2.0 * sample(volume, voxel), 2.0
    for ring, (share, turn) in enumerate(((1.0, 0.0), (0.6, 0.5))):
        for m in range(8):
            angle = 2.0 * math.pi * (m + turn) / 8
            offset = (ring + 1) * radius / 2 * (math.cos(angle) * first + math.sin(angle) * second)
            total += share * sample(volume, voxel + offset)
            weight += share
    return total / weight
