"""Everything that is wrong with a study's raw images, before anything is written or computed.

`convert` stops at a case's first problem; this goes on. It first reads a volume just as `convert` does; where that
fails, each step is tried by itself, so that a series without rescale and with a missing slice shows both at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage

from ct2vq.apart import DiedError, apart
from ct2vq.codes import CODES
from ct2vq.config import TARGETS
from ct2vq.convert import read_ct, read_spect
from ct2vq.convert.cohort import volume_facts
from ct2vq.convert.converted import Converted
from ct2vq.convert.ct import ct_instances, ct_slice, finish_ct
from ct2vq.convert.facts import ct_acquisition, spect_acquisition
from ct2vq.convert.limits import Problem, cohort_problems, problems_of
from ct2vq.convert.nm import frame_order, nm_grid, require_reconstruction
from ct2vq.convert.pt import pt_slice
from ct2vq.convert.real_world import nm_mappings
from ct2vq.convert.sidecar import sidecar_facts
from ct2vq.dicom.attributes import number
from ct2vq.dicom.files import Collection, Instance, Source, read_file, read_header, require_honest_size
from ct2vq.dicom.geometry import read_plane, stack
from ct2vq.dicom.pixels import stored_values
from ct2vq.errors import Ct2vqError, DicomError
from ct2vq.files import read_json, read_tsv, write_json, write_tsv
from ct2vq.identity.guard import Guard, job_source
from ct2vq.identity.headers import Text, readable_texts
from ct2vq.identity.job import Job, open_job
from ct2vq.logs import UNEXPECTED

logger = logging.getLogger(__name__)

COLUMNS = ("case_id", "volume", "severity", "code", "attribute", "message", "remedy")
#: size of the image that stands in where there are no values
ONE_VOXEL = (1, 1, 1)
#: sidecar keys that the check of the cohort needs
FACTS = ("acquired_shifted", "acquisition", "header_patient", "input_sha256")


@dataclass(frozen=True)
class RawVolume:
    """One volume of a case to be checked.

    Attributes:
        volume: one of `ct2vq.cohort.VOLUMES`.
        source: its raw data.
        guard: knows what must not be said; writes nothing here.
    """

    volume: str
    source: Path | Source
    guard: Guard


class Jobs:
    """The raw data of a case's volumes, and what may be said of them.

    Args:
        private: the study's private folder.
        case_id: the case.
        volumes: names of the volumes that the cohort table gives.
    """

    def __init__(self, private: Path, case_id: str, volumes: Sequence[str]) -> None:
        self._jobs: dict[str, Job | Ct2vqError] = {}
        for volume in volumes:
            try:
                self._jobs[volume] = open_job(private, case_id, volume)
            except Ct2vqError as error:
                self._jobs[volume] = error
        self._learnt = False

    def clean(self, said: str, failed: bool = False) -> str:
        """What was said, without identities of any volume.

        Raises:
            DiedError: the texts that must not be said cannot be read.
        """
        if not said:
            return said
        jobs = [job for job in self._jobs.values() if isinstance(job, Job)]
        if not self._learnt:
            for job in jobs:  # the volumes were read in other processes: what those learnt is not known here
                job.redactor.learn_texts(apart(_texts_of, job))
            self._learnt = True
        for job in jobs:
            said = job.clean(said, False)
        return said

    def volumes(self) -> Iterator[RawVolume | tuple[str, Ct2vqError]]:
        """What `check_case` takes."""
        for volume, job in self._jobs.items():
            if isinstance(job, Ct2vqError):
                yield volume, job
            else:
                guard = Guard(job.redactor.store, job.redactor, job.raw.patient_id)
                yield RawVolume(volume, job_source(job), guard)


def _texts_of(job: Job) -> set[Text]:
    return set().union(*map(readable_texts, job.raw.all_files()))


def check_case(
    case_id: str,
    volumes: Iterable[RawVolume | tuple[str, Ct2vqError]],
    settings: Mapping[str, Any],
    clean: Callable[[str], str],
    table: Path,
    facts: Path,
) -> None:
    """Write all problems of a case's raw images, and the facts that the check of the cohort compares.

    Args:
        case_id: the case.
        volumes: what to check; a volume whose raw data are not even known comes with the reason.
        settings: config block `convert`.
        clean: takes identities out of a message.
        table: `*.tsv` to write, one row for each problem.
        facts: `*.json` to write, by volume.
    """
    rows, known = [], {}
    for volume in volumes:
        if isinstance(volume, tuple):
            name, problems = volume[0], [Problem("D101", str(volume[1]))]
        else:
            name = volume.volume
            problems, facts_of_volume = _check_apart(volume, case_id, dict(settings))
            known |= {name: facts_of_volume} if facts_of_volume else {}
        rows += [_row(case_id, name, _cleaned(problem, clean)) for problem in problems]
    write_json(known, facts)
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), table)


def _check_apart(raw: RawVolume, case_id: str, settings: dict) -> tuple[list[Problem], dict[str, Any] | None]:
    """`check_volume` in a process of its own: a crash or a full memory costs a row, not the table."""
    try:
        return apart(check_volume, raw, case_id, settings)
    except DiedError as error:
        return [Problem("D110", error.message)], None


def _cleaned(problem: Problem, clean: Callable[[str], str]) -> Problem:
    """A problem that may be told; what cannot be cleaned is told by its code alone."""
    try:
        return problem._replace(message=clean(problem.message))
    except Exception as error:
        logger.error("a message cannot be cleaned: %s", type(error).__name__)
        return problem._replace(message=CODES[problem.code].meaning)


def check_cohort(
    tables: Sequence[Path], facts: Sequence[Path], patients: Mapping[str, str], limits: Mapping[str, Any], out: Path
) -> None:
    """Join the tables of all cases, and add what only shows when cases lie side by side.

    Args:
        tables: `<case>.tsv` of every case, as `check_case` writes them.
        facts: `<case>.json` of every case.
        patients: `patient_id` by case.
        limits: config block `convert.limits`.
        out: `*.tsv` to write; errors come first, each case's together.
    """
    volumes = [
        volume_facts(told, path.stem, patients[path.stem], volume)
        for path in facts
        for volume, told in read_json(path).items()
    ]
    rows = [row for path in tables for row in read_tsv(path, dtype=str).fillna("").to_dict("records")]
    rows += [_row(*problem) for problem in cohort_problems(volumes, limits)]
    rows.sort(key=lambda row: (row["severity"] != "error", row["case_id"] == "", row["case_id"], row["volume"]))
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), out)


def problem_lines(table: Path) -> tuple[list[str], int]:
    """A table of problems in words for the terminal, and the number of errors."""
    rows = read_tsv(table, dtype=str).fillna("").to_dict("records")
    errors = sum(row["severity"] == "error" for row in rows)
    lines = []
    for row in rows:
        where = " ".join(part for part in (row["case_id"] or "cohort", row["volume"]) if part)
        lines.append(f"{row['severity']:7}  {row['code']}  {where}: {row['message']}")
        lines.append(f"{'':15}{row['remedy']}")
    count = f"{errors} error(s), {len(rows) - errors} warning(s)"
    return [*lines, f"{count}; docs/errors.md explains the codes" if rows else "no problems found"], errors


def check_volume(raw: RawVolume, case_id: str, settings: dict) -> tuple[list[Problem], dict[str, Any] | None]:
    """All problems of one volume, and its facts as far as they could be read; never an exception."""
    found = _Found()
    try:
        return _check_volume(raw, case_id, settings, found)
    except Exception as error:
        found.unexpected(error)
        return found.problems(), None


def _check_volume(
    raw: RawVolume, case_id: str, settings: dict, found: _Found
) -> tuple[list[Problem], dict[str, Any] | None]:
    is_ct = raw.volume not in TARGETS
    read = found.attempt(read_ct if is_ct else read_spect, raw.source, settings)
    if read is None:
        return _check_steps(raw, case_id, settings, found)
    converted, collection = read
    found.attempt(raw.guard.inspect, collection, case_id)
    return _judged(converted, raw, settings, found)


def _judged(
    converted: Converted, raw: RawVolume, settings: dict, found: _Found
) -> tuple[list[Problem], dict[str, Any] | None]:
    """The problems found, those with the study's limits, what the readers noted, and the facts."""
    limits = found.attempt(problems_of, converted, raw.volume, settings["limits"]) or []
    facts = found.attempt(_facts, converted, raw)
    notes = [Problem(note[:4], note[5:]) for note in converted.notes]
    return [*found.problems(), *limits, *notes], facts


