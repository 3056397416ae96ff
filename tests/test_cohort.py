"""The cohort table: what is wrong stands in the message with its line, and nobody is dropped silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.cohort import Cohort, load_cohort
from ct2vq.config import complete_config
from ct2vq.errors import ConfigError

HEADER = "case_id\tpatient_id\tct\tperfusion\tventilation\n"
ROWS = "c1\tp1\tc1/ct\tc1/q\tc1/v\nc2\tp1\tc2/ct\tc2/q\t\nc3\tp2\tc3/ct\t\tc3/v\n"


def load(folder: Path, table: str | bytes, exclusions: str | None = None) -> Cohort:
    cases = folder / "cases.tsv"
    cases.write_bytes(table if isinstance(table, bytes) else table.encode())
    excluded = folder / "exclusions.tsv"
    excluded.unlink(missing_ok=True)
    if exclusions is not None:
        excluded.write_text(exclusions)
    settings = {"cases": str(cases), "exclusions": str(excluded), "dicom_root": "/data"}
    return load_cohort(complete_config({"study": "x", "cohort": settings}))


def problem(folder: Path, table: str | bytes, exclusions: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, table, exclusions)
    return str(caught.value)


def test_a_table_becomes_cases(tmp_path: Path) -> None:
    cohort = load(tmp_path, HEADER + ROWS)
    assert cohort.case_ids == ["c1", "c2", "c3"]
    assert [case.patient_id for case in cohort.cases] == ["p1", "p1", "p2"]
    assert cohort["c1"].sources == {"ct": "/data/c1/ct", "perfusion": "/data/c1/q", "ventilation": "/data/c1/v"}
    assert cohort["c2"].targets == ("perfusion",)
    assert cohort.with_target("ventilation") == ["c1", "c3"]
    assert cohort.targets == ["perfusion", "ventilation"]
    assert not cohort.simulated


@pytest.mark.parametrize("optional", ["diagnosis", "site", "age", "sex"])
def test_descriptions_are_kept_and_empty_ones_left_out(tmp_path: Path, optional: str) -> None:
    value = {"age": "61", "sex": "F"}.get(optional, "emphysema, bullous")
    table = f"case_id\tpatient_id\tct\tventilation\t{optional}\nc1\tp\ta\tb\t{value}\nc2\tq\ta\tb\t\n"
    cohort = load(tmp_path, table)
    assert cohort["c1"].attributes == {optional: value}
    assert cohort["c2"].attributes == {}
    assert cohort.targets == ["ventilation"]


CAMERAS = "case_id\tpatient_id\tct\tperfusion\tventilation\tattenuation_ct"
CAMERAS += "\tattenuation_ct_perfusion\tattenuation_ct_ventilation\n"


@pytest.mark.parametrize(
    ("cells", "perfusion", "ventilation", "together"),
    [
        ("q\tv\ta\t\t", "attenuation_ct", "attenuation_ct", ("perfusion", "ventilation")),
        ("q\tv\ta\taq\t", "attenuation_ct_perfusion", "attenuation_ct", ("ventilation",)),
        ("q\tv\ta\t\tav", "attenuation_ct", "attenuation_ct_ventilation", ("perfusion",)),
        ("q\tv\t\taq\tav", "attenuation_ct_perfusion", "attenuation_ct_ventilation", ()),
        ("q\tv\t\taq\t", "attenuation_ct_perfusion", None, ()),
        ("q\tv\t\t\t", None, None, ()),
    ],
)
def test_each_target_finds_its_attenuation_ct(
    tmp_path: Path, cells: str, perfusion: str | None, ventilation: str | None, together: tuple[str, ...]
) -> None:
    case = load(tmp_path, f"{CAMERAS}c\tp\tct\t{cells}\n")["c"]
    assert (case.attenuation_ct("perfusion"), case.attenuation_ct("ventilation")) == (perfusion, ventilation)
    assert case.registered_together == together
    assert set(case.registered_alone) == set(case.targets) - set(together)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("q\t\t\t\tav", ["`attenuation_ct_ventilation` without `ventilation`"]),
        ("\tv\ta\taq\t", ["`attenuation_ct_perfusion` without `perfusion`"]),
        ("q\tv\ta\taq\tav", ["`attenuation_ct` serves no SPECT", "perfusion and ventilation"]),
        ("q\t\ta\taq\t", ["`attenuation_ct` serves no SPECT", "for perfusion"]),
        ("\t\ta\taq\tav", ["neither", "`attenuation_ct_perfusion` without", "`attenuation_ct_ventilation` without"]),
    ],
)
def test_an_attenuation_ct_of_no_spect_is_told(tmp_path: Path, cells: str, said: list[str]) -> None:
    text = problem(tmp_path, f"{CAMERAS}c\tp\tct\t{cells}\n")
    assert [words for words in said if words not in text] == []
    assert text.count("line 2:") == (3 if "neither" in text else 1)


@pytest.mark.parametrize(
    ("cells", "registrations"), [("q\tv\ta\t\t", 1), ("q\t\t\t\t", 1), ("q\tv\ta\taq\t", 2), ("q\tv\t\t\t", 2)]
)
def test_landmarks_belong_to_one_registration(tmp_path: Path, cells: str, registrations: int) -> None:
    table = CAMERAS.replace("\n", "\tlandmarks\n") + f"c\tp\tct\t{cells}\tmarks/c.tsv\n"
    if registrations == 1:
        assert load(tmp_path, table)["c"].landmarks == "/data/marks/c.tsv"
    else:
        assert "`landmarks` of a case with 2 registrations" in problem(tmp_path, table)


def test_paths_that_are_absolute_stay_so(tmp_path: Path) -> None:
    cohort = load(tmp_path, "case_id\tpatient_id\tct\tperfusion\tlung_mask\nc\tp\t/a/ct\tq\tmask.nii.gz\n")
    assert (cohort["c"].sources["ct"], cohort["c"].lung_masks["ct"]) == ("/a/ct", "/data/mask.nii.gz")


@pytest.mark.parametrize(
    "table",
    [
        (HEADER + ROWS).replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + (HEADER + ROWS).encode(),
        b"\xef\xbb\xbf" + (HEADER + ROWS).replace("\n", "\r\n").encode(),
        "# made by hand\n\n" + HEADER + "\n# a comment\n" + ROWS + "\n\t\t\n",
        (HEADER + ROWS).replace("\t", " \t "),
        (HEADER + ROWS).rstrip("\n"),
    ],
    ids=["crlf", "bom", "bom and crlf", "comments", "blanks round cells", "no last newline"],
)
def test_what_spreadsheets_do_to_a_table(tmp_path: Path, table: str | bytes) -> None:
    assert load(tmp_path, table) == load(tmp_path, HEADER + ROWS)


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    text = problem(tmp_path, "case_id\tct\tperfusion\nc\ta\tb\n")
    assert "missing column `patient_id`" in text
    assert "columns found: case_id, ct, perfusion" in text
    assert "cases.tsv" in text


def test_commas_instead_of_tabs(tmp_path: Path) -> None:
    assert "separated by tabs" in problem(tmp_path, (HEADER + ROWS).replace("\t", ","))


def test_an_unknown_and_a_repeated_column(tmp_path: Path) -> None:
    text = problem(tmp_path, "case_id\tpatient_id\tct\tperfusion\tname\nc\tp\ta\tb\tSmith\n")
    assert "unknown column `name`" in text
    assert "Smith" not in text, "what may identify a patient is not repeated"
    assert "repeated column `ct`" in problem(tmp_path, "case_id\tpatient_id\tct\tct\tperfusion\nc\tp\ta\ta\tb\n")


def test_a_repeated_case_names_both_lines(tmp_path: Path) -> None:
    text = problem(tmp_path, "# comment\n" + HEADER + ROWS + "c1\tp9\ta\tb\tc\n")
    assert "line 6: case_id `c1` stands already in line 3" in text


def test_all_wrong_rows_are_told_at_once(tmp_path: Path) -> None:
    text = problem(tmp_path, HEADER + "c 1\tp\ta\tb\t\nc2\t\ta\tb\t\nc3\tp\t\tb\t\nc4\tp\ta\t\t\n")
    for line, said in ((2, "case_id"), (3, "patient_id"), (4, "`ct`"), (5, "neither `perfusion` nor `ventilation`")):
        assert any(f"line {line}:" in row and said in row for row in text.splitlines()), (line, said, text)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "the table is empty"),
        ("# only a comment\n\n", "the table is empty"),
        (HEADER, "no rows"),
        (HEADER + "c\tp\ta\tb\tc\td\te\n", "line 2 has 7 cells"),
        (b"case_id\tpatient_id\tct\tperfusion\nc\t\xe4\ta\tb\n", "UTF-8"),
        (HEADER + "../c\tp\ta\tb\t\n", "line 2"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, table: str | bytes, said: str) -> None:
    assert said in problem(tmp_path, table)


def test_a_missing_table_says_what_to_do(tmp_path: Path) -> None:
    config = complete_config({"study": "x", "cohort": {"cases": str(tmp_path / "none.tsv")}})
    with pytest.raises(ConfigError, match=r"none\.tsv.*cohort\.cases.*does not exist"):
        load_cohort(config)


def test_a_quotation_mark_swallows_no_rows(tmp_path: Path) -> None:
    header = "case_id\tpatient_id\tct\tperfusion\tdiagnosis\n"
    stray = 'c1\tp1\ta\tb\t"normal\nc2\tp2\ta\tb\t"COPD"\nc3\tp3\ta\tb\t\n'
    assert "line 2: a quotation mark" in problem(tmp_path, header + stray)
    cohort = load(tmp_path, header + stray.replace('"normal', '"normal, ""fit"""'))
    assert [case.attributes.get("diagnosis") for case in cohort.cases] == ['normal, "fit"', "COPD", None]


