"""What a series is, and for which role of a case it may stand: decided by its header and by configurable patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ct2vq.config import TARGETS
from ct2vq.convert.facts import POSITRON_EMITTERS, attenuation_corrected
from ct2vq.discover.header import Facts
from ct2vq.discover.series import Series, numbers

#: SOP classes (PS3.6 annex A), by what they hold
CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
NM_CLASS = "1.2.840.10008.5.1.4.1.1.20"
PT_CLASS = "1.2.840.10008.5.1.4.1.1.128"
_PREFIXES = {
    "1.2.840.10008.5.1.4.1.1.7": "secondary_capture",
    "1.2.840.10008.5.1.4.1.1.481": "rt",
    "1.2.840.10008.5.1.4.1.1.88": "sr",
    "1.2.840.10008.5.1.4.1.1.11": "presentation_state",
    "1.2.840.10008.5.1.4.1.1.104": "document",
    "1.2.840.10008.5.1.4.1.1.66": "segmentation_or_raw",
}
#: third value of ImageType of NM objects (PS3.3 C.8.4.9.1.1)
_NM_KINDS = {
    "TOMO": "nm_projections",
    "STATIC": "nm_planar",
    "WHOLE BODY": "nm_planar",
    "DYNAMIC": "nm_dynamic",
    "GATED": "nm_gated",
    "GATED TOMO": "nm_gated",
    "RECON GATED TOMO": "nm_gated",
}
#: what the files are that are no DICOM objects
STATES = {
    "empty": "the file is empty",
    "hidden": "hidden file, not read",
    "unreadable": "the file cannot be read",
    "not_dicom": "not DICOM (no signature)",
    "no_header": "looks like DICOM without its file header: not read",
    "damaged": "damaged DICOM header",
    "dicomdir": "a directory of a DICOM medium",
}
#: values of ImageType that mark a view computed from a CT
_REFORMATTED = re.compile(
    r"\b(MPR|REFORMATTED|MIP|MINIP|MAX_IP|MIN_IP|PROJECTION IMAGE|AVERAGE|CPR|CURVED|VRT|SSD|SCREEN)\b"
)
#: fewer slices are no volume of a chest
_FEW_SLICES = 4


@dataclass(frozen=True)
class Finding:
    """What a series is.

    Attributes:
        series: the series.
        kind: `ct`, `localizer`, `ct_reformat`, `nm_recon`, `nm_planar`, `pt`, `rt`, ...
        roles: roles that it may have: `ct` (or `attenuation_ct`), `perfusion`, `ventilation`; both if undecided.
        reasons: why, without identities.
        low_dose: its description says that it is the camera's CT.
        corrected: whether a SPECT was corrected for attenuation, None if not stated.
    """

    series: Series
    kind: str
    roles: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    low_dose: bool = False
    corrected: bool | None = None

    @property
    def taken(self) -> datetime | None:
        """Date and time of the acquisition, None if not stated."""
        stated = self.series.facts.taken
        for form, length in (("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12), ("%Y%m%d", 8)):
            try:
                return datetime.strptime(stated[:length], form) if len(stated) >= length else None
            except ValueError:
                continue
        return None


def classify(series: Series, settings: Mapping[str, Any]) -> Finding:
    """What a series is and which roles it may have.

    Args:
        series: the series.
        settings: the config block `discover`.
    """
    kind, why = _kind(series)
    if kind == "ct":
        return _ct(series, settings, why)
    if kind in ("nm_recon", "pt"):
        return _spect(series, kind, settings, why)
    return Finding(series, kind, reasons=tuple([*why, *_remarks(series)]))


def _kind(series: Series) -> tuple[str, list[str]]:
    """The kind, and what stands against a use, if anything."""
    facts = series.facts
    types = facts.image_type.upper().split("\\")
    if facts.sop_class in CT_CLASSES:
        return _ct_kind(series, types)
    if facts.sop_class == NM_CLASS:
        return _nm_kind(facts, types)
    if facts.sop_class == PT_CLASS:
        refused = [kind for kind in ("DYNAMIC", "GATED", "REPROJECTION") if kind in facts.series_type.upper()]
        return ("pt_other", [f"a {refused[0].lower()} PT series"]) if refused else ("pt", [])
    for prefix, kind in _PREFIXES.items():
        if facts.sop_class == prefix or facts.sop_class.startswith(prefix + "."):
            return kind, []
    return "other", [] if facts.sop_class else ["no SOP class"]


def _ct_kind(series: Series, types: list[str]) -> tuple[str, list[str]]:
    if "LOCALIZER" in types:
        return "localizer", ["ImageType LOCALIZER"]
    if _REFORMATTED.search(" ".join(types[2:])):
        return "ct_reformat", ["ImageType of a reformatted view"]
    if series.is_axial is False:
        return "ct_reformat", ["slices do not lie across the patient"]
    return "ct", []


def _nm_kind(facts: Facts, types: list[str]) -> tuple[str, list[str]]:
    kind = types[2] if len(types) > 2 else ""
    if kind != "RECON TOMO":
        return _NM_KINDS.get(kind, "nm_other"), ["ImageType is not RECON TOMO"]
    if "TRANSMISSION" in types:
        return "nm_transmission", ["a transmission map"]
    if facts.vectors:
        return "nm_other", [f"several values of {facts.vectors.replace(chr(92), ', ')}"]
    return "nm_recon", []


# --- CT ------------------------------------------------------------------------------------------------------------


def _ct(series: Series, settings: Mapping[str, Any], why: list[str]) -> Finding:
    """A stack of axial CT images: a lung's CT if it is long enough and nothing says otherwise."""
    words, against = descriptions(series), list(why)
    extent = series.extent_mm
    if series.slices < _FEW_SLICES:
        against.append(f"{series.slices} slice(s)")
    elif extent is None:
        against.append("positions or orientation are missing")
    elif extent < settings["min_extent_mm"]:
        against.append(f"covers {extent:.0f} mm, a lung needs {settings['min_extent_mm']:g} mm")
    if _says(settings["patterns"]["excluded"], words):
        against.append("its description is on the list of excluded series")
    if _elsewhere(series, settings):
        against.append("another part of the body")
    low_dose = _says(settings["patterns"]["attenuation_ct"], words)
    reasons = [*against, *(["its description is that of an attenuation CT"] if low_dose else []), *_remarks(series)]
    kind = "attenuation_ct" if low_dose else "ct"
    return Finding(series, kind, () if against else ("ct",), tuple(reasons), low_dose)


