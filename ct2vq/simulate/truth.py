"""What is known about a simulated case, on its CT's grid. Nothing after `convert` may read it but benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import SimpleITK as sitk

from ct2vq.files import write_json, write_tsv
from ct2vq.simulate import spect
from ct2vq.simulate.function import REDRAWS
from ct2vq.simulate.units import FIRST_SEGMENTAL
from ct2vq.simulate.world import COHORT_VERSION
from ct2vq.volume import from_array, to_array, voxel_volume_ml, write_volume

if TYPE_CHECKING:
    from ct2vq.simulate.case import Case, Slab

#: farther from the lungs the blurred truth is 0
_TAIL_MM = 25.0
_DIAPHRAGM_LANDMARKS = 6
#: bifurcations of arteries thinner than this are no landmarks, mm (radius)
_LANDMARK_RADIUS_MM = 1.15
_LABELS = ("lungs", "lobes", "segments", "subsegments", "disease")
_SHARP = ("perfusion", "ventilation")
_RELATIVE = "relative to the lungs' mean"


class Truth:
    """Truth volumes as they fill up slab by slab.

    Labels: `lungs` (1 right, 2 left), `lobes`, `segments`, `subsegments`, `units` (terminal units from 1 on) and
    `disease` (1 shows on the CT, 2 does not). Function: `perfusion`, `ventilation` (sharp), `*_system` (blurred by
    PSF and breathing), `*_visible_system` (mean over what no CT shows). Values are concentrations of the SPECT's
    state, carried over without Jacobian factor, relative to the lungs' mean.
    """

    def __init__(
        self, case: Case, grid: sitk.Image, emission: sitk.Image, images: dict[str, tuple[np.ndarray, str]]
    ) -> None:
        """Start with empty volumes.

        Args:
            case: the case.
            grid: the CT's grid.
            emission: the SPECT's grid.
            images: blurred function on the SPECT's grid with the scan in whose position it lies.
        """
        self.case, self.grid, self.emission, self.images = case, grid, emission, images
        shape = tuple(reversed(grid.GetSize()))
        self.labels = {name: np.zeros(shape, dtype=np.uint8) for name in _LABELS}
        self.labels["units"] = np.zeros(shape, dtype=np.uint16)
        self.maps = {name: np.zeros(shape, dtype=np.float32) for name in (*_SHARP, *images)}
        self.displacement = np.zeros((*shape, 3), dtype=np.float32)
        self.jacobian = [np.inf, -np.inf]

    def add(self, slab: Slab, where: slice) -> None:
        """Fill the slices `where` from a slab."""
        case, divided = self.case, self.case.units
        inside, near = slab.shape.lung < 0, slab.shape.lung < _TAIL_MM
        unit = divided.at(slab.lung[:, inside], slab.shape.side[inside])
        values = {
            "lungs": slab.shape.side[inside],
            "lobes": divided.lobe[unit],
            "segments": divided.segment[unit],
            "subsegments": divided.subsegment[unit],
            "units": unit + 1,
            "disease": case.state.marks[unit],
        }
        for name, chosen in values.items():
            self.labels[name][where][inside] = chosen
        if case.state.mass is not None:
            outside = ~inside & (slab.shape.lung < 60)
            mass = case.state.mass.distance(slab.body[:, outside]) < 0
            self.labels["disease"][where][outside] = np.where(mass, 1, self.labels["disease"][where][outside])
        for name in _SHARP:
            self.maps[name][where][inside] = getattr(case.function, name)[unit]
        # beside the lung the body's own motion carries the blurred tail
        mapped = np.where(inside, slab.lung, slab.body)
        for name, (image, target) in self.images.items():
            at = case.shifts[target].to_scan(mapped[:, near])
            self.maps[name][where][near] = spect.read_at(image, self.emission, at)
        self.displacement[where] = np.moveaxis(mapped - slab.points, 0, -1)
        if inside.any():
            jacobian = slab.jacobian[inside]
            self.jacobian = [min(self.jacobian[0], float(jacobian.min())), max(self.jacobian[1], float(jacobian.max()))]

    def write(self, folder: Path, ct: sitk.Image) -> None:
        """Write all volumes, the landmarks and `truth.json`.

        Args:
            folder: the truth folder.
            ct: the finished CT, for the lungs' mean HU.
        """
        for name, volume in self.labels.items():
            write_volume(from_array(volume, self.grid), folder / f"{name}.nii.gz")
        for name, volume in self.maps.items():
            write_volume(from_array(volume, self.grid), folder / f"{name}.nii.gz", _RELATIVE)
        field = sitk.GetImageFromArray(self.displacement, isVector=True)
        field.CopyInformation(self.grid)
        write_volume(field, folder / "ct_to_spect_displacement.nii.gz", "mm, LPS: p_spect = p_ct + d")
        write_tsv(landmarks(self.case), folder / "landmarks.tsv")
        write_json(self._facts(ct), folder / "truth.json")

    def _facts(self, ct: sitk.Image) -> dict:
        """The content of `truth.json`."""
        case, lungs = self.case, self.labels["lungs"]
        ml = voxel_volume_ml(self.grid)
        volumes = {
            "ct_right_ml": round(float((lungs == 1).sum()) * ml, 1),
            "ct_left_ml": round(float((lungs == 2).sum()) * ml, 1),
            "reference_ml": round(float(case.units.volume_ml.sum()), 1),
            "ct_mean_lung_hu": round(float(to_array(ct)[lungs > 0].mean()), 2),
        }
        return {
            **facts(case),
            "volumes": volumes,
            "jacobian": {"min": round(self.jacobian[0], 4), "max": round(self.jacobian[1], 4)},
        }


def facts(case: Case) -> dict:
    """What is known of a case apart from its volumes."""
    state, moved, who = case.state, case.motion, case.who
    return {
        "cohort_version": COHORT_VERSION,
        "anatomy": "real" if case.subject is None else "drawn",
        "world": case.world.name,
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "diagnosis": state.diagnosis,
        "also": state.also,
        "severity": round(state.severity, 4),
        "findings": state.findings,
        "hot_spots": [
            {
                "name": spot.name,
                "position_spect_mm": [round(float(v), 2) for v in spot.position],
                "lung_mean_ml": round(spot.strength, 3),
            }
            for spot in case.spots
        ],
        "person": {"sex": who.sex, "age": who.age, "height_m": who.height_m, "weight_kg": who.weight_kg},
        "motion": {
            "full_inspiration": moved.full_inspiration,
            "diaphragm_mm": round(moved.diaphragm_mm, 3),
            "attenuation_ct_mm": round(case.attenuation_motion.diaphragm_mm, 3),
            "tidal_mm": round(case.protocol.tidal_mm, 3),
            "rotation": np.round(moved.rotation, 6).tolist(),
            "offset_mm": np.round(moved.offset, 3).tolist(),
            "shift_mm": {target: np.round(shift.offset, 3).tolist() for target, shift in sorted(case.shifts.items())},
        },
        "spect": {
            "fidelity": case.settings["spect"]["fidelity"],
            "rate_ratio": round(case.protocol.rate_ratio, 4),
            "shine_through": round(case.protocol.shine_through, 4),
            "residue": {target: round(value, 4) for target, value in sorted(case.protocol.residue.items())},
        },
        "ct": _ct_facts(case),
        "habit": case.habit.name,
        "redraws": REDRAWS,
        "function_units": "relative to the mean in the lungs; per volume of the SPECT's state",
        "seeds": {"seed": case.seed, "case": case.case_id, "patient": case.patient_id},
        "segments": {str(label): name for label, name in case.units.segment_names.items()},
        "units": {"number": len(case.units.position), "mean_ml": round(float(case.units.volume_ml.mean()), 3)},
    }


def _ct_facts(case: Case) -> dict:
    if case.subject is None:
        return {}
    density = case.subject.density
    return {
        "kernel": density.kernel.name,
        "contrast_hu": round(density.contrast_hu, 1),
        "calibration_hu": round(density.calibration_hu, 2),
        "gain": round(density.gain, 4),
        "lung_mass_g": round(density.mass_g, 1),
    }


def landmarks(case: Case) -> pd.DataFrame:
    """Pairs of positions in CT and SPECT: bifurcations of arteries in the lungs, places just above the diaphragm."""
    rows = [*_bifurcations(case), *_above_diaphragm(case)]
    spect_mm = np.array([position for _, position, _ in rows], dtype=float).T
    ct_mm = case.motion.to_scan(spect_mm)
    table = pd.DataFrame({"name": [row[0] for row in rows]})
    for state, values in (("ct", ct_mm), ("spect", spect_mm)):
        for axis, column in zip("xyz", values, strict=True):
            table[f"{axis}_{state}_mm"] = np.round(column, 3)
    table["region"] = [row[2] for row in rows]
    return table


def _bifurcations(case: Case) -> list[tuple[str, np.ndarray, str]]:
    """Ends of arteries that divide into two that a CT shows."""
    tree = case.units.arteries
    sister = tree.siblings()
    first = np.flatnonzero((sister > np.arange(len(sister))) & (np.arange(len(sister)) >= FIRST_SEGMENTAL))
    thinner = np.minimum(tree.radius[first, 0], tree.radius[sister[first], 0])
    rows = []
    for daughter in first[thinner >= _LANDMARK_RADIUS_MM]:
        parent = int(tree.parent[daughter])
        position = tree.end[parent]
        distance, side = case.chest.lung(position[:, None].astype(np.float32))
        if distance[0] < -2:
            rows.append((f"artery {parent}", position, "right lung" if side[0] == 1 else "left lung"))
    return rows


def _above_diaphragm(case: Case) -> list[tuple[str, np.ndarray, str]]:
    """Places in the lower lungs, 4 to 14 mm under the surface that faces down."""
    divided, rows = case.units, []
    below = divided.position.T.astype(np.float32) - np.array([[0], [0], [16]], dtype=np.float32)
    base = (divided.depth > 4) & (divided.depth < 14) & (case.chest.lung(below)[0] > 0) & (divided.height < 0.45)
    for side, name in ((1, "right"), (2, "left")):
        low = np.flatnonzero(base & (divided.side == side))
        chosen = case.rng(f"landmarks {name}").choice(low, min(_DIAPHRAGM_LANDMARKS, len(low)), replace=False)
        for k, unit in enumerate(np.sort(chosen)):
            rows.append((f"{name} lung, above diaphragm {k + 1}", divided.position[unit], "near diaphragm"))
    return rows
