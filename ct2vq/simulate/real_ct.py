"""A semi-synthetic case: the anatomy of a real CT, and function that is known.

The CT stays as it is, on its own grid and in its own coordinates. The reference state (the SPECT's) is drawn from it:
the body's part of the motion (`motion.Motion.body`, smooth and invertible) carries the lung mask there, and there the
lungs slide along their new surface. So the lungs of the reference state are by construction those of the CT, the map
from CT to SPECT is the same one that a drawn case has, and every scan but the CT is taken from the reference state.
Its coordinates have their origin in the middle of the lungs, as another machine's would.

Emphysema is taken from the CT. All other disease is painted into it, inside the lungs, under the CT's own noise. The
normal variation of blood and inflation that a drawn CT shows is not painted: it counts as invisible.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

from ct2vq.convert import convert_ct
from ct2vq.errors import ConfigError, GeometryError
from ct2vq.files import read_json
from ct2vq.lungs import LEFT, RIGHT, bounding_box, grid_around, resample_smoothed
from ct2vq.segment import segment_case
from ct2vq.simulate import anatomy, ct, dicom, disease, motion, truth, units
from ct2vq.simulate.anatomy import Distances
from ct2vq.simulate.case import (
    Case,
    Known,
    Slab,
    attenuation_grid,
    complete_parts,
    draw_function_part,
    grid_points,
    spect_grid,
    write_spects,
)
from ct2vq.simulate.chest import MaskedChest, Sampled, chest_from_ct, lattice_points
from ct2vq.simulate.lungs import LungSample, sample_lung
from ct2vq.simulate.randomness import generator
from ct2vq.simulate.world import WORLDS
from ct2vq.volume import affine, from_array, read_volume, require_same_grid, to_array, voxel_volume_ml, write_volume

#: diseases that can be taken from a real CT or painted into it; fluid would need another lung mask
DIAGNOSES = tuple(sorted(set(disease.DISEASES) - {"effusion"}))
#: the diaphragm of a real CT moves by at most this share of the lungs' height: more would crush small lungs
_LARGEST_EXCURSION = 0.2
#: lungs smaller than this are collapsed, removed, or were missed
_SMALLEST_LUNG_ML = 300.0
#: a face of the image that the lungs touch with more than this cuts them
_CUT_CM2 = 1.0
#: emphysema: voxels below this threshold (the usual one, e.g. Gevenois et al., AJRCCM 1996;154:187-192) after
#: smoothing that leaves the kernel and the noise little part in it; their share is taken in a Gaussian of this width
_LAA_HU, _LAA_GRID_MM, _LAA_SMOOTH_MM, _LAA_FWHM_MM = -950.0, 2.0, 1.6, 20.0
#: a CT shows emphysema where this share of the lung is destroyed, if that is so in this share of the units
_DESTROYED, _EMPHYSEMA_EXTENT = 0.3, 0.01
#: step of the lattices on which motion is inverted, margin around the lungs, number of rounds
_INVERSE_STEP_MM, _INVERSE_MARGIN_MM, _INVERSE_ROUNDS = 6.0, 110.0, 16
#: around the lungs, where the blurred truth still is not 0, the CT's voxels are mapped as in the lungs
_NEAR_MM = 30.0
_SLAB_VOXELS = 3_000_000
#: the truth's displacement is a multiple of this, mm (a power of 2)
_DISPLACEMENT_STEP_MM = np.float32(1 / 128)
#: width of the median filter that parts painted lung from the CT's noise, and the noise's largest size in its own sigma
_NOISE_MEDIAN_MM, _NOISE_LIMIT = 4.5, 3.0
#: soft tissue in the lung keeps its volume when lung is compressed: between these HU the density's share fades
_SOFT_HU = (-500.0, -200.0)


@dataclass(frozen=True)
class Scan:
    """A real CT (HU, slices along their normal) and its lung labels (1 right, 2 left) on one grid."""

    ct: sitk.Image
    lungs: sitk.Image

    def read(self, values: np.ndarray, points: np.ndarray) -> np.ndarray:
        """`values` (z, y, x) of the CT's grid at positions (3, ...) in mm; beyond the grid its edge goes on."""
        inverse = np.linalg.inv(affine(self.ct))
        index = np.tensordot(inverse[:3, :3].astype(np.float32), points, 1)
        index += inverse[:3, 3].astype(np.float32).reshape(3, *([1] * (points.ndim - 1)))
        return map_coordinates(values, index[::-1], order=1, mode="nearest", output=np.float32)


