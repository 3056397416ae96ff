"""Cases whose true displacement is known: a real CT under a drawn deformation, and simulated patients.

Points are mm (LPS). A truth is a displacement on the case's `lungs` grid, valid in the lungs: `p_there = p_ct + d`.
Two truths are told apart for simulated patients: to the attenuation CT's own moment of breathing (`attenuation_ct`,
what a registration of two CTs can know) and to the SPECT's mean state (`spect`, what counts in the end; the diaphragm
lies up to 5 mm elsewhere).
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.cohort import load_cohort
from ct2vq.convert import convert_ct
from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.files import read_json, read_tsv, write_json, write_tsv
from ct2vq.lungs import bounding_box
from ct2vq.segment import segment_lungs
from ct2vq.simulate import case as simulation
from ct2vq.simulate import spect, truth
from ct2vq.simulate.motion import Motion
from ct2vq.volume import affine, from_array, make_grid, read_volume, resample, to_array, write_volume

IMAGES = ("ct", "attenuation_ct")
#: the grid of measurement goes so far beyond the lungs, so that what a wrong registration puts outside is seen
MARGIN_MM = 15.0
#: lung so near above its lower surface is "near the diaphragm"
DIAPHRAGM_MM = 20.0
#: a unit whose perfusion is less than this share of the lungs' mean belongs to a defect
DEFECT_PERFUSION = 0.35
#: smaller defects are not measured (the voxel of a SPECT has 0.1 mL, its resolution element about 1 mL)
DEFECT_ML = 20.0
#: voxel of the grids that hold a defect's label in the state of the SPECT and of the attenuation CT
LABEL_MM = 2.0
#: the noise of the deformed real CT, its largest displacement, and the voxel at which both are registered
NOISE_HU, LARGEST_MM, REAL_CASE_MM = 35.0, 18.0, 3.0
#: share of the largest displacement that is the diaphragm's lift, and the smoothness of the irregular rest: so much
#: irregular that the best affine map leaves 1.4 mm in the lungs
LIFT_SHARE, ROUGHNESS_MM = 0.8, 40.0
AIR_HU = -1000.0
INVERSE_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class BenchmarkCase:
    """A case and what is known of it.

    Attributes:
        name: the case.
        stratum: `real CT`, `shallow` or `full inspiration`.
        images: `ct`, `ct_lungs`, `attenuation_ct`, `attenuation_ct_lungs` as a registration gets them.
        lungs: true lung labels of the CT on the grid of measurement.
        lungs_there: the true lungs in the attenuation CT's state, on a grid of their own.
        truths: by reference, the true displacement (z, y, x, 3) in mm on that grid, valid in the lungs.
        landmarks: columns `{x,y,z}_ct_mm`, `{x,y,z}_<reference>_mm` and `region`; without rows if there are none.
        defects: true labels (1...) of perfusion defects on the grid of measurement, or None.
        defects_there: by reference, the same labels in that state.
        perfusion_there: by reference, the noise-free perfusion at the SPECT's resolution in that state.
    """

    name: str
    stratum: str
    images: Mapping[str, sitk.Image]
    lungs: sitk.Image
    lungs_there: sitk.Image
    truths: Mapping[str, np.ndarray]
    landmarks: pd.DataFrame = field(default_factory=pd.DataFrame)
    defects: sitk.Image | None = None
    defects_there: Mapping[str, sitk.Image] = field(default_factory=dict)
    perfusion_there: Mapping[str, sitk.Image] = field(default_factory=dict)

    @property
    def inside(self) -> np.ndarray:
        """The true lungs (z, y, x)."""
        return to_array(self.lungs) > 0

    @property
    def near_diaphragm(self) -> np.ndarray:
        """Lung (z, y, x) within `DIAPHRAGM_MM` above its lower surface, in the lower half of the lungs' height."""
        return above_lower_surface(self.inside, self.lungs.GetSpacing()[2])

    def save(self, folder: Path) -> None:
        """Write the case; `case.json` comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in self._volumes().items():
            write_volume(image, folder / f"{name}.nii.gz")
        write_tsv(self.landmarks, folder / "landmarks.tsv")
        references = list(self.truths)
        write_json({"name": self.name, "stratum": self.stratum, "references": references}, folder / "case.json")

    def _volumes(self) -> dict[str, sitk.Image]:
        volumes = {**self.images, "lungs": self.lungs, "lungs_there": self.lungs_there}
        for reference, values in self.truths.items():
            volumes[f"to_{reference}"] = vector_image(values, self.lungs)
        if self.defects is not None:
            volumes["defects"] = self.defects
        volumes |= {f"defects_{name}": image for name, image in self.defects_there.items()}
        return volumes | {f"perfusion_{name}": image for name, image in self.perfusion_there.items()}


def load_case(folder: Path) -> BenchmarkCase:
    """Read a case that `save` wrote."""
    facts = read_json(folder / "case.json")
    references = facts["references"]

    def read(name: str) -> sitk.Image:
        return read_volume(folder / f"{name}.nii.gz")

    has_defects = (folder / "defects.nii.gz").is_file()
    return BenchmarkCase(
        facts["name"],
        facts["stratum"],
        {name: read(name) for image in IMAGES for name in (image, f"{image}_lungs")},
        read("lungs"),
        read("lungs_there"),
        {name: to_array(read(f"to_{name}")) for name in references},
        read_tsv(folder / "landmarks.tsv") if (folder / "landmarks.tsv").stat().st_size > 1 else pd.DataFrame(),
        read("defects") if has_defects else None,
        {name: read(f"defects_{name}") for name in references} if has_defects else {},
        {name: read(f"perfusion_{name}") for name in references} if has_defects else {},
    )


def vector_image(values: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Vectors (z, y, x, 3) as a volume on a grid."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32), isVector=True)
    image.CopyInformation(grid)
    return image


def positions(grid: sitk.Image) -> np.ndarray:
    """Positions (z, y, x, 3) in mm (LPS) of a grid's voxels."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in reversed(grid.GetSize())), indexing="ij")
    matrix = affine(grid)
    return np.stack([x, y, z], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]


