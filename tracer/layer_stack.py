"""Folders of layers: reading any part of a stack of pictures, whoever wrote it.

A stack is a folder of numbered tif, png or jpg files of one size, one per layer, as VC3D, other
renderers and `tracer render` write it. Tiled and stripped tifs are read by window.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import replacing_file
from tracer.errors import FormatError, OutputError, ParamsError

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# What the libraries raise for damaged files; struct.error is not among the builtin ones.
_UNREADABLE = (OSError, ValueError, RuntimeError, SyntaxError, IndexError, KeyError, struct.error)
_NUMBER = re.compile(r"(\d+)$")


class LayerStack:
    """Layers in a folder, in the order of their numbers.

    Parameters
    ----------
    folder : Path
        Holds ``00.tif``, ``01.tif``, … (any name that ends in a number).

    Attributes
    ----------
    paths : list of Path
        One per layer.
    numbers : list of int
        The numbers in their names.
    shape : tuple of int
        (rows, cols).
    dtype : dtype
        uint8 or uint16.

    Raises
    ------
    FormatError
        If there are no layers, or the first is unusable.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FormatError(f"{folder}: no such folder of layers; check the path")
        numbered = [
            (int(match.group(1)), path)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in _SUFFIXES
            and not path.name.startswith(".")
            and (match := _NUMBER.search(path.stem))
        ]
        numbered.sort()
        if not numbered:
            raise FormatError(f"{folder}: holds no numbered layers such as 00.tif; check the path")
        self.folder = folder
        self.numbers = [number for number, _ in numbered]
        self.paths = [path for _, path in numbered]
        repeated = [b for a, b in zip(self.numbers, self.numbers[1:], strict=False) if a == b]
        if repeated:
            raise FormatError(f"{folder}: several layers are called {repeated[0]}; remove one")
        self._whole: tuple[int, NDArray[Any]] | None = None
        self.shape, self.dtype = self._look(0)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.paths)

    def select(self, text: str) -> list[int]:
        """Return the positions of the layers FIRST:END, by their numbers.

        Parameters
        ----------
        text : str
            As in Python, e.g. ``5:21``; empty for all.

        Returns
        -------
        list of int
            Positions in `paths`.

        Raises
        ------
        ParamsError
            If it is no range or selects nothing.
        """
        if not text:
            return list(range(len(self)))
        match = re.fullmatch(r"(\d*):(\d*)", text)
        if not match:
            raise ParamsError(f"layers_range = {text!r}: must be FIRST:END, e.g. 5:21")
        first = int(match.group(1) or 0)
        end = int(match.group(2)) if match.group(2) else self.numbers[-1] + 1
        chosen = [i for i, number in enumerate(self.numbers) if first <= number < end]
        if not chosen:
            raise ParamsError(
                f"layers_range = {text!r}: selects none of the layers {self.numbers[0]} to "
                f"{self.numbers[-1]} in {self.folder}"
            )
        return chosen

    def _look(self, layer: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return shape and dtype of a layer that can be used."""
        path = self.paths[layer]
        shape, dtype = _describe(path)
        if len(shape) != 2 or dtype not in (np.uint8, np.uint16):
            raise FormatError(
                f"{path}: shape {shape}, {dtype}; a layer has one channel of 8 or 16 bits"
            )
        return (shape[0], shape[1]), dtype

    def read(self, layer: int, rows: slice, cols: slice) -> NDArray[Any]:
        """Return a window of one layer.

        Parameters
        ----------
        layer : int
            Position in `paths`.
        rows : slice
            Window rows, inside the picture.
        cols : slice
            Window columns.

        Returns
        -------
        ndarray of uint8 or uint16
            Pixels.

        Raises
        ------
        FormatError
            If the file is damaged or of another size than the first layer.
        """
        path = self.paths[layer]
        shape, _ = self._look(layer)
        if shape != self.shape:
            raise FormatError(
                f"{path}: {shape} pixels but {self.paths[0].name} has {self.shape}; "
                "layers of one stack have one size"
            )
        if _is_tif(path):
            return _read_window(path, rows, cols)
        if self._whole is None or self._whole[0] != layer:
            self._whole = (layer, read_picture(path))
        return self._whole[1][rows, cols]

    def bands(self, layer: int, height: int = 1024) -> Iterator[NDArray[Any]]:
        """Yield a layer band by band, top to bottom.

        Parameters
        ----------
        layer : int
            Position in `paths`.
        height : int
            Rows per band.

        Yields
        ------
        ndarray
            At most `height` rows.
        """
        for row in range(0, self.shape[0], height):
            rows = slice(row, min(row + height, self.shape[0]))
            yield self.read(layer, rows, slice(0, self.shape[1]))


def _is_tif(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _describe(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of a picture, reading little more than its header."""
    try:
        if _is_tif(path):
            import tifffile

            with tifffile.TiffFile(path) as tif:
                page = tif.pages[0]
                return tuple(page.shape), np.dtype(page.dtype)
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # layers are far larger than Pillow thinks reasonable
        with Image.open(path) as image:
            kind = np.dtype(np.uint16 if image.mode.startswith("I;16") else np.uint8)
            shape = (image.height, image.width)
            return (shape if len(image.getbands()) == 1 else (*shape, len(image.getbands()))), kind
    except _UNREADABLE as error:
        raise FormatError(f"{path}: not a readable picture ({error}); restore it") from error


def _read_window(path: Path, rows: slice, cols: slice) -> NDArray[Any]:
    """Return part of a tif, decoding only the tiles or strips that it touches."""
    import tifffile
    import zarr

    try:
        with tifffile.TiffFile(path) as tif, tif.pages[0].aszarr() as store:
            return np.asarray(zarr.open_array(store, mode="r")[rows, cols])
    except _UNREADABLE as error:
        raise FormatError(
            f"{path}: cannot read rows {rows.start} to {rows.stop} ({error}); restore the file"
        ) from error


def read_picture(path: Path) -> NDArray[Any]:
    """Return a picture or array file.

    Parameters
    ----------
    path : Path
        ``.npy``, tif, png or jpg.

    Returns
    -------
    ndarray, shape (rows, cols) or with a last axis of samples
        As stored.

    Raises
    ------
    FormatError
        If it cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            return np.asarray(tifffile.imread(path))
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # layers are far larger than Pillow thinks reasonable
        with Image.open(path) as image:
            return np.asarray(image)
    except _UNREADABLE as error:
        raise FormatError(f"{path}: not a readable picture ({error}); restore it") from error


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """Write a picture atomically, in the format of its suffix.

    Parameters
    ----------
    path : Path
        ``.tif``, ``.png``, ``.jpg`` or ``.npy``.
    pixels : ndarray
        Grey values; floats only as ``.npy`` and tif.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing_file(path) as temporary:
        if suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, pixels)
        elif suffix in (".tif", ".tiff"):
            import tifffile

            tifffile.imwrite(
                temporary,
                pixels,
                compression="lzw",
                predictor=pixels.dtype.kind == "u",
                tile=(256, 256),
                photometric="minisblack",
                metadata=None,
                software=False,
                bigtiff=pixels.nbytes > 2**32 - 2**25,
            )
        elif suffix in (".png", ".jpg", ".jpeg"):
            from PIL import Image

            if suffix != ".png" and pixels.dtype != np.uint8:
                raise OutputError(f"{path}: jpg holds 8 bits, these pixels have more; use png")
            Image.fromarray(pixels).save(
                temporary, format="PNG" if suffix == ".png" else "JPEG", quality=95
            )
        else:
            raise OutputError(f"{path}: unknown format '{suffix}'; use .tif, .png, .jpg or .npy")