EXCLUSIONS = "case_id\tstage\treason\n"


def test_exclusions_are_taken_out_and_kept_in_mind(tmp_path: Path) -> None:
    cohort = load(tmp_path, HEADER + ROWS, EXCLUSIONS + "c2\tconvert\tmotion, very strong\n")
    assert cohort.case_ids == ["c1", "c3"]
    assert cohort.exclusions == ({"case_id": "c2", "stage": "convert", "reason": "motion, very strong"},)
    assert load(tmp_path, HEADER + ROWS, EXCLUSIONS).case_ids == ["c1", "c2", "c3"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("c9\tconvert\tbad\n", "no case `c9`"),
        ("c1\tconvert\t\n", "line 2: `reason` is empty"),
        ("c1\n", "`stage` is empty"),
        ("c1\ta\tb\nc2\ta\tb\nc3\ta\tb\n", "every case is excluded"),
    ],
)
def test_wrong_exclusions(tmp_path: Path, rows: str, said: str) -> None:
    text = problem(tmp_path, HEADER + ROWS, EXCLUSIONS + rows)
    assert said in text
    assert "exclusions.tsv" in text


def test_an_accepted_registration_must_be_of_a_case(tmp_path: Path) -> None:
    config = complete_config({"study": "x", "cohort": {"source": "simulated", "exclusions": str(tmp_path / "none")}})
    config["register"]["accept"] = ["sim001"]
    assert "sim001" in load_cohort(config).case_ids
    config["register"]["accept"] = ["sim001", "sim01"]
    with pytest.raises(ConfigError, match=r"register\.accept: no such case: sim01$"):
        load_cohort(config)


