"""Where a voxel lies between the two faces of the labelled sheet instance it belongs to.

Hand-made instance labels are rough, hold cavities and touch each other. A walk along the sheet
normal from a voxel, inward and outward, finds the instance's two faces; gaps up to a given width
count as part of it. The offset from the middle of the two is then averaged in the plane of the
sheet, over voxels of the same instance, which evens out the roughness of the faces.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.sheet_filter import CELL, tangents

# Voxels per step of a walk, which finds a face to a quarter of a voxel. Steps are sampled in their
# middle: at multiples of a half, rounding would favour one direction.
STEP = 0.5


@inline_kernel
def nearest_label(
    labels: NDArray[np.uint16], z: int, y: int, x: int, dz: float, dy: float, dx: float
) -> int:
    """Return the label of the voxel nearest to an offset from a voxel.

    Parameters
    ----------
    labels : ndarray of uint16, shape (z, y, x)
        Instance per voxel.
    z, y, x : int
        Voxel.
    dz, dy, dx : float
        Offset from it, inside the array.

    Returns
    -------
    int
        Instance, 0 for none.
    """
    i = z + math.floor(dz + 0.5)
    j = y + math.floor(dy + 0.5)
    k = x + math.floor(dx + 0.5)
    return int(labels[i, j, k])


@inline_kernel
def distance_to_face(
    labels: NDArray[np.uint16],
    z: int,
    y: int,
    x: int,
    n0: float,
    n1: float,
    n2: float,
    instance: int,
    reach: float,
    max_gap: float,
) -> float:
    """Return how far an instance reaches from a voxel in one direction.

    Parameters
    ----------
    labels : ndarray of uint16, shape (z, y, x)
        Instance per voxel.
    z, y, x : int
        Voxel, at least reach + max_gap + 1 from every side.
    n0, n1, n2 : float
        Unit direction (z, y, x).
    instance : int
        Label to follow.
    reach : float
        Farthest face of interest, in voxels.
    max_gap : float
        Longest gap in the instance that is crossed; another instance ends it at once.

    Returns
    -------
    float
        Distance to the last voxel of the instance plus half a step, at most `reach`; negative
        where there is none.
    """
    last = -1.0
    distance = 0.5 * STEP
    while distance <= reach:
        label = nearest_label(labels, z, y, x, distance * n0, distance * n1, distance * n2)
        if label == instance:
            last = distance + 0.5 * STEP
        elif label != 0 or distance - last > max_gap:
            break
        distance += STEP
    return min(last, reach)


@inline_kernel
def first_label(
    labels: NDArray[np.uint16],
    z: int,
    y: int,
    x: int,
    n0: float,
    n1: float,
    n2: float,
    reach: float,
) -> int:
    """Return the first instance met in one direction.

    Parameters
    ----------
    labels : ndarray of uint16, shape (z, y, x)
        Instance per voxel.
    z, y, x : int
        Voxel.
    n0, n1, n2 : float
        Unit direction (z, y, x).
    reach : float
        How far to look, in voxels.

    Returns
    -------
    int
        Instance, 0 for none.
    """
    distance = 0.5 * STEP
    while distance <= reach:
        label = nearest_label(labels, z, y, x, distance * n0, distance * n1, distance * n2)
        if label != 0:
            return label
        distance += STEP
    return 0


@kernel
def locate_in_instances(
    labels: NDArray[np.uint16],
    normals: NDArray[np.float32],
    reach: float,
    max_gap: float,
    margin: int,
) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]]:
    """Return the instance of every voxel and its distances to the instance's two faces.

    Parameters
    ----------
    labels : ndarray of uint16, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        Instance per voxel, 0 for none.
    normals : ndarray of float32
        Unit sheet normals of the cells of `labels`; zeros where there is none.
    reach : float
        Largest distance to a face, in voxels.
    max_gap : float
        Longest gap along the normal that counts as part of an instance.
    margin : int
        Voxels that the result is smaller on every side; even, at least reach + 2.

    Returns
    -------
    instance : ndarray of uint16, shape (z, y, x)
        Label, also in gaps with the same label on both sides; 0 elsewhere.
    inner, outer : ndarray of float32, shape (z, y, x)
        Distance to the face against and along the normal; 0 where there is no instance.
    """
    nz, ny, nx = labels.shape
    shape = (nz - 2 * margin, ny - 2 * margin, nx - 2 * margin)
    instance = np.zeros(shape, np.uint16)
    inner = np.zeros(shape, np.float32)
    outer = np.zeros(shape, np.float32)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                n = normals[z // CELL, y // CELL, x // CELL]
                n0, n1, n2 = float(n[0]), float(n[1]), float(n[2])
                if n0 * n0 + n1 * n1 + n2 * n2 < 0.5:
                    continue
                label = int(labels[z, y, x])
                if label == 0:
                    label = first_label(labels, z, y, x, n0, n1, n2, max_gap)
                    if label == 0:
                        continue
                    if first_label(labels, z, y, x, -n0, -n1, -n2, max_gap) != label:
                        continue
                ahead = distance_to_face(labels, z, y, x, n0, n1, n2, label, reach, max_gap)
                behind = distance_to_face(labels, z, y, x, -n0, -n1, -n2, label, reach, max_gap)
                if ahead >= 0.0 and behind >= 0.0:
                    i, j, k = z - margin, y - margin, x - margin
                    instance[i, j, k] = label
                    outer[i, j, k] = ahead
                    inner[i, j, k] = behind
    return instance, inner, outer


@kernel
def average_offsets(
    instance: NDArray[np.uint16],
    offset: NDArray[np.float32],
    normals: NDArray[np.float32],
    radius: int,
    odd: bool,
    margin: int,
) -> NDArray[np.float32]:
    """Return a quantity averaged in the plane of the sheet over voxels of the same instance.

    Parameters
    ----------
    instance : ndarray of uint16, shape (z + 2 margin, y + 2 margin, x + 2 margin)
        Instance per voxel, 0 for none.
    offset : ndarray of float32, same shape
        Quantity, in voxels.
    normals : ndarray of float32
        Unit sheet normals of the cells of `instance`.
    radius : int
        Of the square patch of samples, one per voxel.
    odd : bool
        Whether the quantity changes sign with the normal, as the offset from the middle does.
    margin : int
        Voxels that the result is smaller on every side; even, at least 1.5 radius + 1.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Average; NaN where there is no instance.
    """
    nz, ny, nx = instance.shape
    out = np.full((nz - 2 * margin, ny - 2 * margin, nx - 2 * margin), np.nan, np.float32)
    for z in range(margin, nz - margin):
        for y in range(margin, ny - margin):
            for x in range(margin, nx - margin):
                label = instance[z, y, x]
                if label == 0:
                    continue
                n = normals[z // CELL, y // CELL, x // CELL]
                a0, a1, a2, b0, b1, b2 = tangents(float(n[0]), float(n[1]), float(n[2]))
                total = 0.0
                count = 0
                for p in range(-radius, radius + 1):
                    for q in range(-radius, radius + 1):
                        i = z + math.floor(p * a0 + q * b0 + 0.5)
                        j = y + math.floor(p * a1 + q * b1 + 0.5)
                        k = x + math.floor(p * a2 + q * b2 + 0.5)
                        if instance[i, j, k] != label:
                            continue
                        value = float(offset[i, j, k])
                        if odd:
                            m = normals[i // CELL, j // CELL, k // CELL]
                            if n[0] * m[0] + n[1] * m[1] + n[2] * m[2] < 0.0:
                                value = -value
                        total += value
                        count += 1
                out[z - margin, y - margin, x - margin] = total / count
    return out


@kernel
def separate_instances(instance: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return the voxels of instances that touch no other instance.

    Parameters
    ----------
    instance : ndarray of uint16, shape (z + 2, y + 2, x + 2)
        Instance per voxel, 0 for none.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        False for background and for voxels with another instance among their 26 neighbours, on
        both sides, so that instances which touch end up two voxels apart.
    """
    nz, ny, nx = instance.shape
    out = np.zeros((nz - 2, ny - 2, nx - 2), np.bool_)
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                label = instance[z, y, x]
                if label == 0:
                    continue
                alone = True
                for i in range(-1, 2):
                    for j in range(-1, 2):
                        for k in range(-1, 2):
                            other = instance[z + i, y + j, x + k]
                            if other != 0 and other != label:
                                alone = False
                out[z - 1, y - 1, x - 1] = alone
    return out
