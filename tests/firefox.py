"""A real headless Firefox for tests, driven by its own Marionette protocol: the standard library and Pillow alone.

Messages are JSON texts behind their length in bytes and a colon, over a socket on this machine. Commands are those of
W3C WebDriver.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import LIMIT_S, Page, end
from PIL import Image

NAMES = ("firefox", "firefox-esr")
FIREFOX = next((path for path in map(shutil.which, NAMES) if path), None)
needs_firefox = pytest.mark.skipif(FIREFOX is None, reason=f"no Firefox on this machine ({', '.join(NAMES)})")
#: W3C WebDriver, 17.4.2: keys without a character
KEYS = {
    "Shift": "\ue008",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Backspace": "\ue003",
    "Escape": "\ue00c",
    "PageUp": "\ue00e",
    "PageDown": "\ue00f",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}
SETTINGS: Mapping[str, Any] = {
    "marionette.port": 0,  # any free one; the profile's file MarionetteActivePort tells it
    "browser.dom.window.dump.enabled": True,
    "browser.shell.checkDefaultBrowser": False,
    "browser.sessionstore.resume_from_crash": False,
    "toolkit.startup.max_resumed_crashes": -1,
    "browser.download.folderList": 2,
    "browser.download.always_ask_before_handling_new_types": False,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}
#: of scripts of pages; what the browser says on its own account of the network is not the page's
COMPLAINTS = ("JavaScript error: file:", "JavaScript warning: file:")


class Firefox(Page):
    """One page of a running Firefox.

    Attributes:
        process: the browser's own process.
    """

    def __init__(self, connection: socket.socket, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._socket, self._log, self._number = connection, log, 0
        self._stream = connection.makefile("rb")
        self._answer()
        self.call("WebDriver:NewSession")

    @property
    def complaints(self) -> list[str]:
        """Lines that the browser has said about scripts of pages from disk."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if line.startswith(COMPLAINTS)]

    def call(self, command: str, **params: Any) -> Any:
        """The result of a command; an error of the protocol fails the test."""
        self._number += 1
        text = json.dumps([0, self._number, command, params]).encode()
        self._socket.sendall(str(len(text)).encode() + b":" + text)
        _, number, error, result = self._answer()
        assert number == self._number
        assert error is None, f"{command}: {error}"
        return result

    def _answer(self) -> Any:
        length = b""
        while (byte := self._stream.read(1)) != b":":
            assert byte, "the browser ended"
            length += byte
        return json.loads(self._stream.read(int(length)))

    def open(self, page: Path | str, width: int = 1280, height: int = 900) -> float:
        """Open a file in a window of a size; returns the seconds until it was loaded."""
        self.call("WebDriver:SetWindowRect", width=width, height=height)
        around = self.run("[outerWidth - innerWidth, outerHeight - innerHeight]")
        self.call("WebDriver:SetWindowRect", width=width + around[0], height=height + around[1])
        start = time.monotonic()
        self.call("WebDriver:Navigate", url=page if isinstance(page, str) else page.as_uri())
        return time.monotonic() - start

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        return self.call("WebDriver:ExecuteScript", script=f"return ({script});", args=[])["value"]

    def _act(self, kind: str, actions: Sequence[Mapping[str, Any]], **more: Any) -> None:
        self.call("WebDriver:PerformActions", actions=[{"type": kind, "id": kind, "actions": actions, **more}])

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key of the keyboard, by the name that the page sees (`ArrowDown`, `n`)."""
        keys = [KEYS["Shift"]] * shift + [KEYS.get(key, key)]
        down = [{"type": "keyDown", "value": each} for each in keys]
        self._act("key", down + [{"type": "keyUp", "value": each} for each in reversed(keys)])

    def type(self, text: str) -> None:
        """Put a text into the field that has the focus."""
        assert self.run(f"document.execCommand('insertText', false, {json.dumps(text)})")

    def mouse(self, kind: str, x: float, y: float, button: str = "left", **more: Any) -> None:
        """An event of the mouse at a place of the page in pixels; as in `browser.Browser`."""
        place = {"x": round(x), "y": round(y - self.run("scrollY")), "origin": "viewport", "duration": 0}
        if kind == "mouseWheel":
            self._act("wheel", [{"type": "scroll", **place, **more}])
            return
        number = {"left": 0, "right": 2, "none": 0}[button]
        press = {"mousePressed": "pointerDown", "mouseReleased": "pointerUp"}.get(kind)
        actions: list[dict[str, Any]] = [{"type": "pointerMove", **place}]
        if press:
            actions.append({"type": press, "button": number})
        self._act("pointer", actions, parameters={"pointerType": "mouse"})

    def save_downloads_in(self, folder: Path) -> None:
        """Where files that the page saves are put."""
        folder.mkdir(parents=True, exist_ok=True)
        script = f"Services.prefs.setStringPref('browser.download.dir', {json.dumps(str(folder))});"
        self.call("Marionette:SetContext", value="chrome")
        self.call("WebDriver:ExecuteScript", script=script, args=[])
        self.call("Marionette:SetContext", value="content")

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """The window, or a part of the page (`x`, `y`, `width`, `height` in pixels), as PNG."""
        whole = base64.b64decode(self.call("WebDriver:TakeScreenshot", full=clip is not None)["value"])
        if clip is None:
            return whole
        left, top = round(clip["x"]), round(clip["y"])
        part = Image.open(io.BytesIO(whole)).crop((left, top, left + round(clip["width"]), top + round(clip["height"])))
        stream = io.BytesIO()
        part.save(stream, format="PNG")
        return stream.getvalue()


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A browser whose profile lies in `folder`; it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in SETTINGS.items()]
    (folder / "user.js").write_text("".join(lines), encoding="utf-8")
    port = folder / "MarionetteActivePort"
    port.unlink(missing_ok=True)
    log = folder / "said.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [
                str(FIREFOX),
                "--headless",
                "--marionette",
                "--no-remote",
                "-remote-allow-system-access",
                "--profile",
                str(folder),
                "about:blank",
            ],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + LIMIT_S
        while not (port.is_file() and port.read_text()):
            assert process.poll() is None, f"the browser ended: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=LIMIT_S) as connection:
            yield Firefox(connection, process, log)
    finally:
        end(process)
