"""Writers: a CT as an axial series, a SPECT as one NM object or as PT slices, each as one hospital's machines write it.

Attributes follow DICOM PS3.3 A.3 (CT Image IOD), A.5 (NM Image IOD) and A.21 (PET Image IOD). Hospitals differ in how
they store the same image: such a way is a `Habit`. All identities are invented (`ct2vq.simulate.identity`). Unique
identifiers are `2.25.` and a number hashed from seed, case and role (PS3.5 B.2): a case is always the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)
from pydicom.valuerep import format_number_as_ds

from ct2vq.errors import ConfigError, DicomError, GeometryError
from ct2vq.simulate.identity import (
    SOURCE_AE_TITLE,
    TOKEN,
    Identity,
    code,
    draw_identity,
    fill,
    identifying,
    item,
    make_uid,
    planted_identities,
    session_of,
)
from ct2vq.volume import to_array, voxel_volume_ml

__all__ = [
    "ACQUISITIONS",
    "CT_PROTOCOLS",
    "HABITS",
    "TOKEN",
    "Acquisition",
    "CtProtocol",
    "Habit",
    "Identity",
    "draw_identity",
    "make_uid",
    "planted_identities",
    "units_per_count",
    "write_ct_series",
    "write_spect",
]

#: half-life of 99mTc in seconds (6.0067 h, LNHB/DDEP evaluation)
TC99M_HALF_LIFE_S = 21624.1
#: counts a second and MBq of one head with a low-energy high-resolution collimator; data sheets (NEMA NU 1) state
#: 160-205 counts a minute and uCi, which is 72-92
SENSITIVITY_CPS_PER_MBQ = 80.0
_INTERCEPT = -1024
#: largest stored value: 16 bits in NM, 15 (signed) in PT
_NM_MAX, _PT_MAX = 65535, 32767


# --- who writes how ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Habit:
    """How one hospital's machines write.

    Attributes:
        name: key of `HABITS`.
        manufacturer: an invented maker.
        spect: `detector`: one NM object, position and orientation in DetectorInformationSequence (PS3.3 C.8.4.11);
            `descending`: the same with frames from head to feet and a negative SpacingBetweenSlices (C.8.4.15);
            `top_level`: position and orientation in the data set itself, the detector's are there but empty, as their
            type 2 allows; `pt`: one PET Image Storage object for each slice, with a slope of its own.
        ct_compression: all are lossless.
        units: `CNTS` (counts) or, in PT objects only, `BQML` (Bq/mL).
    """

    name: str
    manufacturer: str
    spect: Literal["detector", "descending", "top_level", "pt"]
    ct_compression: Literal["none", "rle", "jpeg_lossless", "jpeg2000"]
    units: Literal["CNTS", "BQML"] = "CNTS"


HABITS = {
    habit.name: habit
    for habit in (
        Habit("camera_a", "ct2vq camera A", "detector", "none"),
        Habit("camera_b", "ct2vq camera B", "descending", "jpeg_lossless"),
        Habit("camera_c", "ct2vq camera C", "top_level", "jpeg2000"),
        Habit("camera_d", "ct2vq camera D", "pt", "rle"),
        Habit("camera_e", "ct2vq camera E", "pt", "none", "BQML"),
    )
}


@dataclass(frozen=True)
class Acquisition:
    """How one SPECT was taken; times in minutes after the session's start.

    Attributes:
        activity_mbq: activity that reached the patient, at the time it was given.
        given_minutes: administration.
        start_minutes: start of the acquisition.
        views: projections of all heads together, evenly over a full circle.
        view_seconds: duration of one view.
        heads: detectors that turn together.

    Raises:
        ConfigError: the acquisition starts before the tracer is given, or the heads do not share the views.
    """

    activity_mbq: float
    given_minutes: float
    start_minutes: float
    views: int = 120
    view_seconds: float = 10.0
    heads: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.given_minutes <= self.start_minutes:
            problem = f"acquisition at minute {self.start_minutes:g}, tracer given at minute {self.given_minutes:g}"
            raise ConfigError(problem, hint="0 <= given <= start is expected")
        if self.views % self.heads:
            raise ConfigError(f"{self.views} views cannot be shared by {self.heads} heads")

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the end of the last view."""
        return self.views / self.heads * self.view_seconds

    @property
    def decay_factor(self) -> float:
        """Counts without decay over counts with it, from the start of the acquisition to its end."""
        decays = np.log(2) / TC99M_HALF_LIFE_S * self.duration_s
        return float(decays / -np.expm1(-decays))


