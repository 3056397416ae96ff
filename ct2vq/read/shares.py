"""Shares of answers with intervals that know whose patients they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ct2vq.detect.resampling import Support
from ct2vq.intervals import wilson

NO_ANSWER = "no answer"
ONE_PATIENT = "one patient: no interval"


def share(hits: pd.Series, patients: pd.Series, confidence: float) -> dict[str, Any]:
    """A share of answers, with Wilson's interval of the number of answers that they are worth.

    Several answers on one patient, by several readers or on several cases, are not independent. They count as one (the
    largest design effect, Kish, Survey Sampling, 1965): where each patient has equally many, the effective number is
    the number of patients. One reader with one case of each patient has Wilson's interval as it stands in books.

    Args:
        hits: 1 or 0 for each answer; missing ones are left out.
        patients: patient of each.
        confidence: level of the interval.

    Returns:
        `n` (answers), `patients`, `count`, `share`, `low`, `high`, `reason`; what cannot be told is missing.
    """
    known = hits.notna()
    hits, patients = hits[known].astype(float), patients[known]
    nothing = {"n": 0, "patients": 0, "count": 0, "share": np.nan, "low": np.nan, "high": np.nan, "reason": NO_ANSWER}
    if hits.empty:
        return nothing
    sums = hits.groupby(patients).agg(["sum", "size"]).to_numpy(dtype=float)
    effective = Support.of_share(sums[:, 0], sums[:, 1]).effective
    value = float(hits.mean())
    told = nothing | {"n": len(hits), "patients": len(sums), "count": int(hits.sum()), "share": value, "reason": ""}
    if len(sums) < 2:
        return told | {"reason": ONE_PATIENT}
    low, high = wilson(value, effective, confidence)
    return told | {"low": low, "high": high}
