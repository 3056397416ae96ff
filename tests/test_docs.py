"""Pages under docs/ are what their tables give, and every path that the README names exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from ct2vq.files import write_json, write_tsv

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def benchmarks() -> dict:
    return runpy.run_path(str(ROOT / "docs" / "make_benchmarks.py"))


def test_the_benchmarks_page_is_what_the_tables_give(benchmarks) -> None:
    found = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert found == benchmarks["benchmarks_page"](ROOT / "docs" / "benchmarks"), "run `make bench-docs`"


def test_other_pages_say_what_the_tables_give(benchmarks) -> None:
    for name in benchmarks["FILLED_PAGES"]:
        found = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert "<!-- made of" in found, name
        assert found == benchmarks["filled"](found, ROOT / "docs" / "benchmarks"), f"{name}: run `make bench-docs`"


def test_a_benchmark_shows_values_and_machine_without_empty_columns(benchmarks, tmp_path) -> None:
    row = {"arm": "ct2vq", "case": "", "target": "", "reference": "", "metric": "run_time", "value": 61.5, "unit": "s"}
    write_tsv(pd.DataFrame([row]), tmp_path / "some.tsv")
    header = {"title": "Some", "explanation": "What.", "command": "x", "date": "2026-01-01", "cpu": "CPU", "cores": 2}
    write_json(header | {"memory_gib": 8, "python": "3.11", "versions": {"torch": "2"}}, tmp_path / "some.json")
    page = benchmarks["benchmarks_page"](tmp_path)
    assert "| arm | metric | value | unit |\n|---|---|---|---|\n| ct2vq | run_time | 61.5 | s |" in page
    assert "`x`, 2026-01-01, CPU, 2 cores, 8 GiB, Python 3.11, torch 2" in page


def test_the_readme_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    modules = re.findall(r"`(ct2vq/[\w/]+\.py)`", text)
    assert modules
    missing = [name for name in links + modules if not (ROOT / name).exists()]
    assert missing == []


def test_every_rule_has_a_colour_in_the_readme_s_picture() -> None:
    colour = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["_colour"]
    rules = [
        name
        for file in (ROOT / "workflow" / "rules").glob("*.smk")
        for name in re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(rules) > 30
    for rule in rules:
        if not rule.startswith("check"):  # a command of its own
            assert colour(rule).startswith("#")
