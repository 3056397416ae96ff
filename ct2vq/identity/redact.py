"""What a job says, without who the patient is.

A message may name a file, quote a header's value or pass on what a library said. So nothing is trusted to be harmless:
every path of the raw data and every text of the headers is known here, and is replaced wherever it stands. A file
becomes a keyed id, which `ct2vq where` leads back, a UID the hash that the sidecar carries, any other text `[removed]`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ct2vq.identity.headers import Text
from ct2vq.identity.store import Store
from ct2vq.identity.vocabulary import VOCABULARIES, WORDS, is_known

REMOVED = "[removed]"
#: a shorter piece of text is no identity, and would stand in many a word
SHORTEST, SHORTEST_NUMBER, SHORTEST_WORD = 3, 5, 4
#: names of files and folders that say what lies in them: replaced only as part of a path
_PLAIN_NAMES = (
    "ct", "attenuation_ct", "attenuation_ct_perfusion", "attenuation_ct_ventilation", "perfusion", "ventilation",
    "dicom", "data", "raw", "series", "lung_mask", "attenuation_ct_lung_mask", "attenuation_ct_perfusion_lung_mask",
    "attenuation_ct_ventilation_lung_mask", "landmarks",
)  # fmt: skip
#: defined terms and common words of images' descriptions, beside those of the standard's dictionary
_TERMS = """
    original derived primary secondary axial localizer recon tomo emission transmission static dynamic gated whole body
    monochrome1 monochrome2 attn scat decy dcal norm dtim rand bqml cnts propcnts reprojection none unknown user device
    anatomical chest thorax lung lungs perfusion ventilation spect osem iso_ir 192 manual standard soft medium sharp
    text correct coerce little endian explicit implicit positions files found expected images voxel voxels cases code
    error warning info convert converted ignored breath hold dose high dicom signature hidden folder
"""
_UID = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\d.]*\d)")
#: UIDs of the standard itself (SOP classes, transfer syntaxes) name no object
_STANDARD_UIDS = "1.2.840.10008."


class Redactor:
    """Replaces what is known to identify.

    Args:
        store: gives keyed ids.

    Attributes:
        mentioned: paths by the ids that were put in their places.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.mentioned: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._texts: set[str] = set()

    def learn_paths(self, root: Path, files: Iterable[Path], base: Path | None = None) -> None:
        """Know a raw folder or file and what lies below it.

        Args:
            root: as the program names it.
            files: below it, or itself.
            base: the user's own folder of raw data: the names of folders between it and `root` are known, too.
        """
        above = base if base is not None and root.is_relative_to(base) else root
        paths = {root, *files}
        folders = {folder for parent in {path.parent for path in paths} for folder in (parent, *parent.parents)}
        for path in paths | {folder for folder in folders if folder != above and folder.is_relative_to(above)}:
            for spelt in _spellings(path):
                self._paths[spelt] = str(path)
            if path.parent != root and path != root and path.is_relative_to(root):
                for spelt in _variants(path.relative_to(root).as_posix()):
                    self._names.setdefault(spelt, str(path))
            self._learn_name(path.name, str(path))

    def _learn_name(self, name: str, path: str) -> None:
        for part in (name, Path(name).stem):
            if len(part) >= SHORTEST and part.lower() not in _PLAIN_NAMES:
                for spelt in _variants(part):
                    self._names.setdefault(spelt, path)
        for word in _words(name):
            self._texts.add(word)

    def learn_texts(self, texts: Iterable[Text]) -> None:
        """Know the texts of headers; words of DICOM itself, and makers, models and kernels that are known, pass."""
        for vr, keyword, text in texts:
            if vr == "UI" or (keyword in VOCABULARIES and is_known(VOCABULARIES[keyword], text)):
                continue  # UIDs are replaced by their form, see `clean`
            for piece in _pieces(vr, text):
                number = vr != "PN" and re.fullmatch(r"[\d.:+-]*", piece)
                if len(piece) >= (SHORTEST_NUMBER if number else SHORTEST):
                    self._texts |= _variants(piece)

    def clean(self, text: str) -> str:
        """A text in which nothing identifies any more.

        The longest is replaced first: a file before its folder, a sentence before a word of it.
        """
        put: list[str] = []

        def keep(replacement: str) -> str:
            put.append(replacement)
            return f"\ue000{len(put) - 1}\ue001"

        for known in _present(self._paths, text):
            text = text.replace(known, keep(self._id_of(self._paths[known]))) if known in text else text
        text = _UID.sub(lambda match: keep(self._uid(match[0])), text)
        for known in _present(self._names, text):
            text = _whole(known).sub(lambda _, path=self._names[known]: keep(self._id_of(path)), text)
        for known in _present(self._texts, text):
            text = _whole(known).sub(lambda _: keep(REMOVED), text)
        while put:
            text = text.replace(f"\ue000{len(put) - 1}\ue001", put.pop())
        return text

    def _id_of(self, path: str) -> str:
        name = self.store.pseudonym("file", path)
        self.mentioned[name] = path
        return name

    def _uid(self, uid: str) -> str:
        return uid if uid.startswith(_STANDARD_UIDS) else self.store.pseudonym("uid", uid, 16)


