"""How far images agree with their references in every region, as rows of the table of metrics."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.regions import CORE, CROP, LUNG_NAMES, PARTS, Regions
from ct2vq.metrics.agreement import mae, pearson, psnr, rmse, spearman
from ct2vq.metrics.similarity import LocalMoments, SsimRegion
from ct2vq.metrics.thresholds import Overlap, Threshold, curve_thresholds, functional_overlap, read_thresholds
from ct2vq.metrics.value import RegionValues, Value, missing
from ct2vq.names import LUNGS, SPECT

#: regions of every threshold's definition; smaller ones hold too few voxels for more than the summary's
WIDE = (LUNGS, CORE, *LUNG_NAMES.values())
#: regions of references other than SPECT: what the truth tells of parts, the ceilings' rows against SPECT tell too
KNOWN_TRUTH = (LUNGS, CORE)
LOW_HIGH = ("low", "high")

Row = dict[str, Any]


def score_case(case: CaseImages, settings: Mapping[str, Any]) -> list[Row]:
    """Every metric of every model, target and reference of a case; targets by themselves.

    Args:
        case: images on the evaluation grid.
        settings: config block `evaluate`.

    Returns:
        Rows with the columns of `results/evaluate/metrics.tsv`, pair by pair and region by region.
    """
    models, rows = case.models(), []
    for target in {target: None for _, target in models}:
        scores = PairScores(case.regions, settings)
        # an image is prepared once for each region, whatever its names are: a ceiling is its truth
        scores.add({key: image for key, image in (models | dict(case.images)).items() if key[1] == target})
        pairs = [pair for pair in case.pairs() if pair[1] == target]
        scored = scores.rows(
            {
                ((model, target), (reference, target)): None if reference == SPECT else KNOWN_TRUTH
                for model, _, reference in pairs
            }
        )
        for model, _, reference in pairs:
            known = {"case_id": case.case_id, "model": model, "target": target, "reference": reference}
            rows += [known | row for row in scored[(model, target), (reference, target)]]
    return rows


def compare_images(
    image: np.ndarray, reference: np.ndarray, regions: Regions, settings: Mapping[str, Any]
) -> list[Row]:
    """All metrics of an image against its reference in every region, as rows without case, model and reference.

    Args:
        image: synthesised image `(z, y, x)`, 0 outside the lungs.
        reference: what it is compared with, on the same grid.
        regions: parts of the lungs on this grid.
        settings: config block `evaluate`.
    """
    scores = PairScores(regions, settings)
    scores.add({"image": image, "reference": reference})
    pair = ("image", "reference")
    return scores.rows({pair: None})[pair]


class PairScores:
    """Scores pairs of images region by region, so that what pairs share is computed once and soon forgotten."""

    def __init__(self, regions: Regions, settings: Mapping[str, Any]) -> None:
        """Take the regions and config block `evaluate`."""
        self.regions, self.settings = regions, settings
        self.images: dict[Hashable, np.ndarray] = {}
        self.thresholds = read_thresholds(settings["function_thresholds"])
        self.curve = curve_thresholds(settings["threshold_curve"])

    def add(self, images: Mapping[Hashable, np.ndarray]) -> None:
        """Take images `(z, y, x)` on the regions' grid, by any names; one array may have several."""
        self.images |= images

    def rows(
        self, pairs: Mapping[tuple[Hashable, Hashable], Sequence[str] | None]
    ) -> dict[tuple[Hashable, Hashable], list[Row]]:
        """Rows (metric, region, definition, value, unit, reason) of each pair.

        Args:
            pairs: names of image and reference, and the regions in which they are compared; None for all.
        """
        rows: dict[tuple[Hashable, Hashable], list[Row]] = {pair: [] for pair in pairs}
        lungs = {name: RegionValues.of(image, self.regions.inside) for name, image in self._distinct(pairs).items()}
        for region, mask in self.regions.masks.items():
            part = mask[self.regions.inside]
            here = _Region(region, mask, self.regions.voxel_ml, self.settings)
            for name, values in lungs.items():
                here.take(name, self.images[name], values if region == LUNGS else values.within(part), values)
            for pair, wanted in pairs.items():
                if wanted is None or region in wanted:
                    rows[pair] += here.compare(*map(self._name_of, pair), self._definitions(region))
        self._crop(pairs, rows)
        return rows

    def _crop(self, pairs: Mapping, rows: dict) -> None:
        """SSIM over the whole crop, beside other work; the background counts."""
        everywhere = SsimRegion(np.ones(self.regions.inside.shape, dtype=bool), self.settings["ssim"]["sigma_voxels"])
        moments = {name: everywhere.moments(image) for name, image in self._distinct(pairs).items()}
        for pair in pairs:
            value = everywhere.compare(*(moments[self._name_of(name)] for name in pair), **_constants(self.settings))
            rows[pair].append(fact("ssim", CROP, ssim_definition(self.settings, masked=False), value))

    def _definitions(self, region: str) -> tuple[Sequence[Threshold], Sequence[Threshold]]:
        """The thresholds of a region, and those of the curve."""
        return self.thresholds if region in WIDE else self.thresholds[:1], self.curve if region == LUNGS else ()

    def _distinct(self, pairs: Mapping) -> dict[Hashable, np.ndarray]:
        names = dict.fromkeys(self._name_of(name) for pair in pairs for name in pair)
        return {name: self.images[name] for name in names}

    def _name_of(self, name: Hashable) -> Hashable:
        """The first name of an array that has several."""
        return next(other for other, image in self.images.items() if image is self.images[name])


