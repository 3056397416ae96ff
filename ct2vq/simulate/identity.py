"""Who a simulated patient is, and every place of a DICOM object in which a hospital leaves a person's traces.

The identifying attributes are those of the confidentiality profile, DICOM PS3.15 Table E.1-1, as far as they have a
place in an image (retired ones only where archives are full of them). Each invented text holds `TOKEN`, so that a
test of de-identification can search for it. Some attributes (military rank, visit, requester) belong to no module of
the image IODs: scanners add them all the same, as a Standard Extended SOP Class may (PS3.2 3.11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

#: stands in every invented text that identifies somebody or some place, and nowhere else
TOKEN = "INVENTED"
SOURCE_AE_TITLE = f"{TOKEN}_AE"
PRIVATE_CREATOR = f"CT2VQ {TOKEN} 1.0"
ROLES = ("ct", "attenuation_ct", "ventilation", "perfusion")
GIVEN_NAMES = {
    "F": ("Rosa", "Alma", "Ines", "Vera", "Nora", "Ida", "Lena", "Mira", "Olga", "Tess"),
    "M": ("Otto", "Hugo", "Emil", "Ivan", "Axel", "Noah", "Paul", "Leo", "Karl", "Finn"),
}
_SERIES = {
    "ct": (2, "Thorax breath-hold"),
    "attenuation_ct": (1, "Low dose CT for attenuation correction"),
    "ventilation": (11, "Ventilation SPECT OSEM AC"),
    "perfusion": (12, "Perfusion SPECT OSEM AC"),
}


def make_uid(*parts: object) -> str:
    """A UID under `2.25.` that depends on `parts` only: a name-based UUID as a decimal number (PS3.5 B.2)."""
    digest = bytearray(hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(bytes(digest), 'big')}"


def session_of(role: str) -> str:
    """`ct` or `spect`: each session has its own study, frame of reference, department and day."""
    return "ct" if role == "ct" else "spect"


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

    def start(self, role: str) -> datetime:
        """When the session that `role` belongs to started."""
        return self.ct_time if session_of(role) == "ct" else self.spect_time

    @property
    def name(self) -> str:
        """The patient's name as DICOM writes it."""
        return f"SIMULATED^{self.given_name} {TOKEN}"


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


def fill(data: Dataset, values: Mapping[str, object]) -> Dataset:
    """Set attributes by keyword."""
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def item(**values: object) -> Dataset:
    """A sequence's item."""
    return fill(Dataset(), values)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry (PS3.3 8.8)."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


# --- what is planted -----------------------------------------------------------------------------------------------


def planted_identities(who: Identity) -> frozenset[str]:
    """Every text, date and UID in the objects of a case that tells who the patient is, or who handled the images.

    Times of day are left out: six digits can stand anywhere.
    """
    found = {who.uid("frame of reference", session) for session in ("ct", "spect")} | {SOURCE_AE_TITLE}
    for role in ROLES:
        found |= {who.uid(role, "series"), who.uid("study", session_of(role))}
        found |= set(_traces(identifying(who, role)))
    return frozenset(found)


def _traces(data: Dataset) -> Iterator[str]:
    """Texts with the token, dates and moments in a data set and all that is nested in it."""
    for element in data.iterall():
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "SQ":
            continue
        for value in values:
            text = value.decode(errors="replace").strip("\0") if isinstance(value, bytes) else str(value)
            if TOKEN in text or element.VR in ("DA", "DT"):
                yield text


def identifying(who: Identity, role: str) -> Dataset:
    """All identifying attributes of an object of `role`, without its UIDs."""
    data = Dataset()
    for values in (
        _patient(who),
        _demographics(who),
        _visit(who),
        _study(who, role),
        _order(who, role),
        _series(who, role),
        _procedure_step(who, role),
        _equipment(role),
        _provenance(who, role),
    ):
        fill(data, values)
    _add_private(data, who)
    return data


def _person(name: str) -> Dataset:
    """Person Identification macro (PS3.3 10.1)."""
    return item(
        PersonIdentificationCodeSequence=Sequence([code(f"{TOKEN}-{name}"[:16], "99CT2VQ", f"{TOKEN} {name}")]),
        PersonAddress=f"3 {TOKEN} Road, Nowhere",
        PersonTelephoneNumbers=[f"{TOKEN} 555 0123"],
        InstitutionName=f"{TOKEN} Practice",
        InstitutionAddress=f"4 {TOKEN} Mews, Nowhere",
        InstitutionalDepartmentName=f"{TOKEN} Ward",
    )


