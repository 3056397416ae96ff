"""The two trivial baselines, in the same tables as the networks. A network that does not beat them has learnt nothing.

`mean_map`: the training patients' mean image in lung-normalised coordinates; it never sees the CT's values.
`hu_regression`: ridge regression on smooth functions of HU (averaged at about 10 mm) and position; it sees the CT, but
no context.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ct2vq.files import replacing, write_json
from ct2vq.inputs import CroppedCase, case_folders, read_cropped_case
from ct2vq.lungs import SIDES, normalised_position, smooth_in_lungs

#: bins of the mean map along each axis of a lung's box
BINS = 24
#: spread of the averaging in the mean map, in bins, so that neighbouring patients' voxels meet
MAP_SIGMA_BINS = 1.0
#: full width at half maximum, in mm, of the Gaussian that averages HU
HU_FWHM_MM = 10.0
FWHM_PER_SIGMA = 2.3548
#: degree of the polynomial in (HU, height, depth, laterality); the terms are doubled to differ between the lungs
DEGREE = 3
#: ridge penalty relative to the number of voxels; the terms are standardised
RIDGE = 1e-4


def train_baseline(
    images: Sequence[str], model: Mapping[str, Any], weights: Path, record: Path, simulated: bool
) -> None:
    """Fit a baseline on cropped training cases and write its weights (safetensors) and record.

    Args:
        images: cropped images of the training cases (`results/crop/<case>/...`).
        model: the model's config block.
        weights: file to write.
        record: JSON record to write.
        simulated: whether the patients are simulated; kept with the weights.
    """
    from safetensors.numpy import save_file

    folders = case_folders(images)
    cases = [read_cropped_case(folder, model["targets"]) for folder in folders]
    tensors = FITS[model["kind"]](cases, model["targets"])
    header = {"kind": model["kind"], "targets": list(model["targets"]), "simulated": simulated}
    write_json({**header, "cases": [case.case_id for case in cases], "parameters": _count(tensors)}, record)
    with replacing(weights) as temporary:
        save_file(tensors, temporary, metadata={"ct2vq": json.dumps(header, sort_keys=True)})


def predict_baseline(kind: str, tensors: Mapping[str, np.ndarray], case: CroppedCase, target: str) -> np.ndarray:
    """A baseline's image of a case, float32 `(z, y, x)`, 0..1 in the lungs and 0 outside."""
    predicted = PREDICTIONS[kind](tensors, case, target)
    return np.where(case.inside, np.clip(predicted, 0, 1), 0).astype(np.float32)


