"""Which files of a folder are DICOM objects, and reading them whole or without their pixels.

Everything that a damaged file can do ends here as a `DicomError` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ct2vq.dicom.attributes import first_line, number, text
from ct2vq.errors import DicomError

#: encodings that store each pixel as it is ("" is taken for implicit VR, as pydicom does)
NATIVE_SYNTAXES = (UID(""), ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
#: zlib's densest output: 1032 bytes out of one (zlib's technical details); RLE and lossless JPEG stay far below it, and
#: measured images (noise) never come near it with JPEG-LS or JPEG 2000
MOST_BYTES_OF_ONE = 1032
#: largest data set behind a deflated file, whose header is only seen unpacked: 2000 slices of 512 x 512 x 16 bits
DEFLATED_LIMIT = 2**30
#: the file meta information, which is never deflated, stands within this (it usually takes 350 bytes)
META_BYTES = 4096
#: endings of DICOM files: an empty one is a lost image
IMAGE_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ".img"})
#: the length of an element that ends with a delimiter (PS3.5 7.1.3)
UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Instance:
    """One DICOM object without its pixels."""

    path: Path
    dataset: Dataset
    sop_class: UID


@dataclass(frozen=True)
class Source:
    """The files that one volume is made from, where a folder alone does not tell.

    Attributes:
        root: the folder that holds them all, for messages.
        files: in any order.
    """

    root: Path
    files: tuple[Path, ...]


@dataclass
class Collection:
    """What a folder holds: the DICOM objects, and the files that were left out with the reason."""

    root: Path
    instances: list[Instance] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)

    def keep(self, sop_classes: Sequence[UID]) -> list[Instance]:
        """The objects of these SOP classes; all others are put on the ignored list under their class's name."""
        kept = [instance for instance in self.instances if instance.sop_class in sop_classes]
        for instance in self.instances:
            if instance.sop_class not in sop_classes:
                self.ignored.append((instance.path, describe_class(instance)))
        return kept

    def ignored_summary(self) -> list[str]:
        """One line for each reason with the number of files: no file names, fit for a sidecar."""
        reasons = [reason for _, reason in self.ignored]
        return [f"{reasons.count(reason)} file(s) ignored: {reason}" for reason in sorted(set(reasons))]


def collect(source: str | Path | Source) -> Collection:
    """Read the headers of a DICOM file, of every file below a folder, whatever their names, or of given files.

    Files without the DICOM signature, hidden files, empty markers and DICOMDIR objects go on the ignored list.

    Raises:
        DicomError: the path is missing, an image is empty or damaged, or there is no DICOM object at all.
    """
    root = source.root if isinstance(source, Source) else Path(source)
    if not root.exists():
        raise DicomError("D101", "the DICOM file or folder does not exist", path=root)
    found = Collection(root)
    empty = []
    for file in sorted(source.files) if isinstance(source, Source) else _files_below(root):
        if file != root and file.name.startswith("."):
            found.ignored.append((file, "hidden file"))
            continue
        if root.is_dir() and not isinstance(source, Source) and file.stat().st_size == 0:
            empty.append(file)
            continue
        instance = read_header(file)
        if instance is None:
            found.ignored.append((file, "not DICOM (no signature)"))
        elif instance.sop_class == pydicom.uid.MediaStorageDirectoryStorage:
            found.ignored.append((file, "DICOMDIR"))
        else:
            found.instances.append(instance)
    _set_markers_aside(found, empty)
    if not found.instances:
        raise DicomError(
            "D105",
            f"no DICOM image found ({len(found.ignored)} other file(s))",
            path=root,
            hint="is this the right folder?",
        )
    return found


def _set_markers_aside(found: Collection, empty: Sequence[Path]) -> None:
    """Put empty files that cannot be lost images on the ignored list: markers such as `DONE` or `transfer.ok`.

    Raises:
        DicomError: an empty file whose name looks like an image's.
    """
    suffixes = IMAGE_SUFFIXES | {instance.path.suffix.lower() for instance in found.instances}
    for file in empty:
        suffix = file.suffix.lower()
        # A number at the end of a UID is no suffix.
        other_kind = suffix[1:].isalpha() and suffix not in suffixes
        unnumbered = suffix not in suffixes - {""} and not any(letter.isdigit() for letter in file.name)
        if not (other_kind or unnumbered):
            raise _empty(file)
        found.ignored.append((file, "empty file"))


def _empty(path: Path) -> DicomError:
    return DicomError("D102", "the file is empty (0 bytes)", path=path, hint="copy it again")


def _files_below(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())


