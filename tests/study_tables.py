"""Tables of a whole study as the stages `evaluate` and `compare` write them, made of random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.lungs import LOBES as LOBE_NAMES
from ct2vq.lungs import THIRDS as THIRD_NAMES

TARGETS = ("perfusion", "ventilation")
THIRDS, LOBES = tuple(THIRD_NAMES.values()), tuple(LOBE_NAMES.values())
SHARES = {"right": 0.54, "left": 0.46} | dict.fromkeys(THIRDS, 1 / 6) | dict.fromkeys(LOBES, 1 / 5)
DIAGNOSES = ("normal", "emphysema", "embolism", "obstruction", "tumour", "radiation")
#: as `ct2vq.evaluate` writes them
METRIC_COLUMNS = "case_id model target metric region definition reference value unit reason".split()  # noqa: SIM905
FIVE_MODELS = {
    "ddran": ("DDRAN", TARGETS),
    "ran_perfusion": ("RAN (Q)", TARGETS[:1]),
    "ran_ventilation": ("RAN (V)", TARGETS[1:]),
    "mean_map": ("mean map", TARGETS),
    "hu_regression": ("HU regression", TARGETS),
}
BASELINES = ("mean_map", "hu_regression")
SSIM = "3D gaussian sigma 1.5 voxels, range 1.0, K1 0.01, K2 0.03, masked"
OWN = (SSIM, None, "p40")


@dataclass
class StudyTables:
    """Tables of a study with `cases` cases, one a patient.

    Attributes:
        cases: number of cases.
        models: label and targets of each model.
        simulated: whether ceilings and truth are there.
    """

    cases: int = 12
    models: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=lambda: FIVE_MODELS)
    simulated: bool = True

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(5)
        self.names = [f"sim{number:03d}" for number in range(1, self.cases + 1)]
        self.patients = {name: f"patient{name[3:]}" for name in self.names}
        self.diagnoses = {name: DIAGNOSES[i % len(DIAGNOSES)] for i, name in enumerate(self.names)}
        self.labels = {name: label for name, (label, _) in self.models.items()}
        self.networks = [name for name in self.models if name not in BASELINES]
        self.quality = {name: 0.72 - 0.02 * i for i, name in enumerate(self.models)}
        self.ease = dict(zip(self.names, self.generator.normal(0, 0.05, self.cases), strict=True))

    def of_target(self, target: str) -> list[str]:
        return [name for name, (_, targets) in self.models.items() if target in targets]

    @property
    def arms(self) -> list[str]:
        both = [name for name, (_, targets) in self.models.items() if len(targets) == 2]
        return both + (["ran"] if "ran_perfusion" in self.models else [])

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        return [("ddran", f"ran_{t}", t) for t in TARGETS if {"ddran", f"ran_{t}"} <= set(self.models)]

    def draw(self, mean: float, size: int, spread: float = 0.03) -> np.ndarray:
        return mean + np.array(list(self.ease.values()))[:size] + self.generator.normal(0, spread, size)

    def metrics(self) -> pd.DataFrame:
        """`results/evaluate/metrics.tsv`."""
        ceilings = {"noise_ceiling": 0.93, "visible_ceiling": 0.85} if self.simulated else {}
        blocks = []
        for target in TARGETS:
            for model, mean in ({m: self.quality[m] for m in self.of_target(target)} | ceilings).items():
                blocks += self._agreement(model, target, mean)
                blocks += self._curve(model, target, mean)
                blocks += self._shares(model, target)
        blocks += [block for arm in self.arms for block in self._both(arm)]
        return pd.concat(blocks, ignore_index=True)[METRIC_COLUMNS]

    def block(self, model: str, target: str, metric: str, values: Any, **others: Any) -> pd.DataFrame:
        row = {"model": model, "target": target, "metric": metric, "region": "lungs", "definition": None}
        row |= {"reference": "spect", "unit": "1", "reason": None} | others
        return pd.DataFrame({"case_id": self.names, "value": values, **row})

    def _agreement(self, model: str, target: str, mean: float) -> list[pd.DataFrame]:
        scale = {"ssim": (0.9, SSIM), "spearman": (1.0, None), "pearson": (1.02, None), "mae": (0.2, None)}
        scale |= {"rmse": (0.26, None), "psnr": (26.0, None)}
        blocks = []
        for metric, (factor, definition) in scale.items():
            unit = "dB" if metric == "psnr" else "1"
            for region in ("lungs", "core"):
                values = factor * self.draw(mean if region == "lungs" else mean - 0.05, self.cases)
                blocks.append(
                    self.block(model, target, metric, values, definition=definition, region=region, unit=unit)
                )
        for name in ("p40", "p25_p75"):
            for metric, factor, chance in (("dice_low", 0.95, 0.4), ("dice_high", 1.1, 0.6)):
                blocks.append(self.block(model, target, metric, factor * self.draw(mean, self.cases), definition=name))
                blocks.append(self.block(model, target, f"{metric}_chance", chance, definition=name))
        return blocks

    def _curve(self, model: str, target: str, mean: float) -> list[pd.DataFrame]:
        blocks = []
        for percent in range(10, 91, 10):
            name = f"curve_p{percent}"
            for metric, chance in (("dice_low", percent / 100), ("dice_high", 1 - percent / 100)):
                values = chance + (1 - chance) * np.clip(self.draw(mean, self.cases), 0, 1) * 0.7
                blocks.append(self.block(model, target, metric, values, definition=name))
                blocks.append(self.block(model, target, f"{metric}_chance", chance, definition=name))
        return blocks

    def _shares(self, model: str, target: str) -> list[pd.DataFrame]:
        blocks = []
        for group in (("right", "left"), THIRDS, LOBES):
            mean = np.array([SHARES[region] for region in group])[:, None]
            truth = np.abs(mean * (1 + self.generator.normal(0, 0.25, (len(group), self.cases))))
            truth /= truth.sum(axis=0)
            image = np.abs(truth + self.generator.normal(0, 0.02, truth.shape))
            image /= image.sum(axis=0)
            for region, a, b in zip(group, image, truth, strict=True):
                blocks.append(self.block(model, target, "share_image", a, region=region))
                blocks.append(self.block(model, target, "share_reference", b, region=region))
        return blocks

    def _both(self, arm: str) -> list[pd.DataFrame]:
        rule = "low below 0.5 of the upper part's mean"
        sick = {"mismatch": ("embolism",), "matched": ("emphysema", "obstruction"), "reverse": ("tumour",)}
        blocks = []
        for kind, diagnoses in sick.items():
            has = np.array([self.diagnoses[name] in diagnoses for name in self.names])
            reference = np.where(has, 400, 30) * self.generator.gamma(2, 0.5, self.cases)
            image = np.maximum(0.6 * reference + self.generator.normal(0, 30, self.cases), 0)
            more = {"definition": rule, "unit": "mL"}
            blocks.append(self.block(arm, "vq", f"{kind}_volume_image", image, **more))
            blocks.append(self.block(arm, "vq", f"{kind}_volume_reference", reference, **more))
        return blocks

    def pairs_table(self) -> pd.DataFrame:
        """`results/compare/pairs.tsv`."""
        rows = []
        for first, second, target in self.pairs:
            for metric in ("ssim", "spearman", "dice_low", "dice_high"):
                definition = "p40" if metric.startswith("dice") else None
                rows.append((first, second, target, metric, "lungs", definition, "spect", self.cases, 0.01, 0.04))
        names = "first second target metric region definition reference n hodges_lehmann p_holm"
        return pd.DataFrame(rows, columns=names.split())

    def density(self) -> pd.DataFrame:
        """All of `results/evaluate/density/<case>.tsv`."""
        tables = []
        for target in TARGETS:
            for model in self.of_target(target):
                x = np.clip(self.generator.beta(4, 3, (self.cases, 4000)), 0, 1)
                y = np.clip(x + self.generator.normal(0, 0.15, x.shape), 0, 1)
                for name, a, b in zip(self.names, x, y, strict=True):
                    counts = np.histogram2d(a, b, bins=40, range=((0, 1), (0, 1)))[0]
                    i, j = np.nonzero(counts)
                    table = {"case_id": name, "model": model, "target": target, "image_bin": i, "reference_bin": j}
                    tables.append(pd.DataFrame(table | {"voxels": counts[i, j].astype(int)}))
        return pd.concat(tables, ignore_index=True)

    def passes(self) -> pd.DataFrame:
        """`results/compare/passes.tsv`."""
        rows = []
        for target in TARGETS:
            for i, model in enumerate(self.of_target(target)):
                for metric, threshold in (("ssim", 0.6), ("spearman", 0.7), ("dice_low", 0.65), ("all", None)):
                    share = max(0.8 - 0.15 * i - (0.2 if metric == "all" else 0), 0.0)
                    passed = round(share * self.cases)
                    low, high = wilson(passed, self.cases)
                    share = passed / self.cases
                    rows.append((model, target, metric, "at least", threshold, self.cases, passed, share, low, high))
        names = "model target metric direction threshold n passed share wilson_low wilson_high"
        return pd.DataFrame(rows, columns=names.split())

    def sensitivity(self) -> pd.DataFrame:
        """`results/compare/sensitivity.tsv`."""
        rows = []
        for first, second, target in self.pairs:
            for spect in ("study", "mean_normaliser", "no_hot_spots", "rigid"):
                for region in ("lungs", "core"):
                    for metric, names in (
                        ("ssim", [SSIM]),
                        ("spearman", [None]),
                        ("dice_low", ["p40", "p25_p75", "activity"]),
                        ("dice_high", ["p40", "p25_p75", "activity"]),
                    ):
                        for name in names:
                            effect = self.generator.normal(0.01, 0.02)
                            half = abs(self.generator.normal(0.02, 0.01)) + 0.005
                            favours = "first" if effect > 0 else "second"
                            own = "yes" if (spect, region, name) in (("study", "lungs", n) for n in OWN) else "no"
                            row = (first, second, target, metric, region, name, spect, "spect", own, self.cases)
                            rows.append((*row, effect, effect - half, effect + half, 0.1, favours))
        names = (
            "first second target metric region definition spect reference own n hodges_lehmann ci_low ci_high p favours"
        )
        return pd.DataFrame(rows, columns=names.split())

    def curves(self) -> list[tuple[str, str, str, str, float]]:
        """Level, model, target, definition and quality of every ROC curve."""
        found = [
            (level, model, target, definition, self.quality[model])
            for level in ("voxel", "region")
            for target in TARGETS
            for model in self.of_target(target)
            for definition in ("p40", "percent_max")
        ]
        if self.arms:
            for name in ("embolism", "obstructive"):
                found += [("case", model, "vq", name, self.quality.get(model, 0.66)) for model in self.arms]
                found.append(("case", "spect", "vq", name, 0.9))
        return found

    def roc(self) -> pd.DataFrame:
        """`results/compare/roc.tsv`."""
        tables = []
        for level, model, target, definition, quality in self.curves():
            fpr = np.linspace(0, 1, 100 if level != "case" else self.cases + 1)
            tpr = fpr ** (1 / quality - 1)
            prevalence = 0.4
            positive = prevalence * tpr + (1 - prevalence) * fpr
            precision = np.divide(prevalence * tpr, positive, out=np.ones_like(tpr), where=positive > 0)
            row = {
                "level": level,
                "model": model,
                "target": target,
                "definition": definition,
                "reference": "diagnosis" if level == "case" else "spect",
            }
            numbers = {"threshold": 1 - fpr, "fpr": fpr, "tpr": tpr, "precision": precision, "recall": tpr}
            tables.append(pd.DataFrame(row | numbers))
        return pd.concat(tables, ignore_index=True)

    def detection(self) -> pd.DataFrame:
        """`results/compare/detection.tsv`."""
        rows = []
        for level, model, target, definition, quality in self.curves():
            row = {"level": level, "model": model, "target": target, "definition": definition}
            row |= {"reference": "diagnosis" if level == "case" else "spect"}
            row |= {"n_patients": self.cases, "prevalence": 0.4, "threshold": 0.5, "reason": None}
            for name in ("auroc", "auprc", "sensitivity", "specificity"):
                row |= {name: quality, f"{name}_low": quality - 0.06, f"{name}_high": min(quality + 0.06, 1)}
            rows.append(row)
        return pd.DataFrame(rows)

    def calibration(self) -> pd.DataFrame:
        """`results/compare/calibration.tsv`."""
        tables = []
        for target in TARGETS:
            for model in self.of_target(target):
                row = {"model": model, "target": target, "reference": "spect"}
                x = np.linspace(0.1, 0.9, 10)
                mean = 0.1 + self.quality[model] * x
                numbers = {"bin": range(10), "image_mean": x, "value": mean, "voxels": 5000}
                numbers |= {"value_low": mean - 0.04, "value_high": mean + 0.04}
                tables.append(pd.DataFrame(row | {"definition": None, "kind": "reference_mean"} | numbers))
                for name in ("p40", "percent_max"):
                    low = np.clip(1 - mean, 0, 1)
                    numbers |= {"value": low, "value_low": low - 0.05, "value_high": low + 0.05}
                    tables.append(pd.DataFrame(row | {"definition": name, "kind": "share_low"} | numbers))
                for kind, value in (("slope", self.quality[model]), ("intercept", 0.1)):
                    fit = row | {"kind": kind, "value": value, "value_low": value - 0.1, "value_high": value + 0.1}
                    tables.append(pd.DataFrame([fit]))
        return pd.concat(tables, ignore_index=True)

    def defects(self) -> pd.DataFrame:
        """`results/compare/defects.tsv`."""
        rows = []
        seen = [("spect", "all", None), *([("truth", "all", None)] if self.simulated else [])]
        if self.simulated:
            seen += [("truth", "embolism", None), ("truth", "embolism", "yes"), ("truth", "embolism", "no")]
        for target in TARGETS:
            for model in self.of_target(target):
                for reference, kind, visible in seen:
                    found = self.quality[model] - (0.3 if visible == "no" else 0)
                    row = {"model": model, "target": target, "reference": reference, "kind": kind, "visible": visible}
                    row |= {
                        "n_patients": self.cases,
                        "n_cases": self.cases,
                        "n_defects": 20,
                        "found": round(20 * found),
                    }
                    row |= {"sensitivity": found, "sensitivity_low": found - 0.15, "sensitivity_high": found + 0.15}
                    rows.append(row)
                false = {"model": model, "target": target, "reference": "spect", "kind": "false", "n_cases": self.cases}
                ends = {"false_per_case_low": 0.8, "false_per_case_high": 1.9}
                rows.append(false | {"false_per_case": 2 - self.quality[model]} | ends)
        return pd.DataFrame(rows)

    def quality_table(self) -> pd.DataFrame:
        """`results/register/quality.tsv`."""
        figures = {
            "dice_before": (0.84, 0.04, "1"),
            "dice_after": (0.96, 0.02, "1"),
            "lung_detail_before": (0.2, 0.06, "1"),
            "lung_detail_after": (0.7, 0.08, "1"),
            "mutual_information_before": (0.8, 0.1, "nat"),
            "mutual_information_after": (1.2, 0.1, "nat"),
            "folding_percent": (0.0, 0.0, "%"),
            "jacobian_p1": (0.6, 0.05, "1"),
            "jacobian_p99": (1.5, 0.1, "1"),
            "inverse_consistency_p95_mm": (0.5, 0.1, "mm"),
            "displacement_p95_mm": (24, 6, "mm"),
            "tre_mean_before_mm": (16, 4, "mm"),
            "tre_mean_after_mm": (3, 0.6, "mm"),
        }
        of_spect = {
            "counts_inside_before": (0.7, 0.05, "1"),
            "counts_inside_after": (0.85, 0.04, "1"),
            "content_shift_mm": (6, 3, "mm"),
        }
        blocks = []
        for targets, chosen in (((None,), figures), (TARGETS, of_spect)):
            for target in targets:
                for name, (mean, sd, unit) in chosen.items():
                    values = self.generator.normal(mean, sd, self.cases)
                    blocks.append(self.block(None, target, name, values, unit=unit, reference="attenuation_ct"))
        return pd.concat(blocks, ignore_index=True)[METRIC_COLUMNS[:-1]]

    def history(self, epochs: int = 30) -> pd.DataFrame:
        """`results/train/<model>/fold<k>/history.tsv`."""
        epoch = np.arange(1, epochs + 1)
        loss = 1 / np.sqrt(epoch) + self.generator.normal(0, 0.02, epochs)
        rs = 0.7 - 0.4 / epoch
        table = {"epoch": epoch, "loss": loss, "validation_loss": loss * 1.2, "validation_spearman": rs}
        return pd.DataFrame(table)

    def folds(self) -> pd.DataFrame:
        """`results/split/folds.tsv`."""
        table = {"case_id": self.names, "patient_id": list(self.patients.values())}
        return pd.DataFrame(table | {"fold": [i % 5 for i in range(self.cases)]})


def wilson(passed: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    share = passed / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half
