"""Modules `torch` and `nnunetv2` with as much of their interface as the prediction stage uses.

The network is a formula whose result depends on where the window lies, so that a prediction only
comes out the same if the windows are the same. A model is a folder with the files of a real one.
"""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np

FIGURES = {"mean": 100.0, "std": 50.0, "percentile_00_5": 10.0, "percentile_99_5": 230.0}


def make_fake_model(
    folder,
    *,
    patch=(8, 8, 8),
    scheme="CTNormalization",
    spacing=1.0,
    folds=("0",),
    labels=None,
    checkpoint="final",
    **plans,
):
    """Return a folder that only the fake predictor can read."""
    folder.mkdir(parents=True)
    plans = {
        "patch_size": list(patch),
        "spacing": [spacing] * len(patch),
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [False],
        "previous_stage_name": None,
        "transpose_forward": [0, 1, 2],
        "figures": FIGURES,
        **plans,
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    labels = labels or {"background": 0, "sheet": 1}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        (folder / f"fold_{fold}/checkpoint_{checkpoint}.pth").write_text(str(fold))
    return folder


class _Tensor:
    def __init__(self, values):
        self.values = values

    def __getitem__(self, key):
        return _Tensor(self.values[key])

    def float(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.values


class Predictor:
    """What nnUNetPredictor offers."""

    made = ()  # a list while install is in force
    diverged = False  # a network that returns NaN

    def __init__(
        self,
        tile_step_size,
        use_gaussian,
        use_mirroring,
        perform_everything_on_device,
        device,
        verbose,
        verbose_preprocessing,
        allow_tqdm,
    ):
        sys.stdout.write("nnU-Net talks")  # as the real one does
        self.use_mirroring = use_mirroring
        self.device, self.all_on_device = device, perform_everything_on_device
        self.windows = 0
        self.made.append(self)

    def initialize_from_trained_model_folder(self, folder, use_folds, checkpoint_name):
        from pathlib import Path

        self.folds, self.checkpoint = use_folds, checkpoint_name
        plans = json.loads((Path(folder) / "plans.json").read_text())
        self.dataset_json = json.loads((Path(folder) / "dataset.json").read_text())
        self.configuration_manager = SimpleNamespace(**plans)
        self.plans_manager = SimpleNamespace(
            transpose_forward=plans["transpose_forward"],
            original_median_spacing_after_transp=[1.0, 1.0, 1.0],
            foreground_intensity_properties_per_channel={"0": plans["figures"]},
        )
        regions = any(isinstance(v, list) for v in self.dataset_json["labels"].values())
        self.label_manager = SimpleNamespace(has_regions=regions)

    def _internal_get_sliding_window_slicers(self, image_size):
        raise AssertionError("windows must be those of the whole volume")

    def predict_logits_from_preprocessed_data(self, tensor):
        data = tensor.values
        labels = self.dataset_json["labels"]
        heads = len([name for name in labels if name != "ignore"])
        total = np.zeros((heads, *data.shape[1:]), np.float32)
        weight = np.zeros(data.shape[1:], np.float32)
        ramp = 1 + np.add.reduce(np.indices(self.configuration_manager.patch_size), axis=0)
        for slicer in self._internal_get_sliding_window_slicers(data.shape[1:]):
            window = data[slicer]
            assert window.shape[1:] == ramp.shape
            self.windows += 1
            for head in range(heads):
                if self.diverged:
                    window = window * np.nan
                shift = 0.1 * head * sum(int(f) for f in self.folds if f != "all")
                total[(head, *slicer[1:])] += ramp * (
                    head * (window[0] + 2 * window.mean() + 0.02 * ramp) + shift
                )
            weight[slicer[1:]] += ramp
        with np.errstate(invalid="ignore"):
            return _Tensor(total / weight)


def install(monkeypatch, devices=()):
    """Put the fake modules in place for one test and return the predictors that it makes.

    `devices` are the accelerators that the fake torch finds, of "cuda" and "mps".
    """
    torch = ModuleType("torch")
    torch.device = lambda name: name
    torch.from_numpy = _Tensor
    torch.cuda = SimpleNamespace(is_available=lambda: "cuda" in devices)
    mps = SimpleNamespace(is_available=lambda: "mps" in devices)
    torch.backends = SimpleNamespace(mps=mps)
    inference = ModuleType("nnunetv2.inference.predict_from_raw_data")
    inference.nnUNetPredictor = Predictor
    monkeypatch.setattr(Predictor, "made", [])
    for name, module in {
        "torch": torch,
        "nnunetv2": ModuleType("nnunetv2"),
        "nnunetv2.inference": ModuleType("nnunetv2.inference"),
        "nnunetv2.inference.predict_from_raw_data": inference,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return Predictor.made
