"""Writers: a CT as an axial series (CT Image Storage), a SPECT as one multi-frame object (NM Image Storage).

Attributes follow DICOM PS3.3 A.3 (CT Image IOD) and A.5 (NM Image IOD). All identities are invented. Unique
identifiers are `2.25.` and a number hashed from seed, case and role (DICOM PS3.5 B.2): a case is always the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, NuclearMedicineImageStorage

from ct2vq.volume import to_array

GIVEN_NAMES = {
    "F": ("Rosa", "Alma", "Ines", "Vera", "Nora", "Ida", "Lena", "Mira", "Olga", "Tess"),
    "M": ("Otto", "Hugo", "Emil", "Ivan", "Axel", "Noah", "Paul", "Leo", "Karl", "Finn"),
}
#: half-life of 99mTc in seconds (6.0067 h, LNHB/DDEP evaluation)
TC99M_HALF_LIFE_S = 21624.1
_INTERCEPT = -1024


def make_uid(*parts: object) -> str:
    """A UID under `2.25.` that depends on `parts` only: a name-based UUID as a decimal number."""
    digest = bytearray(hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(bytes(digest), 'big')}"


@dataclass(frozen=True)
class Identity:
    """An invented patient, and the sessions in which CT and SPECT were taken."""

    seed: int
    case_id: str
    patient_id: str
    given_name: str
    sex: str
    age: int
    birth_date: str
    height_m: float
    weight_kg: float
    ct_time: datetime
    spect_time: datetime
    accession: int

    def uid(self, *role: object) -> str:
        """A UID for something of this case."""
        return make_uid("ct2vq", self.seed, self.case_id, *role)


def draw_identity(
    seed: int,
    case_id: str,
    patient_id: str,
    person: tuple[str, int, float, float],
    rng_patient: np.random.Generator,
    rng_case: np.random.Generator,
) -> Identity:
    """Invent who the patient is and when the images were taken.

    Args:
        seed: the study's seed.
        case_id: the case.
        patient_id: the patient.
        person: sex, age, height in cm, weight in kg.
        rng_patient: source for what stays with the patient.
        rng_case: source for what belongs to the case.
    """
    sex, age, height, weight = person
    name = str(rng_patient.choice(GIVEN_NAMES[sex]))
    year = 2021 - age
    birth = datetime(year, 1, 1) + timedelta(days=int(rng_patient.integers(0, 365)))
    day = datetime(2021, 1, 4) + timedelta(days=int(rng_case.integers(0, 700)))
    spect = day + timedelta(hours=8, minutes=int(rng_case.integers(0, 420)))
    ct = spect - timedelta(days=int(rng_case.integers(0, 4)), minutes=int(rng_case.integers(75, 200)))
    return Identity(
        seed=seed,
        case_id=case_id,
        patient_id=patient_id,
        given_name=name,
        sex=sex,
        age=int((ct - birth).days / 365.25),
        birth_date=birth.strftime("%Y%m%d"),
        height_m=round(height / 100, 3),
        weight_kg=weight,
        ct_time=ct,
        spect_time=spect,
        accession=int(rng_case.integers(10_000_000, 99_999_999)),
    )


def _file_dataset(path: Path, sop_class: str, sop_uid: str) -> FileDataset:
    """An empty object with its file meta information."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = make_uid("ct2vq", "implementation")
    meta.ImplementationVersionName = "CT2VQ_SIMULATE"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, sop_uid
    data.SpecificCharacterSet = "ISO_IR 192"
    return data


