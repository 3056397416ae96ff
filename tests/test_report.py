"""The page says what the tables say, needs nothing from elsewhere, and is the same bytes twice."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from registration_records import registration_record
from segmentation_records import lungs_facts, spect_facts, usual_case, write_case

from ct2vq import findings, report
from ct2vq.config import complete_config
from ct2vq.figures import METRIC_NAMES
from ct2vq.files import read_tsv, write_json, write_tsv

LABELS = {
    "ddran": "DDRAN",
    "ran_perfusion": "RAN perfusion",
    "ran_ventilation": "RAN ventilation",
    "mean_map": "mean map",
    "hu_regression": "HU regression",
}
TARGETS = ("perfusion", "ventilation")
MEANS = {"ddran": 0.72, "ran_perfusion": 0.70, "ran_ventilation": 0.66, "mean_map": 0.60, "hu_regression": 0.50}
CHANCE = {"dice_low": 0.40, "dice_high": 0.60}


def models_of(config: dict[str, Any], target: str) -> list[str]:
    return [name for name, model in config["models"].items() if target in model["targets"]]


def metrics_table(config: dict[str, Any], cases: list[str]) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    rows = []
    for case in cases:
        for target in TARGETS:
            for model in models_of(config, target):
                common = (case, model, target)
                for metric in METRIC_NAMES:
                    value = MEANS[model] + generator.normal(0, 0.05)
                    names = ["p40", "p25_p75"] if metric in CHANCE else ["sigma=1.5" if metric == "ssim" else None]
                    rows += [(*common, metric, "lungs", name, "spect", value, "1") for name in names]
                    if metric in CHANCE:
                        chance = (*common, f"{metric}_chance", "lungs")
                        rows += [(*chance, name, "spect", CHANCE[metric], "1") for name in names]
    names = ["case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit"]
    return pd.DataFrame(rows, columns=names)


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    metrics = metrics[metrics["metric"].isin(METRIC_NAMES) & (metrics["definition"] != "p25_p75")]
    keys = ["model", "target", "metric", "definition"]
    groups = metrics.groupby(keys, dropna=False, sort=False)["value"]
    table = (
        groups.agg(["count", "mean", "std", "median"])
        .reset_index()
        .rename(columns={"count": "n", "std": "sd"})
        .assign(q1=0.0, q3=1.0)
    )
    return table.assign(ci_low=table["mean"] - 0.03, ci_high=table["mean"] + 0.03)


def pairs_table(config: dict[str, Any], n: int) -> pd.DataFrame:
    rows = []
    for first, second, target in config["compare"]["pairs"]:
        for metric in METRIC_NAMES:
            significant = metric == "ssim" and target == "perfusion"
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "target": target,
                    "metric": metric,
                    "definition": "p40" if metric in CHANCE else None,
                    "n": n,
                    "median_first": 0.72,
                    "median_second": 0.70,
                    "hodges_lehmann": 0.004,
                    "ci_low": 0.002 if significant else -0.05,
                    "ci_high": 0.006 if significant else 0.06,
                    "p": 0.0005 if significant else 0.4,
                    "p_holm": 0.004 if significant else 1.0,
                    "rank_biserial": 0.8,
                    "zeros": 0,
                    "method": "exact, two-sided",
                    "note": None,
                }
            )
    return pd.DataFrame(rows)


BASELINES = pd.DataFrame(
    [
        ("ddran", "perfusion", 0.72, "mean_map", 0.60, 0.12, 12, 12, True),
        ("ran_perfusion", "perfusion", 0.70, "mean_map", 0.60, 0.10, 11, 12, True),
        ("ddran", "ventilation", 0.59, "mean_map", 0.60, -0.01, 5, 12, False),
        ("ran_ventilation", "ventilation", 0.66, "mean_map", 0.60, 0.06, 9, 12, True),
    ],
    columns=[
        "network", "target", "mean_spearman", "best_baseline", "baseline_mean_spearman", "difference", "cases_better",
        "n", "beats",
    ],
)  # fmt: skip


def build(folder: Path, cases: int = 12) -> dict[str, Any]:
    """Every input of the page in `folder`; returns the arguments of `write_report`."""
    config = complete_config({"study": "example", "cohort": {"source": "simulated"}})
    names = [f"sim{number:03d}" for number in range(1, cases + 1)]
    metrics = metrics_table(config, names)
    tables = {"metrics": metrics, "summary": summary_table(metrics), "pairs": pairs_table(config, cases)}
    tables["baselines"] = BASELINES
    tables["folds"] = pd.DataFrame({"case_id": names, "patient_id": names, "fold": 1})
    for name, table in tables.items():
        write_tsv(table, folder / "compare" / f"{name}.tsv")
    for number, name in enumerate(names):
        missing = number == 3
        qc = registration_record(None if missing else 0.97 - 0.01 * number)
        write_json(qc, folder / "register" / name / "qc.json")
    runs = []
    for model in LABELS:
        for fold in range(2):
            path = folder / "train" / model / f"fold{fold}" / "run.json"
            record = {"fold": fold, "kind": config["models"][model]["kind"], "seconds": 60.0}
            write_json(record | {"parameters": 1000, "seed": 20260, "versions": {"numpy": "2.0"}}, path)
            runs.append(path)
    figures = folder / "report" / "figures"
    return {
        "tables": {name: folder / "compare" / f"{name}.tsv" for name in tables},
        "qc": [folder / "register" / name / "qc.json" for name in names],
        "noticed": [path for name in names for path in usual_case(folder, name)],
        "runs": runs,
        "panels": [figures / "cases" / f"{name}.png" for name in names],
        "registrations": folder / "report" / "registration.html",
        "figures": [figures / f"{name}.png" for name in ("metrics", "training", "cohort")],
        "page": folder / "report" / "index.html",
        "effective_config": folder / "report" / "effective_config.yaml",
        "config": config,
        "labels": LABELS,
        "cases": {
            name: {"fold": number % 2, "targets": list(TARGETS), "diagnosis": "normal & <fit>"}
            for number, name in enumerate(names)
        },
        "flow": {
            "listed": cases + 1,
            "exclusions": [{"case_id": "sim099", "stage": "convert", "reason": "truncated"}],
            "analysed": cases,
            "patients": cases,
            "targets": dict.fromkeys(TARGETS, cases),
            "folds": [cases // 2, cases - cases // 2],
        },
        "simulated": True,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    arguments = build(tmp_path_factory.mktemp("study"))
    report.write_report(**arguments)
    return arguments | {"html": arguments["page"].read_text(encoding="utf-8")}


class Outline(HTMLParser):
    """Links, sources, identifiers and unclosed tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [values[key] for key in ("src", "data") if values.get(key)]
        self.loaded += [values["href"]] if tag == "link" else []
        self.links += [values["href"]] if tag == "a" else []
        self.ids += [values["id"]] if "id" in values else []
        if tag not in ("meta", "img", "br", "link", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"


def test_page_is_well_formed_and_needs_no_network(written: dict[str, Any]) -> None:
    outline = Outline(written["html"])
    assert outline.open == []
    assert all(not re.match(r"(https?:)?//", source) for source in outline.loaded)
    assert "<script" not in written["html"] and "@import" not in written["html"] and "url(" not in written["html"]
    expected = [*written["panels"], *written["figures"]]
    assert sorted(outline.loaded) == sorted(p.relative_to(written["page"].parent).as_posix() for p in expected)
    anchors = {link[1:] for link in outline.links if link.startswith("#")}
    assert anchors <= set(outline.ids) and len(outline.ids) == len(set(outline.ids))
    assert "effective_config.yaml" in outline.links


def test_page_has_the_same_bytes_twice(written: dict[str, Any], tmp_path: Path) -> None:
    again = build(tmp_path)
    report.write_report(**again)
    for name in ("page", "effective_config"):
        assert again[name].read_bytes() == written[name].read_bytes()


def test_page_says_what_it_is(written: dict[str, Any], tmp_path: Path) -> None:
    assert "SYNTHETIC IMAGES, RESEARCH ONLY" in written["html"]
    assert "The patients of this study are simulated" in written["html"]
    real = build(tmp_path) | {"simulated": False}
    report.write_report(**real)
    html = real["page"].read_text(encoding="utf-8")
    assert "SYNTHETIC IMAGES, RESEARCH ONLY" in html and "simulated" not in html.split('id="assumptions"')[0]


def test_user_text_is_escaped(written: dict[str, Any]) -> None:
    assert "normal &amp; &lt;fit&gt;" in written["html"] and "<fit>" not in written["html"]


def test_effective_config_is_complete(written: dict[str, Any]) -> None:
    text = written["effective_config"].read_text(encoding="utf-8")
    assert yaml.safe_load(text) == written["config"]
    assert list(yaml.safe_load(text)) == sorted(written["config"])


def test_summary_follows_from_the_tables(written: dict[str, Any]) -> None:
    summary = read_tsv(written["tables"]["summary"])
    mean = summary.query("model == 'ddran' and target == 'perfusion' and metric == 'spearman'")["mean"].item()
    html = written["html"]
    assert f"DDRAN mean Rs {mean:.3f}" in html
    assert "DDRAN beats every trivial baseline for perfusion" in html
    assert "DDRAN has learnt nothing beyond mean map for ventilation" in html
    assert re.search(r"DDRAN is higher than RAN perfusion in SSIM for perfusion by 0\.004.*too small to matter", html)
    assert "by chance 0.40" in html


def test_other_definitions_are_averaged_over_patients(written: dict[str, Any]) -> None:
    metrics = read_tsv(written["tables"]["metrics"])
    rows = metrics.query("model == 'ddran' and target == 'perfusion' and metric == 'dice_low'")
    values = rows[rows["definition"] == "p25_p75"]["value"]
    details = written["html"].split("Dice with the definition <code>p25_p75</code>")[1].split("</details>")[0]
    assert f"{values.mean():.3f} ± {values.std():.3f}" in details and "n/a" not in details


def test_flagged_registrations_are_told_and_linked(tmp_path: Path) -> None:
    arguments = build(tmp_path)
    path = tmp_path / "register" / "sim001" / "ventilation_qc.json"
    write_json(registration_record(0.95) | {"flags": ["W802 another frame of reference"]}, path)
    arguments["qc"].append(path)
    report.write_report(**arguments)
    html = arguments["page"].read_text(encoding="utf-8")
    section = html.split('id="registration"')[1].split("</section>")[0]
    assert "13 registrations, 2 flagged" in section and "1 of them had no attenuation CT" in section
    for anchor in ("sim004", "sim001.ventilation"):
        assert f'<a href="registration.html#registration-{anchor}">' in section
    assert "W802 another frame of reference" in section and "never dropped" in section
    assert "sim002" not in section, "what is not flagged stands on the registrations' own page"
    assert '<a href="registration.html#registration-sim001.ventilation">registration ventilation</a>' in html


def test_what_segment_and_crop_noticed_is_told_and_linked(tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    cut = "W702 the lungs touch the image's border on the feet side (31 cm2): truncated field of view"
    spots = "W903 4 hot spots held 12.0% of the counts in the lungs; they are handled by inpaint"
    write_case(tmp_path, "sim003", ct_lungs=lungs_facts(cut), ventilation=spect_facts(spots, clump=True))
    arguments["normalised"] = [tmp_path / "report" / "figures" / "crop" / "sim003.png"]
    report.write_report(**arguments)
    html = arguments["page"].read_text(encoding="utf-8")
    section = html.split('<section id="lungs">')[1].split("</section>")[0]
    assert "1 of 4 cases" in section and "W702 in 1, W903 in 1" in section
    assert "<strong>W702</strong> CT: the lungs touch" in section
    assert "<strong>W903</strong> ventilation: 4 hot spots" in section
    assert '<a href="figures/crop/sim003.png">sim003</a>' in section
    assert section.index("sim003") < section.index("sim001"), "what was noticed stands first"
    assert section.count("left out: the method tells no lobes") == 5 and "2400 / 1600" in section
    assert '<a href="#lungs">' in html


def test_published_values_stand_beside_ours(written: dict[str, Any]) -> None:
    section = written["html"].split('id="published"')[1].split("</section>")[0]
    assert "0.871" in section and "p &lt; 0.05 against RAN" in section and "never a target" in section
    assert section.count("RAN ventilation 0.") == 4, "the ventilation RAN is ours beside each published RAN metric"


def test_assumptions_come_from_the_schema(written: dict[str, Any]) -> None:
    rows = {row["key"]: row for row in report.assumptions(written["config"])}
    assert rows["split.folds"]["value"] == "5"
    assert rows["models.ddran.network.coordinates"]["value"] == "true"
    assert "train.epochs" in rows and "train.threads" not in rows
    assert not any(key.startswith("models.mean_map") for key in rows)
    assert all("assumption" in row["reason"].lower() for row in rows.values())


@pytest.mark.parametrize(
    ("low", "high", "spread", "words"),
    [
        (-0.01, 0.01, 0.1, "too small to matter"),
        (0.03, 0.05, 0.1, "large enough to matter"),
        (-0.05, -0.03, 0.1, "large enough to matter"),
        (0.001, 0.05, 0.1, "size uncertain"),
        (math.nan, 0.05, 0.1, "size unknown"),
        (0.01, 0.05, 0.0, "size unknown"),
    ],
)
def test_size_is_judged_by_the_interval(low: float, high: float, spread: float, words: str) -> None:
    assert findings.effect_size_words(low, high, spread) == words


def test_a_tiny_cohort_is_told_that_nothing_can_be_significant(tmp_path: Path) -> None:
    assert findings.smallest_p(4) == 0.125 and findings.smallest_p(1) == 1.0
    small = build(tmp_path, cases=4)
    report.write_report(**small)
    assert "no difference could have been significant, whatever its size" in small["page"].read_text(encoding="utf-8")


def test_a_study_without_pairs_and_baselines_has_a_page(tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    for name in ("pairs", "baselines"):
        table = read_tsv(arguments["tables"][name])
        write_tsv(table.iloc[:0], arguments["tables"][name])
    report.write_report(**arguments)
    html = arguments["page"].read_text(encoding="utf-8")
    assert "No comparison is declared" in html and "no baseline to compare with" in html


def test_numbers_in_words() -> None:
    assert findings.number(-0.12345) == "−0.123" and findings.number(None) == "n/a"
    assert findings.p_value(0.0) == "<\N{NO-BREAK SPACE}0.001" and findings.p_value(0.04) == "0.040"
    assert findings.mean_and_sd(0.5, math.nan) == "0.500"


def test_every_published_value_has_a_source() -> None:
    table = read_tsv(report.RESOURCES / "published.tsv")
    assert all(report.address(identifier).startswith("https://") for identifier in table["identifier"])
    paper = table[table["paper"] == report.PAPER]
    assert len(paper) == 16 and set(paper["metric"]) == set(METRIC_NAMES)
    assert table["mean"].between(0, 1).all()
