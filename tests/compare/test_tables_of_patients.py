"""The tables of `compare`: the patient is the unit, the family is the declared one, who is left out is listed."""

from __future__ import annotations

import gc
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, wilcoxon
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from ct2vq.compare.excluded import list_excluded
from ct2vq.compare.pairs import compare_pairs, conclusion
from ct2vq.compare.passes import compare_passes, count_passes, mcnemar, passes
from ct2vq.compare.scores import Item, of_patients, scores_of, together
from ct2vq.compare.study import compare_models
from ct2vq.compare.summary import METRICS, REGIONS, against_baselines, summarise, summary_lines
from ct2vq.config import complete_config
from ct2vq.files import read_tsv, write_tsv
from ct2vq.values import read_metrics

SETTINGS = complete_config({"study": "x", "compare": {"bootstrap": 200}})["compare"]
GENERATOR = np.random.default_rng
KINDS = {"ddran": "ran", "ran_perfusion": "ran", "ran_ventilation": "ran", "mean_map": "mean_map"}
BOTH = ["perfusion", "ventilation"]
TARGETS = {"ddran": BOTH, "ran_perfusion": BOTH[:1], "ran_ventilation": BOTH[1:], "mean_map": BOTH}
CASES = [f"c{n}" for n in range(8)]
PATIENTS = {case: f"p{n // 2}" for n, case in enumerate(CASES)}
SSIM = "window, masked"
TABLES = ("summary", "pairs", "baselines", "passes", "mcnemar", "excluded")


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage in every correction, which takes a second each in a long test run."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def row(case_id: str, value: float, **of: str) -> dict:
    item = {"model": "ddran", "target": "perfusion", "metric": "spearman"} | of
    defaults = {"region": "lungs", "definition": "", "reference": "spect", "unit": "1", "reason": ""}
    return {"case_id": case_id} | defaults | item | {"value": value}


def metrics_table(cases: list[str] = CASES, seed: int = 0) -> pd.DataFrame:
    generator, rows = GENERATOR(seed), []
    for case_id, (model, targets) in product(cases, TARGETS.items()):
        for target, region, metric in product(
            targets, ("lungs", "core"), ("ssim", "spearman", "mae", "dice_low", "dice_high")
        ):
            definitions = ("p40", "p25_p75") if metric[:4] == "dice" else (SSIM,) if metric == "ssim" else ("",)
            for definition in definitions:
                of = {"model": model, "target": target, "metric": metric, "region": region, "definition": definition}
                rows.append(row(case_id, generator.uniform(0.3, 0.9) - 0.3 * (model == "mean_map"), **of))
    return pd.DataFrame(rows)


def run(folder: Path, table: pd.DataFrame, patients: dict = PATIENTS, settings: dict = SETTINGS) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    write_tsv(table, folder / "metrics.tsv")
    outputs = {name: folder / f"{name}.tsv" for name in TABLES}
    known = {"patients": patients, "kinds": KINDS, "targets": TARGETS, "threshold": "p40", "seed": 1}
    compare_models(folder / "metrics.tsv", outputs, settings, **known)
    return {name: read_tsv(path) for name, path in outputs.items()}


# --- patients -----------------------------------------------------------------------------------------------


def test_patients_are_the_unit(tmp_path: Path) -> None:
    table = metrics_table()
    pairs = run(tmp_path, table)["pairs"]
    assert set(pairs["n"]) == {4}, "four patients, not eight cases"
    values = table.query("metric == 'ssim' and target == 'perfusion' and region == 'lungs'").assign(
        patient=lambda found: found["case_id"].map(PATIENTS)
    )
    means = values.pivot_table(index="patient", columns="model", values="value")
    found = pairs.query("metric == 'ssim' and target == 'perfusion' and region == 'lungs'").iloc[0]
    expected = wilcoxon(means["ddran"], means["ran_perfusion"], method="exact")
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["mean_difference"] == pytest.approx((means["ddran"] - means["ran_perfusion"]).mean())
    assert found["definition"] == SSIM