# --- reading -------------------------------------------------------------------------------------------------------


def read_scan(source: Path, mask: Path | None, settings: dict) -> Scan:
    """Read a CT and its lung mask.

    Args:
        source: DICOM folder, or a volume that ITK reads (NIfTI, NRRD) in HU.
        mask: lung labels on the CT's grid (1 right, 2 left; or 1 for both, which is split); None: segmented here.
        settings: the configuration, for the blocks `convert` and `segment`.

    Raises:
        DicomError: not one whole CT series.
        GeometryError: the mask has another grid; a lung is missing, or cut by the image's border.
        SegmentationError: no plausible lungs, or wrong labels.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volume = work / "ct.nii.gz"
        if Path(source).is_dir():
            convert_ct(Path(source), volume, work / "ct.json", settings["convert"], "real CT")
        else:
            write_volume(sitk.Cast(read_volume(source), sitk.sitkFloat32), volume)
        segment_case(volume, work / "lungs.nii.gz", work / "lungs.json", settings["segment"], mask)
        scan = Scan(read_volume(volume), read_volume(work / "lungs.nii.gz"))
        method = read_json(work / "lungs.json")["method"]
    hint = None if method == "user" else "give a better lung mask"
    return require_whole_lungs(scan, source if mask is None else mask, hint)


def require_whole_lungs(scan: Scan, path: Path | None = None, hint: str | None = None) -> Scan:
    """The scan with its slices along their normal, if both lungs are there and whole.

    Raises:
        GeometryError: another grid; a lung is missing, or cut by the image's border.
    """
    require_same_grid(scan.ct, scan.lungs, "the CT", "the lung mask")
    labels, ml = to_array(scan.lungs), voxel_volume_ml(scan.ct)
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        volume = float((labels == side).sum()) * ml
        if volume < _SMALLEST_LUNG_ML:
            problem = f"the {name} lung has {volume:.0f} mL; a semi-synthetic case needs two lungs"
            raise GeometryError(problem, path=path, hint=hint or "take another CT")
    spacing = np.array(scan.ct.GetSpacing()[::-1])
    for axis in range(3):
        area = float(np.prod(np.delete(spacing, axis))) / 100
        cut = max(float((np.take(labels, end, axis=axis) > 0).sum()) * area for end in (0, -1))
        if cut > _CUT_CM2:
            problem = f"the image's border cuts the lungs ({cut:.0f} cm2): their function would be cut as well"
            raise GeometryError(problem, path=path, hint=hint or "take a CT that holds both lungs")
    return Scan(_right_handed(scan.ct), _right_handed(scan.lungs))


def _right_handed(image: sitk.Image) -> sitk.Image:
    """The same volume with its slices reversed if they run against their normal."""
    if np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) > 0:
        return image
    return image[:, :, ::-1]


# --- motion --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Back:
    """From the reference state back to a scan: the inverse of its motion, read from lattices.

    Attributes:
        motion: the motion.
        body_field, slide_field: displacements along x, y, z that undo the body's part, and the lungs' sliding.
    """

    motion: motion.Motion
    body_field: tuple[Sampled, ...]
    slide_field: tuple[Sampled, ...] | None = None

    def body(self, points: np.ndarray) -> np.ndarray:
        """Where the body at positions (3, ...) of the reference state lies in the scan, mm."""
        guess = points + _read(self.body_field, points)
        turn = self.motion.rotation.T.astype(np.float32)
        return guess - np.tensordot(turn, self.motion.body(guess) - points, 1)

    def lung(self, points: np.ndarray) -> np.ndarray:
        """The same for lung."""
        return self.body(points if self.slide_field is None else points + _read(self.slide_field, points))


def _read(fields: tuple[Sampled, ...], points: np.ndarray) -> np.ndarray:
    return np.stack([one(points) for one in fields])


def invert_body(moved: motion.Motion, box: np.ndarray) -> Back:
    """Undo the body's part of a motion around a box (2, 3) of the reference state, by fixed-point iteration."""
    lattice = lattice_points(box[0] - _INVERSE_MARGIN_MM, box[1] + _INVERSE_MARGIN_MM, _INVERSE_STEP_MM)
    turn = moved.rotation.T.astype(np.float32)
    offset = moved.offset.astype(np.float32).reshape(3, 1, 1, 1)
    result = np.tensordot(turn, lattice - offset, 1)
    for _ in range(_INVERSE_ROUNDS):
        result -= np.tensordot(turn, moved.body(result) - lattice, 1)
    return Back(moved, _sampled(result - lattice, lattice))


