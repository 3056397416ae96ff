"""A person reads a whole pack in a real browser; the file that comes back is imported by the command and analysed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest
from browser import browser, needs_browser
from reader import Reader
from reading_study import READERS, SmallStudy, small_study
from typer.testing import CliRunner

from ct2vq.cli import app
from ct2vq.config import complete_config
from ct2vq.figures import Look
from ct2vq.files import read_tsv, write_json
from ct2vq.read.exports import read_pack, stored_exports
from ct2vq.read.names import FIGURES, TABLES
from ct2vq.read.results import report_reading

pytestmark = [pytest.mark.browser, needs_browser]
CASES = 4


def test_from_the_pack_to_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(tmp_path / "study", CASES, washout_days=0, repeats=0.0)
    for reader in READERS:
        study.pack(reader)
    pack = read_pack(study.folder / "packs" / "ann")
    with browser(tmp_path / "profile") as page:
        given, returned = read_all(Reader(page), study.folder / "packs" / "ann", tmp_path / "saved")
        assert page.complaints == []
    assert len(given) == sum(len(session["items"]) for session in pack["sessions"]) == 4 * CASES

    monkeypatch.chdir(tmp_path)
    configuration = tmp_path / "config.yaml"
    write_json({"study": "small", "read": {"exports": "answers"}}, configuration)  # JSON is YAML
    command = ["import-reader", str(returned), "--packs", str(study.folder / "packs"), "--configfile", "config.yaml"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    exports = stored_exports(tmp_path / "answers", READERS)
    assert [path.read_bytes() for path in exports] == [returned.read_bytes()]

    tables = analyse(study, exports, tmp_path / "tables")
    answers = tables["answers"].set_index("item")
    key = pd.concat([read_tsv(study.key(reader)) for reader in READERS]).set_index("item")
    mine = answers[answers["reader"] == "ann"]
    assert set(mine.index) == set(given)
    assert (mine["case_id"] == key.loc[mine.index, "case_id"]).all()
    for item, values in given.items():
        for name, value in values.items():
            column = name if name in answers else f"rating_{name}"
            assert str(answers.loc[item, column]).removesuffix(".0") == value, (item, name)
    shown = mine[mine["part"] == "diagnosis"]
    right = (shown["diagnosis"] == shown["reference"]).groupby(shown["source"]).mean()
    table = tables["diagnosis"]
    chosen = table[(table["kind"] == "reader") & (table["group"] == "ann") & (table["metric"] == "accuracy")]
    assert chosen.set_index("source")["value"].to_dict() == pytest.approx(right.to_dict())
    status = tables["completeness"].groupby("reader")["answered"].sum()
    assert status.to_dict() == {"ann": 4 * CASES, "bo": 0, "cy": 0}


def read_all(reader: Reader, folder: Path, saved: Path) -> tuple[dict[str, dict[str, str]], Path]:
    """Answer every item of every session, each in its own way; returns what was chosen by item, and the file."""
    given: dict[str, dict[str, str]] = {}
    reader.open(folder)
    pack = json.loads(reader.page.run("JSON.stringify(ct2vqRead.pack)"))
    for session in pack["sessions"]:
        if session["number"] == 2:
            reader.open(folder)  # the browser may be closed between sessions
        elif session["number"] > 1:
            reader.click("#export-back")
        reader.begin()
        for place in range(len(session["items"])):
            number = len(given)
            if session["part"] == "diagnosis":
                keys = (str(1 + number % 3), str(1 + number % 5), "2", "Enter", str(1 + number % 3))
            else:
                keys = (*(str(1 + (number + question) % 5) for question in range(5)), str(1 + number % 3))
            reader.answer(keys)
            chosen = {name: values[0] for name, values in reader.chosen().items() if values and name != "locations"}
            given[reader.item()] = chosen
            if place + 1 < len(session["items"]):
                reader.next()
        reader.finish()
    reader.page.save_downloads_in(saved)
    reader.click("#save-file")
    path = saved / f"ct2vq-ann-{pack['pack'][:8]}.json"
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return given, path


def analyse(study: SmallStudy, exports: list[Path], folder: Path) -> dict[str, pd.DataFrame]:
    """All tables and figures that the rule makes, the tables read again."""
    figure = complete_config({"study": "small"})["report"]["figure"] | {"vector_formats": [], "print_dpi": 60}
    packs = [study.folder / "packs" / reader for reader in READERS]
    tables = {name: folder / f"{name}.tsv" for name in TABLES}
    figures = {name: folder / f"{name}.png" for name in FIGURES}
    report_reading(
        exports,
        packs,
        [study.key(reader) for reader in READERS],
        study.design,
        tables,
        figures,
        Look({"ddran": "DDRAN"}, ["ddran"], True, figure),
        settings={"confidence": 0.95, "bootstrap": 50},
        seed=7,
    )
    assert all(path.stat().st_size > 2000 for path in figures.values())
    return {name: read_tsv(path) for name, path in tables.items()}