class _Found:
    """Collects errors instead of stopping at the first; one that repeats itself from file to file counts once."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, str], list[DicomError]] = {}

    def attempt(self, step: Callable[..., Any], *args: Any) -> Any:
        """The step's result, None if it failed."""
        try:
            return step(*args)
        except DicomError as error:
            same = self.errors.setdefault((error.code, error.key or ""), [])
            if str(error) not in map(str, same):
                same.append(error)
            return None
        except Exception as error:
            self.unexpected(error)
            return None

    def unexpected(self, error: Exception) -> None:
        """Note an error that is nobody's message: a defect of this program, or of a library."""
        logger.error(UNEXPECTED, exc_info=error)
        problem = DicomError("D109", f"{type(error).__name__}: {error}")
        self.errors.setdefault((problem.code, str(problem)), [problem])

    def passes(self, check: Callable[..., None], *args: Any) -> bool:
        """Whether a check that only raises has nothing to say."""
        return self.attempt(lambda: check(*args) is None) is not None

    def problems(self) -> list[Problem]:
        problems = []
        for (code, _), errors in sorted(self.errors.items()):
            more = f" (and {len(errors) - 1} more like this)" if len(errors) > 1 else ""
            where = f", in {errors[0].path}" if errors[0].path else ""
            problems.append(Problem(code, f"{errors[0].message}{where}{more}", errors[0].key or ""))
        return problems


