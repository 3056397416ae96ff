"""The finished simulated study that networks are trained on: its cases, folds and truth, and who competes."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ct2vq.config import TARGETS, is_network
from ct2vq.errors import Ct2vqError
from ct2vq.evaluate.images import CaseImages, read_images
from ct2vq.evaluate.regions import CORE
from ct2vq.evaluate.truth import TRUTHS, KnownTruth, carry_truth
from ct2vq.files import read_tsv, replacing
from ct2vq.names import LUNGS, SPECT

#: regions in which images are scored
REGIONS = (LUNGS, CORE)


@dataclass(frozen=True)
class System:
    """What makes both images: a model with two targets, or two models with one each.

    Attributes:
        name: its name in the tables.
        models: names of the configuration's models.
    """

    name: str
    models: tuple[str, ...]


def systems(config: Mapping[str, Any]) -> Iterator[System]:
    """The networks of a configuration: models `<name>_perfusion` and `<name>_ventilation` are one system `<name>`."""
    pairs: dict[str, list[str]] = {}
    for name, model in config["models"].items():
        if is_network(model):
            alone = len(model["targets"]) == 1
            pairs.setdefault(re.sub(rf"_({'|'.join(TARGETS)})$", "", name) if alone else name, []).append(name)
    for name, models in pairs.items():
        made = [target for model in models for target in config["models"][model]["targets"]]
        if sorted(made) != sorted(TARGETS):
            raise Ct2vqError(f"`{name}` makes {made}, not each of {list(TARGETS)} once", key="models")
        yield System(name, tuple(models))


@dataclass(frozen=True)
class Study:
    """A directory in which a configuration ran up to the stage `crop`.

    Attributes:
        root: the directory.
        config: the complete configuration.
        folds: fold of each case.
    """

    root: Path
    config: Mapping[str, Any]
    folds: Mapping[str, int]

    @classmethod
    def read(cls, root: Path, config: Mapping[str, Any]) -> Study:
        """Read the folds.

        Raises:
            Ct2vqError: the study has not come as far, or a case is missing.
        """
        table = root / "results" / "split" / "folds.tsv"
        hint = "run `python -m ct2vq run --cores all --configfile CONFIG --directory DIR --until crop_spect split`"
        if not table.is_file():
            raise Ct2vqError("there are no folds", path=table, hint=hint)
        folds = {row.case_id: int(row.fold) for row in read_tsv(table).itertuples()}
        study = cls(root, config, folds)
        missing = [path for case in folds for path in study.images(case) if not path.is_file()]
        if missing:
            raise Ct2vqError(f"{len(missing)} images are missing, the first is this one", path=missing[0], hint=hint)
        return study

    @property
    def patients(self) -> dict[str, str]:
        """Patient of each case: simulated ones have one case each."""
        return {case: case for case in self.folds}

    def crop(self, case: str) -> Path:
        """The folder of a cropped case."""
        return self.root / "results" / "crop" / case

    def images(self, case: str) -> list[Path]:
        """The cropped images of a case."""
        return [self.crop(case) / f"{name}.nii.gz" for name in ("ct", "ct_enhanced", "lungs", *TARGETS)]

    def learners(self, fold: int) -> list[str]:
        """Cases outside a fold."""
        return [case for case, number in self.folds.items() if number != fold]

    def tested(self, fold: int) -> list[str]:
        """Cases of a fold."""
        return [case for case, number in self.folds.items() if number == fold]


def prepare(study: Study, folder: Path, jobs: int) -> None:
    """Keep SPECT and truth of every case on the network's grid in a file each, where that is not done yet."""
    missing = [case for case in study.folds if not (folder / f"{case}.pickle").is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(_keep, repeat(study), missing, repeat(folder)))


def _keep(study: Study, case: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary, replacing(folder / f"{case}.pickle") as path:
        path.write_bytes(pickle.dumps(_known_images(study, case, Path(temporary))))


def _known_images(study: Study, case: str, temporary: Path) -> CaseImages:
    """What a case's images are compared with, in the lungs and their core."""
    lungs = study.crop(case) / "lungs.nii.gz"
    names = [f"{reference}_{target}" for reference in TRUTHS for target in TARGETS]
    files = {name: temporary / f"{name}.nii.gz" for name in (*names, "findings")}
    known = KnownTruth(
        study.root / "results" / "simulate" / case / "truth",
        study.config["crop"]["spect"],
        study.config["register"]["modulate"],
    )
    carry_truth(known, lungs, files)
    spect = {f"{SPECT}_{target}": study.crop(case) / f"{target}.nii.gz" for target in TARGETS}
    images = read_images(case, {"lungs": lungs, **spect, **files}, study.config["evaluate"])
    masks = {name: images.regions.masks[name] for name in REGIONS}
    regions = type(images.regions)(masks, images.regions.spacing_mm)
    return CaseImages(case, regions, images.images, images.findings)


def kept_images(folder: Path, case: str) -> CaseImages:
    """A case that `prepare` kept."""
    return pickle.loads((folder / f"{case}.pickle").read_bytes())
