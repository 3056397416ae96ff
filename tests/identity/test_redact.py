"""Nothing that names the patient passes the redactor, in whatever way a message spells it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.identity.headers import Text
from ct2vq.identity.redact import REMOVED, Redactor
from ct2vq.identity.store import Store

STORE = Store(Path("unused"), bytes(range(32)))
ROOT = Path("data/dicom/DOE_JANE/2020-03-04")
FILES = [ROOT / "CT" / "IM0001 Müller.dcm", ROOT / "CT" / "Äpfel", ROOT / "9"]


def redactor(*texts: tuple[str, str, str]) -> Redactor:
    made = Redactor(STORE)
    made.learn_paths(ROOT, FILES, Path("data/dicom"))
    made.learn_texts(Text(*text) for text in texts)
    return made


def file_id(path: Path) -> str:
    return STORE.pseudonym("file", str(path))


@pytest.mark.parametrize("path", [ROOT, *FILES], ids=str)
@pytest.mark.parametrize(
    "spelling", [str, repr, lambda path: str(path.absolute()), lambda path: ascii(str(path))[1:-1]]
)
def test_a_path_becomes_its_id(path, spelling) -> None:
    made = redactor()
    cleaned = made.clean(f"D102 file {spelling(path)}: the file is empty")
    assert file_id(path) in cleaned
    assert not any(part in cleaned for part in ("DOE", "JANE", "2020-03", "ller", "fel"))
    assert made.mentioned == {file_id(path): str(path)}


def test_relative_paths_names_and_folders_are_known_too() -> None:
    made = redactor()
    said = "CT/IM0001 Müller.dcm, IM0001 Müller.dcm, im0001 müller, DOE_JANE, doe_jane/x, JANE"
    cleaned = made.clean(said).lower()
    assert not any(part in cleaned for part in ("doe", "jane", "ller"))


def test_a_plain_name_stays_where_it_is_a_word() -> None:
    made = Redactor(STORE)
    made.learn_paths(Path("data/dicom/a/ct"), [Path("data/dicom/a/ct/1")], Path("data/dicom"))
    assert made.clean("ct: 1 file(s) converted") == "ct: 1 file(s) converted"
    assert made.clean("data/dicom/a/ct/1 is empty") == f"{file_id(Path('data/dicom/a/ct/1'))} is empty"


@pytest.mark.parametrize(
    ("vr", "value", "said"),
    [
        ("PN", "Doe^Jane^Q", "found 'Doe^Jane^Q'; Doe, Jane; Jane Doe"),
        ("PN", "Field^Day", "the field of the day: FIELD^DAY"),
        ("LO", "MRN-8841127", "PatientID 'MRN-8841127'"),
        ("LO", "8841127", "number 8841127."),
        ("LO", "CT of Mrs Quimby", "asked for by QUIMBY"),
        ("SH", "Quimby", "could not convert string to float: 'Quimby'"),
        ("DA", "19500102", "born 19500102"),
        ("UN", "Quimby was here", "b'Quimby'"),
        ("LT", "Zoë Österreich", "value b'Zo\\xc3\\xab \\xc3\\x96sterreich'"),
        ("LT", "Zoë Österreich", "value 'Zo\\xeb \\xd6sterreich'"),
    ],
)
def test_a_headers_text_is_removed(vr, value, said) -> None:
    cleaned = redactor((vr, "", value)).clean(said)
    assert REMOVED in cleaned
    for part in ("doe", "jane", "field^", "8841127", "quimby", "19500102", "sterreich"):
        assert part not in cleaned.lower()


def test_uids_become_the_sidecars_hashes_and_those_of_the_standard_stay() -> None:
    uid, cleaned = "1.2.826.0.1.3680043.8.498.1234567", redactor().clean("[1.2.826.0.1.3680043.8.498.1234567], CT")
    assert cleaned == f"[{STORE.pseudonym('uid', uid, 16)}], CT"
    assert redactor().clean("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert redactor().clean("spacing 1.5 mm, version 3.1.0.2") == "spacing 1.5 mm, version 3.1.0.2"


def test_words_of_the_standard_and_known_machines_are_said() -> None:
    made = redactor(
        ("CS", "ImageType", "ORIGINAL"),
        ("LO", "SeriesDescription", "Perfusion SPECT"),
        ("LO", "Manufacturer", "SIEMENS"),
        ("SH", "ConvolutionKernel", "B30f"),
    )
    said = "D203 no SPECT found; ORIGINAL of SIEMENS with B30f: Perfusion Image Storage, PixelSpacing"
    assert made.clean(said) == said


def test_the_same_text_elsewhere_is_no_kernel() -> None:
    made = redactor(("SH", "ConvolutionKernel", "C123"), ("LO", "PatientID", "C123"))
    assert made.clean("found 'C123'") == f"found '{REMOVED}'"


def test_an_unknown_kernel_is_removed() -> None:
    assert REMOVED in redactor(("SH", "ConvolutionKernel", "QUIMBY")).clean("kernel QUIMBY")


@given(st.from_regex(r"[^\W_]{3,12}", fullmatch=True), st.sampled_from(["", "(", "'", "x ", "1: "]))
def test_a_persons_name_never_passes_as_a_word(name, before) -> None:
    made = Redactor(STORE)
    made.learn_texts([Text("PN", "PatientName", f"{name}^Someone")])
    assert made.clean(f"{before}{name}: no") == f"{before}{REMOVED}: no"


def test_a_long_archive_is_cleaned_quickly() -> None:
    made = Redactor(STORE)
    files = [ROOT / "CT" / f"IM{n:05d}.dcm" for n in range(2000)]
    made.learn_paths(ROOT, files, Path("data/dicom"))
    started = time.perf_counter()
    cleaned = made.clean("\n".join(f"ignored {path}: hidden file" for path in files[:500]))
    assert "DOE" not in cleaned and len(made.mentioned) == 500
    assert time.perf_counter() - started < 5
