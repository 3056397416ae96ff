"""The design: balanced, random by the seed, and never both images of a patient in one session."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading_study import SETTINGS, make_cases

from ct2vq.cohort import Case, Cohort
from ct2vq.config import complete_config
from ct2vq.errors import ConfigError
from ct2vq.read.design import dealt_sources, make_design, ordered_items
from ct2vq.read.plan import plan_text
from ct2vq.read.readers import load_readers, study_readers
from ct2vq.read.settings import choice_of, drawn, reading_cases

ALL_PARTS = ["acceptability", "diagnosis_ct", "diagnosis"]


def readers_of(number: int) -> dict[str, str]:
    return {f"reader{index}": "senior" for index in range(number)}


def design_of(cases: int = 10, readers: int = 4, seed: int = 1, **settings: Any) -> dict[str, Any]:
    return make_design(seed, SETTINGS | settings, make_cases(cases), readers_of(readers), simulated=True)


def sources(session: dict[str, Any]) -> dict[str, str]:
    return {item["case_id"]: item["source"] for item in session["items"]}


@given(st.integers(1, 23), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0, 0.1, 0.5, 1]))
def test_every_case_is_read_once_real_and_once_synthesised(cases, readers, seed, repeats) -> None:
    design = design_of(cases, readers, seed, parts=ALL_PARTS, repeats=repeats)
    for own in design["readers"].values():
        sessions = own["sessions"]
        assert [session["part"] for session in sessions[::2]] == ["diagnosis", "diagnosis_ct", "acceptability"]
        for first, second in zip(sessions[::2], sessions[1::2], strict=True):
            assert first["part"] == second["part"]
            assert set(sources(first)) == set(sources(second)) == set(make_cases(cases))
            assert all(sources(first)[case] != sources(second)[case] for case in sources(first))


@given(st.integers(1, 23), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0, 0.01, 0.1, 0.5, 1]))
def test_repeats(cases, readers, seed, share) -> None:
    design = design_of(cases, readers, seed, repeats=share)
    for own in design["readers"].values():
        for session in own["sessions"]:
            items = session["items"]
            again = [(place, item) for place, item in enumerate(items) if item["repeat_of"] is not None]
            wanted = 0 if cases < 3 or not share else max(1, round(share * cases))
            assert len(again) == wanted
            assert len(items) == cases + wanted
            for place, item in again:
                first = items[item["repeat_of"]]
                assert (first["case_id"], first["source"]) == (item["case_id"], item["source"])
                assert place - item["repeat_of"] > 1, "next to each other"
            of_source = Counter(item["source"] for _, item in again)
            assert share == 1 or abs(of_source["real"] - of_source["synthesised"]) <= 1


@given(st.integers(1, 23), st.integers(1, 8), st.text(max_size=3))
def test_halves_are_balanced(cases, readers, seed) -> None:
    table = make_cases(cases)
    dealt = dealt_sources(table, readers_of(readers), seed)
    for real in dealt.values():
        assert abs(2 * len(real) - cases) <= 1
        for reference in {case["reference"] for case in table.values()}:
            stratum = {name for name, case in table.items() if case["reference"] == reference}
            assert abs(2 * len(real & stratum) - len(stratum)) <= 1
    for case in table:
        assert abs(2 * sum(case in real for real in dealt.values()) - readers) <= 1


def test_a_patients_cases_stay_together() -> None:
    table = make_cases(9)
    for name in ("case01", "case02", "case05"):
        table[name]["patient_id"] = "twice"
    for real in dealt_sources(table, readers_of(5), "s").values():
        assert len({"case01", "case02", "case05"} & real) in (0, 3)


def test_a_repeat_is_far_from_its_first_showing_where_there_is_room() -> None:
    generator = random.Random(3)
    items = ordered_items({f"c{index}": "real" for index in range(40)}, 0.1, generator)
    assert min(place - item["repeat_of"] for place, item in enumerate(items) if item["repeat_of"] is not None) > 5


def test_the_same_seed_gives_the_same_design_and_another_one_another() -> None:
    assert design_of() == design_of()
    assert design_of()["readers"] != design_of(seed=2)["readers"]
    orders = {
        tuple(item["case_id"] for item in session["items"])
        for own in design_of()["readers"].values()
        for session in own["sessions"]
    }
    assert len(orders) == 16, "an order for each of 4 readers and 4 sessions"


def test_the_order_of_the_cohort_table_does_not_matter() -> None:
    cases = make_cases(9)
    turned = dict(reversed(cases.items()))
    designs = [make_design(1, SETTINGS, table, readers_of(3), simulated=True) for table in (cases, turned)]
    assert designs[0] == designs[1]


def test_a_reader_added_at_the_end_changes_nothing_for_the_others() -> None:
    for readers in range(1, 6):
        before, after = design_of(readers=readers)["readers"], design_of(readers=readers + 1)["readers"]
        assert {name: after[name] for name in before} == before


def test_sessions_wait_for_each_other_and_show_the_ct_where_it_belongs() -> None:
    sessions = design_of(parts=ALL_PARTS)["readers"]["reader0"]["sessions"]
    assert [session["number"] for session in sessions] == [1, 2, 3, 4, 5, 6]
    assert [session["after"] for session in sessions] == [None, 1, 2, 3, 4, 5]
    assert [session["ct"] for session in sessions] == ["hidden"] * 2 + ["shown"] * 4
    without = SETTINGS["acceptability"] | {"ct": False}
    sessions = design_of(acceptability=without)["readers"]["reader0"]["sessions"]
    assert {session["ct"] for session in sessions} == {"hidden"}


def test_cases_without_a_reference_are_only_judged_for_their_quality() -> None:
    cases = make_cases(6)
    cases["case03"] |= {"diagnosis": None, "reference": None}
    design = make_design(1, SETTINGS, cases, readers_of(2), simulated=False)
    for session in design["readers"]["reader1"]["sessions"]:
        assert ("case03" in sources(session)) == (session["part"] == "acceptability")
    assert design["sample_size"]["present"] == 5


def test_the_plan_says_what_is_fixed() -> None:
    design = {"study": "mine", "simulated": True, "simulated_readers": True, **design_of()}
    text = plan_text(design, SETTINGS, {"ddran": "DDRAN"})
    for said in (
        "SIMULATED READERS",
        "Simulated patients",
        "**118**",
        "**10**",
        "Too few",
        "28 days†",
        "perfusion by DDRAN",
    ):
        assert said in text
    for item in SETTINGS["acceptability"]["items"]:
        assert item["question"] in text
    own = design["readers"]
    assert "takes readers as fixed" in plan_text(design | {"readers": dict(list(own.items())[:2])}, SETTINGS, {})
    assert "this reader alone" in plan_text(design | {"readers": dict(list(own.items())[:1])}, SETTINGS, {})
    five = {f"r{n}": next(iter(own.values())) for n in range(5)}
    assert "Fewer than 5" not in plan_text(design | {"readers": five}, SETTINGS, {})
    people = plan_text(design | {"simulated_readers": False}, SETTINGS, {})
    assert "SIMULATED" not in people


# ---------------------------------------------------------------- what stands before a design


def cohort_of(*diagnoses: str | None, simulated: bool = False) -> Cohort:
    both = {"ct": "x", "perfusion": "x", "ventilation": "x"}
    return Cohort(
        tuple(
            Case(f"c{index}", f"p{index}", both, attributes={"diagnosis": name} if name else {})
            for index, name in enumerate(diagnoses)
        ),
        simulated=simulated,
    )


def config_of(**read: Any) -> dict[str, Any]:
    told = {"source": "follow-up", "adjudication": "two physicians"}
    return complete_config({"study": "x", "read": {"enabled": True, "reference": told} | read})


def test_a_reference_is_a_choice() -> None:
    choices = SETTINGS["diagnosis"]["choices"]
    assert choice_of(" Embolism ", choices) == "embolism"
    assert choice_of("COPD", choices) == "obstructive"
    assert choice_of("measles", choices) is None
    assert choice_of("", choices) is choice_of(None, choices) is None
    cases = reading_cases(config_of(), cohort_of("COPD", None))
    assert cases["c0"] == {"patient_id": "p0", "diagnosis": "COPD", "reference": "obstructive"}
    assert cases["c1"]["reference"] is None


def test_cases_need_both_images() -> None:
    cohort = cohort_of("normal", "embolism")
    half = Case("half", "p", {"ct": "x", "ventilation": "x"}, attributes={"diagnosis": "normal"})
    assert list(reading_cases(config_of(), Cohort((half, *cohort.cases)))) == ["c0", "c1"]
    with pytest.raises(ConfigError, match="no case has both"):
        reading_cases(config_of(), Cohort((half,)))
    with pytest.raises(ConfigError, match="`half` has not both"):
        reading_cases(config_of(cases=["half"]), Cohort((half, *cohort.cases)))
    with pytest.raises(ConfigError, match="`none` is not in the cohort"):
        reading_cases(config_of(cases=["none"]), cohort)


def test_a_diagnosis_that_no_choice_stands_for() -> None:
    with pytest.raises(ConfigError, match="`measles`"):
        reading_cases(config_of(), cohort_of("normal", "measles"))
    with pytest.raises(ConfigError, match="no case has a reference"):
        reading_cases(config_of(), cohort_of(None, None))
    assert len(reading_cases(config_of(parts=["acceptability"]), cohort_of(None, "measles"))) == 2


def test_a_number_of_cases_is_drawn_in_proportion() -> None:
    diagnoses = ["normal"] * 10 + ["embolism"] * 20 + ["COPD"] * 30
    cases = reading_cases(config_of(cases=12), cohort_of(*diagnoses))
    assert Counter(case["diagnosis"] for case in cases.values()) == {"normal": 2, "embolism": 4, "COPD": 6}
    assert list(cases) == sorted(cases, key=lambda case: int(case[1:])), "in the order of the cohort"
    with pytest.raises(ConfigError, match="61 cases are wanted, 60"):
        reading_cases(config_of(cases=61), cohort_of(*diagnoses))


@given(st.integers(1, 30), st.integers(0, 99))
def test_drawn_cases_are_distinct(number, seed) -> None:
    cases = [f"c{index}" for index in range(30)]
    assert len(set(drawn(cases, dict.fromkeys(cases), number, seed))) == number


@pytest.mark.parametrize(
    ("read", "key"),
    [
        ({"models": {"perfusion": "ran_ventilation"}}, "read.models.perfusion"),
        ({"models": {"ventilation": "ddrann"}}, "read.models.ventilation"),
        ({"reference": {"source": "CT"}}, "read.reference.adjudication"),
        ({"endpoint": {"positive": ["embolsm"]}}, "read.endpoint.positive"),
        ({"endpoint": {"positive": ["normal", "embolism", "obstructive", "other"]}}, "read.endpoint.positive"),
        ({"endpoint": {"difference": -0.2}}, "read.endpoint.discordance"),
        ({"endpoint": {"metric": "auc", "difference": 0.15}}, "read.endpoint.difference"),
        ({"acceptability": {"items": [{"name": "guess", "question": "q"}]}}, "read.acceptability.items"),
        ({"diagnosis": {"patterns": [{"name": "a", "label": "b"}] * 2}}, "read.diagnosis.patterns"),
        (
            {"diagnosis": {"choices": [{"name": n, "label": n, "diagnoses": ["X"]} for n in ("embolism", "b")]}},
            "read.diagnosis.choices[].diagnoses",
        ),
    ],
)
def test_what_cannot_be_read_is_said(read: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**read)
    assert f"key `{key}`" in str(caught.value)
    complete_config({"study": "x", "read": read | {"enabled": False}})


def test_the_table_of_readers(tmp_path) -> None:
    table = tmp_path / "readers.tsv"
    table.write_text("reader\tlevel\n# ann\tx\nann\tsenior resident\n\nbo-2\tspecialist\n", encoding="utf-8")
    assert load_readers(table) == {"ann": "senior resident", "bo-2": "specialist"}
    assert study_readers(SETTINGS | {"readers": str(table)}) == load_readers(table)
    simulated = study_readers(SETTINGS | {"simulated": SETTINGS["simulated"] | {"readers": 4}})
    assert list(simulated) == [f"simulated-{number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line"),
        ("reader\n", "first line"),
        ("reader\tlevel\n", "names no reader"),
        ("reader\tlevel\nAnn\tx\n", "line 2: `Ann` is no pseudonym"),
        ("reader\tlevel\n../x\tx\n", "no pseudonym"),
        ("reader\tlevel\nann\tx\nann\ty\n", "line 3: reader `ann` stands there already"),
        ("reader\tlevel\nann\n", "line 2: it must have two cells"),
        ("reader\tlevel\nann\tx\ty\n", "line 2: it must have two cells"),
    ],
)
def test_a_wrong_table_of_readers(tmp_path, text: str, said: str) -> None:
    table = tmp_path / "readers.tsv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_readers(table)
    assert said in str(caught.value)


def test_a_missing_table_of_readers(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist .*read.enabled: false"):
        load_readers(tmp_path / "none.tsv")
