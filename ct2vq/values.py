"""Metrics as tables and figures show them: one value a patient."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

DICE_METRICS = ("dice_low", "dice_high")
#: models that are no models: the truth scored as if it were one (`ct2vq.evaluate`, simulated cases only)
CEILINGS = ("noise_ceiling", "visible_ceiling")


def patient_values(metrics: pd.DataFrame, patients: Mapping[str, str], definition: str) -> pd.DataFrame:
    """Metrics in the whole lungs, averaged over the cases of a patient, because the patient is the unit.

    Args:
        metrics: the table of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
        definition: threshold that Dice rows are taken of; other metrics have one definition.

    Returns:
        Columns `patient_id model target metric value`.
    """
    is_dice = metrics["metric"].str.startswith("dice_")
    kept = metrics[
        (~is_dice | (metrics["definition"] == definition))
        & (metrics["region"] == "lungs")
        & (metrics["reference"] == "spect")
    ]
    return patient_means(kept, patients, ["model", "target", "metric"])


def patient_means(rows: pd.DataFrame, patients: Mapping[str, str], keys: list[str]) -> pd.DataFrame:
    """Mean of column `value` over the cases of each patient.

    Args:
        rows: rows of a table with a `case_id`.
        patients: patient of each case.
        keys: columns whose combinations are averaged apart.

    Returns:
        Columns `patient_id`, `keys`, `value`.
    """
    rows = rows.assign(patient_id=rows["case_id"].map(patients), value=rows["value"].astype(float))
    return rows.groupby(["patient_id", *keys], as_index=False)["value"].mean()
