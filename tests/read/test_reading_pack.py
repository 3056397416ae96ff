"""A pack is whole, the same every time, and is not replaced once it was answered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from reading_study import SETTINGS, SmallStudy, small_study

from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, sha256_file, write_json
from ct2vq.read.exports import read_pack
from ct2vq.read.pack import KEY_COLUMNS
from ct2vq.read.wording import colours_of, session_titles


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> SmallStudy:
    made = small_study(tmp_path_factory.mktemp("study"))
    for reader in ("ann", "bo"):
        made.pack(reader)
    return made


def hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_pack_is_the_same_every_time_and_another_for_each_reader(study) -> None:
    again = study.pack(name="again")
    assert hashes(again) == hashes(study.folder / "packs" / "ann")
    assert study.key(name="again").read_bytes() == study.key().read_bytes()
    others = hashes(study.folder / "packs" / "bo")
    assert not {name for name in others if name.startswith("volumes/")} & set(hashes(again))


def test_a_pack_holds_all_that_it_names(study) -> None:
    folder = study.folder / "packs" / "ann"
    pack = read_pack(folder / "pack.js")
    named = {
        item[kind]
        for session in pack["sessions"]
        for item in session["items"]
        for kind in ("perfusion", "ventilation", "ct")
        if item[kind]
    }
    assert named == {f"volumes/{path.name}" for path in (folder / "volumes").iterdir()}
    assert (folder / "index.html").is_file()
    assert "ann" in (folder / "README.txt").read_text(encoding="utf-8")
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert pack["simulated"] is True
    assert pack["simulated_readers"] is False
    assert (pack["reader"], pack["level"], pack["voxel_mm"]) == ("ann", "resident", [8, 8, 8])


def test_a_pack_asks_what_the_settings_say(study) -> None:
    pack = read_pack(study.folder / "packs" / "ann" / "pack.js")
    assert [item["name"] for item in pack["acceptability"]["items"]] == [
        item["name"] for item in SETTINGS["acceptability"]["items"]
    ]
    assert [level["value"] for level in pack["acceptability"]["levels"]] == [1, 2, 3, 4, 5]
    assert [guess["name"] for guess in pack["guess"]] == ["real", "synthesised", "unsure"]
    assert pack["diagnosis"]["choices"][1] == {"name": "embolism", "label": "Pulmonary embolism"}
    assert pack["washout"] == {"days": 28, "mode": "lock"}
    assert [window["label"] for window in pack["ct_windows"]] == ["Lung", "Soft tissue"]
    assert [session["title"] for session in pack["sessions"]][2] == "Image quality, session 1 of 2"


def test_the_key_tells_what_the_pack_does_not(study) -> None:
    rows = study.key_rows()
    assert list(rows[0]) == list(KEY_COLUMNS)
    pack = read_pack(study.folder / "packs" / "ann" / "pack.js")
    shown = [(session["number"], item["item"]) for session in pack["sessions"] for item in session["items"]]
    assert [(row["session"], row["item"]) for row in rows] == shown
    assert len({row["item"] for row in rows}) == len(rows)
    record = read_json(study.record())
    assert (record["pack"], record["reader"], record["level"]) == (pack["pack"], "ann", "resident")


def test_a_copy_of_the_key_is_kept_where_nothing_deletes_it(study) -> None:
    kept = study.folder / "archive" / f"ann-{read_json(study.record())['pack'][:8]}.tsv"
    assert kept.read_bytes() == study.key().read_bytes()
    assert kept.with_suffix(".json").is_file()
    assert read_pack(kept.with_suffix(".js"))["pack"] == read_json(study.record())["pack"]


def test_an_answered_pack_is_not_replaced(tmp_path) -> None:
    study = small_study(tmp_path)
    folder = study.pack()
    before, exports = hashes(folder), tmp_path / "exports"
    exports.mkdir()
    answers = exports / "ann.json"
    answers.write_text(json.dumps({"reader": "ann", "pack": read_json(study.record())["pack"]}), encoding="utf-8")
    study.pack()
    assert hashes(folder) == before, "the same pack may be built again"
    other = study.settings | {"title": "Another title"}
    with pytest.raises(Ct2vqError, match="has answered another pack") as caught:
        study.pack(settings=other)
    assert "archive" in str(caught.value)
    assert hashes(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["ann"], "no half-made folder is left"
    study.pack("bo", settings=other)


def test_another_endpoint_is_another_pack_and_another_reader_is_not(tmp_path) -> None:
    study = small_study(tmp_path, number=3)
    study.pack()
    design, first = read_json(study.design), read_json(study.record())["pack"]
    for changed, same in (
        ({"endpoint": design["endpoint"] | {"margin": 0.2}}, False),
        ({"cases": design["cases"] | {"case00": design["cases"]["case00"] | {"reference": "other"}}}, False),
        ({"readers": design["readers"] | {"di": design["readers"]["cy"]}, "sample_size": {}}, True),
    ):
        write_json(design | changed, study.design)
        study.pack()
        assert (read_json(study.record())["pack"] == first) is same


def test_a_pack_replaces_the_one_before(tmp_path) -> None:
    study = small_study(tmp_path, number=3)
    folder = study.pack()
    (folder / "stray.txt").write_text("x")
    study.pack()
    assert not (folder / "stray.txt").exists()


def test_cases_of_different_voxels_do_not_go_into_one_pack(tmp_path) -> None:
    import SimpleITK as sitk

    study = small_study(tmp_path, number=3)
    for path in study.images["case01"].values():
        image = sitk.ReadImage(str(path))
        image.SetSpacing((4.0,) * 3)
        sitk.WriteImage(image, str(path))
    with pytest.raises(Ct2vqError, match="different or unequal spacings"):
        study.pack()
    assert not (tmp_path / "packs" / "ann").exists()


def test_titles_and_colours() -> None:
    assert session_titles(["diagnosis", "diagnosis", "acceptability"]) == [
        "Diagnosis, session 1 of 2",
        "Diagnosis, session 2 of 2",
        "Image quality, session 1 of 1",
    ]
    for name in ("hot_iron", "nuclear", "grey"):
        colours = colours_of(name)
        assert (len(colours), colours[0], colours[-1]) == (256, [0, 0, 0], [255, 255, 255])
        assert {type(value) for colour in colours for value in colour} == {int}


def test_a_study_without_guesses_and_ct(tmp_path) -> None:
    quiet = SETTINGS["acceptability"] | {"ct": False, "guess": False}
    study = small_study(tmp_path, number=3, acceptability=quiet)
    pack = read_pack(study.pack() / "pack.js")
    assert pack["guess"] == []
    assert {item["ct"] for session in pack["sessions"] for item in session["items"]} == {None}
    shutil.rmtree(tmp_path)


def test_names_follow_from_the_secret_not_from_what_a_reader_knows(study: SmallStudy) -> None:
    names = {}
    for secret in ("one", "two"):
        folder = study.pack("ann", f"secret-{secret}", secret=secret)
        names[secret] = {path.name for path in (folder / "volumes").iterdir()}
    assert len(names["one"]) == len(names["two"])
    assert not names["one"] & names["two"]
