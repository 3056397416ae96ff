"""What a header holds, element by element, read without trusting a single value.

Everything is looked at, nested and private elements too. A value that cannot be parsed is looked at as bytes.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

#: value representations whose values are numbers or pixels, which nobody is recognised by
NUMERIC = frozenset(["DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "SV", "UV", "AT", "OF", "OD", "OL", "OV", "OW"])
#: Pixel Data, the last of the three elements that hold pixels
LAST_PIXELS = 0x7FE00010
#: sequences nested deeper than this are not looked into (images nest four deep): their file wants to exhaust the stack
DEEPEST = 30
#: bytes of an element or of a damaged file that are searched for text
SEARCHED_BYTES = 1 << 16
_PRINTABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{4,}")


class Attribute(NamedTuple):
    """Where an element stands: tags from the outermost sequence inwards, and what the innermost is."""

    path: str
    tag: int
    vr: str

    @property
    def keyword(self) -> str:
        """The standard's name, empty for private and unknown elements."""
        return keyword_for_tag(self.tag)


class Text(NamedTuple):
    """A text, and what it stood in (the keyword is empty for private and unknown elements)."""

    vr: str
    keyword: str
    value: str


@dataclass
class Survey:
    """What the headers of a volume hold together.

    Attributes:
        objects: in how many objects an attribute occurs.
        texts: every text found.
    """

    objects: Counter[Attribute] = field(default_factory=Counter)
    texts: set[Text] = field(default_factory=set)
    _seen: dict[tuple[str, bytes], set[Attribute]] = field(default_factory=dict)

    def add(self, dataset: Dataset) -> None:
        """Look at one object, its file meta information included."""
        found: set[Attribute] = set()
        for part in (getattr(dataset, "file_meta", None), dataset):
            self._look(part or Dataset(), "", found)
        self.objects.update(found)

    def _look(self, dataset: Dataset, prefix: str, found: set[Attribute]) -> None:
        """Add a data set's attributes to `found`, and its texts to `texts`.

        Bytes that were seen at the same place before, as in most slices of a series, are not parsed again.
        """
        for tag, element in list(dataset.items()):
            attribute = Attribute(f"{prefix}({tag.group:04x},{tag.element:04x})", int(tag), _vr(tag, element))
            found.add(attribute)
            if attribute.vr in NUMERIC:
                continue
            raw = element.value if isinstance(element, RawDataElement) else None
            key = (attribute.path, raw) if isinstance(raw, bytes) else None
            inner = self._seen.get(key) if key else None
            if inner is None:
                inner = self._inside(dataset, tag, raw, attribute)
                if key:
                    self._seen[key] = inner
            found |= inner

    def _inside(self, dataset: Dataset, tag: BaseTag, raw: bytes | None, attribute: Attribute) -> set[Attribute]:
        """Attributes within a sequence, none for other elements; texts are taken down."""
        inner: set[Attribute] = set()
        value = _parsed(dataset, tag)
        if isinstance(value, pydicom.Sequence):
            for item in value if attribute.path.count("/") < DEEPEST else ():
                self._look(item, f"{attribute.path}/", inner)
        else:
            values = {*_texts(raw, attribute.vr), *_texts(value, attribute.vr)}
            self.texts |= {Text(attribute.vr, attribute.keyword, text) for text in values}
        return inner


def survey(datasets: Iterable[Dataset]) -> Survey:
    """What all these headers hold."""
    result = Survey()
    for dataset in datasets:
        result.add(dataset)
    return result


def behind_pixels(path: Path) -> Dataset:
    """The elements of a file that stand behind its pixels, which reading a header does not reach."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            return Dataset({tag: element for tag, element in data.items() if tag > LAST_PIXELS})
    except Exception:  # pydicom raises nearly anything on damaged input
        return Dataset()


def readable_texts(path: Path) -> set[Text]:
    """Every text of a file, whatever its state: parsed as far as possible, else each run of printable bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return survey([pydicom.dcmread(path, stop_before_pixels=True, force=True)]).texts | _runs(path)
    except Exception:  # pydicom raises nearly anything on damaged input
        return _runs(path)


def _runs(path: Path) -> set[Text]:
    try:
        with path.open("rb") as stream:
            return {Text("UN", "", text) for text in _texts(stream.read(SEARCHED_BYTES), "UN")}
    except OSError:
        return set()


def _vr(tag: BaseTag, element: DataElement | RawDataElement) -> str:
    vr = str(element.VR or "")
    if not vr:
        try:
            vr = str(dictionary_VR(tag))
        except KeyError:
            vr = "UN"
    return vr if _is_vr(vr) else "UN"


@cache
def _is_vr(vr: str) -> bool:
    """Whether this is a value representation, or the dictionary's choice of several, and not whatever a file says."""
    return re.fullmatch("[A-Z]{2}( or [A-Z]{2})*", vr) is not None


def _parsed(dataset: Dataset, tag: BaseTag) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset[tag].value
    except Exception:  # pydicom raises nearly anything on damaged input
        return None


def _texts(value: Any, vr: str) -> Iterator[str]:
    """A value as texts: several values one by one, bytes in each way in which a message might show them."""
    if value is None:
        return
    if isinstance(value, bytes):
        cut = value[:SEARCHED_BYTES]
        runs = _PRINTABLE.findall(cut) if vr in ("UN", "OB") else cut.split(b"\\")
        for run in runs:
            for encoding in ("utf-8", "latin-1"):
                yield run.decode(encoding, "replace").strip(" \0")
    elif isinstance(value, str | PersonName) or not hasattr(value, "__iter__"):
        yield str(value).strip(" \0")
    else:
        for part in value:
            yield str(part).strip(" \0")
