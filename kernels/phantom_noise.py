"""Randomness that depends on a place only: hashes, value noise and events in cells.

Whatever is made from these is the same in whatever blocks, order or number it is made. Integers
stay below 2^63, so that compiled and interpreted runs agree bit for bit.
"""

import math

from tracer.kernels._jit import inline_kernel

_MASK = 0xFFFFFFFF
_UNIT = 1.0 / 4294967296.0
NO_EVENT = 4.0  # squared relative distance that is outside of every event


@inline_kernel
def hash_cell(seed: int, i: int, j: int, k: int) -> int:
    """Return a 32-bit hash of a cell.

    Parameters
    ----------
    seed : int
        Seed of the sequence, 32 bits.
    i : int
        Index, of either sign.
    j : int
        Index.
    k : int
        Index.

    Returns
    -------
    int
        Between 0 and 2^32 - 1.
    """
    h = (seed + i * 0x1B873593 + j * 0x2545F491 + k * 0x19D699A5) & _MASK
    h = ((h ^ (h >> 16)) * 0x45D9F3B) & _MASK
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & _MASK
    return h ^ (h >> 14)


@inline_kernel
def uniform(seed: int, i: int, j: int, k: int) -> float:
    """Return a uniform number that belongs to a cell.

    Parameters
    ----------
    seed : int
        Seed of the sequence, 32 bits.
    i : int
        Index, of either sign.
    j : int
        Index.
    k : int
        Index.

    Returns
    -------
    float
        In [0, 1).
    """
    return hash_cell(seed, i, j, k) * _UNIT


@inline_kernel
def smooth_step(t: float) -> float:
    """Return a smooth rise from 0 at 0 to 1 at 1, constant beyond.

    Parameters
    ----------
    t : float
        Position.

    Returns
    -------
    float
        In [0, 1].
    """
    t = min(1.0, max(0.0, t))
    return t * t * (3.0 - 2.0 * t)


@inline_kernel
def noise_2d(seed: int, x: float, y: float) -> float:
    """Return smooth noise over a plane, with features about one unit in size.

    Parameters
    ----------
    seed : int
        Seed of the field.
    x : float
        Position in cells.
    y : float
        Position in cells.

    Returns
    -------
    float
        In [0, 1), about 0.5 in the mean.
    """
    i = math.floor(x)
    j = math.floor(y)
    u = x - i
    v = y - j
    u = u * u * (3.0 - 2.0 * u)
    v = v * v * (3.0 - 2.0 * v)
    a = uniform(seed, i, j, 0) * (1.0 - u) + uniform(seed, i + 1, j, 0) * u
    b = uniform(seed, i, j + 1, 0) * (1.0 - u) + uniform(seed, i + 1, j + 1, 0) * u
    return a * (1.0 - v) + b * v


@inline_kernel
def noise_3d(seed: int, x: float, y: float, z: float) -> float:
    """Return smooth noise over space, with features about one unit in size.

    Parameters
    ----------
    seed : int
        Seed of the field.
    x : float
        Position in cells.
    y : float
        Position in cells.
    z : float
        Position in cells.

    Returns
    -------
    float
        In [0, 1), about 0.5 in the mean.
    """
    k = math.floor(z)
    w = z - k
    w = w * w * (3.0 - 2.0 * w)
    low = noise_2d((seed + k * 0x3C6EF373) & _MASK, x, y)
    high = noise_2d((seed + (k + 1) * 0x3C6EF373) & _MASK, x, y)
    return low * (1.0 - w) + high * w


@inline_kernel
def grain(seed: int, x: int, y: int, z: int) -> float:
    """Return white noise of a voxel, nearly Gaussian.

    Parameters
    ----------
    seed : int
        Seed of the field.
    x : int
        Voxel.
    y : int
        Voxel.
    z : int
        Voxel.

    Returns
    -------
    float
        Mean zero, standard deviation one, within 3.5.
    """
    h = hash_cell(seed, x, y, z)
    total = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
    return (total - 510.0) * (1.0 / 147.80)


@inline_kernel
def find_event(
    seed: int, size_x: float, size_y: float, probability: float, x: float, y: float
) -> tuple[float, float, int]:
    """Return where a point lies relative to the event of its cell.

    A cell holds an event, an ellipse that lies wholly inside it, with the given probability.

    Parameters
    ----------
    seed : int
        Seed of this kind of event.
    size_x : float
        Width of a cell, in the units of `x`.
    size_y : float
        Height of a cell.
    probability : float
        Share of the cells with an event.
    x : float
        Position.
    y : float
        Position.

    Returns
    -------
    tuple of float, float and int
        Squared distance from the centre in half sizes (below one inside, 4 without an event),
        distance along x in half sizes, and a hash of the event.
    """
    i = math.floor(x / size_x)
    j = math.floor(y / size_y)
    if uniform(seed, i, j, 0) >= probability:
        return NO_EVENT, 0.0, 0
    half_x = size_x * (0.15 + 0.3 * uniform(seed, i, j, 1))
    half_y = size_y * (0.15 + 0.3 * uniform(seed, i, j, 2))
    mid_x = i * size_x + half_x + (size_x - 2.0 * half_x) * uniform(seed, i, j, 3)
    mid_y = j * size_y + half_y + (size_y - 2.0 * half_y) * uniform(seed, i, j, 4)
    dx = (x - mid_x) / half_x
    dy = (y - mid_y) / half_y
    return dx * dx + dy * dy, dx, hash_cell(seed, i, j, 5)
