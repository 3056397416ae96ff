"""How well a CT could at best tell the SPECT of a simulated case, and how much of that is trivial.

A simulator in which a smooth function of HU and position comes near what a CT can tell would reward no network. Each
arm makes an image that is compared with the simulated SPECT, carried to the CT by the true displacement, in the true
lungs, on the grid of evaluation:

- `noise_ceiling`: the noise-free truth at the SPECT's resolution;
- `visible_ceiling`: its mean over what no CT shows;
- `inversion`: a smooth function of HU (averaged at about 10 mm) and position, fitted on a fold's test cases themselves,
  and so better than such a function can be on new patients;
- `inversion_case`: a cubic one, fitted on each case by itself. It also follows what no CT shows (this patient's
  gradients), so it may pass the visible ceiling: only what it has over `position_case` comes from the CT;
- `position`, `position_case`: the same two without HU;
- `hu_regression`, `mean_map`: the baselines of `ct2vq.baselines`, fitted on the training cases.

Positions are mm (LPS), arrays `(z, y, x)`.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from ct2vq import cohort
from ct2vq.baselines import FITS, FWHM_PER_SIGMA, HU_FWHM_MM, predict_baseline
from ct2vq.config import TARGETS
from ct2vq.convert import convert_ct, convert_spect
from ct2vq.crop.ct import crop_ct
from ct2vq.crop.spect import normalise_spect
from ct2vq.evaluate.regions import LUNGS, Regions
from ct2vq.evaluate.scores import compare_images
from ct2vq.evaluate.truth import LungInterpolator, without_hot_spots
from ct2vq.files import read_json, replacing
from ct2vq.inputs import CroppedCase
from ct2vq.lungs import SIDES, bounding_box, normalised_position, smooth_in_lungs
from ct2vq.split import assign_folds
from ct2vq.volume import read_volume, resample, to_array, to_components

#: truth volumes that are arms
CEILINGS = {"noise_ceiling": "system", "visible_ceiling": "visible_system"}
BASELINES = ("hu_regression", "mean_map")
ARMS = (*CEILINGS, "inversion", "position", *BASELINES, "inversion_case", "position_case")
METRICS = {"spearman": "Rs", "dice_low": "DSC low", "dice_high": "DSC high", "ssim": "SSIM"}
COLUMNS = ("arm", "case", "target", "reference", "metric", "value", "unit")
#: by how much the visible ceiling's mean Rs must pass an arm's (the issue that asked for the simulator)
REQUIRED_MARGINS = {"inversion": 0.10, "mean_map": 0.25}

#: random Fourier features (Rahimi and Recht, NIPS 2007): their number, and the length over which the function varies,
#: in standard deviations of HU and halves of a lung's half width. More or shorter ones gained nothing.
_FEATURES, _LENGTH = 400, 1.5
#: scale of HU (roughly the lungs' mean and spread) and of position in the features
_HU_CENTRE, _HU_SCALE, _POSITION_SCALE = -830.0, 100.0, 0.5
#: interquartile range of a normal distribution in standard deviations
_IQR_PER_SD = 1.349
#: limit of standardised HU: what lies farther out is vessel or consolidation
_HU_LIMIT = 6.0
#: next to nothing, so that the arm is as good as it can be
_RIDGE = 1e-6
#: every so-many-th voxel enters the fit: thousands remain for each coefficient
_FIT_STRIDE = 8


@dataclass(frozen=True)
class KnownCase:
    """A simulated case on the grid of evaluation, with its truth.

    Attributes:
        cropped: CT, true lungs, and the SPECT images as targets, 0..1.
        truth: `<target>_system` and `<target>_visible_system`, normalised as a SPECT is.
    """

    cropped: CroppedCase
    truth: Mapping[str, np.ndarray]


# --- a finished case on the grid of evaluation ---------------------------------------------------------------------


def read_known_case(folder: Path, settings: Mapping[str, Any]) -> KnownCase:
    """Read the DICOM of a finished `results/simulate/<case>`, and carry it by its truth.

    Args:
        folder: the case's folder with `dicom/` and `truth/`.
        settings: a configuration; its blocks `convert` and `crop` are used.

    Raises:
        Ct2vqError: the case is not finished.
        GeometryError: the CT and its truth do not share a grid.
    """
    truth = folder / "truth"
    facts, lungs = read_json(truth / "truth.json"), read_volume(truth / "lungs.nii.gz")
    with tempfile.TemporaryDirectory() as temporary:
        volumes = {name: _converted(folder, name, Path(temporary), settings) for name in ("ct", *TARGETS)}
    small = crop_ct(volumes["ct"], lungs, settings["crop"])
    grid = small.lungs
    at = LungInterpolator(lungs, grid)
    displacement = at(read_volume(truth / "ct_to_spect_displacement.nii.gz"))
    names = [f"{target}_{kind}" for target in TARGETS for kind in CEILINGS.values()]
    images = {name: at(read_volume(truth / f"{name}.nii.gz")) for name in names}
    for target in TARGETS:
        images[target] = carry(volumes[target], grid, displacement, facts["motion"]["shift_mm"][target])
    labels, spacing = to_array(grid), float(grid.GetSpacing()[0])
    known = without_hot_spots(settings["crop"]["spect"])
    for name, image in images.items():
        measured = name in TARGETS
        images[name] = normalise_spect(image, labels > 0, spacing, settings["crop"]["spect"] if measured else known)[0]
    targets = {target: images.pop(target) for target in TARGETS}
    cropped = CroppedCase(
        folder.name,
        to_array(small.ct),
        to_array(small.enhanced),
        to_components(small.texture),
        labels,
        spacing,
        targets,
    )
    return KnownCase(cropped, images)


def _converted(folder: Path, name: str, temporary: Path, settings: Mapping[str, Any]) -> sitk.Image:
    """A volume of a case as the stage `convert` reads it."""
    source, volume, sidecar = folder / "dicom" / name, temporary / f"{name}.nii.gz", temporary / f"{name}.json"
    if name == "ct":
        convert_ct(source, volume, sidecar, settings["convert"], folder.name)
    else:
        convert_spect(source, volume, sidecar, settings["convert"], folder.name, name)
    return read_volume(volume)


def carry(spect: sitk.Image, grid: sitk.Image, displacement: np.ndarray, shift_mm: Sequence[float]) -> np.ndarray:
    """A SPECT on a grid in one interpolation: `p_spect = p_ct + displacement + shift`.

    Args:
        spect: the SPECT.
        grid: the grid of evaluation.
        displacement: `(z, y, x, 3)` on that grid, mm, from the CT to the SPECT's mean state.
        shift_mm: how far the patient lay from there in this scan.

    Returns:
        float32 `(z, y, x)`.
    """
    total = displacement.astype(np.float64) + np.asarray(shift_mm, dtype=float)
    field = sitk.GetImageFromArray(total, isVector=True)
    field.CopyInformation(grid)
    return to_array(resample(sitk.Cast(spect, sitk.sitkFloat32), grid, sitk.DisplacementFieldTransform(field)))


def group_of(facts: Mapping[str, Any]) -> str:
    """A case's group from its `truth.json`: the diagnosis; of embolism also whether most of the loss shows."""
    if facts["diagnosis"] != "embolism":
        return facts["diagnosis"]
    lost = {True: 0.0, False: 0.0}
    for finding in facts["findings"]:
        if finding["kind"] == "embolus":
            lost[finding["visible_on_ct"]] += finding["volume_ml"] * finding["perfusion_loss"]
    return "embolism, mostly visible" if lost[True] >= lost[False] else "embolism, mostly invisible"


