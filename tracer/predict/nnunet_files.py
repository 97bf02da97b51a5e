"""Files as nnU-Net's own commands read and write them: 3-D tifs with spacing files beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError

CHANNEL = "_0000"


def write_volume_tif(path: Path, voxels: NDArray[Any]) -> None:
    """Write a 3-D tif as nnU-Net reads it.

    Parameters
    ----------
    path : Path
        File to make.
    voxels : ndarray, shape (z, y, x)
        Voxels.
    """
    import tifffile

    data = np.ascontiguousarray(voxels)
    tifffile.imwrite(path, data, compression="zlib", photometric="minisblack")


def write_spacing(path: Path, spacing: float) -> None:
    """Write the spacing file that nnU-Net expects beside a tif.

    Parameters
    ----------
    path : Path
        File to make.
    spacing : float
        Edge of a voxel.
    """
    path.write_text(json.dumps({"spacing": [spacing] * 3}) + "\n", encoding="utf-8")


def read_labels(path: Path, sheet_labels: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Return 255 where a segmentation says sheet.

    Parameters
    ----------
    path : Path
        Tif that nnU-Net wrote.
    sheet_labels : tuple of int or None
        Labels that count; None for all but 0.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        0 and 255.

    Raises
    ------
    FormatError
        If it is no tif.
    """
    import tifffile

    try:
        labels = tifffile.imread(path)
    except (tifffile.TiffFileError, ValueError, OSError) as error:
        raise FormatError(f"{path}: cannot read the prediction ({error})") from error
    sheet = labels != 0 if sheet_labels is None else np.isin(labels, sheet_labels)
    return np.where(sheet, np.uint8(255), np.uint8(0))


def read_probabilities(path: Path, sheet_labels: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Return 255 times the probability of sheet.

    Parameters
    ----------
    path : Path
        What ``nnUNetv2_predict --save_probabilities`` wrote, ``.npz``.
    sheet_labels : tuple of int or None
        Labels that count; None for all but 0.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        Rounded.

    Raises
    ------
    FormatError
        If it is not such a file.
    """
    try:
        with np.load(path) as file:
            values = file["probabilities"]
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: cannot read the probabilities ({error})") from error
    if values.ndim != 4 or values.shape[0] < 2:
        raise FormatError(f"{path}: probabilities of shape {values.shape}; expected label, z, y, x")
    if sheet_labels is None:
        sheet = 1.0 - values[0].astype(np.float32)
    else:
        sheet = values[list(sheet_labels)].sum(axis=0, dtype=np.float32)
    return np.asarray(np.round(255.0 * np.clip(sheet, 0.0, 1.0)), np.uint8)
