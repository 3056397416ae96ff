"""Statistics against other people's implementations, a published example and brute force; patients are the unit."""

from __future__ import annotations

import gc
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from ct2vq.compare import (
    against_baselines,
    bootstrap_mean,
    compare_models,
    compare_pairs,
    hodges_lehmann,
    holm,
    paired_statistics,
    patient_values,
    rank_biserial,
    signed_rank_distribution,
    summarise,
    summary_lines,
)
from ct2vq.config import complete_config
from ct2vq.files import read_tsv, write_tsv

SETTINGS = complete_config({"study": "x", "compare": {"bootstrap": 200}})["compare"]
GENERATOR = np.random.default_rng
#: Hamilton depression scale factor of nine patients at the first and second visit (Hollander & Wolfe 1973, p. 29)
FIRST = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
SECOND = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage in every correction, which takes a second each in a long test run."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def statistics(first: np.ndarray, second: np.ndarray | float = 0.0, **settings: float) -> dict:
    paired = pd.DataFrame({"first": np.asarray(first, dtype=float), "second": np.asarray(second, dtype=float)})
    return paired_statistics(paired, SETTINGS | settings, GENERATOR(0))


def exact_p(d: np.ndarray) -> float:
    """Two-sided p of the signed-rank statistic with Pratt's zeros, over all signs."""
    ranks = rankdata(np.abs(d))[d != 0]
    observed = abs((ranks * np.sign(d[d != 0])).sum())
    sums = [abs(np.dot(ranks, signs)) for signs in product((-1, 1), repeat=ranks.size)]
    return float(np.mean([value >= observed - 1e-9 for value in sums]))


def test_the_example_of_hollander_and_wolfe() -> None:
    result = statistics(FIRST, SECOND)
    # R's documentation of wilcox.test: V = 40, p-value = 0.03906 (two-sided; 0.01953 one-sided)
    assert result["p"] == pytest.approx(0.0390625)
    assert result["method"] == "exact"
    # estimate and interval: the median, and the 6th and 40th, of the 45 Walsh averages (1 - 2 * 0.0195 = 96.1 %)
    walsh = np.sort([(a + b) / 2 for i, a in enumerate(FIRST - SECOND) for b in (FIRST - SECOND)[i:]])
    assert result["hodges_lehmann"] == pytest.approx(np.median(walsh)) == pytest.approx(0.46)
    assert (result["ci_low"], result["ci_high"]) == pytest.approx((walsh[5], walsh[39]))
    assert result["rank_biserial"] == pytest.approx((40 - 5) / 45)


