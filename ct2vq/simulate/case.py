"""One simulated case from its seed to its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import GeometryError
from ct2vq.files import sha256_file, write_json
from ct2vq.simulate import anatomy, ct, dicom, disease, function, identity, motion, spect, truth, units
from ct2vq.simulate.anatomy import Distances
from ct2vq.simulate.chest import Chest, DrawnChest
from ct2vq.simulate.randomness import generator
from ct2vq.simulate.world import WORLDS, World
from ct2vq.volume import make_grid

#: CT above the apices and below the costal recesses, mm
_MARGIN_MM = (28.0, 30.0)
#: voxels of a CT that are worked on at once: memory stays low whatever the matrix
_SLAB_VOXELS = 1_500_000
TARGETS = ("ventilation", "perfusion")


@dataclass(frozen=True)
class Case:
    """A drawn case: everything random that is not noise."""

    seed: int
    case_id: str
    patient_id: str
    settings: dict
    world: World
    chest: Chest
    units: units.Units
    state: disease.LungState
    model: function.FunctionModel
    function: function.Function
    visible: function.Function
    motion: motion.Motion
    attenuation_motion: motion.Motion
    shifts: dict[str, motion.Shift]
    protocol: spect.Protocol
    spots: list[spect.HotSpot]
    who: identity.Identity
    habit: dicom.Habit
    subject: ct.Subject | None

    def rng(self, purpose: str) -> np.random.Generator:
        """The case's generator for a purpose."""
        return generator(self.seed, self.case_id, purpose)


def draw_case(case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict) -> Case:
    """Draw a case with a drawn body; the body depends on the patient, all else on the case.

    Raises:
        ConfigError: unknown diagnosis.
    """
    disease.require_known(diagnosis)
    body = anatomy.draw_body(generator(seed, patient_id, "anatomy"))
    chest = DrawnChest(body, disease.draw_effusions(diagnosis, body, generator(seed, case_id, "effusion")))
    divided = units.divide_lungs(DrawnChest(body), generator(seed, patient_id, "units"))
    person = (body.sex, body.age, body.height_cm, body.weight_kg)
    case = draw_function_part(case_id, patient_id, diagnosis, seed, settings, chest, divided, person)
    density = ct.draw_density(
        float(divided.volume_ml.sum()), case.world, settings["ct"], generator(seed, case_id, "density")
    )
    subject = ct.Subject(chest, case.units, case.state, density, case.world)
    return replace(case, subject=subject)


@dataclass(frozen=True)
class Known:
    """What is settled before function is drawn: the regional state, what of it the CT shows, the breath-hold."""

    state: disease.LungState
    shown: disease.LungState
    motion: motion.Motion


def draw_function_part(
    case_id: str,
    patient_id: str,
    diagnosis: str,
    seed: int,
    settings: dict,
    chest: Chest,
    divided: units.Units,
    person: tuple[str, int, float, float],
    known: Known | None = None,
) -> Case:
    """Draw everything of a case but the density of its lungs: disease, function, motion, scans, identity.

    Args:
        case_id: the case.
        patient_id: the patient.
        diagnosis: the primary diagnosis.
        seed: the study's seed.
        settings: config block `simulate`.
        chest: the chest in the reference state, with the fluid in it.
        divided: the lungs' units.
        person: sex, age, height in cm, weight in kg.
        known: what a real CT leaves no choice in; None: all is drawn.

    Raises:
        ConfigError: unknown diagnosis.
    """

    def rng(purpose: str) -> np.random.Generator:
        return generator(seed, case_id, purpose)

    world = WORLDS[settings["world"]]
    divided = units.within(divided, chest) if getattr(chest, "effusions", ()) else replace(divided, chest=chest)
    if known is None:
        state = disease.draw_state(diagnosis, divided, world, settings["disease"], rng("disease"))
        known = Known(state, state, motion.draw_motion(chest, settings["motion"], rng("motion")))
    state = known.state
    model = function.draw_function(divided, world, state, rng("function"))
    redrawn = disease.Patient(divided, world, settings["disease"], rng("what no CT shows"))
    names = sorted(settings["habits"])
    weights = np.array([settings["habits"][name] for name in names], dtype=float)
    return Case(
        seed=seed,
        case_id=case_id,
        patient_id=patient_id,
        settings=settings,
        world=world,
        chest=chest,
        units=divided,
        state=state,
        model=model,
        function=function.regional_function(model, state, divided, world),
        visible=function.visible_function(redrawn, known.shown, settings["diagnoses"]),
        motion=known.motion,
        attenuation_motion=motion.draw_attenuation_motion(chest, settings["motion"], rng("attenuation motion")),
        shifts=motion.draw_shifts(settings["motion"], rng("shifts")),
        protocol=spect.draw_protocol(settings["spect"], rng("protocol")),
        spots=spect.draw_hot_spots(divided, state, rng("hot spots")),
        who=identity.draw_identity(
            seed, case_id, patient_id, person, generator(seed, patient_id, "identity"), rng("sessions")
        ),
        habit=dicom.HABITS[str(rng("camera").choice(names, p=weights / weights.sum()))],
        subject=None,
    )


