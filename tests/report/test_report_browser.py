"""The page in a real browser, opened from disk: no complaint, no network, pictures in the viewer, keys, print."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser, faint_texts, needs_browser
from PIL import Image
from report_study import build

from ct2vq.report.page import write_report

pytestmark = [pytest.mark.browser, needs_browser]
CASES = 4
LOAD_S = 2.0


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's folder alone, moved to a place with a blank and a sign in its name."""
    made = tmp_path_factory.mktemp("study")
    arguments = build(made, cases=CASES)
    write_report(**arguments)
    moved = tmp_path_factory.mktemp("elsewhere") / "a folder & more"
    shutil.move(arguments["outputs"]["page"].parent, moved)
    shutil.rmtree(made)
    return moved / "index.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Iterator[Browser]:
    """The page, fresh; whatever the test did, nothing was complained of and nothing came from elsewhere."""
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.call("Emulation.setEmulatedMedia", media="", features=[])
    chromium.open("about:blank")
    chromium.open(page)
    yield chromium
    assert chromium.complaints == []
    home = page.parent.as_uri()
    outside = [url for url in chromium.requests if not url.startswith((home, "data:", "blob:", "about:"))]
    assert outside == []


def shown_case(chromium: Browser) -> str:
    return chromium.run("document.querySelector('#case-table .chosen').dataset.case")


def open_viewer(chromium: Browser) -> None:
    chromium.run("document.getElementById('viewer').open = true")
    chromium.wait_for("document.getElementById('viewer').dataset.shown")


def pane(chromium: Browser, side: str) -> np.ndarray:
    """Colours of a pane as they are on the screen."""
    chromium.run(f"document.getElementById('viewer-{side}').scrollIntoView({{block: 'center', behavior: 'instant'}})")
    chromium.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    image = Image.open(io.BytesIO(chromium.picture(chromium.box(f"#viewer-{side}"))))
    return np.asarray(image.convert("RGB")).astype(int)


def colourful(picture: np.ndarray) -> float:
    """Share of pixels that are neither black nor grey."""
    return float((np.ptp(picture, axis=2) > 40).mean())


def choose(chromium: Browser, control: str, value: str) -> None:
    chromium.run(
        f"(() => {{const c = document.getElementById('{control}'); c.value = '{value}';"
        "c.dispatchEvent(new Event('input', {bubbles: true}));})()"
    )


