"""Make docs/hostile_files.md: what reading each awkward file ends in (`make docs-hostile`).

Reads pydicom's own test files and, where it exists, the folder `awkward_dicom` of real images (`CT2VQ_REALDATA`, by
default `shared/data` beside the project), each file and each folder as CT and as SPECT, in a process of its own.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydicom.data import get_testdata_files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile import files_below, guarded, read  # noqa: E402

from ct2vq.dicom.files import describe_class, read_header, transfer_syntax  # noqa: E402
from ct2vq.errors import DicomError  # noqa: E402
from ct2vq.files import write_text  # noqa: E402

PAGE = ROOT / "docs" / "hostile_files.md"
REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or ROOT.parent / "shared" / "data")
INTRODUCTION = """\
# Hostile files

<!-- Made by `make docs-hostile`: do not edit. -->

Each file and each folder read as CT and as SPECT: a volume, or the code of an error (docs/errors.md). Limits that the
tests keep (tests/convert/test_hostile.py): 10 s, and twice the memory that the file and its volume take. A single slice
is refused (D303) after its header has been read. Pixel values of compressed slices are compared with SimpleITK's in
tests/convert/test_convert.py.

| source | file or folder | what it is | as CT | as SPECT |
|---|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as scratch:
        write_text(INTRODUCTION + "".join(f"{row}\n" for row in _rows(Path(scratch))), PAGE)


def _rows(scratch: Path) -> Iterator[str]:
    data = Path(get_testdata_files("CT_small.dcm")[0]).parent
    for path in files_below(data):
        yield _row("pydicom", path, path.relative_to(data))
    root = REALDATA / "awkward_dicom"
    if not root.is_dir():
        return
    for archive in sorted(root.rglob("*.tar.*")):
        with tarfile.open(archive) as members:
            members.extractall(scratch / archive.name, filter="data")
    for place in (root, scratch):
        for path in sorted(place.rglob("*")):
            if path.is_dir() or "pydicom_test_files" not in path.parts:  # those files are pydicom's own
                yield _row("awkward", path, path.relative_to(place))


def _row(source: str, path: Path, name: Path) -> str:
    """One line of the table; a file's outcome never depends on another's."""
    results = [guarded(read, path, kind)[0] for kind in ("CT", "SPECT")]
    outcomes = [result if isinstance(result, str) else result.text for result in results]
    return f"| {source} | `{name}` | {_describe(path)} | {outcomes[0]} | {outcomes[1]} |"


def _describe(path: Path) -> str:
    """SOP class and encoding, as far as they can be read."""
    if path.is_dir():
        return f"folder of {sum(1 for _ in files_below(path))} files"
    try:
        instance = read_header(path)
        if instance is None:
            return "no DICOM signature"
        syntax = transfer_syntax(instance.dataset, path)
        return f"{describe_class(instance)}; {syntax.name or 'no transfer syntax'}"
    except DicomError as error:
        return f"unreadable ({error.code})"


if __name__ == "__main__":
    main()
