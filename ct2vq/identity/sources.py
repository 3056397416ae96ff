"""Where a study's raw images lie. Known to the private folder only: Snakemake records what it is told of a job.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct2vq.config import weight_paths
from ct2vq.discover.resolve import resolve_source
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json
from ct2vq.identity.store import Store, write_private

if TYPE_CHECKING:
    from ct2vq.cohort import Case, Cohort

SOURCES = "sources.json"
#: in the working directory, for its owner only: where the private folder lies. Params would keep that in .snakemake.
POINTER = Path(".ct2vq-private")
LANDMARKS = "landmarks"


@dataclass(frozen=True)
class Raw:
    """The raw data of one volume.

    Attributes:
        root: a file, or a folder.
        files: those files below it that are meant; None for all.
        base: the user's folder of raw data.
        patient_id: the cohort table's name of the patient.
    """

    root: Path
    files: tuple[Path, ...] | None
    base: Path
    patient_id: str

    def all_files(self) -> Iterator[Path]:
        """Every file that may be read."""
        if self.files is not None:
            yield from self.files
        elif self.root.is_file():
            yield self.root
        else:
            yield from (path for path in self.root.rglob("*") if path.is_file())


def write_sources(cohort: Cohort, config: Mapping[str, Any], store: Store) -> None:
    """Write down, when a run starts, where its jobs find their raw data, and a simulated cohort's secret."""
    cases = {
        case.case_id: {
            "patient_id": case.patient_id,
            "sources": {**case.sources, **_own_files(case)},
        }
        for case in cohort.cases
    }
    content = {
        "base": "results" if cohort.simulated else config["cohort"]["dicom_root"],
        "secret": store.key().hex() if cohort.simulated else None,
        "cases": cases,
        "weights": weight_paths(config),
    }
    store.make_folder()
    write_private(POINTER, f"{store.folder}\n")
    write_private(store.folder / SOURCES, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _own_files(case: Case) -> dict[str, str]:
    """The user's own files beside the images of a case."""
    masks = {mask_source(volume): path for volume, path in case.lung_masks.items()}
    return masks | ({LANDMARKS: case.landmarks} if case.landmarks else {})


def mask_source(volume: str) -> str:
    """The name by which `raw_data` knows the user's own lung mask on a CT: its column of the cohort table."""
    return "lung_mask" if volume == "ct" else f"{volume}_lung_mask"


def private_folder() -> Path:
    """The private folder of the run that is going on in this working directory.

    Raises:
        Ct2vqError: no run has started here.
    """
    try:
        return Path(POINTER.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n"))
    except OSError as error:
        raise Ct2vqError("the private folder is not known", path=POINTER, hint="start a run") from error


def open_store(private: Path) -> Store:
    """The store of the run that is going on."""
    secret = read_json(private / SOURCES)["secret"]
    return Store(private, bytes.fromhex(secret) if secret else None)


def backend_weights(private: Path) -> dict[str, str | None]:
    """Where the weights of the segmentation's backend lie; what they hold is a param of the rule."""
    return read_json(private / SOURCES)["weights"]


def raw_data(private: Path, case_id: str, volume: str) -> Raw:
    """Where the raw data of a volume lies.

    Args:
        private: the private folder.
        case_id: the case.
        volume: one of `ct2vq.cohort.VOLUMES`, or `landmarks`, or a lung mask's (`mask_source`).

    Raises:
        Ct2vqError: no run has started here, or the inventory does not know the series.
    """
    known = read_json(private / SOURCES)
    case = known["cases"].get(case_id, {})
    if volume not in case.get("sources", {}):
        raise Ct2vqError(f"no {volume} of case `{case_id}` is known", path=private / SOURCES, hint="start a run")
    found = resolve_source(case["sources"][volume], private)
    root, files = found if isinstance(found, tuple) else (found, None)
    return Raw(root, files, Path(known["base"]), case["patient_id"])
