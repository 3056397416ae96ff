"""A real headless Chromium for tests, driven by the DevTools protocol over a pipe: nothing but the standard library.

Messages are JSON texts that end with a zero byte; the browser reads them from descriptor 3 and writes to 4
(`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no Chromium on this machine ({', '.join(NAMES)})")
#: WebGL without a graphics card; no network of the browser's own
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
LIMIT_S = 60.0
SHIFT = 8
CODES = {"Tab": 9, "Enter": 13, "Backspace": 8, "Escape": 27, "PageUp": 33, "PageDown": 34} | {
    f"Arrow{way}": code for way, code in (("Left", 37), ("Up", 38), ("Right", 39), ("Down", 40))
}


class Page:
    """What a test does with the page of any browser.

    Attributes:
        process: the browser's own process.
    """

    process: subprocess.Popen[bytes]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings so far."""
        raise NotImplementedError

    def open(self, page: Path | str, width: int = 1280, height: int = 900) -> float:
        """Open a file in a window of a size; returns the seconds until it was loaded."""
        raise NotImplementedError

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        raise NotImplementedError

    def wait_for(self, script: str, limit_s: float = LIMIT_S) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + limit_s
        while not self.run(script):
            assert time.monotonic() < deadline, f"never true: {script}; complaints: {self.complaints}"
            time.sleep(0.05)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element stands on the page."""
        return self.run(
            f"(() => {{const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height};})()"
        )

    def kill(self) -> None:
        """End the browser as a power cut does; nothing can be asked of it afterwards."""
        self.process.kill()
        self.process.wait()


class Browser(Page):
    """One page of a running Chromium, with all that it asked for and complained about.

    Attributes:
        requests: addresses of everything that the page loaded, in order.
        process: the browser's own process.
    """

    def __init__(self, write: int, read: int, process: subprocess.Popen[bytes]) -> None:
        self._write, self._read, self._rest, self._number = write, read, b"", 0
        self.process = process
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self._complaints: list[str] = []

    @property
    def complaints(self) -> list[str]:
        """Texts of errors and warnings: console, exceptions, failed loads."""
        return self._complaints

    def attach(self) -> None:
        """Open a page and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command; an error of the protocol fails the test."""
        number = self._send({"method": method, "params": params})
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = self._message(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _send(self, message: dict[str, Any]) -> int:
        self._number += 1
        message["id"] = self._number
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._number

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {LIMIT_S} s"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.loadingFailed":
            self._complaints.append(f"not loaded: {params['errorText']}")
        elif method == "Runtime.exceptionThrown":
            self._complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self._complaints.append(" ".join(str(arg.get("value", arg)) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self._complaints.append(params["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self._complaints.append(f"asked: {params['type']} {params['message']}")
            # unanswered, it would hold the page for ever
            self._send({"method": "Page.handleJavaScriptDialog", "params": {"accept": True}})
        self._events.append({"method": method})

    def open(self, page: Path | str, width: int = 1280, height: int = 900) -> float:
        """Open a file in a window of a size; returns the seconds until it was loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._events.clear()
        start = time.monotonic()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._message(start + LIMIT_S)
        return time.monotonic() - start

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key of the keyboard, by the name that the page sees (`ArrowDown`, `n`)."""
        text = key if len(key) == 1 else "\r" if key == "Enter" else ""
        code = f"Digit{key}" if key.isdigit() else key if len(key) > 1 else ""
        facts = {
            "key": key,
            "code": code,
            "modifiers": SHIFT if shift else 0,
            "windowsVirtualKeyCode": CODES.get(key, 0),
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text: str) -> None:
        """Put a text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, button: str = "left", **more: Any) -> None:
        """An event of the mouse at a place of the page in pixels.

        Args:
            kind: `mousePressed`, `mouseReleased`, `mouseMoved` or `mouseWheel`.
            x: place on the page, as `box` has it.
            y: place on the page.
            button: `left`, `right` or `none`.
            more: `deltaX` and `deltaY` of the wheel.
        """
        held = {"left": 1, "right": 2}.get(button, 0)
        facts = {"x": x, "y": y - self.run("scrollY"), "button": button, "clickCount": 1, "buttons": held} | more
        self.call("Input.dispatchMouseEvent", type=kind, **facts)

    def before_pages(self, script: str) -> str:
        """Run a script before those of the next pages; returns what takes it back."""
        return self.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]

    def take_back(self, identifier: str) -> None:
        """Run a script of `before_pages` no more."""
        self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=identifier)

    def save_downloads_in(self, folder: Path) -> None:
        """Where files that the page saves are put."""
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """The window, or a part of the page (`x`, `y`, `width`, `height` in pixels), as PNG."""
        params = {"clip": clip | {"scale": 1}, "captureBeyondViewport": True} if clip else {}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **params)["data"])

    def printed(self) -> bytes:
        """The page as it is printed (PDF)."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(answer["data"])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a browser that may not want to."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`; it ends with the block."""
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()

    def give_pipes() -> None:
        # high numbers first: 3 or 4 may be one of the two
        first, second = os.dup2(to_browser, 63), os.dup2(from_browser, 64)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [BROWSER, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        preexec_fn=give_pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        page = Browser(ours_out, ours_in, process)
        page.attach()
        yield page
    finally:
        os.close(ours_out)
        os.close(ours_in)
        end(process)


def faint_texts(page: Browser, where: str, ground: str) -> list[str]:
    """Elements whose text has less contrast than WCAG 2.1 asks for (1.4.3): at least 4.5 to 1 on what lies behind it.

    Args:
        page: an open page.
        where: selector of the elements; switched-off controls are free.
        ground: colour of the page where no element has one.
    """
    return page.run(_CONTRAST.replace("$WHERE", json.dumps(where)).replace("$GROUND", json.dumps(ground)))


_CONTRAST = """(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/^rgba\\(.*, 0\\)$/.test(colour)) return colour;
    }
    return $GROUND;
  };
  const found = new Set();
  for (const element of document.querySelectorAll($WHERE)) {
    const own = Array.from(element.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(":disabled")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(element.tagName + "." + element.className + " " + ratio.toFixed(2));
  }
  return Array.from(found);
})()"""