#: usual activities of the EANM guideline for V/Q SPECT (Bajc et al. 2019): 25-30 MBq inhaled into the lungs, 100-120
#: MBq MAA; ventilation first, both in one session, 60 steps of two heads
ACQUISITIONS = {
    "ventilation": Acquisition(28.0, 0, 10, view_seconds=15.0),
    "perfusion": Acquisition(115.0, 28, 33, view_seconds=10.0),
}


@dataclass(frozen=True)
class CtProtocol:
    """How a CT was taken and reconstructed.

    Attributes:
        kernel: the reconstruction kernel's name, at most 16 characters.
        thickness_mm: nominal slice thickness, None: the distance of the slices.
        contrast_agent: what was injected, None: nothing.
        kvp: tube voltage, kV.
        mas: exposure, mAs.
        rotation_s: exposure time of one rotation, s.
    """

    kernel: str
    thickness_mm: float | None = None
    contrast_agent: str | None = None
    kvp: float = 120.0
    mas: float = 90.0
    rotation_s: float = 0.5


CT_PROTOCOLS = {
    "ct": CtProtocol("SOFT"),
    "attenuation_ct": CtProtocol("SMOOTH", mas=16.0, rotation_s=0.8),
}


# --- what all objects share ----------------------------------------------------------------------------------------


def _decimal(value: float) -> str:
    """A decimal string (DS): as exact as its 16 characters allow."""
    return format_number_as_ds(float(value))


def _decimals(values: object) -> list[str]:
    return [_decimal(v) for v in np.ravel(values)]


def _clock(moment: datetime) -> str:
    return moment.strftime("%H%M%S")


def _new_object(
    who: Identity, role: str, habit: Habit, sop_class: UID, syntax: UID = ExplicitVRLittleEndian
) -> FileDataset:
    """An object with its file meta information, who it is of, and the modules that all images share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, syntax
    meta.ImplementationClassUID = make_uid("ct2vq", "implementation")
    meta.ImplementationVersionName = "CT2VQ_SIMULATE"
    meta.SourceApplicationEntityTitle = SOURCE_AE_TITLE
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet, data.SOPClassUID = "ISO_IR 192", sop_class
    data.update(identifying(who, role))
    session = session_of(role)
    data.Manufacturer = habit.manufacturer
    data.ManufacturerModelName = "Simulated CT" if session == "ct" else "Simulated SPECT/CT"
    data.SoftwareVersions = "simulate 2"
    data.StudyInstanceUID, data.SeriesInstanceUID = who.uid("study", session), who.uid(role, "series")
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = who.uid("frame of reference", session), ""
    data.BodyPartExamined, data.AcquisitionNumber = "CHEST", 1
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    return data


def _add_times(data: Dataset, start: datetime, end: datetime) -> None:
    """Dates and times of series, acquisition and content; images exist from the end of the acquisition on."""
    for what, moment in (("Series", start), ("Acquisition", start), ("Content", end)):
        fill(data, {f"{what}Date": moment.strftime("%Y%m%d"), f"{what}Time": _clock(moment)})


def _add_matrix(data: Dataset, image: sitk.Image, bits: int, *, signed: bool = False) -> None:
    """Image Pixel module without pixels, and the plane's spacing and nominal thickness."""
    columns, rows, _ = image.GetSize()
    x, y, z = image.GetSpacing()
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = rows, columns
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, int(signed)
    data.PixelSpacing, data.SliceThickness = _decimals((y, x)), _decimal(z)


def _orientation(image: sitk.Image) -> list[str]:
    """Direction cosines of a row and of a column (PS3.3 C.7.6.2.1.1).

    Raises:
        GeometryError: the slices do not follow the normal, as both NM and PT need it.
    """
    direction = np.reshape(image.GetDirection(), (3, 3))
    if np.linalg.det(direction) < 0:
        raise GeometryError("a left-handed volume cannot be written", hint="reverse its slices")
    return _decimals(direction[:, :2].T)


def _position(image: sitk.Image, k: int) -> list[str]:
    """Position of the first pixel of slice `k`, mm."""
    return _decimals(image.TransformIndexToPhysicalPoint((0, 0, k)))


def _place_slice(data: Dataset, image: sitk.Image, k: int) -> None:
    """What of the Image Plane module differs between the slices of a series."""
    data.ImagePositionPatient = _position(image, k)
    normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    data.SliceLocation = _decimal(round(float(normal @ np.array(data.ImagePositionPatient, dtype=float)), 4))