def above_lower_surface(inside: np.ndarray, slice_mm: float, reach_mm: float = DIAPHRAGM_MM) -> np.ndarray:
    """Lung (z, y, x; z to the head) within a reach above each column's lowest voxel, in the lower half of the lungs."""
    lowest = np.where(inside.any(axis=0), inside.argmax(axis=0), inside.shape[0])
    heights = np.arange(inside.shape[0])[:, None, None]
    slices = np.flatnonzero(inside.any(axis=(1, 2)))
    lower_half = lowest <= (slices[0] + slices[-1]) / 2
    return inside & lower_half & ((heights - lowest) * slice_mm < reach_mm)


# --- a real CT under a drawn deformation ----------------------------------------------------------------------------


def real_case(shared: Path, segment_settings: Mapping[str, Any], seed: int = 1) -> BenchmarkCase:
    """LUNG1-001 at 3 mm, and the same CT under a known smooth deformation of up to 18 mm with 35 HU of noise.

    The deformed image plays the attenuation CT: at `p + u(p)` it shows what the CT shows at `p`. It is read from the
    full-resolution CT in one interpolation, with the inverse of `p + u(p)`. Both images' lungs are found by the stage
    `segment`; the true lungs are those of the CT.

    Args:
        shared: folder that holds `mirp_LUNG1-001_ct`.
        segment_settings: config block `segment`.
        seed: seed of the deformation and of the noise.

    Raises:
        GeometryError: the drawn deformation folds or cannot be inverted.
    """
    full = read_lung1(shared)
    grid = coarser(full, REAL_CASE_MM)
    smoothed = antialiased(full, REAL_CASE_MM)
    ct = resample(smoothed, grid, outside=AIR_HU)
    lungs, _ = segment_lungs(ct, dict(segment_settings))
    rng = np.random.default_rng(seed)
    displacement = drawn_deformation(lungs, rng)
    pull = sitk.DisplacementFieldTransform(pull_image(inverted(displacement, grid), grid))
    moved = to_array(resample(smoothed, grid, pull, outside=AIR_HU))
    noisy = from_array(moved + rng.normal(0, NOISE_HU, moved.shape).astype(np.float32), grid)
    noisy_lungs, _ = segment_lungs(noisy, dict(segment_settings))
    near = _around(lungs)
    return BenchmarkCase(
        "LUNG1-001",
        "real CT",
        {"ct": ct, "ct_lungs": lungs, "attenuation_ct": noisy, "attenuation_ct_lungs": noisy_lungs},
        near,
        resample(lungs, grid, pull, linear=False),
        {"attenuation_ct": part_of(displacement, grid, near)},
    )


