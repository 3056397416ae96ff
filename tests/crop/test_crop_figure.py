"""The figure of a normalised SPECT: drawn for what a case has, the same bytes twice, and true to the record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, DEFAULTS, lung_labels
from PIL import Image

from ct2vq.crop.figure import describe, draw_normalisation
from ct2vq.crop.spect import crop_spect
from ct2vq.files import read_json, sha256_file
from ct2vq.volume import from_array, make_grid, write_volume

LABELS = lung_labels((32, 28, 40))
FIGURE = DEFAULTS["report"]["figure"] | {"dpi": 50}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A case on 6 mm voxels with a clump in its ventilation."""
    folder = tmp_path_factory.mktemp("normalised")
    grid = make_grid(LABELS.shape[::-1], [6.0] * 3, (-120, -84, -96))
    names = ("ct", "lungs", "perfusion", "ventilation")
    found = {name: folder / f"{name}.nii.gz" for name in names}
    write_volume(from_array(np.where(LABELS > 0, -800, 40).astype(np.float32), grid), found["ct"])
    write_volume(from_array(LABELS, grid), found["lungs"])
    field = sitk.Image(grid.GetSize(), sitk.sitkVectorFloat32, 3)
    field.CopyInformation(grid)
    write_volume(field, folder / "field.nii.gz")
    for target, clump in (("perfusion", 0), ("ventilation", 60)):
        counts = np.where(LABELS > 0, 10.0, 1.0) + np.arange(LABELS.shape[1])[:, None] / 5
        counts[16, 14, 9] += clump * 10
        raw, record = folder / f"{target}_raw.nii.gz", folder / f"{target}.json"
        write_volume(from_array(counts.astype(np.float32), grid), raw)
        crop_spect(raw, folder / "field.nii.gz", found["lungs"], found[target], record, CROP["spect"])
        found |= {f"{target}_facts": record, f"{target}_spect": raw, f"{target}_field": folder / "field.nii.gz"}
    return found


def test_the_same_bytes_twice_and_a_row_for_each_target(files: dict[str, Path], tmp_path: Path) -> None:
    for name in "ab":
        draw_normalisation(files, tmp_path / f"{name}.png", case="c1", figure=FIGURE)
    assert sha256_file(tmp_path / "a.png") == sha256_file(tmp_path / "b.png")
    one = {name: path for name, path in files.items() if not name.startswith("perfusion")}
    draw_normalisation(one, tmp_path / "one.png", case="c1", figure=FIGURE)
    sizes = [Image.open(tmp_path / f"{name}.png").size for name in ("a", "one")]
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] > 1.5 * sizes[1][1]


def test_a_clump_is_white_before_and_not_after(files: dict[str, Path], tmp_path: Path) -> None:
    assert read_json(files["ventilation_facts"])["hot_spots"]["number"] == 1
    assert read_json(files["perfusion_facts"])["hot_spots"]["number"] == 0
    other = files | {name: files[name.replace("ventilation", "perfusion")] for name in files if "ventilation" in name}
    for name, chosen in (("clump", files), ("none", other)):
        draw_normalisation(chosen, tmp_path / f"{name}.png", case="c1", figure=FIGURE)
    assert sha256_file(tmp_path / "clump.png") != sha256_file(tmp_path / "none.png")


def test_the_words(files: dict[str, Path]) -> None:
    facts = read_json(files["ventilation_facts"])
    text = describe(facts)
    assert text.startswith("1 hot spot, ") and "filled" in text and "clipped" in text
    assert describe(read_json(files["perfusion_facts"])).startswith("no hot spots found")
    left_in = facts | {"hot_spots": facts["hot_spots"] | {"method": "none", "number": 0}}
    assert describe(left_in).startswith("hot spots left in")