def _save(data: FileDataset, path: Path, uid: str) -> None:
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.save_as(path, enforce_file_format=True)


def _encoded_header(data: FileDataset, uid: str) -> FileDataset:
    """The same object with elements as they stand in a file, so that a series of slices encodes them only once."""
    buffer = BytesIO()
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


# --- CT ------------------------------------------------------------------------------------------------------------


def write_ct_series(
    image: sitk.Image,
    folder: Path,
    who: Identity,
    role: str,
    rng: np.random.Generator,
    habit: Habit = HABITS["camera_a"],
    protocol: CtProtocol | None = None,
) -> None:
    """Write an axial CT (HU) as one file a slice; file names are in random order.

    GDCM (in SimpleITK) encodes JPEG lossless and JPEG 2000, pydicom RLE; no pinned package encodes JPEG-LS.

    Args:
        image: HU, rounded and cut to -1024 ... 3071 (12 bits).
        folder: where to write; must not exist.
        who: the patient.
        role: `ct` or `attenuation_ct`.
        rng: source of the order of the names.
        habit: how the hospital's machines write.
        protocol: how the CT was taken, None: the usual way.

    Raises:
        GeometryError: the volume is left-handed.
    """
    folder.mkdir(parents=True)
    stored = (np.rint(to_array(image)).astype(np.int32) - _INTERCEPT).clip(0, 4095).astype(np.uint16)
    names = rng.permutation(len(stored)) + 1
    data = _new_object(who, role, habit, CTImageStorage, _SYNTAXES[habit.ct_compression])
    _add_ct_series(data, who, role, protocol or CT_PROTOCOLS[role])
    # GDCM's encoders announce the 16 bits that they are given.
    _add_matrix(data, image, 16 if habit.ct_compression.startswith("jpeg") else 12)
    data.ImageOrientationPatient = _orientation(image)
    if protocol is not None and protocol.thickness_mm is not None:
        data.SliceThickness = _decimal(protocol.thickness_mm)
    data = _encoded_header(data, who.uid(role, "image", 0))
    for k, pixels in enumerate(_encoded(stored, habit.ct_compression)):
        _place_slice(data, image, k)
        data.InstanceNumber, data.PixelData = k + 1, pixels
        data["PixelData"].VR = "OW" if habit.ct_compression == "none" else "OB"
        _save(data, folder / f"IM{names[k]:05d}.dcm", who.uid(role, "image", k))


def _add_ct_series(data: Dataset, who: Identity, role: str, protocol: CtProtocol) -> None:
    """General Series, General Image, Contrast/Bolus and CT Image modules, without geometry and pixels."""
    start = who.start(role) + timedelta(minutes=6 if role == "ct" else 3)
    _add_times(data, start, start)
    data.Modality, data.PatientPosition, data.PatientOrientation = "CT", "HFS", ["L", "P"]
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.KVP, data.ConvolutionKernel = _decimal(protocol.kvp), protocol.kernel
    data.Exposure, data.ExposureTime = round(protocol.mas), round(1000 * protocol.rotation_s)
    data.XRayTubeCurrent = round(protocol.mas / protocol.rotation_s)
    data.GantryDetectorTilt, data.TableHeight, data.FilterType = "0", "150", "BODY"
    data.IrradiationEventUID = who.uid(role, "irradiation")
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = str(_INTERCEPT), "1", "HU"
    data.WindowCenter, data.WindowWidth = "-500", "1500"
    if protocol.contrast_agent is not None:
        data.ContrastBolusAgent, data.ContrastBolusRoute = protocol.contrast_agent, "INTRAVENOUS"
        data.ContrastBolusStartTime = _clock(start - timedelta(seconds=25))


_SYNTAXES = {
    "none": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg2000": JPEG2000Lossless,
}


def _encoded(stored: np.ndarray, compression: str) -> Iterator[bytes]:
    """Values of PixelData, one for each slice of `stored` (z, y, x), uint16."""
    if compression == "none":
        yield from (plane.astype("<u2").tobytes() for plane in stored)
    elif compression == "rle":
        yield from (encapsulate([_run_lengths(plane)]) for plane in stored)
    else:
        yield from (encapsulate([frame]) for frame in _gdcm_frames(stored, compression))


def _run_lengths(plane: np.ndarray) -> bytes:
    """One slice (y, x) in RLE (PS3.5 annex G)."""
    return RLELosslessEncoder.encode(
        plane.astype("<u2").tobytes(),
        rows=plane.shape[0],
        columns=plane.shape[1],
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        encoding_plugin="pydicom",
    )