def invert_slide(back: Back, moved: motion.Motion, box: np.ndarray) -> Back:
    """`back` with the sliding of `moved` undone as well, in and near the lungs' box (2, 3)."""
    lattice = lattice_points(box[0] - _NEAR_MM, box[1] + _NEAR_MM, _INVERSE_STEP_MM)
    result = lattice.copy()
    for _ in range(_INVERSE_ROUNDS):
        result -= moved.slide(result) - lattice
    return replace(back, slide_field=_sampled(result - lattice, lattice))


def _sampled(values: np.ndarray, lattice: np.ndarray) -> tuple[Sampled, ...]:
    return tuple(Sampled(v, lattice[:, 0, 0, 0], _INVERSE_STEP_MM) for v in values)


@dataclass(frozen=True)
class Placed:
    """The chest in the reference state, the motion from the CT to there, and the way back."""

    chest: MaskedChest
    motion: motion.Motion
    back: Back


def place(found: MaskedChest, settings: dict, rng: np.random.Generator) -> Placed:
    """Draw the reference state of a real chest.

    Args:
        found: the chest in its CT's state.
        settings: config block `simulate.motion`.
        rng: source of randomness.
    """
    drawn = motion.draw_motion(found, settings, rng)
    height = found.apex_z - float(found.box[0, 2])
    share = min(1.0, _LARGEST_EXCURSION * height / max(abs(drawn.diaphragm_mm), 1e-6))
    excursion = share * drawn.diaphragm_mm
    still = replace(
        drawn,
        # `Motion` asks for the dome's level in the reference state, where it is higher
        chest=replace(found, base_z=found.base_z + excursion),
        diaphragm_mm=excursion,
        chest_wall=(share * drawn.chest_wall[0], share * drawn.chest_wall[1]),
        offset=drawn.offset - drawn.rotation @ found.box.mean(axis=0),
        slip=None,
    )
    surface = still.body(found.lattice(6.0)).reshape(3, -1)
    box = np.stack([surface.min(axis=1), surface.max(axis=1)])
    back = invert_body(still, box)
    chest = found.carried(back.body, box)
    sliding = motion.with_slip(replace(still, chest=chest)).slip
    moved = replace(still, slip=sliding)
    return Placed(chest, moved, invert_slide(replace(back, motion=moved), moved, box))


# --- disease -------------------------------------------------------------------------------------------------------


class MeasuredDestruction(disease.Destruction):
    """Emphysema as a CT shows it: the share of destroyed lung on a lattice of the reference state, and its mean."""

    def __init__(self, share: Sampled, amount: float) -> None:
        """Keep both."""
        self.share, self.amount = share, amount

    def __call__(self, lung: LungSample) -> np.ndarray:
        """Share of lung destroyed (n,)."""
        return np.clip(self.share(lung.points), 0, 1)

    def worsen(self, severity: float, rng: np.random.Generator) -> None:
        """The CT says how much there is."""


