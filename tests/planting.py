"""Real-looking raw data in which every text names one person, and a search that finds her however she is spelt."""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pydicom.misc
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

#: no word of any language, of DICOM or of this project
NAME = "Zyxqumar"
#: born and examined on a day that nothing else is called
BORN = "19430718"
TEXT_VRS = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE")
#: text attributes that decide whether an image can be read at all
MEANT = ("RescaleType",)
CS_WITHOUT_MEANING = ("BodyPartExamined", "PatientOrientation", "TypeOfPatientID", "SmokingStatus")


def plant(source: Path, target: Path) -> None:
    """Write a DICOM file again with the name in its preamble, its file meta information and every text, even nested.

    What is no DICOM becomes a text about her.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not pydicom.misc.is_dicom(source):
        target.write_text(f"Exported for {NAME}\n")
        return
    data = pydicom.dcmread(source)
    _fill(data)
    _fill(data.file_meta)
    data.preamble = (NAME.encode() * 16)[:128]
    data.file_meta.SourceApplicationEntityTitle = NAME
    data.file_meta.PrivateInformationCreatorUID = generate_uid(None)
    data.file_meta.PrivateInformation = NAME.encode() * 2
    data.PatientBirthDate = BORN
    data.BodyPartExamined = NAME.upper()
    data.ImageType = [*data.ImageType[:4], *[""] * (4 - len(data.ImageType)), NAME.upper()]
    for element, vr in enumerate(("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE"), start=0x10):
        data.private_block(0x0099, f"{NAME} INC", create=True).add_new(element, vr, _named(vr))
    data.private_block(0x0099, f"{NAME} INC").add_new(0x20, "UN", f"{NAME} unknown ".encode())
    data.private_block(0x7FE1, f"{NAME} END", create=True).add_new(0x10, "OB", NAME.encode())
    data.save_as(target)


def _fill(data: Dataset) -> None:
    for element in data:
        if element.VR == "SQ":
            for item in element.value:
                _fill(item)
        elif element.VR in TEXT_VRS and element.keyword not in MEANT:
            element.value = _named(element.VR)
        elif element.keyword in CS_WITHOUT_MEANING:
            element.value = NAME.upper()
        elif element.VR in ("UN", "OB") and element.tag < Tag(0x7FE0, 0) and element.tag.group != 2:
            element.value = NAME.encode()


def _named(vr: str) -> str:
    return {"PN": f"{NAME}^Anna^Q", "SH": NAME, "AE": NAME.upper(), "LO": f"{NAME} lives here"}.get(
        vr, f"Mrs {NAME}, {vr}"
    )


def traces(folder: Path) -> list[str]:
    """Files below a folder in whose name or content the person stands, be it compressed, encoded or in a picture."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        names = [relative, *(_unpacked_name(part) for part in relative.split("/"))]
        if any(NAME.lower() in name.lower() for name in names):
            found.append(f"{relative} (name)")
        if path.is_file() and any(_names_her(content) for content in _contents(path)):
            found.append(relative)
    return found


def _names_her(content: bytes) -> bool:
    lower = content.lower()
    if any(NAME.lower().encode(encoding) in lower for encoding in ("ascii", "utf-16-le", "utf-16-be", "utf-32-le")):
        return True
    if NAME.encode("cp500") in content or NAME.encode().hex().encode() in lower or BORN.encode() in content:
        return True
    return any(encoded in content for encoded in _base64_forms())


def _base64_forms() -> Iterator[bytes]:
    """The name in base64 at each of three places where it can start, without the characters its neighbours share."""
    for name in {NAME, NAME.lower(), NAME.upper()}:
        for before in range(3):
            encoded = base64.b64encode(b"\0" * before + name.encode())
            yield encoded[(0, 2, 3)[before] : -4]


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if content[:4] == b"\x89PNG":
        yield from _png_texts(content)
    for packed in re.findall(rb"data:[a-z/+-]*;base64,([A-Za-z0-9+/=]+)", content):
        yield (inside := base64.b64decode(packed))
        if inside[:4] == b"\x89PNG":
            yield from _png_texts(inside)


def _png_texts(content: bytes) -> Iterator[bytes]:
    place = 8
    while place < len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if kind in (b"zTXt", b"iTXt"):
            chunk = content[place + 8 : place + 8 + length]
            for start in range(len(chunk)):
                try:
                    yield zlib.decompress(chunk[start:])
                    break
                except zlib.error:
                    continue
        place += 12 + length


def _unpacked_name(name: str) -> str:
    """Snakemake names its records by base64 of the output's path."""
    try:
        return base64.b64decode(name + "=" * (-len(name) % 4), validate=True).decode("utf-8", "replace")
    except ValueError:
        return name