def _issuer(namespace: str) -> Sequence:
    return Sequence([item(LocalNamespaceEntityID=f"{TOKEN} {namespace}")])


def _patient(who: Identity) -> dict[str, object]:
    """Patient and Patient Study modules."""
    hour = who.accession % 24
    return {
        "PatientName": who.name,
        "PatientID": f"SIM-{TOKEN}-{who.patient_id}",
        "IssuerOfPatientID": f"{TOKEN} Registry",
        "PatientBirthDate": who.birth_date,
        "PatientBirthTime": f"{hour:02d}{who.accession % 60:02d}00",
        "PatientSex": who.sex,
        "OtherPatientNames": [f"{TOKEN}^{who.given_name}^Maiden", f"{TOKEN}^Nick"],
        "OtherPatientIDsSequence": Sequence(
            [
                item(
                    PatientID=f"OLD-{TOKEN}-{who.patient_id}",
                    IssuerOfPatientID=f"{TOKEN} Archive",
                    TypeOfPatientID="TEXT",
                )
            ]
        ),
        "OtherPatientIDs": [f"OLDER-{TOKEN}-{who.patient_id}"],
        "ReferencedPatientSequence": Sequence(
            [item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.1.1", ReferencedSOPInstanceUID=who.uid("patient"))]
        ),
        "EthnicGroup": f"{TOKEN} folk",
        "PatientComments": f"Simulated person; no real patient. {TOKEN}^{who.given_name} wants to be called Nick.",
        "ResponsiblePerson": f"{TOKEN}^Guardian",
        "ResponsiblePersonRole": "GUARDIAN",
        "ResponsibleOrganization": f"{TOKEN} Guardians",
        "PatientIdentityRemoved": "NO",
        "PatientAge": f"{who.age:03d}Y",
        "PatientSize": who.height_m,
        "PatientWeight": who.weight_kg,
        "Occupation": f"{TOKEN} baker",
        "AdditionalPatientHistory": f"Treated before by Dr {TOKEN}",
        "MedicalAlerts": [f"{TOKEN} alert"],
        "Allergies": [f"{TOKEN} pollen"],
        "SmokingStatus": "UNKNOWN",
    }


def _demographics(who: Identity) -> dict[str, object]:
    """Patient Identification and Patient Demographic modules."""
    return {
        "PatientBirthName": f"{TOKEN}^{who.given_name}^Born",
        "PatientMotherBirthName": f"{TOKEN}^Mother",
        "MilitaryRank": f"{TOKEN} Captain",
        "BranchOfService": f"{TOKEN} Navy",
        "PatientAddress": f"1 {TOKEN} Lane, Nowhere",
        "PatientTelephoneNumbers": [f"{TOKEN} 555 01"],
        "PatientTelecomInformation": f"{who.given_name.lower()}@{TOKEN}.example",
        "CountryOfResidence": f"{TOKEN} Land",
        "RegionOfResidence": f"{TOKEN} Shire",
        "PatientReligiousPreference": f"{TOKEN} creed",
        "InsurancePlanIdentification": [f"{TOKEN}-PLAN-{who.accession}"],
        "MedicalRecordLocator": f"{TOKEN} shelf {who.accession % 1000}",
    }


def _visit(who: Identity) -> dict[str, object]:
    """Visit modules: copied into images by systems that take them over from the hospital's."""
    return {
        "AdmissionID": f"{TOKEN}-ADM-{who.accession}",
        "IssuerOfAdmissionIDSequence": _issuer("Admissions"),
        "AdmittingDate": who.ct_time.strftime("%Y%m%d"),
        "AdmittingDiagnosesDescription": [f"Dyspnoea, says Dr {TOKEN}"],
        "ServiceEpisodeID": f"{TOKEN}-EPISODE-{who.accession}",
        "ServiceEpisodeDescription": f"Stay of {TOKEN}",
        "CurrentPatientLocation": f"{TOKEN} bed 12",
        "PatientInstitutionResidence": f"{TOKEN} Home",
        "PatientState": f"{TOKEN} state",
        "SpecialNeeds": f"{TOKEN} wheelchair",
        "VisitComments": f"Brought by {TOKEN}^Neighbour",
    }


def _study(who: Identity, role: str) -> dict[str, object]:
    """General Study module."""
    session, start = session_of(role), who.start(role)
    number = who.accession + (session == "spect")
    exam = "Chest CT" if session == "ct" else "Lung perfusion and ventilation SPECT/CT"
    return {
        "StudyDate": start.strftime("%Y%m%d"),
        "StudyTime": start.strftime("%H%M%S"),
        "TimezoneOffsetFromUTC": "+0000",
        "StudyID": f"{TOKEN}-{session[0].upper()}{who.accession % 100000:05d}",
        "AccessionNumber": f"{TOKEN}{number}",
        "IssuerOfAccessionNumberSequence": _issuer("Orders"),
        "StudyDescription": f"{exam} for {TOKEN}^{who.given_name}",
        "ReferringPhysicianName": f"{TOKEN}^Referrer",
        "ReferringPhysicianAddress": f"5 {TOKEN} Street, Nowhere",
        "ReferringPhysicianTelephoneNumbers": [f"{TOKEN} 555 02"],
        "ReferringPhysicianIdentificationSequence": Sequence([_person("Referrer")]),
        "ConsultingPhysicianName": [f"{TOKEN}^Consultant"],
        "ConsultingPhysicianIdentificationSequence": Sequence([_person("Consultant")]),
        "PhysiciansOfRecord": [f"{TOKEN}^Record"],
        "PhysiciansOfRecordIdentificationSequence": Sequence([_person("Record")]),
        "NameOfPhysiciansReadingStudy": [f"{TOKEN}^Reader", f"{TOKEN}^Second"],
        "PhysiciansReadingStudyIdentificationSequence": Sequence([_person("Reader"), _person("Second")]),
    }


def _order(who: Identity, role: str) -> dict[str, object]:
    """Request Attributes (General Series module), and what worklists add to them at the top level."""
    request = item(
        RequestedProcedureID=f"{TOKEN} P{who.accession % 1000:03d}",
        AccessionNumber=f"{TOKEN}{who.accession + (role != 'ct')}",
        StudyInstanceUID=who.uid("study", session_of(role)),
        RequestedProcedureDescription=f"Chest, asked by {TOKEN}",
        ReasonForTheRequestedProcedure=f"Dyspnoea of {TOKEN}^{who.given_name}",
        ScheduledProcedureStepID=f"{TOKEN} S{who.accession % 1000:03d}",
        ScheduledProcedureStepDescription=f"Step for {TOKEN}",
    )
    return {
        "RequestAttributesSequence": Sequence([request]),
        "RequestingPhysician": f"{TOKEN}^Requester",
        "RequestingService": f"{TOKEN} Clinic",
        "RequestedProcedureDescription": f"Procedure for {TOKEN}",
        "RequestedProcedureComments": f"Call {TOKEN}^Requester with the result",
        "ImagingServiceRequestComments": f"Ordered by {TOKEN} by telephone",
        "OrderEnteredBy": f"{TOKEN}^Clerk",
        "OrderCallbackPhoneNumber": f"{TOKEN} 555 03",
        "NamesOfIntendedRecipientsOfResults": [f"{TOKEN}^Recipient"],
    }


def _series(who: Identity, role: str) -> dict[str, object]:
    """General Series and General Image modules."""
    number, description = _SERIES[role]
    return {
        "SeriesNumber": number,
        "SeriesDescription": f"{description} {TOKEN}^{who.given_name}",
        "ProtocolName": f"{'Chest' if role == 'ct' else 'VQ SPECT/CT'} of Dr {TOKEN}",
        "PerformingPhysicianName": [f"{TOKEN}^Physician"],
        "PerformingPhysicianIdentificationSequence": Sequence([_person("Physician")]),
        "OperatorsName": [f"{TOKEN}^Operator"],
        "OperatorIdentificationSequence": Sequence([_person("Operator")]),
        "ImageComments": f"{TOKEN}^{who.given_name} coughed",
    }


def _procedure_step(who: Identity, role: str) -> dict[str, object]:
    """Performed Procedure Step Summary macro (PS3.3 10.16)."""
    start, session = who.start(role), session_of(role)
    step = item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.3", ReferencedSOPInstanceUID=who.uid("procedure step", session)
    )
    return {
        "PerformedProcedureStepStartDate": start.strftime("%Y%m%d"),
        "PerformedProcedureStepStartTime": start.strftime("%H%M%S"),
        "PerformedProcedureStepID": f"{TOKEN} {session}",
        "PerformedProcedureStepDescription": f"Performed for {TOKEN}^{who.given_name}",
        "CommentsOnThePerformedProcedureStep": f"{TOKEN} arrived late",
        "PerformedStationName": f"{TOKEN} PS",
        "PerformedStationAETitle": f"{TOKEN}_PS",
        "PerformedLocation": f"{TOKEN} room 7",
        "ReferencedPerformedProcedureStepSequence": Sequence([step]),
    }


