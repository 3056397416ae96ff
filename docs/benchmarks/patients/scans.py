"""Where the scans come from: finished studies, the DICOM of a simulated one, and real CTs with a made attenuation CT.

A *scan* is a folder with the images of one side of a pair: of a patient's CT (`ct`, `ct_lungs`), or of his camera
(`attenuation_ct`, `attenuation_ct_lungs`, SPECT images). Its name begins with its world and patient (`demo/sim001`);
what follows a comma says which of several scans of the patient it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from registration.cases import (
    AIR_HU,
    IMAGES,
    antialiased,
    coarser,
    converted,
    drawn_deformation,
    inverted,
    pull_image,
    read_lung1,
)

from ct2vq.config import TARGETS
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, write_text
from ct2vq.segment import segment_lungs
from ct2vq.volume import from_array, resample, to_array, write_volume

DEMO, STUDY, TINY, REAL = "demo", "study", "tiny", "real"
#: voxel of LUNG1-001 as the registration gets it; the other real CTs stay as they are
LUNG1_MM = 2.8
#: voxels (x, y, z) of the attenuation CTs made of each real CT, mm
CAMERA_MM: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "LUNG1-001": ((4.1, 4.1, 5.0), (4.1, 4.1, 10.0)),
    "CIP": ((4.172, 4.172, 5.0),),
    "CIP-TestInput": ((5.28, 5.28, 6.99),),
}
CIP_FILES = {"CIP": "ct-64.nrrd", "CIP-TestInput": "TestInput.nrrd"}
NOISES_HU = (30.0, 60.0)
SEED = 3
DONE = "done"


@dataclass(frozen=True)
class Scan:
    """A patient's CT and what his camera took, as files.

    Attributes:
        name: world, patient, and after a comma which scan it is.
        files: NIfTI files by the registration's names.
    """

    name: str
    files: Mapping[str, Path]

    @property
    def patient(self) -> str:
        """World and patient."""
        return self.name.split(",")[0]


def finished_cases(world: str, root: Path, *, spect: bool) -> list[Scan]:
    """The converted and segmented cases of a finished study.

    Raises:
        Ct2vqError: there are none.
    """
    found = []
    for folder in sorted((root / "results" / "segment").glob("*")):
        images = root / "results" / "convert" / folder.name
        files = {name: images / f"{name}.nii.gz" for name in (*IMAGES, *(TARGETS if spect else ()))}
        files |= {f"{name}_lungs": folder / f"{name}_lungs.nii.gz" for name in IMAGES}
        if all(path.is_file() for path in files.values()):
            found.append(Scan(f"{world}/{folder.name}", files))
    if len(found) < 2:
        hint = "give the directory of a run that has come as far as the stage `segment`"
        raise Ct2vqError(
            "fewer than two cases with CT and attenuation CT, converted and segmented", path=root, hint=hint
        )
    return found


def full_inspiration(root: Path) -> dict[str, bool]:
    """Whether each finished simulated case has its CT in full inspiration.

    Raises:
        Ct2vqError: there is none.
    """
    folder = root / "results" / "simulate"
    manifests = sorted(folder.glob("*/manifest.json"))
    if not manifests:
        raise Ct2vqError("no finished simulated case", path=folder, hint="`ct2vq run --until simulate` makes them")
    moved = {path.parent.name: read_json(path.parent / "truth" / "truth.json")["motion"] for path in manifests}
    return {case: bool(motion["full_inspiration"]) for case, motion in moved.items()}


def study_scan(case: str, folder: Path) -> Scan:
    """The scan that `make_study_case` keeps in a folder."""
    return Scan(f"{STUDY}/{case}", {name: folder / f"{name}.nii.gz" for name in (*IMAGES, *_lungs(IMAGES))})


def _lungs(names: tuple[str, ...]) -> Iterator[str]:
    return (f"{name}_lungs" for name in names)


def make_study_case(root: Path, case: str, config: Mapping[str, Any], folder: Path) -> None:
    """Convert and segment both CTs of a simulated case, unless they lie there."""
    if not (folder / DONE).is_file():
        _keep(converted(root / "results" / "simulate" / case / "dicom", case, config), folder)


def _keep(images: Mapping[str, sitk.Image], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        write_volume(image, folder / f"{name}.nii.gz")
    write_text("", folder / DONE)


# --- real CTs -------------------------------------------------------------------------------------------------------


def real_scans(patient: str, folder: Path) -> list[Scan]:
    """The CT of a real patient with each attenuation CT that `make_real_patient` keeps in a folder."""
    ct = {name: folder / f"{name}.nii.gz" for name in ("ct", "ct_lungs")}
    scans = []
    for voxel, noise in _cameras(patient):
        camera = folder / _camera_name(voxel, noise)
        files = {name: camera / f"{name}.nii.gz" for name in ("attenuation_ct", "attenuation_ct_lungs")}
        scans.append(Scan(f"{REAL}/{patient}, {_camera_name(voxel, noise)}", ct | files))
    return scans


def _cameras(patient: str) -> Iterator[tuple[tuple[float, float, float], float]]:
    return ((voxel, noise) for voxel in CAMERA_MM[patient] for noise in NOISES_HU)


def _camera_name(voxel: tuple[float, float, float], noise: float) -> str:
    return f"{voxel[2]:.0f} mm {noise:.0f} HU"


def make_real_patient(real: Path, patient: str, settings: Mapping[str, Any], folder: Path) -> None:
    """A real CT, its lungs, and what a camera's CT of the same patient might show, unless they lie there.

    Args:
        real: folder of real images.
        patient: a key of `CAMERA_MM`.
        settings: config block `segment`.
        folder: where the images are kept.

    Raises:
        Ct2vqError: the CT is not there.
    """
    if (folder / DONE).is_file():
        return
    ct = _real_ct(real, patient)
    lungs, _ = segment_lungs(ct, dict(settings))
    for voxel, noise in _cameras(patient):
        camera = as_camera(ct, lungs, voxel, noise)
        found, _ = segment_lungs(camera, dict(settings))
        _keep({"attenuation_ct": camera, "attenuation_ct_lungs": found}, folder / _camera_name(voxel, noise))
    _keep({"ct": ct, "ct_lungs": lungs}, folder)


def _real_ct(real: Path, patient: str) -> sitk.Image:
    if patient not in CIP_FILES:
        full = read_lung1(real)
        return resample(antialiased(full, LUNG1_MM), coarser(full, LUNG1_MM), outside=AIR_HU)
    path = real / "cip_chest_ct64" / CIP_FILES[patient]
    if not path.is_file():
        raise Ct2vqError("no real CT", path=path, hint="give the folder of real images with --real")
    return sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")


def as_camera(ct: sitk.Image, lungs: sitk.Image, voxel: tuple[float, float, float], noise_hu: float) -> sitk.Image:
    """A CT as a camera might take it of the same patient: deformed, in larger voxels, with noise.

    The deformation is `registration.cases.drawn_deformation`, the same for every camera of a patient.

    Args:
        ct: HU.
        lungs: its labels, which the deformation is drawn for.
        voxel: (x, y, z) in mm.
        noise_hu: standard deviation of white noise.
    """
    rng = np.random.default_rng(SEED)
    back = sitk.DisplacementFieldTransform(pull_image(inverted(drawn_deformation(lungs, rng), ct), ct))
    moved = resample(antialiased(ct, voxel), coarser(ct, voxel), back, outside=AIR_HU)
    values = to_array(moved)
    return from_array((values + rng.normal(0, noise_hu, values.shape)).astype(np.float32), moved)
