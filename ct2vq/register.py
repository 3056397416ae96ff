"""Stage `register`: where in the SPECT each point of the CT lies.

With the camera's own CT: rigid, affine and SyN (Avants et al., Med Image Anal 2008;12:26, in ANTs) from the CT to the
attenuation CT round the lungs; the SPECT, which shares the attenuation CT's frame of reference, is carried along.
Deforming on SPECT intensities instead could close a real perfusion defect, so without such a CT the registration is
rigid, on the SPECT against the blurred lungs, and the record says what that leaves undone.

Images lie as scanned to each other only in one frame of reference (DICOM PS3.3 C.7.4.1). Two SPECT images are added up
only in one; a SPECT that does not share its attenuation CT's is carried along nevertheless, and flagged.

Transforms are stored as displacement fields on a coarse grid over the CT: vectors in mm (LPS),
`p_spect = p_ct + d(p_ct)`. Any later stage applies them with SimpleITK in one interpolation, without ANTs.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.config import TARGETS
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, write_json
from ct2vq.lungs import dice, grid_around, resample_labels, resample_smoothed
from ct2vq.volume import from_array, make_grid, read_volume, require_same_grid, resample, to_array, write_volume

if TYPE_CHECKING:
    import ants

logger = logging.getLogger(__name__)

#: lung, water and soft tissue guide the registration; bone and metal beyond this would dominate a squared difference
HU_RANGE = (-1000.0, 200.0)
AIR_HU = -1000.0
#: resolution of the SPECT that the lung mask is blurred to when there is no attenuation CT
SPECT_FWHM_MM = 12.0
FWHM_PER_SIGMA = 2.3548


def register_case(
    volumes: Mapping[str, Path],
    sidecars: Mapping[str, Path],
    ct_to_spect: Path,
    spect_to_ct: Path,
    qc: Path,
    settings: Mapping[str, Any],
    seed: int,
) -> None:
    """Register one case and write both displacement fields and the quality record.

    Args:
        volumes: NIfTI files `ct`, `ct_lungs` and either `attenuation_ct` with `attenuation_ct_lungs`, or at least
            one of `perfusion`, `ventilation`: the first is registered, another helps if it shares its frame.
        sidecars: JSON files of `convert`: of `attenuation_ct`, if there is one, and of the SPECT images.
        ct_to_spect: displacement field to write, on a grid over the CT.
        spect_to_ct: the inverse, on a grid over the SPECT side.
        qc: JSON record to write.
        settings: config block `register`.
        seed: seed of ANTs' random sampling.

    Raises:
        GeometryError: a lung mask does not share its CT's grid.
        Ct2vqError: ANTs fails.
    """
    frames = Frames.of(sidecars)
    images = {name: read_volume(path) for name, path in volumes.items() if name not in frames.strangers}
    require_same_grid(images["ct"], images["ct_lungs"], "ct", "ct_lungs")
    if "attenuation_ct" in images:
        require_same_grid(images["attenuation_ct"], images["attenuation_ct_lungs"], "attenuation_ct", "its lungs")
        forward, inverse = _register_through_ct(images, settings, seed)
        moving = images["attenuation_ct"]
    else:
        forward, inverse = _register_spect_rigidly(images, settings, seed)
        moving = next(image for name, image in images.items() if name in TARGETS)
    fields = (
        _displacements(forward, _coarse_grid(images["ct"], settings["field_spacing_mm"])),
        _displacements(inverse, _coarse_grid(moving, settings["field_spacing_mm"])),
    )
    record = _quality(images, *fields, settings)
    record |= {"frame_of_reference": frames.relations, "flags": record["flags"] + frames.flags()}
    for flag in record["flags"]:
        logger.warning("%s", flag)
    for field, path in zip(fields, (ct_to_spect, spect_to_ct), strict=True):
        write_volume(sitk.Cast(field, sitk.sitkVectorFloat32), path, "displacement in mm, LPS")
    write_json(record, qc)


@dataclass(frozen=True)
class Frames:
    """Whether SPECT images share the frame of reference of what is registered.

    Attributes:
        of_what: `attenuation_ct`, or the SPECT that is registered without one.
        relations: `shared`, `different` or `unknown` of each SPECT; unknown where a header names no frame.
    """

    of_what: str
    relations: Mapping[str, str]

    @classmethod
    def of(cls, sidecars: Mapping[str, Path]) -> Frames:
        """By the sidecars' keyed hashes of FrameOfReferenceUID, against the attenuation CT's, else the first one's."""
        frames = {name: read_json(path)["frame_of_reference"] for name, path in sidecars.items()}
        of_what = "attenuation_ct" if "attenuation_ct" in frames else next(iter(frames))
        others = [name for name in frames if name != of_what]
        return cls(of_what, {name: _relation(frames[name], frames[of_what]) for name in others})

    @property
    def strangers(self) -> list[str]:
        """SPECT images that must not be added to the one that is registered."""
        if self.of_what == "attenuation_ct":
            return []
        return [name for name, relation in self.relations.items() if relation != "shared"]

    def flags(self) -> list[str]:
        """What was assumed, or left out, for want of a common frame of reference."""
        flags = []
        for name, relation in self.relations.items():
            if relation == "shared":
                continue
            other = "another" if relation == "different" else "perhaps another"
            if self.of_what == "attenuation_ct":
                consequence = "its attenuation CT: that both lie as they were scanned is only assumed"
            else:
                consequence = f"{self.of_what}: it does not help the registration"
            flags.append(f"{name} has {other} frame of reference than {consequence}")
        return flags


