"""nnU-Net v2 models, run by nnU-Net's own predictor.

The only module that imports nnunetv2 and torch. The predictor reads the model folder, builds the
network, averages folds, mirrors, and adds up windows with its Gaussian weights; we say where the
windows lie, and hand it grey values that are normalised already (see
:mod:`tracer.predict.window_grid` and :mod:`tracer.predict.intensity` for why).
"""

import contextlib
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, MissingDependencyError, ParamsError
from tracer.predict.intensity import Normalisation
from tracer.predict.network_params import NetworkParams
from tracer.predict.window_grid import Index

INSTALL = "pip install 'scroll-tracer[nnunet]'"
_BACKGROUND = "background"
_IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A trained nnU-Net model on disk.

    Attributes
    ----------
    path : Path
        Folder with ``plans.json``, ``dataset.json`` and ``fold_*``.
    folds : tuple of str
        Folds to average.
    checkpoint : str
        File name in every fold.
    """

    path: Path
    folds: tuple[str, ...]
    checkpoint: str

    @classmethod
    def find(cls, path: Path, folds: str = "", checkpoint: str = "auto") -> Self:
        """Return the model in a folder.

        Parameters
        ----------
        path : Path
            The model, or a folder that holds nothing but this model.
        folds : str
            Folds by comma; empty for all that are there.
        checkpoint : str
            ``final``, ``best`` or ``auto``.

        Returns
        -------
        ModelFolder
            All files exist.

        Raises
        ------
        FormatError
            If there is no model, fold or checkpoint of that name.
        """
        if not path.is_dir():
            raise FormatError(f"{path}: no such folder; give a trained nnU-Net model")
        if not (path / "plans.json").is_file():
            below = sorted(found.parent for found in path.glob("*/plans.json"))
            if len(below) != 1:
                found = ", ".join(folder.name for folder in below) or "none below it"
                raise FormatError(
                    f"{path}: not a trained nnU-Net model, it has no plans.json ({found}); "
                    "give the folder TRAINER__PLANS__CONFIGURATION"
                )
            path = below[0]
        if not (path / "dataset.json").is_file():
            raise FormatError(f"{path}: has no dataset.json beside plans.json; export it anew")
        there = sorted(fold.name.removeprefix("fold_") for fold in path.glob("fold_*"))
        wanted = folds.split(",") if folds else [f for f in there if f != "all"] or there
        if not wanted or not set(wanted) <= set(there):
            raise FormatError(
                f"{path}: has folds {', '.join(there) or 'none'}, not {', '.join(wanted) or 'any'}"
            )
        kinds = ["final", "best"] if checkpoint == "auto" else [checkpoint]
        for kind in kinds:
            name = f"checkpoint_{kind}.pth"
            if all((path / f"fold_{fold}" / name).is_file() for fold in wanted):
                return cls(path=path, folds=tuple(wanted), checkpoint=name)
        raise FormatError(
            f"{path}: no checkpoint_{' or '.join(kinds)}.pth in every one of the folds "
            f"{', '.join(wanted)}; finish the training or choose other folds"
        )

    def digest(self) -> str:
        """Return a digest of plans and weights, so that other weights are other work.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        digest = hashlib.sha256((self.path / "plans.json").read_bytes())
        for fold in self.folds:
            with (self.path / f"fold_{fold}" / self.checkpoint).open("rb") as weights:
                digest.update(hashlib.file_digest(weights, "sha256").digest())
        return digest.hexdigest()