def _equipment(role: str) -> dict[str, object]:
    """General Equipment module, what in it points to a place or to one machine."""
    session = session_of(role)
    return {
        "InstitutionName": f"{TOKEN} General Hospital",
        "InstitutionAddress": f"2 {TOKEN} Square, Nowhere",
        "InstitutionalDepartmentName": f"{TOKEN} {'Radiology' if session == 'ct' else 'Nuclear Medicine'}",
        "StationName": f"{TOKEN} {session}1",
        "DeviceSerialNumber": f"{TOKEN}-000042",
        "DeviceUID": make_uid("ct2vq", "device", session),
        "GantryID": f"{TOKEN} gantry",
        "DateOfLastCalibration": ["20210104"],
        "TimeOfLastCalibration": ["063000"],
    }


def _provenance(who: Identity, role: str) -> dict[str, object]:
    """What a gateway leaves that once corrected the patient's name: nested identities (PS3.3 C.12.1)."""
    start = who.start(role).strftime("%Y%m%d%H%M%S")
    before = item(PatientName=f"{TOKEN}^Misspelt", PatientID=f"{TOKEN}-WRONG-{who.patient_id}")
    change = item(
        ModifiedAttributesSequence=Sequence([before]),
        AttributeModificationDateTime=start,
        ModifyingSystem=f"{TOKEN} gateway",
        SourceOfPreviousValues=f"{TOKEN} import",
        ReasonForTheAttributeModification="CORRECT",
    )
    machine = item(
        PurposeOfReferenceCodeSequence=Sequence([code("109102", "DCM", "Processing Equipment")]),
        Manufacturer="ct2vq",
        InstitutionName=f"{TOKEN} General Hospital",
        InstitutionAddress=f"2 {TOKEN} Square, Nowhere",
        StationName=f"{TOKEN} WS1",
        OperatorsName=[f"{TOKEN}^Processor"],
        DeviceSerialNumber=f"{TOKEN}-000043",
        ContributionDateTime=start,
        ContributionDescription=f"Reconstructed by {TOKEN}^Processor",
    )
    return {
        "InstanceCreationDate": start[:8],
        "InstanceCreationTime": start[8:],
        "InstanceCreatorUID": make_uid("ct2vq", "creator", session_of(role)),
        "OriginalAttributesSequence": Sequence([change]),
        "ContributingEquipmentSequence": Sequence([machine]),
    }


def _add_private(data: Dataset, who: Identity) -> None:
    """A vendor's private block with a name in clear, in bytes, and in an item with a private block of its own."""
    block = data.private_block(0x0021, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", f"{TOKEN}^{who.given_name} in private")
    block.add_new(0x02, "OB", _even(f"{TOKEN}^{who.given_name} in bytes"))
    nested = item(PatientName=f"{TOKEN}^{who.given_name}^Nested")
    inner = nested.private_block(0x0023, PRIVATE_CREATOR, create=True)
    inner.add_new(0x01, "PN", f"{TOKEN}^{who.given_name}^Deep")
    block.add_new(0x03, "SQ", Sequence([nested]))


def _even(text: str) -> bytes:
    """Bytes of even length, as values must have (PS3.5 7.1)."""
    raw = text.encode()
    return raw + b"\0" * (len(raw) % 2)