def test_seeds_are_averaged_before_cases() -> None:
    """Three seeds of one case do not outweigh one of another."""
    rows = [row("c0", value) for value in (0.1, 0.2, 0.3)] + [row("c1", 0.6)]
    scores = scores_of(pd.DataFrame(rows))
    item = Item("ddran", "perfusion", "spearman")
    assert scores[item].to_dict() == pytest.approx({"c0": 0.2, "c1": 0.6})
    assert of_patients(scores[item], PATIENTS).to_dict() == pytest.approx({"p0": 0.4})


def test_a_seed_without_a_value_leaves_the_others() -> None:
    scores = scores_of(pd.DataFrame([row("c0", 0.1), row("c0", np.nan), row("c1", np.nan)]))
    values = scores[Item("ddran", "perfusion", "spearman")]
    assert values["c0"] == 0.1 and np.isnan(values["c1"])


def test_a_pair_is_compared_on_the_same_images() -> None:
    """A patient's second case, which one model lacks, counts for neither."""
    rows = [row("c0", 0.5), row("c1", 0.9), row("c0", 0.4, model="b"), row("c1", np.nan, model="b")]
    rows += [row("c2", np.nan), row("c2", 0.3, model="b")]
    items = [Item("ddran", "perfusion", "spearman"), Item("b", "perfusion", "spearman")]
    paired = together(scores_of(pd.DataFrame(rows)), items, PATIENTS)
    assert paired.loc["p0"].tolist() == [0.5, 0.4]
    assert paired.loc["p1"].isna().all()


def test_nobody_is_there() -> None:
    items = [Item("a", "perfusion", "ssim"), Item("b", "perfusion", "ssim")]
    paired = together({}, items, PATIENTS)
    assert paired.shape == (4, 2) and paired.isna().all(axis=None)


@pytest.mark.parametrize("numbered", [False, True])
def test_the_same_bytes_whatever_the_names_and_their_order(tmp_path: Path, numbered: bool) -> None:
    table = metrics_table()
    names = {case: f"{n:03d}" if numbered else case for n, case in enumerate(CASES)}
    patients = {names[case]: f"{n // 2:02d}" for n, case in enumerate(CASES)}
    run(tmp_path / "a", table, {case: patients[names[case]] for case in CASES})
    run(tmp_path / "b", table.assign(case_id=table["case_id"].map(names)), patients)
    for name in TABLES:
        assert (tmp_path / "a" / f"{name}.tsv").read_bytes() == (tmp_path / "b" / f"{name}.tsv").read_bytes()
    again = run(tmp_path / "c", table.iloc[::-1], {case: patients[names[case]] for case in CASES})
    first = read_tsv(tmp_path / "a" / "pairs.tsv")
    pd.testing.assert_frame_equal(again["pairs"], first)


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    write_tsv(pd.DataFrame([row("001", 0.5)]), tmp_path / "metrics.tsv")
    table = read_metrics(tmp_path / "metrics.tsv", METRICS, REGIONS)
    (values,) = scores_of(table).values()
    assert list(values.index) == ["001"]


# --- pairs --------------------------------------------------------------------------------------------------


def pairs_of(table: pd.DataFrame, **settings: object) -> pd.DataFrame:
    return compare_pairs(scores_of(table), PATIENTS, SETTINGS | settings, "p40", 1)


def test_the_family_of_holm_is_the_declared_one() -> None:
    table = pairs_of(metrics_table())
    lungs, core = table[table["region"] == "lungs"], table[table["region"] == "core"]
    assert len(lungs) == len(core) == len(SETTINGS["pairs"]) * len(SETTINGS["metrics"]) == 8
    np.testing.assert_allclose(lungs["p_holm"], multipletests(lungs["p"], method="holm")[1])
    assert core["p"].notna().all() and core["p_holm"].isna().all()
    without = pairs_of(metrics_table(), regions=[])
    pd.testing.assert_frame_equal(without, lungs)
    assert set(table.loc[table["metric"].str.startswith("dice"), "definition"]) == {"p40"}


def test_another_metric_is_another_family() -> None:
    table = pairs_of(metrics_table(), metrics=["ssim", "mae"], regions=[])
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])
    assert list(table["margin"]) == [0.015, 0.01] * 2


