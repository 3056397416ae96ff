"""The pairs under other choices: every combination that the tables hold, once, with the direction of the metric."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from ct2vq.compare.pairs import compare_pairs
from ct2vq.compare.scores import scores_of
from ct2vq.compare.universe import COLUMNS, Choices, compare_universes, favours
from ct2vq.config import complete_config
from ct2vq.files import read_tsv, write_tsv

SETTINGS = complete_config({"study": "x"})["compare"]
CASES = [f"c{n}" for n in range(9)]
PATIENTS = {case: f"p{case}" for case in CASES}
PAIRS = [["ddran", "ran", "perfusion"]]
CHOICES = Choices(PAIRS, ["spearman", "mae", "dice_low"], ["lungs", "core"], ["p40", "equal_volumes"], "p40")
METRICS = {"spearman": [""], "mae": [""], "dice_low": ["p40", "equal_volumes", "curve_p10", "unasked"]}


def table(seed: int, references: tuple[str, ...] = ("spect",), better: float = 0.1) -> pd.DataFrame:
    generator, rows = np.random.default_rng(seed), []
    regions = ("lungs", "core", "right")
    for case, model, metric, region, reference in product(CASES, ("ddran", "ran", "b"), METRICS, regions, references):
        for definition in METRICS[metric]:
            of = {"model": model, "target": "perfusion", "metric": metric, "region": region, "definition": definition}
            value = generator.uniform(0.4, 0.6) + better * (model == "ddran")
            rows.append({"case_id": case} | of | {"reference": reference, "value": value, "unit": "1", "reason": ""})
    return pd.DataFrame(rows)


def run(folder: Path, own: pd.DataFrame, **others: pd.DataFrame) -> pd.DataFrame:
    write_tsv(own, folder / "metrics.tsv")
    joined = [found.assign(spect=name) for name, found in others.items()]
    paths = []
    for case in CASES if joined else ():
        paths.append(folder / f"{case}.tsv")
        write_tsv(pd.concat([found[found["case_id"] == case] for found in joined]), paths[-1])
    known = {"patients": PATIENTS, "seed": 1}
    compare_universes(folder / "metrics.tsv", paths, folder / "sensitivity.tsv", CHOICES, SETTINGS, **known)
    return read_tsv(folder / "sensitivity.tsv")


def test_every_combination_stands_once(tmp_path: Path) -> None:
    found = run(tmp_path, table(0, ("spect", "truth")), mean=table(1), rigid=table(2, better=-0.1))
    assert tuple(found.columns) == COLUMNS
    choices = ["metric", "region", "definition", "spect", "reference"]
    assert not found.duplicated(choices).any()
    items = [("spearman", ""), ("mae", ""), ("dice_low", "p40"), ("dice_low", "equal_volumes")]
    spects = [("study", "spect"), ("study", "truth"), ("mean", "spect"), ("rigid", "spect")]
    expected = {
        (metric, region, definition, spect, reference)
        for (metric, definition), region, (spect, reference) in product(items, ("lungs", "core"), spects)
    }
    assert set(found[choices].itertuples(index=False, name=None)) == expected
    agree = found[found["metric"] != "mae"].groupby("spect")["favours"].unique()
    assert agree["mean"].tolist() == ["first"] and agree["rigid"].tolist() == ["second"]


def test_a_row_is_the_plain_comparison(tmp_path: Path) -> None:
    other = table(1)
    found = run(tmp_path, table(0), mean=other).query("spect == 'mean' and metric == 'spearman' and region == 'core'")
    wide = other.query("metric == 'spearman' and region == 'core'").pivot(
        index="case_id", columns="model", values="value"
    )
    assert found["p"].item() == pytest.approx(wilcoxon(wide["ddran"], wide["ran"], method="exact").pvalue)
    assert found["n"].item() == 9


def test_the_studys_own_rows_are_those_of_the_pairs(tmp_path: Path) -> None:
    own = table(0, ("spect", "truth"))
    found = run(tmp_path, own, mean=table(1)).query("own == 'yes'")
    chosen = SETTINGS | {"pairs": PAIRS, "metrics": CHOICES.metrics, "regions": []}
    pairs = compare_pairs(scores_of(own), PATIENTS, chosen, "p40", 1)
    for column in ("metric", "definition", "n", "hodges_lehmann", "ci_low", "ci_high", "p"):
        assert found[column].tolist() == pytest.approx(pairs[column].tolist()), column


def test_without_alternatives_the_studys_own_choices_remain(tmp_path: Path) -> None:
    found = run(tmp_path, table(0))
    assert set(found["spect"]) == {"study"} and len(found) == 8


def test_a_spect_that_could_not_be_made_is_a_row_without_a_difference(tmp_path: Path) -> None:
    lost = table(1).assign(value=np.nan, reason="there is no activity in the lungs")
    found = run(tmp_path, table(0), lost=lost).query("spect == 'lost'")
    assert set(found["n"]) == {0} and set(found["note"]) == {"no patient has both"}
    assert found["hodges_lehmann"].isna().all() and set(found["favours"]) == {""}


@pytest.mark.parametrize(
    ("difference", "metric", "said"),
    [(0.1, "ssim", "first"), (-0.1, "ssim", "second"), (0.1, "rmse", "second"), (0.0, "mae", "neither")],
)
def test_an_error_favours_whoever_has_less_of_it(difference: float, metric: str, said: str) -> None:
    assert favours(difference, metric) == said