def read_header(path: str | Path) -> Instance | None:
    """Read one file's header; None if it does not carry the DICOM signature.

    Raises:
        DicomError: the file is empty, unreadable or damaged.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise _empty(path)
        _require_honest_deflate(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _Bounded(path) as stream:
                dataset = pydicom.dcmread(stream, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    except DicomError:
        raise
    except FileNotFoundError as error:
        hint = "was it moved since `ct2vq discover` saw it? run that again"
        raise DicomError("D101", "the file does not exist", path=path, hint=hint) from error
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise DicomError("D104", problem, path=path, hint="check access rights and the disk") from error
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError(
            "D103", f"damaged DICOM header: {first_line(error)}", path=path, hint="copy it again"
        ) from error
    # Some exports leave the class empty in the data set and state it only in the file meta information.
    uid = text(dataset, "SOPClassUID", path) or text(dataset.file_meta, "MediaStorageSOPClassUID", path)
    return Instance(path, dataset, UID(uid or "", validation_mode=pydicom.config.IGNORE))


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds: Python sets aside what a damaged length claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, all that are left if None or negative."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def transfer_syntax(dataset: Dataset, path: Path) -> UID:
    """How the file is encoded; an empty UID where it does not say."""
    uid = text(dataset.file_meta, "TransferSyntaxUID", path) or ""
    return UID(uid, validation_mode=pydicom.config.IGNORE)


def _require_honest_deflate(path: Path) -> None:
    """Refuse a deflated file that swells beyond `DEFLATED_LIMIT`: pydicom unpacks it whole to read its header."""
    with path.open("rb") as stream:
        head = stream.read(META_BYTES)
        # File Meta Information Group Length (0002,0000), UL: bytes from its own end to the data set (PS3.10 7.1)
        grouped = head[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
        start = 144 + int.from_bytes(head[140:144], "little") if grouped else META_BYTES
        if DeflatedExplicitVRLittleEndian.encode() not in head[132:start]:
            return
        if not grouped:
            raise DicomError("D103", "a deflated file does not tell where its data begin", path=path)
        stream.seek(start)
        unpack, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while size <= DEFLATED_LIMIT and not unpack.eof and (packed := unpack.unconsumed_tail or stream.read(1 << 16)):
            size += len(unpack.decompress(packed, 1 << 20))
    if size > DEFLATED_LIMIT:
        problem = f"a deflated file that unpacks to more than {DEFLATED_LIMIT >> 20} MiB"
        raise DicomError("D108", problem, path=path, hint="export it uncompressed")


def require_honest_size(instance: Instance) -> None:
    """Refuse an image whose header claims more pixels than its file can hold, before memory is asked for them.

    Raises:
        DicomError: the claim, and the file's size.
    """
    dataset, path = instance.dataset, instance.path
    names = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
    values = {name: number(dataset, name, path) for name in names}
    rows, columns, frames, samples, bits = (1.0 if value is None else value for value in values.values())
    claimed = rows * columns * frames * samples * bits / 8
    packed = transfer_syntax(dataset, path) not in NATIVE_SYNTAXES
    size = path.stat().st_size
    if claimed < 0 or claimed > size * (MOST_BYTES_OF_ONE if packed else 1):
        problem = f"the header claims {rows:g} x {columns:g} x {frames:g} pixels, the file has {size} bytes only"
        raise DicomError(
            "D108", problem, path=path, key="Rows", hint="cut off, or privately compressed? export it again"
        )


def describe_class(instance: Instance) -> str:
    """The SOP class's name with the modality, for messages."""
    name = instance.sop_class.name if instance.sop_class else "no SOP class"
    modality = text(instance.dataset, "Modality", instance.path)
    return f"{name}, modality {modality}" if modality else name


def read_file(path: Path) -> tuple[Dataset, str]:
    """The whole object and the SHA-256 of the file's bytes, of which only one copy is held in memory.

    Raises:
        DicomError: the file cannot be read, or ends within its pixels.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _Bounded(path) as stream:
                dataset = pydicom.dcmread(stream)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError("D104", f"damaged DICOM file: {first_line(error)}", path=path, hint="copy it again") from error
    _require_whole_pixels(dataset, path)
    return dataset, digest


def _require_whole_pixels(dataset: Dataset, path: Path) -> None:
    """Refuse pixel data with fewer bytes than their element announces: pydicom takes what is left of the file."""
    pixels = dataset.get_item("PixelData") if "PixelData" in dataset else None
    if isinstance(pixels, RawDataElement) and pixels.length != UNDEFINED_LENGTH:
        found = len(pixels.value or b"")
        if found != pixels.length:
            problem = f"the pixel data end after {found} bytes, {pixels.length} announced: the file is truncated"
            raise DicomError("D104", problem, path=path, key="PixelData", hint="copy it again")