def test_a_study_without_pairs_and_one_of_a_single_target(tmp_path: Path) -> None:
    tables = run(tmp_path / "a", metrics_table(), settings=SETTINGS | {"pairs": []})
    assert len(tables["pairs"]) == len(tables["mcnemar"]) == 0
    assert {"p", "p_holm", "hodges_lehmann", "equivalent"} <= set(tables["pairs"].columns)
    table = metrics_table()
    pairs = run(tmp_path / "b", table[table["target"] == "ventilation"])["pairs"]
    perfusion = pairs[pairs["target"] == "perfusion"]
    assert set(perfusion["n"]) == {0} and set(perfusion["note"]) == {"no patient has both"}
    assert perfusion["p"].isna().all() and perfusion["equivalent"].isin(["", np.nan]).all()


class Row:
    def __init__(self, p: float, p_holm: float, equivalent: str, n: int = 9) -> None:
        self.p, self.p_holm, self.equivalent, self.n = p, p_holm, equivalent, n


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Row(0.001, 0.01, "no"), "different"),
        (Row(0.001, 0.01, "yes"), "different, but within the margin"),
        (Row(0.01, 0.08, "yes"), "equivalent"),
        (Row(0.01, 0.08, "no"), "undecided"),
        (Row(0.01, np.nan, "no"), "different"),
        (Row(np.nan, np.nan, "yes"), "equivalent"),
        (Row(np.nan, np.nan, "", 0), ""),
    ],
)
def test_difference_and_equivalence_are_not_opposites(found: Row, said: str) -> None:
    assert conclusion(found, 0.95) == said


# --- passes -------------------------------------------------------------------------------------------------


def test_a_value_at_the_threshold_passes_and_round_off_decides_nothing() -> None:
    values = pd.Series([0.7, 0.7 - 1e-15, 0.69, np.nan])
    assert passes(values, "spearman", 0.7, 9).tolist()[:3] == [1, 1, 0]
    assert np.isnan(passes(values, "spearman", 0.7, 9)[3])
    assert passes(pd.Series([0.1, 0.2, 0.3]), "mae", 0.2, 9).tolist() == [1, 1, 0], "an error must be small"


ACCEPTANCE = dict.fromkeys(SETTINGS["acceptance"]) | {"spearman": 0.5, "mae": 0.2}


def two_models(first: list[float], second: list[float], metric: str = "spearman") -> list[dict]:
    return [
        row(f"c{n}", value, model=model, metric=metric)
        for model, values in (("ddran", first), ("ran_perfusion", second))
        for n, value in enumerate(values)
    ]


def test_passes_by_hand() -> None:
    rows = two_models([0.6, 0.6, 0.4, 0.5, np.nan], [0.4] * 5) + two_models([0.1, 0.3, 0.1, 0.1, 0.1], [0.1] * 5, "mae")
    patients = {f"c{n}": f"p{n}" for n in range(5)}
    table = count_passes(scores_of(pd.DataFrame(rows)), patients, SETTINGS | {"acceptance": ACCEPTANCE}, "p40")
    found = table[table["model"] == "ddran"].set_index("metric")
    assert found["passed"].to_dict() == {"spearman": 3, "mae": 4, "all": 2}
    assert found["n"].to_dict() == {"spearman": 4, "mae": 5, "all": 4}
    assert found["missing"].to_dict() == {"spearman": 1, "mae": 0, "all": 1}
    # Wilson 1927: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 3/4, n = 4
    z, n, p = 1.959964, 4, 0.75
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = np.array([centre - half, centre + half]) / (1 + z * z / n)
    np.testing.assert_allclose(found.loc["spearman", ["wilson_low", "wilson_high"]].astype(float), expected, rtol=1e-6)
    nobody = table[table["model"] == "ran_perfusion"].set_index("metric").loc["spearman"]
    assert (nobody["passed"], nobody["wilson_low"]) == (0, 0.0) and nobody["wilson_high"] > 0.3


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_scipys_and_statsmodels(passed: list[tuple[bool, bool]]) -> None:
    first, second = (pd.Series([float(pair[side]) for pair in passed]) for side in (0, 1))
    found = mcnemar(first, second, SETTINGS)
    assert found["both"] + found["only_first"] + found["only_second"] + found["neither"] == found["n"] == len(passed)
    discordant = found["only_first"] + found["only_second"]
    if discordant:
        assert found["p"] == pytest.approx(binomtest(found["only_first"], discordant, 0.5).pvalue)
        fourfold = [[found["both"], found["only_first"]], [found["only_second"], found["neither"]]]
        assert found["p"] == pytest.approx(statsmodels_mcnemar(fourfold, exact=True).pvalue)
    else:
        assert (found["p"], found["note"]) == (1.0, "no patient passes with one model only")
    assert found["difference"] == pytest.approx(first.mean() - second.mean())
    assert -1 <= found["difference_low"] <= found["difference"] <= found["difference_high"] <= 1
    assert found["difference_high"] - found["difference_low"] > 0.05, "no certainty, even where all agree"


