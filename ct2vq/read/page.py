"""The page of a reader's pack: static files, copied. What the page shows stands in `pack.js` and the volume scripts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.errors import Ct2vqError
from ct2vq.files import copy_file
from ct2vq.pages import RESOURCES

PAGE = RESOURCES / "read"
#: in the order of `index.html`; classic scripts, each adds to `window.ct2vqRead`
SCRIPTS = (
    "sha256.js",
    "store.js",
    "volumes.js",
    "slices.js",
    "layouts.js",
    "viewer.js",
    "questions.js",
    "answers.js",
    "views.js",
    "toolbar.js",
    "reading.js",
    "start.js",
)


def write_page(pack: Mapping[str, Any], folder: str | Path) -> None:
    """Write `index.html` and the folder `page` with its scripts and style into a pack's folder.

    The files are the same for every reader and study; the pack is only checked, since a wrong one would stop a reader
    at the hospital and nobody else.

    Args:
        pack: the content of `pack.js`.
        folder: the pack's folder; made if it is not there.

    Raises:
        Ct2vqError: the page could not show this pack.
    """
    check_pack(pack)
    folder = Path(folder)
    shutil.rmtree(folder / "page", ignore_errors=True)
    copy_file(PAGE / "index.html", folder / "index.html")
    for name in (*SCRIPTS, "style.css"):
        copy_file(PAGE / name, folder / "page" / name)


def check_pack(pack: Mapping[str, Any]) -> None:
    """Check what the page takes for granted.

    Raises:
        Ct2vqError: sessions are not numbered 1, 2, ... or empty, an item's name occurs twice in a session, a session
            waits for one that is not before it, shows a CT that is hidden or hides one that is shown, or the colour map
            that is shown first is not among the maps.
    """
    numbers = [session["number"] for session in pack["sessions"]]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise Ct2vqError(f"the sessions are numbered {numbers}; expected 1, 2, ...")
    if pack["colour_map"] not in pack["colour_maps"]:
        raise Ct2vqError(
            f"there is no colour map {pack['colour_map']}", hint=f"one of {', '.join(pack['colour_maps'])}"
        )
    for session in pack["sessions"]:
        _check_session(session)


def _check_session(session: Mapping[str, Any]) -> None:
    where = f"session {session['number']}"
    names = [item["item"] for item in session["items"]]
    if not names or len(set(names)) != len(names):
        raise Ct2vqError(f"{where} has no items, or two of one name")
    if session["after"] is not None and not 1 <= session["after"] < session["number"]:
        raise Ct2vqError(f"{where} waits for session {session['after']}, which is not before it")
    for item in session["items"]:
        if (item["ct"] is not None) != (session["ct"] == "shown"):
            raise Ct2vqError(
                f"{where}, item {item['item']}: its CT is {item['ct']}, but the session has it {session['ct']}"
            )