def grid_points(grid: sitk.Image) -> np.ndarray:
    """Positions (3, z, y, x), float32 mm, of the voxels of a grid with axes along x, y, z."""
    axes = [o + s * np.arange(n) for o, s, n in zip(grid.GetOrigin(), grid.GetSpacing(), grid.GetSize(), strict=True)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([x, y, z]).astype(np.float32)


def _axial_grid(
    matrix: int, pixel_mm: float, slice_mm: float, z_low: float, z_high: float, centre: tuple[float, float]
) -> sitk.Image:
    """Axial slices from `z_low` to at least `z_high` around a centre (x, y); positions in 0.1 mm."""
    count = int(np.ceil((z_high - z_low) / slice_mm)) + 1
    corner = -(matrix - 1) / 2 * pixel_mm
    origin = [round(v, 1) for v in (centre[0] + corner, centre[1] + corner, z_low)]
    return make_grid((matrix, matrix, count), (pixel_mm, pixel_mm, slice_mm), origin)


def lung_extent(chest: Chest) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) of the lungs' box in the reference state, mm."""
    points = chest.lattice(6.0)
    inside = chest.lung(points)[0] < 0
    return points[:, inside].min(axis=1), points[:, inside].max(axis=1)


def ct_grid(case: Case) -> sitk.Image:
    """The diagnostic CT's grid: the lungs in breath-hold with margins."""
    low, high = lung_extent(case.chest)
    s = case.settings["ct"]
    z_low = low[2] - case.motion.offset[2] - case.motion.diaphragm_mm - _MARGIN_MM[1]
    z_high = high[2] - case.motion.offset[2] + _MARGIN_MM[0]
    return _axial_grid(s["matrix"], s["pixel_mm"], s["slice_mm"], z_low, z_high, (0.0, 8.0))


def spect_grid(case: Case) -> sitk.Image:
    """The SPECT's grid, a cube around the lungs."""
    low, high = lung_extent(case.chest)
    s = case.settings["spect"]
    n, mm = s["matrix"], s["voxel_mm"]
    middle = ((low[0] + high[0]) / 2, case.chest.middle_y + 12.0, (low[2] + high[2]) / 2)
    origin = [round(float(c) - (n - 1) / 2 * mm, 1) for c in middle]
    return make_grid((n, n, n), (mm, mm, mm), origin)


def attenuation_grid(case: Case, emission: sitk.Image) -> sitk.Image:
    """The attenuation CT's grid: the lungs with wide margins inside the SPECT's field of view along z."""
    low, high = lung_extent(case.chest)
    s = case.settings["attenuation_ct"]
    first, step, count = emission.GetOrigin()[2], emission.GetSpacing()[2], emission.GetSize()[2]
    z_low, z_high = max(first, low[2] - 45), min(first + step * (count - 1), high[2] + 40)
    centre = (float(low[0] + high[0]) / 2, case.chest.middle_y + 11.0)
    return _axial_grid(s["matrix"], s["pixel_mm"], s["slice_mm"], z_low, z_high, centre)


def simulate_case(case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict, output: Path) -> None:
    """Simulate one case and write it as raw DICOM with its truth.

    Writes `dicom/{ct,attenuation_ct,perfusion,ventilation}/*.dcm`, `truth/` and `manifest.json` (path of each DICOM
    file -> SHA-256) into `output`; each appears only when complete, the manifest last.

    Args:
        case_id: the case; everything but body and identity depends on it.
        patient_id: the patient; the body and the invented identity depend on it.
        diagnosis: one of `disease.DISEASES`.
        seed: the study's seed.
        settings: config block `simulate`.
        output: the case's folder.

    Raises:
        ConfigError: unknown diagnosis; `osem` without PyTomography.
        GeometryError: the drawn motion folds space.
    """
    case = draw_case(case_id, patient_id, diagnosis, seed, settings)
    with complete_parts(Path(output)) as parts:
        emission = spect_grid(case)
        images = write_spects(case, emission, parts["dicom"])
        _write_attenuation_ct(case, emission, parts["dicom"])
        _write_ct_and_truth(case, emission, images, parts["dicom"], parts["truth"])


