"""Every model's images of one case, written on both grids."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.crop.restore import WayBack
from ct2vq.files import sha256_file, write_json
from ct2vq.inputs import read_cropped_case
from ct2vq.synthesize.header import label_of, read_header, spread_label
from ct2vq.synthesize.predict import predict
from ct2vq.synthesize.uncertainty import dropout_spread
from ct2vq.volume import from_array, read_volume, write_volume

logger = logging.getLogger(__name__)


def synthesize_case(
    folder: Path,
    ct_lungs: Path,
    weights: Mapping[str, Path],
    output: Path,
    record: Path,
    *,
    device: str,
    settings: Mapping[str, Any],
    seed: int = 0,
    uncertain: Sequence[str] = (),
) -> None:
    """Write every model's images of a case.

    Args:
        folder: the cropped case (`results/crop/<case>`).
        ct_lungs: lung labels on the CT's grid.
        weights: weights of each model, by name.
        output: folder to write `<model>/<target>.nii.gz` (CT grid) and `<model>/<target>_network.nii.gz` to.
        record: JSON record to write.
        device: `cpu`, `cuda` or `mps`.
        settings: config block `synthesize`.
        seed: the study's seed, on which dropout depends.
        uncertain: models with dropout whose `<model>/<target>_uncertainty.nii.gz` (CT grid) is written, too.

    Raises:
        Ct2vqError: a file is not a model's weights, or as `predict`.
    """
    case = read_cropped_case(folder, ())
    grid = read_volume(folder / "lungs.nii.gz")
    way_back = WayBack(grid, read_volume(ct_lungs))
    facts = {}
    for name, path in weights.items():
        header = read_header(path)
        description = label_of(header["simulated"])
        for target, image in predict(path, case, device, settings).items():
            write_volume(from_array(image, grid), output / name / f"{target}_network.nii.gz", description)
            write_volume(way_back(image), output / name / f"{target}.nii.gz", description)
        facts[name] = {"label": description, "weights_sha256": sha256_file(path), "targets": header["targets"]}
        if name in uncertain:
            told = spread_label(f"{settings['dropout_samples']} dropout runs", header["simulated"])
            maps = dropout_spread(path, case, device, settings, seed=seed, name=f"{folder.name}/{name}")
            for target, image in maps.items():
                write_volume(way_back.linear(image), output / name / f"{target}_uncertainty.nii.gz", told)
            facts[name]["uncertainty"] = told
    write_json(facts, record)