def _check_steps(
    raw: RawVolume, case_id: str, settings: dict, found: _Found
) -> tuple[list[Problem], dict[str, Any] | None]:
    """Try the steps of reading one by one, after the whole has failed."""
    instances = _headers(raw.source, found)
    if not instances:
        return found.problems(), None
    collection = Collection(_root(raw.source), instances)
    found.attempt(raw.guard.inspect, collection, case_id)
    if raw.volume in TARGETS:
        converted = _try_spect(collection, settings, found)
    else:
        converted = _try_ct(collection, settings, found)
    if converted is None:
        return found.problems(), None
    if raw.volume in TARGETS:
        acquisition = found.attempt(spect_acquisition, converted)
    else:
        acquisition = found.attempt(ct_acquisition, converted, instances)
    if acquisition is None:
        return found.problems(), None
    converted.facts["acquisition"] = acquisition
    return _judged(converted, raw, settings, found)


def _root(source: Path | Source) -> Path:
    return source.root if isinstance(source, Source) else source


def _headers(source: Path | Source, found: _Found) -> list[Instance]:
    """The headers of all files that can be read."""
    root = _root(source)
    files = (
        sorted(source.files) if isinstance(source, Source) else [root] if root.is_file() else sorted(root.rglob("*"))
    )
    headers = (found.attempt(read_header, file) for file in files if file.is_file() and not file.name.startswith("."))
    return [instance for instance in headers if instance is not None]


