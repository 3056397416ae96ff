"""The summary in plain words follows from the tables, and says of how many patients."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ct2vq import findings


def pair_rows(*conclusions: str, **columns: Any) -> pd.DataFrame:
    """Declared comparisons in the lungs, and one of the core that is no declared test."""
    row = {"first": "a", "second": "b", "target": "perfusion", "metric": "mae", "region": "lungs", "definition": None}
    row |= {"n": 10, "hodges_lehmann": 0.02, "ci_low": 0.01, "ci_high": 0.03, "p": 0.001, "p_holm": 0.01}
    rows = [row | {"margin": 0.05, "conclusion": conclusion} | columns for conclusion in conclusions]
    return pd.DataFrame([*rows, row | {"region": "core", "margin": 0.05, "conclusion": "different"}])


def said(pairs: pd.DataFrame, patients: int = 10) -> list[str]:
    return [one.text for one in findings.paired_differences(pairs, {"a": "A", "b": "B"}, patients)]


def test_the_summary_says_what_the_table_of_pairs_concludes() -> None:
    within, different, rest = said(pair_rows("different, but within the margin", "different", "equivalent"))
    assert within.startswith("A is higher than B in MAE for perfusion by 0.020 (interval 0.010 to 0.030;")
    assert within.endswith("significant, but within the margin of ±0.05: too small to matter.")
    assert different.endswith("significant, and not shown to lie within the margin of ±0.05.")
    assert rest == (
        "1 of the 3 declared paired differences are not significant after Holm's correction: "
        "1 shown to lie within the margin of equivalence."
    )
    (only,) = said(pair_rows("undecided", "equivalent"))
    assert only.startswith("None of the 2 declared paired differences is significant after Holm's correction: 1 shown")
    assert "1 undecided" in only


def test_the_summary_counts_what_could_not_be_tested_and_says_of_how_many_patients() -> None:
    some = pair_rows("undecided", "undecided", n=7)
    (text,) = said(some)
    assert text.endswith("They rest on 7 of 10 patients.")
    nobody = pair_rows("", "", n=0, p=math.nan, p_holm=math.nan, hodges_lehmann=math.nan)
    (text,) = said(nobody)
    assert "None of the 2 declared" in text and "2 could not be tested, because no patient has both models" in text
    assert said(pair_rows()) == ["No paired comparison is declared."]
    (text, *_) = said(pair_rows("different", n=7))
    assert "by 0.020 in 7 of 10 patients (" in text


def test_agreement_is_told_with_its_number_of_patients() -> None:
    row = {"model": "a", "target": "perfusion", "region": "lungs", "definition": "", "reference": "spect"}
    row |= {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 7}
    summary = pd.DataFrame([row | {"metric": "spearman"}, row | {"metric": "ssim", "n": 6}])
    text = findings.agreement(summary, "perfusion", ["a"], {"a": "A"}, 0.95, 10).text
    assert "A mean Rs 0.500 (95% CI 0.400 to 0.600) in 7 of 10 patients, mean SSIM 0.500 in 6 of 10 patients" in text
    assert "patients" not in findings.agreement(summary.assign(n=10), "perfusion", ["a"], {"a": "A"}, 0.95, 10).text
    nobody = findings.agreement(summary.assign(n=0, mean=math.nan), "perfusion", ["a"], {"a": "A"}, 0.95, 10).text
    assert "A has no value in any patient" in nobody


def test_a_network_is_compared_with_its_baseline_as_far_as_the_data_say() -> None:
    row = {"network": "a", "target": "perfusion", "mean_spearman": 0.524, "best_baseline": "b"}
    row |= {"baseline_mean_spearman": 0.499, "difference": 0.025, "ci_low": -0.03, "ci_high": 0.08, "p": 0.4}
    row |= {"patients_better": 5, "n": 10, "beats": "not shown"}

    def told(**changes: Any) -> findings.Finding:
        return findings.against_baselines(pd.DataFrame([row | changes]), {"a": "A", "b": "B"}, 0.95, 10)[0]

    assert told().kind == "caution"
    assert "A is not shown to be better than B" in told().text
    assert "higher on average by 0.025 (95% CI of network minus baseline −0.030 to 0.080;" in told().text
    assert "higher in 5 of 10 patients" in told().text
    assert told(beats="yes", ci_low=0.01).text.startswith("A beats B, the best trivial baseline")
    assert told(beats="no", difference=-0.1, ci_high=-0.01).text.startswith("A is worse than B")
    few = told(n=3, ci_low=math.nan, ci_high=math.nan).text
    assert "too few patients for an interval" in few and "the other 7 of the cohort lack a value" in few
