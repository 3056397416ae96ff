"""What comes back is checked; what is refused has a reason, and nothing that was imported is lost."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answered_study import AnsweredStudy, make_study
from typer.testing import CliRunner

from ct2vq.cli import app
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, write_json, write_text
from ct2vq.read.exports import (
    canonical_json,
    check_export,
    digest_of,
    import_export,
    import_exports,
    read_export,
    read_pack,
    signed,
    stored_exports,
)

Document = dict[str, Any]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> AnsweredStudy:
    return make_study(tmp_path_factory.mktemp("exports"), cases=6)


def take(study: AnsweredStudy, path: Path, folder: Path, *, partial: bool = False) -> str:
    return import_export(path, study.folder / "packs", folder, study="small", partial=partial)


def first(document: Document, part: str) -> Document:
    return next(answer for answer in document["answers"] if answer["part"] == part)


def test_canonical_json_is_what_javascript_writes() -> None:
    document = {"b": [1.0, 2.5, 0.1 + 0.2, -0.0, 1e3], "a": {"ü": "é\x7f\U0001f600\n"}, "c": None, "d": True}
    text = '{"a":{"\\u00fc":"\\u00e9\\u007f\\ud83d\\ude00\\n"},"b":[1,2.5,0.3,0,1000],"c":null,"d":true}'
    assert canonical_json(document) == text
    assert digest_of(document | {"digest": "x"}) == digest_of(document)
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def test_an_export_is_accepted_as_it_is(study: AnsweredStudy, tmp_path: Path) -> None:
    path = study.people("ann")
    assert "28 of 28 items" in take(study, path, tmp_path)
    assert (tmp_path / "ann.json").read_bytes() == path.read_bytes()
    assert stored_exports(tmp_path, ["ann", "bo"]) == [tmp_path / "ann.json"]


CHANGES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "study": (lambda d: d.update(study="other"), "study `other`, expected `small`"),
    "reader": (lambda d: d.update(reader="dee"), "no pack of reader `dee`"),
    "pack": (lambda d: d.update(pack="0" * 64), "another pack"),
    "format": (lambda d: d.update(format=2), "format 2"),
    "simulated": (lambda d: d.update(simulated_readers=True), "simulated reader are not imported"),
    "item": (lambda d: d["answers"][0].update(item="abc"), "item `abc` of session 1 is not in the pack"),
    "session": (lambda d: d["answers"][0].update(session=2), "is not in the pack"),
    "twice": (lambda d: d["answers"].append(copy.deepcopy(d["answers"][0])), "answered twice"),
    "part": (lambda d: d["answers"][0].update(part="acceptability"), "expected `diagnosis`"),
    "choice": (lambda d: first(d, "diagnosis")["values"].update(diagnosis="flu"), "`diagnosis` has the value 'flu'"),
    "confidence": (lambda d: first(d, "diagnosis")["values"].update(confidence=6), "`confidence` has the value 6"),
    "true": (lambda d: first(d, "diagnosis")["values"].update(confidence=True), "`confidence` has the value True"),
    "places": (
        lambda d: first(d, "diagnosis")["values"].update(locations=["none", "left_upper"]),
        "`locations` has the value",
    ),
    "rating": (lambda d: first(d, "acceptability")["values"].update(noise=0), "`noise` has the value 0"),
    "guess": (lambda d: first(d, "acceptability")["values"].update(guess="maybe"), "`guess` has the value 'maybe'"),
    "not asked": (lambda d: first(d, "acceptability")["values"].update(beauty=5), "`beauty` was not asked"),
    "lacks": (lambda d: first(d, "diagnosis")["values"].pop("pattern"), "called complete without `pattern`"),
    "seconds": (lambda d: d["answers"][0].update(seconds=-1), "seconds -1"),
    "time": (lambda d: d["sessions"][0].update(started="yesterday"), "is no time"),
    "number of a session": (lambda d: d["sessions"][0].update(number=[1]), "sessions are not those of the pack"),
    "item of a wrong type": (lambda d: d["answers"][0].update(item=["abc"]), "is not in the pack"),
    "session of a wrong type": (lambda d: d["answers"][0].update(session={}), "is not in the pack"),
    "seconds beyond any float": (lambda d: d["answers"][0].update(seconds=10**400), "seconds 1000"),
    "visits": (lambda d: d["answers"][0].update(visits={"a": 1}), "`visits` is no number of times"),
    "half a character": (lambda d: d["answers"][0]["values"].update(comment="\ud800"), "`comment` has the value"),
    "never begun": (lambda d: d.update(sessions=[]), "session 1 was never begun"),
    "sessions": (lambda d: d["sessions"].append({"number": 9}), "sessions are not those of the pack"),
    "incomplete": (lambda d: d["answers"].pop(), "27 of 28 items are complete"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_exports_are_refused_with_a_reason_and_nothing_is_lost(
    study: AnsweredStudy, tmp_path: Path, name: str
) -> None:
    take(study, study.people("ann"), tmp_path)
    before = (tmp_path / "ann.json").read_bytes()
    change, reason = CHANGES[name]
    with pytest.raises(Ct2vqError, match=reason):
        take(study, study.people("ann", change), tmp_path)
    assert (tmp_path / "ann.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["ann.json"]


def test_tampered_and_damaged_files(study: AnsweredStudy, tmp_path: Path) -> None:
    path = study.people("bo")
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    document["answers"][0]["values"]["confidence"] = document["answers"][0]["values"]["confidence"] % 5 + 1
    tampered = tmp_path / "tampered.json"
    write_json(document, tampered)
    with pytest.raises(Ct2vqError, match="digest does not fit"):
        read_export(tampered)
    for number, (content, reason) in enumerate(
        [
            (text[:-40], "not a readable JSON"),
            (text.replace('"format"', '"format": 1, "format"', 1), "not a readable JSON"),
            ("[]", "not an export"),
            ('{"digest": NaN}', "not an export"),
        ]
    ):
        write_text(content, tmp_path / f"{number}.json")
        with pytest.raises(Ct2vqError, match=reason):
            read_export(tmp_path / f"{number}.json")
    with pytest.raises(Ct2vqError, match="does not exist"):
        read_export(tmp_path / "nothing.json")


def test_a_partial_export_grows_and_an_older_one_cannot_replace_it(study: AnsweredStudy, tmp_path: Path) -> None:
    def half(document: Document) -> None:
        document["answers"] = document["answers"][:9]
        document["sessions"] = document["sessions"][:2]
        document["sessions"][1]["finished"] = None

    partial = study.people("cy", half)
    partial = partial.rename(tmp_path / "partial.json")
    kept = tmp_path / "kept"
    assert "9 of 28" in take(study, partial, kept, partial=True)
    with pytest.raises(Ct2vqError, match="imported already"):
        take(study, partial, kept, partial=True)
    whole = study.people("cy")
    assert "the earlier file is kept" in take(study, whole, kept)
    aside = list((kept / "replaced").iterdir())
    assert len(aside) == 1 and aside[0].read_bytes() == partial.read_bytes()
    with pytest.raises(Ct2vqError, match="lacks 19 answers"):
        take(study, partial, kept, partial=True)

    def changed(document: Document) -> None:
        first(document, "diagnosis")["values"]["confidence"] = 6 - first(document, "diagnosis")["values"]["confidence"]
        first(document, "diagnosis")["values"]["comment"] = "again"

    with pytest.raises(Ct2vqError, match="changes 1 answers of finished sessions"):
        take(study, study.people("cy", changed), kept)

    def slower(document: Document) -> None:
        first(document, "diagnosis")["seconds"] += 1

    with pytest.raises(Ct2vqError, match="changes 1 answers of finished sessions, or their seconds"):
        take(study, study.people("cy", slower), kept)
    for name, value in {"started": "2020-01-01T00:00:00Z", "washout_overridden": True}.items():

        def rewritten(document: Document, name: str = name, value: str | bool = value) -> None:
            document["sessions"][1][name] = value

        with pytest.raises(Ct2vqError, match="changes start, end or washout of session 2"):
            take(study, study.people("cy", rewritten), kept)
    assert (kept / "cy.json").read_bytes() == read_bytes_of(study, "cy")


def read_bytes_of(study: AnsweredStudy, reader: str) -> bytes:
    return study.people(reader).read_bytes()


def test_an_export_that_does_not_fit_any_more_is_refused_by_the_analysis(study: AnsweredStudy, tmp_path: Path) -> None:
    document = read_json(study.people("ann"))
    pack = read_pack(study.folder / "packs" / "ann")
    assert check_export(document, pack).whole
    with pytest.raises(Ct2vqError, match="images or design changed"):
        check_export(signed(document | {"pack": "f" * 64}), pack)
    with pytest.raises(Ct2vqError, match="a second export"):
        study.load([study.people("ann"), study.people("ann")])
    with pytest.raises(Ct2vqError, match="people and of simulated readers"):
        study.load([study.people("ann"), study.answer("bo")])


def test_the_command(study: AnsweredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("study: small\n", tmp_path / "config" / "config.yaml")
    good, bad = study.people("ann"), tmp_path / "bad.json"
    write_text("{}", bad)
    call = ["import-reader", str(bad), str(good), "--packs", str(study.folder / "packs")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1 and "accepted, 28 of 28" in done.stdout
    assert "refused" in done.stderr and "not an export" in done.stderr and "Traceback" not in done.output
    assert (tmp_path / "data" / "readers" / "ann.json").is_file()
    again = CliRunner().invoke(app, [*call[:1], *call[2:]])
    assert again.exit_code == 1 and "imported already" in again.stderr


def test_a_file_of_wrong_types_keeps_no_other_from_being_accepted(study: AnsweredStudy, tmp_path: Path) -> None:
    wrong = study.people("ann", lambda document: document["answers"][0].update(item=["abc"]))
    right = study.people("bo")
    packs = study.folder / "packs"
    accepted, refused = import_exports([wrong, right], packs, tmp_path, study="small", partial=False)
    assert (len(accepted), len(refused)) == (1, 1)
    assert (tmp_path / "bo.json").is_file()


def test_answers_of_somebody_who_was_taken_off_the_table_are_not_forgotten(tmp_path: Path) -> None:
    for reader in ("ann", "bo"):
        write_json({}, tmp_path / f"{reader}.json")
    assert stored_exports(tmp_path, ["bo", "ann", "cy"]) == [tmp_path / "bo.json", tmp_path / "ann.json"]
    with pytest.raises(Ct2vqError, match="answers of bo were imported"):
        stored_exports(tmp_path, ["ann"])