def _add_patient_and_study(data: Dataset, who: Identity, session: str) -> None:
    """Patient, General Study, Patient Study, Equipment and Frame of Reference modules.

    Args:
        data: the object.
        who: the patient.
        session: `ct` or `spect`: each has its own study and frame of reference.
    """
    time = who.ct_time if session == "ct" else who.spect_time
    data.PatientName = f"SIMULATED^{who.given_name}"
    data.PatientID = f"SIM-{who.patient_id}"
    data.PatientBirthDate, data.PatientSex = who.birth_date, who.sex
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = f"OLD-{who.patient_id}", "TEXT"
    data.OtherPatientIDsSequence = Sequence([other])
    data.PatientAddress = "1 Invented Lane, Nowhere"
    data.PatientComments = "Simulated person; no real patient"
    data.PatientAge = f"{who.age:03d}Y"
    data.PatientSize, data.PatientWeight = who.height_m, who.weight_kg
    data.StudyInstanceUID = who.uid("study", session)
    data.StudyDate, data.StudyTime = time.strftime("%Y%m%d"), time.strftime("%H%M%S")
    data.ReferringPhysicianName = "INVENTED^Referrer"
    data.StudyID = f"{'C' if session == 'ct' else 'N'}{who.accession % 100000}"
    data.AccessionNumber = str(who.accession + (0 if session == "ct" else 1))
    data.StudyDescription = "Chest CT" if session == "ct" else "Lung perfusion and ventilation SPECT/CT"
    data.Manufacturer = "ct2vq"
    data.ManufacturerModelName = "Simulated CT" if session == "ct" else "Simulated SPECT/CT"
    data.InstitutionName = "Simulated General Hospital"
    data.InstitutionAddress = "2 Invented Square, Nowhere"
    data.InstitutionalDepartmentName = "Radiology" if session == "ct" else "Nuclear Medicine"
    data.StationName = f"SIM{session.upper()}1"
    data.DeviceSerialNumber = "000042"
    data.SoftwareVersions = "simulate 1"
    data.OperatorsName = "INVENTED^Operator"
    data.PerformingPhysicianName = "INVENTED^Physician"
    data.FrameOfReferenceUID = who.uid("frame of reference", session)
    data.PositionReferenceIndicator = ""


def _add_times(data: Dataset, start: datetime) -> None:
    """Dates and times of series, acquisition and content."""
    for what in ("Series", "Acquisition", "Content"):
        setattr(data, f"{what}Date", start.strftime("%Y%m%d"))
        setattr(data, f"{what}Time", start.strftime("%H%M%S"))


def write_ct_series(image: sitk.Image, folder: Path, who: Identity, role: str, rng: np.random.Generator) -> None:
    """Write an axial CT (int16 HU) as one file a slice; file names are in random order.

    Args:
        image: HU, axes along x, y, z.
        folder: where to write.
        who: the patient.
        role: `ct` or `attenuation_ct`.
        rng: source of the order of the names.
    """
    folder.mkdir(parents=True)
    stored = (to_array(image).astype(np.int32) - _INTERCEPT).clip(0, 4095).astype(np.uint16)
    names = rng.permutation(len(stored)) + 1
    session = "ct" if role == "ct" else "spect"
    for k, pixels in enumerate(stored):
        path = folder / f"IM{names[k]:05d}.dcm"
        data = _file_dataset(path, CTImageStorage, who.uid(role, "image", k))
        _add_patient_and_study(data, who, session)
        _add_ct_series(data, who, role, k)
        x, y, z = image.TransformIndexToPhysicalPoint((0, 0, k))
        data.ImagePositionPatient = [f"{v:.4f}" for v in (x, y, z)]
        data.SliceLocation = f"{z:.4f}"
        _add_ct_pixels(data, pixels, image.GetSpacing())
        data.save_as(path, enforce_file_format=True)


def _add_ct_series(data: Dataset, who: Identity, role: str, k: int) -> None:
    """General Series, General Image and CT Image modules, without geometry and pixels."""
    diagnostic = role == "ct"
    data.Modality = "CT"
    data.SeriesInstanceUID = who.uid(role, "series")
    data.SeriesNumber = 2 if diagnostic else 1
    data.SeriesDescription = "Thorax breath-hold" if diagnostic else "Low dose CT for attenuation correction"
    data.ProtocolName = "Chest" if diagnostic else "VQ SPECT/CT"
    data.BodyPartExamined, data.PatientPosition = "CHEST", "HFS"
    _add_times(data, who.ct_time + timedelta(minutes=6) if diagnostic else who.spect_time + timedelta(minutes=3))
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.InstanceNumber, data.AcquisitionNumber = k + 1, 1
    data.PatientOrientation = ["L", "P"]
    data.KVP = "120"
    data.XRayTubeCurrent, data.ExposureTime = (180, 500) if diagnostic else (20, 800)
    data.Exposure = 90 if diagnostic else 16
    data.ConvolutionKernel = "SOFT" if diagnostic else "SMOOTH"
    data.GantryDetectorTilt, data.TableHeight = "0", "150"
    data.FilterType = "BODY"