@dataclass(frozen=True)
class _Taken:
    """An image in one region."""

    values: RegionValues
    moments: LocalMoments
    share: Value
    relative: Value


class _Region:
    """One region in which many images are compared."""

    def __init__(self, name: str, mask: np.ndarray, voxel_ml: float, settings: Mapping[str, Any]) -> None:
        self.name, self.voxel_ml, self.settings = name, voxel_ml, settings
        self.ssim = SsimRegion(mask, settings["ssim"]["sigma_voxels"])
        self.taken: dict[Hashable, _Taken] = {}

    def take(self, name: Hashable, image: np.ndarray, values: RegionValues, lungs: RegionValues) -> None:
        """Prepare an image: its values in this region and in the lungs."""
        reason = "empty region" if not values.size else no_distribution(lungs)
        if reason:
            share = relative = missing(reason)
        else:
            share = Value(float(values.values.sum() / lungs.values.sum()))
            relative = Value(float(values.values.mean() / lungs.values.mean()))
        self.taken[name] = _Taken(values, self.ssim.moments(image, values), share, relative)

    def compare(
        self, image: Hashable, reference: Hashable, definitions: tuple[Sequence[Threshold], Sequence[Threshold]]
    ) -> Iterator[Row]:
        """Rows of a pair."""
        x, y = self.taken[image], self.taken[reference]
        for metric, (definition, value, unit) in self._agreement(x, y).items():
            yield fact(metric, self.name, definition, value, unit)
        thresholds, curve = definitions
        for threshold in (*thresholds, *curve):
            for part in LOW_HIGH:
                overlap = functional_overlap(x.values, y.values, threshold, low=part == "low")
                yield fact(f"dice_{part}", self.name, threshold.name, overlap.dice)
                yield fact(f"dice_{part}_chance", self.name, threshold.name, overlap.chance)
                if threshold not in curve:
                    yield from self._volumes(part, threshold.name, overlap)
        if self.name in PARTS:
            yield from beside("share", self.name, "", x.share, y.share, "1")
        if self.name != LUNGS:
            yield fact("relative_image", self.name, "", x.relative)
            yield fact("relative_reference", self.name, "", y.relative)

    def _agreement(self, x: _Taken, y: _Taken) -> dict[str, tuple[str, Value, str]]:
        """Definition, value and unit of each metric that compares voxel with voxel."""
        window = self.settings["ssim"]
        similar = self.ssim.compare(x.moments, y.moments, **_constants(self.settings))
        noise = psnr(x.values, y.values, data_range=window["data_range"])
        return {
            "ssim": (ssim_definition(self.settings, masked=True), similar, "1"),
            "spearman": ("", spearman(x.values, y.values), "1"),
            "pearson": ("", pearson(x.values, y.values), "1"),
            "mae": ("", mae(x.values, y.values), "1"),
            "rmse": ("", rmse(x.values, y.values), "1"),
            "psnr": ("", noise, "dB"),
        }

    def _volumes(self, part: str, definition: str, overlap: Overlap) -> Iterator[Row]:
        voxels = next(iter(self.taken.values())).values.size
        ml = [
            missing(overlap.dice.reason) if np.isnan(fraction) else Value(fraction * voxels * self.voxel_ml)
            for fraction in (overlap.image_fraction, overlap.reference_fraction)
        ]
        yield from beside(f"volume_{part}", self.name, definition, *ml, "mL")


def beside(metric: str, region: str, definition: str, image: Value, reference: Value, unit: str) -> Iterator[Row]:
    """Three rows: a quantity of the image, of its reference, and image less reference."""
    reason = image.reason or reference.reason
    error = missing(reason) if reason else Value(image.number - reference.number)
    for whose, value in (("image", image), ("reference", reference), ("error", error)):
        yield fact(f"{metric}_{whose}", region, definition, value, unit)


def no_distribution(lungs: RegionValues) -> str:
    """Why an image says nothing of where function is, or an empty string.

    A constant image would give each part its share of the volume, which no image said.
    """
    if lungs.problem in ("", "constant") and lungs.values.sum() <= 0:
        return "no function in the lungs"
    return "constant in the lungs" if lungs.problem == "constant" else lungs.problem


def ssim_definition(settings: Mapping[str, Any], *, masked: bool) -> str:
    """The parameters of SSIM in words."""
    window = settings["ssim"]
    return (
        f"3D gaussian sigma {window['sigma_voxels']} voxels, range {window['data_range']}, "
        f"K1 {window['k1']}, K2 {window['k2']}, {'masked' if masked else 'whole crop'}"
    )


def _constants(settings: Mapping[str, Any]) -> dict[str, float]:
    return {key: settings["ssim"][key] for key in ("data_range", "k1", "k2")}


def fact(metric: str, region: str, definition: str, value: Value, unit: str = "1") -> Row:
    """A row of the table without case, model, target and reference."""
    return {
        "metric": metric,
        "region": region,
        "definition": definition,
        "value": value.number,
        "unit": unit,
        "reason": value.reason,
    }
