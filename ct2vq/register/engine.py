"""Runs ANTs: a chain of stages on one thread, seeded, as transforms of points that need no ANTs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.errors import RegistrationError
from ct2vq.fields import as_transform
from ct2vq.volume import to_array

if TYPE_CHECKING:
    import ants

logger = logging.getLogger(__name__)


def run_ants(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_mask: sitk.Image | None,
    moving_mask: sitk.Image | None,
    stages: Sequence[str],
    settings: Mapping[str, Any],
    seed: int,
    *,
    aligned: bool = False,
) -> tuple[sitk.Transform, sitk.Transform]:
    """Run a chain of ANTs stages on one thread, seeded.

    Args:
        fixed: what is compared, on the side whose points move.
        moving: what it is compared with.
        fixed_mask: where SyN compares it.
        moving_mask: the same on the other side.
        stages: names that `ants.registration` knows.
        settings: config block `register`; `linear_metric` beside it: `mattes` (default) or `meansquares`.
        seed: seed of the random sampling.
        aligned: the images lie on each other; else the centres (of the masks, else of intensity) are put there first.

    Returns:
        The transforms of points from fixed to moving and back.

    Raises:
        RegistrationError: D806, ANTs fails.
    """
    import ants

    # before the first image is made: later calls are ignored (seen with antspyx 0.6.3)
    ants.config.set_ants_deterministic(True, seed)
    a_fixed, a_moving = _to_ants(fixed), _to_ants(moving)
    masks = {"mask": _to_ants(fixed_mask) if fixed_mask else None}
    masks["moving_mask"] = _to_ants(moving_mask) if moving_mask else None
    with tempfile.TemporaryDirectory() as folder:
        shift = np.zeros(3) if aligned else _centre(moving_mask or moving) - _centre(fixed_mask or fixed)
        current: list[str] = [_translation(shift, Path(folder))]
        result: dict[str, Any] = {}
        for stage in stages:
            logger.info("%s", stage)
            try:
                result = ants.registration(
                    a_fixed,
                    a_moving,
                    type_of_transform=stage,
                    initial_transform=current,
                    outprefix=str(Path(folder) / f"{stage}_"),
                    **(_deformable(settings) | masks if stage == "SyNOnly" else _linear(settings)),
                )
            except Exception as error:
                hint = "look at the lung masks"
                raise RegistrationError("D806", f"ANTs' stage {stage} failed: {error}", hint=hint) from error
            current = result["fwdtransforms"]
        return _composite(result["fwdtransforms"]), _inverse_composite(result["invtransforms"])


def _linear(settings: Mapping[str, Any]) -> dict[str, Any]:
    levels = len(settings["linear_iterations"])
    return {
        "aff_metric": settings.get("linear_metric", "mattes"),
        "aff_sampling": 32,
        "aff_random_sampling_rate": 0.25,
        "aff_iterations": tuple(settings["linear_iterations"]),
        "aff_shrink_factors": tuple(2 ** (levels - 1 - level) for level in range(levels)),
        "aff_smoothing_sigmas": tuple(levels - 1 - level for level in range(levels)),
    }


def _deformable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "syn_metric": settings["metric"],
        "syn_sampling": settings["metric_radius"] if settings["metric"] == "CC" else 32,
        "reg_iterations": tuple(settings["deformable_iterations"]),
        "grad_step": settings["gradient_step"],
        "flow_sigma": settings["flow_sigma"],
        "total_sigma": settings["total_sigma"],
        "mask_all_stages": True,
    }


def _translation(shift: np.ndarray, folder: Path) -> str:
    """A translation in mm as a file for ANTs."""
    path = folder / "start.mat"
    transform = sitk.AffineTransform(3)
    transform.SetTranslation(shift.tolist())
    sitk.WriteTransform(transform, str(path))
    return str(path)


def _centre(image: sitk.Image) -> np.ndarray:
    """Centre of mass in mm (LPS)."""
    index = ndimage.center_of_mass(to_array(image) - float(to_array(image).min()))
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in reversed(index)]))


def _to_ants(image: sitk.Image) -> ants.ANTsImage:
    import ants

    return ants.from_numpy(
        to_array(image).astype(np.float32).transpose(2, 1, 0),
        origin=image.GetOrigin(),
        spacing=image.GetSpacing(),
        direction=np.reshape(image.GetDirection(), (3, 3)),
    )


def _composite(files: Sequence[str]) -> sitk.Transform:
    """ANTs' list of forward transforms as one transform of points, fixed to moving (the first file acts first)."""
    parts = [_read_part(path) for path in files]
    return sitk.CompositeTransform(list(reversed(parts)))


def _inverse_composite(files: Sequence[str]) -> sitk.Transform:
    """ANTs' list of inverse transforms, moving to fixed: matrices are stored forward and must be inverted."""
    parts = [_read_part(path) for path in files]
    parts = [part.GetInverse() if str(path).endswith(".mat") else part for path, part in zip(files, parts, strict=True)]
    return sitk.CompositeTransform(list(reversed(parts)))


def _read_part(path: str) -> sitk.Transform:
    if str(path).endswith(".mat"):
        return sitk.ReadTransform(str(path))
    return as_transform(sitk.ReadImage(str(path)))