def low_attenuation(scan: Scan) -> tuple[Sampled, float]:
    """Share of low-attenuation lung around each place of the CT (about 20 mm wide), and in both lungs together."""
    grid = grid_around(scan.lungs, _LAA_GRID_MM, 6.0)
    hu = to_array(resample_smoothed(scan.ct, grid, outside=-1000.0))
    inside = to_array(resample_smoothed(sitk.Cast(scan.lungs > 0, sitk.sitkFloat32), grid, outside=0)) > 0.5
    low = (_mean_inside(hu, inside, _LAA_SMOOTH_MM) < _LAA_HU) & inside
    sigma = _LAA_FWHM_MM / np.sqrt(8 * np.log(2))
    share = _mean_inside(low.astype(np.float32), inside, sigma)
    return Sampled(share, np.array(grid.GetOrigin(), dtype=np.float32), _LAA_GRID_MM), float(low.sum() / inside.sum())


def _mean_inside(values: np.ndarray, inside: np.ndarray, sigma_mm: float) -> np.ndarray:
    """Gaussian mean over the inside only (z, y, x), float32; 0 far from it."""
    sigma = sigma_mm / _LAA_GRID_MM
    weight = gaussian_filter(inside.astype(np.float32), sigma)
    total = gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma)
    return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), 0).astype(np.float32)


def draw_state(
    diagnosis: str, divided: units.Units, settings: dict, seed: int, case_id: str, destruction: MeasuredDestruction
) -> tuple[disease.LungState, disease.LungState, disease.LungState]:
    """Draw the disease that is painted, beside what the CT has.

    Returns:
        the state; what of it the CT shows; what of it is painted.

    Raises:
        ConfigError: emphysema as diagnosis on a CT without it.
    """
    world = WORLDS[settings["world"]]
    own = settings["disease"]
    own = {**own, "comorbidity": {name: p for name, p in own["comorbidity"].items() if name in DIAGNOSES}}
    own["comorbidity"].pop("emphysema", None)

    def drawn(what: str) -> disease.LungState:
        return disease.draw_state(what, divided, world, own, generator(seed, case_id, "disease"), destruction)

    state = drawn(diagnosis)
    patient = disease.Patient(divided, world, own, generator(seed, case_id, "emphysema"))
    extent = np.average(destruction(patient.lung) > _DESTROYED, weights=divided.volume_ml)
    if diagnosis == "emphysema" and extent < _EMPHYSEMA_EXTENT:
        problem = f"this CT shows no emphysema (destroyed in {100 * extent:.1f} % of the lungs)"
        raise ConfigError(problem, key="diagnosis", hint="choose another diagnosis or CT")
    if diagnosis != "emphysema" and extent >= _EMPHYSEMA_EXTENT:
        state.also.append("emphysema")
        disease.DISEASES["emphysema"](state, patient, destruction.amount)
    state.dependent_atelectasis = 0.0
    ones = np.ones_like(state.inflation)
    shown = replace(state, blood=ones, inflation=ones)
    return state, shown, replace(shown, destruction=_nothing_destroyed(destruction))


def _nothing_destroyed(measured: MeasuredDestruction) -> MeasuredDestruction:
    """Emphysema that is in the CT already is not painted."""
    return MeasuredDestruction(replace(measured.share, values=np.zeros_like(measured.share.values)), 0.0)


# --- the case ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealCase:
    """A drawn case on a real CT."""

    case: Case
    scan: Scan
    placed: Placed
    painted: disease.LungState
    density: ct.DensityModel


def draw_case_on(scan: Scan, case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict) -> RealCase:
    """Draw all that is invented of a semi-synthetic case.

    Raises:
        ConfigError: a diagnosis that no real CT can have here.
        GeometryError: a lung is missing.
    """
    if diagnosis not in DIAGNOSES:
        problem = f"`{diagnosis}` cannot be put on a real CT"
        raise ConfigError(problem, key="diagnosis", hint=f"one of {', '.join(DIAGNOSES)}")
    placed = place(chest_from_ct(scan.ct, scan.lungs), settings["motion"], generator(seed, case_id, "motion"))
    divided = units.divide_lungs(placed.chest, generator(seed, patient_id, "units"))
    destruction = _destruction(scan, placed)
    state, shown, painted = draw_state(diagnosis, divided, settings, seed, case_id, destruction)
    body = anatomy.draw_body(generator(seed, patient_id, "anatomy"))  # for the invented person's size alone
    person = (body.sex, body.age, body.height_cm, body.weight_kg)
    known = Known(state, shown, placed.motion)
    case = draw_function_part(case_id, patient_id, diagnosis, seed, settings, placed.chest, divided, person, known)
    volume = float(divided.volume_ml.sum())
    density = ct.draw_density(volume, case.world, settings["ct"], generator(seed, case_id, "density"))
    return RealCase(case, scan, placed, painted, density)


