"""What the page is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from ct2vq.config import TARGETS, is_network
from ct2vq.figures import AGAINST, TARGET_NAMES, Look
from ct2vq.names import LUNGS

#: tables of `results/compare` that stand on the page beside summary, pairs and baselines
EXTRA = ("excluded", "passes", "mcnemar", "detection", "calibration", "defects", "sensitivity")
REFERENCE_NAMES = AGAINST


@dataclass(frozen=True)
class Study:
    """What the page is made from.

    Attributes:
        config: the complete configuration.
        labels: name of each model, in order.
        cases: facts of each case (`fold`, `targets`, `diagnosis`, ...).
        flow: numbers of the cohort flow (see `ct2vq.plots.draw_cohort`).
        simulated: whether the patients are simulated.
        summary: table of means.
        pairs: table of paired comparisons.
        baselines: table of networks against the trivial baselines.
        metrics: long table of metrics.
        patients: patient of each case.
        quality: `qc.json` of each registration, by `registration_name`.
        noticed: what `segment` and `crop` noticed of each case (`ct2vq.noticed.noticed_rows`).
        runs: records of the trainings, each with its `model`.
        facts: sidecars of the stage `convert`, by case and volume.
        acquisitions: the table of the stage `convert`, a row for each volume (`results/convert/cohort.tsv`).
        extra: the other tables of the stage `compare` by name (`EXTRA`); those that a study has not are left out.
        reading: tables of the reader study by name (`ct2vq.read.names.REPORTED`); empty without readers.
    """

    config: Mapping[str, Any]
    labels: Mapping[str, str]
    cases: Mapping[str, Mapping[str, Any]]
    flow: Mapping[str, Any]
    simulated: bool
    summary: pd.DataFrame
    pairs: pd.DataFrame
    baselines: pd.DataFrame
    metrics: pd.DataFrame
    patients: Mapping[str, str]
    quality: Mapping[str, Mapping[str, Any]]
    noticed: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Mapping[str, Mapping[str, Any]]]
    acquisitions: pd.DataFrame
    extra: Mapping[str, pd.DataFrame]
    reading: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def networks(self) -> list[str]:
        """Models that are networks."""
        return [model for model in self.labels if is_network(self.config["models"][model])]

    @cached_property
    def correlations(self) -> dict[tuple[str, str, str], pd.Series]:
        """Rs of each case in the lungs, by model (or ceiling), reference and target."""
        rows = self.metrics[self.metrics["metric"] == "spearman"]
        rows = rows[rows["region"] == LUNGS].astype({"value": float})
        groups = rows.groupby(["model", "reference", "target"])
        return {key: group.set_index("case_id")["value"] for key, group in groups}

    @property
    def look(self) -> Look:
        """How figures name and order the models."""
        return Look(self.labels, self.networks, self.simulated, self.config["report"]["figure"])

    @property
    def targets(self) -> list[str]:
        """Targets of the cohort."""
        return [target for target in TARGETS if target in self.flow["targets"]]

    @property
    def definition(self) -> str:
        """Name of the threshold that the page's Dice is of."""
        return self.config["evaluate"]["function_thresholds"][0]["name"]

    @property
    def confidence(self) -> float:
        """Level of the confidence intervals."""
        return float(self.config["compare"]["confidence"])

    def name(self, model: str) -> str:
        """What a reader calls a model, an arm of models, a ceiling or the SPECT itself; the same as in figures."""
        return self.look.label(model)

    def target_name(self, target: str) -> str:
        """What a reader calls a target, also `vq`, which needs both."""
        return TARGET_NAMES.get(target, "V/Q" if target == "vq" else target)

    def of_patient(self, key: str) -> dict[str, str]:
        """A fact of each patient (`diagnosis`, `sex`, ...), of the first of the patient's cases."""
        found: dict[str, str] = {}
        for case, facts in self.cases.items():
            found.setdefault(self.patients.get(case, case), str(facts.get(key) or "unknown"))
        return found
