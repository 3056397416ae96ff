"""One simulated case from its seed to its files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from ct2vq.errors import GeometryError
from ct2vq.files import sha256_file, write_json, write_tsv
from ct2vq.simulate import anatomy, ct, dicom, disease, function, motion, spect, territories, trees
from ct2vq.simulate.anatomy import Distances
from ct2vq.simulate.lungs import LungSample, sample_lung
from ct2vq.simulate.randomness import generator
from ct2vq.volume import from_array, make_grid, voxel_volume_ml, write_volume

COHORT_VERSION = 1
#: CT above the apices and below the costal recesses, mm
_MARGIN_MM = (28.0, 30.0)
#: share of counts that lies evenly in the body, and as much again in residual scatter
_BACKGROUND = {"perfusion": 0.02, "ventilation": 0.03}
#: scanners whose NM objects store frames from head to feet
_DESCENDING_SHARE = 1 / 3
DEFAULT_NOISE_GAIN = 6.0
#: farther from the lungs the blurred truth is 0
_TAIL_MM = 25.0
_DIAPHRAGM_LANDMARKS = 6


@dataclass
class Case:
    """A drawn case: everything random that is not noise."""

    seed: int
    case_id: str
    patient_id: str
    settings: dict
    subject: ct.Subject
    function: function.FunctionModel
    motion: motion.Motion
    identity: dicom.Identity
    descending: bool

    def rng(self, purpose: str) -> np.random.Generator:
        """The case's generator for a purpose."""
        return generator(self.seed, self.case_id, purpose)


def draw_case(case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict) -> Case:
    """Draw a case; the body depends on the patient, all else on the case.

    Raises:
        ConfigError: unknown diagnosis.
    """
    body = anatomy.draw_body(generator(seed, patient_id, "anatomy"))
    division = territories.divide_lungs(body, generator(seed, patient_id, "territories"))
    state = disease.draw_state(diagnosis, division, generator(seed, case_id, "disease"))
    tubes = generator(seed, patient_id, "trees")
    subject = ct.Subject(
        body=body,
        division=division,
        state=state,
        density=ct.draw_density(generator(seed, case_id, "density")),
        arteries=trees.grow_arteries(division, tubes),
        veins=trees.grow_veins(division, tubes),
        airways=trees.grow_airways(division, tubes),
    )
    camera = generator(seed, case_id, "camera")
    return Case(
        seed=seed,
        case_id=case_id,
        patient_id=patient_id,
        settings=settings,
        subject=subject,
        function=function.draw_function(state, generator(seed, case_id, "function")),
        motion=motion.draw_motion(body, settings["motion"], generator(seed, case_id, "motion")),
        identity=dicom.draw_identity(
            seed,
            case_id,
            patient_id,
            (body.sex, body.age, body.height_cm, body.weight_kg),
            generator(seed, patient_id, "identity"),
            generator(seed, case_id, "identity"),
        ),
        descending=bool(camera.random() < _DESCENDING_SHARE),
    )


