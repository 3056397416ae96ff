"""A small reader study with images whose sources differ in everything that a pack must not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.config import complete_config
from ct2vq.files import read_tsv
from ct2vq.read.design import write_design
from ct2vq.read.pack import write_pack
from ct2vq.volume import write_volume

SETTINGS = complete_config({"study": "small"})["read"]
SPACING_MM = 8.0
DIAGNOSES = ("normal", "embolism", "emphysema", "tumour")
TARGETS = ("perfusion", "ventilation")
READERS = {"ann": "resident", "bo": "senior", "cy": "senior"}


def make_cases(number: int) -> dict[str, dict[str, str | None]]:
    """Cases with the four diagnoses in turn."""
    references = ("normal", "embolism", "obstructive", "other")
    return {
        f"case{index:02d}": {
            "patient_id": f"patient{index:02d}",
            "diagnosis": DIAGNOSES[index % 4],
            "reference": references[index % 4],
        }
        for index in range(number)
    }


@dataclass(frozen=True)
class SmallStudy:
    """A design and its images on disk."""

    folder: Path
    cases: dict[str, dict[str, str | None]]
    images: dict[str, dict[str, Path]]
    settings: dict[str, Any]
    secret: str = "known to nobody"

    @property
    def design(self) -> Path:
        return self.folder / "design.json"

    def pack(self, reader: str = "ann", name: str = "packs", **changes: Any) -> Path:
        """Build a reader's pack; returns its folder."""
        folder = self.folder / name / reader
        given = {
            "reader": reader,
            "design": self.design,
            "images": self.images,
            "settings": self.settings,
            "secret": self.secret,
            "archive": self.folder / "archive",
            "exports": self.folder / "exports",
        }
        write_pack(folder, self.key(reader, name), self.record(reader, name), **given | changes)
        return folder

    def key(self, reader: str = "ann", name: str = "packs") -> Path:
        return self.folder / f"{name}-keys" / f"{reader}.tsv"

    def record(self, reader: str = "ann", name: str = "packs") -> Path:
        return self.folder / f"{name}-keys" / f"{reader}.json"

    def key_rows(self, reader: str = "ann") -> list[dict[str, Any]]:
        return read_tsv(self.key(reader)).to_dict("records")


def small_study(folder: Path, number: int = 6, **settings: Any) -> SmallStudy:
    """Write the images and the design of `number` cases."""
    cases, chosen = make_cases(number), SETTINGS | settings
    images = {case: write_case(folder / "images" / case, index) for index, case in enumerate(cases)}
    study = SmallStudy(folder, cases, images, chosen)
    write_design(
        study.design,
        folder / "plan.md",
        study="small",
        secret=study.secret,
        settings=chosen,
        cases=cases,
        readers=READERS,
        simulated=True,
        simulated_readers=False,
        labels={"ddran": "DDRAN"},
    )
    return study


def write_case(folder: Path, index: int) -> dict[str, Path]:
    """Images of a case: real ones noisy, clipped and with zeros; synthesised ones smooth, dim, and unmasked."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(index)
    shape = (10 + index % 3, 8, 12 + 2 * (index % 2))
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    lungs = ((np.abs(x) - 0.5) ** 2 / 0.12 + y**2 / 0.6 + z**2 / 0.8 < 1) * np.where(x < 0, 1, 2)
    smooth = 0.5 + 0.2 * np.sin(3 * z + index) * np.cos(2 * x)
    arrays = {"ct": np.where(lungs > 0, -800.0, 40.0) + generator.normal(0, 30, shape), "lungs": lungs}
    for target in TARGETS:
        noisy = np.clip(smooth + generator.normal(0, 0.3, shape), 0, 1)
        arrays[f"real_{target}"] = np.where(lungs > 0, noisy, 0)
        arrays[f"synthesised_{target}"] = 0.1 + 0.5 * smooth + 0.001 * generator.normal(size=shape)
    paths = {}
    for name, array in arrays.items():
        image = sitk.GetImageFromArray(array.astype(np.uint8 if name == "lungs" else np.float32))
        image.SetSpacing((SPACING_MM,) * 3)
        image.SetOrigin((10.0 * index, -5.0, 3.0))
        paths[name] = folder / f"{name}.nii.gz"
        write_volume(image, paths[name])
    return paths
