"""The figure of a registration: same bytes twice, flags readable, with and without an attenuation CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from chest_phantom import chest
from PIL import Image
from registration_records import registration_record

from ct2vq import overlay
from ct2vq.config import complete_config
from ct2vq.files import write_json
from ct2vq.volume import write_volume

FIGURE = complete_config({"study": "tests"})["report"]["figure"] | {"dpi": 60}
FLAGS = ["W803 perfusion: distance of the activity from the lungs 28 mm, above 15 mm"] * 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("chest")
    images = chest(moved=False)
    for name, image in images.items():
        write_volume(image, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in images}


def draw(files: dict[str, Path], folder: Path, names: tuple[str, ...], qc: dict[str, Any]) -> Path:
    write_json(qc, folder / "qc.json")
    output = folder / f"{len(list(folder.iterdir()))}.png"
    overlay.draw_registration(
        {name: files[name] for name in names},
        files["ct"],
        files["ct_lungs"],
        sitk.TranslationTransform(3, (0, 0, 12)),
        folder / "qc.json",
        output,
        case="sim001",
        figure=FIGURE,
    )
    return output


@pytest.mark.parametrize("names", [("attenuation_ct", "perfusion", "ventilation"), ("ventilation",)])
def test_the_same_bytes_twice(files: dict[str, Path], tmp_path: Path, names: tuple[str, ...]) -> None:
    qc = registration_record(0.95 if "attenuation_ct" in names else None)
    one, other = (draw(files, tmp_path, names, qc) for _ in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_every_spect_has_its_columns_and_every_flag_its_line(files: dict[str, Path], tmp_path: Path) -> None:
    names = ("attenuation_ct", "perfusion", "ventilation")
    sizes = [
        Image.open(draw(files, tmp_path, shown, registration_record(0.95) | {"flags": flags})).size
        for shown, flags in ((names[:2], []), (names, []), (names, FLAGS))
    ]
    assert sizes[1][0] - sizes[0][0] == pytest.approx(60 * 2 * overlay.COLUMN_IN, rel=0.1)
    assert sizes[2][1] > sizes[1][1]


def test_the_lungs_outline_lies_on_the_spect(files: dict[str, Path], tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(draw(files, tmp_path, ("perfusion",), registration_record(None))).convert("RGB"))
    cyan = (pixels[..., 2] > 180) & (pixels[..., 1] > 150) & (pixels[..., 0] < 130)
    assert cyan.sum() > 100


def test_registration_in_words() -> None:
    words = overlay.describe_registration(registration_record(0.951))
    assert words.startswith("deformable through the attenuation CT · lung Dice 0.85 → 0.95 · lung detail 0.50 → 0.50")
    assert "landmarks 0.5 → 0.5 mm" in words and words.endswith("counts in the lungs Q 0.80 → 0.80")
    assert "lung Dice" not in overlay.describe_registration(registration_record(None))


def test_checkerboard_alternates() -> None:
    board = overlay.checkerboard(np.zeros((4, 4, 3)), np.ones((4, 4, 3)), 2)
    assert board[..., 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
