"""Small synthetic DICOM objects for tests: CT and PT slices, and NM reconstructions, with any fault wished for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)


def rotation(seed: int) -> np.ndarray:
    """A proper rotation matrix, uniform over all of them; columns: along a row, along a column, normal."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q * [1, 1, -1]


def uid(*parts: object) -> UID:
    """A UID made from names, the same each time."""
    return generate_uid(entropy_srcs=[str(part) for part in parts])


def ds_text(values: np.ndarray) -> list[str]:
    """Numbers as DICOM decimal strings of at most 16 characters."""
    return [f"{value:.10f}"[:16] for value in np.ravel(values)]


def thorax_like(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """HU `(z, y, x)` with air and tissue and no symmetry."""
    hu = np.random.default_rng(seed).integers(-100, 100, size=shape).astype(np.int16)
    hu[:, : shape[1] // 3] = -900
    return hu


def _base(sop_class: UID, modality: str, name: object, series: str = "1") -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid("instance", series, name)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Modality = modality
    data.Manufacturer = "Maker"
    data.ManufacturerModelName = "Model"
    data.PatientName = "Secret^Person"
    data.PatientID = "SECRET-ID"
    data.PatientBirthDate = "19500102"
    data.StudyDate = "20240304"
    data.StudyInstanceUID = uid("study")
    data.SeriesInstanceUID = uid("series", series)
    data.SeriesNumber = int(series)
    data.FrameOfReferenceUID = uid("frame", series)
    return data


def _pixels(data: Dataset, stored: np.ndarray) -> None:
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(stored.dtype == np.int16)
    data.PixelData = stored.astype("<i2" if stored.dtype == np.int16 else "<u2").tobytes()


def write(data: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(
    array: np.ndarray,
    *,
    axes: np.ndarray | None = None,
    origin: tuple[float, float, float] = (-50.0, -60.0, 100.0),
    spacing: tuple[float, float, float] = (1.5, 2.5, 3.0),
    modality: str = "CT",
    slopes: np.ndarray | None = None,
    intercept: float = 0.0,
    number: str = "1",
) -> list[Dataset]:
    """Single-frame slices of stored values `(z, y, x)`; `spacing` (x, y, z) mm; z along the normal (row x column)."""
    axes = np.eye(3) if axes is None else axes
    sop = CTImageStorage if modality == "CT" else PositronEmissionTomographyImageStorage
    slices = []
    for k, stored in enumerate(array):
        data = _base(sop, modality, k, number)
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.InstanceNumber = (k * 7) % 11 + 1  # says nothing about the place
        data.ImagePositionPatient = ds_text(np.array(origin) + k * spacing[2] * axes[:, 2])
        data.ImageOrientationPatient = ds_text(axes[:, :2].T)
        data.PixelSpacing = ds_text(np.array([spacing[1], spacing[0]]))
        data.SliceThickness = ds_text(np.array([spacing[2]]))[0]
        data.RescaleSlope = "1" if slopes is None else repr(float(slopes[k]))[:16]
        data.RescaleIntercept = str(intercept)
        if modality == "PT":
            data.Units = "BQML"
            data.SeriesType = ["STATIC", "IMAGE"]
            data.CorrectedImage = ["ATTN", "DECY"]
        _pixels(data, stored)
        slices.append(data)
    return slices


def write_series(slices: list[Dataset], folder: Path) -> Path:
    """Write slices under names that say nothing about their place."""
    for k, data in enumerate(slices):
        write(data, folder / f"IM{(k * 13 + 5) % 97:03d}{k}")
    return folder


def lean(slices: list[Dataset], degrees: float, towards: np.ndarray) -> list[Dataset]:
    """Slices as a tilted gantry leaves them: each moved along the unit vector `towards`, in their plane."""
    first = np.array(slices[0].ImagePositionPatient, float)
    for data in slices:
        position = np.array(data.ImagePositionPatient, float)
        height = np.linalg.norm(position - first)
        data.ImagePositionPatient = ds_text(position + height * np.tan(np.radians(degrees)) * towards)
    return slices


def _item(**values: object) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def enhanced(slices: list[Dataset], *, shared: bool = True, sop_class: UID = EnhancedCTImageStorage) -> Dataset:
    """One enhanced multi-frame object of single-frame slices; `shared` groups what they have in common."""
    first = slices[0]
    data = _base(sop_class, "CT", "enhanced")
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.NumberOfFrames = len(slices)
    _pixels(data, np.stack([np.frombuffer(s.PixelData, np.int16).reshape(s.Rows, s.Columns) for s in slices]))
    common = {
        "PixelMeasuresSequence": _item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness),
        "PlaneOrientationSequence": _item(ImageOrientationPatient=first.ImageOrientationPatient),
        "CTImageFrameTypeSequence": _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        "CTReconstructionSequence": _item(ConvolutionKernel="B30f"),
    }
    data.SharedFunctionalGroupsSequence = _item(**common) if shared else Sequence([Dataset()])
    frames = []
    for k, source in enumerate(slices):
        groups = {} if shared else common
        groups |= {
            "FrameContentSequence": _item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1]),
            "PlanePositionSequence": _item(ImagePositionPatient=source.ImagePositionPatient),
            "PixelValueTransformationSequence": _item(
                RescaleSlope=source.RescaleSlope, RescaleIntercept=source.RescaleIntercept, RescaleType="HU"
            ),
        }
        frames.append(_item(**groups)[0])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return data


def nm(
    array: np.ndarray,
    *,
    axes: np.ndarray | None = None,
    origin: tuple[float, float, float] = (-80.0, -90.0, 200.0),
    spacing: tuple[float, float, float] = (4.5, 5.5, 6.5),
    kind: str = "RECON TOMO",
    geometry: str = "detector",
) -> Dataset:
    """An NM object of frames `(z, y, x)`; a negative z spacing stacks against the normal.

    `geometry` says where position and orientation stand: `detector`, `top` or `both`.
    """
    axes = np.eye(3) if axes is None else axes
    data = _base(NuclearMedicineImageStorage, "NM", "nm")
    data.ImageType = ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    data.NumberOfFrames = len(array)
    data.FrameIncrementPointer = [(0x0054, 0x0080)]
    data.SliceVector = list(range(1, len(array) + 1))
    data.NumberOfDetectors = 1
    data.PixelSpacing = ds_text(np.array([spacing[1], spacing[0]]))
    data.SpacingBetweenSlices = ds_text(np.array([spacing[2]]))[0]
    data.SliceThickness = ds_text(np.array([abs(spacing[2])]))[0]
    data.CorrectedImage = ["ATTN", "SCAT"]
    detector = Dataset()
    for place, name in ((detector, "detector"), (data, "top")):
        if geometry in (name, "both"):
            place.ImagePositionPatient = ds_text(np.array(origin))
            place.ImageOrientationPatient = ds_text(axes[:, :2].T)
    data.DetectorInformationSequence = Sequence([detector])
    drug = Dataset()
    drug.Radiopharmaceutical = "MAA"
    data.RadiopharmaceuticalInformationSequence = Sequence([drug])
    _pixels(data, array.astype(np.uint16))
    return data