def _gdcm_frames(stored: np.ndarray, compression: str) -> Iterator[bytes]:
    """The slices of `stored` (z, y, x) as code streams: GDCM encodes them into an object that is thrown away."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor({"jpeg_lossless": "JPEG", "jpeg2000": "JPEG2000"}[compression])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.dcm"
        writer.SetFileName(str(path))
        writer.Execute(sitk.GetImageFromArray(stored))
        data = pydicom.dcmread(path)
    if data.file_meta.TransferSyntaxUID != _SYNTAXES[compression]:
        problem = f"GDCM encoded {data.file_meta.TransferSyntaxUID.name}, {compression} expected"
        raise DicomError("D403", problem, hint="install the SimpleITK of requirements.lock")
    yield from generate_frames(data.PixelData, number_of_frames=len(stored))


# --- SPECT ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tracer:
    """What was given, and by which way."""

    name: str
    code: tuple[str, str, str]
    route: str
    route_code: tuple[str, str, str]


TRACERS = {
    "ventilation": Tracer(
        "99mTc-Technegas",
        ("99CT2VQ1", "99CT2VQ", "Technetium Tc^99m^ carbon aerosol"),
        "INHALATION",
        ("447694001", "SCT", "By inhalation"),
    ),
    "perfusion": Tracer(
        "99mTc-MAA",
        ("398991009", "SCT", "Albumin aggregated Technetium Tc^99m^"),
        "INTRAVENOUS",
        ("47625008", "SCT", "By intravenous route"),
    ),
}


def units_per_count(image: sitk.Image, habit: Habit, acquisition: Acquisition) -> float:
    """What a habit stores for one count: 1, or Bq/mL at the start of the acquisition.

    Counts over duration and sensitivity give the mean activity, decay correction that of the start.

    Args:
        image: the SPECT, for the voxels' volume.
        habit: how the hospital's machines write.
        acquisition: for duration and number of heads.
    """
    if habit.units == "CNTS":
        return 1.0
    cps_per_bq = acquisition.heads * SENSITIVITY_CPS_PER_MBQ * 1e-6
    return acquisition.decay_factor / (acquisition.duration_s * cps_per_bq * voxel_volume_ml(image))


def write_spect(
    image: sitk.Image, folder: Path, who: Identity, role: str, habit: Habit, acquisition: Acquisition
) -> None:
    """Write a reconstructed axial SPECT: `<role>.dcm` (NM), or one file a slice (PT).

    Whole counts up to 65535 are stored as they are in an NM object; others are scaled to 16 bits, with the factor in
    RealWorldValueMappingSequence (General Image module, PS3.3 C.7.6.1), as the NM IOD knows no rescale. PT slices
    have 15 bits and a slope each; error at most half of the slice's maximum / 32767.

    Args:
        image: counts, not negative, integer or float.
        folder: where to write; must not exist.
        who: the patient.
        role: `perfusion` or `ventilation`.
        habit: how the hospital's machines write.
        acquisition: how the image was taken.

    Raises:
        GeometryError: the volume is left-handed.
    """
    folder.mkdir(parents=True)
    if habit.spect == "pt":
        _write_pt(image, folder, who, role, habit, acquisition)
    else:
        _write_nm(image, folder / f"{role}.dcm", who, role, habit, acquisition)


def _acquisition_start(who: Identity, acquisition: Acquisition) -> datetime:
    return who.spect_time + timedelta(minutes=acquisition.start_minutes)


def _add_spect_series(data: Dataset, who: Identity, acquisition: Acquisition) -> None:
    """Times, NM/PET Patient Orientation module, and orientation of the rows."""
    start = _acquisition_start(who, acquisition)
    _add_times(data, start, start + timedelta(seconds=acquisition.duration_s + 120))
    lying = code("102538003", "SCT", "recumbent")
    lying.PatientOrientationModifierCodeSequence = Sequence([code("40199007", "SCT", "supine")])
    data.PatientOrientationCodeSequence = Sequence([lying])
    data.PatientGantryRelationshipCodeSequence = Sequence([code("102540008", "SCT", "headfirst")])
    data.PatientOrientation = ["L", "P"]


def _pharmaceutical(who: Identity, role: str, acquisition: Acquisition) -> Dataset:
    """Item of RadiopharmaceuticalInformationSequence, without the dose, whose unit depends on the IOD."""
    tracer = TRACERS[role]
    given = who.spect_time + timedelta(minutes=acquisition.given_minutes)
    return item(
        Radiopharmaceutical=tracer.name,
        RadiopharmaceuticalRoute=tracer.route,
        RadiopharmaceuticalStartTime=_clock(given),
        RadionuclideCodeSequence=Sequence([code("72454001", "SCT", "^99m^Technetium")]),
        RadiopharmaceuticalCodeSequence=Sequence([code(*tracer.code)]),
        AdministrationRouteCodeSequence=Sequence([code(*tracer.route_code)]),
    )


def _energy_window() -> Dataset:
    """Item of EnergyWindowRangeSequence: 140 keV +- 10 %."""
    return item(EnergyWindowLowerLimit="126", EnergyWindowUpperLimit="154")


# --- SPECT as NM ---------------------------------------------------------------------------------------------------


def _write_nm(image: sitk.Image, path: Path, who: Identity, role: str, habit: Habit, acquisition: Acquisition) -> None:
    """Frame k lies at `ImagePositionPatient + k SpacingBetweenSlices n`, n the normal of the plane (C.8.4.15)."""
    data = _new_object(who, role, habit, NuclearMedicineImageStorage)
    _add_spect_series(data, who, acquisition)
    data.Modality, data.ImageType = "NM", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    data.ImageID, data.InstanceNumber = f"{role[:4].upper()} RECON", 1
    data.CorrectedImage = ["ATTN", "SCAT", "DECY", "UNIF", "COR"]
    data.TypeOfDetectorMotion = "STEP AND SHOOT"
    drug = _pharmaceutical(who, role, acquisition)
    drug.RadionuclideTotalDose = _decimal(round(acquisition.activity_mbq, 1))  # MBq here (C.8.4.10), Bq in PT
    data.RadiopharmaceuticalInformationSequence = Sequence([drug])
    window = item(EnergyWindowName="Tc99m", EnergyWindowRangeSequence=Sequence([_energy_window()]))
    data.EnergyWindowInformationSequence = Sequence([window])
    data.RotationInformationSequence = Sequence([_rotation(acquisition)])
    _place_frames(data, image, habit.spect)
    _add_frames(data, image, descending=habit.spect == "descending")
    _save(data, path, who.uid(role, "image"))


def _place_frames(data: Dataset, image: sitk.Image, way: str) -> None:
    """Put the first frame's position and orientation where the habit wants them; the detector's are type 2."""
    last = image.GetSize()[2] - 1
    place = {
        "ImagePositionPatient": _position(image, last if way == "descending" else 0),
        "ImageOrientationPatient": _orientation(image),
    }
    detector = item(CollimatorType="PARA", CollimatorGridName="LEHR")
    if way == "top_level":
        fill(data, place)
        place = dict.fromkeys(place)
    data.DetectorInformationSequence = Sequence([fill(detector, place)])
    data.SpacingBetweenSlices = _decimal(image.GetSpacing()[2] * (-1 if way == "descending" else 1))


def _add_frames(data: Dataset, image: sitk.Image, *, descending: bool) -> None:
    """Image Pixel, Multi-frame, NM Multi-frame and NM Reconstruction modules."""
    counts = to_array(image)[::-1] if descending else to_array(image)
    frames = len(counts)
    _add_matrix(data, image, 16)
    data.NumberOfFrames = data.NumberOfSlices = frames
    data.FrameIncrementPointer, data.SliceVector = [0x00540080], list(range(1, frames + 1))
    data.NumberOfEnergyWindows = data.NumberOfDetectors = data.NumberOfRotations = 1
    data.CountsAccumulated = int(counts.sum(dtype=np.float64))
    stored, slope = _scaled(counts)
    if slope != 1:
        data.RealWorldValueMappingSequence = Sequence([_count_mapping(slope)])
    data.WindowCenter, data.WindowWidth = _decimal(stored.max() / 2), _decimal(max(stored.max(), 1))
    data.PixelData = np.ascontiguousarray(stored).astype("<u2").tobytes()


def _scaled(counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole numbers from 0 to 65535, and the factor that gives the counts back."""
    if counts.max() <= _NM_MAX and (counts.dtype.kind in "ui" or np.array_equal(counts, np.rint(counts))):
        return counts, 1.0
    slope = float(counts.max()) / _NM_MAX
    return np.rint(counts / slope).clip(0, _NM_MAX), slope