def _relation(one: str | None, other: str | None) -> str:
    if one is None or other is None:
        return "unknown"
    return "shared" if one == other else "different"


def read_transform(path: Path) -> sitk.Transform:
    """A stored displacement field as a transform of points in mm (LPS)."""
    return as_transform(read_volume(path))


def as_transform(field: sitk.Image) -> sitk.Transform:
    """A transform from a displacement field in mm (LPS)."""
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def warp_spect(spect: Path, ct: Path, ct_to_spect: Path, output: Path) -> None:
    """Carry a SPECT onto the CT's grid in one interpolation (concentrations: no Jacobian factor)."""
    warped = resample(read_volume(spect), read_volume(ct), read_transform(ct_to_spect))
    write_volume(warped, output)


def _register_through_ct(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """CT to attenuation CT: lungs' centres, then rigid, affine and SyN round the lungs."""
    fixed, fixed_mask = _prepared(images["ct"], images["ct_lungs"], settings)
    moving, moving_mask = _prepared(images["attenuation_ct"], images["attenuation_ct_lungs"], settings)
    stages = {"rigid": ["Rigid"], "affine": ["Rigid", "Affine"], "deformable": ["Rigid", "Affine", "SyNOnly"]}
    return _run_ants(fixed, moving, fixed_mask, moving_mask, stages[settings["transform"]], settings, seed)


def _register_spect_rigidly(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """Rigid, on the sum of the SPECT images (each scaled by its own mean) against the lungs blurred to SPECT.

    The sum is on the grid of the first.
    """
    grid = grid_around(images["ct_lungs"], settings["spacing_mm"], 2 * settings["margin_mm"])
    mask = to_array(resample_smoothed(images["ct_lungs"] > 0, grid, outside=0))
    sigma = SPECT_FWHM_MM / FWHM_PER_SIGMA / settings["spacing_mm"]
    fixed = from_array(ndimage.gaussian_filter(mask, sigma), grid)
    spects = [sitk.Cast(images[name], sitk.sitkFloat32) for name in images if name in TARGETS]
    reference = spects[0]
    total = sum(to_array(resample(spect, reference)) / max(float(to_array(spect).mean()), 1e-9) for spect in spects)
    moving = from_array(np.minimum(total, np.percentile(total, 99.5)).astype(np.float32), reference)
    return _run_ants(fixed, moving, None, None, ["Rigid"], settings, seed)


def _prepared(ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any]) -> tuple[sitk.Image, sitk.Image]:
    """The region round the lungs at the registration's resolution, HU limited, and the dilated lungs as its mask."""
    grid = grid_around(lungs, settings["spacing_mm"], settings["margin_mm"])
    region = np.clip(to_array(resample_smoothed(ct, grid, outside=AIR_HU)), *HU_RANGE).astype(np.float32)
    labels = to_array(resample_labels(lungs, grid)) > 0
    reach = settings["lung_margin_mm"] / settings["spacing_mm"]
    mask = ndimage.distance_transform_edt(~labels) <= reach
    return from_array(region, grid), from_array(mask.astype(np.float32), grid)


def _run_ants(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_mask: sitk.Image | None,
    moving_mask: sitk.Image | None,
    stages: Sequence[str],
    settings: Mapping[str, Any],
    seed: int,
) -> tuple[sitk.Transform, sitk.Transform]:
    """Run a chain of ANTs stages on one thread, seeded; returns the transforms fixed to moving and back."""
    import ants

    # before the first image is made: later calls are ignored (seen with antspyx 0.6.3)
    ants.config.set_ants_deterministic(True, seed)
    a_fixed, a_moving = _to_ants(fixed), _to_ants(moving)
    masks = {"mask": _to_ants(fixed_mask) if fixed_mask else None}
    masks["moving_mask"] = _to_ants(moving_mask) if moving_mask else None
    with tempfile.TemporaryDirectory() as folder:
        current: list[str] = [_centre_alignment(fixed, moving, fixed_mask, moving_mask, Path(folder))]
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
                raise Ct2vqError(f"ANTs' stage {stage} failed: {error}", hint="look at the lung masks") from error
            current = result["fwdtransforms"]
        return _composite(result["fwdtransforms"]), _inverse_composite(result["invtransforms"])


def _linear(settings: Mapping[str, Any]) -> dict[str, Any]:
    levels = len(settings["linear_iterations"])
    return {
        "aff_metric": "mattes",
        "aff_sampling": 32,
        "aff_random_sampling_rate": 0.25,
        "aff_iterations": tuple(settings["linear_iterations"]),
        "aff_shrink_factors": tuple(2 ** (levels - 1 - level) for level in range(levels)),
        "aff_smoothing_sigmas": tuple(levels - 1 - level for level in range(levels)),
    }


def _deformable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "syn_metric": "CC",
        "syn_sampling": 2,
        "reg_iterations": tuple(settings["deformable_iterations"]),
        "grad_step": settings["gradient_step"],
        "flow_sigma": settings["flow_sigma"],
        "total_sigma": settings["total_sigma"],
        "mask_all_stages": True,
    }


