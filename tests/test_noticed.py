"""What segment and crop noticed reaches the report: every warning, of every image, and where lobes come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from segmentation_records import lungs_facts, spect_facts, usual_case, write_case

from ct2vq.noticed import hot_spots, noticed_rows, read_records, summarise_noticed

CUT = "W702 the lungs touch the image's border on the feet side (31 cm2): truncated field of view"
AIR = "W901 3.0% of the network's grid lie beyond the CT and are filled with air (-1000 HU)"
UNSEEN = "W902 7.5% of the lungs lie outside the SPECT and count as empty"


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """A case with warnings in four of its files, and two without."""
    noticed = write_case(
        tmp_path,
        "c2",
        crop={"warnings": [AIR]},
        ventilation=spect_facts(UNSEEN),
        ct_lungs=lungs_facts(CUT),
        attenuation_ct_ventilation_lungs=lungs_facts(CUT),
    )
    lobes = write_case(tmp_path, "c3", ct_lobes=lungs_facts(source="simulated truth"))
    return [*usual_case(tmp_path, "c1"), *noticed, *usual_case(tmp_path, "c3"), *lobes]


def test_noticed_cases_come_first_then_by_name(records: list[Path]) -> None:
    rows = noticed_rows(read_records(records))
    assert [row["case"] for row in rows] == ["c2", "c1", "c3"]
    assert noticed_rows(read_records(records[::-1])) == rows, "whatever the order of the files"


def test_every_warning_stands_with_its_image(records: list[Path]) -> None:
    row = noticed_rows(read_records(records))[0]
    images = ["CT", "attenuation CT of ventilation", "network's grid", "ventilation"]
    assert [warning["image"] for warning in row["warnings"]] == images
    assert [f"{w['code']} {w['words']}" for w in row["warnings"]] == [CUT, CUT, AIR, UNSEEN]
    assert [lungs["ct"] for lungs in row["lungs"]] == images[:2]
    assert [spect["letter"] for spect in row["spect"]] == ["V"], "a target that is missing is not told of"


def test_volumes_stand_right_lung_first(records: list[Path]) -> None:
    row = noticed_rows(read_records(records))[1]
    assert row["lungs"] == [{"ct": "CT", "volumes": "2400 / 1600", "method": "classic"}]
    assert row["thirds"] == ["800 / 810 / 790", "530 / 540 / 530"]


def test_lobes_say_where_they_come_from_or_why_there_are_none(records: list[Path]) -> None:
    _, without, simulated = noticed_rows(read_records(records))
    assert without["lobes"] == [] and without["lobes_source"] == "left out: the method tells no lobes"
    assert simulated["lobes"] == ["800 / 800 / 800", "800 / 800"]
    assert simulated["lobes_source"] == "from simulated truth"


def test_the_summary_counts_cases_not_warnings(records: list[Path]) -> None:
    summary = summarise_noticed(noticed_rows(read_records(records)))
    assert (summary["number"], summary["noticed"]) == (3, 1)
    assert summary["codes"] == [("W702", 1), ("W901", 1), ("W902", 1)]
    assert summary["lobes"] == [("from simulated truth", 1), ("left out: the method tells no lobes", 2)]


def test_hot_spots_in_words() -> None:
    assert hot_spots(spect_facts()) == "none"
    assert hot_spots(spect_facts(method="none", clump=True)) == "not looked for"
    for method, word in (("inpaint", "filled"), ("cap", "capped")):
        words = hot_spots(spect_facts(clump=True, method=method))
        assert words.startswith("1, ") and f"mL {word}, " in words and words.endswith("% of counts")