def _count_mapping(slope: float) -> Dataset:
    """Item of RealWorldValueMappingSequence (PS3.3 C.7.6.16.2.11)."""
    return item(
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=_NM_MAX,
        RealWorldValueIntercept=0.0,
        RealWorldValueSlope=slope,
        LUTExplanation="Counts",
        LUTLabel="COUNTS",
        MeasurementUnitsCodeSequence=Sequence([code("{counts}", "UCUM", "Counts")]),
    )


def _rotation(acquisition: Acquisition) -> Dataset:
    """Item of RotationInformationSequence: views over a full circle."""
    return item(
        StartAngle="180",
        AngularStep=_decimal(360 / acquisition.views),
        RotationDirection="CW",
        ScanArc="360",
        ActualFrameDuration=round(1000 * acquisition.view_seconds),
        NumberOfFramesInRotation=acquisition.views,
        RadialPosition=["250"] * acquisition.views,
    )


# --- SPECT as PT ---------------------------------------------------------------------------------------------------


def _write_pt(
    image: sitk.Image, folder: Path, who: Identity, role: str, habit: Habit, acquisition: Acquisition
) -> None:
    """One object a slice, numbered from head to feet; file names follow the UIDs, which say nothing about places."""
    values = to_array(image) * units_per_count(image, habit, acquisition)
    count = len(values)
    data = _new_object(who, role, habit, PositronEmissionTomographyImageStorage)
    _add_spect_series(data, who, acquisition)
    _add_pt_series(data, habit, acquisition, count)
    data.RadiopharmaceuticalInformationSequence = Sequence([_pt_pharmaceutical(who, role, acquisition)])
    _add_matrix(data, image, 16, signed=True)
    data.ImageOrientationPatient = _orientation(image)
    uids = [who.uid(role, "image", k) for k in range(count)]
    names = {uid: f"IM{n:05d}.dcm" for n, uid in enumerate(sorted(uids), start=1)}
    for k, uid in enumerate(uids):
        _place_slice(data, image, k)
        data.InstanceNumber = data.ImageIndex = count - k
        top = float(values[k].max())
        # The slope is taken as its text says it, so that what is stored belongs to what is read.
        data.RescaleSlope = f"{top / _PT_MAX:.9e}" if top > 0 else "1"
        stored = np.rint(values[k] / float(data.RescaleSlope)).clip(0, _PT_MAX)
        data.WindowCenter, data.WindowWidth = _decimal(top / 2), _decimal(top or 1.0)
        data.PixelData = stored.astype("<i2").tobytes()
        _save(data, folder / names[uid], uid)


