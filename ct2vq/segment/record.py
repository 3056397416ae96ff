"""What a reader should know about a case's lungs, and which lungs are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import SegmentationError
from ct2vq.lungs import LEFT, LOBES, RIGHT, THIRDS
from ct2vq.volume import voxel_volume_ml

NAMES = {RIGHT: "right", LEFT: "left"}
#: a face of the image that the lungs reach with more than this cuts them, cm2
CUT_CM2 = 1.0


def lungs_record(
    ct: sitk.Image, labels: sitk.Image, settings: Mapping[str, Any], method: str, warnings: list[str]
) -> dict[str, Any]:
    """Volumes, mean HU, and everything that a reader should know about the lungs.

    Args:
        ct: the CT.
        labels: lung labels on its grid (1 right, 2 left).
        settings: config block `segment`.
        method: what found them.
        warnings: what was said on the way.

    Raises:
        SegmentationError: together they are too small (D702), or one is missing (D703).
    """
    hu, array = sitk.GetArrayViewFromImage(ct), sitk.GetArrayViewFromImage(labels)
    volume = volumes_ml(labels, NAMES)
    mean = {name: round(float(hu[array == label].mean()), 1) if volume[name] else None for label, name in NAMES.items()}
    cut = border_notes(ct, array)
    _require_two_lungs(volume, settings, cut)
    return {
        "method": method,
        "labels": {str(label): f"{name} lung" for label, name in NAMES.items()},
        "volume_ml": volume,
        "mean_hu": mean,
        "warnings": [*warnings, *cut, *_small_lungs(volume, settings)],
    }


def volumes_ml(labels: sitk.Image, names: Mapping[int, str]) -> dict[str, float]:
    """Volume in mL of each label, by name."""
    counts = np.bincount(sitk.GetArrayViewFromImage(labels).ravel(), minlength=max(names) + 1)
    return {name: round(float(counts[label]) * voxel_volume_ml(labels), 1) for label, name in names.items()}


def regions_record(regions: sitk.Image, lobes: sitk.Image | None, source: str) -> dict[str, Any]:
    """Volumes of thirds and lobes, and where the lobes come from (or why there are none)."""
    record: dict[str, Any] = {"thirds_ml": volumes_ml(regions, THIRDS), "lobes_source": source}
    return record | ({} if lobes is None else {"lobes_ml": volumes_ml(lobes, LOBES)})


def _require_two_lungs(volume: Mapping[str, float], settings: Mapping[str, Any], cut: list[str]) -> None:
    seen = ", ".join(f"{name} {value:.0f} mL" for name, value in volume.items()) + "".join(f"; {note}" for note in cut)
    least = float(settings["min_lung_ml"])
    if sum(volume.values()) < least:
        raise SegmentationError(
            "D702",
            f"no plausible lungs: {seen}, at least {least:g} mL together expected",
            key="segment: min_lung_ml",
        )
    smallest = min(_needed(settings), key=lambda name: volume[name], default=None)
    if smallest and volume[smallest] < float(settings["min_one_lung_ml"]):
        raise SegmentationError(
            "D703",
            f"the {smallest} lung is missing: {seen}",
            key="lungs",
            hint="look at the CT: for a patient with one lung fill in the cohort column `lungs` (or set "
            "`segment.allow_one_lung`), else give a mask of your own for this CT in the cohort table",
        )


def _needed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The lungs that must be there: what the cohort table tells of the patient goes before the study's setting."""
    told = settings.get("lungs") or ("any" if settings["allow_one_lung"] else "both")
    return {"any": (), "both": tuple(NAMES.values())}.get(told, (told,))


def _small_lungs(volume: Mapping[str, float], settings: Mapping[str, Any]) -> list[str]:
    return [
        f"W701 the {name} lung has only {value:.0f} mL (collapsed, removed, or missed)"
        for name, value in volume.items()
        if value < float(settings["min_lung_ml"])
    ]


def border_notes(ct: sitk.Image, array: np.ndarray) -> list[str]:
    """Which faces of the image the lungs reach with more than `CUT_CM2`: there the field of view cuts them."""
    spacing = np.array(ct.GetSpacing()[::-1])
    axes = np.reshape(ct.GetDirection(), (3, 3)).T[::-1]
    names = (("right", "left"), ("front", "back"), ("feet", "head"))
    notes = []
    for axis in range(3):
        cm2 = float(np.prod(np.delete(spacing, axis))) / 100.0
        patient = int(np.abs(axes[axis]).argmax())
        for end, index in ((0, 0), (1, -1)):
            area = float((np.take(array, index, axis=axis) > 0).sum()) * cm2
            if area > CUT_CM2:
                positive = (axes[axis][patient] > 0) == (end == 1)
                side = names[patient][int(positive)]
                notes.append(
                    f"W702 the lungs touch the image's border on the {side} side ({area:.0f} cm2): "
                    "truncated field of view"
                )
    return notes