def _import_predictor() -> tuple[Any, Any]:
    """Return torch and nnU-Net's predictor class."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnunetv2 greets and asks for folders
            import torch
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError as error:
        raise MissingDependencyError(
            f"nnU-Net models need the package {error.name or 'nnunetv2'}, which is not installed; "
            f"install it with: {INSTALL}"
        ) from error
    return torch, nnUNetPredictor


def choose_device(torch: Any, wanted: str) -> str:
    """Return a device that is there.

    Parameters
    ----------
    torch : module
        PyTorch.
    wanted : str
        ``auto``, ``cuda``, ``mps`` or ``cpu``.

    Returns
    -------
    str
        Name for ``torch.device``.

    Raises
    ------
    ParamsError
        If the wanted device is missing.
    """
    have = {
        "cuda": bool(torch.cuda.is_available()),
        "mps": bool(torch.backends.mps.is_available()),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, there in have.items() if there)
    if not have[wanted]:
        raise ParamsError(f"device = {wanted!r}: torch finds none on this machine; use cpu or auto")
    return wanted


class NnunetNetwork:
    """A trained nnU-Net model, all wanted folds of it.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    params : NetworkParams
        Device, mirroring, step and labels.

    Attributes
    ----------
    folder : ModelFolder
        The model.
    device : str
        Where it runs.
    """

    halo_zyx: Index = (0, 0, 0)

    def __init__(self, folder: ModelFolder, params: NetworkParams) -> None:
        torch, predictor_class = _import_predictor()
        self.folder = folder
        self.device = choose_device(torch, params.device)
        self._torch = torch
        with contextlib.redirect_stdout(io.StringIO()):  # it explains itself
            self._predictor = predictor_class(
                tile_step_size=params.step,
                use_gaussian=True,
                use_mirroring=params.mirroring,
                perform_everything_on_device=self.device == "cuda",
                device=torch.device(self.device),
                verbose=False,
                verbose_preprocessing=False,
                allow_tqdm=False,
            )
            self._predictor.initialize_from_trained_model_folder(
                str(folder.path), folder.folds, folder.checkpoint
            )
        self._check()
        self._sheets = self._chosen_heads(params.labels)

    def _check(self) -> None:
        """Refuse what a single CT volume cannot feed."""
        channels = self._predictor.dataset_json.get("channel_names", {"0": "CT"})
        if len(channels) != 1:
            raise FormatError(
                f"{self.folder.path}: needs {len(channels)} channels, a CT volume has one"
            )
        previous = getattr(self._configuration, "previous_stage_name", None)
        if previous is not None:
            raise FormatError(
                f"{self.folder.path}: the second stage of a cascade, which needs the result of "
                f"{previous}; use a 3d_fullres, 3d_lowres or 2d model"
            )

    def _chosen_heads(self, labels: str) -> list[int]:
        """Return the outputs of the network that count as sheet."""
        named = {
            name: value
            for name, value in self._predictor.dataset_json["labels"].items()
            if name not in (_BACKGROUND, _IGNORE)
        }
        wanted = labels.split(",") if labels else sorted(named)
        unknown = sorted(set(wanted) - set(named))
        if unknown:
            raise ParamsError(
                f"labels = {labels!r}: {self.folder.path} has no label {unknown[0]}, only "
                f"{', '.join(sorted(named))}"
            )
        if self._predictor.label_manager.has_regions:
            order = list(named)  # one output per region, in the order of dataset.json
            return [order.index(name) for name in wanted]
        return sorted(int(named[name]) for name in wanted)

    @property
    def _configuration(self) -> Any:
        return self._predictor.configuration_manager

    @property
    def _axes(self) -> tuple[int, int, int]:
        """Return which of z, y, x each axis of the network is."""
        a, b, c = self._predictor.plans_manager.transpose_forward
        return int(a), int(b), int(c)

    def _to_zyx(self, values: Sequence[float], first: float) -> list[float]:
        """Return values per axis of the network in the order z, y, x; `first` where it is 2-D."""
        full = [first] * (3 - len(values)) + list(values)
        out = [0.0] * 3
        for axis, value in zip(self._axes, full, strict=True):
            out[axis] = value
        return out

    @property
    def name(self) -> str:
        """Return the model's folder and folds."""
        return f"{self.folder.path.name}, folds {','.join(self.folder.folds)}"

    @property
    def patch_zyx(self) -> Index:
        """Return the shape of a window; one slice where the model is 2-D."""
        z, y, x = self._to_zyx(self._configuration.patch_size, 1)
        return int(z), int(y), int(x)

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Return the network's voxels in voxels of the training images."""
        training = self._predictor.plans_manager.original_median_spacing_after_transp
        own = list(self._configuration.spacing)
        own = [training[0]] * (3 - len(own)) + own
        z, y, x = self._to_zyx([a / b for a, b in zip(own, training, strict=True)], 1.0)
        return z, y, x

    @property
    def normalisation(self) -> Normalisation:
        """Return what the plans say about the only channel."""
        plans = self._predictor.plans_manager
        training = plans.foreground_intensity_properties_per_channel
        return Normalisation.from_plans(
            self._configuration.normalization_schemes[0],
            bool(self._configuration.use_mask_for_norm[0]),
            training.get("0", {}),
            str(self.folder.path),
        )

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
        """
        axes = self._axes
        starts = sorted([window[axis] for axis in axes] for window in windows)  # as nnU-Net goes
        slicers = [self._slicer(start) for start in starts]
        self._predictor._internal_get_sliding_window_slicers = lambda _: slicers
        tensor = self._torch.from_numpy(np.ascontiguousarray(data.transpose(axes))[None])
        logits = self._predictor.predict_logits_from_preprocessed_data(tensor)
        inner = logits[(slice(None), *(box[axis] for axis in axes))]
        values = np.asarray(inner.float().cpu().numpy(), np.float32)
        back = np.argsort(axes)
        return self._odds(values).transpose(tuple(int(axis) for axis in back))

    def _slicer(self, start: Sequence[int]) -> tuple[slice | int, ...]:
        """Return a window as the predictor wants it, axes as in the network."""
        patch = self._configuration.patch_size
        spans = [slice(a, a + n) for a, n in zip(start[3 - len(patch) :], patch, strict=True)]
        return (slice(None), *start[: 3 - len(patch)], *spans)

    def _odds(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds of the wanted outputs; outputs along the first axis."""
        if self._predictor.label_manager.has_regions:
            return np.asarray(logits[self._sheets].max(axis=0), np.float32)
        others = [head for head in range(logits.shape[0]) if head not in self._sheets]
        with np.errstate(invalid="ignore"):  # NaN where no window lies
            sheet = np.logaddexp.reduce(logits[self._sheets], axis=0)
            return np.asarray(sheet - np.logaddexp.reduce(logits[others], axis=0), np.float32)

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model.

        Returns
        -------
        dict
            Name, folds and a digest of the weights.
        """
        return {
            "kind": "nnU-Net",
            "name": self.folder.path.name,
            "folds": list(self.folder.folds),
            "checkpoint": self.folder.checkpoint,
            "digest": self.folder.digest(),
        }