@given(st.integers(0, 10**6), st.integers(5, 60))
def test_wilcoxon_is_scipys_on_plain_data(seed: int, n: int) -> None:
    first, second = GENERATOR(seed).normal(size=(2, n)) + np.array([[0.2], [0.0]])
    result = statistics(first, second)
    expected = wilcoxon(first, second, method="exact" if n <= 50 else "asymptotic")
    assert result["p"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert (result["n"], result["zeros"], result["excluded"]) == (n, 0, 0)
    assert result["method"] == ("exact" if n <= 50 else "normal approximation")
    swapped = statistics(second, first)
    assert swapped["p"] == pytest.approx(result["p"])
    assert swapped["hodges_lehmann"] == pytest.approx(-result["hodges_lehmann"])
    assert (swapped["ci_low"], swapped["ci_high"]) == pytest.approx((-result["ci_high"], -result["ci_low"]))
    assert swapped["rank_biserial"] == pytest.approx(-result["rank_biserial"])


@settings(max_examples=20)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_ties_and_zeros_of_few_patients_are_counted_out(values: list[int]) -> None:
    d = np.array(values, dtype=float)
    result = statistics(d)
    assert result["zeros"] == values.count(0)
    if not d.any():
        assert np.isnan(result["p"])
        assert result["note"] == "no differences to test"
        return
    assert result["p"] == pytest.approx(exact_p(d))
    assert ("Pratt" in result["method"]) == (0 in values)


def test_p_is_never_below_what_so_few_patients_allow() -> None:
    for n in (1, 2, 3, 5, 6, 9):
        for d in (np.ones(n), np.arange(1.0, n + 1), np.minimum(np.arange(1.0, n + 1), 3)):
            result = statistics(d)
            assert result["p"] >= 2.0 ** (1 - n) - 1e-12
            assert ("cannot be below" in result["note"]) == (n <= 5)


def test_many_ties_are_approximate_and_say_so() -> None:
    d = np.round(GENERATOR(0).normal(0.3, 1, 40), 1)
    d[:3] = 0
    result = statistics(d)
    expected = wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue
    assert result["p"] == pytest.approx(expected)
    assert result["method"] == "normal approximation (zeros by Pratt)"


def test_round_off_makes_no_difference() -> None:
    first = np.array([0.1 + 0.2, 0.5, 0.7])
    result = statistics(first, [0.3, 0.4, 0.5])
    assert result["zeros"] == 1


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_patients_without_both_values_are_counted_and_left_out(missing: int) -> None:
    first, second = FIRST.copy(), SECOND.copy()
    first[:missing] = np.nan
    result = statistics(first, second)
    assert (result["n"], result["excluded"]) == (9 - missing, missing)
    alone = statistics(FIRST[missing:], SECOND[missing:])
    assert result | {"excluded": 0} == alone


def test_nobody_has_both() -> None:
    result = statistics(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))
    assert (result["n"], result["excluded"], result["note"]) == (0, 2, "no patient has both")
    assert np.isnan(result["p"])


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-6 or x == 0), min_size=1, max_size=30))
def test_the_rank_biserial_correlation_has_bounds_and_a_sign(values: list[float]) -> None:
    d = np.array(values)
    if not d.any():
        return
    r = rank_biserial(d)
    assert -1 <= r <= 1
    assert rank_biserial(-d) == pytest.approx(-r)
    assert rank_biserial(np.abs(d)) == 1
    assert rank_biserial(np.append(d, 0)) == pytest.approx(r)


def test_the_rank_biserial_correlation_by_hand() -> None:
    # ranks 1 to 4; favourable 1 + 3 + 4, unfavourable 2
    assert rank_biserial(np.array([1.0, -2, 3, 4])) == pytest.approx((8 - 2) / 10)


@pytest.mark.parametrize("n", range(1, 11))
def test_the_distribution_of_the_signed_rank_by_brute_force(n: int) -> None:
    sums = [sum(r for r, s in zip(range(1, n + 1), signs, strict=True) if s) for signs in product((0, 1), repeat=n)]
    expected = np.bincount(sums, minlength=n * (n + 1) // 2 + 1) / 2**n
    np.testing.assert_allclose(signed_rank_distribution(n), expected, atol=1e-15)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.integers(0, 999))
def test_the_interval_keeps_its_confidence(n: int, confidence: float, seed: int) -> None:
    d = GENERATOR(seed).normal(size=n)
    estimate, low, high = hodges_lehmann(d, confidence)
    walsh = np.sort([(a + b) / 2 for i, a in enumerate(d) for b in d[i:]])
    assert estimate == pytest.approx(np.median(walsh))
    assert low <= estimate <= high
    tail = np.cumsum(signed_rank_distribution(n))
    if np.isinf(low):
        assert np.isinf(high)
        assert 1 - 2 * tail[0] < confidence
    else:
        below = int(np.searchsorted(walsh, low))
        assert 1 - 2 * tail[below] >= confidence - 1e-9
        assert below + 1 == tail.size or 1 - 2 * tail[below + 1] < confidence, "no wider than it must be"


