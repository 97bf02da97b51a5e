"""Real networks: nnU-Net, TorchScript and ONNX. Run where the extra [nnunet] is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracer.predict.network_params import NetworkParams
from tracer.predict.network_stage import predict_with_network
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

pytestmark = [
    pytest.mark.nnunet,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch's and nnunetv2's own
    pytest.mark.skipif(
        importlib.util.find_spec("nnunetv2") is None,
        reason="nnunetv2 is not installed: pip install 'scroll-tracer[nnunet]'",
    ),
]

ODDS = NetworkParams(probabilities=True, device="cpu", mirroring=False)
MODELS = {
    "cubes": {},
    "mirrored": {},
    "slices": {"patch": (16, 16)},
    "other axes": {"patch": (8, 16, 16), "transpose": (2, 0, 1)},
    "coarser": {"patch": (8, 8, 8), "spacing": (1.5, 1.5, 1.5)},
    "z-score": {"scheme": "ZScoreNormalization"},
    "folds": {"folds": ("0", "1")},
    "best": {"checkpoint": "best"},
    "regions": {"labels": {"background": 0, "all": [1, 2], "core": [2]}, "regions": [1, 2]},
}


def _volume(path, array):
    writer = VolumeWriter.create(path, array.shape, array.dtype, 7.91)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    return Volume.open(path)


def _read(path):
    volume = Volume.open(path)
    return volume.read(0, (0, 0, 0), volume.shape_zyx)


@pytest.fixture
def ct(tmp_path):
    import scipy.ndimage as ndi

    noise = ndi.gaussian_filter(np.random.default_rng(0).random((20, 24, 18)), 1.5)
    noise = (noise - noise.min()) / np.ptp(noise)
    return _volume(tmp_path / "ct.zarr", (1 + 254 * noise).astype(np.uint8))


def _whole(model, array, *, mirroring, checkpoint, resampled):
    """Return the probability that nnU-Net gives the whole image at once."""
    import torch
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        device=torch.device("cpu"), use_mirroring=mirroring, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), None, checkpoint)
    image = array[None].astype(np.float32)
    properties = {"spacing": [1.0, 1.0, 1.0]}
    if resampled:
        return 1 - predictor.predict_single_npy_array(image, properties, None, None, True)[1][0]
    # Its own way to probabilities rounds to half precision, so they are made of its logits here.
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    cases = PreprocessAdapterFromNpy(
        [image], [None], [properties], [None], plans, predictor.dataset_json, configuration
    )
    logits = predictor.predict_logits_from_preprocessed_data(next(cases)["data"]).float().numpy()
    logits = logits.transpose(0, *(1 + axis for axis in plans.transpose_backward))
    if predictor.label_manager.has_regions:
        return 1 / (1 + np.exp(-logits.max(axis=0)))
    return 1 / (1 + np.exp(logits[0] - logits[1]))


@pytest.mark.parametrize("name", MODELS)
def test_nnunet__blocks_equal_the_whole_volume_and_nnunet_itself(name, tmp_path, ct):
    from nnunet_model import make_model

    model = make_model(tmp_path / "model", **MODELS[name])
    params = ODDS.model_copy(update={"mirroring": name == "mirrored"})
    predict_with_network(ct, tmp_path / "whole.zarr", [model], params)
    blocks = params.model_copy(update={"block": 16})
    result = predict_with_network(ct, tmp_path / "parts.zarr", [model], blocks)
    assert result.blocks > 1
    whole, parts = _read(tmp_path / "whole.zarr"), _read(tmp_path / "parts.zarr")
    assert whole.std() > 10
    np.testing.assert_array_equal(whole, parts)
    checkpoint = f"checkpoint_{MODELS[name].get('checkpoint', 'final')}.pth"
    sheet = _whole(
        model,
        _read(tmp_path / "ct.zarr"),
        mirroring=params.mirroring,
        checkpoint=checkpoint,
        resampled=name == "coarser",
    )
    tolerance = 3e-3 if name == "coarser" else 1e-5
    assert np.abs(whole / 255 - sheet).max() <= 0.5 / 255 + tolerance


def test_torchscript_and_onnx__agree(tmp_path, ct):
    import torch

    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3, padding=1)
    ).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4.0)
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 16, 16)), str(tmp_path / "n.ts"))
    models = [tmp_path / "n.ts"]
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 16, 16),),
            str(tmp_path / "n.onnx"),
            dynamo=False,
            input_names=["image"],
            dynamic_axes={"image": {0: "n", 2: "rows", 3: "columns"}},
        )
        models.append(tmp_path / "n.onnx")
    params = ODDS.model_copy(update={"slice_channels": 3, "slice_patch": 16, "slice_axes": "z,x"})
    for number, model in enumerate(models):
        for block in (12, 600):
            changed = params.model_copy(update={"block": block})
            predict_with_network(ct, tmp_path / f"{number}-{block}.zarr", [model], changed)
        a, b = (_read(tmp_path / f"{number}-{block}.zarr").astype(int) for block in (12, 600))
        assert b.std() > 5
        assert np.abs(a - b).max() <= 1  # other batches round differently, by 1e-6
    if len(models) == 2:
        b = _read(tmp_path / "1-600.zarr").astype(int)
        assert np.abs(_read(tmp_path / "0-600.zarr") - b).max() <= 1


def _nnunet(command, *args, cwd, **environment):
    """Run one of nnU-Net's own commands."""
    subprocess.run(
        [str(Path(sys.executable).with_name(f"nnUNetv2_{command}")), *map(str, args)],
        cwd=cwd,
        env={
            **os.environ,
            "nnUNet_raw": str(cwd / "raw"),
            "nnUNet_preprocessed": str(cwd / "preprocessed"),
            "nnUNet_results": str(cwd / "results"),
            "nnUNet_def_n_proc": "2",
            "nnUNet_n_proc_DA": "1",
            **environment,
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=3000,
    )


# A configuration of its own beside the planned ones, on the data that was preprocessed for them.
# Three stages: with two, nnU-Net's weights of deep supervision are 0 / 0.
TINY = {
    "inherits_from": "3d_fullres",
    "patch_size": [24, 24, 24],
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [8, 16, 32],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3] * 3] * 3,
            "strides": [[1] * 3, [2] * 3, [2] * 3],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    },
}