def _add_ct_pixels(data: Dataset, pixels: np.ndarray, spacing: tuple[float, ...]) -> None:
    """Image Plane and Image Pixel modules, and the modality and VOI transformations."""
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.PixelSpacing = [f"{spacing[1]:g}", f"{spacing[0]:g}"]
    data.SliceThickness = f"{spacing[2]:g}"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = str(_INTERCEPT), "1", "HU"
    data.WindowCenter, data.WindowWidth = "-500", "1500"
    data.PixelData = pixels.astype("<u2").tobytes()


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


@dataclass(frozen=True)
class Tracer:
    """How a SPECT image came about: what was given, how much (MBq), by which way, when the camera started."""

    name: str
    code: tuple[str, str, str]
    route: str
    route_code: tuple[str, str, str]
    dose_mbq: float
    given_minutes: int
    start_minutes: int


#: by role: dose ranges of the EANM guideline for V/Q SPECT (Bajc et al. 2019): 25-30 MBq inhaled into the lungs,
#: 100-120 MBq MAA; ventilation comes first, both in one session
TRACERS = {
    "ventilation": Tracer(
        "99mTc-Technegas",
        ("99CT2VQ1", "99CT2VQ", "Technetium Tc^99m^ carbon aerosol"),
        "INHALATION",
        ("447694001", "SCT", "By inhalation"),
        28.0,
        0,
        10,
    ),
    "perfusion": Tracer(
        "99mTc-MAA",
        ("398991009", "SCT", "Albumin aggregated Technetium Tc^99m^"),
        "INTRAVENOUS",
        ("47625008", "SCT", "By intravenous route"),
        115.0,
        28,
        33,
    ),
}


def write_nm(image: sitk.Image, path: Path, who: Identity, role: str, *, descending: bool, dose_factor: float) -> None:
    """Write a SPECT (uint16 counts) as one multi-frame NM object.

    Position and orientation stand in DetectorInformationSequence; frame k lies at
    `ImagePositionPatient + k SpacingBetweenSlices n` with n the normal of the image plane.

    Args:
        image: counts, axes along x, y, z.
        path: the file.
        who: the patient.
        role: `perfusion` or `ventilation`.
        descending: store the frames from head to feet, with a negative SpacingBetweenSlices.
        dose_factor: given activity relative to the usual one.
    """
    path.parent.mkdir(parents=True)
    tracer, counts = TRACERS[role], to_array(image)
    if descending:
        counts = counts[::-1]
    data = _file_dataset(path, NuclearMedicineImageStorage, who.uid(role, "image"))
    _add_patient_and_study(data, who, "spect")
    start = who.spect_time + timedelta(minutes=tracer.start_minutes)
    _add_times(data, start)
    _add_nm_series(data, who, role, tracer)
    _add_nm_pixels(data, counts, image.GetSpacing(), descending)
    data.RadiopharmaceuticalInformationSequence = Sequence([_pharmaceutical(tracer, who, dose_factor)])
    data.EnergyWindowInformationSequence = Sequence([_energy_window()])
    z = 0 if not descending else image.GetSize()[2] - 1
    detector = Dataset()
    detector.CollimatorType, detector.CollimatorGridName = "PARA", "LEHR"
    detector.ImagePositionPatient = [f"{v:.4f}" for v in image.TransformIndexToPhysicalPoint((0, 0, z))]
    detector.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.DetectorInformationSequence = Sequence([detector])
    data.RotationInformationSequence = Sequence([_rotation(10 if role == "perfusion" else 15)])
    data.save_as(path, enforce_file_format=True)


