"""Which files of a folder are DICOM objects, and reading them whole or without their pixels.

Everything that a damaged file can do ends here as a `DicomError` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from ct2vq.dicom.attributes import attribute, first_line, text
from ct2vq.errors import DicomError


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

    Files without the DICOM signature, hidden files and DICOMDIR objects go on the ignored list.

    Raises:
        DicomError: the path is missing, a file is empty or damaged, or there is no DICOM object at all.
    """
    root = source.root if isinstance(source, Source) else Path(source)
    if not root.exists():
        raise DicomError("D101", "the DICOM file or folder does not exist", path=root)
    found = Collection(root)
    for file in sorted(source.files) if isinstance(source, Source) else _files_below(root):
        if file != root and file.name.startswith("."):
            found.ignored.append((file, "hidden file"))
            continue
        instance = read_header(file)
        if instance is None:
            found.ignored.append((file, "not DICOM (no signature)"))
        elif instance.sop_class == pydicom.uid.MediaStorageDirectoryStorage:
            found.ignored.append((file, "DICOMDIR"))
        else:
            found.instances.append(instance)
    if not found.instances:
        raise DicomError(
            "D105",
            f"no DICOM image found ({len(found.ignored)} other file(s))",
            path=root,
            hint="is this the right folder?",
        )
    return found


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
            raise DicomError("D102", "the file is empty (0 bytes)", path=path, hint="copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    except DicomError:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError(
            "D103", f"damaged DICOM header: {first_line(error)}", path=path, hint="copy it again"
        ) from error
    # Some exports leave the class empty in the data set and state it only in the file meta information.
    uid = attribute(dataset, "SOPClassUID", path) or dataset.file_meta.get("MediaStorageSOPClassUID", "")
    return Instance(path, dataset, UID(str(uid or "")))


def describe_class(instance: Instance) -> str:
    """The SOP class's name with the modality, for messages."""
    name = instance.sop_class.name if instance.sop_class else "no SOP class"
    modality = text(instance.dataset, "Modality", instance.path)
    return f"{name}, modality {modality}" if modality else name


def read_file(path: Path) -> tuple[Dataset, str]:
    """The whole object and the SHA-256 of the file's bytes.

    Raises:
        DicomError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(content)), hashlib.sha256(content).hexdigest()
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError("D104", f"damaged DICOM file: {first_line(error)}", path=path, hint="copy it again") from error