def _add_pt_series(data: Dataset, habit: Habit, acquisition: Acquisition, slices: int) -> None:
    """PET Series and PET Image modules (PS3.3 C.8.9.1, C.8.9.4) without the slope."""
    data.Modality, data.ImageType = "PT", ["ORIGINAL", "PRIMARY"]
    data.SeriesType, data.Units, data.CountsSource = ["STATIC", "IMAGE"], habit.units, "EMISSION"
    data.NumberOfSlices = slices
    data.CorrectedImage, data.DecayCorrection = ["DECY", "ATTN", "SCAT"], "START"
    data.CollimatorType, data.ReconstructionMethod = "PARA", "OSEM"
    data.AttenuationCorrectionMethod, data.ScatterCorrectionMethod = "measured, CT", "dual energy window"
    data.EnergyWindowRangeSequence = Sequence([_energy_window()])
    data.ActualFrameDuration = round(1000 * acquisition.duration_s)
    data.DecayFactor = _decimal(round(acquisition.decay_factor, 6))
    # When the mean count rate occurs, ms after the start: t with exp(-ln 2 t / half-life) = 1 / decay factor.
    data.FrameReferenceTime = _decimal(round(1000 * TC99M_HALF_LIFE_S * np.log2(acquisition.decay_factor), 1))
    data.RescaleIntercept = "0"


def _pt_pharmaceutical(who: Identity, role: str, acquisition: Acquisition) -> Dataset:
    """Item of RadiopharmaceuticalInformationSequence (PET Isotope module, C.8.9.2): Bq, half-life, no positrons."""
    drug = _pharmaceutical(who, role, acquisition)
    drug.RadionuclideTotalDose = _decimal(round(acquisition.activity_mbq, 1) * 1e6)
    drug.RadionuclideHalfLife, drug.RadionuclidePositronFraction = _decimal(TC99M_HALF_LIFE_S), "0"
    given = who.spect_time + timedelta(minutes=acquisition.given_minutes)
    drug.RadiopharmaceuticalStartDateTime = given.strftime("%Y%m%d%H%M%S")
    return drug
