"""Masks as run lengths, the text form in which ink competitions score predictions.

Law: ``decode_runs(encode_runs(mask), mask.shape)`` is 255 where the mask is not 0, else 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError


def encode_runs(mask: NDArray[Any]) -> str:
    """Return a mask as run lengths.

    Parameters
    ----------
    mask : ndarray, shape (rows, cols)
        Anything that is not 0 is inside.

    Returns
    -------
    str
        Pairs "start length", starts counted from 1 in row-major order, as ink competitions score.
    """
    inside = np.concatenate([[False], np.asarray(mask).ravel() != 0, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    pairs = np.stack([edges[::2] + 1, edges[1::2] - edges[::2]], axis=1)
    return " ".join(map(str, pairs.ravel().tolist()))


def decode_runs(text: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask that run lengths describe.

    Parameters
    ----------
    text : str
        Pairs "start length", starts counted from 1 in row-major order; empty for an empty mask.
    shape : tuple of int
        (rows, cols).

    Returns
    -------
    ndarray of uint8, shape (rows, cols)
        255 inside, else 0.

    Raises
    ------
    FormatError
        If the text is no such list or leaves the picture.
    """
    try:
        numbers = np.array([int(part) for part in text.split()], dtype=np.int64)
    except ValueError as error:
        raise FormatError(f"run lengths: {error}; expected whole numbers") from error
    if len(numbers) % 2:
        raise FormatError(f"run lengths: {len(numbers)} numbers, they come as pairs")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    n = shape[0] * shape[1]
    if len(starts) and (starts.min() < 0 or lengths.min() < 1 or (starts + lengths).max() > n):
        raise FormatError(
            f"run lengths: leave a picture of {shape[0]} x {shape[1]} pixels; check the size"
        )
    steps = np.zeros(n + 1, dtype=np.int64)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + lengths, -1)
    return np.where(np.cumsum(steps[:-1]) > 0, 255, 0).astype(np.uint8).reshape(shape)