def _elsewhere(series: Series, settings: Mapping[str, Any]) -> bool:
    """Whether the header names a part of the body that is not the chest, and no description says chest."""
    part, chest = series.facts.body_part, settings["patterns"]["chest"]
    return bool(part) and not _says(chest, part) and not _says(chest, descriptions(series))


def is_derived(series: Series) -> bool:
    """Whether the pixels were computed from other images (PS3.3 C.7.6.1.1.2)."""
    return series.facts.image_type.upper().startswith("DERIVED")


# --- SPECT ---------------------------------------------------------------------------------------------------------


def _spect(series: Series, kind: str, settings: Mapping[str, Any], why: list[str]) -> Finding:
    """A reconstructed emission volume: its tracer says which target it is, else its description."""
    facts, words = series.facts, descriptions(series)
    against = list(why)
    positrons = (numbers(facts.positrons, 1)[0] or 0) > 0
    if positrons or re.search(POSITRON_EMITTERS, facts.nuclide.lower()):
        return Finding(series, "pet", reasons=("a positron emitter: PET, not SPECT", *_remarks(series)))
    if series.slices < _FEW_SLICES:
        against.append(f"{series.slices} slice(s)")
    if _says(settings["patterns"]["excluded"], words):
        against.append("its description is on the list of excluded series")
    roles, because = _targets(facts.drug, words, settings["patterns"])
    corrected, doubt = _corrected(facts, words, settings["patterns"])
    reasons = [*against, *because, *doubt, *_remarks(series)]
    return Finding(series, kind, () if against else roles, tuple(reasons), corrected=corrected)


def _targets(drug: str, words: str, patterns: Mapping[str, str]) -> tuple[tuple[str, ...], list[str]]:
    """Targets that a SPECT may show: one, or both if radiopharmaceutical and description do not decide."""
    by_drug = [target for target in TARGETS if _says(patterns[target], drug)]
    by_words = [target for target in TARGETS if _says(patterns[target], words)]
    if len(by_drug) == 1:
        if len(by_words) == 1 and by_words != by_drug:
            return TARGETS, [f"radiopharmaceutical says {by_drug[0]}, description says {by_words[0]}"]
        return tuple(by_drug), [f"radiopharmaceutical of {by_drug[0]}"]
    if len(by_words) == 1:
        return tuple(by_words), [f"description of {by_words[0]}"]
    return TARGETS, ["neither radiopharmaceutical nor description decides between perfusion and ventilation"]


def _corrected(facts: Facts, words: str, patterns: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    """Whether attenuation was corrected for: by the header, else by the description; None if they disagree."""
    listed = [value for value in facts.corrected.upper().split("\\") if value]
    stated = attenuation_corrected(listed, facts.ac_method or None)
    said = False if _says(patterns["uncorrected"], words) else None
    if said is None and _says(patterns["corrected"], words):
        said = True
    if stated is not None and said is not None and stated != said:
        return None, ["header and description disagree on attenuation correction"]
    corrected = said if stated is None else stated
    names = {
        True: "attenuation corrected",
        False: "not attenuation corrected",
        None: "attenuation correction not stated",
    }
    return corrected, [names[corrected]]


# --- words ---------------------------------------------------------------------------------------------------------


def descriptions(series: Series) -> str:
    """What people called a series; the study's description is left out, as it speaks of all series at once."""
    facts = series.facts
    return " | ".join(filter(None, (facts.series_description, facts.protocol, facts.image_id)))


def _says(pattern: str, text: str) -> bool:
    return bool(pattern) and bool(re.search(pattern, text, flags=re.IGNORECASE))


def _remarks(series: Series) -> list[str]:
    """What a human should know before the series is used."""
    remarks = list(series.notes)
    if series.copies:
        remarks.append(f"{series.copies} file(s) are copies, counted once")
    cut_off = sum(bool(entry.facts.cut_off) for entry in series.entries)
    if cut_off:
        remarks.append(f"{cut_off} file(s) are shorter than their pixels")
    if not series.is_object and series.slices and series.slices < len(series.entries):
        remarks.append(f"{len(series.entries) - series.slices} image(s) lie where another one lies")
    if series.extent_mm and series.slice_mm and series.extent_mm > (series.slices + 0.5) * series.slice_mm:
        remarks.append("slices seem to be missing")
    if is_derived(series):
        remarks.append("derived image")
    if series.facts.burned_in.upper() == "YES":
        remarks.append("burned-in annotation")
    return remarks