def test_the_passes_of_a_pair_by_hand_and_their_family() -> None:
    cases = [f"c{n}" for n in range(8)]
    first, second = [0.6] * 6 + [0.4, np.nan], [0.4] * 6 + [0.6, 0.6]
    rows = two_models(first, second) + two_models([0.1] * 8, [0.1] * 8, "mae")
    chosen = SETTINGS | {"acceptance": ACCEPTANCE, "pairs": [["ddran", "ran_perfusion", "perfusion"]]}
    scores = scores_of(pd.DataFrame(rows))
    table = compare_passes(scores, dict(zip(cases, cases, strict=True)), chosen, "p40").set_index("metric")
    assert list(table.index) == ["spearman", "mae", "all"]
    found = table.loc["spearman", ["n", "both", "only_first", "only_second", "neither"]].tolist()
    assert found == [7, 0, 6, 1, 0], "who lacks one of the models is left out"
    assert table.loc["spearman", "p"] == pytest.approx(0.125), "2 (1 + 7) / 2**7"
    assert table.loc["all", ["only_first", "only_second"]].tolist() == [6, 1]
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])
    assert table.loc["mae", "note"] == "no patient passes with one model only"


def test_no_threshold_is_no_table() -> None:
    chosen = SETTINGS | {"acceptance": dict.fromkeys(ACCEPTANCE)}
    scores = scores_of(metrics_table())
    assert len(count_passes(scores, PATIENTS, chosen, "p40")) == 0
    assert len(compare_passes(scores, PATIENTS, chosen, "p40")) == 0


# --- who is left out ----------------------------------------------------------------------------------------


def test_excluded_cases_are_listed_with_their_reasons(tmp_path: Path) -> None:
    table = metrics_table()
    lungs = (table["region"] == "lungs") & (table["target"] == "perfusion") & (table["metric"] == "spearman")
    lost = lungs & (table["model"] == "ddran") & table["case_id"].isin(["c0", "c2", "c3"])
    table.loc[lost, ["value", "reason"]] = [np.nan, "constant image"]
    table = table[~((table["case_id"] == "c6") & (table["target"] == "ventilation"))]
    table = table[~((table["case_id"] == "c7") & (table["model"] == "ran_perfusion"))]
    excluded = run(tmp_path, table)["excluded"]
    constant = excluded[excluded["reason"] == "constant image"]
    assert constant[["patient", "case_id", "whole"]].to_numpy().tolist() == [
        ["p0", "c0", "no"],
        ["p1", "c2", "yes"],
        ["p1", "c3", "yes"],
    ]
    without = excluded[excluded["reason"] == "the case has no ventilation SPECT"]
    assert set(without["case_id"]) == {"c6"} and set(without["model"]) == {"ddran", "ran_ventilation", "mean_map"}
    assert set(
        excluded.loc[excluded["reason"] == "not scored", ["case_id", "model"]].itertuples(index=False, name=None)
    ) == {("c7", "ran_perfusion")}
    pairs = read_tsv(tmp_path / "pairs.tsv").query("metric == 'spearman' and region == 'lungs'")
    assert pairs.set_index("target")["excluded"].to_dict() == {"perfusion": 1, "ventilation": 0}


def test_nobody_is_excluded_where_all_is_there(tmp_path: Path) -> None:
    excluded = run(tmp_path, metrics_table())["excluded"]
    assert len(excluded) == 0 and list(excluded.columns)[:4] == ["model", "target", "metric", "patient"]


