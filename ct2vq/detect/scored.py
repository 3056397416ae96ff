"""Scores of what is positive and what is not, as counts of each patient; read case by case, never all voxels at once.

The unit is the patient: each of a patient's cases counts with the weight 1 / (number of the patient's cases), so that a
patient who was imaged twice weighs as much as one who was imaged once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ct2vq.errors import Ct2vqError
from ct2vq.files import read_tsv
from ct2vq.lungs import LOBES, THIRDS
from ct2vq.names import LUNGS, SPECT
from ct2vq.values import case_means, read_metrics

#: value bins of the tables of stage `evaluate`, over 0..1
VALUE_BINS = 100
CENTRES = (np.arange(VALUE_BINS) + 0.5) / VALUE_BINS
#: regions of a lung that are judged together
REGION_GROUPS = {"thirds": tuple(THIRDS.values()), "lobes": tuple(LOBES.values())}


@dataclass(frozen=True)
class Scored:
    """Weighted counts of positives and negatives at each value of a score.

    Attributes:
        values: `(K,)` scores, ascending; the lower, the likelier positive.
        positive, negative: `(P, K)` weighted counts of each patient.
        folds: `(P,)` test fold of each patient.
        number: voxels, regions or cases that were scored, before weighting.
        number_positive: those of them that are positive.
        missing: those that could not be scored; of voxels the cases without any.
        sign: what `values` were multiplied with, -1 where it is large figures that are likelier positive.
        reason: why there is nothing, if it is known.
    """

    values: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    folds: np.ndarray
    number: int
    number_positive: int
    missing: int = 0
    sign: int = 1
    reason: str = ""

    @classmethod
    def nothing(cls, reason: str, missing: int = 0) -> Scored:
        """No scores, with the reason."""
        return cls(np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, int), 0, 0, missing, reason=reason)


@dataclass(frozen=True)
class Members:
    """Which patient each case belongs to, and the fold in which that patient is tested."""

    patients: Mapping[str, str]
    folds: Mapping[str, int]

    @classmethod
    def read(cls, table: Path) -> Members:
        """Read the table of stage `split`.

        Raises:
            Ct2vqError: a patient stands in two folds.
        """
        rows = read_tsv(table)
        several = rows.groupby("patient_id")["fold"].nunique()
        if (several > 1).any():
            patient = several.index[several > 1][0]
            raise Ct2vqError(f"patient {patient} stands in more than one fold", path=table, key="fold")
        folds = dict(zip(rows["patient_id"], map(int, rows["fold"]), strict=True))
        return cls(dict(zip(rows["case_id"], rows["patient_id"], strict=True)), folds)

    def patient(self, case: str) -> str:
        """The patient of a case.

        Raises:
            Ct2vqError: the case has no fold.
        """
        if case not in self.patients:
            raise Ct2vqError(f"case {case} has no fold", key="case_id", hint="run stage `split` again")
        return self.patients[case]


@dataclass
class Histograms:
    """Sums of the cases' histograms, patient by patient.

    Attributes:
        counts: for each patient an array `(number of histograms, VALUE_BINS)`.
        cases: the cases of each patient.
    """

    counts: dict[str, np.ndarray] = field(default_factory=dict)
    cases: dict[str, list[str]] = field(default_factory=dict)

    def add(self, patient: str, case: str, bins: np.ndarray, columns: np.ndarray) -> None:
        """Add the columns `(rows, histograms)` of a case, whose value bins are `bins`."""
        counts = self.counts.setdefault(patient, np.zeros((columns.shape[1], VALUE_BINS)))
        np.add.at(counts.T, bins, columns)
        self.cases.setdefault(patient, []).append(case)

    def weighted(self) -> np.ndarray:
        """Mean over each patient's cases, `(histograms, P, VALUE_BINS)`, patients in alphabetical order."""
        means = [self.counts[patient] / len(self.cases[patient]) for patient in sorted(self.counts)]
        return np.stack(means, axis=1)

    def number(self, *histograms: int) -> int:
        """Voxels in some of the histograms, unweighted."""
        return int(sum(counts[list(histograms)].sum() for counts in self.counts.values()))


