"""Whether a synthesised value means what it says: the SPECT's mean value, and how often SPECT is low, beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ct2vq.detect.figures_of_merit import ratio
from ct2vq.detect.resampling import Resamples, Support, told_bounds
from ct2vq.detect.scored import CENTRES

COLUMNS = (
    "definition",
    "kind",
    "bin",
    "image_mean",
    "value",
    "value_low",
    "value_high",
    "voxels",
    "n_patients",
    "reason",
)


def calibrate_values(voxels: np.ndarray, sums: np.ndarray, settings: Mapping[str, Any], seed: int) -> list[dict]:
    """The reference's mean in groups of equally many voxels by synthesised value, and the line through all voxels.

    Slope and intercept are those of weighted least squares of the reference on the synthesised value over the value
    bins, weighted by voxels: the least squares over all voxels, each at its bin's centre. Perfect calibration has
    slope 1 and intercept 0.

    Args:
        voxels: `(P, bins)` weighted voxels of each patient at each synthesised value.
        sums: `(P, bins)` sums of the reference there.
        settings: config block `detect`.
        seed: seed of the bootstrap.

    Returns:
        Rows of kind `reference_mean`, then `slope` and `intercept`; columns as in `COLUMNS`.
    """
    resamples = Resamples.of(len(voxels), settings, seed)
    groups = equal_groups(voxels.sum(axis=0), settings["deciles"])
    rows = _grouped(voxels, sums, groups, resamples, share=False)
    rows = [{"definition": "", "kind": "reference_mean"} | row for row in rows]
    moments = line_moments(voxels, sums)
    estimates, bounds = line(moments.sum(axis=0)), resamples.intervals(line, moments)
    total = {"voxels": voxels.sum(), "n_patients": len(voxels)}
    for kind, estimate in estimates.items():
        low, high = told_bounds(float(estimate), bounds[kind], Support(len(voxels)), resamples.confidence)
        missing = "" if np.isfinite(estimate) else "all synthesised values lie in one bin"
        row = {"definition": "", "kind": kind, "value": float(estimate), "value_low": low, "value_high": high}
        rows.append(row | total | {"reason": missing})
    return rows


def calibrate_share(
    low: np.ndarray, other: np.ndarray, definition: str, settings: Mapping[str, Any], seed: int
) -> list[dict]:
    """Reliability: the observed share of low voxels in bins of the synthesised value, each of equal width.

    Args:
        low: `(P, bins)` weighted voxels of each patient that are low in the reference.
        other: the same of those that are not.
        definition: what low means.
        settings: config block `detect`.
        seed: seed of the bootstrap.
    """
    groups = np.floor(CENTRES * settings["value_bins"]).astype(int)
    rows = _grouped(low + other, low, groups, Resamples.of(len(low), settings, seed), share=True)
    return [{"definition": definition, "kind": "share_low"} | row for row in rows]


def equal_groups(voxels: np.ndarray, number: int) -> np.ndarray:
    """Group 0..number-1 of each value bin, so that groups hold equally many voxels as far as whole bins allow."""
    total = voxels.sum()
    middle = np.cumsum(voxels) - voxels / 2
    return np.minimum((middle / total * number).astype(int), number - 1) if total else np.zeros(voxels.size, int)


def line_moments(voxels: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """What weighted least squares needs of each patient `(P, 5)`: sums of 1, x, x^2, y and xy over voxels."""
    terms = [voxels, voxels * CENTRES, voxels * CENTRES**2, sums, sums * CENTRES]
    return np.stack([term.sum(axis=-1) for term in terms], axis=-1)


def line(moments: np.ndarray) -> dict[str, np.ndarray]:
    """Slope and intercept from summed moments `(..., 5)`; missing where all voxels share one value."""
    n, x, xx, y, xy = np.moveaxis(moments, -1, 0)
    spread = n * xx - x * x
    # a variance below round-off is none
    slope = ratio(n * xy - x * y, np.where(spread > 1e-12 * n * n, spread, 0))
    return {"slope": slope, "intercept": ratio(y - slope * x, n)}


def _grouped(
    weights: np.ndarray, sums: np.ndarray, groups: np.ndarray, resamples: Resamples, *, share: bool
) -> list[dict]:
    """Mean of `sums` in each group of value bins that holds anything, with its interval; a share or any other mean."""
    filled = [group for group in np.unique(groups) if weights[:, groups == group].sum() > 0]
    member = np.stack([groups == group for group in filled], axis=1).astype(float)
    in_group, sum_in_group = weights @ member, sums @ member
    bounds = resamples.intervals(lambda n, total: {"mean": ratio(total, n)}, in_group, sum_in_group)["mean"]
    rows = []
    for index, group in enumerate(filled):
        here, total = in_group[:, index], sum_in_group[:, index]
        voxels, patients = here.sum(), int((here > 0).sum())
        mean = float(total.sum() / voxels)
        support = Support.of_share(total, here) if share else Support(patients)
        low, high = told_bounds(mean, bounds[:, index], support, resamples.confidence)
        centre = float((weights @ (CENTRES * member[:, index])).sum() / voxels)
        row = {"bin": int(group) + 1, "image_mean": centre, "value": mean, "value_low": low, "value_high": high}
        rows.append(row | {"voxels": voxels, "n_patients": patients, "reason": ""})
    return rows