def _fit_mean_map(cases: Sequence[CroppedCase], targets: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean of the targets in bins of lung-normalised position, for each lung; patients weigh the same."""
    maps = {}
    for target in targets:
        total = np.zeros((len(SIDES), BINS, BINS, BINS))
        weight = np.zeros_like(total)
        for case in cases:
            for index, side in enumerate(SIDES):
                here = case.lungs == side
                if not here.any():
                    continue  # one lung was removed
                bins = _bins(normalised_position(case.lungs)[:, here])
                shape = (BINS, BINS, BINS)
                flat = np.ravel_multi_index(tuple(np.rint(bins).astype(int)), shape)
                count = np.bincount(flat, minlength=BINS**3).reshape(shape)
                summed = np.bincount(flat, weights=case.targets[target][here], minlength=BINS**3).reshape(shape)
                total[index] += ndimage.gaussian_filter(summed / here.sum(), MAP_SIGMA_BINS, mode="constant")
                weight[index] += ndimage.gaussian_filter(count / here.sum(), MAP_SIGMA_BINS, mode="constant")
        known = weight > weight.max() * 1e-6
        mean = np.where(known, total / np.where(known, weight, 1), 0)
        for index in range(len(SIDES)):
            nearest = ndimage.distance_transform_edt(~known[index], return_distances=False, return_indices=True)
            mean[index] = mean[index][tuple(nearest)]
        maps[f"map_{target}"] = mean.astype(np.float32)
    return maps


def _predict_mean_map(tensors: Mapping[str, np.ndarray], case: CroppedCase, target: str) -> np.ndarray:
    position = normalised_position(case.lungs)
    image = np.zeros(case.lungs.shape, dtype=np.float32)
    for index, side in enumerate(SIDES):
        here = case.lungs == side
        bins = _bins(position[:, here])
        image[here] = ndimage.map_coordinates(tensors[f"map_{target}"][index], bins, order=1, mode="nearest")
    return image


def _bins(position: np.ndarray) -> np.ndarray:
    """Position -1..1 as a continuous bin index."""
    return (position + 1) / 2 * (BINS - 1)


def _fit_hu_regression(cases: Sequence[CroppedCase], targets: Sequence[str]) -> dict[str, np.ndarray]:
    """Ridge regression from sums over cases, so that memory does not grow with the cohort; voxels weigh the same."""
    centre, scale = _moments(cases)
    products: np.ndarray | float = 0.0
    responses = dict.fromkeys(targets, 0.0)
    for case in cases:
        terms = _terms(_features(case), centre, scale)
        design = np.concatenate([np.ones((len(terms), 1)), terms], axis=1)
        products = products + design.T @ design
        for target in targets:
            responses[target] = responses[target] + design.T @ case.targets[target][case.inside].astype(np.float64)
    voxels = products[0, 0]
    middle = products[0, 1:] / voxels
    covariance = products[1:, 1:] / voxels - np.outer(middle, middle)
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    penalised = covariance / np.outer(spread, spread) + RIDGE * np.eye(len(spread))
    tensors = {"centre": centre, "scale": scale, "middle": middle, "spread": spread}
    for target in targets:
        mean = responses[target][0] / voxels
        covariances = (responses[target][1:] / voxels - middle * mean) / spread
        tensors[f"coefficients_{target}"] = np.linalg.solve(penalised, covariances)
        tensors[f"mean_{target}"] = np.array([mean])
    return tensors


def _moments(cases: Sequence[CroppedCase]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of HU and position over all lung voxels of all cases."""
    sums = sum(np.stack([f.sum(axis=1), (f**2).sum(axis=1), np.full(len(f), f.shape[1])]) for f in map(_smooth, cases))
    mean = sums[0] / sums[2]
    return mean, np.sqrt(np.maximum(sums[1] / sums[2] - mean**2, 1e-12))


def _predict_hu_regression(tensors: Mapping[str, np.ndarray], case: CroppedCase, target: str) -> np.ndarray:
    design = _terms(_features(case), tensors["centre"], tensors["scale"])
    standardised = (design - tensors["middle"]) / tensors["spread"]
    image = np.zeros(case.lungs.shape, dtype=np.float32)
    image[case.inside] = standardised @ tensors[f"coefficients_{target}"] + tensors[f"mean_{target}"][0]
    return image


def _smooth(case: CroppedCase) -> np.ndarray:
    """HU averaged in the lungs, height, depth and laterality of each lung voxel, `(4, voxel)`."""
    sigma = HU_FWHM_MM / FWHM_PER_SIGMA / case.spacing_mm
    hu = smooth_in_lungs(case.hu, case.inside, sigma)[case.inside]
    position = normalised_position(case.lungs)[:, case.inside]
    return np.concatenate([hu[None], position]).astype(np.float64)


def _features(case: CroppedCase) -> np.ndarray:
    """The smooth features and the side (1 right, -1 left) of each lung voxel, `(5, voxel)`."""
    side = np.where(case.lungs[case.inside] == SIDES[0], 1.0, -1.0)
    return np.concatenate([_smooth(case), side[None]])


def _terms(features: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Polynomial terms of the standardised features without the constant, once as they are and once by side."""
    smooth, side = features[:-1], features[-1]
    standardised = (smooth - centre[:, None]) / scale[:, None]
    powers = [
        np.prod(standardised[list(chosen)], axis=0)
        for degree in range(1, DEGREE + 1)
        for chosen in combinations_with_replacement(range(len(standardised)), degree)
    ]
    return np.stack([side, *powers, *(side * power for power in powers)], axis=1)


def _count(tensors: Mapping[str, np.ndarray]) -> int:
    return int(sum(tensor.size for tensor in tensors.values()))


FITS = {"mean_map": _fit_mean_map, "hu_regression": _fit_hu_regression}
PREDICTIONS = {"mean_map": _predict_mean_map, "hu_regression": _predict_hu_regression}