def _add_nm_series(data: Dataset, who: Identity, role: str, tracer: Tracer) -> None:
    """General Series, Patient Orientation, General Image and NM Image modules."""
    data.Modality = "NM"
    data.SeriesInstanceUID = who.uid(role, "series")
    data.SeriesNumber = 11 if role == "ventilation" else 12
    data.SeriesDescription = f"{role.capitalize()} {tracer.name} SPECT OSEM AC"
    data.ProtocolName, data.BodyPartExamined = "VQ SPECT/CT", "CHEST"
    orientation = _code("102538003", "SCT", "recumbent")
    orientation.PatientOrientationModifierCodeSequence = Sequence([_code("40199007", "SCT", "supine")])
    data.PatientOrientationCodeSequence = Sequence([orientation])
    data.PatientGantryRelationshipCodeSequence = Sequence([_code("102540008", "SCT", "headfirst")])
    data.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    data.ImageID = f"{role[:4].upper()} RECON"
    data.InstanceNumber, data.AcquisitionNumber = 1, 1
    data.PatientOrientation = ["L", "P"]
    data.CorrectedImage = ["ATTN", "SCAT", "DECY", "UNIF", "COR"]
    data.LossyImageCompression = "00"
    data.TypeOfDetectorMotion = "STEP AND SHOOT"


def _add_nm_pixels(data: Dataset, counts: np.ndarray, spacing: tuple[float, ...], descending: bool) -> None:
    """Image Pixel, Multi-frame, NM Multi-frame and NM Reconstruction modules."""
    frames = len(counts)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns, data.NumberOfFrames = counts.shape[1], counts.shape[2], frames
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelSpacing = [f"{spacing[1]:g}", f"{spacing[0]:g}"]
    data.SliceThickness = f"{spacing[2]:g}"
    data.SpacingBetweenSlices = f"{-spacing[2] if descending else spacing[2]:g}"
    data.FrameIncrementPointer = [0x00540080]
    data.NumberOfSlices, data.SliceVector = frames, list(range(1, frames + 1))
    data.NumberOfEnergyWindows = data.NumberOfDetectors = 1
    data.NumberOfRotations = 1
    data.CountsAccumulated = int(counts.astype(np.int64).sum())
    data.WindowCenter, data.WindowWidth = f"{counts.max() / 2:.1f}", f"{max(counts.max(), 1):.1f}"
    data.PixelData = np.ascontiguousarray(counts).astype("<u2").tobytes()


def _pharmaceutical(tracer: Tracer, who: Identity, dose_factor: float) -> Dataset:
    """Item of RadiopharmaceuticalInformationSequence."""
    item = Dataset()
    item.Radiopharmaceutical, item.RadiopharmaceuticalRoute = tracer.name, tracer.route
    item.RadionuclideCodeSequence = Sequence([_code("72454001", "SCT", "^99m^Technetium")])
    item.RadiopharmaceuticalCodeSequence = Sequence([_code(*tracer.code)])
    item.AdministrationRouteCodeSequence = Sequence([_code(*tracer.route_code)])
    given = who.spect_time + timedelta(minutes=tracer.given_minutes)
    item.RadiopharmaceuticalStartTime = given.strftime("%H%M%S")
    item.RadionuclideTotalDose = f"{tracer.dose_mbq * dose_factor:.1f}"
    return item


def _energy_window() -> Dataset:
    """Item of EnergyWindowInformationSequence: 140 keV +- 10 %."""
    window = Dataset()
    window.EnergyWindowLowerLimit, window.EnergyWindowUpperLimit = "126", "154"
    item = Dataset()
    item.EnergyWindowName = "Tc99m"
    item.EnergyWindowRangeSequence = Sequence([window])
    return item


def _rotation(seconds: int) -> Dataset:
    """Item of RotationInformationSequence: 120 views over a full circle."""
    item = Dataset()
    item.StartAngle, item.AngularStep, item.RotationDirection, item.ScanArc = "180", "3", "CW", "360"
    item.ActualFrameDuration, item.NumberOfFramesInRotation = seconds * 1000, 120
    item.RadialPosition = ["250"] * 120
    return item
