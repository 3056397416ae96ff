"""Stage `convert`: raw DICOM to NIfTI in patient space, checked and de-identified.

A CT series becomes one float32 volume in HU, a SPECT (one reconstructed NM object, or a PT series) one float32 volume
in the units it was stored with. Beside each lies a sidecar with what later stages need, and nothing that identifies
the patient: no names, dates, ids, file names or raw UIDs. What cannot be trusted is a `DicomError`, never a guess.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage

from ct2vq.convert.converted import Converted
from ct2vq.convert.ct import finish_ct, read_only_ct
from ct2vq.convert.facts import ct_acquisition, spect_acquisition
from ct2vq.convert.limits import require_limits
from ct2vq.convert.nm import check_counts, only_reconstruction, read_nm
from ct2vq.convert.pt import read_pt
from ct2vq.convert.series import drop_copies, inventory, list_objects
from ct2vq.convert.sidecar import write
from ct2vq.dicom.files import Collection, Source, collect
from ct2vq.errors import DicomError
from ct2vq.identity.guard import Guard, single_use_guard


def convert_ct(
    source: Path | Source,
    volume: Path,
    sidecar: Path,
    settings: dict,
    case_id: str,
    guard: Guard | None = None,
    role: str = "ct",
) -> None:
    """Convert one CT series to NIfTI.

    Args:
        source: DICOM folder, searched with everything below it, or the files themselves.
        volume: `*.nii.gz` to write, float32, HU, slices ordered along their normal (a proper rotation).
        sidecar: `*.json` to write.
        settings: config block `convert`.
        case_id: the study's own name of the case.
        guard: keeps identities in; without a study one whose secret ends with the process.
        role: `ct`, or a camera's own CT (`attenuation_ct`, or of one target), for which the study sets no limits.

    Raises:
        DicomError: the source does not hold exactly one complete, regular CT series, or it breaks a limit.
    """
    converted, found = read_ct(source, settings)
    require_limits(converted, role, settings["limits"])
    write(converted, found, volume, sidecar, case_id, "ct", guard or single_use_guard())


def convert_spect(
    source: Path | Source,
    volume: Path,
    sidecar: Path,
    settings: dict,
    case_id: str,
    target: str,
    guard: Guard | None = None,
) -> None:
    """Convert one SPECT volume (NM reconstruction, or single-frame PT series) to NIfTI.

    Args:
        source: DICOM file, folder, searched with everything below it, or the files themselves.
        volume: `*.nii.gz` to write, float32, in the stored units, a proper rotation (slices reversed if needed).
        sidecar: `*.json` to write.
        settings: config block `convert`.
        case_id: the study's own name of the case.
        target: `perfusion` or `ventilation`.
        guard: keeps identities in; without a study one whose secret ends with the process.

    Raises:
        DicomError: there is not exactly one reconstructed volume, or its geometry cannot be trusted.
    """
    converted, found = read_spect(source, settings)
    require_limits(converted, target, settings["limits"])
    write(converted, found, volume, sidecar, case_id, target, guard or single_use_guard())


def read_ct(source: Path | Source, settings: dict) -> tuple[Converted, Collection]:
    """One CT series as a volume, and what lay beside it.

    Raises:
        DicomError: as `convert_ct`.
    """
    found = collect(source)
    converted = read_only_ct(found, settings)
    converted.notes += [f"W101 {line}" for line in found.ignored_summary()]
    finish_ct(converted, settings, found.root)
    converted.facts["acquisition"] = ct_acquisition(converted, found.instances)
    return converted, found


def read_spect(source: Path | Source, settings: dict) -> tuple[Converted, Collection]:
    """One SPECT volume, and what lay beside it.

    Raises:
        DicomError: as `convert_spect`.
    """
    found = collect(source)
    kept = found.keep([NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage])
    instances = only_reconstruction(found, drop_copies(found, kept))
    if not instances:
        problem = f"no SPECT found; {inventory(found)}"
        raise DicomError("D203", problem, path=found.root, hint="one NM object or PT series expected")
    nm = [i for i in instances if i.sop_class == NuclearMedicineImageStorage]
    if nm and len(instances) > 1:
        raise DicomError(
            "D204",
            f"{len(instances)} NM/PT objects where one volume is expected: {list_objects(instances)}",
            path=found.root,
            hint="name the file of the reconstruction in the cohort table",
        )
    converted = read_nm(nm[0]) if nm else read_pt(instances, settings)
    converted.notes += [f"W101 {line}" for line in found.ignored_summary()]
    check_counts(converted, found.root)
    converted.facts["acquisition"] = spect_acquisition(converted)
    return converted, found
