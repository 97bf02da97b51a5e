"""Voxels of a phantom, any box of them, in memory bounded by the box."""

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError
from tracer.kernels.phantom_voxels import LATTICE, blur_block, locate_lattice, render_block
from tracer.phantom.truth import Truth

Index = tuple[int, int, int]
_BLUR_WEIGHT = 0.25  # of each neighbour: a standard deviation of 0.7 voxel


def render_box(
    truth: Truth, ink: NDArray[np.uint8], start_zyx: Index, stop_zyx: Index
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the CT and the prediction in a box.

    Parameters
    ----------
    truth : Truth
        The phantom, with its looks.
    ink : ndarray of uint8, shape (rows, cols)
        The ink image, see :meth:`Truth.ink_image`.
    start_zyx : tuple of int
        First voxel of the box.
    stop_zyx : tuple of int
        End of the box, exclusive.

    Returns
    -------
    ct : ndarray of uint8, shape (z, y, x)
        Grey values.
    prediction : ndarray of uint8, shape (z, y, x)
        0 or 255.

    Raises
    ------
    FormatError
        If the truth does not say how the phantom looks.

    Notes
    -----
    A voxel's values depend on its place only, not on the box: boxes can be rendered in any order,
    number and size.
    """
    if truth.recipe is None:
        raise FormatError(
            f"{truth.source}: this truth has no recipe; voxels cannot be made from it"
        )
    start = np.array(start_zyx, np.int64) - 1
    shape = np.array(stop_zyx, np.int64) + 1 - start
    base = start // LATTICE
    nodes = (start + shape - 1) // LATTICE - base + 2
    lattice = np.empty((*nodes, 4))
    locate_lattice(truth.spiral, base * LATTICE, lattice)
    grey = np.empty(shape, np.float32)
    prediction = np.empty(shape, np.uint8)
    size = np.array(truth.size_zyx, np.int64)
    render_block(truth.spiral, truth.recipe, ink, size, start, lattice, grey, prediction)
    ct = np.empty(shape - 2, np.uint8)
    blur_block(grey, _BLUR_WEIGHT, np.empty_like(grey), ct)
    return ct, np.ascontiguousarray(prediction[1:-1, 1:-1, 1:-1])
