"""How believable the simulated cohort is: its figures, measured as the publications measured theirs, beside those.

Published values stand in `resources/published_lungs.tsv`, each with its source. A measurement is named by quantity,
target and where it was `seen`:

- `drawn`: a case as it was drawn (`case.draw_case`): terminal units of about 1 mL and the reference state, which is
  the mean of quiet breathing. No noise, no blur.
- `ct`, `spect`: the DICOM that was written, read back, in the lungs of the truth.
- `camera`: a point and uniform lungs, imaged by the fast fidelity.

Lengths are mm (LPS: +y back, +z head), volumes mL, arrays of volumes (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt, map_coordinates, uniform_filter
from scipy.optimize import curve_fit

from ct2vq.convert import convert_ct, convert_spect
from ct2vq.files import read_json, read_tsv
from ct2vq.simulate import ct, motion, spect
from ct2vq.simulate.case import Case, grid_points, spect_grid
from ct2vq.simulate.function import regional_function
from ct2vq.simulate.lungs import sample_units
from ct2vq.simulate.trees import Tree
from ct2vq.simulate.units import FIRST_SEGMENTAL
from ct2vq.volume import make_grid, read_volume, require_same_grid, to_array, voxel_volume_ml

#: (quantity, target or "", where it was seen)
Key = tuple[str, str, str]
LOBES = ("rul", "rml", "rll", "lul", "lll")
TARGETS = ("perfusion", "ventilation")
#: density of blood and tissue, g/mL (ICRP Publication 89)
_TISSUE_DENSITY = 1.05
_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
#: lattice on which volumes and HU of drawn cases are counted, mm
_STEP_MM = 4.0
#: lung deeper than this under the pleura is free of the blur of its edge, mm
CORE_MM = 10.0
#: arteries thinner than this (radius, mm) are not told apart on a CT
_VISIBLE_ARTERY_MM = 1.0
#: a clump in an airway counts as a hot spot if its peak in the finished image exceeds the lungs' mean so many times
HOT_SPOT_TIMES = 2.0
#: counts of the simulated point: its peak stays within 16 bits
_POINT_COUNTS = 4.0e5

# --- weighted statistics -------------------------------------------------------------------------------------------


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def half_excess(values: np.ndarray, weights: np.ndarray, coordinate: np.ndarray, side: np.ndarray) -> float:
    """How much larger the mean is in the half of higher coordinate, in per cent of the other half's mean.

    Each lung is cut into halves of equal volume, as SPECT studies compare half lungs per volume.

    Args:
        values: (n,) function per volume.
        weights: (n,) volumes.
        coordinate: (n,) along which to cut.
        side: (n,) 1 right, 2 left.
    """
    upper = np.zeros(len(values), dtype=bool)
    for number in np.unique(side):
        here = side == number
        upper[here] = coordinate[here] > weighted_median(coordinate[here], weights[here])
    high, low = (np.average(values[part], weights=weights[part]) for part in (upper, ~upper))
    return float(100 * (high / low - 1))


def slope_per_cm(values: np.ndarray, weights: np.ndarray, position_mm: np.ndarray) -> float:
    """Weighted least-squares slope of `values` (n,) over `position_mm` (n,), per centimetre."""
    x = position_mm / 10 - np.average(position_mm / 10, weights=weights)
    y = values - np.average(values, weights=weights)
    return float(np.average(x * y, weights=weights) / np.average(x * x, weights=weights))


def correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    """Weighted Pearson correlation of (n,) and (n,)."""
    a, b = a - np.average(a, weights=weights), b - np.average(b, weights=weights)
    covariance, *spread = (np.average(p, weights=weights) for p in (a * b, a * a, b * b))
    return float(covariance / np.sqrt(spread[0] * spread[1]))


def _variation(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted standard deviation over mean."""
    mean = np.average(values, weights=weights)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=weights)) / mean)


def third_ratio(values: np.ndarray, weights: np.ndarray, position: np.ndarray, side: np.ndarray) -> float:
    """Mean of the third of highest position over that of the lowest, thirds of each lung's extent."""
    low, high = np.zeros(len(values), dtype=bool), np.zeros(len(values), dtype=bool)
    for number in np.unique(side):
        here = side == number
        first, last = position[here].min(), position[here].max()
        low |= here & (position < first + (last - first) / 3)
        high |= here & (position > last - (last - first) / 3)
    return float(np.average(values[high], weights=weights[high]) / np.average(values[low], weights=weights[low]))


# --- drawn cases ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DrawnCase:
    """Figures of one drawn case: `values` by key, and for each lobe (5,) density (g/mL) and function (lung mean 1)."""

    values: dict[Key, float]
    lobes: dict[str, np.ndarray] = field(default_factory=dict)


