"""What stops a registration before it starts, and what its result must be for anybody to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import SimpleITK as sitk

from ct2vq.config import TARGETS
from ct2vq.errors import RegistrationError
from ct2vq.lungs import SIDES
from ct2vq.volume import to_array, voxel_volume_ml

SIDE_WORDS = dict(zip(SIDES, ("right", "left"), strict=True))
#: a side with less than this share of both lungs is none: a shrunken lung keeps more, a spill of the mask less
SMALLEST_SIDE = 0.02


def require_content(images: Mapping[str, sitk.Image]) -> None:
    """Stop at images that cannot be registered.

    Args:
        images: `ct_lungs`, perhaps `attenuation_ct_lungs`, SPECT images.

    Raises:
        RegistrationError: D801 empty lungs, D802 one lung in one CT and two in the other, D804 a SPECT without counts.
    """
    volumes = {name: _side_volumes(images[name]) for name in ("ct_lungs", "attenuation_ct_lungs") if name in images}
    for name, sides in volumes.items():
        if not sum(sides.values()):
            where = _ct_of(name)
            hint = f"look at the segmentation of the {where}, or give a mask of your own for it (docs/segmentation.md)"
            raise RegistrationError("D801", f"the lung mask of the {where} is empty", hint=hint)
    _require_same_sides(volumes)
    for name in TARGETS:
        if name in images:
            _require_counts(images[name], name)


def _ct_of(name: str) -> str:
    return "attenuation CT" if name.startswith("attenuation") else "CT"


def _side_volumes(lungs: sitk.Image) -> dict[int, float]:
    """Volume of each side in mL."""
    counts = np.bincount(to_array(lungs).ravel().astype(np.uint8), minlength=max(SIDES) + 1)
    return {side: int(counts[side]) * voxel_volume_ml(lungs) for side in SIDES}


def _require_same_sides(volumes: Mapping[str, Mapping[int, float]]) -> None:
    if len(volumes) < 2:
        return
    present = {
        name: {side for side in SIDES if sides[side] > SMALLEST_SIDE * sum(sides.values())}
        for name, sides in volumes.items()
    }
    if len(set(map(frozenset, present.values()))) == 1:
        return
    seen = "; ".join(
        f"the {_ct_of(name)} shows {', '.join(f'{SIDE_WORDS[side]} {ml:.0f} mL' for side, ml in sides.items())}"
        for name, sides in volumes.items()
    )
    raise RegistrationError(
        "D802",
        f"the two CTs do not show the same lungs: {seen}",
        hint="look at both lung masks; after the loss of a lung both show one",
    )


def _require_counts(spect: sitk.Image, name: str) -> None:
    values = to_array(spect)
    if not np.isfinite(values).all():
        raise RegistrationError("D804", f"the {name} SPECT has voxels that are no numbers", hint="convert it again")
    if values.max() <= 0:
        largest = f"its largest voxel is {float(values.max()):g}"
        raise RegistrationError("D804", f"the {name} SPECT holds no counts: {largest}", hint="look at the volume")


def require_finite(fields: Sequence[sitk.Image]) -> None:
    """Stop at a displacement field with values that are no numbers.

    Raises:
        RegistrationError: D807.
    """
    for field in fields:
        bad = int((~np.isfinite(to_array(field)).all(axis=-1)).sum())
        if bad:
            raise RegistrationError(
                "D807",
                f"the registration did not converge: {bad} of {field.GetNumberOfPixels()} displacements are no numbers",
                hint="look at the lung masks; try register.transform: affine for this study",
            )
