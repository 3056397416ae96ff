"""A reader at the page of a pack: keys, the mouse, and what the page tells."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DAY_MS = 86_400_000
#: answers of one item by keyboard; Enter leaves the question that takes several
DIAGNOSIS = ("2", "4", "3", "5", "Enter", "1")
ACCEPTABILITY = ("4", "3", "5", "4", "2", "3")
FRONT = "document.body.dataset.view === 'reading' && document.getElementById('cover').hidden"


class Reader:
    """Drives the page in a browser.

    Attributes:
        page: a `browser.Browser` or a `firefox.Firefox`.
    """

    def __init__(self, page: Any) -> None:
        self.page = page

    def open(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        """Open a pack and wait until it says something."""
        self.page.open(folder / "index.html", width, height)
        self.page.wait_for("document.body.dataset.view")

    def view(self) -> str:
        return self.page.run("document.body.dataset.view")

    def text(self, selector: str) -> str:
        return self.page.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def click(self, selector: str) -> None:
        """Click as a hand does: at the element's place."""
        box = self.page.box(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.page.mouse(kind, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def begin(self) -> None:
        """Begin or go on with the session that is open, and wait for its images."""
        self.click("#sessions button.main")
        self.page.wait_for(FRONT)

    def saved(self) -> None:
        """Wait until the last answer is on the disk."""
        self.page.wait_for("document.getElementById('saved').textContent === 'Saved'")

    def item(self) -> str:
        return self.page.run("document.body.dataset.item")

    def answer(self, keys: tuple[str, ...]) -> None:
        """Answer the item in front and wait until that is kept."""
        for key in keys:
            self.page.press(key)
        self.saved()

    def next(self) -> None:
        """To the next item; waits for its images."""
        before = self.item()
        self.page.press("Enter")
        self.page.wait_for(f"document.body.dataset.item !== {json.dumps(before)} && {FRONT}")
        self.saved()

    def read_session(self, keys: tuple[str, ...], items: int) -> None:
        """Read a whole session and finish it."""
        self.begin()
        for place in range(items):
            self.answer(keys)
            if place < items - 1:
                self.next()
        self.finish()

    def finish(self) -> None:
        self.page.press("Enter")
        self.page.wait_for("document.getElementById('ask').open")
        self.click("#ask [data-answer=yes]")
        self.page.wait_for("document.body.dataset.view === 'export'")

    def chosen(self) -> dict[str, list[str]]:
        """Answers that are marked, by question."""
        return self.page.run(
            "Object.fromEntries(Array.from(document.querySelectorAll('#questions fieldset')).map(f => "
            "[f.dataset.question,"
            "Array.from(f.querySelectorAll('[aria-checked=true]')).map(b => b.dataset.value)]))"
        )

    def exported(self) -> dict[str, Any]:
        """What an export would hold now."""
        return json.loads(self.page.run("document.getElementById('export-text').value"))

    def canvas(self) -> np.ndarray:
        """Colours of the images as they are on the screen, (y, x, 3)."""
        self.page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        image = Image.open(io.BytesIO(self.page.picture(self.page.box("#canvas"))))
        return np.asarray(image.convert("RGB")).astype(int)

    def later(self, days: float) -> str:
        """From the next page on, the clock shows so many days more; returns what takes it back."""
        shift = f"""(() => {{ const Then = Date; const by = {days} * {DAY_MS};
          window.Date = class extends Then {{
            constructor(...at) {{ if (at.length) super(...at); else super(Then.now() + by); }}
            static now() {{ return Then.now() + by; }} }}; }})()"""
        return self.page.before_pages(shift)


def colourful(picture: np.ndarray) -> float:
    """Share of pixels that are neither black nor grey."""
    return float((np.ptp(picture, axis=2) > 40).mean())