def _destruction(scan: Scan, placed: Placed) -> MeasuredDestruction:
    """The CT's emphysema, carried to the reference state."""
    share, total = low_attenuation(scan)
    lattice = placed.chest.lattice(_INVERSE_STEP_MM)
    values = share(placed.back.lung(lattice))
    return MeasuredDestruction(Sampled(values, lattice[:, 0, 0, 0], _INVERSE_STEP_MM), total)


def simulate_on_ct(
    scan: Scan, case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict, output: Path
) -> None:
    """Simulate one semi-synthetic case and write it as raw DICOM with its truth, in the files of `simulate_case`.

    Args:
        scan: the real CT with its lungs (`read_scan`). Nothing but its voxels and their geometry is written.
        case_id: the case; everything but the units and the identity depends on it.
        patient_id: the patient.
        diagnosis: one of `DIAGNOSES`; emphysema only if the CT shows it.
        seed: the study's seed.
        settings: config block `simulate`.
        output: the case's folder.

    Raises:
        ConfigError: a diagnosis that this CT cannot have.
        GeometryError: a lung is missing; the drawn motion folds space; `osem` is asked for.
    """
    real = draw_case_on(scan, case_id, patient_id, diagnosis, seed, settings)
    case = real.case
    with complete_parts(Path(output)) as parts:
        emission = spect_grid(case)
        images = write_spects(case, emission, parts["dicom"])
        hu = _write_ct_and_truth(real, emission, images, parts["dicom"], parts["truth"])
        _write_attenuation_ct(real, hu, emission, parts["dicom"])


# --- diagnostic CT -------------------------------------------------------------------------------------------------


def _write_ct_and_truth(
    real: RealCase, emission: sitk.Image, images: dict[str, tuple[np.ndarray, str]], dicom_folder: Path, folder: Path
) -> np.ndarray:
    """Write the CT with what is painted into it, and all that is known on its grid; returns its HU (z, y, x)."""
    case, scan = real.case, real.scan
    hu, known = np.rint(to_array(scan.ct)).astype(np.int16), truth.Truth(case, scan.ct, emission, images)
    for slab, where in mapped_slabs(real):
        hu[where] = paint(real, slab, hu[where])
        known.add(slab, where)
    if case.state.mass is not None:  # it is painted in the lungs only
        known.labels["disease"][known.labels["lungs"] == 0] = 0
    np.rint(known.displacement / _DISPLACEMENT_STEP_MM, out=known.displacement)
    known.displacement *= _DISPLACEMENT_STEP_MM  # a full-size CT's field else fills 300 MB
    image = from_array(hu, scan.ct)
    dicom.write_ct_series(image, dicom_folder / "ct", case.who, "ct", case.rng("ct names"), case.habit)
    known.write(folder, image)
    return hu