def measure_drawn(case: Case) -> DrawnCase:
    """All figures of a drawn case with a drawn body; its diagnostic CT's state is taken as the inspiration."""
    tidal, held = lung_volumes(case, None), lung_volumes(case, case.motion)
    values: dict[Key, float] = {}
    parts = (
        volume_figures(case, tidal, held),
        density_figures(case, float(held.sum())),
        function_figures(case),
        embolism_figures(case),
        airway_figures(case.units.airways),
        artery_figures(case.units.arteries),
        session_figures(case),
        hot_spot_figures(case),
        disease_figures(case),
    )
    for part in parts:
        for (quantity, target), value in part.items():
            values[quantity, target, "drawn"] = value
    values["airway_segments", "", "drawn"] = float(len(case.units.segment_names))
    return DrawnCase(values, lobar_means(case))


Figures = dict[tuple[str, str], float]


def lung_volumes(case: Case, moved: motion.Motion | None) -> np.ndarray:
    """Volume of each lobe (5,) in mL in a scan's state (the reference state if None), counted on a 4 mm lattice."""
    points = case.chest.lattice(_STEP_MM)
    if moved is not None:
        extra = int(np.ceil((moved.diaphragm_mm + np.abs(moved.offset).max() + 15) / _STEP_MM))
        points = _extended(points, extra)
        body = moved.body(points)
        lung, inside = moved.slide(body), case.chest.lung(body)[0] < 0
    else:
        body = lung = points
        inside = case.chest.lung(points)[0] < 0
    side = case.chest.lung(body[:, inside])[1]
    lobe = case.units.lobe[case.units.at(lung[:, inside], side)]
    return np.bincount(lobe, minlength=6)[1:6] * _STEP_MM**3 / 1000


def _extended(points: np.ndarray, extra: int) -> np.ndarray:
    """A lattice (3, z, y, x) with `extra` more points at all faces: breath-holds reach beyond the reference state."""
    axes = []
    for axis, line in enumerate((points[0, 0, 0, :], points[1, 0, :, 0], points[2, :, 0, 0])):
        more = 4 if axis < 2 else extra
        step = np.float32(_STEP_MM)
        axes.append(np.arange(line[0] - more * step, line[-1] + (more + 0.5) * step, step, dtype=np.float32))
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([x, y, z])


def volume_figures(case: Case, tidal: np.ndarray, held: np.ndarray) -> Figures:
    """Volumes and shares (in inspiration, as volumetry reports them), and the diaphragm's way.

    The excursion of a deep breath starts from the end of a quiet expiration, half a quiet breath below the mean.
    """
    figures: Figures = {
        ("lung_volume_tidal", ""): float(tidal.sum()),
        ("lung_volume_inspiration", ""): float(held.sum()),
        ("right_lung_volume_share", ""): float(100 * held[:3].sum() / held.sum()),
        ("diaphragm_excursion_quiet", ""): case.protocol.tidal_mm,
        ("diaphragm_excursion_deep", ""): case.motion.diaphragm_mm + case.protocol.tidal_mm / 2,
        ("diaphragm_excursion_per_volume", ""): 1000 * case.motion.diaphragm_mm / float(held.sum() - tidal.sum()),
    }
    person = "lung_volume_inspiration_" + ("women" if case.who.sex == "F" else "men")
    figures[person, ""] = figures["lung_volume_inspiration", ""]
    for lobe, name in enumerate(LOBES):
        figures[f"lobar_volume_share_{name}", ""] = float(100 * held[lobe] / held.sum())
    return figures


def density_figures(case: Case, held_ml: float) -> Figures:
    """Mass, HU and the gradient from front to back.

    `mean_lung_density_tidal` and `lung_mass` hold vessels and airways in the lungs, as a CT's mask does (noise-free HU
    on a 4 mm lattice in the reference state). The other figures leave the tubes out, as the MRI studies did; the mean
    in inspiration is the same mass in the larger volume.
    """
    hu, inside = _reference_hu(case)
    volume = float(inside.sum()) * _STEP_MM**3 / 1000
    mean = float(hu[inside].mean())
    mass = (mean + 1000) / 1000 * volume
    density, weights, side = unit_density(case), case.units.volume_ml, case.units.side
    tissue = case.subject.density.mass_g * (1 - case.world.blood_share) / _TISSUE_DENSITY
    parenchyma = float(np.average(density, weights=weights))
    return {
        ("mean_lung_density_tidal", ""): mean,
        ("lung_mass", ""): mass,
        ("lung_air_volume_tidal", ""): volume - mass / _TISSUE_DENSITY,
        ("lung_tissue_volume", ""): tissue,
        ("mean_lung_density_frc", ""): 1000 * (parenchyma - 1),
        ("mean_lung_density_inspiration", ""): 1000 * (parenchyma * float(weights.sum()) / held_ml - 1),
        ("density_gradient_supine_frc", ""): 1000 * slope_per_cm(density, weights, case.units.position[:, 1]),
        ("dependent_to_nondependent_density_ratio", ""): third_ratio(density, weights, case.units.position[:, 1], side),
    }


