"""The page of a pack in a real browser, opened from disk: sessions by keyboard, reloads, a killed browser, exports."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import BROWSER, Browser, browser, faint_texts
from firefox import FIREFOX, Firefox, firefox
from packs import CASES, build_pack, sessions
from reader import ACCEPTABILITY, DIAGNOSIS, FRONT, Reader, colourful

from ct2vq.files import sha256_text
from ct2vq.read.exports import check_export, read_export, read_pack

pytestmark = pytest.mark.browser
#: what starts each browser, if this machine has it
BROWSERS = {"chromium": (BROWSER, browser), "firefox": (FIREFOX, firefox)}
INDEX = {"ventilation": 0, "perfusion": 1}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(_profile("chromium", tmp_path_factory)) as running:
        yield running


@pytest.fixture(scope="module")
def running_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox(_profile("firefox", tmp_path_factory)) as running:
        yield running


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of the phantom pack, made once."""
    folder = tmp_path_factory.mktemp("volumes")
    build_pack(folder)
    return folder


@pytest.fixture
def make_pack(tmp_path: Path, volumes: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Makes a pack of its own digest, in a place with a blank and a sign in its name."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "a folder & more"
        build_pack(folder, title=f"Reading, {request.node.name}", **changes)
        return folder

    return make


@pytest.fixture
def reader(chromium: Browser) -> Iterator[Reader]:
    """A reader; whatever the test did, nothing was complained of and nothing came from elsewhere."""
    chromium.open("about:blank")
    chromium.requests.clear()
    chromium.complaints.clear()
    yield Reader(chromium)
    assert chromium.complaints == []
    outside = [url for url in chromium.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]
    assert outside == []
    chromium.open("about:blank")


@pytest.fixture
def reader_in_firefox(running_firefox: Firefox) -> Iterator[Reader]:
    """A reader in the other browser."""
    yield Reader(running_firefox)
    assert running_firefox.complaints == []
    running_firefox.open("about:blank")


@pytest.fixture(params=["reader", "reader_in_firefox"], ids=list(BROWSERS))
def any_reader(request: pytest.FixtureRequest) -> Reader:
    """A reader in each browser in turn."""
    return request.getfixturevalue(request.param)


def _profile(name: str, factory: pytest.TempPathFactory) -> Path:
    """A new profile for a browser; the test is skipped without that browser."""
    if BROWSERS[name][0] is None:
        pytest.skip(f"no {name} on this machine")
    return factory.mktemp(name)


def digest_of(export: dict[str, Any]) -> str:
    """As `docs/reading.md` has it, with Python's own JSON."""
    rest = {key: value for key, value in export.items() if key != "digest"}
    return sha256_text(json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def test_whole_session_from_the_first_page_to_the_file(
    any_reader: Reader, make_pack: Callable[..., Path], tmp_path: Path
) -> None:
    reader = any_reader
    folder = make_pack()
    reader.open(folder)
    assert reader.view() == "home" and "keeps answers" in reader.text("#kept .state")
    assert "simulated" in reader.text("#home .banner")
    reader.begin()
    first = reader.item()
    reader.page.press("n")
    assert reader.text("#missing") == "4 questions are open"
    reader.answer(DIAGNOSIS)
    expected = {"diagnosis": ["pulmonary_embolism"], "confidence": ["4"], "pattern": ["mismatched"]}
    assert reader.chosen() == expected | {"locations": ["right_lower", "left_lower"], "comment": []}
    reader.next()
    second = reader.item()

    reader.answer(DIAGNOSIS[:2])
    reader.open(folder)
    assert "1 of 3 answered" in reader.text("#sessions .standing")
    reader.begin()
    assert reader.item() == second and reader.chosen()["confidence"] == ["4"], "a reload loses nothing"
    for key in DIAGNOSIS[2:]:
        reader.page.press(key)
    reader.page.press("Backspace")
    reader.page.wait_for(f"document.body.dataset.item === {json.dumps(first)} && {FRONT}")
    reader.click("[data-question=diagnosis] [data-value=normal]")
    reader.click("[data-question=comment] textarea")
    reader.page.type('Sehr schön \u2713, "quoted"\n')
    reader.page.press("Enter")
    reader.saved()
    reader.next()
    reader.next()
    reader.answer(DIAGNOSIS)
    reader.finish()
    assert "So far" not in reader.text("#export h1")

    reader.page.save_downloads_in(tmp_path / "saved")
    reader.click("#save-file")
    pack = json.loads(reader.page.run("JSON.stringify(ct2vqRead.pack)"))
    path = tmp_path / "saved" / f"ct2vq-reader_a-{pack['pack'][:8]}.json"
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    export = read_export(path)
    coverage = check_export(export, read_pack(folder))
    assert coverage.complete == CASES and not coverage.whole
    check_content(export, pack)


def check_content(export: dict[str, Any], pack: dict[str, Any]) -> None:
    assert export["digest"] == digest_of(export)
    assert {key: export[key] for key in ("format", "study", "reader", "pack", "simulated_readers")} == {
        "format": 1,
        "study": "phantoms",
        "reader": "reader_a",
        "pack": pack["pack"],
        "simulated_readers": False,
    }
    assert [(s["number"], s["washout_overridden"]) for s in export["sessions"]] == [(1, False)]
    assert export["sessions"][0]["started"] < export["sessions"][0]["finished"] <= export["exported"]
    answers = export["answers"]
    assert [a["item"] for a in answers] == [item["item"] for item in pack["sessions"][0]["items"]]
    assert all(a["complete"] and a["part"] == "diagnosis" and 0 < a["seconds"] < 60 for a in answers)
    # opened, come back to; opened, reloaded, left backwards and passed again; opened once
    assert [a["visits"] for a in answers] == [2, 3, 1]
    assert [a["changes"] for a in answers] == [1, 0, 0]
    assert answers[0]["values"]["diagnosis"] == "normal"
    assert answers[0]["values"]["comment"].startswith('Sehr schön \u2713, "quoted"')
    assert answers[1]["values"] == {
        "diagnosis": "pulmonary_embolism",
        "confidence": 4,
        "locations": ["right_lower", "left_lower"],
        "pattern": "mismatched",
        "comment": "",
    }


@pytest.mark.parametrize("name", BROWSERS)
def test_what_is_said_to_be_saved_outlives_a_killed_browser(
    make_pack: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = make_pack()
    profile = _profile(name, tmp_path_factory)
    start = BROWSERS[name][1]
    with start(profile) as running:
        reader = Reader(running)
        reader.open(folder)
        reader.begin()
        reader.answer(DIAGNOSIS[:2])
        running.kill()
    for lock in profile.glob("Singleton*"):
        lock.unlink()
    with start(profile) as running:
        reader = Reader(running)
        reader.open(folder)
        reader.begin()
        chosen = reader.chosen()
    assert chosen["diagnosis"] == ["pulmonary_embolism"] and chosen["confidence"] == ["4"]


@pytest.mark.parametrize("mode", ["lock", "warn"])
def test_washout(reader: Reader, make_pack: Callable[..., Path], mode: str) -> None:
    few = sessions(cases=1)
    folder = make_pack(sessions=few, washout={"days": 28, "mode": mode})
    reader.open(folder)
    assert "After session 1 and 28 days" in reader.text("#sessions li:nth-child(2)")
    assert "After session 3 and 28 days" in reader.text("#sessions li:nth-child(4)")
    reader.read_session(DIAGNOSIS, 1)
    soon = reader.later(27)
    try:
        reader.open(folder)
        assert "1 day to wait" in reader.text("#sessions li:nth-child(2)")
        assert reader.page.run("document.querySelectorAll('#sessions button.main').length") == 0
        early = reader.page.run("document.querySelectorAll('#sessions button').length")
        assert early == (1 if mode == "warn" else 0)
        if mode == "warn":
            reader.click("#sessions button")
            reader.click("#ask [data-answer=yes]")
            reader.page.wait_for(FRONT)
            reader.saved()
            reader.click("#leave")
            reader.page.wait_for("document.body.dataset.view === 'home'")
            reader.click("#to-export")
            assert [s["washout_overridden"] for s in reader.exported()["sessions"]] == [False, True]
    finally:
        reader.page.take_back(soon)
    if mode == "lock":
        then = reader.later(28.01)
        reader.open(folder)
        reader.page.take_back(then)
        reader.begin()
        assert reader.item() == few[1]["items"][0]["item"]


def test_keys_and_wheel_move_all_planes_of_both_images(any_reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader = any_reader
    reader.open(make_pack())
    reader.begin()
    before = reader.canvas()
    assert colourful(before) > 0.15
    for _ in range(3):
        reader.page.press("ArrowDown")
    moved = reader.canvas()
    half, third = before.shape[0] // 2, before.shape[1] // 3
    for top in (0, half):
        coronal = np.abs(moved - before)[top : top + half - 40, : third - 20]
        assert coronal.mean() > 0.5, "V and Q follow"
    box = reader.page.box("#canvas")
    place = {"x": box["x"] + third * 1.4, "y": box["y"] + 150}
    reader.page.mouse("mouseWheel", **place, button="none", deltaX=0, deltaY=120)
    reader.page.wait_for("document.querySelector('#planes [aria-pressed=true]').dataset.value === 'axial'")
    assert np.abs(reader.canvas() - moved).mean() > 0.2
    told = reader.text("#told")
    reader.page.mouse("mousePressed", **place)
    reader.page.mouse("mouseReleased", **place)
    reader.page.wait_for(f"document.getElementById('told').textContent !== {json.dumps(told)}")
    for key, layout in (("o", "single"), ("m", "montage"), ("t", "planes")):
        reader.page.press(key)
        reader.page.wait_for(f"document.querySelector('#layouts [aria-pressed=true]').dataset.value === '{layout}'")
        assert colourful(reader.canvas()) > 0.1


def test_right_is_right(any_reader: Reader, make_pack: Callable[..., Path]) -> None:
    """The defect is in the patient's left lung, low: right and low on a coronal slice; it is in Q alone."""
    reader = any_reader
    reader.open(make_pack())
    reader.begin()
    reader.page.press("x")
    reader.page.press("o")
    # behind the middle, where the defect is
    for _ in range(4):
        reader.page.press("ArrowDown")
    picture = reader.canvas().sum(axis=2)
    height, width = picture.shape
    low = slice(int(height * 0.62), int(height * 0.68))
    where = {(image, side): picture[low, int(width * (0.5 * place + at)) :][:, : int(width * 0.02)].mean()
             for image, place in INDEX.items() for side, at in (("right", 0.13), ("left", 0.35))}  # fmt: skip
    assert where["perfusion", "left"] < 0.3 * where["perfusion", "right"], where
    assert where["ventilation", "left"] > 0.7 * where["ventilation", "right"], where
    assert abs(where["ventilation", "right"] - where["perfusion", "right"]) < 20, where


def test_window_and_colours(reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader.open(make_pack())
    reader.begin()
    usual = reader.canvas()
    reader.page.press("k")
    grey = reader.canvas()
    assert reader.page.run("document.getElementById('map').value") == "grey" and colourful(grey) < 0.02 < colourful(
        usual
    )
    for _ in range(4):
        reader.page.press("l")
    assert reader.canvas().mean() > 1.1 * grey.mean() and reader.text("#window") == "0\u201380 %"
    reader.page.press("D", shift=True)
    reader.page.wait_for("document.getElementById('window').textContent === '5\u201380 %'")
    reader.page.press("r")
    reader.page.wait_for("document.getElementById('window').textContent === '0\u2013100 %'")
    box = reader.page.box("#canvas")
    reader.page.mouse("mousePressed", box["x"] + 100, box["y"] + 200, "right")
    reader.page.mouse("mouseMoved", box["x"] + 100, box["y"] + 170, "right")
    reader.page.mouse("mouseReleased", box["x"] + 100, box["y"] + 170, "right")
    reader.page.wait_for("document.getElementById('window').textContent === '0\u201390 %'")
    reader.answer(DIAGNOSIS)
    reader.next()
    # every item begins with the same window
    reader.page.wait_for("document.getElementById('window').textContent === '0\u2013100 %'")
    assert reader.page.run("document.getElementById('map').value") == "grey", "the colours stay"


def test_ct_is_hidden_from_part_two(reader: Reader, make_pack: Callable[..., Path]) -> None:
    folder = make_pack()
    reader.open(folder)
    reader.begin()
    reader.page.press("f")
    reader.page.press("b")
    reader.canvas()
    assert not reader.page.run("document.querySelector('.group.ct').checkVisibility()")
    assert "CT" not in reader.text("#told")
    asked = sessions()[2]["items"]
    assert not [url for url in reader.page.requests if any(item["ct"] in url for item in asked)]


def test_ct_beside_and_fused(reader: Reader, make_pack: Callable[..., Path]) -> None:
    folder = make_pack(sessions=[sessions()[2] | {"number": 1, "after": None}])
    reader.open(folder)
    reader.begin()
    beside = reader.canvas()
    third = beside.shape[0] // 3
    assert colourful(beside[2 * third + 5 :]) < 0.02 and (beside[2 * third + 5 :].max(axis=2) > 150).mean() > 0.1
    reader.page.press("f")
    fused = reader.canvas()
    assert (fused[:third].max(axis=2) > 150).mean() > (beside[:third].max(axis=2) > 150).mean() + 0.1, "CT below"
    for _ in range(6):
        reader.page.press("E", shift=True)
    assert colourful(reader.canvas()) < 0.2 * colourful(fused), "no function at opacity 0"
    reader.page.press("w")
    assert "Soft tissue" in reader.text("#ct-window") and "HU" in reader.text("#told")
    reader.page.press("b")
    assert np.abs(reader.canvas() - fused).mean() > 1
    reader.answer(ACCEPTABILITY)
    assert reader.chosen() == {
        "plausibility": ["4"],
        "noise": ["3"],
        "sharpness": ["5"],
        "artefacts": ["4"],
        "overall": ["2"],
        "guess": ["unsure"],
    }


def test_no_way_back_where_the_study_says_so(reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader.open(make_pack(go_back=False))
    reader.begin()
    reader.answer(DIAGNOSIS)
    reader.next()
    here = reader.item()
    assert not reader.page.run("document.getElementById('back').checkVisibility()")
    reader.page.press("Backspace")
    time.sleep(0.3)
    assert reader.item() == here


def test_pause_and_idleness_are_not_counted(reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader.open(make_pack(idle_minutes=1.2 / 60))
    reader.begin()
    reader.page.press("p")
    assert reader.text("#cover p") == "Paused"
    time.sleep(1.5)
    reader.page.press("Enter")
    reader.page.wait_for(FRONT)
    reader.page.press("1")
    reader.page.wait_for("document.getElementById('paused').open")
    assert "Nobody was here" in reader.text("#paused p")
    reader.page.press("Enter")
    reader.click("#leave")
    reader.page.wait_for("document.body.dataset.view === 'home'")
    reader.click("#to-export")
    assert 0 < reader.exported()["answers"][0]["seconds"] < 1.4


def test_moved_folder_keeps_its_answers(reader: Reader, make_pack: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_pack()
    reader.open(folder)
    reader.begin()
    reader.answer(DIAGNOSIS)
    shutil.move(folder, tmp_path / "elsewhere")
    reader.open(tmp_path / "elsewhere")
    assert "1 of 3 answered" in reader.text("#sessions .standing")


def test_export_goes_on_in_another_browser(reader: Reader, make_pack: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_pack()
    reader.open(folder)
    reader.begin()
    reader.answer(DIAGNOSIS)
    reader.click("#leave")
    reader.page.wait_for("document.body.dataset.view === 'home'")
    assert not reader.page.run("document.getElementById('restore').checkVisibility()"), (
        "not over answers that are there"
    )
    reader.click("#to-export")
    export = reader.exported()
    changed = export | {"answers": [export["answers"][0] | {"seconds": 1}]}
    # another computer: a browser that has nothing of this pack
    reader.page.run("indexedDB.databases().then(all => all.forEach(one => indexedDB.deleteDatabase(one.name)))")
    reader.open(folder)
    assert reader.page.run("document.getElementById('restore').checkVisibility()")
    give_file(reader, tmp_path / "changed.json", changed)
    reader.page.wait_for("document.getElementById('ask').open")
    assert "was changed after it was exported" in reader.text("#ask p")
    reader.click("#ask [data-answer=yes]")
    give_file(reader, tmp_path / "export.json", export)
    reader.page.wait_for("document.querySelector('#sessions .standing')?.textContent === '1 of 3 answered'")
    reader.begin()
    assert reader.page.run("document.getElementById('where').textContent").endswith("item 2 of 3")


def give_file(reader: Reader, path: Path, export: dict[str, Any]) -> None:
    path.write_text(json.dumps(export))
    chosen = reader.page.call("Runtime.evaluate", expression="document.querySelector('#restore input')")
    reader.page.call("DOM.setFileInputFiles", files=[str(path)], objectId=chosen["result"]["objectId"])


def test_second_window_stops_the_first(reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader.open(make_pack())
    reader.begin()
    reader.page.run("ct2vqRead.openStore(ct2vqRead.pack.pack).then(() => 1)")
    reader.page.press("1")
    reader.page.wait_for("document.body.dataset.view === 'problem'")
    assert "another window" in reader.text("#problem h1")


def test_failed_write_is_told_and_can_be_repeated(reader: Reader, make_pack: Callable[..., Path]) -> None:
    reader.open(make_pack())
    reader.begin()
    reader.page.run(
        "window.put = IDBObjectStore.prototype.put; IDBObjectStore.prototype.put = "
        "() => { throw new DOMException('the disk is full', 'QuotaExceededError'); }; 1"
    )
    reader.page.press("2")
    reader.page.wait_for("document.body.dataset.view === 'problem'")
    assert "could not be saved" in reader.text("#problem h1") and "disk is full" in reader.text("#problem .reason")
    reader.page.run("IDBObjectStore.prototype.put = window.put; 1")
    reader.click("#problem-action")
    reader.page.wait_for(FRONT)
    assert reader.chosen()["diagnosis"] == ["pulmonary_embolism"]


STORAGES = {
    "none": "Object.defineProperty(window, 'indexedDB', {value: undefined})",
    "refused": "IDBFactory.prototype.open = () => { throw new DOMException('not allowed here', 'SecurityError'); }",
    "forgetful": "IDBObjectStore.prototype.put = function () { return this.get('nothing'); }",
}


@pytest.mark.parametrize("kind", STORAGES)
def test_browser_without_storage_says_so_first(reader: Reader, make_pack: Callable[..., Path], kind: str) -> None:
    without = reader.page.before_pages(STORAGES[kind])
    try:
        reader.open(make_pack())
        assert reader.view() == "problem" and reader.text("#problem h1") == "This browser keeps no answers"
        assert not [url for url in reader.page.requests if "/volumes/" in url]
    finally:
        reader.page.take_back(without)


def test_it_needs_no_webgl_and_says_what_it_needs(reader: Reader, make_pack: Callable[..., Path]) -> None:
    plain = """const canvas = HTMLCanvasElement.prototype; const get = canvas.getContext;
      canvas.getContext = function (kind, ...more) { return kind === '2d' ? get.call(this, kind, ...more) : null; }"""
    without = reader.page.before_pages(plain)
    folder = make_pack()
    reader.open(folder)
    reader.begin()
    assert colourful(reader.canvas()) > 0.15
    reader.page.take_back(without)
    old = reader.page.before_pages("delete window.DecompressionStream")
    reader.open(folder)
    reader.page.take_back(old)
    assert reader.text("#problem h1") == "This browser is too old" and "DecompressionStream" in reader.text(
        "#problem .reason"
    )


def test_incomplete_folders_are_told(reader: Reader, make_pack: Callable[..., Path]) -> None:
    folder = make_pack()
    made = sessions()[0]["items"][0]["perfusion"]
    (folder / made).rename(folder / "away.js")
    reader.open(folder)
    reader.click("#sessions button.main")
    reader.page.wait_for("document.querySelector('#cover button').checkVisibility()")
    assert made in reader.text("#cover p") and "copy the whole folder" in reader.text("#cover p")
    reader.page.press("1")
    assert reader.chosen() == {}, "nothing is asked about images that are not shown"
    (folder / "away.js").rename(folder / made)
    reader.click("#cover button")
    reader.page.wait_for(FRONT)
    (folder / "pack.js").unlink()
    reader.open(folder)
    assert "pack.js is missing" in reader.text("#problem .lead")
    reader.page.complaints.clear()


@pytest.mark.parametrize(("width", "height"), [(1024, 768), (1280, 800), (1920, 1080)])
def test_everything_is_in_the_window(reader: Reader, make_pack: Callable[..., Path], width: int, height: int) -> None:
    reader.open(make_pack(), width, height)
    assert reader.page.run("document.documentElement.scrollWidth") <= width
    assert faint_texts(reader.page, "body *", "rgb(0, 0, 0)") == [] and reader.page.run(UNNAMED) == []
    reader.begin()
    assert reader.page.run("document.documentElement.scrollWidth") <= width
    assert reader.page.run("document.documentElement.scrollHeight") <= height
    questions = "(q => q.scrollHeight <= q.clientHeight)(document.getElementById('questions'))"
    assert reader.page.run(questions), "all questions without scrolling"
    assert faint_texts(reader.page, "body *", "rgb(0, 0, 0)") == [] and reader.page.run(UNNAMED) == []
    reader.page.press("?")
    assert reader.page.run("document.getElementById('help').open")
    assert reader.page.run(
        "(b => b.top >= 0 && b.bottom <= innerHeight)(document.getElementById('help').getBoundingClientRect())"
    )


UNNAMED = """Array.from(document.querySelectorAll('input, select, textarea, button, canvas')).filter(e =>
  e.checkVisibility() && !(e.closest('label') || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"""
