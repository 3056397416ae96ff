"""Hostile files: a right volume or a coded error; never another exception, a hang, or memory beyond reason."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_factory import enhanced, nm, series, thorax_like, write
from hostile import SPARE, Outcome, files_below, guarded, read
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset

REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
SHAPE = (4, 8, 9)
#: what a header may lie with, for each attribute that decides about geometry, values or memory
LIES = {
    "PixelSpacing": ["0\\0", "-1\\-1", "nan\\nan", "inf\\inf", "1e-300\\1e300", "1", "1\\1\\1", "x\\y", ""],
    "ImagePositionPatient": ["nan\\0\\0", "inf\\0\\0", "1e308\\-1e308\\0", "0\\0", "0\\0\\0", ""],
    "ImageOrientationPatient": [
        "0\\0\\0\\0\\0\\0",
        "nan\\0\\0\\0\\1\\0",
        "1\\0\\0\\1\\0\\0",
        "1e200\\0\\0\\0\\1\\0",
        "",
    ],
    "SpacingBetweenSlices": ["0", "nan", "inf", "-inf", "1e300", "1e-300", "x"],
    "SliceThickness": ["0", "nan", "-3", "1e300", "x"],
    "RescaleSlope": ["0", "nan", "inf", "1e300", "x"],
    "RescaleIntercept": ["nan", "-inf", "1e300", "x"],
    "NumberOfFrames": ["0", "-1", "2147483647", "1e9", "nan", "x", ""],
    "Rows": [0, 1, 65535],
    "Columns": [0, 1, 65535],
    "BitsAllocated": [0, 1, 7, 8, 32, 64, 65535],
    "BitsStored": [0, 1, 17, 65535],
    "HighBit": [0, 65535],
    "PixelRepresentation": [2, 65535],
    "SamplesPerPixel": [0, 3, 65535],
    "PhotometricInterpretation": ["RGB", "PALETTE COLOR", "", "x"],
}


def _ct() -> list[Dataset]:
    return series(thorax_like(SHAPE))


def _nm() -> list[Dataset]:
    return [nm(np.full(SHAPE, 10))]


def _enhanced() -> list[Dataset]:
    return [enhanced(_ct())]


OBJECTS = {"CT": _ct, "SPECT": _nm, "enhanced": _enhanced}


def _check(results: list[Outcome] | str, taken: int, honest: int) -> None:
    assert not isinstance(results, str), results
    bad = [result for result in results if result.text.startswith("!")]
    assert not bad
    assert taken <= 2 * honest + SPARE, f"{taken >> 20} MiB for {honest >> 20} MiB"


def _run(variants: Iterator[bytes], others: list[Dataset], folder: Path, kind: str) -> list[Outcome]:
    for k, other in enumerate(others):
        write(other, folder / f"other{k}")
    results = []
    for content in variants:
        (folder / "hostile").write_bytes(content)
        results.append(read(folder, kind))
    return results


def _bytes_of(data: Dataset, folder: Path) -> bytes:
    return write(data, folder / "original").read_bytes()


def _fuzz(variants: Iterator[bytes], others: list[Dataset], folder: Path, name: str) -> list[Outcome]:
    (folder / "fuzz").mkdir()
    kind = "SPECT" if name == "SPECT" else "CT"
    results, taken = guarded(_run, variants, others, folder / "fuzz", kind)
    _check(results, taken, 1 << 20)
    return results


def _boundaries(content: bytes) -> list[int]:
    """Offsets at which the top-level elements of a file begin."""
    data = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
    starts = [element.file_tell for element in data if element.file_tell]
    return sorted({*starts, *(start - 8 for start in starts), 132, 144, 128, 4, 1})


@pytest.mark.parametrize("name", OBJECTS)
def test_truncation_at_each_element_and_within(tmp_path, name) -> None:
    first, *others = OBJECTS[name]()
    content = _bytes_of(first, tmp_path)
    cuts = sorted({cut for start in _boundaries(content) for cut in (start, start + 3)} | {len(content) - 1})
    results = _fuzz((content[:cut] for cut in cuts), others, tmp_path, name)
    assert len(results) > 40
    if name != "CT":  # of a CT series one slice less may be a volume: it is the first slice, which nothing follows
        assert not any("voxels" in result.text for result in results)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"])
def test_wild_lengths(tmp_path, name, length) -> None:
    first, *others = OBJECTS[name]()
    content = _bytes_of(first, tmp_path)
    places = [start for start in _boundaries(content) if start > 144]
    _fuzz((content[:p] + length[: 4 - p % 2 * 2] + content[p + 4 :] for p in places), others, tmp_path, name)
    lengths = [p + 6 for p in places]
    for k, size in enumerate((2, 4)):
        folder = tmp_path / f"at{k}"
        folder.mkdir()
        _fuzz((content[:p] + length[:size] + content[p + size :] for p in lengths), others, folder, name)


@pytest.mark.parametrize("name", OBJECTS)
def test_lying_headers(tmp_path, name) -> None:
    def variants() -> Iterator[bytes]:
        for keyword, values in LIES.items():
            for value in values:
                data = OBJECTS[name]()[0]
                places = [data]
                if name == "SPECT":
                    places += data.DetectorInformationSequence
                if name == "enhanced":
                    groups = data.PerFrameFunctionalGroupsSequence[0], data.SharedFunctionalGroupsSequence[0]
                    places += [element.value[0] for group in groups for element in group]
                for place in places:
                    if keyword in place or place is data:
                        _set_raw(place, keyword, value)
                yield _bytes_of(data, tmp_path)

    results = _fuzz(variants(), OBJECTS[name]()[1:], tmp_path, name)
    assert len(results) == sum(map(len, LIES.values()))


def _set_raw(data: Dataset, keyword: str, value: str | int) -> None:
    """Set a value unchecked."""
    vr = pydicom.datadict.dictionary_VR(keyword)
    if isinstance(value, int):
        setattr(data, keyword, value)
        return
    tag = pydicom.datadict.tag_for_keyword(keyword)
    raw = value.encode() + b" " * (len(value) % 2)
    data[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(raw), raw, 0, False, True)


@pytest.mark.parametrize("name", OBJECTS)
def test_random_bytes(tmp_path, name) -> None:
    first, *others = OBJECTS[name]()
    content = _bytes_of(first, tmp_path)

    def variants() -> Iterator[bytes]:
        random = np.random.default_rng(4)
        for _ in range(250):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = random.integers(128, len(damaged), size=int(random.integers(1, 12)))
            damaged[places] = random.integers(0, 256, size=len(places))
            yield damaged.tobytes()

    assert len(_fuzz(variants(), others, tmp_path, name)) == 250


@pytest.mark.parametrize("name", OBJECTS)
def test_wrong_value_representations(tmp_path, name) -> None:
    first, *others = OBJECTS[name]()
    content = _bytes_of(first, tmp_path)
    places = [start - 4 for start in _boundaries(content) if start > 160]
    kinds = (b"SQ", b"OB", b"UN", b"US", b"DS", b"FD", b"AT", b"UI", b"PN", b"\x00\x00", b"??")
    _fuzz((content[:p] + vr + content[p + 2 :] for p in places for vr in kinds), others, tmp_path, name)


def _one(path: Path) -> list[Outcome]:
    return [read(path, kind) for kind in ("CT", "SPECT")]


def _check_each(paths: list[Path]) -> None:
    for path in paths:
        results, taken = guarded(_one, path)
        honest = max(result.honest for result in results) if not isinstance(results, str) else 0
        try:
            _check(results, taken, honest)
        except AssertionError as error:
            raise AssertionError(f"{path}: {error}") from error


def test_pydicoms_own_test_files() -> None:
    _check_each([path for path in map(Path, get_testdata_files()) if path.is_file()])


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
def test_awkward_files_and_folders(tmp_path) -> None:
    root = REALDATA / "awkward_dicom"
    for archive in root.rglob("*.tar.*"):
        with tarfile.open(archive) as members:
            members.extractall(tmp_path / archive.name, filter="data")
    folders = [path for place in (root, tmp_path) for path in sorted(place.rglob("*")) if path.is_dir()]
    _check_each([*files_below(root), *files_below(tmp_path), *folders])