def _present(known: Iterable[str], text: str) -> list[str]:
    """Which of many texts stand in another, whatever their case; the longest first."""
    lower = text.lower()
    return sorted((one for one in known if one.lower() in lower), key=lambda one: (-len(one), one))


@cache
def _whole(text: str) -> re.Pattern[str]:
    """A text where it is not part of a longer word."""
    return re.compile(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", re.IGNORECASE)


def _spellings(path: Path) -> set[str]:
    """A path as given, absolute and with its links followed."""
    absolute = path.absolute()
    return {spelt for one in (path, absolute, absolute.resolve()) for spelt in _variants(str(one))}


def _variants(text: str) -> set[str]:
    """A text as it is, and as Python quotes it."""
    quoted = {repr(text)[1:-1], text.encode("unicode_escape", "replace").decode()}
    encoded = {
        repr(text.encode(name, "surrogateescape" if name == "utf-8" else "replace"))[2:-1]
        for name in ("utf-8", "latin-1")
    }
    return {text, *quoted, *encoded} - {""}


def _pieces(vr: str, text: str) -> set[str]:
    """A text and the parts of it that might be said alone; of a person's name every part, however common a word."""
    pieces = set(_words(text))
    if vr == "PN":
        pieces |= {text, text.replace("^", ", "), " ".join(text.replace("^", " ").split())}
        pieces |= set(re.split(r"[\^=\s]+", text))
    elif text.lower() not in _standard_words():
        pieces.add(text)
    return pieces


def _words(text: str) -> list[str]:
    """Words that DICOM does not know and this program does not use: a name in a sentence, a number of a patient."""
    found = re.split(r"[\W_]+", text)
    return [
        word
        for word in found
        if len(word) >= (SHORTEST_NUMBER if word.isdigit() else SHORTEST_WORD) and word.lower() not in _standard_words()
    ]


@cache
def _standard_words() -> frozenset[str]:
    """Words of the standard's names and of its defined terms that occur in images, and a few of the messages here."""
    from pydicom._dicom_dict import DicomDictionary
    from pydicom._uid_dict import UID_dictionary

    names = [entry[2] for entry in DicomDictionary.values()] + [entry[0] for entry in UID_dictionary.values()]
    names += [entry[4] for entry in DicomDictionary.values()]
    words = {word for name in names for word in re.split(r"[\W_]+", name.lower())}
    return frozenset(words.union(_TERMS.split()) | frozenset().union(*WORDS.values()) | _own_words())


def _own_words() -> set[str]:
    """Words of this program's own messages: a header that holds one too must not make them unreadable."""
    package = Path(__file__).resolve().parents[1]
    sources = [*(package / "dicom").glob("*.py"), *(package / "convert").glob("*.py"), package / "codes.py"]
    texts = [
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {word for text in texts for word in re.split(r"[\W_]+", text.lower()) if word.isalpha()}