def _try_ct(collection: Collection, settings: dict, found: _Found) -> Converted | None:
    slices = found.attempt(ct_instances, collection)
    if slices is None:
        return None
    if any("NumberOfFrames" in instance.dataset for instance in slices):
        return _stand_in(slices, [], "HU")  # an enhanced object is read in one step
    converted = _try_stack(slices, settings, found, ct_slice, "HU", tilt=settings["gantry_tilt"] == "correct")
    if converted.image.GetSize() != ONE_VOXEL:
        found.attempt(finish_ct, converted, settings, collection.root)
    return converted


def _try_spect(collection: Collection, settings: dict, found: _Found) -> Converted | None:
    kept = collection.keep([NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage])
    nm = [instance for instance in kept if instance.sop_class == NuclearMedicineImageStorage]
    if not kept or (nm and len(kept) > 1):
        return None
    if not nm:
        return _try_stack(kept, settings, found, pt_slice, "unknown", tilt=False)
    instance = nm[0]
    frames = found.attempt(_frames, instance)
    found.attempt(require_reconstruction, instance)
    if frames:
        found.attempt(frame_order, instance, frames)
        found.attempt(nm_grid, instance, frames)
    read = _content(instance, found)
    if read is None:
        return _stand_in([instance], [], "counts")
    found.attempt(nm_mappings, read[0], instance.path)
    found.attempt(stored_values, read[0], instance.path)
    return _stand_in([instance], [read[1]], "counts")


def _frames(instance: Instance) -> int:
    """Number of frames of an NM object.

    Raises:
        DicomError: it is no number of frames that make a volume.
    """
    count = number(instance.dataset, "NumberOfFrames", instance.path) or 1
    if count < 2 or count != int(count):
        raise DicomError("D303", f"{count:g} frame(s) are no volume", path=instance.path, key="NumberOfFrames")
    return int(count)


def _content(instance: Instance, found: _Found) -> tuple[Dataset, str] | None:
    """A file's content and digest, unless its header claims more than there is."""
    return found.attempt(read_file, instance.path) if found.passes(require_honest_size, instance) else None


def _try_stack(
    instances: Sequence[Instance],
    settings: dict,
    found: _Found,
    read_slice: Callable[..., Any],
    units: str,
    *,
    tilt: bool,
) -> Converted:
    """Places and values of single-frame images, each by itself."""
    planes = [found.attempt(read_plane, instance) for instance in instances]
    if all(plane is not None for plane in planes):
        found.attempt(lambda: stack(planes, settings, tilt=tilt))
    digests, values = [], []
    for instance in instances:
        read = _content(instance, found)
        if read is None:
            continue
        digests.append(read[1])
        array = found.attempt(read_slice, instance, read[0], [])
        if array is not None:
            values.append(np.asarray(array, dtype=np.float32))
    whole = len(values) == len(instances) and len({array.shape for array in values}) == 1
    converted = _stand_in(instances, digests if len(digests) == len(instances) else [], units)
    return replace(converted, image=sitk.GetImageFromArray(np.stack(values))) if whole else converted


def _stand_in(instances: Sequence[Instance], digests: list[str], units: str) -> Converted:
    """A volume of which only the header is known: an empty image with one voxel."""
    return Converted(sitk.Image(ONE_VOXEL, sitk.sitkFloat32), instances[0], digests, {"units": units}, [])


def _facts(converted: Converted, raw: RawVolume) -> dict[str, Any]:
    """What the sidecar would say, as far as cases are compared by it; no content is told that was not read whole."""
    facts = sidecar_facts(converted, raw.volume if raw.volume in TARGETS else "ct", raw.guard)
    told = {name: facts[name] for name in FACTS}
    return told if converted.digests else told | {"input_sha256": None}


def _row(case_id: str, volume: str, problem: Problem) -> dict[str, str]:
    severity = "error" if problem.code.startswith("D") else "warning"
    remedy = CODES[problem.code].remedy
    values = (case_id, volume, severity, problem.code, problem.attribute, " ".join(problem.message.split()), remedy)
    return dict(zip(COLUMNS, values, strict=True))
