"""What `convert` knows of a study's identities, and what it leaves in the private folder for the way back."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from ct2vq.dicom.attributes import text
from ct2vq.dicom.files import Collection, Instance, Source
from ct2vq.errors import DicomError
from ct2vq.identity.audit import write_audit
from ct2vq.identity.headers import Survey, behind_pixels, survey
from ct2vq.identity.job import Job
from ct2vq.identity.redact import Redactor
from ct2vq.identity.store import Store, single_use_store, write_private

#: attributes that a pseudonym must not repeat
_IDS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate")
_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
#: a shorter piece of a name may stand in a pseudonym by chance
SHORTEST_PART = 4


@dataclass(frozen=True)
class Guard:
    """Keeps identities inside `convert`.

    Attributes:
        store: the study's private folder.
        redactor: cleans whatever is said or written.
        patient_id: the cohort table's name of the patient; None: that of the header stands for it.
        audit: where to write what was found and done, if anywhere.
        relink: where in the private folder to write the way back, if anywhere.
    """

    store: Store
    redactor: Redactor
    patient_id: str | None = None
    audit: Path | None = None
    relink: Path | None = None

    def inspect(self, found: Collection, case_id: str) -> Survey:
        """Look at every header of a volume: learn what must not be said, and refuse what would tell the patient.

        Raises:
            DicomError: text burned into the pixels (D601), or a case or patient id that names the patient (D602).
        """
        headers = survey(instance.dataset for instance in found.instances)
        headers.add(behind_pixels(found.instances[0].path))  # only of the first: it means reading a whole file again
        self.redactor.learn_texts(headers.texts)
        for instance in found.instances:
            _require_no_burned_in_text(instance)
        self._require_pseudonyms(headers, found.root, case_id)
        return headers

    def leave_traces(self, found: Collection, headers: Survey, case_id: str, volume: str) -> None:
        """Write the audit table, and the way back into the private folder."""
        if self.audit is not None:
            write_audit(headers, self.audit)
        if self.relink is not None:
            content = self._way_back(found, case_id, volume)
            self.store.make_folder()
            write_private(self.relink, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def shifted(self, moment: datetime, instance: Instance) -> str | None:
        """A moment moved by the patient's days, ISO 8601; differences between moments of a patient stay exact.

        None if the calendar has no such day: some write the date 00010101 where they know none.
        """
        try:
            return (moment + timedelta(days=self.store.date_shift_days(self._patient(instance)))).isoformat()
        except OverflowError:
            return None

    def header_patient(self, instance: Instance) -> str | None:
        """A keyed name of the header's patient id: tells whether two cases are one patient. None if it has no id."""
        patient = text(instance.dataset, "PatientID", instance.path)
        return None if patient is None else self.store.pseudonym("patient", patient, 16)

    def _patient(self, instance: Instance) -> str:
        return self.patient_id or text(instance.dataset, "PatientID", instance.path) or ""

    def _require_pseudonyms(self, headers: Survey, root: Path, case_id: str) -> None:
        """Ids of the cohort table against those of the headers, nested ones too, unless an anonymiser wrote these."""
        if {value for _, keyword, value in headers.texts if keyword == "PatientIdentityRemoved"} == {"YES"}:
            return
        for _, keyword, value in sorted(headers.texts):
            if keyword not in (*_IDS, *_NAMES):
                continue
            parts = {value, *re.split(r"[\^= ]", value)}
            for column, name in (("case_id", case_id), ("patient_id", self.patient_id or "")):
                if any(_tells(name, part) for part in parts):
                    problem = f"the {column} repeats the headers' {keyword}"
                    raise DicomError("D602", problem, path=root, key=column, hint="choose a pseudonym")

    def _way_back(self, found: Collection, case_id: str, volume: str) -> dict[str, object]:
        objects = [_original(instance) for instance in found.instances]
        uids = {uid for one in objects for uid in one.values() if uid}
        first = found.instances[0]
        return {
            "case_id": case_id,
            "volume": volume,
            "patient_id": text(first.dataset, "PatientID", first.path),
            "date_shift_days": self.store.date_shift_days(self._patient(first)),
            "root": str(found.root.absolute()),
            "objects": objects,
            "hashes": {self.store.pseudonym("uid", uid, 16): uid for uid in uids},
            "remapped": {uid: self.store.uid(uid) for uid in uids},
        }


def job_guard(job: Job, audit: Path) -> Guard:
    """The guard of a workflow's job.

    Args:
        job: the volume that is read.
        audit: where to write what was found and done.
    """
    store = job.redactor.store
    relink = store.folder / "relink" / f"{job.case_id}_{job.volume}.json"
    return Guard(store, job.redactor, job.raw.patient_id, audit, relink)


def job_source(job: Job) -> Path | Source:
    """What the readers of DICOM are given."""
    return job.raw.root if job.raw.files is None else Source(job.raw.root, job.raw.files)


def single_use_guard() -> Guard:
    """A guard without a study: its secret ends with the process, and it leaves nothing behind."""
    return Guard(_process_store(), Redactor(_process_store()))


@cache
def _process_store() -> Store:
    return single_use_store(Path(tempfile.gettempdir()))


def _tells(name: str, value: str) -> bool:
    """Whether a pseudonym is, or contains, what it should hide; signs and case do not count."""
    name, value = ("".join(c for c in one.casefold() if c.isalnum()) for one in (name, value))
    return bool(value) and (name == value or (len(value) >= SHORTEST_PART and value in name))


def _require_no_burned_in_text(instance: Instance) -> None:
    if (text(instance.dataset, "BurnedInAnnotation", instance.path) or "").upper() == "YES":
        problem = "text is burned into the pixels: it may name the patient"
        raise DicomError("D601", problem, path=instance.path, key="BurnedInAnnotation", hint="export without text")


def _original(instance: Instance) -> dict[str, str | None]:
    names = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "frame_of_reference": "FrameOfReferenceUID"}
    names |= {"sop_class": "SOPClassUID", "sop_instance": "SOPInstanceUID"}
    return {name: text(instance.dataset, keyword, instance.path) for name, keyword in names.items()}