def test_a_missing_value_without_a_reason_says_so() -> None:
    table = pd.DataFrame([row("c0", np.nan), row("c1", 0.5)])
    excluded = list_excluded(
        table, scores_of(table), {"c0": "a", "c1": "b"}, {"ddran": ["perfusion"]}, ["spearman"], "p40"
    )
    assert excluded["reason"].tolist() == ["no reason given"]


# --- summary ------------------------------------------------------------------------------------------------


def test_the_summary() -> None:
    scores = scores_of(metrics_table())
    summary = summarise(metrics_table(), PATIENTS, SETTINGS, 1).set_index(list(Item._fields))
    assert len(summary) == len(scores)
    assert summary.index[0][3:6:2] == ("lungs", "spect")
    for item, values in scores.items():
        means, found = of_patients(values, PATIENTS), summary.loc[tuple(item)]
        assert found["mean"] == pytest.approx(means.mean())
        assert found["sd"] == pytest.approx(means.std())
        assert found["median"] == pytest.approx(means.median())
        assert np.isnan(found["ci_low"]), "four patients are too few for a bootstrap"
        assert (found["n"], found["missing"], found["n_common"], found["missing_cases"]) == (4, 0, 4, 0)
        assert found["mean_common"] == found["mean"] and found["reasons"] == ""
    apart = {case: case for case in CASES}
    eight = summarise(metrics_table(), apart, SETTINGS, 1)
    assert (eight["n"] == 8).all()
    assert ((eight["ci_low"] < eight["mean"]) & (eight["mean"] < eight["ci_high"])).all()


def test_models_with_other_missing_values_are_compared_on_common_patients() -> None:
    """Who invents a mismatch where there is none has an overlap of 0, who does not has no value."""
    patients = {f"c{n}": f"p{n}" for n in range(4)}
    overlaps = {"ddran": [0.6, 0.5, 0.0, 0.0], "ran": [0.4, 0.3, np.nan, np.nan], "noise_ceiling": [0.9] + [np.nan] * 3}
    rows = [
        row(
            f"c{n}",
            value,
            model=model,
            target="vq",
            metric="mismatch_dice",
            reason="both empty" * bool(np.isnan(value)),
        )
        for model, values in overlaps.items()
        for n, value in enumerate(values)
    ]
    summary = summarise(pd.DataFrame(rows), patients, SETTINGS, 1).set_index("model")
    assert summary["mean"].to_dict() == pytest.approx({"ddran": 0.275, "ran": 0.35, "noise_ceiling": 0.9})
    assert summary["mean_common"].to_dict() == pytest.approx({"ddran": 0.55, "ran": 0.35, "noise_ceiling": 0.9})
    assert summary["n_common"].to_dict() == {"ddran": 2, "ran": 2, "noise_ceiling": 1}
    assert summary["missing_cases"].to_dict() == {"ddran": 0, "ran": 2, "noise_ceiling": 3}
    assert summary.loc["ran", "reasons"] == "both empty (2)"


def test_the_lungs_against_spect_come_first() -> None:
    rows = [
        row("c0", 0.5, region=region, reference=reference)
        for region in ("crop", "core", "lungs")
        for reference in ("truth", "spect")
    ]
    summary = summarise(pd.DataFrame(rows), PATIENTS, SETTINGS, 1)
    assert summary[["region", "reference"]].to_numpy().tolist() == [
        [region, reference] for region in ("lungs", "core", "crop") for reference in ("spect", "truth")
    ]


def test_a_metric_that_is_missing_everywhere(tmp_path: Path) -> None:
    table = metrics_table()
    table.loc[(table["metric"] == "dice_low") & (table["model"] == "ddran"), "value"] = np.nan
    tables = run(tmp_path, table)
    found = tables["summary"].query("model == 'ddran' and metric == 'dice_low'").iloc[0]
    assert (found["n"], found["missing"]) == (0, 4)
    assert np.isnan(found["mean"])
    pairs = tables["pairs"].query("metric == 'dice_low'")
    assert pairs["p"].isna().all() and pairs["p_holm"].isna().all()
    assert set(pairs["excluded"]) == {4}
    every = tables["passes"].query("model == 'ddran' and metric == 'all'")
    assert set(every["n"]) == {0} and set(every["missing"]) == {4}
    assert "nan" in next(line for line in summary_lines(tables["summary"]) if line.startswith("ddran"))


