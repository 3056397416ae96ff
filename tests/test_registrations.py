"""The cohort's page and table of registrations: every one, the worst first, nothing dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outline import Outline
from registration_records import registration_record

from ct2vq.files import read_tsv, write_json
from ct2vq.register.figures import FIGURES, SPECT_FIGURES
from ct2vq.register.table import COLUMNS, registration_of, write_quality
from ct2vq.registrations import registration_name, worst_first, write_registrations

RECORDS = {
    "a/qc.json": registration_record(0.96),
    "b/qc.json": registration_record(0.93),
    # a case whose name ends like a target's registration of another
    "a_perfusion/qc.json": registration_record(0.97),
    "a/perfusion_qc.json": registration_record(None),
    "c/qc.json": registration_record(0.95) | {"flags": ["W804 <one>", "W803 two"]},
}


def files(folder: Path) -> list[Path]:
    paths = [folder / "register" / name for name in RECORDS]
    for path, record in zip(paths, RECORDS.values(), strict=True):
        write_json(record, path)
    return paths


def write(folder: Path, **changes: Any) -> str:
    qc = files(folder)
    overlays = [folder / "report" / "figures" / f"{number}.png" for number in range(len(qc))]
    page = folder / "report" / "registration.html"
    facts = {"title": "A & B", "simulated": True, "modulated": False} | changes
    table = folder / "register" / "quality.tsv"
    write_quality(qc, table)
    write_registrations(qc, overlays, table, page, folder / "report" / "registration.tsv", **facts)
    assert (folder / "report" / "registration.tsv").read_bytes() == table.read_bytes()
    return page.read_text(encoding="utf-8")


def test_names_of_cases_and_targets_do_not_clash() -> None:
    names = [registration_name(name) for name in RECORDS]
    assert names == ["a", "b", "a_perfusion", "a perfusion", "c"]
    assert [registration_of(f"results/register/{name}") for name in list(RECORDS)[2:4]] == [
        ("a_perfusion", None),
        ("a", "perfusion"),
    ]


def test_the_worst_stands_first(tmp_path: Path) -> None:
    quality = {registration_name(name): record for name, record in RECORDS.items()}
    assert worst_first(quality) == ["c", "a perfusion", "b", "a", "a_perfusion"]
    outline = Outline(write(tmp_path))
    shown = [name.removeprefix("registration-") for name in outline.ids if name.startswith("registration-")]
    assert shown == ["c", "a.perfusion", "b", "a", "a_perfusion"]


def test_the_page_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    html = write(tmp_path)
    outline = Outline(html)
    assert outline.open == [] and "<script" not in html and "url(" not in html
    assert sorted(outline.loaded) == [f"figures/{number}.png" for number in range(5)]
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert "registration.tsv" in outline.links and "index.html" in outline.links
    assert "5 registrations, 2 flagged" in html and "W804 &lt;one&gt;" in html
    assert "1 had no attenuation CT" in html and "A &amp; B" in html
    assert html == write(tmp_path), "the same bytes twice"


@pytest.mark.parametrize("modulated", [True, False])
def test_modulated_counts_are_announced(tmp_path: Path, modulated: bool) -> None:
    assert ("they show counts, not concentrations" in write(tmp_path, modulated=modulated)) == modulated


def test_the_table_holds_every_figure_of_every_registration(tmp_path: Path) -> None:
    write_quality(files(tmp_path), tmp_path / "quality.tsv")
    table = read_tsv(tmp_path / "quality.tsv")
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == len(RECORDS) * (len(FIGURES) + 1 + len(SPECT_FIGURES))
    dice = table.query("metric == 'dice_after' and case_id == 'b'").iloc[0]
    assert dice["value"] == 0.93 and dice["reference"] == "attenuation_ct" and dice["unit"] == "1"
    flags = table.query("metric == 'flags'").set_index("case_id")["value"]
    assert flags["c"] == 2
    alone = table.query("case_id == 'a' and target == 'perfusion' and metric == 'dice_after'")
    assert len(alone) == 1 and alone["value"].isna().all(), "a figure that does not apply is n/a"
