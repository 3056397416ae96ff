"""CT: one series of single-frame images, or one enhanced multi-frame object, becomes a volume in HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ct2vq.convert.converted import Converted
from ct2vq.convert.enhanced import read_enhanced
from ct2vq.convert.series import drop_copies, inventory, list_objects, read_series, require_one_series
from ct2vq.dicom.attributes import text, texts
from ct2vq.dicom.files import Collection, Instance
from ct2vq.dicom.pixels import padding, rescale, stored_values
from ct2vq.errors import DicomError

#: HU of air outside the field of view, and the lowest value of the scale that scanners write (12 bits from -1024)
AIR_HU = -1024.0
#: multi-frame CT (PS3.3 A.38 and A.70)
ENHANCED_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: a padding value above this is no air: taken for a wrong header, because it would erase real tissue
PADDING_LIMIT_HU = -900.0


def read_only_ct(found: Collection, settings: dict) -> Converted:
    """The only CT of a folder, whether single-frame or enhanced.

    Raises:
        DicomError: none, several, or one that cannot be trusted.
    """
    instances = ct_instances(found)
    enhanced = [instance for instance in instances if instance.sop_class in ENHANCED_CT]
    if not enhanced:
        return read_series(instances, settings, ct_slice, AIR_HU)
    if len(instances) > 1:
        raise DicomError(
            "D204",
            f"{len(instances)} CT objects, {len(enhanced)} of them multi-frame, where one is expected: "
            f"{list_objects(instances)}",
            path=found.root,
            hint="name one multi-frame object, or the folder of one single-frame series",
        )
    return read_enhanced(enhanced[0], settings, hounsfield, AIR_HU)


def ct_instances(found: Collection) -> list[Instance]:
    """The images of the folder's only CT series, localizers and exact copies set aside."""
    instances = drop_copies(found, found.keep([CTImageStorage, *ENHANCED_CT]))
    slices = []
    for instance in instances:
        if "LOCALIZER" in (kind.upper() for kind in texts(instance.dataset, "ImageType", instance.path)):
            found.ignored.append((instance.path, "CT localizer"))
        else:
            slices.append(instance)
    if slices:
        require_one_series(slices, found.root)
        return slices
    raise DicomError(
        "D201", f"no CT slices found; {inventory(found)}", path=found.root, hint="a CT Image series is expected"
    )


def ct_slice(instance: Instance, data: Dataset, notes: list[str]) -> np.ndarray:
    """One single-frame slice `(y, x)` in HU, padding as air."""
    return hounsfield(stored_values(data, instance.path), data, data, instance.path, notes)


def hounsfield(stored: np.ndarray, data: Dataset, scale_in: Dataset, path: Path, notes: list[str]) -> np.ndarray:
    """One slice's stored values `(y, x)` in HU, padding as air.

    Args:
        stored: as decoded.
        data: the object, which tells the padding.
        scale_in: the item that tells slope and intercept: the object, or a frame's functional group.
        path: the file, for messages.
        notes: takes warnings.

    Raises:
        DicomError: there is no rescale, or it does not lead to HU.
    """
    scale = rescale(scale_in, path)
    if scale is None:
        raise DicomError(
            "D406", "no rescale to HU", path=path, key="RescaleSlope", hint="a CT without it has unknown units"
        )
    kind = text(scale_in, "RescaleType", path)
    if kind not in (None, "HU", "US"):
        raise DicomError("D407", f"values in {kind}, HU expected", path=path, key="RescaleType")
    with np.errstate(over="ignore"):  # what is not finite is refused in the end
        values = (stored * scale[0] + scale[1]).astype(np.float32)
    bounds = padding(data, path)
    if bounds is None:
        return values
    if max(bound * scale[0] + scale[1] for bound in bounds) > PADDING_LIMIT_HU:
        notes.append(f"W401 padding value ignored: it stands for more than {PADDING_LIMIT_HU:g} HU, which is no air")
        return values
    values[(stored >= bounds[0]) & (stored <= bounds[1])] = AIR_HU
    return values


def finish_ct(converted: Converted, settings: dict, folder: Path) -> None:
    """Cut the scale at air, check that it can be HU."""
    array = sitk.GetArrayViewFromImage(converted.image)
    low, air, tissue = _hu_fractions(array)
    if low:
        # Below -1024 HU lie only noise in air and fill values (-2000, -3024) whose header does not call them padding.
        converted.notes.append(f"W402 {low:.2%} of the voxels lay below {AIR_HU:g} HU and were set to it")
        converted.image = sitk.Clamp(converted.image, sitk.sitkFloat32, AIR_HU, float(array.max()))
    converted.facts |= {"units": "HU", "air_fraction": round(air, 4), "tissue_fraction": round(tissue, 4)}
    if not np.isfinite([array.min(), array.max()]).all():
        raise DicomError("D408", "values that are not finite", path=folder, key="RescaleSlope")
    if min(air, tissue) < float(settings["hu_min_fraction"]):
        problem = (
            f"the values cannot be HU of a patient: {air:.2%} lie below -800 (air) and {tissue:.2%} between -200 and "
            f"200 (tissue), range {float(array.min()):g} to {float(array.max()):g}"
        )
        if settings["hu_plausibility"]:
            hint = "is the rescale right? set convert: hu_plausibility: false if so"
            raise DicomError("D408", problem, path=folder, key="RescaleIntercept", hint=hint)
        converted.notes.append(f"W403 {problem}")


def _hu_fractions(array: np.ndarray) -> tuple[float, float, float]:
    """Fractions of voxels below -1024, below -800, and between -200 and 200 HU; slice by slice, to save memory."""
    counts = np.zeros(3)
    for plane in array:
        counts += [(plane < AIR_HU).sum(), (plane < -800).sum(), ((plane > -200) & (plane < 200)).sum()]
    low, air, tissue = (counts / array.size).tolist()
    return low, air, tissue
