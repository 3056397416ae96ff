"""Stage `evaluate`: one long table of metrics, one fact a row.

Columns: `case_id model target metric region definition reference value unit reason`. Synthesised images are compared
with the SPECT on the network's grid, in the lungs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.files import read_tsv, write_tsv
from ct2vq.metrics import Value, functional_overlap, spearman, ssim
from ct2vq.volume import read_volume, require_same_grid, to_array, voxel_volume_ml

COLUMNS = (
    "case_id",
    "model",
    "target",
    "metric",
    "region",
    "definition",
    "reference",
    "value",
    "unit",
    "reason",
)
REGION = "lungs"
REFERENCE = "spect"


def evaluate_case(
    case_id: str, images: Mapping[str, Path], lungs: Path, output: Path, settings: Mapping[str, Any]
) -> None:
    """Write the metrics of one case.

    Args:
        case_id: the case.
        images: volumes on the network's grid, named `spect_<target>` and `<model>_<target>`.
        lungs: lung labels on the same grid.
        output: TSV to write.
        settings: config block `evaluate`.

    Raises:
        GeometryError: the volumes do not share a grid.
    """
    labels = read_volume(lungs)
    inside = to_array(labels) > 0
    volume_ml = float(inside.sum()) * voxel_volume_ml(labels)
    arrays = {}
    for name, path in images.items():
        volume = read_volume(path)
        require_same_grid(labels, volume, "lungs", name)
        arrays[name] = to_array(volume)
    rows = []
    for name, array in arrays.items():
        model, target = name.rsplit("_", 1)
        if model == REFERENCE:
            continue
        for fact in compare_images(array, arrays[f"{REFERENCE}_{target}"], inside, volume_ml, settings):
            rows.append({"case_id": case_id, "model": model, "target": target} | fact)
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), output)


def compare_images(
    image: np.ndarray, reference: np.ndarray, inside: np.ndarray, volume_ml: float, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """All metrics of an image against its reference, as rows without case, model and target.

    Args:
        image: synthesised image `(z, y, x)`.
        reference: SPECT on the same grid.
        inside: the lungs.
        volume_ml: volume of the lungs in mL.
        settings: config block `evaluate`.
    """
    window = settings["ssim"]
    definition = (
        f"3D gaussian sigma {window['sigma_voxels']} voxels, range {window['data_range']}, "
        f"K1 {window['k1']}, K2 {window['k2']}, masked"
    )
    yield _row("ssim", definition, ssim(image, reference, inside, **window))
    yield _row("spearman", "", spearman(image, reference, inside))
    for threshold in settings["function_thresholds"]:
        for part in ("low", "high"):
            overlap = functional_overlap(image, reference, inside, threshold[part], low=part == "low")
            name = threshold["name"]
            yield _row(f"dice_{part}", name, overlap.dice)
            yield _row(f"dice_{part}_chance", name, overlap.chance)
            for whose, fraction in (("image", overlap.image_fraction), ("reference", overlap.reference_fraction)):
                missing = overlap.dice.reason if np.isnan(fraction) else ""
                yield _row(f"volume_{part}_{whose}", name, Value(fraction * volume_ml, missing), "mL")


def _row(metric: str, definition: str, value: Value, unit: str = "1") -> dict[str, Any]:
    return {
        "metric": metric,
        "region": REGION,
        "definition": definition,
        "reference": REFERENCE,
        "value": value.number,
        "unit": unit,
        "reason": value.reason,
    }


def collect(tables: Sequence[str], output: Path) -> None:
    """Join the tables of all cases, in the order given."""
    write_tsv(pd.concat([read_tsv(table) for table in tables], ignore_index=True), output)
