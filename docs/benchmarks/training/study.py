"""The simulated cases that networks are trained on, with folds and truth, and who competes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ct2vq.config import TARGETS, is_network
from ct2vq.errors import Ct2vqError
from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.regions import CORE, Regions, core_of
from ct2vq.evaluate.truth import TRUTHS
from ct2vq.files import read_json, replacing
from ct2vq.inputs import CT_FILES
from ct2vq.names import LUNGS, SPECT
from ct2vq.simulate import ceilings
from ct2vq.volume import from_array, from_components, make_grid, write_volume

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
    """Simulated cases of a configuration, cropped for networks.

    The SPECT is carried to the CT by the true displacement and the lungs are the true ones: what is compared is
    networks, without the errors of segmentation and registration.

    Attributes:
        simulated: folder of the finished cases (`results/simulate`).
        state: folder of all that the benchmark keeps.
        config: the complete configuration.
        folds: fold of each case.
    """

    simulated: Path
    state: Path
    config: Mapping[str, Any]
    folds: Mapping[str, int]

    @classmethod
    def read(cls, root: Path, state: Path, config: Mapping[str, Any]) -> Study:
        """Find the finished cases of a study's directory and deal them into folds.

        Raises:
            Ct2vqError: there are not as many as the configuration simulates, or a case is not of its seed.
        """
        simulated = root / "results" / "simulate"
        folders = sorted(path.parent for path in simulated.glob("*/manifest.json"))
        wanted = config["simulate"]["cases"]
        if len(folders) != wanted:
            raise Ct2vqError(
                f"{len(folders)} finished simulated cases, not {wanted}",
                path=simulated,
                hint="`python -m ct2vq run --cores all --configfile CONFIG --directory DIR --until simulate`",
            )
        facts = {folder.name: read_json(folder / "truth" / "truth.json") for folder in folders}
        return cls(simulated, state, config, ceilings.folds_of(facts, config))

    @property
    def patients(self) -> dict[str, str]:
        """Patient of each case: simulated ones have one case each."""
        return {case: case for case in self.folds}

    def crop(self, case: str) -> Path:
        """The folder of a cropped case."""
        return self.state / "crop" / case

    def images(self, case: str) -> list[Path]:
        """The cropped images of a case."""
        return [self.crop(case) / f"{name}.nii.gz" for name in (*CT_FILES, *TARGETS)]

    def known(self, case: str) -> Path:
        """What a case's images are compared with (`CaseImages`)."""
        return self.state / "cases" / f"{case}.pickle"

    def learners(self, fold: int) -> list[str]:
        """Cases outside a fold."""
        return [case for case, number in self.folds.items() if number != fold]

    def tested(self, fold: int) -> list[str]:
        """Cases of a fold."""
        return [case for case, number in self.folds.items() if number == fold]


def prepare(study: Study, jobs: int) -> None:
    """Crop every case and keep what its images are compared with, where that is not done yet."""
    missing = [
        case for case in study.folds if not all(path.is_file() for path in (study.known(case), *study.images(case)))
    ]
    if missing:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(_keep, repeat(study), missing))


def _keep(study: Study, case: str) -> None:
    """The file of known images is written last: by it the case counts as done."""
    found = ceilings.read_known_case(study.simulated / case, study.config)
    cropped = found.cropped
    grid = make_grid(cropped.lungs.shape[::-1], [cropped.spacing_mm] * 3, (0.0, 0.0, 0.0))
    arrays = {"ct": cropped.hu, "ct_enhanced": cropped.enhanced, "lungs": cropped.lungs, **cropped.targets}
    write_volume(from_components(cropped.texture, grid), study.crop(case) / "ct_texture.nii.gz")
    for name, array in arrays.items():
        write_volume(from_array(array, grid), study.crop(case) / f"{name}.nii.gz")
    images = {(SPECT, target): image for target, image in cropped.targets.items()}
    images |= {(name, target): found.truth[f"{target}_{kind}"] for name, kind in TRUTHS.items() for target in TARGETS}
    core = core_of(cropped.inside, study.config["evaluate"]["core_mm"], cropped.spacing_mm)
    regions = Regions({LUNGS: cropped.inside, CORE: core}, cropped.spacing_mm)
    with replacing(study.known(case)) as path:
        path.write_bytes(pickle.dumps(CaseImages(case, regions, images)))


def kept_images(study: Study, case: str) -> CaseImages:
    """A case that `prepare` kept."""
    return pickle.loads(study.known(case).read_bytes())