def test_the_short_table_shows_the_first_threshold_in_the_lungs(tmp_path: Path) -> None:
    table = metrics_table()
    summary = run(tmp_path, table)["summary"]
    header, *lines = summary_lines(summary)
    assert len(lines) == 6 and header.split()[:3] == ["model", "target", "SSIM"]
    ddran = summary.query("model == 'ddran' and target == 'perfusion' and region == 'lungs' and definition == 'p40'")
    assert lines[0].split()[-2:] == [
        f"{value:.3f}" for value in ddran.set_index("metric")["mean"][["dice_low", "dice_high"]]
    ]


def baselines_of(table: pd.DataFrame, patients: dict = PATIENTS) -> pd.DataFrame:
    return against_baselines(scores_of(table), patients, KINDS, SETTINGS, 1)


def test_every_network_beside_the_best_baseline() -> None:
    table = baselines_of(metrics_table(), {case: case for case in CASES})
    assert set(table["best_baseline"]) == {"mean_map"}
    assert list(table["network"]) == ["ddran", "ran_perfusion", "ddran", "ran_ventilation"]
    for found in table.itertuples():
        assert found.difference == pytest.approx(found.mean_spearman - found.baseline_mean_spearman)
        assert found.ci_low < found.difference < found.ci_high
        assert found.beats == ("yes" if found.ci_low > 0 else "not shown")
        assert found.n == 8
    rest = metrics_table().query("model != 'mean_map'")
    none = baselines_of(rest)
    assert len(none) == 0 and list(none.columns) == list(table.columns)


@pytest.mark.parametrize(("shift", "beats"), [(0.2, "yes"), (0.01, "not shown"), (-0.2, "no")])
def test_a_network_beats_a_baseline_if_the_interval_says_so(shift: float, beats: str) -> None:
    """A higher mean alone is no victory."""
    noise = np.linspace(-0.1, 0.1, 8)
    rows = [row(f"c{n}", 0.5 + shift + noise[n]) for n in range(8)]
    rows += [row(f"c{n}", 0.5, model="mean_map") for n in range(8)]
    found = baselines_of(pd.DataFrame(rows), {case: case for case in CASES}).iloc[0]
    assert (found["beats"], found["n"]) == (beats, 8)
    assert found["difference"] == pytest.approx(shift)
    assert found["patients_better"] == (shift + noise > 0).sum()
    few = baselines_of(pd.DataFrame(rows)).iloc[0]
    assert (few["n"], few["beats"]) == (4, "not shown"), "four patients are too few for an interval"


def test_a_network_and_its_baseline_are_judged_on_the_same_patients() -> None:
    """The baseline's good patients, which the network lacks, do not raise its mean."""
    rows = [row("c0", 0.5), row("c0", 0.4, model="mean_map"), row("c2", 0.9, model="mean_map")]
    rows += [row("c0", 0.8, model="noise_ceiling")]
    found = baselines_of(pd.DataFrame(rows)).iloc[0]
    assert (found["baseline_mean_spearman"], found["n"], found["beats"]) == (0.4, 1, "not shown")
    apart = [row("c0", 0.5), row("c2", 0.4, model="mean_map")]
    nobody = baselines_of(pd.DataFrame(apart)).iloc[0]
    assert (nobody["n"], nobody["beats"]) == (0, "") and np.isnan(nobody["mean_spearman"])


def test_a_patient_without_the_targets_spect_is_counted_as_excluded(tmp_path: Path) -> None:
    """The cohort has four patients, of one of whom there is no perfusion SPECT: no row of the table tells of it."""
    table = metrics_table()
    table = table[(table["target"] == "ventilation") | ~table["case_id"].isin(["c0", "c1"])]
    pairs = run(tmp_path, table)["pairs"].query("region == 'lungs'")
    told = pairs.groupby("target")[["n", "excluded"]].first()
    assert told.loc["perfusion"].tolist() == [3, 1] and told.loc["ventilation"].tolist() == [4, 0]
    passes_table = read_tsv(tmp_path / "passes.tsv").query("model == 'ddran' and target == 'perfusion'")
    assert set(passes_table["missing"]) == {1}