@contextmanager
def complete_parts(output: Path) -> Iterator[dict[str, Path]]:
    """Folders for `dicom` and `truth` that take their names only when both are complete; then comes the manifest."""
    output.mkdir(parents=True, exist_ok=True)
    manifest = output / "manifest.json"
    manifest.unlink(missing_ok=True)
    for orphan in output.glob(".*.part.*"):
        shutil.rmtree(orphan, ignore_errors=True)
    folders = {name: output / f".{os.getpid()}.part.{name}" for name in ("dicom", "truth")}
    try:
        for folder in folders.values():
            folder.mkdir()
        yield folders
        for name, folder in folders.items():
            shutil.rmtree(output / name, ignore_errors=True)
            os.replace(folder, output / name)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    files = sorted((output / "dicom").rglob("*.dcm"))
    write_json({f.relative_to(output).as_posix(): sha256_file(f) for f in files}, manifest)


def write_spects(case: Case, grid: sitk.Image, folder: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Simulate and write both SPECT images.

    Returns:
        images (z, y, x) at the system's resolution without noise, each with the scan in whose position it lies:
        `<target>_system` and `<target>_visible_system`.
    """
    s, truths = case.settings["spect"], {}
    values = {"perfusion": case.function.perfusion, "ventilation": case.function.ventilation}
    visible = {"perfusion": case.visible.perfusion, "ventilation": case.visible.ventilation}
    for target in TARGETS:
        shift = case.shifts[target]
        points = shift.to_reference(grid_points(grid))
        lung = spect.shares_of_lung(case.units, grid, points)
        volumes = {name: spect.uptake(values[name], lung, grid) for name in TARGETS}
        volumes["ventilation"] += spect.deposit(case.spots, grid, shift.to_scan)
        share = case.protocol.shine_through if target == "perfusion" else 0.0
        parts = [(volumes[target], 1 - share)] + ([(volumes["ventilation"], share)] if share else [])
        image = _acquire(case, parts, grid, points, target)
        dicom.write_spect(image, folder / target, case.who, target, case.habit, case.protocol.scans[target])
        for name, uptake in (("system", values[target]), ("visible_system", visible[target])):
            sharp = spect.uptake(uptake, lung, grid)
            blurred = spect.system_blur(sharp, grid, s["fwhm_mm"], case.chest, case.protocol.tidal_mm)
            truths[f"{target}_{name}"] = (blurred, target)
    return truths


def _acquire(
    case: Case, parts: list[tuple[np.ndarray, float]], grid: sitk.Image, points: np.ndarray, target: str
) -> sitk.Image:
    """One SPECT in the set fidelity."""
    s = case.settings["spect"]
    body = (case.chest.skin(points) < 0).astype(np.float32)
    common = {
        "body": body,
        "background": spect.BACKGROUND[target],
        "counts": s["counts"][target],
        "chest": case.chest,
        "tidal_mm": case.protocol.tidal_mm,
        "rng": case.rng(f"{target} noise"),
    }
    if s["fidelity"] == "osem":
        true, known = _attenuation_maps(case, grid, points, target)
        return spect.acquire_osem(parts, grid, attenuation=true, known=known, **common)
    residue = spect.attenuation_residue(case.chest, points, case.protocol.residue[target])
    return spect.acquire_psf(parts, grid, residue=residue, fwhm_mm=s["fwhm_mm"], **common)


def _attenuation_maps(case: Case, grid: sitk.Image, points: np.ndarray, target: str) -> tuple[np.ndarray, np.ndarray]:
    """HU (z, y, x) on the SPECT grid in the scan's state, and as the camera's own CT shows it there."""
    if case.subject is None:
        raise GeometryError("`osem` needs a drawn body", key="simulate.spect.fidelity", hint="use `psf` on a real CT")
    true = ct.render(case.subject, grid, points, points, case.subject.chest.measure(points), None, contrast=False)
    moved = grid_points(grid)
    body, lung = case.attenuation_motion.body(moved), case.attenuation_motion.lung(moved)
    shape = case.subject.chest.measure(body)
    known = ct.render(case.subject, grid, body, lung, shape, None, contrast=False)
    return true, known


def slabs(grid: sitk.Image) -> Iterator[tuple[slice, sitk.Image, slice]]:
    """A grid in slabs of slices: the slab, its grid with a slice more at each inner face, and the slab within that."""
    columns, rows, slices = grid.GetSize()
    thick = max(1, _SLAB_VOXELS // (columns * rows))
    for first in range(0, slices, thick):
        last = min(first + thick, slices)
        low, high = max(first - 1, 0), min(last + 1, slices)
        origin = grid.TransformIndexToPhysicalPoint((0, 0, low))
        part = make_grid((columns, rows, high - low), grid.GetSpacing(), origin)
        yield slice(first, last), part, slice(first - low, last - low)


@dataclass(frozen=True)
class Slab:
    """Some slices of a CT: where its voxels lie in the reference state, as body and as lung, and what is there."""

    points: np.ndarray
    body: np.ndarray
    lung: np.ndarray
    jacobian: np.ndarray
    shape: Distances


def map_slab(moved: motion.Motion, grid: sitk.Image, chest: DrawnChest, case_id: str) -> Slab:
    """Map a grid to the reference state.

    Raises:
        GeometryError: the motion folds space.
    """
    points = grid_points(grid)
    body = moved.body(points)
    lung = moved.slide(body)
    jacobian = motion.jacobian_determinant(lung, grid.GetSpacing())
    shape = chest.measure(body)
    if jacobian[shape.lung < 0].size and jacobian[shape.lung < 0].min() <= 0:
        raise GeometryError(
            f"the motion of case {case_id} folds space", key="simulate.motion", hint="set smaller motion"
        )
    return Slab(points, body, lung, jacobian, shape)


def _write_attenuation_ct(case: Case, emission: sitk.Image, folder: Path) -> None:
    """Simulate and write the camera's own CT: low dose, some other moment of quiet breathing."""
    grid = attenuation_grid(case, emission)
    hu = np.concatenate([h for _slab, h, _where in rendered(case, grid, case.attenuation_motion, contrast=False)])
    s = case.settings["attenuation_ct"]
    scanner = ct.draw_calibration(case.rng("attenuation ct scanner"))
    model = replace(case.subject.density, kernel=ct.KERNELS["SOFT"], **scanner)
    image = ct.scan(hu, grid, s["noise_hu"], model, case.rng("attenuation ct noise"))
    protocol = dicom.CtProtocol("SMOOTH", mas=16.0, rotation_s=0.8)
    rng = case.rng("attenuation ct names")
    dicom.write_ct_series(image, folder / "attenuation_ct", case.who, "attenuation_ct", rng, case.habit, protocol)


def rendered(
    case: Case, grid: sitk.Image, moved: motion.Motion, *, contrast: bool
) -> Iterator[tuple[Slab, np.ndarray, slice]]:
    """Noise-free HU of a CT, slab by slab: the slab without the extra slices, its HU, its place among the slices."""
    for where, part, inner in slabs(grid):
        slab = map_slab(moved, part, case.subject.chest, case.case_id)
        slab = _trimmed(slab, inner)
        own = make_grid((*part.GetSize()[:2], where.stop - where.start), part.GetSpacing(), (0, 0, 0))
        hu = ct.render(case.subject, own, slab.body, slab.lung, slab.shape, slab.jacobian, contrast=contrast)
        yield slab, hu, where


def _trimmed(slab: Slab, inner: slice) -> Slab:
    """A slab without its extra slices."""
    shape = Distances(**{name: values[inner] for name, values in slab.shape.__dict__.items()})
    return Slab(slab.points[:, inner], slab.body[:, inner], slab.lung[:, inner], slab.jacobian[inner], shape)


def _write_ct_and_truth(
    case: Case, emission: sitk.Image, images: dict[str, tuple[np.ndarray, str]], dicom_folder: Path, folder: Path
) -> None:
    """Simulate and write the diagnostic CT, and all that is known about the case on its grid."""
    grid = ct_grid(case)
    hu = np.empty(tuple(reversed(grid.GetSize())), dtype=np.float32)
    known = truth.Truth(case, grid, emission, images)
    for slab, values, where in rendered(case, grid, case.motion, contrast=True):
        hu[where] = values
        known.add(slab, where)
    density, s = case.subject.density, case.settings["ct"]
    image = ct.scan(hu, grid, s["noise_hu"], density, case.rng("ct noise"))
    agent = "iodine" if density.contrast_hu else None
    protocol = dicom.CtProtocol(density.kernel.name, contrast_agent=agent)
    dicom.write_ct_series(image, dicom_folder / "ct", case.who, "ct", case.rng("ct names"), case.habit, protocol)
    known.write(folder, image)
