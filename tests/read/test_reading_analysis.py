"""From exports to tables, figures and the report's section; what cannot be told is missing and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from answered_study import CONFIG, SEED, AnsweredStudy, make_study
from outline import Outline
from PIL import Image
from report_study import build

from ct2vq.figures import Look
from ct2vq.files import read_json, read_tsv
from ct2vq.intervals import newcombe, wilson
from ct2vq.read.acceptability import acceptability_pairs, acceptability_table
from ct2vq.read.accuracy import (
    INFERIOR,
    NON_INFERIOR,
    NOT_COMPUTED,
    WholeCases,
    _farther,
    confusion_table,
    diagnosis_table,
    endpoint_table,
    mcnemar_table,
    mrmc_row,
    mrmc_table,
)
from ct2vq.read.answers import Reading
from ct2vq.read.blinding_index import bang_index, blinding_table
from ct2vq.read.names import FIGURES, REPORTED, TABLES
from ct2vq.read.results import MAKERS, report_reading
from ct2vq.read.shares import share
from ct2vq.read.times import completeness_table, times_table
from ct2vq.report.page import write_report

FIGURE = CONFIG["report"]["figure"] | {"print_dpi": 60, "vector_formats": []}
LOOK = Look({"ddran": "DDRAN"}, ["ddran"], True, FIGURE)
SURE: dict[str, Any] = {"skill": {"resident": 50.0}}


def write(study: AnsweredStudy, exports: list[Path], folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    tables = {name: folder / "read" / f"{name}.tsv" for name in TABLES}
    figures = {name: folder / "figures" / f"{name}.png" for name in FIGURES}
    report_reading(
        exports,
        study.packs,
        study.keys,
        study.design,
        tables,
        figures,
        LOOK,
        settings={"confidence": 0.95, "bootstrap": 50},
        seed=SEED,
    )
    return tables, figures


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> AnsweredStudy:
    return make_study(tmp_path_factory.mktemp("analysis"), cases=12)


@pytest.fixture(scope="module")
def exports(study: AnsweredStudy) -> list[Path]:
    return [study.answer(reader) for reader in study.readers]


@pytest.fixture(scope="module")
def reading(study: AnsweredStudy, exports: list[Path]) -> Reading:
    return study.load(exports)


@pytest.fixture(scope="module")
def written(
    study: AnsweredStudy, exports: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Path], dict[str, Path]]:
    return write(study, exports, tmp_path_factory.mktemp("written"))


def one(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1, table
    return table.iloc[0]


def test_simulated_readers_are_the_same_twice_and_kept_apart(study: AnsweredStudy, exports: list[Path]) -> None:
    first = [path.read_bytes() for path in exports]
    assert [study.answer(reader).read_bytes() for reader in study.readers] == first
    answers = [read_json(path)["answers"] for path in exports]
    assert [a["values"] for a in answers[0]] != [a["values"] for a in answers[1]]


def test_repeats_count_only_for_agreement_and_both_sources_are_of_every_case(reading: Reading) -> None:
    assert len(reading.answers) == 3 * 4 * 13 and len(reading.first) == 3 * 4 * 12
    cases = reading.first.groupby(["reader", "part", "source"])["case_id"].nunique()
    assert (cases == 12).all()
    assert (reading.answers["readers"] == "simulated").all()


def test_skill_follows_the_level(tmp_path: Path) -> None:
    readers = {f"r{n}": level for n, level in enumerate(["resident", "senior"] * 3)}
    study = make_study(tmp_path, cases=60, readers=readers)
    skill = {"resident": 0.8, "senior": 3.0}
    reading = study.load([study.answer(reader, skill=skill) for reader in readers])
    table = diagnosis_table(reading)
    found = table[(table["metric"] == "accuracy") & (table["kind"] == "level")].groupby("group")["value"].mean()
    assert found["senior"] > 0.85 and found["resident"] < 0.7
    both = table[(table["metric"] == "accuracy") & (table["kind"] == "all")].set_index("source")["value"]
    assert abs(both["real"] - both["synthesised"]) < 0.12, "no effect of the source by default"
    worse = study.load([study.answer(reader, skill=skill, source_effect=2.0) for reader in readers])
    row = endpoint_table(worse).iloc[0]
    assert row["conclusion"] == INFERIOR and row["difference"] < -0.2


def test_one_readers_share_has_wilsons_interval_and_several_count_patients() -> None:
    hits = pd.Series([1.0] * 9 + [0.0])
    patients = pd.Series([f"p{n}" for n in range(10)])
    alone = share(hits, patients, 0.95)
    assert (alone["low"], alone["high"]) == pytest.approx(wilson(0.9, 10, 0.95))
    three = share(pd.concat([hits] * 3, ignore_index=True), pd.concat([patients] * 3, ignore_index=True), 0.95)
    assert three["n"] == 30 and (three["low"], three["high"]) == pytest.approx((alone["low"], alone["high"]))
    nothing = share(pd.Series([np.nan]), pd.Series(["p"]), 0.95)
    assert np.isnan(nothing["share"]) and nothing["reason"] == "no answer"


def test_tables_agree_with_the_answers(reading: Reading) -> None:
    answers = reading.first
    mine = answers[(answers["part"] == "diagnosis") & (answers["reader"] == "bo") & (answers["source"] == "real")]
    row = one(diagnosis_table(reading), part="diagnosis", group="bo", source="real", metric="accuracy")
    assert row["value"] == (mine["diagnosis"] == mine["reference"]).mean() and row["patients"] == 12
    counts = confusion_table(reading).query("part == 'diagnosis' and group == 'bo' and source == 'real'")
    assert counts["n"].sum() == 12 and counts[counts["reference"] == counts["called"]]["n"].sum() == row["count"]
    rated = acceptability_table(reading)
    shown = one(rated, question="noise", group="all", source="synthesised")
    values = answers[answers["source"] == "synthesised"]["rating_noise"].dropna()
    assert [shown[f"n_{v}"] for v in range(1, 6)] == [(values == v).sum() for v in range(1, 6)]
    assert shown["least_3"] == (values >= 3).mean() and shown["patients"] == 12
    pairs = acceptability_pairs(reading)
    assert pairs["p_holm"].notna().sum() == 2 and pairs["n"].eq(12).all()
    pair = one(mcnemar_table(reading), reader="ann", metric="accuracy")
    assert pair["both"] + pair["only_synthesised"] + pair["only_real"] + pair["neither"] == 12
    fourfold = [pair[name] for name in ("both", "only_synthesised", "only_real", "neither")]
    assert (pair["difference_low"], pair["difference_high"]) == pytest.approx(newcombe(fourfold, 0.95))
    times = one(times_table(reading), part="diagnosis", group="cy")
    assert times["n"] == 24 and 0.3 < times["ratio"] < 3
    sessions = completeness_table(reading)
    assert (sessions["status"] == "complete").all() and set(sessions["washout_kept"]) == {"", "yes"}


def test_published_blinding_index() -> None:
    """The CRISP trial (Bang 2004, table 7) and Houweling 2014 (the R package BI gives the intervals)."""
    assert bang_index(82, 25, 170, 0.95)[0] == pytest.approx(0.2058, abs=5e-5)
    assert bang_index(29, 27, 83, 0.95)[0] == pytest.approx(0.0144, abs=5e-5)
    assert bang_index(48, 4, 330, 0.95) == pytest.approx((0.115, 0.080, 0.150), abs=5e-4)
    assert bang_index(30, 22, 319, 0.95) == pytest.approx((0.022, -0.016, 0.060), abs=5e-4)
    assert np.isnan(bang_index(0, 0, 0, 0.95)[0])


def test_blinding_of_readers_who_know(tmp_path: Path) -> None:
    study = make_study(tmp_path, cases=8, parts=["acceptability"])
    reading = study.load([study.answer(reader, guess_skill=40.0) for reader in study.readers])
    table = blinding_table(reading)
    assert (table["index"] == 1).all() and (table["low"] < 1).all() and (table["bang_low"] == 1).all()
    assert endpoint_table(reading).iloc[0]["conclusion"] == NOT_COMPUTED


def test_the_endpoint_says_non_inferior_when_it_is(tmp_path: Path) -> None:
    study = make_study(tmp_path, cases=120)
    sharp = {"skill": {"resident": 2.5, "senior": 3.0}, "noise": [1.0, 0.01, 0.2, 0.01]}
    reading = study.load([study.answer(reader, **sharp) for reader in study.readers])
    row = endpoint_table(reading).iloc[0]
    assert row["conclusion"] == NON_INFERIOR and row["low"] > -row["margin"]
    assert (
        row["readers_are"] == "random and fixed"
        and row["patients_counted"] == 120
        and row["n_readers"] == 3
        and row["patients_planned"] == 120
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_endpoints_interval_is_the_wider_of_both_analyses(tmp_path: Path, seed: int) -> None:
    study = make_study(tmp_path, cases=24, readers={"ann": "resident", "bo": "resident"})
    noise = [1.0, 0.2 + seed / 5, 0.2, 0.4]
    reading = study.load([study.answer(reader, skill={"resident": 1.0}, noise=noise) for reader in study.readers])
    row = endpoint_table(reading).iloc[0]
    both = mrmc_table(reading).query("part == 'diagnosis' and metric == 'accuracy' and kind == 'all'")
    assert set(both["readers_are"]) == {"random", "fixed"}
    assert row["low"] == both["low"].min() and row["high"] == both["high"].max()
    assert row["df"] == both.set_index("low").loc[row["low"], "df"]


def test_an_endpoint_without_one_of_both_intervals_is_not_computed() -> None:
    # both readers differ between the sources by the same in different cases: nothing is left for random readers
    cases = WholeCases.of_answers(pd.DataFrame(agreeing_readers()), ("ann", "bo"), ("real", "synthesised"))
    random, fixed = (mrmc_row(cases, "accuracy", analysis, 0.95) for analysis in ("random", "fixed"))
    assert "low" not in random and fixed["low"] < fixed["difference"]
    assert "low" not in _farther(cases, "accuracy", 0.95)


def agreeing_readers() -> list[dict[str, Any]]:
    wrong = {("ann", "synthesised"): 0, ("bo", "synthesised"): 1}
    return [
        {
            "reader": reader,
            "source": source,
            "case_id": f"c{n:02}",
            "patient_id": f"p{n:02}",
            "positive": float(n % 2),
            "correct": float(wrong.get((reader, source)) != n),
            "called_positive": float(n % 2),
            "suspicion": 1.0,
        }
        for reader in ("ann", "bo")
        for source in ("real", "synthesised")
        for n in range(12)
    ]


def no_crash(reading: Reading) -> dict[str, pd.DataFrame]:
    """Every table is made; a missing value has a reason where the table has such a column."""
    made = {name: make(reading) for name, make in MAKERS.items()}
    for name, value in {"diagnosis": "value", "agreement": "value", "mrmc": "difference", "blinding": "index"}.items():
        missing = made[name][made[name][value].isna()]
        assert (missing["reason"].fillna("") != "").all(), name
    low = made["mrmc"][made["mrmc"]["low"].isna()]
    assert (low["reason"].fillna("") != "").all()
    return made


def test_readers_without_a_fault_leave_no_variance(tmp_path: Path) -> None:
    study = make_study(tmp_path, cases=12)
    made = no_crash(study.load([study.answer(reader, **SURE) for reader in study.readers]))
    row = one(made["mrmc"], part="diagnosis", metric="accuracy", kind="all", readers_are="random")
    assert row["difference"] == 0 and np.isnan(row["low"]) and "no variance" in row["reason"]
    assert made["endpoint"].iloc[0]["conclusion"] == NOT_COMPUTED
    assert (made["mcnemar"]["p"] == 1).all()


def test_one_reader_only(tmp_path: Path) -> None:
    study = make_study(tmp_path, cases=12, readers={"ann": "resident"})
    made = no_crash(study.load([study.answer("ann")]))
    random = made["mrmc"][made["mrmc"]["readers_are"] == "random"]
    assert random["difference"].isna().all() and random["reason"].str.contains("one reader only|no").all()
    endpoint = made["endpoint"].iloc[0]
    assert endpoint["readers_are"] == "fixed" and endpoint["reason"] == "one reader only"
    assert set(made["agreement"]["kind"]) == {"between readers", "within a reader", "real and synthesised"}


def test_who_has_not_returned_and_who_has_answered_a_part(study: AnsweredStudy, tmp_path: Path) -> None:
    def half(document: dict[str, Any]) -> None:
        document["answers"] = document["answers"][:17]
        document["sessions"] = document["sessions"][:2]

    made = no_crash(study.load([study.people("ann"), study.people("bo", half)]))
    status = made["completeness"].set_index(["reader", "session"])["status"]
    assert status["ann", 1] == "complete" and status["bo", 2] == "partial" and status["bo", 3] == "not read"
    assert (status["cy"] == "not returned").all()
    row = one(made["mrmc"], part="diagnosis", metric="accuracy", kind="all", readers_are="random")
    assert row["n_readers"] == 2 and row["left_out"] > 0 and row["cases"] + row["left_out"] == 12
    nobody = no_crash(study.load([]))
    assert (nobody["completeness"]["status"] == "not returned").all() and nobody["diagnosis"]["value"].isna().all()
    tables, figures = write(study, [], tmp_path)
    assert all(path.is_file() for path in (*tables.values(), *figures.values()))


def test_a_clock_put_back_makes_no_washout(study: AnsweredStudy) -> None:
    begun = {}

    def put_back(document: dict[str, Any]) -> None:
        first, second = document["sessions"][:2]
        first["finished"] = "1971-01-01T00:00:00Z"
        begun.update({1: pd.Timestamp(first["started"]), 2: pd.Timestamp(second["started"])})

    sessions = completeness_table(study.load([study.people("ann", put_back)]))
    row = one(sessions, reader="ann", session=2)
    assert row["days_since_last"] == pytest.approx((begun[2] - begun[1]) / pd.Timedelta(days=1))


def test_a_conclusion_without_all_readers_is_interim(tmp_path: Path) -> None:
    study = make_study(tmp_path, cases=40)
    exports = [study.answer(reader, skill={"resident": 1.0, "senior": 1.0}) for reader in study.readers]
    whole = endpoint_table(study.load(exports)).iloc[0]
    assert not whole["conclusion"].startswith("interim") and whole["reason"] == ""
    row = endpoint_table(study.load(exports[:2])).iloc[0]
    assert row["conclusion"].startswith("interim, ") and "missing of 1 of 3 readers: cy" in row["reason"]
    assert row["positive"] == "", "what counts as positive, not how many are"


def test_patients_with_two_cases_and_two_cases_only(tmp_path: Path) -> None:
    study = make_study(tmp_path / "two", cases=24, per_patient=2)
    made = no_crash(study.load([study.answer(reader) for reader in study.readers]))
    row = one(made["mrmc"], part="diagnosis", metric="auc", kind="all", readers_are="random")
    assert row["cases"] == 24 and row["patients"] == 12 and row["covariances"] == "jackknife over patients"
    pair = one(made["mcnemar"], part="diagnosis", reader="ann", metric="accuracy")
    assert pair["n"] == 12, "patients, not cases"
    few = make_study(tmp_path / "few", cases=2)
    no_crash(few.load([few.answer(reader) for reader in few.readers]))


def test_files_are_the_same_twice(
    study: AnsweredStudy,
    exports: list[Path],
    written: tuple[dict[str, Path], dict[str, Path]],
    tmp_path: Path,
) -> None:
    again = write(study, exports, tmp_path)
    for first, second in zip(written, again, strict=True):
        assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]
    for path in written[0].values():
        assert (read_tsv(path)["readers"] == "simulated").all(), path
    for path in written[1].values():
        image = np.asarray(Image.open(path).convert("RGB")).astype(int)
        red = (image[..., 0] > 150) & (image[..., 1] < 60) & (image[..., 2] < 80)
        assert red[: len(image) // 3].sum() > 50, f"{path.name} does not say SIMULATED READERS"


def test_the_reports_section(written: tuple[dict[str, Path], dict[str, Path]], tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    write_report(**arguments)
    without = arguments["outputs"]["page"].read_text(encoding="utf-8")
    assert 'id="readers"' not in without and "#readers" not in without and "SIMULATED READERS" not in without
    arguments["tables"] |= {f"reading_{name}": written[0][name] for name in REPORTED}
    folder = tmp_path / "report" / "figures"
    for path in written[1].values():
        (folder / path.name).write_bytes(path.read_bytes())
    arguments["figures"] += [folder / path.name for path in written[1].values()]
    write_report(**arguments)
    html = arguments["outputs"]["page"].read_text(encoding="utf-8")
    outline = Outline(html)
    assert outline.open == [] and len(outline.ids) == len(set(outline.ids))
    section = html.split('<section id="readers">')[1].split("</section>")[0]
    assert all(f"figures/{name}.png" in section for name in FIGURES)
    headings = section.count("<caption>")
    assert headings >= 8 and section.count("<caption>SIMULATED READERS: ") == headings
    endpoint = read_tsv(written[0]["endpoint"]).iloc[0]
    assert f"accuracy {endpoint['synthesised']:.2f} from synthesised and {endpoint['real']:.2f} from real" in section
    counted, planned = (f"{endpoint[f'patients_{name}']:.0f}" for name in ("counted", "asked"))
    assert f"fewer patients than planned ({counted} of {planned})" in section
    drawn = read_tsv(written[1]["reading_endpoint"].with_suffix(".tsv")).query("kind == 'all'").iloc[0]
    assert (drawn["low"], drawn["high"]) == pytest.approx((endpoint["low"], endpoint["high"]), nan_ok=True)
    assert "SIMULATED READERS: primary endpoint" in html.split('id="results"')[0], "the summary says it too"
    assert "nan" not in section.replace("and", "") and "None" not in section
    assert (tmp_path / "report" / "tables" / "reading_mrmc.tsv").is_file()
    assert not (tmp_path / "report" / "tables" / "reading_answers.tsv").exists(), "comments stay where they are"