@dataclass
class VoxelCounts:
    """The binned tables of all cases.

    Attributes:
        low: by (model, target, reference, definition) the low voxels and the others.
        values: by (model, target, reference) the voxels and the sum of the reference.
    """

    low: dict[tuple[str, str, str, str], Histograms] = field(default_factory=dict)
    values: dict[tuple[str, str, str], Histograms] = field(default_factory=dict)

    @classmethod
    def read(cls, tables: Sequence[Path], members: Members) -> VoxelCounts:
        """Read `results/evaluate/detection/{case}.tsv`, one table at a time."""
        counts = cls()
        for path in tables:
            counts._add_table(read_tsv(path, dtype={"definition": str}), members, path)
        return counts

    def cases(self, key: tuple[str, str, str]) -> dict[str, list[str]]:
        """Cases by patient in which a model's image was judged against a reference."""
        return self.values[key].cases if key in self.values else {}

    def definitions(self, model: str, target: str, reference: str) -> list[str]:
        """What low means in the tables of a model, a target and a reference."""
        return [key[3] for key in self.low if key[:3] == (model, target, reference)]

    def _add_table(self, table: pd.DataFrame, members: Members, path: Path) -> None:
        bins = table["image_bin"].to_numpy()
        if len(table) and not ((bins >= 0) & (bins < VALUE_BINS)).all():
            raise Ct2vqError(f"image_bin runs from {bins.min()} to {bins.max()}, not within 0..99", path=path)
        keys = ["case_id", "model", "target", "reference", "definition"]
        for (case, model, target, reference, definition), rows in table.groupby(keys, sort=False):
            patient = members.patient(case)
            at = rows["image_bin"].to_numpy()
            low, other, total = (rows[name].to_numpy(float) for name in ("low", "other", "reference_sum"))
            judged = self.low.setdefault((model, target, reference, definition), Histograms())
            judged.add(patient, case, at, np.column_stack([low, other]))
            # every definition repeats the same voxels
            values = self.values.setdefault((model, target, reference), Histograms())
            if case not in values.cases.get(patient, ()):
                values.add(patient, case, at, np.column_stack([low + other, total]))


def scored_voxels(histograms: Histograms, members: Members, missing: int = 0) -> Scored:
    """Voxels scored by the synthesised value at the centres of its bins; `missing` cases have none of them."""
    low, other = histograms.weighted()
    folds = np.array([members.folds[patient] for patient in sorted(histograms.counts)])
    return Scored(CENTRES, low, other, folds, histograms.number(0, 1), histograms.number(0), missing)


def scored_units(units: pd.DataFrame, members: Members, sign: int = 1) -> Scored:
    """Regions or cases.

    Args:
        units: columns `case_id`, `score` and `positive` (bool); a missing score, or a missing label, is counted and
            left out.
        members: patients and folds.
        sign: 1 if low scores are likelier positive, -1 if high ones are.
    """
    known = units[["score", "positive"]].notna().all(axis=1)
    chosen = units[known]
    patient = np.array([members.patient(case) for case in chosen["case_id"]], dtype=object)
    names, row = np.unique(patient.astype(str), return_inverse=True)
    values, column = np.unique(sign * chosen["score"].to_numpy(float), return_inverse=True)
    cases_of = chosen.assign(patient=patient).groupby("patient")["case_id"].nunique()
    weight = 1 / cases_of.reindex(patient).to_numpy(float)
    label = chosen["positive"].to_numpy(bool)
    counts = np.zeros((2, names.size, values.size))
    np.add.at(counts, (label.astype(int), row, column), weight)
    folds = np.array([members.folds[name] for name in names], dtype=int)
    numbers = len(chosen), int(label.sum()), int((~known).sum())
    return Scored(values, counts[1], counts[0], folds, *numbers, sign=sign)


def read_values(path: Path, metrics: Sequence[str]) -> pd.DataFrame:
    """Values of some metrics, one a case: seeds are averaged, as in every other statistic.

    Returns:
        Columns `model target metric region reference case_id value`.
    """
    return case_means(read_metrics(path, metrics), ["model", "target", "metric", "region", "reference"])


def region_units(metrics: pd.DataFrame, regions: Sequence[str], cut: float) -> dict[tuple[str, str, str], pd.DataFrame]:
    """Regions by (model, target, reference).

    The score is the image's mean in the region over its mean in the lungs; low is a reference's below `cut`.
    """
    chosen = metrics[metrics["metric"].isin(["relative_image", "relative_reference"]) & metrics["region"].isin(regions)]
    keys = ["model", "target", "reference", "case_id", "region"]
    wide = chosen.set_index([*keys, "metric"])["value"].unstack("metric", sort=False)
    wide = wide.reindex(columns=["relative_image", "relative_reference"]).reset_index()
    label = (wide["relative_reference"] < cut).astype(object).where(wide["relative_reference"].notna())
    units = wide.assign(score=wide["relative_image"], positive=label)
    return dict(iter(units.groupby(["model", "target", "reference"], sort=False)))


def case_units(
    metrics: pd.DataFrame, score: str, diagnoses: Mapping[str, str], positive: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Cases by scorer: each arm by its own volume in mL, and SPECT by its own.

    A case without a diagnosis has no label.
    """
    wanted = {name.casefold() for name in positive}
    whole = metrics[(metrics["region"] == LUNGS) & (metrics["reference"] == SPECT)]
    own, theirs = (whole[whole["metric"] == f"{score}_{of}"] for of in ("image", "reference"))
    scores = pd.concat([own.assign(scorer=own["model"]), theirs.assign(scorer=SPECT)])
    # the SPECT's volume stands beside every arm; a missing one comes last
    scores = scores.sort_values("value", kind="stable").drop_duplicates(["scorer", "case_id"])
    known = {case: name.strip().casefold() for case, name in diagnoses.items() if name and name.strip()}
    label = [known[case] in wanted if case in known else None for case in scores["case_id"]]
    units = scores.assign(score=scores["value"], positive=pd.Series(label, index=scores.index, dtype=object))
    return {scorer: rows.sort_values("case_id") for scorer, rows in units.groupby("scorer", sort=True)}