def test_it_opens_from_disk_at_once_and_loads_no_heavy_volume(opened: Browser) -> None:
    assert opened.run("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000 * LOAD_S
    assert not [url for url in opened.requests if "/volumes/" in url or "niivue" in url]
    assert opened.run("document.querySelectorAll('section h2').length") == 16
    assert opened.run("document.querySelector('#times tbody').rows.length") == 1, "times are told"
    assert shown_case(opened) == "sim001"


def test_keys_go_from_case_to_case(opened: Browser) -> None:
    opened.press("ArrowRight")
    assert shown_case(opened) == "sim002"
    assert opened.run("document.querySelector('#case-view h3').textContent").startswith("sim002")
    opened.press("ArrowLeft")
    opened.press("ArrowLeft")
    assert shown_case(opened) == f"sim00{CASES}", "round the corner"
    opened.wait_for("document.querySelector('#case-view img').naturalWidth > 0")
    opened.run("document.getElementById('find').focus()")
    opened.press("ArrowRight")
    assert shown_case(opened) == f"sim00{CASES}", "a key in a text field is the text field's"


def test_table_filters_and_sorts(opened: Browser) -> None:
    choose(opened, "diagnosis", "embolism")
    visible = "Array.from(document.querySelectorAll('#case-table tbody tr')).filter(r => !r.hidden)"
    assert opened.run(f"{visible}.map(r => r.dataset.case)") == ["sim002", "sim004"]
    choose(opened, "diagnosis", "")
    choose(opened, "metric", "ssim")
    opened.run("document.querySelector('#case-table th[data-column=\"0\"] button').click()")
    values = opened.run(f"{visible}.map(r => parseFloat(r.cells[4].dataset.value))")
    assert values == sorted(values) and len(set(values)) == CASES
    opened.run("document.querySelector('#case-table th[data-column=\"0\"] button').click()")
    assert opened.run(f"{visible}.map(r => parseFloat(r.cells[4].dataset.value))") == values[::-1]
    assert opened.run("document.querySelector('#case-table th[data-column=\"0\"]').ariaSort") == "descending"


def test_a_link_to_a_case_shows_it(opened: Browser) -> None:
    opened.run("location.hash = '#case-sim003'")
    opened.wait_for("document.querySelector('#case-table .chosen').dataset.case === 'sim003'")
    opened.wait_for("Math.abs(document.getElementById('case-view').getBoundingClientRect().top) < 60")


def test_an_address_with_a_case_opens_at_the_case(chromium: Browser, page: Path) -> None:
    chromium.open("about:blank")
    chromium.open(f"{page.as_uri()}#case-sim003")
    assert shown_case(chromium) == "sim003"
    chromium.wait_for("Math.abs(document.getElementById('case-view').getBoundingClientRect().top) < 60")
    chromium.run("location.hash = '#%'")
    assert shown_case(chromium) == "sim003" and not chromium.complaints


def test_a_figure_has_its_place_before_it_is_loaded(opened: Browser) -> None:
    ratios = "Array.from(document.querySelectorAll('.plot img')).map(i => [i.naturalWidth, i.width / i.height])"
    found = opened.run(ratios)
    assert not all(loaded for loaded, _ in found), "those far away wait"
    assert {round(ratio, 2) for _, ratio in found} == {round(40 / 30, 2)}


def test_viewer_draws_and_its_panes_move_together(opened: Browser) -> None:
    open_viewer(opened)
    before = {side: pane(opened, side) for side in ("spect", "made")}
    for picture in before.values():
        assert colourful(picture) > 0.05 and (picture.max(axis=2) > 30).mean() > 0.3
    assert np.abs(before["spect"] - before["made"]).mean() > 1, "two images, not one"
    told = opened.run("document.getElementById('viewer-place').textContent")
    assert "HU" in told and "n/a" not in told
    opened.run("document.getElementById('viewer-spect').focus()")
    for _ in range(4):
        opened.press("PageUp")
    assert opened.run("document.getElementById('viewer-place').textContent") != told
    for side in before:
        assert np.abs(pane(opened, side) - before[side]).mean() > 0.5, f"the {side} pane follows"
    assert shown_case(opened) == "sim001"


def test_viewer_obeys_its_controls(opened: Browser) -> None:
    open_viewer(opened)
    full = pane(opened, "made")
    choose(opened, "viewer-opacity", "0")
    assert colourful(pane(opened, "made")) < 0.2 * colourful(full), "CT alone is grey"
    choose(opened, "viewer-opacity", "100")
    usual = pane(opened, "made")
    choose(opened, "viewer-map", "cividis")
    assert np.abs(pane(opened, "made") - usual).mean() > 3
    choose(opened, "viewer-target", "ventilation")
    opened.wait_for("document.getElementById('viewer').dataset.shown === 'sim001 spect_ventilation ddran_ventilation'")
    models = opened.run("Array.from(document.getElementById('viewer-model').options).map(o => o.value)")
    assert "ran_ventilation" in models and "ran_perfusion" not in models
    assert "Ventilation (V), SYNTHETIC" in opened.run("document.getElementById('viewer-made-label').textContent")
    opened.run("document.activeElement.blur()")
    opened.press("ArrowRight")
    opened.wait_for("document.getElementById('viewer').dataset.shown.startsWith('sim002 ')")


def test_it_prints(opened: Browser) -> None:
    pdf = opened.printed()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    opened.call("Emulation.setEmulatedMedia", media="print")
    hidden = "getComputedStyle(document.querySelector('{}')).display"
    assert opened.run(hidden.format("#viewer")) == "none" and opened.run(hidden.format("nav")) == "none"
    assert opened.run("Array.from(document.querySelectorAll('details')).every(d => d.open)"), (
        "what is folded is printed"
    )


@pytest.mark.parametrize("width", [390, 800, 1280, 1900])
def test_nothing_sticks_out(opened: Browser, page: Path, width: int) -> None:
    opened.open(page, width=width)
    assert opened.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(opened: Browser, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: at least 4.5 to 1 for text, on the ground that lies behind it."""
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert faint_texts(opened, "main *, nav a, header *, .banner", "rgb(255, 255, 255)") == []


def test_every_control_has_a_name(opened: Browser) -> None:
    unnamed = """Array.from(document.querySelectorAll('input, select, button, canvas, img')).filter(e =>
      !(e.closest('label') || e.ariaLabel || e.alt || e.textContent.trim())).map(e => e.outerHTML)"""
    assert opened.run(unnamed) == []