def test_the_interval_is_the_set_of_shifts_that_the_test_accepts() -> None:
    d = GENERATOR(4).normal(0.5, 1, 8)
    _, low, high = hodges_lehmann(d, 0.95)
    for shift in np.linspace(d.min(), d.max(), 101):
        accepted = wilcoxon(d - shift, method="exact").pvalue > 0.05
        assert accepted == (low < shift < high), shift


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels_and_never_smaller(p: list[float]) -> None:
    values = np.array(p)
    adjusted = holm(values)
    np.testing.assert_allclose(adjusted, multipletests(values, method="holm")[1])
    assert (adjusted >= values - 1e-15).all()
    with_missing = holm(np.append(values, np.nan))
    np.testing.assert_allclose(with_missing[:-1], adjusted)
    assert np.isnan(with_missing[-1])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    assert np.isnan(holm(np.array([np.nan]))).all()


@given(st.integers(0, 999), st.integers(2, 30))
def test_the_bootstrap_interval(seed: int, n: int) -> None:
    x = GENERATOR(seed).normal(size=n)
    low, high = bootstrap_mean(x, SETTINGS, GENERATOR(1))
    assert (low, high) == bootstrap_mean(x, SETTINGS, GENERATOR(1))
    assert x.min() <= low <= high <= x.max()
    assert np.isnan(bootstrap_mean(x[:1], SETTINGS, GENERATOR(1))).all()
    assert np.isnan(bootstrap_mean(x, SETTINGS | {"bootstrap": 0}, GENERATOR(1))).all()


MODELS = {"ddran": "ran", "ran_perfusion": "ran", "ran_ventilation": "ran", "mean_map": "mean_map"}


def metrics_table(cases: list[str], seed: int = 0) -> pd.DataFrame:
    generator = GENERATOR(seed)
    rows = []
    for case_id, model, target in product(cases, MODELS, ("perfusion", "ventilation")):
        if model.startswith("ran_") and not model.endswith(target):
            continue
        for metric in ("ssim", "spearman", "dice_low", "dice_high", "volume_low_image"):
            for definition in ("p40", "p25_p75") if metric[:4] in ("dice", "volu") else ("",):
                value = generator.uniform(0.3, 0.9) - 0.3 * (model == "mean_map")
                rows.append((case_id, model, target, metric, "lungs", definition, "spect", value, "1", ""))
    columns = ["case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit", "reason"]
    return pd.DataFrame(rows, columns=columns)


CASES = [f"c{n}" for n in range(8)]
PATIENTS = {case: f"p{n // 2}" for n, case in enumerate(CASES)}


def test_patients_are_averaged_first() -> None:
    table = metrics_table(CASES)
    values = patient_values(table, PATIENTS, "p40")
    assert set(values["patient"]) == set(PATIENTS.values())
    assert set(values["definition"]) == {"", "p40"}
    assert not values.duplicated(["model", "target", "metric", "patient"]).any()
    key = (table["model"] == "ddran") & (table["target"] == "perfusion") & (table["metric"] == "ssim")
    two = table[key & table["case_id"].isin(["c0", "c1"])]["value"].mean()
    row = values.query("model == 'ddran' and target == 'perfusion' and metric == 'ssim' and patient == 'p0'")
    assert row["value"].item() == pytest.approx(two)
    pairs = compare_pairs(values, SETTINGS, 1)
    assert set(pairs["n"]) == {4}, "four patients, not eight cases"


def run(
    folder: Path, table: pd.DataFrame, patients: dict[str, str], settings: dict = SETTINGS
) -> dict[str, pd.DataFrame]:
    folder.mkdir(parents=True, exist_ok=True)
    write_tsv(table, folder / "metrics.tsv")
    outputs = {name: folder / f"{name}.tsv" for name in ("summary", "pairs", "baselines")}
    compare_models(
        folder / "metrics.tsv", outputs, settings, patients=patients, models=MODELS, definition="p40", seed=1
    )
    return {name: read_tsv(path) for name, path in outputs.items()}