def grid_points(grid: sitk.Image) -> np.ndarray:
    """Positions (3, z, y, x), float32 mm, of the voxels of a grid with axes along x, y, z."""
    axes = [o + s * np.arange(n) for o, s, n in zip(grid.GetOrigin(), grid.GetSpacing(), grid.GetSize(), strict=True)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([x, y, z]).astype(np.float32)


def _axial_grid(
    matrix: int, pixel_mm: float, slice_mm: float, z_low: float, z_high: float, centre_y: float
) -> sitk.Image:
    """Axial slices from `z_low` to at least `z_high`, centred at x = 0 and y = `centre_y`; positions in 0.1 mm."""
    count = int(np.ceil((z_high - z_low) / slice_mm)) + 1
    corner = -(matrix - 1) / 2 * pixel_mm
    origin = [round(v, 1) for v in (corner, centre_y + corner, z_low)]
    return make_grid((matrix, matrix, count), (pixel_mm, pixel_mm, slice_mm), origin)


def _extent(case: Case) -> tuple[float, float]:
    """Lowest and highest lung point in the SPECT state, z in mm."""
    points = anatomy.lattice(case.subject.body, 6.0)
    inside = anatomy.measure(case.subject.body, points).lung < 0
    z = points[2][inside]
    return float(z.min()), float(z.max())


def ct_grid(case: Case) -> sitk.Image:
    """The diagnostic CT's grid: the lungs in breath-hold with margins."""
    low, high = _extent(case)
    ends = np.array([[0.0, 0.0], [0.0, 0.0], [low, high]])
    shifted = ends - case.motion.offset[:, None]
    s = case.settings["ct"]
    z_low = shifted[2, 0] - case.motion.diaphragm_mm - _MARGIN_MM[1]
    return _axial_grid(s["matrix"], s["pixel_mm"], s["slice_mm"], z_low, shifted[2, 1] + _MARGIN_MM[0], 8.0)


def spect_grid(case: Case) -> sitk.Image:
    """The SPECT's grid, a cube around the lungs."""
    low, high = _extent(case)
    s = case.settings["spect"]
    n, mm = s["matrix"], s["voxel_mm"]
    origin = [round(c - (n - 1) / 2 * mm, 1) for c in (0.0, 12.0, (low + high) / 2)]
    return make_grid((n, n, n), (mm, mm, mm), origin)


def attenuation_grid(case: Case, emission: sitk.Image) -> sitk.Image:
    """The attenuation CT's grid: the lungs with wide margins inside the SPECT's field of view along z."""
    low, high = _extent(case)
    s = case.settings["attenuation_ct"]
    first, last = (
        emission.GetOrigin()[2],
        emission.GetOrigin()[2] + emission.GetSpacing()[2] * (emission.GetSize()[2] - 1),
    )
    z_low, z_high = max(first, low - 45), min(last, high + 40)
    return _axial_grid(s["matrix"], s["pixel_mm"], s["slice_mm"], z_low, z_high, 11.0)


def simulate_case(case_id: str, patient_id: str, diagnosis: str, seed: int, settings: dict, output: Path) -> None:
    """Simulate one case and write it as raw DICOM with its truth.

    Writes `dicom/{ct,attenuation_ct,perfusion,ventilation}/*.dcm`, `truth/` and `manifest.json` (path of each DICOM
    file -> SHA-256) into `output`; each appears only when complete, the manifest last.

    Args:
        case_id: the case; everything but body and identity depends on it.
        patient_id: the patient; the body and the invented identity depend on it.
        diagnosis: `normal`, `emphysema`, `embolism`, `obstruction` or `tumour`.
        seed: the study's seed.
        settings: config block `simulate`.
        output: the case's folder.

    Raises:
        ConfigError: unknown diagnosis.
        GeometryError: the drawn motion folds space.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    manifest = output / "manifest.json"
    manifest.unlink(missing_ok=True)
    for orphan in output.glob(".*.part.*"):
        shutil.rmtree(orphan, ignore_errors=True)
    case = draw_case(case_id, patient_id, diagnosis, seed, settings)
    parts = {name: output / f".{os.getpid()}.part.{name}" for name in ("dicom", "truth")}
    try:
        for part in parts.values():
            part.mkdir()
        emission = spect_grid(case)
        activity, spots = _write_spects(case, emission, parts["dicom"])
        _write_attenuation_ct(case, emission, parts["dicom"])
        _write_ct_and_truth(case, emission, activity, spots, parts["dicom"], parts["truth"])
        for name, part in parts.items():
            shutil.rmtree(output / name, ignore_errors=True)
            os.replace(part, output / name)
    finally:
        for part in parts.values():
            shutil.rmtree(part, ignore_errors=True)
    files = sorted((output / "dicom").rglob("*.dcm"))
    write_json({str(f.relative_to(output).as_posix()): sha256_file(f) for f in files}, manifest)


def _write_spects(case: Case, grid: sitk.Image, folder: Path) -> tuple[spect.Activity, list[dict]]:
    """Simulate and write both SPECT images; returns the uptake and the hot spots."""
    s, subject = case.settings["spect"], case.subject
    activity = spect.uptake(subject.division, subject.state, case.function, grid, grid_points(grid))
    deposits, spots = spect.hot_spots(subject.airways, subject.state, grid, case.rng("hot spots"))
    doses = case.rng("dose")
    for role, uptake in (("ventilation", activity.ventilation + deposits), ("perfusion", activity.perfusion)):
        image = spect.acquire(
            uptake,
            activity.body,
            grid,
            counts=s["counts"][role],
            fwhm_mm=s["fwhm_mm"],
            noise_gain=s.get("noise_gain", DEFAULT_NOISE_GAIN),
            background=_BACKGROUND[role],
            body=subject.body,
            tidal_mm=case.motion.tidal_mm,
            rng=case.rng(f"{role} noise"),
        )
        path = folder / role / f"{role}.dcm"
        factor = float(doses.uniform(0.9, 1.1))
        dicom.write_nm(image, path, case.identity, role, descending=case.descending, dose_factor=factor)
    return activity, spots


def _write_attenuation_ct(case: Case, emission: sitk.Image, folder: Path) -> None:
    """Simulate and write the camera's own CT, in the SPECT's state."""
    grid = attenuation_grid(case, emission)
    points = grid_points(grid)
    hu = ct.render(case.subject, grid, points, anatomy.measure(case.subject.body, points), None)
    noise = case.settings["attenuation_ct"]["noise_hu"]
    image = ct.scan(hu, grid, noise, case.subject.density.calibration_hu * 1.5, case.rng("attenuation ct noise"))
    dicom.write_ct_series(image, folder / "attenuation_ct", case.identity, "attenuation_ct", case.rng("ac names"))


def _write_ct_and_truth(
    case: Case, emission: sitk.Image, activity: spect.Activity, spots: list[dict], dicom_folder: Path, truth: Path
) -> None:
    """Simulate and write the diagnostic CT, and all that is known about the case on its grid."""
    grid = ct_grid(case)
    points = grid_points(grid)
    mapped = case.motion.to_spect(points)
    jacobian = motion.jacobian_determinant(mapped, grid.GetSpacing())
    if jacobian.min() <= 0:
        raise GeometryError(
            f"the motion of case {case.case_id} folds space", key="simulate.motion", hint="set smaller motion"
        )
    shape = anatomy.measure(case.subject.body, mapped)
    hu = ct.render(case.subject, grid, mapped, shape, jacobian)
    image = ct.scan(
        hu, grid, case.settings["ct"]["noise_hu"], case.subject.density.calibration_hu, case.rng("ct noise")
    )
    dicom.write_ct_series(image, dicom_folder / "ct", case.identity, "ct", case.rng("ct names"))
    displacement = sitk.GetImageFromArray(np.moveaxis(mapped - points, 0, -1), isVector=True)
    displacement.CopyInformation(grid)
    write_volume(displacement, truth / "ct_to_spect_displacement.nii.gz", "mm, LPS: p_spect = p_ct + d")
    inside = shape.lung < 0
    lung = sample_lung(case.subject.division, mapped[:, inside], shape.lung[inside], shape.side[inside])
    lungs = _write_label_truth(case, grid, mapped, shape, lung, truth)
    _write_function_truth(case, grid, mapped, shape, lung, (emission, activity), truth)
    _write_landmarks(case, truth / "landmarks.tsv")
    facts = _facts(case, grid, lungs, jacobian, activity, spots)
    facts["volumes"]["ct_mean_lung_hu"] = round(ct.mean_lung_hu(image, lungs > 0), 2)
    write_json(facts, truth / "truth.json")


def _write_label_truth(
    case: Case, grid: sitk.Image, mapped: np.ndarray, shape: Distances, lung: LungSample, truth: Path
) -> np.ndarray:
    """Write lungs, lobes, segments, territories and the disease mask; returns the lungs (z, y, x)."""
    state, inside = case.subject.state, shape.lung < 0
    affected = np.maximum(state.perfusion_loss, state.ventilation_loss)[lung.territory] > 0
    if state.diagnosis == "emphysema":
        affected |= state.emphysema(lung) > 0.3
    labels = {
        "lungs": lung.side,
        "lobes": lung.lobe,
        "segments": lung.segment,
        "territories": lung.territory,
        "disease": affected.astype(np.uint8) if state.diagnosis != "normal" else np.zeros_like(lung.side),
    }
    volumes = {}
    for name, values in labels.items():
        volumes[name] = np.zeros(inside.shape, dtype=np.uint8)
        volumes[name][inside] = values
    if state.mass is not None:
        outside = np.flatnonzero(~inside & (shape.lung < 60))
        near = state.mass.distance(mapped.reshape(3, -1)[:, outside]) < 0
        volumes["disease"].reshape(-1)[outside[near]] = 1
    for name, volume in volumes.items():
        write_volume(from_array(volume, grid), truth / f"{name}.nii.gz")
    return volumes["lungs"]


def _write_function_truth(
    case: Case,
    grid: sitk.Image,
    mapped: np.ndarray,
    shape: Distances,
    lung: LungSample,
    uptake: tuple[sitk.Image, spect.Activity],
    truth: Path,
) -> None:
    """Write noise-free function on the CT grid: sharp, at the SPECT's resolution, and the part that a CT can show.

    Values are per volume of the SPECT state (as in a resampled SPECT), relative to the lungs' mean.
    """
    subject, s = case.subject, case.settings["spect"]
    emission, activity = uptake
    inside, near = shape.lung < 0, shape.lung < _TAIL_MM
    sharp = function.regional_function(case.function, subject.state, lung)
    volumes = {}
    for name, values in zip(("perfusion", "ventilation"), sharp, strict=True):
        volumes[name] = np.zeros(inside.shape, dtype=np.float32)
        volumes[name][inside] = values / values.mean()
    blurred = {
        "perfusion_system": activity.perfusion,
        "ventilation_system": activity.ventilation,
        "perfusion_visible_system": activity.visible_perfusion,
        "ventilation_visible_system": activity.visible_ventilation,
    }
    for name, volume in blurred.items():
        image = spect.system_blur(volume, emission, s["fwhm_mm"], subject.body, case.motion.tidal_mm)
        volumes[name] = np.zeros(inside.shape, dtype=np.float32)
        volumes[name][near] = spect.read_at(image, emission, mapped[:, near])
    for name, volume in volumes.items():
        write_volume(from_array(volume, grid), truth / f"{name}.nii.gz", "relative to the lungs' mean")


def _write_landmarks(case: Case, path: Path) -> None:
    """Write pairs of positions: divisions of arteries and airways, and places in the lungs just above the diaphragm."""
    subject = case.subject
    rows = []
    nodes = {**subject.arteries.nodes, **subject.airways.nodes}
    for name, position in nodes.items():
        rows.append((name, position, name.split(",")[0] if "," in name else "mediastinum"))
    samples = subject.division.samples
    height = -anatomy.diaphragm_distance(subject.body, samples)
    for side, sign in (("right", -1), ("left", 1)):
        low = np.flatnonzero((height > 4) & (height < 12) & (sign * samples[0] > 0))
        chosen = case.rng(f"landmarks {side}").choice(low, min(_DIAPHRAGM_LANDMARKS, len(low)), replace=False)
        for k, index in enumerate(np.sort(chosen)):
            rows.append((f"{side} lung, above diaphragm {k + 1}", samples[:, index], "near diaphragm"))
    spect_mm = np.array([position for _, position, _ in rows], dtype=float).T
    ct_mm = case.motion.to_ct(spect_mm)
    table = pd.DataFrame({"name": [row[0] for row in rows]})
    for state, values in (("ct", ct_mm), ("spect", spect_mm)):
        for axis, column in zip("xyz", values, strict=True):
            table[f"{axis}_{state}_mm"] = np.round(column, 3)
    table["region"] = [row[2] for row in rows]
    write_tsv(table, path)


def _facts(
    case: Case, grid: sitk.Image, lungs: np.ndarray, jacobian: np.ndarray, activity: spect.Activity, spots: list[dict]
) -> dict:
    """The content of `truth.json`."""
    state, body, moved = case.subject.state, case.subject.body, case.motion
    ml = voxel_volume_ml(grid)
    mass = state.mass
    spect_ml = float(activity.lung.sum()) * case.settings["spect"]["voxel_mm"] ** 3 / 1000
    return {
        "cohort_version": COHORT_VERSION,
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "diagnosis": state.diagnosis,
        "severity": round(state.severity, 4),
        "affected_territories": state.affected,
        "emphysema_amount": round(state.emphysema_amount, 4),
        "mass": None
        if mass is None
        else {
            "centre_spect_mm": [round(float(v), 2) for v in mass.centre],
            "diameter_mm": round(2 * mass.radius, 1),
            "lobe": mass.lobe,
        },
        "hot_spots": spots,
        "person": {"sex": body.sex, "age": case.identity.age, "height_cm": body.height_cm, "weight_kg": body.weight_kg},
        "volumes": {
            "ct_right_ml": round(float((lungs == 1).sum()) * ml, 1),
            "ct_left_ml": round(float((lungs == 2).sum()) * ml, 1),
            "spect_ml": round(spect_ml, 1),
        },
        "motion": {
            "diaphragm_mm": round(moved.diaphragm_mm, 3),
            "tidal_mm": round(moved.tidal_mm, 3),
            "rotation": np.round(moved.rotation, 6).tolist(),
            "offset_mm": np.round(moved.offset, 3).tolist(),
            "jacobian_min": round(float(jacobian.min()), 4),
            "jacobian_max": round(float(jacobian.max()), 4),
        },
        "frames_descending": case.descending,
        "hidden_sd": function.HIDDEN_SD,
        "function_units": "relative to the mean in the lungs; per volume of the SPECT state",
        "seeds": {"seed": case.seed, "case": case.case_id, "patient": case.patient_id},
        "territories": {
            str(t.label): {"name": t.name, "lobe": t.lobe, "segment": t.segment}
            for t in case.subject.division.territories
        },
    }