def part_of(values: np.ndarray, grid: sitk.Image, part: sitk.Image) -> np.ndarray:
    """The values (z, y, x, ...) on the part of their grid that `part` is."""
    start = grid.TransformPhysicalPointToIndex(part.GetOrigin())
    return values[tuple(slice(a, a + n) for a, n in zip(start[::-1], part.GetSize()[::-1], strict=True))]


def pull_image(values: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """A displacement (z, y, x, 3) as the float64 vector volume that a transform takes."""
    return sitk.Cast(vector_image(values, grid), sitk.sitkVectorFloat64)


def drawn_deformation(lungs: sitk.Image, rng: np.random.Generator) -> np.ndarray:
    """A smooth displacement (z, y, x, 3) in mm on the lungs' grid: the diaphragm's lift and a smooth irregular part.

    The lift grows from the apex to the base as (share of the height)^1.3 and ends 60 mm below; the irregular part is
    white noise smoothed by a Gaussian of `ROUGHNESS_MM`. The largest vector in the lungs has `LARGEST_MM`.

    Raises:
        GeometryError: the field folds.
    """
    inside, step = to_array(lungs) > 0, np.asarray(lungs.GetSpacing())
    z = positions(lungs)[..., 2]
    low, high = z[inside].min(), z[inside].max()
    down = np.clip((high - z) / (high - low), 0, 1) ** 1.3
    below = np.clip((low - z) / 60.0, 0, 1)
    sigma = [ROUGHNESS_MM / s for s in step[::-1]]
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=inside.shape), sigma) for _ in range(3)], axis=-1)
    values = noise * ((1 - LIFT_SHARE) / np.linalg.norm(noise, axis=-1)[inside].max())
    values[..., 2] += LIFT_SHARE * down * (1 - below * below * (3 - 2 * below))
    values *= LARGEST_MM / np.linalg.norm(values, axis=-1)[inside].max()
    smallest = to_array(sitk.DisplacementFieldJacobianDeterminant(vector_image(values, lungs))).min()
    if smallest <= 0:
        raise GeometryError(f"the drawn deformation folds (smallest Jacobian {smallest:.2f})", hint="take another seed")
    return values


def inverted(displacement: np.ndarray, grid: sitk.Image) -> np.ndarray:
    """The inverse `v` (z, y, x, 3) of `p + u(p)` on the same grid, so that `q + v(q) = p` where `p + u(p) = q`.

    Raises:
        GeometryError: it does not come within `INVERSE_TOLERANCE_MM`.
    """
    to_index = np.linalg.inv(affine(grid))
    parts = [np.ascontiguousarray(displacement[..., axis]) for axis in range(3)]

    def at(places: np.ndarray) -> np.ndarray:
        index = np.moveaxis((places @ to_index[:3, :3].T + to_index[:3, 3])[..., ::-1], -1, 0)
        return np.stack([ndimage.map_coordinates(part, index, order=1, mode="nearest") for part in parts], axis=-1)

    points = positions(grid)
    return _fixed_point(at, points) - points


