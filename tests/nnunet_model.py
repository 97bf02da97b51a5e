"""Tiny nnU-Net models with random weights, made through nnunetv2 itself."""

import json

LABELS = {"background": 0, "sheet": 1}
FIGURES = {
    "max": 255.0,
    "mean": 110.0,
    "median": 112.0,
    "min": 1.0,
    "percentile_00_5": 8.0,
    "percentile_99_5": 240.0,
    "std": 45.0,
}
NAMES = {2: "2d", 3: "3d_fullres"}


def make_model(
    folder,
    *,
    patch=(16, 16, 16),
    scheme="CTNormalization",
    spacing=(1.0, 1.0, 1.0),
    labels=LABELS,
    folds=("0",),
    transpose=(0, 1, 2),
    checkpoint="final",
    regions=None,
    seed=0,
):
    """Return the folder of a model; one fold more is another seed."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dims = len(patch)
    configuration = NAMES[dims]
    plans = _plans(configuration, patch, scheme, spacing, transpose)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".tif",
        **({"regions_class_order": regions} if regions else {}),
    }
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(plans)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    for number, fold in enumerate(folds):
        torch.manual_seed(seed + number)
        network = nnUNetTrainer.build_network_architecture(
            manager, manager.get_configuration(configuration), 1, heads, False
        )
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "seg_layers" in name:
                    weight.mul_(6.0)  # decided enough for differences to show
        place = folder / f"fold_{fold}"
        place.mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": configuration},
                "inference_allowed_mirroring_axes": tuple(range(dims)),
            },
            place / f"checkpoint_{checkpoint}.pth",
        )
    return folder


def _plans(configuration, patch, scheme, spacing, transpose):
    dims = len(patch)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [48, 48, 48],
        "image_reader_writer": "Tiff3DIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [list(transpose).index(i) for i in range(3)],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": FIGURES},
        "configurations": {
            configuration: {
                "data_identifier": "nnUNetPlans",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(patch),
                "median_image_size_in_voxels": [48] * dims,
                "spacing": list(spacing[-dims:]),
                "normalization_schemes": [scheme],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
                "batch_dice": False,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet."
                    "PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": 2,
                        "features_per_stage": [4, 8],
                        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                        "kernel_sizes": [[3] * dims] * 2,
                        "strides": [[1] * dims, [2] * dims],
                        "n_conv_per_stage": [1, 1],
                        "n_conv_per_stage_decoder": [1],
                        "conv_bias": True,
                        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }
