"""2-D models, slice by slice: any TorchScript or ONNX file, aggregated to three dimensions.

The model sees images of one slice and, as channels, of as many neighbouring slices on each side as
it has channels for. Windows overlap and are added up with Gaussian weights, as are the directions
across which slices are taken: a sheet that lies in one kind of slice stands across the others.

The model maps float32 (n, channels, rows, columns) to logits (n, classes, rows, columns): one class
is the logit of sheet, of several the first is background.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, MissingDependencyError, ParamsError
from tracer.predict.intensity import Kind, Normalisation
from tracer.predict.network_params import NetworkParams
from tracer.predict.nnunet import INSTALL, choose_device
from tracer.predict.window_grid import Index, gaussian_window

ONNX = ".onnx"
SUFFIXES = (ONNX, ".pt", ".pts", ".pth", ".ts", ".torchscript")
INSTALL_ONNX = "pip install 'scroll-tracer[onnx]'"
_BATCH = 8
_NORMALISATIONS: dict[str, Kind] = {
    "divide-by-255": "divide by 255",
    "z-score": "z-score",
    "none": "none",
}


class ImageModel(Protocol):
    """A 2-D model that is loaded.

    Attributes
    ----------
    channels : int or None
        Images it wants at once; None where that is open.
    patch : tuple of int or None
        Rows and columns it wants; None where they are open.
    device : str
        Where it runs.
    """

    channels: int | None
    patch: tuple[int, int] | None
    device: str

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (n, classes, rows, columns) of images (n, channels, rows, columns)."""


class OnnxModel:
    """A model in an ONNX file.

    Parameters
    ----------
    path : Path
        File.
    device : str
        ``auto``, ``cuda`` or ``cpu``.
    """

    def __init__(self, path: Path, device: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "ONNX models need the package onnxruntime, which is not installed; install it "
                f"with: {INSTALL_ONNX}"
            ) from error
        cuda = "CUDAExecutionProvider"
        there = cuda in onnxruntime.get_available_providers()
        if device == "mps" or (device == "cuda" and not there):
            raise ParamsError(
                f"device = {device!r}: onnxruntime cannot use it on this machine; use cpu or auto"
            )
        use_cuda = there and device != "cpu"
        self.device = "cuda" if use_cuda else "cpu"
        providers = [cuda] * use_cuda + ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=providers)
        except Exception as error:
            raise FormatError(f"{path}: not a usable ONNX model ({error})") from error
        given = self._session.get_inputs()[0]
        if len(given.shape) != 4:
            raise FormatError(
                f"{path}: its input has the axes {given.shape}; expected images, channels, rows, "
                "columns"
            )
        self._input = given.name
        _, channels, rows, columns = (n if isinstance(n, int) else None for n in given.shape)
        self.channels = channels
        self.patch = None if rows is None or columns is None else (rows, columns)
        self._one_by_one = isinstance(given.shape[0], int)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of images.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, rows, columns)
            Normalised.

        Returns
        -------
        ndarray of float32, shape (n, classes, rows, columns)
            Logits.
        """
        groups = [image[None] for image in images] if self._one_by_one else [images]
        outs = [self._session.run(None, {self._input: group})[0] for group in groups]
        return np.concatenate(outs).astype(np.float32)


class TorchScriptModel:
    """A model in a TorchScript file.

    Parameters
    ----------
    path : Path
        File.
    device : str
        ``auto``, ``cuda``, ``mps`` or ``cpu``.
    """

    channels: int | None = None
    patch: tuple[int, int] | None = None

    def __init__(self, path: Path, device: str) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                "TorchScript models need the package torch, which is not installed; install it "
                f"with: {INSTALL}"
            ) from error
        self._torch = torch
        self.device = choose_device(torch, device)
        try:
            self._module = torch.jit.load(str(path), map_location=self.device).eval()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise FormatError(
                f"{path}: not a TorchScript file ({reason}); export the model with torch.jit.save"
            ) from error

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of images.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, rows, columns)
            Normalised.

        Returns
        -------
        ndarray of float32, shape (n, classes, rows, columns)
            Logits.
        """
        with self._torch.inference_mode():
            out = self._module(self._torch.from_numpy(images).to(self.device))
        return np.asarray(out.float().cpu().numpy(), np.float32)


