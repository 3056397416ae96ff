"""Losses in the lungs. Tensors have axes `(batch, target, z, y, x)`; the lung mask `(batch, 1, z, y, x)`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = 1e-6


def lung_loss(prediction: Tensor, truth: Tensor, lungs: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Weighted sum of the masked mean absolute error and of one minus the masked correlation.

    Each part is computed for each image and averaged over images and targets, so that a large lung does not outweigh
    a small one and both targets count the same.

    Args:
        prediction: images 0..1.
        truth: images 0..1.
        lungs: 1 in the lungs.
        weights: weights `l1` and `correlation`.
    """
    return weights["l1"] * masked_l1(prediction, truth, lungs).mean() + weights["correlation"] * (
        1 - masked_correlation(prediction, truth, lungs).mean()
    )


def masked_l1(prediction: Tensor, truth: Tensor, lungs: Tensor) -> Tensor:
    """Mean absolute error in the lungs, `(batch, target)`."""
    voxels = lungs.sum(dim=(2, 3, 4)).clamp_min(1)
    return ((prediction - truth).abs() * lungs).sum(dim=(2, 3, 4)) / voxels


def masked_correlation(prediction: Tensor, truth: Tensor, lungs: Tensor) -> Tensor:
    """Pearson's correlation in the lungs, `(batch, target)`; 0 where an image is constant."""
    voxels = lungs.sum(dim=(2, 3, 4), keepdim=True).clamp_min(1)

    def centred(image: Tensor) -> Tensor:
        return (image - (image * lungs).sum(dim=(2, 3, 4), keepdim=True) / voxels) * lungs

    x, y = centred(prediction), centred(truth)
    covariance = (x * y).sum(dim=(2, 3, 4))
    scale = torch.sqrt((x * x).sum(dim=(2, 3, 4)) * (y * y).sum(dim=(2, 3, 4)) + EPSILON)
    return covariance / scale