def test_names_that_look_like_numbers_give_the_same_statistics(tmp_path: Path) -> None:
    numbered = {case: f"{n:03d}" for n, case in enumerate(CASES)}
    table = metrics_table(CASES)
    plain = run(tmp_path / "a", table, PATIENTS)
    renamed = table.assign(case_id=table["case_id"].map(numbered))
    odd = run(tmp_path / "b", renamed, {numbered[case]: f"{n // 2:02d}" for n, case in enumerate(CASES)})
    for name in plain:
        pd.testing.assert_frame_equal(plain[name], odd[name])


def test_the_same_seed_gives_the_same_bytes_and_the_order_of_cases_does_not_matter(tmp_path: Path) -> None:
    table = metrics_table(CASES)
    a, b = run(tmp_path / "a", table, PATIENTS), run(tmp_path / "b", table, PATIENTS)
    for name in a:
        assert (tmp_path / "a" / f"{name}.tsv").read_bytes() == (tmp_path / "b" / f"{name}.tsv").read_bytes()
        pd.testing.assert_frame_equal(a[name], b[name])


def test_the_summary() -> None:
    values = patient_values(metrics_table(CASES), PATIENTS, "p40")
    summary = summarise(values, SETTINGS, 1).set_index(["model", "target", "metric"])
    for key, group in values.groupby(["model", "target", "metric"]):
        row = summary.loc[key]
        assert row["mean"] == pytest.approx(group["value"].mean())
        assert row["sd"] == pytest.approx(group["value"].std())
        assert row["median"] == pytest.approx(group["value"].median())
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]
        assert (row["n"], row["missing"]) == (4, 0)


def test_a_metric_that_is_missing_everywhere(tmp_path: Path) -> None:
    table = metrics_table(CASES)
    table.loc[(table["metric"] == "dice_low") & (table["model"] == "ddran"), "value"] = np.nan
    tables = run(tmp_path, table, PATIENTS)
    row = tables["summary"].query("model == 'ddran' and metric == 'dice_low'").iloc[0]
    assert (row["n"], row["missing"]) == (0, 4)
    assert np.isnan(row["mean"])
    pairs = tables["pairs"].query("metric == 'dice_low'")
    assert pairs["p"].isna().all()
    assert pairs["p_holm"].isna().all()
    assert set(pairs["excluded"]) == {4}
    lines = summary_lines(tables["summary"])
    assert "nan" in next(line for line in lines if line.startswith("ddran"))


def test_a_study_without_pairs_and_one_of_a_single_target(tmp_path: Path) -> None:
    tables = run(tmp_path / "a", metrics_table(CASES), PATIENTS, SETTINGS | {"pairs": []})
    assert len(tables["pairs"]) == 0
    assert {"p", "p_holm", "hodges_lehmann"} <= set(tables["pairs"].columns)
    table = metrics_table(CASES)
    ventilation = run(tmp_path / "b", table[table["target"] == "ventilation"], PATIENTS)
    perfusion = ventilation["pairs"].query("target == 'perfusion'")
    assert set(perfusion["n"]) == {0}
    assert perfusion["p"].isna().all()


def test_every_network_beside_the_best_baseline() -> None:
    values = patient_values(metrics_table(CASES), PATIENTS, "p40")
    table = against_baselines(values, MODELS)
    assert set(table["best_baseline"]) == {"mean_map"}
    assert list(table["network"]) == ["ddran", "ran_perfusion", "ddran", "ran_ventilation"]
    for row in table.itertuples():
        assert row.difference == pytest.approx(row.mean_spearman - row.baseline_mean_spearman)
        assert row.beats == ("yes" if row.difference > 0 else "no")
        assert row.n == 4
    none = against_baselines(values[values["model"] != "mean_map"], MODELS)
    assert len(none) == 0
    assert list(none.columns) == list(table.columns)