class SliceNetwork:
    """A 2-D model across one axis of a volume.

    Parameters
    ----------
    model : ImageModel
        Loaded model.
    path : Path
        Its file.
    axis : int
        Axis that slices are taken across: 0 for slices of constant z.
    params : NetworkParams
        Window and channels where the model leaves them open, and the normalisation.

    Attributes
    ----------
    device : str
        Where it runs.
    """

    spacing_zyx = (1.0, 1.0, 1.0)

    def __init__(self, model: ImageModel, path: Path, axis: int, params: NetworkParams) -> None:
        self._model = model
        self._path = path
        self._axis = axis
        self._channels = model.channels or params.slice_channels
        self._patch = model.patch or (params.slice_patch, params.slice_patch)
        self._kind = _NORMALISATIONS[params.slice_normalisation]
        self.device = model.device

    @property
    def name(self) -> str:
        """Return the file and the axis."""
        return f"{self._path.name} across {'zyx'[self._axis]}"

    @property
    def patch_zyx(self) -> Index:
        """Return the shape of a window: one slice."""
        z, y, x = np.insert(np.asarray(self._patch), self._axis, 1).tolist()
        return z, y, x

    @property
    def halo_zyx(self) -> Index:
        """Return the neighbouring slices that are seen on each side."""
        z, y, x = (self._channels // 2 if axis == self._axis else 0 for axis in range(3))
        return z, y, x

    @property
    def normalisation(self) -> Normalisation:
        """Return what the parameters say."""
        return Normalisation(kind=self._kind, training={})

    def log_odds(
        self,
        data: NDArray[np.float32],
        windows: Sequence[Index],
        box: tuple[slice, slice, slice],
    ) -> NDArray[np.float32]:
        """Return the log-odds of sheet against background in a box.

        Parameters
        ----------
        data : ndarray of float32, shape (z, y, x)
            Normalised grey values.
        windows : sequence of tuple of int
            Starts of the windows to run, in `data`, in C order.
        box : tuple of slice
            Part of `data` that is wanted.

        Returns
        -------
        ndarray of float32, shape of the box
            NaN where no window lies.

        Raises
        ------
        FormatError
            If what the model returns does not fit its input.
        """
        slices = np.moveaxis(data, self._axis, 0)
        total, weight = np.zeros(slices.shape, np.float32), np.zeros(slices.shape, np.float32)
        weights = gaussian_window(self._patch)
        below = (self._channels - 1) // 2
        for first in range(0, len(windows), _BATCH):
            places = []
            for window in windows[first : first + _BATCH]:
                at = window[self._axis]
                row, column = (window[axis] for axis in range(3) if axis != self._axis)
                rows = slice(row, row + self._patch[0])
                places.append((at, rows, slice(column, column + self._patch[1])))
            images = np.stack(
                [
                    slices[at - below : at - below + self._channels, rows, columns]
                    for at, rows, columns in places
                ]
            )
            logits = self._model(np.ascontiguousarray(images))
            if logits.ndim != 4 or logits[:, 0].shape != images[:, 0].shape:
                raise FormatError(
                    f"{self._path}: maps images of shape {images.shape} to {logits.shape}; "
                    "expected one logit or several classes for every pixel"
                )
            for place, odds in zip(places, _odds(logits), strict=True):
                total[place] += weights * odds
                weight[place] += weights
        inner = tuple(np.moveaxis(array, 0, self._axis)[box] for array in (total, weight))
        with np.errstate(invalid="ignore"):
            return np.asarray(inner[0] / inner[1], np.float32)

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model.

        Returns
        -------
        dict
            Name, axis and a digest of the file.
        """
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "kind": "2-D",
            "name": self._path.name,
            "across": "zyx"[self._axis],
            "digest": digest,
        }


def _odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-odds of sheet per image; classes lie along the second axis."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    sheet = np.logaddexp.reduce(logits[:, 1:], axis=1)
    return np.asarray(sheet - logits[:, 0], np.float32)


def load_slice_networks(path: Path, params: NetworkParams) -> list[SliceNetwork]:
    """Return a 2-D model across every wanted axis.

    Parameters
    ----------
    path : Path
        TorchScript or ONNX file.
    params : NetworkParams
        Axes, and what the model leaves open.

    Returns
    -------
    list of SliceNetwork
        They share the model.
    """
    model: ImageModel = (
        OnnxModel(path, params.device)
        if path.suffix.lower() == ONNX
        else TorchScriptModel(path, params.device)
    )
    return [
        SliceNetwork(model, path, "zyx".index(axis), params)
        for axis in params.slice_axes.split(",")
    ]
