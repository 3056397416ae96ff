"""What the pages of the report share: templates, style, and links between files."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

RESOURCES = Path(__file__).resolve().parents[1] / "resources"


def template(name: str, **filters: Any) -> jinja2.Template:
    """A page's template of `resources/report`; a name that it uses and nobody gives is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(RESOURCES / "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    # models and metrics stand in the study's order, in data for scripts too
    environment.policies["json.dumps_kwargs"] = {}
    return environment.get_template(name)


def style() -> str:
    """The style sheet, which stands in every page: a page is one file."""
    return (RESOURCES / "report" / "style.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """A classic script of `resources/report`, which stands in the page."""
    return (RESOURCES / "report" / name).read_text(encoding="utf-8")


def png_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels, from its header (PNG specification, 3rd edition, 11.2.1)."""
    with open(path, "rb") as stream:
        return struct.unpack(">II", stream.read(24)[16:])


def link(path: str | Path, page: str | Path) -> str:
    """A file relative to the page."""
    return Path(os.path.relpath(path, Path(page).parent)).as_posix()
