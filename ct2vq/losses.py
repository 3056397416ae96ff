"""Losses in the lungs. Tensors have axes `(batch, target, z, y, x)`; the lung mask `(batch, 1, z, y, x)`.

Every part is computed for each image and then averaged over images and targets, so that a large lung does not outweigh
a small one. Everything is computed in float32 at least, whatever precision the network has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

EPSILON = 1e-6
#: constants K1 and K2 of SSIM (Wang et al. 2004, IEEE TIP 13:600), for images 0..1
K1, K2 = 0.01, 0.03
#: extent of SSIM's Gaussian window in standard deviations, as in `ct2vq.metrics.similarity`
SSIM_TRUNCATE = 3.5
#: least spread of a target's image in the balance `spread`, lest a nearly constant image get an endless weight
LEAST_SPREAD = 0.01


def lung_loss(
    prediction: Tensor, truth: Tensor, lungs: Tensor, weights: Mapping[str, Any], targets: Sequence[str] = ()
) -> Tensor:
    """Weighted sum of the parts of the loss, each averaged over images and balanced over targets.

    Args:
        prediction: images 0..1.
        truth: images 0..1.
        lungs: 1 in the lungs.
        weights: config block `train.loss`: weights of `l1`, `huber`, `ssim` and `correlation` (a part without a weight
            is not computed), and how the targets are balanced.
        targets: name of each target; needed for the balance `fixed`.

    Returns:
        One number. Its gradient is finite for any finite prediction, with constant images and empty masks too.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        images = tuple(_at_least_float32(tensor) for tensor in (prediction, truth, lungs))
        errors, relative = target_shares(*images[1:], weights, targets)
        parts = []
        if weights["l1"]:
            parts.append(weights["l1"] * _mean(masked_l1(*images), errors))
        if weights["huber"]:
            parts.append(weights["huber"] * _mean(masked_huber(*images, weights["huber_delta"]), errors))
        if weights["ssim"]:
            parts.append(weights["ssim"] * (1 - _mean(masked_ssim(*images, weights["ssim_sigma_voxels"]), relative)))
        if weights["correlation"]:
            parts.append(weights["correlation"] * (1 - _mean(masked_correlation(*images), relative)))
        return sum(parts[1:], parts[0])


def target_shares(
    truth: Tensor, lungs: Tensor, weights: Mapping[str, Any], targets: Sequence[str]
) -> tuple[Tensor | None, Tensor | None]:
    """How much each target counts, as factors with mean 1 over targets; a model of one target is never changed.

    `equal`: none. `fixed`: `target_weights`, in all parts. `spread`: the errors of a target count inversely to the mean
    absolute deviation of its image in the lungs (so that the target of more contrast does not have more say); SSIM and
    correlation are relative already and stay equal.

    Returns:
        Factors of l1 and huber, and factors of ssim and correlation, that multiply `(batch, target)`; None for 1.

    Raises:
        ValueError: the balance is `fixed` and the targets have no names.
    """
    if weights["balance"] == "equal":
        return None, None
    if weights["balance"] == "fixed":
        if len(targets) != truth.shape[1]:
            raise ValueError(f"{truth.shape[1]} targets need names, not {list(targets)}")
        fixed = truth.new_tensor([weights["target_weights"][target] for target in targets])
        return (fixed / fixed.mean(),) * 2
    level = masked_l1(truth, torch.zeros_like(truth), lungs)[:, :, None, None, None]
    inverse = 1 / masked_l1(truth, level, lungs).clamp_min(LEAST_SPREAD)
    return inverse / inverse.mean(dim=1, keepdim=True), None


def _mean(values: Tensor, shares: Tensor | None) -> Tensor:
    return values.mean() if shares is None else (values * shares).mean()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def masked_l1(prediction: Tensor, truth: Tensor, lungs: Tensor) -> Tensor:
    """Mean absolute error in the lungs, `(batch, target)`."""
    return _masked_mean((prediction - truth).abs(), lungs)


def masked_huber(prediction: Tensor, truth: Tensor, lungs: Tensor, delta: float) -> Tensor:
    """Huber's loss (1964, doi 10.1214/aoms/1177703732) in the lungs over `delta`, `(batch, target)`.

    An error above `delta` counts as in `masked_l1`, less `delta / 2`; a smaller one by its square over `2 delta`.
    """
    error = prediction - truth
    return _masked_mean(F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=delta), lungs)


def masked_correlation(prediction: Tensor, truth: Tensor, lungs: Tensor) -> Tensor:
    """Pearson's correlation in the lungs, `(batch, target)`; 0 where an image is constant."""
    voxels = lungs.sum(dim=(2, 3, 4), keepdim=True).clamp_min(1)

    def centred(image: Tensor) -> Tensor:
        return (image - (image * lungs).sum(dim=(2, 3, 4), keepdim=True) / voxels) * lungs

    x, y = centred(prediction), centred(truth)
    covariance = (x * y).sum(dim=(2, 3, 4))
    scale = torch.sqrt((x * x).sum(dim=(2, 3, 4)) * (y * y).sum(dim=(2, 3, 4)) + EPSILON)
    return covariance / scale


def masked_ssim(prediction: Tensor, truth: Tensor, lungs: Tensor, sigma_voxels: float) -> Tensor:
    """Structural similarity (Wang et al. 2004) in the lungs, three-dimensional, `(batch, target)`; 0 without a lung.

    The Gaussian window is cut off at the lungs' border and renormalised, as in `ct2vq.metrics.similarity.ssim`; images
    range over 0..1.

    Args:
        prediction: images 0..1.
        truth: images 0..1.
        lungs: 1 in the lungs.
        sigma_voxels: standard deviation of the window in voxels.
    """
    windows = [_gaussian_window(size, sigma_voxels).to(lungs) for size in lungs.shape[2:]]
    reached = _blur(lungs, windows)
    weight = torch.where(lungs > 0, reached, torch.ones_like(reached))

    def average(image: Tensor) -> Tensor:
        return _blur(image * lungs, windows) / weight

    x, y = average(prediction), average(truth)
    variances = [(average(image * image) - mean * mean).clamp_min(0) for image, mean in ((prediction, x), (truth, y))]
    covariance = average(prediction * truth) - x * y
    c1, c2 = K1**2, K2**2
    similarity = (2 * x * y + c1) * (2 * covariance + c2)
    return _masked_mean(similarity / ((x * x + y * y + c1) * (sum(variances) + c2)), lungs)


def _masked_mean(values: Tensor, lungs: Tensor) -> Tensor:
    return (values * lungs).sum(dim=(2, 3, 4)) / lungs.sum(dim=(2, 3, 4)).clamp_min(1)


def _blur(image: Tensor, windows: Sequence[Tensor]) -> Tensor:
    """Products with small matrices: exact at the border, and with a deterministic backward on every device."""
    z, y, x = windows
    along_z = torch.matmul(z, image.flatten(3)).view_as(image)
    return torch.matmul(torch.matmul(y, along_z), x)


@cache
def _gaussian_window(length: int, sigma: float) -> Tensor:
    """The symmetric matrix `(length, length)`, float64, that blurs a line; beyond its ends there is nothing."""
    reach = int(SSIM_TRUNCATE * sigma + 0.5)
    shape = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    position = torch.arange(length)
    offset = position[:, None] - position[None, :]
    return torch.where(offset.abs() <= reach, (shape / shape.sum())[(offset + reach).clamp(0, 2 * reach)], 0.0)
