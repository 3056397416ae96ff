"""Items of CLAIM 2024 that a reader study answers, with people, with simulated readers and without readers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import pytest

from ct2vq.config import complete_config
from ct2vq.report.checklist import checklist
from ct2vq.report.study import Study

READ = {"reference": {"source": "CT angiography", "adjudication": "two seniors"}, "repeats": 0.2, "washout_days": 35}
LEVELS = {"ann": "resident", "bo": "senior", "cy": "senior"}
#: items that a reader study answers
ITEMS = ("16", "17", "18", "21")


def study_of(who: str | None, asked: float = 118, *, simulated_patients: bool = False) -> Study:
    """A study whose readers are `human`, `simulated`, or none (None)."""
    config = complete_config({"study": "x", "read": READ | {"enabled": who is not None}})
    rows = [
        {"reader": reader, "level": level, "session": session, "items": 11, "answered": 11 if session == 1 else 9}
        for reader, level in LEVELS.items()
        for session in (1, 2)
    ]
    endpoint = {"metric": "accuracy", "margin": 0.1, "alpha": 0.025, "patients_asked": asked, "patients_planned": 40}
    tables = {"completeness": pd.DataFrame(rows), "endpoint": pd.DataFrame([endpoint])}
    empty = pd.DataFrame()
    return Study(
        config=config,
        labels={"ddran": "DDRAN"},
        cases={},
        flow={"listed": 40, "patients": 40, "folds": {1: 20, 2: 20}, "exclusions": []},
        simulated=simulated_patients,
        **dict.fromkeys(("summary", "pairs", "baselines", "metrics", "acquisitions"), empty),
        patients={},
        quality={},
        noticed=[],
        runs=[],
        facts={},
        extra={},
        reading={} if who is None else {name: table.assign(readers=who) for name, table in tables.items()},
    )


def items(study: Study) -> dict[str, dict[str, Any]]:
    rows = checklist(study)
    assert Counter(row["item"] for row in rows) == Counter(str(number) for number in range(1, 45))
    return {row["item"]: row for row in rows if row["item"] in ITEMS}


def test_without_readers_the_author_says_that_nobody_annotated() -> None:
    rows = items(study_of(None))
    assert {row["status"] for row in rows.values()} == {"author"}
    assert all(row["answer"] == "" and row["anchor"] == "" for row in rows.values())
    assert "no reader annotated" in rows["16"]["author"]
    assert all("no reader scored" in rows[item]["author"] for item in ("17", "18"))


def test_people_are_named_by_level_with_what_they_were_held_against() -> None:
    rows = items(study_of("human"))
    assert {item: row["status"] for item, row in rows.items()} == {
        "16": "partly", "17": "filled", "18": "filled", "21": "partly"
    }  # fmt: skip
    assert all(row["anchor"] == "readers" for row in rows.values())
    assert "source: CT angiography; adjudication: two seniors" in rows["16"]["answer"]
    assert "3 readers, by level of experience: 1 resident, 2 senior." in rows["16"]["answer"]
    assert "V and Q alone, acceptability" in rows["17"]["answer"]
    assert "35 days between both; 60 of 66 items answered" in rows["17"]["answer"]
    assert "20% of items shown twice" in rows["18"]["answer"]
    assert "margin 0.1" in rows["21"]["answer"] and "118 patients; the design has 40" in rows["21"]["answer"]
    said = " ".join(text for row in rows.values() for text in (row["answer"], row["author"]))
    assert "no reader" not in said and "SIMULATED" not in said


def test_simulated_readers_are_nobody() -> None:
    rows = items(study_of("simulated", simulated_patients=True))
    for item in ("16", "17"):
        assert "SIMULATED READERS: 3, a noise model" in rows[item]["answer"]
        assert "no person" in rows[item]["answer"]
    assert "the simulated disease" in rows["16"]["answer"]
    assert "CT angiography" not in rows["16"]["answer"]
    assert "Agreement of simulated readers" in rows["18"]["answer"]


def test_an_endpoint_that_no_number_of_patients_can_show() -> None:
    assert "no number suffices" in items(study_of("human", asked=float("nan")))["21"]["answer"]


@pytest.mark.parametrize("who", [None, "human", "simulated"])
def test_what_is_filled_needs_no_author(who: str | None) -> None:
    for row in items(study_of(who)).values():
        assert (row["author"] == "") == (row["status"] == "filled")
