"""Weights that nobody trained, in the files of lungmask and TotalSegmentator: to run their code, not to be right."""

from __future__ import annotations

import json
from pathlib import Path

#: a small nnU-Net: three levels, 3 mm
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def write_lungmask(path: Path, classes: int, seed: int) -> Path:
    """A state of lungmask's U-Net whose answer has all classes."""
    import torch
    from lungmask.resunet import UNet

    torch.manual_seed(seed)
    network = UNet(n_classes=classes, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    state = network.state_dict()
    last = [name for name in state if name.endswith("bias")][-1]
    weight = last.removesuffix("bias") + "weight"
    state[weight] = torch.randn_like(state[weight])
    state[last] -= (state[weight].sum(dim=(1, 2, 3)) * 0.2).reshape(state[last].shape)
    torch.save(state, path)
    return path


def write_totalsegmentator(root: Path, seed: int) -> Path:
    """The folder of TotalSegmentator's 3 mm model with a small network of random weights."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
    from totalsegmentator.map_to_binary import class_map

    names = class_map["total"]
    trainer = TASK_CONFIGS["total"]["sub_modes"]["fast"]["trainer"]
    folder = root / TASK_ID_WEIGHTS_CONFIGS[297]["foldername"] / f"{trainer}__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    labels = {"background": 0} | {name: label for label, name in names.items()}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(_plans()))
    torch.manual_seed(seed)
    network = PlainConvUNet(
        1,
        3,
        [4, 8, 8],
        torch.nn.Conv3d,
        3,
        [1, 2, 2],
        [1, 1, 1],
        len(labels),
        [1, 1],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    )
    state = {
        "network_weights": network.state_dict(),
        "trainer_name": trainer,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(state, folder / "fold_0" / "checkpoint_final.pth")
    return root


def _plans() -> dict:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    seg = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset297_TotalSegmentator_total_3mm_1559subj",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 3.0, 3.0],
        "original_median_shape_after_transp": [64, 64, 64],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "max": 3000.0,
                "mean": -300.0,
                "median": -500.0,
                "min": -1024.0,
                "percentile_00_5": -1000.0,
                "percentile_99_5": 1000.0,
                "std": 400.0,
            }
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [32, 32, 32],
                "median_image_size_in_voxels": [64.0, 64.0, 64.0],
                "spacing": [3.0, 3.0, 3.0],
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg_kwargs": seg,
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": seg,
                "architecture": ARCHITECTURE,
                "batch_dice": True,
            }
        },
    }
