"""CT: one series of single-frame images becomes a volume in HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from ct2vq.convert.converted import Converted
from ct2vq.convert.series import inventory, require_one_series
from ct2vq.dicom.attributes import text, texts
from ct2vq.dicom.files import Collection, Instance
from ct2vq.dicom.pixels import padding, rescale, stored_values
from ct2vq.errors import DicomError

#: HU of air outside the field of view, and the lowest value of the scale that scanners write (12 bits from -1024)
AIR_HU = -1024.0
#: a padding value above this is no air: taken for a wrong header, because it would erase real tissue
PADDING_LIMIT_HU = -900.0


def ct_instances(found: Collection) -> list[Instance]:
    """The slices of the folder's only CT series, localizers set aside."""
    instances = found.keep([CTImageStorage])
    slices = []
    for instance in instances:
        if "LOCALIZER" in (kind.upper() for kind in texts(instance.dataset, "ImageType", instance.path)):
            found.ignored.append((instance.path, "CT localizer"))
        else:
            slices.append(instance)
    if slices:
        require_one_series(slices, found.root)
        return slices
    if any(instance.sop_class == EnhancedCTImageStorage for instance in found.instances):
        raise DicomError(
            "D209",
            "enhanced multi-frame CT is not supported",
            path=found.root,
            hint="export or convert it to single-frame CT Image Storage, for example with dcm4che's emf2sf",
        )
    raise DicomError(
        "D201", f"no CT slices found; {inventory(found)}", path=found.root, hint="a CT Image series is expected"
    )


def ct_slice(instance: Instance, data: Dataset, notes: list[str]) -> np.ndarray:
    """One slice `(y, x)` in HU, padding as air."""
    path = instance.path
    scale = rescale(data, path)
    if scale is None:
        raise DicomError(
            "D406", "no rescale to HU", path=path, key="RescaleSlope", hint="a CT without it has unknown units"
        )
    kind = text(data, "RescaleType", path)
    if kind not in (None, "HU", "US"):
        raise DicomError("D407", f"values in {kind}, HU expected", path=path, key="RescaleType")
    stored = stored_values(data, path)
    values = (stored * scale[0] + scale[1]).astype(np.float32)
    bounds = padding(data, path)
    if bounds is None:
        return values
    if max(bound * scale[0] + scale[1] for bound in bounds) > PADDING_LIMIT_HU:
        notes.append(f"padding value ignored: it stands for more than {PADDING_LIMIT_HU:g} HU, which is no air")
        return values
    values[(stored >= bounds[0]) & (stored <= bounds[1])] = AIR_HU
    return values


def finish_ct(converted: Converted, settings: dict, folder: Path) -> None:
    """Cut the scale at air, check that it can be HU."""
    array = sitk.GetArrayViewFromImage(converted.image)
    low, air, tissue = _hu_fractions(array)
    if low:
        # Below -1024 HU lie only noise in air and fill values (-2000, -3024) whose header does not call them padding.
        converted.notes.append(f"{low:.2%} of the voxels lay below {AIR_HU:g} HU and were set to it")
        converted.image = sitk.Clamp(converted.image, sitk.sitkFloat32, AIR_HU, float(array.max()))
    converted.facts |= {"units": "HU", "air_fraction": round(air, 4), "tissue_fraction": round(tissue, 4)}
    if min(air, tissue) < float(settings["hu_min_fraction"]):
        problem = (
            f"the values cannot be HU of a patient: {air:.2%} lie below -800 (air) and {tissue:.2%} between -200 and "
            f"200 (tissue), range {float(array.min()):g} to {float(array.max()):g}"
        )
        if settings["hu_plausibility"]:
            hint = "is the rescale right? set convert: hu_plausibility: false if so"
            raise DicomError("D408", problem, path=folder, key="RescaleIntercept", hint=hint)
        converted.notes.append(problem)


def _hu_fractions(array: np.ndarray) -> tuple[float, float, float]:
    """Fractions of voxels below -1024, below -800, and between -200 and 200 HU; slice by slice, to save memory."""
    counts = np.zeros(3)
    for plane in array:
        counts += [(plane < AIR_HU).sum(), (plane < -800).sum(), ((plane > -200) & (plane < 200)).sum()]
    low, air, tissue = (counts / array.size).tolist()
    return low, air, tissue