class StoredCases(Sequence[CroppedCase]):
    """Cases that are read from their files whenever they are asked for: a cohort never lies in memory as a whole."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> CroppedCase:
        return read_stored(self.files[index]).cropped


def store(case: KnownCase, folder: Path) -> Path:
    """Keep a case in a file that this process family reads again."""
    path = folder / f"{case.cropped.case_id}.pickle"
    with replacing(path) as temporary:
        temporary.write_bytes(pickle.dumps(case, protocol=pickle.HIGHEST_PROTOCOL))
    return path


def read_stored(path: Path) -> KnownCase:
    """A case kept by `store`."""
    return pickle.loads(path.read_bytes())


# --- the arms ------------------------------------------------------------------------------------------------------


def without_hu(case: CroppedCase) -> CroppedCase:
    """The case as if its CT showed the same everywhere."""
    return replace(case, hu=np.zeros_like(case.hu))


def fit_smooth_function(cases: Sequence[CroppedCase]) -> np.ndarray:
    """The smooth function of HU and position that fits the targets of these cases best; voxels weigh the same.

    Returns:
        coefficients (terms, targets) of `_terms`.
    """
    products: np.ndarray | float = 0.0
    responses: np.ndarray | float = 0.0
    for case in cases:
        terms = _terms(_inputs(case)[::_FIT_STRIDE]).astype(np.float64)
        images = np.stack([case.targets[target][case.inside][::_FIT_STRIDE] for target in TARGETS], axis=1)
        products = products + terms.T @ terms
        responses = responses + terms.T @ images
    voxels = products[0, 0]
    return np.linalg.solve(products / voxels + _RIDGE * np.eye(len(products)), responses / voxels)


def predict_smooth_function(coefficients: np.ndarray, case: CroppedCase) -> dict[str, np.ndarray]:
    """The images (z, y, x) that the function gives for a case, 0..1 in the lungs and 0 outside."""
    values = np.clip(_terms(_inputs(case)) @ coefficients.astype(np.float32), 0, 1)
    images = {}
    for column, target in enumerate(TARGETS):
        images[target] = np.zeros(case.lungs.shape, dtype=np.float32)
        images[target][case.inside] = values[:, column]
    return images


def _inputs(case: CroppedCase) -> np.ndarray:
    """HU averaged at 10 mm, the same relative to the case's own median and spread, position, side; (voxel, 6)."""
    sigma = HU_FWHM_MM / FWHM_PER_SIGMA / case.spacing_mm
    hu = smooth_in_lungs(case.hu, case.inside, sigma)[case.inside].astype(np.float64)
    low, middle, high = np.percentile(hu, [25, 50, 75])
    own = (hu - middle) / (max(high - low, 1.0) / _IQR_PER_SD)
    position = normalised_position(case.lungs)[:, case.inside] / _POSITION_SCALE
    side = np.where(case.lungs[case.inside] == SIDES[0], 1.0, -1.0)
    densities = [np.clip(value, -_HU_LIMIT, _HU_LIMIT) for value in ((hu - _HU_CENTRE) / _HU_SCALE, own)]
    return np.stack([*densities, *position, side], axis=1).astype(np.float32)