def _fixed_point(displacement: Callable[[np.ndarray], np.ndarray], points: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Places `q` (..., 3) with `q + displacement(q) = points`."""
    places = points.copy()
    for _ in range(rounds):
        error = points - places - displacement(places)
        places = places + error
        if np.abs(error).max() < INVERSE_TOLERANCE_MM:
            return places
    raise GeometryError(f"a displacement could not be inverted: {np.abs(error).max():.2f} mm are left")


def read_lung1(shared: Path) -> sitk.Image:
    """LUNG1-001 (512 x 512 x 134) in HU.

    Raises:
        Ct2vqError: it is not there.
    """
    archive = shared / "mirp_LUNG1-001_ct" / "LUNG1-001_image.tar.xz"
    if not archive.is_file():
        raise Ct2vqError("no real CT", path=archive, hint="give the folder of real images with --shared")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        reader = sitk.ImageSeriesReader()
        first = next(path for path in sorted(Path(folder).rglob("*.dcm")))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(first.parent)))
        return sitk.DICOMOrient(sitk.Cast(reader.Execute(), sitk.sitkFloat32), "LPS")


def antialiased(image: sitk.Image, spacing_mm: float | Sequence[float]) -> sitk.Image:
    """The image smoothed along the axes that become coarser (as `ct2vq.lungs.resample_smoothed`)."""
    old = np.asarray(image.GetSpacing())
    sigma = np.sqrt(np.maximum(np.asarray(spacing_mm) ** 2 - old**2, 0)) / 3 / old
    return from_array(ndimage.gaussian_filter(to_array(image), sigma[::-1], mode="nearest"), image)


def coarser(image: sitk.Image, spacing_mm: float | Sequence[float]) -> sitk.Image:
    """A grid with the same corner and extent and another voxel; one length for all axes, or (x, y, z)."""
    voxel = np.broadcast_to(spacing_mm, 3).astype(float)
    size = np.floor(np.asarray(image.GetSize()) * np.asarray(image.GetSpacing()) / voxel + 1e-3)
    return make_grid(size, voxel.tolist(), image.GetOrigin(), image.GetDirection())


def _around(lungs: sitk.Image) -> sitk.Image:
    """The part of the labels' own grid that holds the lungs and `MARGIN_MM`."""
    size = np.asarray(lungs.GetSize())
    margin = np.ceil(MARGIN_MM / np.asarray(lungs.GetSpacing())).astype(int)
    box = bounding_box(to_array(lungs) > 0)[::-1]
    low = np.maximum([axis.start for axis in box] - margin, 0)
    high = np.minimum([axis.stop for axis in box] + margin, size)
    return sitk.RegionOfInterest(lungs, (high - low).tolist(), low.tolist())


# --- a simulated patient --------------------------------------------------------------------------------------------


def simulated_case(study: Path, case_id: str, config: Mapping[str, Any]) -> BenchmarkCase:
    """A simulated patient: converted and segmented by the real stages, with all that the simulator knows.

    The case is drawn again from the study's seed, because its folder holds the way to the SPECT's mean state only. That
    it is the same case is checked against the facts and the displacement on disk.

    Args:
        study: directory where the study was simulated.
        case_id: the case.
        config: the study's completed configuration.

    Raises:
        Ct2vqError: the case drawn again is not the one on disk.
    """
    folder = study / "results" / "simulate" / case_id
    known = folder / "truth"
    drawn = _drawn_again(case_id, config, known)
    images = converted(folder / "dicom", case_id, config)
    lungs = _around(read_volume(known / "lungs.nii.gz"))
    inside = to_array(lungs) > 0
    points = positions(lungs)
    to_spect = _on(known / "ct_to_spect_displacement.nii.gz", lungs)
    reference = points[inside].T + to_spect[inside].T
    _require_same_motion(drawn, points[inside].T, reference)
    to_attenuation = np.zeros_like(to_spect)
    to_attenuation[inside] = (moved_back(drawn.attenuation_motion, reference) - points[inside].T).T
    defects, of_unit = _defects(drawn, _on(known / "units.nii.gz", lungs), lungs)
    states = {"attenuation_ct": drawn.attenuation_motion, "spect": Motion(drawn.chest, 0.0)}
    return BenchmarkCase(
        case_id,
        "full inspiration" if drawn.motion.full_inspiration else "shallow",
        images,
        lungs,
        _labels_in(drawn, states["attenuation_ct"]),
        {"attenuation_ct": to_attenuation, "spect": to_spect},
        _landmarks(known / "landmarks.tsv", drawn.attenuation_motion),
        defects,
        {name: _labels_in(drawn, state, of_unit) for name, state in states.items()},
        {name: _perfusion_in(drawn, state) for name, state in states.items()},
    )


def _drawn_again(case_id: str, config: Mapping[str, Any], known: Path) -> simulation.Case:
    """The case from its seeds.

    Raises:
        Ct2vqError: its facts are not those on disk.
    """
    patient = load_cohort(config)[case_id]
    drawn = simulation.draw_case(
        case_id, patient.patient_id, patient.attributes["diagnosis"], config["seed"], config["simulate"]
    )
    written, now = read_json(known / "truth.json"), truth.facts(drawn)
    differing = [
        name for name in ("cohort_version", "diagnosis", "motion", "spect", "units") if written[name] != now[name]
    ]
    if differing:
        raise Ct2vqError(
            f"case {case_id} drawn again differs in {', '.join(differing)}",
            path=known,
            hint="simulate the study with this version and configuration",
        )
    return drawn


def _require_same_motion(drawn: simulation.Case, points: np.ndarray, reference: np.ndarray) -> None:
    """Stop unless the drawn motion carries points (3, n) where the stored displacement does, within 0.1 mm."""
    error = np.abs(drawn.motion.lung(points.astype(np.float32)) - reference).max()
    if error > 0.1:
        raise Ct2vqError(f"the motion of {drawn.case_id} drawn again is up to {error:.2f} mm from the one on disk")


def converted(dicom: Path, case_id: str, config: Mapping[str, Any]) -> dict[str, sitk.Image]:
    """Both CTs converted, and their lungs as the stage `segment` finds them."""
    images = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in IMAGES:
            path = Path(folder) / f"{name}.nii.gz"
            convert_ct(dicom / name, path, Path(folder) / f"{name}.json", config["convert"], case_id, role=name)
            images[name] = read_volume(path)
            images[f"{name}_lungs"], _ = segment_lungs(images[name], config["segment"])
    return images


def _on(path: Path, grid: sitk.Image) -> np.ndarray:
    """A truth volume on the part of its own grid that `grid` is."""
    image = read_volume(path)
    return part_of(to_array(image), image, grid)


def moved_back(motion: Motion, reference: np.ndarray) -> np.ndarray:
    """Positions (3, n) in a scan of lung at positions in the reference state, mm.

    `Motion.to_scan` does the same by Newton steps; for a small motion without rotation fixed-point steps are faster.
    """

    def displacement(places: np.ndarray) -> np.ndarray:
        return (motion.lung(places.T) - places.T).T

    return _fixed_point(displacement, reference.T.copy()).T


def _landmarks(path: Path, attenuation: Motion) -> pd.DataFrame:
    """The stored landmarks with their positions in the attenuation CT."""
    table = read_tsv(path)
    there = attenuation.to_scan(table[[f"{axis}_spect_mm" for axis in "xyz"]].to_numpy(dtype=float).T)
    return table.assign(**{f"{axis}_attenuation_ct_mm": there[i] for i, axis in enumerate("xyz")})


def _defects(drawn: simulation.Case, units: np.ndarray, grid: sitk.Image) -> tuple[sitk.Image, np.ndarray]:
    """Connected defects of perfusion on the CT's grid, and the defect of each unit (0: none).

    A defect is a connected piece (over faces) of lung whose units have less than `DEFECT_PERFUSION` of the mean, of at
    least `DEFECT_ML`, whether or not the CT shows its cause. A unit belongs to the piece that holds most of it.
    """
    low = np.concatenate([[False], drawn.function.perfusion < DEFECT_PERFUSION])
    pieces, count = ndimage.label(low[units])
    volume = np.bincount(pieces.ravel(), minlength=count + 1) * float(np.prod(grid.GetSpacing())) / 1000
    kept = np.flatnonzero(volume >= DEFECT_ML)
    number = np.zeros(count + 1, dtype=np.uint8)
    kept = kept[kept > 0]
    number[kept] = np.arange(1, len(kept) + 1)
    labels = number[pieces]
    votes = np.zeros((len(low), len(kept) + 1))
    np.add.at(votes, (units.ravel(), labels.ravel()), 1)
    of_unit = np.where(low, votes.argmax(axis=1), 0).astype(np.uint8)
    return from_array(of_unit[units], grid), of_unit


def _labels_in(drawn: simulation.Case, state: Motion, of_unit: np.ndarray | None = None) -> sitk.Image:
    """The lungs (1), or the defects' labels, in a scan's state, on a fine grid.

    What is lung is decided by the body's part of the motion, as when the CT is rendered; which unit, by the lung's.
    """
    low, high = simulation.lung_extent(drawn.chest)
    size = np.ceil((high - low + 2 * MARGIN_MM) / LABEL_MM).astype(int)
    grid = make_grid(size, [LABEL_MM] * 3, low - MARGIN_MM)
    labels = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.uint8)
    body = state.body(simulation.grid_points(grid))
    distance, side = drawn.chest.lung(body)
    inside = distance < 0
    units = drawn.units.at(state.slide(body[:, inside]), side[inside])
    labels[inside] = 1 if of_unit is None else of_unit[units + 1]
    return from_array(labels, grid)


def _perfusion_in(drawn: simulation.Case, state: Motion) -> sitk.Image:
    """Noise-free perfusion at the SPECT's resolution on its grid, in a scan's state, the patient lying where he did."""
    grid = simulation.spect_grid(drawn)
    points = simulation.grid_points(grid)
    lung = spect.shares_of_lung(drawn.units, grid, points)
    sharp = spect.uptake(drawn.function.perfusion, lung, grid)
    image = spect.system_blur(sharp, grid, drawn.settings["spect"]["fwhm_mm"], drawn.chest, drawn.protocol.tidal_mm)
    values = spect.read_at(image, grid, state.lung(points).reshape(3, -1)).reshape(image.shape)
    return from_array(values, grid)
