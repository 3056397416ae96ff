"""Who is measured: programs that register two CTs, each as its own documentation calls it, on one thread.

An arm takes the images of a case and a folder for files, and returns transforms of points in mm (LPS), from the fixed
image (the CT) to the moving one (the attenuation CT) and back; None where a program gives no way back. Only `ct2vq`
gets the lungs: the other programs' defaults take no masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.config import complete_config
from ct2vq.fields import as_transform, grid_over
from ct2vq.lungs import resample_smoothed
from ct2vq.volume import to_array

Pair = tuple[sitk.Transform, sitk.Transform | None]
#: voxel of the images that the other programs get, mm
SPACING_MM = 3.0
AIR_HU = -1000.0
SEED = 42
#: metric, schedule and start of greedy's quick start (greedy.readthedocs.io)
GREEDY = "-d 3 -threads 1 -m {metric} 2x2x2 -i fixed moving -n 100x50x10"


def full_images(images: Mapping[str, sitk.Image]) -> tuple[sitk.Image, sitk.Image]:
    """Both whole CTs in isotropic voxels of `SPACING_MM`, as a user would give them to a program for registration."""
    return tuple(
        image
        if np.allclose(image.GetSpacing(), SPACING_MM)
        else resample_smoothed(image, grid_over(image, SPACING_MM), outside=AIR_HU)
        for image in (images["ct"], images["attenuation_ct"])
    )


# --- this project ---------------------------------------------------------------------------------------------------


def _ct2vq(images: Mapping[str, sitk.Image], folder: Path) -> Pair:
    from ct2vq.register.through_ct import register_through_ct

    config = complete_config({"study": "benchmark"})
    return register_through_ct(images, config["register"], config["seed"])


# --- ANTs -----------------------------------------------------------------------------------------------------------


def _ants(kind: str) -> Callable[[Mapping[str, sitk.Image], Path], Pair]:
    """`ants.registration` with nothing but the type of transform, from the images' centres of mass, as by default."""

    def register(images: Mapping[str, sitk.Image], folder: Path) -> Pair:
        import ants

        # before the first image is made: later calls are ignored
        ants.config.set_ants_deterministic(True, SEED)
        fixed, moving = (_to_ants(image) for image in full_images(images))
        result = ants.registration(fixed, moving, type_of_transform=kind, outprefix=f"{folder}/ants_")
        forward = [_ants_part(path) for path in result["fwdtransforms"]]
        back = [_ants_part(path) for path in result["invtransforms"]]
        names = [str(path) for path in result["invtransforms"]]
        # matrices are stored forward in both lists
        back = [part.GetInverse() if n.endswith(".mat") else part for part, n in zip(back, names, strict=True)]
        return sitk.CompositeTransform(forward[::-1]), sitk.CompositeTransform(back[::-1])

    return register


def _to_ants(image: sitk.Image) -> Any:
    import ants

    array = to_array(image).astype(np.float32).transpose(2, 1, 0)
    direction = np.reshape(image.GetDirection(), (3, 3))
    return ants.from_numpy(array, origin=image.GetOrigin(), spacing=image.GetSpacing(), direction=direction)


def _ants_part(path: str) -> sitk.Transform:
    return sitk.ReadTransform(str(path)) if str(path).endswith(".mat") else as_transform(sitk.ReadImage(str(path)))


# --- elastix --------------------------------------------------------------------------------------------------------


def _elastix(images: Mapping[str, sitk.Image], folder: Path) -> Pair:
    """Its default maps `affine` and `bspline`, one after the other; it gives no inverse."""
    import itk

    fixed, moving = (_to_itk(itk, image) for image in full_images(images))
    maps = _elastix_maps(itk.ParameterObject.New())
    _image, found = itk.elastix_registration_method(
        fixed, moving, parameter_object=maps, number_of_threads=1, log_to_console=False
    )
    affine, spline = (found.GetParameterMap(index) for index in range(2))
    # elastix composes T(x) = spline(affine(x)); SimpleITK's last transform acts first
    return sitk.CompositeTransform([_elastix_spline(spline), _elastix_affine(affine)]), None


def _elastix_maps(maps: Any) -> Any:
    for kind in ("affine", "bspline"):
        maps.AddParameterMap(maps.GetDefaultParameterMap(kind))
    return maps


def _to_itk(itk: Any, image: sitk.Image) -> Any:
    converted = itk.image_from_array(to_array(image).astype(np.float32))
    converted.SetOrigin(image.GetOrigin())
    converted.SetSpacing(image.GetSpacing())
    converted.SetDirection(np.reshape(image.GetDirection(), (3, 3)))
    return converted


def _elastix_affine(found: Mapping[str, Any]) -> sitk.Transform:
    numbers = [float(value) for value in found["TransformParameters"]]
    centre = [float(value) for value in found["CenterOfRotationPoint"]]
    return sitk.AffineTransform(numbers[:9], numbers[9:], centre)


def _elastix_spline(found: Mapping[str, Any]) -> sitk.Transform:
    size = [int(value) for value in found["GridSize"]]
    values = np.array(found["TransformParameters"], dtype=float).reshape(3, *size[::-1])
    parts = []
    for part in values:
        image = sitk.GetImageFromArray(part)
        image.SetOrigin([float(value) for value in found["GridOrigin"]])
        image.SetSpacing([float(value) for value in found["GridSpacing"]])
        # elastix writes the matrix column by column
        image.SetDirection(np.reshape([float(v) for v in found["GridDirection"]], (3, 3)).T.ravel().tolist())
        parts.append(image)
    return sitk.BSplineTransform(parts, 3)


# --- greedy ---------------------------------------------------------------------------------------------------------


def _greedy(metric: str) -> Callable[[Mapping[str, sitk.Image], Path], Pair]:
    """The quick start's two commands: affine from the images' centres, then deformable with the inverse."""

    def register(images: Mapping[str, sitk.Image], folder: Path) -> Pair:
        from picsl_greedy import Greedy3D

        fixed, moving = (sitk.Cast(image, sitk.sitkFloat32) for image in full_images(images))
        common, program = GREEDY.format(metric=metric), Greedy3D()
        program.execute(f"{common} -a -dof 12 -ia-image-centers -o affine", fixed=fixed, moving=moving, affine=None)
        program.execute(f"{common} -it affine -o warp -oinv back", warp=None, back=None)
        matrix = _greedy_affine(program["affine"])
        forward, inverse = as_transform(program["warp"]), as_transform(program["back"])
        return sitk.CompositeTransform([matrix, forward]), sitk.CompositeTransform([inverse, matrix.GetInverse()])

    return register


def _greedy_affine(found: np.ndarray) -> sitk.AffineTransform:
    """Greedy's matrix (4, 4), fixed to moving in RAS, as a transform in LPS."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ found @ flip
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def _none(images: Mapping[str, sitk.Image], folder: Path) -> Pair:
    """As scanned."""
    still = sitk.Transform(3, sitk.sitkIdentity)
    return still, still


ARMS: dict[str, Callable[[Mapping[str, sitk.Image], Path], Pair]] = {
    "none": _none,
    "ct2vq": _ct2vq,
    "ANTs affine": _ants("Affine"),
    "ANTs SyN": _ants("SyN"),
    "ANTs SyNQuick[s]": _ants("antsRegistrationSyNQuick[s]"),
    "elastix affine + B-spline": _elastix,
    "greedy NCC": _greedy("NCC"),
    "greedy WNCC": _greedy("WNCC"),
}