def _terms(inputs: np.ndarray) -> np.ndarray:
    """A constant, the inputs, and random Fourier features of them: a fit on these is one with a Gaussian kernel."""
    rng = np.random.default_rng(0)
    frequencies = (rng.normal(size=(inputs.shape[1], _FEATURES)) / _LENGTH).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, _FEATURES).astype(np.float32)
    waves = np.cos(inputs @ frequencies + phases)
    return np.concatenate([np.ones((len(inputs), 1), dtype=np.float32), inputs, waves], axis=1)


def fold_images(
    training: Sequence[CroppedCase], test: Sequence[KnownCase]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Each arm's image of each test case and target: arm, case, target and image (z, y, x)."""
    cropped = [known.cropped for known in test]
    blind = [without_hu(case) for case in cropped]
    baselines = {kind: FITS[kind](training, TARGETS) for kind in BASELINES}
    pooled = {"inversion": fit_smooth_function(cropped), "position": fit_smooth_function(blind)}
    for known, case, flat in zip(test, cropped, blind, strict=True):
        seen = {"inversion": case, "position": flat}
        images = {arm: predict_smooth_function(fitted, seen[arm]) for arm, fitted in pooled.items()}
        for arm, kind in CEILINGS.items():
            images[arm] = {target: known.truth[f"{target}_{kind}"] for target in TARGETS}
        for arm, own in (("inversion_case", case), ("position_case", flat)):
            tensors = FITS["hu_regression"]([own], TARGETS)
            images[arm] = {t: predict_baseline("hu_regression", tensors, own, t) for t in TARGETS}
        for kind, tensors in baselines.items():
            images[kind] = {t: predict_baseline(kind, tensors, case, t) for t in TARGETS}
        for arm in ARMS:
            for target in TARGETS:
                yield arm, case.case_id, target, images[arm][target]


# --- the table and what follows from it ----------------------------------------------------------------------------


def folds_of(facts: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, int]:
    """Fold of each case, dealt by patient as the stage `split` does, from the cases' `truth.json`.

    Raises:
        ConfigError: fewer patients than folds.
    """
    split = settings["split"]
    cases = [
        cohort.Case(case_id, known["patient_id"], {}, attributes={"diagnosis": known["diagnosis"]})
        for case_id, known in facts.items()
    ]
    return assign_folds(cases, split["folds"], settings["seed"], split["stratify_by"])


def measure_fold(training: Sequence[Path], test: Sequence[Path], settings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows (`COLUMNS`) of all arms on a fold's test cases.

    Args:
        training: stored cases that the baselines learn from.
        test: stored cases that are measured.
        settings: a configuration; its block `evaluate` is used, of the function's thresholds the first.
    """
    thresholds = settings["evaluate"]["function_thresholds"][:1]
    evaluation = settings["evaluate"] | {"function_thresholds": thresholds, "threshold_curve": []}
    known = [read_stored(path) for path in test]
    cases = {one.cropped.case_id: one.cropped for one in known}
    rows = []
    for arm, case_id, target, image in fold_images(StoredCases(training), known):
        case = cases[case_id]
        # the metrics look at nothing outside the lungs
        box = bounding_box(case.inside)
        lungs = Regions({LUNGS: case.inside[box]}, case.spacing_mm)
        facts = compare_images(image[box], case.targets[target][box], lungs, evaluation)
        rows += [
            (arm, case_id, target, "spect", fact["metric"], float(f"{fact['value']:.4g}"), fact["unit"])
            for fact in facts
            if fact["metric"] in METRICS and fact["region"] == LUNGS
        ]
    return rows


def mean_metrics(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Mean over cases: a row for each arm, a column for each metric (by its short name)."""
    chosen = table[table["target"] == target]
    means = chosen.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    return means.reindex(index=ARMS, columns=list(METRICS)).rename(columns=METRICS)


def mean_by_group(table: pd.DataFrame, groups: Mapping[str, str], target: str) -> pd.DataFrame:
    """Mean Rs: a row for each group of cases with its number `n`, a column for each arm."""
    chosen = table[(table["target"] == target) & (table["metric"] == "spearman")]
    wide = chosen.pivot(index="case", columns="arm", values="value")[list(ARMS)]
    grouped = wide.groupby(pd.Series(groups, name="group").reindex(wide.index))
    means = grouped.mean()
    means.insert(0, "n", grouped.size())
    return means


def margins(table: pd.DataFrame) -> pd.DataFrame:
    """By how much the visible ceiling passes the arms that it must pass.

    Returns:
        columns `target`, `arm`, `margin` (mean over cases of the difference in Rs), `error` (its standard error),
        `required`, `reached`.
    """
    rows = []
    for target in TARGETS:
        chosen = table[(table["target"] == target) & (table["metric"] == "spearman")]
        wide = chosen.pivot(index="case", columns="arm", values="value")
        for arm, required in REQUIRED_MARGINS.items():
            difference = wide["visible_ceiling"] - wide[arm]
            margin = float(difference.mean())
            rows.append((target, arm, margin, float(difference.sem()), required, margin >= required))
    return pd.DataFrame(rows, columns=["target", "arm", "margin", "error", "required", "reached"])