@pytest.mark.timeout(4800)
def test_make_dataset__nnunet_plans_trains_and_beats_the_sheet_filter(tmp_path):
    """From phantoms to a better prediction, through nnU-Net's own commands as documented."""
    from phantom_labels import label_volume

    from tracer.phantom import make_phantom
    from tracer.phantom.params import PhantomParams
    from tracer.predict import stages
    from tracer.predict.clean import CleanParams
    from tracer.predict.dataset import DatasetParams, make_dataset
    from tracer.predict.params import PredictParams

    pairs = []
    for seed in (1, 2):
        scroll = tmp_path / f"scroll{seed}"
        make_phantom(scroll, PhantomParams(size_zyx=(128, 128, 128), level="normal", rng_seed=seed))
        pairs.append((scroll / "ct.zarr", label_volume(scroll)))
    made = make_dataset(tmp_path / "raw", pairs[:1], DatasetParams(id=60, name="Sheets", crop=64))
    assert made.cases == 8
    _nnunet("plan_and_preprocess", "-d", 60, "--verify_dataset_integrity", "-np", 1, cwd=tmp_path)
    plans_path = tmp_path / "preprocessed/Dataset060_Sheets/nnUNetPlans.json"
    plans = json.loads(plans_path.read_text())
    plans["configurations"]["tiny"] = TINY
    plans_path.write_text(json.dumps(plans))
    train = (60, "tiny", 0, "-tr", "nnUNetTrainer_5epochs", "-device", "cpu")
    _nnunet("train", *train, cwd=tmp_path, nnUNet_n_proc_DA="0")

    ct, label = Volume.open(pairs[1][0]), Volume.open(pairs[1][1])
    (model,) = (tmp_path / "results/Dataset060_Sheets").iterdir()
    predict_with_network(
        ct, tmp_path / "net.zarr", [model], NetworkParams(device="cpu", mirroring=False)
    )
    stages.predict(ct, tmp_path / "filter.zarr", PredictParams(face="recto", half_width=2.0))
    scores = {}
    for name in ("net", "filter"):
        found = Volume.open(tmp_path / f"{name}.zarr")
        assert found.shape_zyx == ct.shape_zyx
        stages.clean(found, tmp_path / f"{name}-clean.zarr", CleanParams())
        scores[name] = stages.score(Volume.open(tmp_path / f"{name}-clean.zarr"), label)
    # nnU-Net draws its own seeds. Seen: surface Dice 0.72 and 0.53, combined 0.482 and 0.466.
    assert scores["net"].dice > scores["filter"].dice + 0.1
    assert scores["net"].surface_dice > scores["filter"].surface_dice + 0.1
    assert scores["net"].combined > scores["filter"].combined - 0.05