def _centre_alignment(
    fixed: sitk.Image, moving: sitk.Image, fixed_mask: sitk.Image | None, moving_mask: sitk.Image | None, folder: Path
) -> str:
    """A translation that puts the centres (of the masks, else of intensity) on each other, as a file for ANTs."""
    shift = _centre(moving_mask or moving) - _centre(fixed_mask or fixed)
    path = folder / "centres.mat"
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


def _coarse_grid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """A grid over the whole volume, along its own axes, so that no point of it lies outside the field."""
    extent = (np.asarray(image.GetSize()) - 1) * np.asarray(image.GetSpacing())
    size = np.ceil(extent / spacing_mm).astype(int) + 1
    return make_grid(size, [spacing_mm] * 3, image.GetOrigin(), image.GetDirection())


def _displacements(transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    """The transform sampled on a grid as a displacement field in mm."""
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def _quality(
    images: Mapping[str, sitk.Image], forward: sitk.Image, inverse: sitk.Image, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures of quality in the CT's lungs, and flags; a case is flagged, never dropped."""
    through_ct = "attenuation_ct" in images
    inside = to_array(resample_labels(images["ct_lungs"], _like(forward))) > 0
    jacobian = to_array(sitk.DisplacementFieldJacobianDeterminant(forward))[inside]
    error = _inverse_error(forward, inverse, inside)
    record: dict[str, Any] = {
        "method": f"{settings['transform']} through the attenuation CT" if through_ct else "rigid on the SPECT images",
        "dice_before": None,
        "dice_after": None,
        "jacobian_min": float(jacobian.min()),
        "jacobian_max": float(jacobian.max()),
        "folding_percent": float((jacobian <= 0).mean() * 100),
        "inverse_consistency_mean_mm": float(error.mean()),
        "inverse_consistency_p95_mm": float(np.percentile(error, 95)),
        "displacement_mean_mm": float(np.linalg.norm(to_array(forward), axis=-1)[inside].mean()),
    }
    if through_ct:
        record["dice_before"] = _lung_dice(images, None)
        record["dice_after"] = _lung_dice(images, as_transform(forward))
    record["flags"] = _flags(record, settings)
    return record


def _flags(record: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    flags = []
    if record["dice_after"] is None:
        flags.append("no attenuation CT: rigid only, breathing motion at the diaphragm is not corrected")
    elif record["dice_after"] < settings["dice_flag"]:
        flags.append(f"lung Dice {record['dice_after']:.3f} after registration, below {settings['dice_flag']}")
    if record["folding_percent"] > 0:
        flags.append(f"{record['folding_percent']:.2f} % of the lungs are folded")
    return flags


def _like(field: sitk.Image) -> sitk.Image:
    return make_grid(field.GetSize(), field.GetSpacing(), field.GetOrigin(), field.GetDirection())


def _inverse_error(forward: sitk.Image, inverse: sitk.Image, inside: np.ndarray) -> np.ndarray:
    """Distance in mm between a lung point and where forward and inverse carry it, for each voxel inside."""
    carried = sitk.Warp(
        inverse,
        forward,
        outputSpacing=forward.GetSpacing(),
        outputOrigin=forward.GetOrigin(),
        outputSize=forward.GetSize(),
        outputDirection=forward.GetDirection(),
    )
    return np.linalg.norm(to_array(forward) + to_array(carried), axis=-1)[inside]


def _lung_dice(images: Mapping[str, sitk.Image], transform: sitk.Transform | None) -> float:
    """Dice of the lungs of both CTs on the CT's grid."""
    moved = resample(images["attenuation_ct_lungs"], images["ct_lungs"], transform, linear=False)
    return dice(to_array(images["ct_lungs"]) > 0, to_array(moved) > 0)
