"""A case's synthesised images against SPECT that is aligned or normalised otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.crop.spect import carry_spect, normalise_spect
from ct2vq.errors import CropError
from ct2vq.evaluate import case as evaluate
from ct2vq.evaluate.images import CaseImages, read_images
from ct2vq.evaluate.scores import score_case
from ct2vq.files import read_json, write_rows
from ct2vq.names import SPECT
from ct2vq.volume import from_array, read_volume, to_array, write_volume

logger = logging.getLogger(__name__)

COLUMNS = ("spect", *evaluate.COLUMNS)
#: what a case's input is called: the SPECT as the camera made it, and the record of the study's own normalisation
SOURCE, FACTS = "source_", "facts_"


@dataclass(frozen=True)
class Alternative:
    """A way of making the SPECT that is not the study's.

    Attributes:
        name: its name in config `sensitivity.spect`.
        fields: the displacement field that carries each target onto the CT.
        modulate: multiply by the Jacobian determinant (config `register.modulate`).
        spect: config block `crop.spect`.
    """

    name: str
    fields: Mapping[str, Path]
    modulate: bool
    spect: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, made: Mapping[str, Any]) -> Alternative:
        """From the plain values of a rule: `fields` (paths by target), `modulate`, `spect`."""
        fields = {target: Path(path) for target, path in made["fields"].items()}
        return cls(name, fields, made["modulate"], made["spect"])


@dataclass(frozen=True)
class NewSpect:
    """An alternative SPECT on the network's grid.

    Attributes:
        values: float32 `(z, y, x)`, 0..1 in the lungs; NaN there if it could not be made.
        factor: what turns a synthesised value, made in parts of the study's reference, into parts of the new one.
        reason: why it could not be made, or empty.
    """

    values: np.ndarray
    factor: float
    reason: str = ""


def score_alternatives(
    case_id: str,
    files: Mapping[str, Path],
    alternatives: Sequence[Alternative],
    output: Path,
    choices: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Make every alternative SPECT of a case and score the synthesised images against it.

    A network answers in parts of the reference that its own SPECT was divided by. Where the alternative has another
    reference, the answer is multiplied by the study's and divided by the new one, and limited to 0..1 as SPECT is.

    Args:
        case_id: the case.
        files: `lungs` on the network's grid; for each target `source_<target>` (SPECT of `convert`) and
            `facts_<target>` (record of `crop`); all others are synthesised images `<model>_<target>`.
        alternatives: the SPECT images to make.
        output: TSV to write: the columns of `results/evaluate/metrics.tsv` after `spect`, the alternative's name.
        choices: `metrics`, `regions` and `definitions` to keep.
        settings: config block `evaluate`.
    """
    lungs = read_volume(files["lungs"])
    targets = [name.removeprefix(SOURCE) for name in files if name.startswith(SOURCE)]
    sources = {target: sitk.Cast(read_volume(files[SOURCE + target]), sitk.sitkFloat32) for target in targets}
    references = {target: float(read_json(files[FACTS + target])["reference"]) for target in targets}
    images = {name: path for name, path in files.items() if not name.startswith((SOURCE, FACTS))}
    narrowed = _narrowed(settings, choices)
    rows: list[dict[str, Any]] = []
    for alternative in alternatives:
        made = {
            target: make_spect(sources[target], lungs, alternative, target, references[target]) for target in targets
        }
        for target, spect in made.items():
            if spect.reason:
                logger.warning("%s, %s: no SPECT: %s", alternative.name, target, spect.reason)
        case = _with_spect(case_id, images, made, lungs, narrowed, choices["regions"])
        rows += list(_rows(case, made, alternative.name, narrowed, choices))
    write_rows(([row[column] for column in COLUMNS] for row in rows), COLUMNS, output)


def make_spect(
    source: sitk.Image, lungs: sitk.Image, alternative: Alternative, target: str, reference: float
) -> NewSpect:
    """The SPECT of a target as an alternative makes it.

    Args:
        source: float32 counts or concentrations on the camera's grid.
        lungs: labels on the network's grid.
        alternative: how it is made.
        target: perfusion or ventilation.
        reference: what became 1 in the study's own SPECT, in the same units.
    """
    inside, spacing_mm = to_array(lungs) > 0, float(lungs.GetSpacing()[0])
    carried = carry_spect(source, lungs, read_volume(alternative.fields[target]), alternative.modulate)
    try:
        values, facts = normalise_spect(carried, inside, spacing_mm, alternative.spect)
    except CropError as error:
        return NewSpect(np.where(inside, np.nan, 0).astype(np.float32), 1.0, error.message)
    return NewSpect(values, reference / facts["reference"])


def _narrowed(settings: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the evaluation without what nobody asks for: other definitions, the threshold curve."""
    thresholds = [one for one in settings["function_thresholds"] if one["name"] in choices["definitions"]]
    return {**settings, "function_thresholds": thresholds, "threshold_curve": []}


def _with_spect(
    case_id: str,
    images: Mapping[str, Path],
    made: Mapping[str, NewSpect],
    lungs: sitk.Image,
    settings: Mapping[str, Any],
    regions: Sequence[str],
) -> CaseImages:
    """The synthesised images in the new references' units beside the new SPECT, on the evaluation grid."""
    with TemporaryDirectory() as folder:
        files = dict(images)
        for target, spect in made.items():
            files[f"{SPECT}_{target}"] = Path(folder, f"{target}.nii.gz")
            write_volume(from_array(spect.values, lungs), files[f"{SPECT}_{target}"])
        case = read_images(case_id, files, settings)
    rescaled = {
        (source, target): np.clip(image * made[target].factor, 0, 1)
        for (source, target), image in case.images.items()
        if source != SPECT
    }
    # the lungs are always there: what they hold is what parts of them are measured against
    wanted = {"lungs", *regions}
    kept = {name: mask for name, mask in case.regions.masks.items() if name in wanted}
    return replace(case, regions=replace(case.regions, masks=kept)).with_images(rescaled)


def _rows(
    case: CaseImages,
    made: Mapping[str, NewSpect],
    name: str,
    settings: Mapping[str, Any],
    choices: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Rows of the metrics and regions asked for; those of a SPECT that could not be made say why."""
    for row in score_case(case, settings):
        if row["metric"] in choices["metrics"] and row["region"] in choices["regions"]:
            yield row | {"spect": name, "reason": made[row["target"]].reason or row["reason"]}
