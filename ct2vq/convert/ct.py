"""CT: one series of single-frame images, or one enhanced multi-frame object, becomes a volume in HU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ct2vq.convert.converted import Converted
from ct2vq.convert.enhanced import read_enhanced
from ct2vq.convert.series import (
    drop_copies,
    inventory,
    list_objects,
    read_series,
    require_one_series,
    require_one_volume,
)
from ct2vq.dicom.attributes import number, text, texts
from ct2vq.dicom.files import Collection, Instance
from ct2vq.dicom.pixels import padding, rescale, stored_values
from ct2vq.errors import DicomError

#: HU of air outside the field of view, and the lowest value of the scale that scanners write (12 bits from -1024)
AIR_HU = -1024.0
#: multi-frame CT (PS3.3 A.38 and A.70)
ENHANCED_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: why a localizer is left out
LOCALIZER = "CT localizer"
#: images before the first slice that are counted with a series, and may have been put elsewhere
MOST_LOCALIZERS = 2
#: padding values from here to `DENSEST_HU` stand for tissue: taken for a wrong header, because they would erase it
PADDING_LIMIT_HU = -900.0
#: above this lies no tissue: 12 bits from -1024 HU, which end at 3071 HU, hold cortical bone and enamel
DENSEST_HU = 3100.0
#: largest plausible share of voxels above it. Scanners with an extended scale write metal up to 30,000 HU, but two hip
#: prostheses (0.4 l) are 0.5 % of a field of view of 500 x 500 x 300 mm; its corners, filled, are 21 %.
MOST_METAL = 0.02


def read_only_ct(found: Collection, settings: dict) -> Converted:
    """The only CT of a folder, whether single-frame or enhanced.

    Raises:
        DicomError: none, several, or one that cannot be trusted.
    """
    instances = ct_instances(found)
    enhanced = [instance for instance in instances if instance.sop_class in ENHANCED_CT]
    if not enhanced:
        converted = read_series(instances, settings, ct_slice, AIR_HU)
        converted.notes += _end_notes(instances, found)
        return converted
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
            found.ignored.append((instance.path, LOCALIZER))
        else:
            slices.append(instance)
    if slices:
        require_one_series(slices, found.root)
        if not any(instance.sop_class in ENHANCED_CT for instance in slices):
            require_one_volume(slices, found.root)
        return slices
    raise DicomError(
        "D201", f"no CT slices found; {inventory(found)}", path=found.root, hint="a CT Image series is expected"
    )


def _end_notes(instances: Sequence[Instance], found: Collection) -> list[str]:
    """A warning if slices may be missing at an end, where positions show no gap.

    Only original images are judged: a reformatted series states the number of images that it was made from.
    """
    localizers = [reason for _, reason in found.ignored].count(LOCALIZER)
    try:
        numbers = [number(one.dataset, "InstanceNumber", one.path) for one in instances]
        announced = {number(one.dataset, "ImagesInAcquisition", one.path) for one in instances}
        acquisitions = {number(one.dataset, "AcquisitionNumber", one.path) for one in instances}
        derived = any("DERIVED" in (text(one.dataset, "ImageType", one.path) or "").upper() for one in instances)
    except DicomError:  # facts that no voxel depends on
        return []
    known = [value for value in numbers if value is not None]
    count, total = len(instances), max((value for value in announced if value is not None), default=0.0)
    if derived or len(announced) > 1 or len(acquisitions) > 1 or len(set(known)) < count or count + localizers >= total:
        return []
    low, high = min(known), max(known)
    whole = high - low + 1 == count
    if whole and high >= total and low - 1 <= MOST_LOCALIZERS:
        return []
    return [f"W202 {count} slices of an acquisition of {total:g} images: slices may be missing at an end"]


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
    low, high = sorted(bound * scale[0] + scale[1] for bound in bounds)
    if high > PADDING_LIMIT_HU and low <= DENSEST_HU:
        span = f"{PADDING_LIMIT_HU:g} to {DENSEST_HU:g} HU"
        notes.append(f"W401 padding value ignored: it stands for something within {span}, which is no air")
        return values
    values[(stored >= bounds[0]) & (stored <= bounds[1])] = AIR_HU
    return values


def finish_ct(converted: Converted, settings: dict, folder: Path) -> None:
    """Cut the scale at air, check that it can be HU."""
    facts = _hu_facts(converted.image)
    if not np.isfinite([facts.lowest, facts.highest]).all():
        raise DicomError("D408", "values that are not finite", path=folder, key="RescaleSlope")
    if facts.low:
        # Below -1024 HU lie only noise in air and fill values (-2000, -3024) whose header does not call them padding.
        converted.notes.append(f"W402 {facts.low:.2%} of the voxels lay below {AIR_HU:g} HU and were set to it")
        converted.image = sitk.Clamp(converted.image, sitk.sitkFloat32, AIR_HU, max(AIR_HU, facts.highest))
    converted.facts |= {
        "units": "HU", "air_fraction": round(facts.air, 4), "tissue_fraction": round(facts.tissue, 4)
    }  # fmt: skip
    if min(facts.air, facts.tissue) < float(settings["hu_min_fraction"]) or facts.metal > MOST_METAL:
        problem = (
            f"the values cannot be HU of a patient: {facts.air:.2%} lie below -800 (air), {facts.tissue:.2%} between "
            f"-200 and 200 (tissue) and {facts.metal:.2%} above {DENSEST_HU:g} (metal), "
            f"range {max(AIR_HU, facts.lowest):g} to {facts.highest:g}"
        )
        if settings["hu_plausibility"]:
            hint = "is the rescale right, and what is outside the field of view? convert: hu_plausibility: false if so"
            raise DicomError("D408", problem, path=folder, key="RescaleIntercept", hint=hint)
        converted.notes.append(f"W403 {problem}")


class _HuFacts(NamedTuple):
    """Fractions of voxels below -1024, below -800, within -200 to 200 and above `DENSEST_HU`, and the range in HU."""

    low: float
    air: float
    tissue: float
    metal: float
    lowest: float
    highest: float


def _hu_facts(image: sitk.Image) -> _HuFacts:
    """Slice by slice, to save memory. The view on the image's memory ends here: `Clamp` reuses that memory."""
    array = sitk.GetArrayViewFromImage(image)
    counts = np.zeros(4)
    for plane in array:
        tissue = (plane > -200) & (plane < 200)
        counts += [part.sum() for part in (plane < AIR_HU, plane < -800, tissue, plane > DENSEST_HU)]
    low, air, tissue, metal = (counts / array.size).tolist()
    return _HuFacts(low, air, tissue, metal, float(array.min()), float(array.max()))