def simulated(seed: int, cases: int, diagnoses: dict[str, float]) -> Cohort:
    settings = {"cases": cases, "diagnoses": diagnoses}
    cohort = {"source": "simulated", "exclusions": "/nonexistent"}
    return load_cohort(complete_config({"study": "x", "seed": seed, "cohort": cohort, "simulate": settings}))


@given(
    st.integers(0, 10**6),
    st.integers(2, 60),
    st.dictionaries(st.sampled_from(["normal", "emphysema", "embolism", "tumour"]), st.integers(1, 9), min_size=1),
)
def test_simulated_diagnoses_come_in_proportion_and_the_same_each_time(
    seed: int, number: int, weights: dict[str, float]
) -> None:
    cohort = simulated(seed, number, weights)
    assert cohort == simulated(seed, number, weights)
    assert cohort.simulated
    assert len(set(cohort.case_ids)) == len({case.patient_id for case in cohort.cases}) == number
    counts = Counter(case.attributes["diagnosis"] for case in cohort.cases)
    for diagnosis, weight in weights.items():
        assert abs(counts[diagnosis] - number * weight / sum(weights.values())) < 1


def test_lung_masks_belong_to_their_cts_and_lungs_are_told(tmp_path: Path) -> None:
    header = "case_id\tpatient_id\tct\tperfusion\tattenuation_ct\tattenuation_ct_lung_mask\tlungs\n"
    case = load(tmp_path, f"{header}c\tp\tct\tq\tac\tmask\tleft\n")["c"]
    assert case.lung_masks == {"attenuation_ct": "/data/mask"}
    assert case.lungs == "left"
    with pytest.raises(ConfigError, match="`attenuation_ct_lung_mask` without `attenuation_ct`"):
        load(tmp_path, f"{header}c\tp\tct\tq\t\tmask\t\n")