def _reference_hu(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free HU, and what is lung, on a lattice (z, y, x) in the reference state."""
    points = case.chest.lattice(_STEP_MM)
    size = tuple(reversed(points.shape[1:]))
    grid = make_grid(size, (_STEP_MM,) * 3, [float(v) for v in points[:, 0, 0, 0]])
    shape = case.subject.chest.measure(points)
    hu = ct.render(case.subject, grid, points, points, shape, None, contrast=False)
    return hu, shape.lung < 0


def unit_density(case: Case) -> np.ndarray:
    """Density (units,) of the parenchyma without vessels and airways in the reference state, g/mL."""
    subject = case.subject
    lung = sample_units(case.units)
    aerated, solid, _contrast = ct.lung_density(subject.density, subject.state, subject.world, lung, contrast=False)
    return (aerated + solid).astype(np.float64)


def function_figures(case: Case) -> Figures:
    """Shares, gradients and the relation of V and Q, over terminal units weighted by their volume.

    Ventilation per gas (specific ventilation) divides by the unit's share of air. V/Q in front over back compares
    thirds of the lungs' extent.
    """
    units, weights, side = case.units, case.units.volume_ml, case.units.side
    x, y, z = units.position.T
    q, v = case.function.perfusion, case.function.ventilation
    figures: Figures = {("right_perfusion_share", ""): 100 * _share(q * weights, side == 1)}
    for target, values in zip(TARGETS, (q, v), strict=True):
        for lobe, name in enumerate(LOBES, start=1):
            figures[f"lobar_function_share_{name}", target] = 100 * _share(values * weights, units.lobe == lobe)
        figures[f"{target}_heterogeneity_share_vertical", ""] = 100 * correlation(values, y, weights) ** 2
        figures[f"{target}_cv", ""] = _variation(values, weights)
    specific = v / (1 - np.minimum(unit_density(case) / _TISSUE_DENSITY, 0.95))
    figures |= _half_figures(q, weights, (x, y, z), side)
    figures |= {
        ("perfusion_gradient_dorsal", ""): 100 * slope_per_cm(q / units.mean(q), weights, y),
        ("ventilation_gradient_dorsal", ""): 100 * slope_per_cm(v / units.mean(v), weights, y),
        ("specific_ventilation_gradient_dorsal", ""): 100 * slope_per_cm(specific / units.mean(specific), weights, y),
        ("vq_ratio_anterior_over_posterior", ""): third_ratio(v, weights, -y, side) / third_ratio(q, weights, -y, side),
        ("vq_correlation", ""): correlation(q, v, weights),
    }
    return figures


def _share(amounts: np.ndarray, where: np.ndarray) -> float:
    return float(amounts[where].sum() / amounts.sum())


def _half_figures(
    q: np.ndarray, weights: np.ndarray, position: tuple[np.ndarray, np.ndarray, np.ndarray], side: np.ndarray
) -> Figures:
    """Excess of perfusion in the dorsal, caudal and lateral half of each lung, per cent."""
    x, y, z = position
    return {
        ("perfusion_dorsal_over_ventral_excess", ""): half_excess(q, weights, y, side),
        ("perfusion_caudal_over_cranial_excess", ""): half_excess(q, weights, -z, side),
        ("perfusion_lateral_over_medial_excess", ""): half_excess(q, weights, np.abs(x), side),
    }


def embolism_figures(case: Case) -> Figures:
    """Perfusion lost behind clots, in per cent of what the same lungs had before, and whether a clot shows on the CT.

    Only for cases without another disease. `embolism_visible_unenhanced_ct` asks of a patient whether any clot shows,
    `_peripheral` asks of each clot: V/Q defects are mostly peripheral.
    """
    if case.state.diagnosis != "embolism" or case.state.also:
        return {}
    ones = np.ones_like(case.state.perfusion)
    healthy = replace(case.state, perfusion=ones, hidden_perfusion=ones, lesions=[])
    before = regional_function(case.model, healthy, case.units, case.world).perfusion
    kept = case.state.kept()[0] * case.state.hidden_perfusion
    shown = [finding["visible_on_ct"] for finding in case.state.findings if finding["kind"] == "embolus"]
    return {
        ("perfusion_loss", ""): 100 * (1 - float(np.average(kept, weights=before * case.units.volume_ml))),
        ("embolism_visible_unenhanced_ct", ""): 100.0 * any(shown),
        ("embolism_visible_unenhanced_ct_peripheral", ""): 100.0 * float(np.mean(shown)),
    }


def disease_figures(case: Case) -> Figures:
    """Whether an obstruction has emphysema or embolism beside it, in per cent."""
    if case.state.diagnosis != "obstruction":
        return {}
    return {
        ("emphysema_on_vp_spect_prevalence", ""): 100.0 * ("emphysema" in case.state.also),
        ("embolism_in_copd_prevalence", ""): 100.0 * ("embolism" in case.state.also),
    }


def hot_spot_figures(case: Case) -> Figures:
    """Number of airway hot spots, and whether there is one (per cent).

    A clump of `s` (lung mean times mL) peaks at `s / (1.064 FWHM)^3` times the lungs' mean in the finished image.
    """
    blob_ml = (np.sqrt(np.pi / (4 * np.log(2))) * case.settings["spect"]["fwhm_mm"]) ** 3 / 1000
    hot = sum(spot.strength / blob_ml >= HOT_SPOT_TIMES for spot in case.spots)
    figures: Figures = {("hot_spots", ""): float(hot), ("hot_spot_prevalence", ""): 100.0 * (hot > 0)}
    if case.state.diagnosis == "obstruction":
        figures["technegas_obstruction_sign_prevalence", ""] = 100.0 * (hot > 0)
    return figures


def session_figures(case: Case) -> Figures:
    """Activities (MBq in the lungs), count rates and times of the two scans."""
    scans, volume = case.protocol.scans, float(case.units.volume_ml.sum())
    seconds = {target: scan.views / scan.heads * scan.view_seconds for target, scan in scans.items()}
    counts = case.settings["spect"]["counts"]
    figures: Figures = {
        ("count_rate_ratio_q_to_v", ""): case.protocol.rate_ratio,
        ("maa_activity", ""): scans["perfusion"].activity_mbq,
        ("technegas_activity_in_lungs", ""): scans["ventilation"].activity_mbq,
        ("ventilation_count_rate", ""): counts["ventilation"] / seconds["ventilation"] / 1000,
        ("acquisition_time_v_plus_q", ""): sum(seconds.values()) / 60,
    }
    for target in TARGETS:
        figures["activity_concentration_lung", target] = 1000 * scans[target].activity_mbq / volume
    return figures


def lobar_means(case: Case) -> dict[str, np.ndarray]:
    """Mean density (g/mL) and function (lung mean 1) of each lobe (5,), weighted by volume."""
    columns = {"density": unit_density(case), "perfusion": case.function.perfusion}
    columns["ventilation"] = case.function.ventilation
    weights, index = case.units.volume_ml, case.units.lobe.astype(int) - 1
    total = np.bincount(index, weights=weights, minlength=5)
    return {name: np.bincount(index, weights=values * weights, minlength=5) / total for name, values in columns.items()}


def lobar_density_figures(cases: list[DrawnCase]) -> dict[Key, float]:
    """How much of lobar function CT density explains: squared correlation over all lobes of all patients together."""
    columns = {name: np.concatenate([case.lobes[name] for case in cases]) for name in cases[0].lobes}
    return {
        (f"emphysema_density_{target}_lobar_r2", "", "drawn"): float(
            np.corrcoef(columns["density"], columns[target])[0, 1] ** 2
        )
        for target in TARGETS
    }


# --- trees ---------------------------------------------------------------------------------------------------------


def strahler_orders(parent: np.ndarray, generation: np.ndarray) -> np.ndarray:
    """Strahler order (n,) of each branch: 1 at the ends; one above its daughters where two share the highest."""
    order = np.ones(len(parent), dtype=int)
    for level in range(int(generation.max()), 0, -1):
        here = np.flatnonzero(generation == level)
        highest = np.zeros(len(parent), dtype=int)
        np.maximum.at(highest, parent[here], order[here])
        equal = np.bincount(parent[here], weights=order[here] == highest[parent[here]], minlength=len(parent))
        order = np.where(highest > 0, highest + (equal > 1), order)
    return order


@dataclass(frozen=True)
class OrderRatios:
    """Ratios between neighbouring Strahler orders, and their number."""

    branching: float
    diameter: float
    length: float
    orders: int


def order_ratios(tree: Tree) -> OrderRatios:
    """Branching, diameter and length ratio: antilogarithms of the slopes over Strahler order.

    Branches of one order in a row count as one, their lengths added, as in the casts (Horsfield and Cumming 1968;
    Huang et al. 1996). Orders with a single branch are left out of the fit.
    """
    order = strahler_orders(tree.parent, tree.generation)
    length = np.linalg.norm(tree.end - tree.start, axis=1)
    head = (tree.parent < 0) | (order[tree.parent] != order)
    numbers = np.arange(1, order.max() + 1)
    count = np.array([np.count_nonzero(head & (order == k)) for k in numbers])
    kept = count > 1
    diameter = np.array([2 * tree.radius[order == k].mean() for k in numbers])
    total = np.array([length[order == k].sum() for k in numbers]) / np.maximum(count, 1)
    ratio = [float(np.exp(abs(np.polyfit(numbers[kept], np.log(v[kept]), 1)[0]))) for v in (count, diameter, total)]
    return OrderRatios(*ratio, int(order.max()))


def branch_angles(tree: Tree, chosen: np.ndarray) -> np.ndarray:
    """Angle (k,) in degrees between chosen branches (n, boolean) and their parents."""
    along = tree.end - tree.start
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    index = np.flatnonzero(chosen & (tree.parent >= 0))
    cosine = (along[index] * along[tree.parent[index]]).sum(1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def murray_exponents(tree: Tree, chosen: np.ndarray) -> np.ndarray:
    """Exponent x of `parent^x = daughter1^x + daughter2^x` (k,) at the ends of chosen branches (n, boolean).

    Diameters are the means along each branch, as measured on images. Found between 0.5 and 8; divisions without a
    solution there (a daughter no thinner than its parent) are left out.
    """
    sister = tree.siblings()
    first = np.flatnonzero((sister > np.arange(len(sister))) & chosen & chosen[sister])
    radius = tree.radius.mean(axis=1)
    ratios = [radius[index] / radius[tree.parent[first]] for index in (first, sister[first])]
    low, high = np.full(len(first), 0.5), np.full(len(first), 8.0)
    solvable = (ratios[0] ** 0.5 + ratios[1] ** 0.5 > 1) & (ratios[0] ** 8 + ratios[1] ** 8 < 1)
    for _ in range(40):
        middle = (low + high) / 2
        above = ratios[0] ** middle + ratios[1] ** middle > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low[solvable]


def airway_figures(tree: Tree) -> Figures:
    """Ratios by Strahler order, and means over the segmental bronchi and all below."""
    ratios, grown = order_ratios(tree), np.arange(len(tree.parent)) >= FIRST_SEGMENTAL
    length = np.linalg.norm(tree.end - tree.start, axis=1)
    return {
        ("airway_branching_ratio_strahler", ""): ratios.branching,
        ("airway_diameter_ratio_strahler", ""): ratios.diameter,
        ("airway_length_ratio_strahler", ""): ratios.length,
        ("airway_length_over_diameter", ""): float((length[grown] / (2 * tree.radius[grown].mean(axis=1))).mean()),
        ("airway_branching_angle", ""): float(branch_angles(tree, grown).mean()),
    }


def artery_figures(tree: Tree) -> Figures:
    """Ratios by Strahler order; angles and Murray's exponent over arteries from the segmental ones that a CT shows."""
    ratios = order_ratios(tree)
    shown = (np.arange(len(tree.parent)) >= FIRST_SEGMENTAL) & (tree.radius.mean(axis=1) > _VISIBLE_ARTERY_MM)
    return {
        ("artery_orders", ""): float(ratios.orders),
        ("artery_branching_ratio_strahler", ""): ratios.branching,
        ("artery_diameter_ratio_strahler", ""): ratios.diameter,
        ("artery_length_ratio_strahler", ""): ratios.length,
        ("artery_bifurcation_angle", ""): float(branch_angles(tree, shown).mean()),
        ("artery_murray_exponent", ""): float(murray_exponents(tree, shown).mean()),
    }


# --- finished cases ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A finished case, read back from its DICOM: all on the CT's grid, arrays (z, y, x).

    Attributes:
        facts: `truth.json`.
        hu: the CT.
        lungs: 1 right, 2 left.
        images: written SPECT by target, scaled to mean 1 in the lungs, and its local coefficient of variation
            (3 x 3 x 3 voxels of the SPECT) as `<target>_local_cv`; noise-free truth as `<target>_system`.
        weight: volume in mL of the SPECT's state that each voxel stands for.
        position: (3, z, y, x) in the SPECT's state, mm.
        depth: under the pleura in the CT, mm.
    """

    facts: dict
    hu: np.ndarray
    lungs: np.ndarray
    images: dict[str, np.ndarray]
    weight: np.ndarray
    position: np.ndarray
    depth: np.ndarray


def read_written(folder: Path, settings: dict, scratch: Path) -> Written:
    """Read a finished case through the study's own conversion.

    Args:
        folder: the case, with `dicom/` and `truth/`.
        settings: config block `convert`.
        scratch: a folder for the converted volumes.

    Raises:
        DicomError: an object cannot be read.
        GeometryError: CT and truth lie on different grids.
    """
    truth, facts = folder / "truth", read_json(folder / "truth" / "truth.json")
    convert_ct(folder / "dicom" / "ct", scratch / "ct.nii.gz", scratch / "ct.json", settings, "realism")
    image, labels = read_volume(scratch / "ct.nii.gz"), read_volume(truth / "lungs.nii.gz")
    require_same_grid(image, labels, "CT", "truth")
    moved = read_volume(truth / "ct_to_spect_displacement.nii.gz")
    position = grid_points(labels) + np.moveaxis(to_array(moved), -1, 0)
    lungs = to_array(labels)
    images = {}
    for target in TARGETS:
        emission = scratch / f"{target}.nii.gz"
        convert_spect(folder / "dicom" / target, emission, scratch / f"{target}.json", settings, "realism", target)
        shift = np.array(facts["motion"]["shift_mm"][target])
        images |= _emission_figures(read_volume(emission), target, position, shift, lungs > 0)
        images[f"{target}_system"] = to_array(read_volume(truth / f"{target}_system.nii.gz"))
    jacobian = np.maximum(motion.jacobian_determinant(position, labels.GetSpacing()), 0)
    depth = distance_transform_edt(lungs > 0, labels.GetSpacing()[::-1])
    return Written(facts, to_array(image), lungs, images, jacobian * voxel_volume_ml(labels), position, depth)


def _emission_figures(
    image: sitk.Image, target: str, position: np.ndarray, shift: np.ndarray, inside: np.ndarray
) -> dict[str, np.ndarray]:
    """A SPECT at positions (3, z, y, x) of the reference state, mean 1 in the lungs, and its local variation."""
    values = to_array(sitk.Cast(image, sitk.sitkFloat32))
    mean = uniform_filter(values, 3)
    spread = np.sqrt(np.maximum(uniform_filter(values**2, 3) - mean**2, 0) * 27 / 26)
    at = position + shift.reshape(3, 1, 1, 1)
    inverse = np.linalg.inv(np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing()))
    index = np.tensordot(inverse, at - np.array(image.GetOrigin()).reshape(3, 1, 1, 1), 1)[::-1]
    seen = map_coordinates(values, index, order=1, output=np.float32)
    local = map_coordinates(spread / np.maximum(mean, 1e-6), index, order=1, output=np.float32)
    return {target: seen / seen[inside].mean(), f"{target}_local_cv": local}


def measure_written(written: Written) -> dict[Key, float]:
    """All figures of a finished case."""
    values = {(quantity, "", "ct"): value for quantity, value in ct_figures(written).items()}
    return values | {(quantity, target, "spect"): value for (quantity, target), value in spect_figures(written).items()}


def ct_figures(written: Written) -> dict[str, float]:
    """Figures of the diagnostic CT in the true lungs, vessels and airways included, noise and kernel as they are."""
    hu = written.hu[written.lungs > 0]
    volumes = written.facts["volumes"]
    return {
        "laa950": float(100 * (hu <= -950).mean()),
        "mean_lung_density_inspiration": float(hu.mean()),
        "lung_volume_inspiration": volumes["ct_right_ml"] + volumes["ct_left_ml"],
        "lung_mass": float(np.maximum(hu + 1000.0, 0).mean() / 1000 * (volumes["ct_right_ml"] + volumes["ct_left_ml"])),
    }


def spect_figures(written: Written) -> Figures:
    """Figures of the written SPECT images; volume of the SPECT's state as weight.

    Halves, shares and the share of variance that height explains in the whole lungs; what noise and edge blur would
    spoil (V-Q correlation, the variation of V/Q, local variation) `CORE_MM` inside them.
    """
    whole, core = written.lungs > 0, (written.lungs > 0) & (written.depth > CORE_MM)
    weights, side = written.weight[whole], written.lungs[whole]
    x, y, z = written.position[:, whole]
    q, inner = written.images["perfusion"][whole], written.weight[core]
    figures: Figures = {("right_perfusion_share", ""): 100 * _share(q * weights, side == 1)}
    figures |= _half_figures(q, weights, (x, y, z), side)
    for target in TARGETS:
        values = written.images[target][core]
        vertical = 100 * correlation(values, written.position[1][core], inner) ** 2
        figures[f"{target}_heterogeneity_share_vertical", ""] = vertical
        figures[f"{target}_cv", ""] = _variation(values, inner)
    v, q = written.images["ventilation"][core], written.images["perfusion"][core]
    figures |= {
        ("vq_correlation", ""): correlation(v, q, inner),
        ("vq_correlation_noise_free", ""): correlation(
            written.images["ventilation_system"][core], written.images["perfusion_system"][core], inner
        ),
        ("vq_ratio_cv", ""): _variation(v / np.maximum(q, 0.05), inner),
        ("ventilation_local_cv_cut", ""): float(100 * np.median(written.images["ventilation_local_cv"][core])),
    }
    return figures


# --- the camera ----------------------------------------------------------------------------------------------------


def point_width(volume: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    """FWHM in mm along x, y and z of the brightest point of a volume (z, y, x), by a Gaussian through its profiles."""
    peak = np.unravel_index(int(np.argmax(volume)), volume.shape)
    widths = []
    for axis, step in zip((2, 1, 0), spacing, strict=True):
        line = np.moveaxis(volume, axis, 0)[(slice(None), *(peak[a] for a in range(3) if a != axis))]
        near = slice(max(peak[axis] - 6, 0), peak[axis] + 7)
        place = (np.arange(len(line))[near] - peak[axis]) * step
        start = (float(line[peak[axis]]), 0.0, 2 * step)
        fitted, _ = curve_fit(_gaussian, place, line[near].astype(float), p0=start)
        widths.append(float(abs(fitted[2]) / _FWHM_TO_SIGMA))
    return widths[0], widths[1], widths[2]


def _gaussian(x: np.ndarray, height: float, centre: float, sigma: float) -> np.ndarray:
    return height * np.exp(-0.5 * ((x - centre) / sigma) ** 2)


def measure_camera(case: Case, rng: np.random.Generator) -> dict[Key, float]:
    """Resolution and noise of the fast fidelity in one person's chest.

    `spect_fwhm` is the mean width along x, y and z of a point in the middle of the lungs while the breath is held,
    `spect_fwhm_breathing` the width along z of a point above the diaphragm in quiet breathing. `spect_background_cov`
    images uniform lungs twice at the scan's counts: standard deviation of the difference over root two, over the mean,
    15 mm inside the pleura.
    """
    grid, chest = spect_grid(case), case.chest
    middle = case.units.position.mean(axis=0)
    low = case.units.position[case.units.height < 0.25].mean(axis=0)
    held = point_width(_point_image(case, grid, middle, 0.0, rng), grid.GetSpacing())
    moving = point_width(_point_image(case, grid, low, case.protocol.tidal_mm, rng), grid.GetSpacing())
    values: dict[Key, float] = {
        ("spect_fwhm", "", "camera"): float(np.mean(held)),
        ("spect_fwhm_breathing", "", "camera"): moving[2],
    }
    points = grid_points(grid)
    deep = chest.lung(points)[0] < -15
    lung = spect.shares_of_lung(case.units, grid, points)
    uniform = spect.uptake(np.ones(len(case.units.position)), lung, grid)
    body = (chest.skin(points) < 0).astype(np.float32)
    for target in TARGETS:
        counts = case.settings["spect"]["counts"][target]
        pair = [_acquired(case, grid, uniform, body, counts, case.protocol.tidal_mm, rng, target) for _ in range(2)]
        noise = (pair[0] - pair[1])[deep].std() / np.sqrt(2)
        values["spect_background_cov", target, "camera"] = float(100 * noise / np.mean(pair, axis=0)[deep].mean())
    return values


def _point_image(
    case: Case, grid: sitk.Image, position: np.ndarray, tidal_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """The finished image (z, y, x) of a point in air, without background."""
    index = np.rint((position - np.array(grid.GetOrigin())) / np.array(grid.GetSpacing())).astype(int)
    volume = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.float32)
    volume[tuple(index[::-1])] = 1.0
    return _acquired(case, grid, volume, np.ones_like(volume), _POINT_COUNTS, tidal_mm, rng, None)


def _acquired(
    case: Case,
    grid: sitk.Image,
    volume: np.ndarray,
    body: np.ndarray,
    counts: float,
    tidal_mm: float,
    rng: np.random.Generator,
    target: str | None,
) -> np.ndarray:
    """A volume (z, y, x) as the fast fidelity images it, with the target's background (none if None)."""
    image = spect.acquire_psf(
        [(volume, 1.0)],
        grid,
        body=body,
        residue=np.ones_like(volume),
        background=spect.BACKGROUND[target] if target else 0.0,
        counts=counts,
        fwhm_mm=case.settings["spect"]["fwhm_mm"],
        chest=case.chest,
        tidal_mm=tidal_mm,
        rng=rng,
    )
    return to_array(image).astype(np.float64)


# --- summary and comparison ----------------------------------------------------------------------------------------

#: published rows whose value and ours are not the same thing: why they are printed and not judged
UNLIKE = {
    "technegas_obstruction_sign_prevalence": "an upper bound: the published sign holds uneven deposition too",
    "embolism_visible_unenhanced_ct_peripheral": "published by patient, ours by clot",
    "laa950_gold1": "our severity is no GOLD stage",
    "laa950_gold2": "our severity is no GOLD stage",
    "laa950_gold3": "our severity is no GOLD stage",
    "laa950_gold4": "our severity is no GOLD stage",
}
#: published quantities that the simulator does not have
ABSENT = {
    "peripheral_lung_density_tlc": "no scan at total lung capacity",
    "peripheral_lung_density_rv": "no scan at residual volume",
    "embolism_visible_unenhanced_ct_central": "clots lie in segmental and smaller arteries",
    "embolism_wedge_consolidation": "no infarcts are simulated",
    "emphysema_density_vq_units_lobar_r2": "units are not called normal or not",
}
#: units of what is measured without a published value
_OWN_UNITS = {
    "perfusion_cv": "ratio",
    "ventilation_cv": "ratio",
    "vq_correlation_noise_free": "Pearson r",
    "ventilation_gradient_dorsal": "%/cm",
    "hot_spots": "per case",
    "hot_spot_prevalence": "%",
    "spect_fwhm_breathing": "mm",
}


def published_lungs(path: Path) -> pd.DataFrame:
    """The published values, missing numbers as NaN."""
    table = read_tsv(path)
    for column in ("low", "high", "value"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def summarise(measured: list[tuple[str, dict[Key, float]]], published: pd.DataFrame) -> pd.DataFrame:
    """The cohort's table in long format (`arm case target reference metric value unit`).

    `case` is the group, `reference` where it was seen, `metric` is `quantity:statistic`. Kept are quantities that are
    published for a group, in that group (`any` takes all cases), and those of our own.

    Args:
        measured: group (the diagnosis) and figures of each case.
        published: the published values.
    """
    wanted = set(zip(published["quantity"], published["group"], strict=True))
    units = dict(zip(published["quantity"], published["unit"], strict=True)) | _OWN_UNITS
    samples: dict[tuple[str, Key], list[float]] = {}
    for diagnosis, figures in measured:
        for key, value in figures.items():
            for group in _groups(key[0], diagnosis, wanted):
                samples.setdefault((group, key), []).append(value)
    order = {name: k for k, name in enumerate([*dict.fromkeys(published["quantity"]), *_OWN_UNITS])}
    rows = []
    for (group, (quantity, target, seen)), values in sorted(samples.items(), key=lambda s: (order[s[0][1][0]], s[0])):
        for name, value in _statistics(np.array(values)).items():
            unit = "1" if name == "n" else units[quantity]
            rows.append(["ct2vq", group, target, seen, f"{quantity}:{name}", float(f"{value:.5g}"), unit])
    return pd.DataFrame(rows, columns=["arm", "case", "target", "reference", "metric", "value", "unit"])


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, spread over cases and number (n,); a yes or no (0 or 100 %) has no spread over cases, nor has one value."""
    spread = len(values) > 1 and not np.isin(values, (0, 100)).all()
    sd, low, high = (values.std(ddof=1), *np.percentile(values, (5, 95))) if spread else (float("nan"),) * 3
    return {"mean": values.mean(), "sd": sd, "p05": low, "p95": high, "n": float(len(values))}


def _groups(quantity: str, diagnosis: str, wanted: set[tuple[str, str]]) -> Iterator[str]:
    """The groups whose figure of a quantity a case enters."""
    if (quantity, diagnosis) in wanted:
        yield diagnosis
    if (quantity, "any") in wanted:
        yield "any"
    if quantity in _OWN_UNITS and diagnosis in ("normal", "obstruction"):
        yield diagnosis


def compare(summary: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Simulated beside published values, one row for each published value and place where it was seen, with a verdict.

    Columns: quantity, group, target, seen, n, mean, sd, p05, p95, unit, population, low, high, value, verdict, source,
    read. Quantities without a published value come last.
    """
    wide = _wide(summary)
    rows = []
    for _, known in published.iterrows():
        ours = wide[(wide["quantity"] == known["quantity"]) & (wide["group"] == known["group"])]
        others = published[(published["quantity"] == known["quantity"]) & (published["group"] == known["group"])]
        columns = ("unit", "population", "low", "high", "value", "source", "read")
        facts = {name: known[name] for name in columns}
        if ours.empty:
            reason = ABSENT.get(known["quantity"]) or UNLIKE.get(known["quantity"], "not measured")
            rows.append(
                {"quantity": known["quantity"], "group": known["group"], **facts, "verdict": f"not judged: {reason}"}
            )
        for _, one in ours.iterrows():
            rows.append({**one.to_dict(), **facts, "verdict": judge(one["mean"], known, others)})
    covered = set(published["quantity"])
    own = wide[~wide["quantity"].isin(covered)]
    rows += [{**one.to_dict(), "verdict": "not judged: nothing published found"} for _, one in own.iterrows()]
    return pd.DataFrame(rows)


def _wide(summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each quantity, group, target and place, with its statistics as columns."""
    table = summary.rename(columns={"case": "group", "reference": "seen"}).fillna({"target": ""})
    names = table["metric"].str.rsplit(":", n=1, expand=True)
    table = table.assign(quantity=names[0], statistic=names[1])
    keys = ["quantity", "group", "target", "seen"]
    wide = table.pivot_table(index=keys, columns="statistic", values="value", sort=False, dropna=False)
    units = table[table["statistic"] == "mean"].set_index(keys)["unit"]
    wide = wide[wide["mean"].notna()]
    return wide.assign(unit=units).reset_index()


def judge(mean: float, known: pd.Series, others: pd.DataFrame) -> str:
    """The verdict on a cohort's mean: `within`, `off: ...` by how much, or `not judged: ...` why.

    Args:
        mean: the cohort's mean.
        known: one published row.
        others: all published rows of that quantity and group; if another population's range holds the mean, it is said.
    """
    if known["quantity"] in UNLIKE:
        return f"not judged: {UNLIKE[known['quantity']]}"
    if pd.isna(known["low"]) or pd.isna(known["high"]):
        return "not judged: one number without spread"
    if known["low"] <= mean <= known["high"]:
        return "within"
    above = mean > known["high"]
    distance = mean - known["high"] if above else known["low"] - mean
    elsewhere = ((others["low"] <= mean) & (mean <= others["high"])).any()
    note = " (within another population's range)" if elsewhere else ""
    return f"off: {'above' if above else 'below'} by {distance:.3g} {known['unit']}{note}"