def mapped_slabs(real: RealCase) -> Iterator[tuple[Slab, slice]]:
    """The CT in slabs of slices, each mapped to the reference state, and its place among the slices.

    Raises:
        GeometryError: the motion folds space.
    """
    columns, rows, slices = real.scan.ct.GetSize()
    thick, labels = max(1, _SLAB_VOXELS // (columns * rows)), to_array(real.scan.lungs)
    margin = [int(np.ceil(_NEAR_MM / s)) for s in reversed(real.scan.ct.GetSpacing())]
    box = tuple(slice(max(a.start - m, 0), a.stop + m) for a, m in zip(bounding_box(labels > 0), margin, strict=True))
    for first in range(0, slices, thick):
        last = min(first + thick, slices)
        low, high = max(first - 1, 0), min(last + 1, slices)
        slab = _map_slab(real, slice(low, high), labels[low:high], box)
        yield _inner(slab, slice(first - low, last - low)), slice(first, last)


def _map_slab(real: RealCase, where: slice, labels: np.ndarray, box: tuple[slice, ...]) -> Slab:
    """Map some slices; the lungs are those of the mask, and only within `box` of the CT lung is mapped apart."""
    moved, chest, grid = real.placed.motion, real.placed.chest, real.scan.ct
    points = _positions(grid, where)
    body = moved.body(points)
    lung, jacobian = body.copy(), np.ones(labels.shape, dtype=np.float32)
    distance, side = np.full(labels.shape, 99.0, dtype=np.float32), labels.copy()
    near = (slice(max(box[0].start - where.start, 0), max(box[0].stop - where.start, 0)), *box[1:])
    if labels[near].size and len(labels[near]) > 1:
        here = (slice(None), *near)
        lung[here] = moved.slide(body[here])
        jacobian[near] = motion.jacobian_determinant(lung[here], grid.GetSpacing())
        found, _side = chest.lung(body[here])
        distance[near] = np.where(labels[near] > 0, np.minimum(found, -0.01), np.maximum(found, 0.01))
    if (labels > 0).any() and jacobian[labels > 0].min() <= 0:
        hint = "set smaller motion or take another seed"
        raise GeometryError("the drawn motion folds space", key="simulate.motion", hint=hint)
    return Slab(points, body, lung, jacobian, _lungs_only(distance, side))


def _lungs_only(distance: np.ndarray, side: np.ndarray) -> Distances:
    """Of a real chest only the lungs' surface is known."""
    return Distances(distance, distance, distance, distance, lung=distance, side=side, cavity=distance)


def _inner(slab: Slab, inner: slice) -> Slab:
    """A slab without its extra slices."""
    distance, side = slab.shape.lung[inner], slab.shape.side[inner]
    shape = _lungs_only(distance, side)
    return Slab(slab.points[:, inner], slab.body[:, inner], slab.lung[:, inner], slab.jacobian[inner], shape)


def _positions(grid: sitk.Image, where: slice) -> np.ndarray:
    """Positions (3, z, y, x), float32 mm, of some slices of a grid of any direction."""
    matrix, (columns, rows, _slices) = affine(grid), grid.GetSize()
    k, j, i = np.arange(where.start, where.stop)[:, None, None], np.arange(rows)[:, None], np.arange(columns)
    return np.stack([m[0] * i + m[1] * j + m[2] * k + m[3] for m in matrix[:3]]).astype(np.float32)


def paint(real: RealCase, slab: Slab, hu: np.ndarray) -> np.ndarray:
    """HU (z, y, x), int16, of some slices with disease painted into the lungs; nothing else changes.

    What the CT shows is parted into lung and noise by a median filter, the lung is changed, the noise put back.
    """
    case, inside = real.case, slab.shape.lung < 0
    if not inside.any():
        return hu
    lung = sample_lung(case.units, slab.lung[:, inside], slab.shape.lung[inside], slab.shape.side[inside])
    factor, added = ct.changes(real.density, real.painted, case.world, lung)
    # behind a clot that shows there is less blood
    factor = factor * (1 - case.world.blood_share * real.painted.oligaemia[lung.unit])
    mass = np.zeros_like(factor)
    if case.state.mass is not None:
        edge = float(np.mean(real.scan.ct.GetSpacing()))
        mass = np.clip(0.5 - case.state.mass.distance(lung.points) / edge, 0, 1)
    changed = (np.abs(factor - 1) > 1e-3) | (added > 1e-3) | (mass > 0)
    if not changed.any():
        return hu
    where = np.zeros(inside.shape, dtype=bool)
    where[inside] = changed
    base, noise = _without_noise(real.scan, hu, where, inside)
    density = (base + 1000) / 1000
    new = density * factor[changed] + added[changed]
    new = 1000 * np.minimum(new, np.maximum(density, 1.06)) - 1000
    new = new + mass[changed] * (ct.HU_TUMOUR - new) + noise
    result = hu.copy()
    result[where] = np.rint(np.clip(new, -1024, 3071)).astype(np.int16)
    return result


def _without_noise(scan: Scan, hu: np.ndarray, where: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lung without noise and the noise (n,), HU, at the voxels `where`; vessels count as lung."""
    box = bounding_box(where)
    width = [max(3, 2 * int(_NOISE_MEDIAN_MM / s / 2) + 1) for s in reversed(scan.ct.GetSpacing()[:2])]
    around = (box[0], *(slice(max(a.start - w, 0), a.stop + w) for a, w in zip(box[1:], width, strict=True)))
    values = hu[around].astype(np.float32)
    rest = values - median_filter(values, size=(1, *width))
    sigma = 1.4826 * float(np.median(np.abs(rest[inside[around]])))
    noise = np.clip(rest[where[around]], -_NOISE_LIMIT * sigma, _NOISE_LIMIT * sigma)
    return hu[where] - noise, noise


# --- attenuation CT ------------------------------------------------------------------------------------------------


def _write_attenuation_ct(real: RealCase, hu: np.ndarray, emission: sitk.Image, folder: Path) -> None:
    """Carry the CT to another moment of the SPECT's breathing, and write it as the camera's low-dose CT."""
    case = real.case
    grid = attenuation_grid(case, emission)
    s = case.settings["attenuation_ct"]
    model = replace(real.density, kernel=ct.KERNELS["SOFT"])
    warped = warp_to(real, hu, grid, case.attenuation_motion)
    image = ct.scan(warped, grid, s["noise_hu"], model, case.rng("attenuation ct noise"))
    protocol = dicom.CtProtocol("SMOOTH", mas=16.0, rotation_s=0.8)
    rng = case.rng("attenuation ct names")
    dicom.write_ct_series(image, folder / "attenuation_ct", case.who, "attenuation_ct", rng, case.habit, protocol)


def warp_to(real: RealCase, hu: np.ndarray, grid: sitk.Image, moved: motion.Motion) -> np.ndarray:
    """The CT (HU (z, y, x) of its grid) in another state of the SPECT's session; the lungs' mass is kept.

    Args:
        real: the case.
        hu: the painted CT.
        grid: an axial grid.
        moved: from that grid's state to the reference state.

    Returns:
        float32 HU (z, y, x) on `grid`.
    """
    scan, back, edge = real.scan, real.placed.back, float(np.mean(grid.GetSpacing()))
    coarser = _averaged(scan, hu, grid)
    body = moved.body(grid_points(grid))
    distance, _side = real.placed.chest.lung(body)
    values = scan.read(coarser, back.body(body))
    at = back.lung(moved.slide(body))
    near = distance < edge
    lung = scan.read(coarser, at[:, near])
    stretch = np.clip(motion.jacobian_determinant(at, grid.GetSpacing())[near], 0.2, 5.0)
    light = 1 - anatomy.smoothstep((lung - _SOFT_HU[0]) / (_SOFT_HU[1] - _SOFT_HU[0]))
    lung = (lung + 1000) * (1 + light * (stretch - 1)) - 1000
    values[near] += np.clip(0.5 - distance[near] / edge, 0, 1) * (lung - values[near])
    return values


def _averaged(scan: Scan, hu: np.ndarray, grid: sitk.Image) -> np.ndarray:
    """The CT averaged as much as a coarser grid needs against aliasing (see `lungs.resample_smoothed`)."""
    new = np.asarray(grid.GetSpacing())
    axes = np.abs(np.reshape(scan.ct.GetDirection(), (3, 3))).argmax(axis=0)
    old = np.asarray(scan.ct.GetSpacing())
    sigma = np.sqrt(np.maximum(new[axes] ** 2 - old**2, 0)) / 3 / old
    return gaussian_filter(hu.astype(np.float32), sigma[::-1], mode="nearest")
