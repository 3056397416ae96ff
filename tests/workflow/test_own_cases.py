"""A hospital's own cases: a cohort table, raw DICOM folders, and what is wrong in some of them."""

import re
import shutil
import sys

import numpy as np
import pytest
from studies import CASES, Result, Study, contents, files_under, table_study, write_cases

from ct2vq.files import read_json
from ct2vq.volume import read_volume, to_array

pytestmark = pytest.mark.workflow

COMPLETE = {volume: f"{{case}}/{volume}" for volume in ("ct", "attenuation_ct", "perfusion", "ventilation")}
GOOD = ("no-ventilation", "no-camera-ct")
BAD = ("no-dicom", "no-folder", "empty-slice")
BEFORE_TRAINING = ["--until", "crop_spect", "register_spect"]


def _row(case: str, *without: str) -> dict[str, str]:
    return {volume: path.format(case=case) for volume, path in COMPLETE.items() if volume not in without}


ROWS = {
    "no-ventilation": _row("no-ventilation", "ventilation"),
    "no-camera-ct": _row("no-camera-ct", "attenuation_ct"),
} | {case: _row(case, "attenuation_ct", "ventilation") for case in BAD}


@pytest.fixture(scope="module")
def converted(checkout: Study, finished: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Result]:
    """Two good and three bad cases, run to the end of `crop` with --keep-going."""
    study = table_study(checkout.copy(tmp_path_factory.mktemp("own") / "study"), ROWS)
    for case, simulated in zip(ROWS, (*CASES, CASES[0]), strict=True):
        shutil.copytree(
            finished.path(f"results/simulate/{simulated}/dicom"),
            study.path(f"data/dicom/{case}"),
            copy_function=shutil.copy,
        )
    for path in files_under(study.path("data/dicom/no-dicom/ct")):
        path.write_text("exported by nobody\n")
    shutil.rmtree(study.path("data/dicom/no-folder/ct"))
    slices = list(files_under(study.path("data/dicom/empty-slice/ct")))
    slices[len(slices) // 2].write_bytes(b"")
    return study, study.snakemake("--keep-going", *BEFORE_TRAINING, cores=2)


def test_good_cases_reach_the_networks_grid(converted, finished):
    study, _ = converted
    crops = {case: {path.name for path in files_under(study.path(f"results/crop/{case}"))} for case in GOOD}
    of_every_case = {"ct.nii.gz", "ct_enhanced.nii.gz", "ct_texture.nii.gz", "lungs.nii.gz", "crop.json"}
    both = {f"{target}{end}" for target in ("perfusion", "ventilation") for end in (".nii.gz", ".json")}
    assert crops["no-camera-ct"] == of_every_case | both
    assert crops["no-ventilation"] == of_every_case | {name for name in both if name.startswith("perfusion")}
    assert not study.path("results/convert/no-ventilation/ventilation.nii.gz").exists()
    ours = contents(study.path("results/crop/no-ventilation"), "*.nii.gz")
    simulated = contents(finished.path("results/crop/sim001"), "*.nii.gz")
    of_ct = {name for name in ours if "perfusion" not in name}
    assert {ours[name] for name in of_ct} == {simulated[name] for name in of_ct}, "the same images by another way in"
    spects = [
        read_volume(folder / "perfusion.nii.gz")
        for folder in (study.path("results/crop/no-ventilation"), finished.path("results/crop/sim001"))
    ]
    likeness = np.corrcoef(*(to_array(spect).ravel() for spect in spects))[0, 1]
    assert likeness > 0.98, "but for the random sampling, whose seed is each case's own"


def test_a_case_without_the_cameras_ct_is_registered_rigidly_and_says_so(converted, finished):
    study, _ = converted
    rigid = read_json(study.path("results/register/no-camera-ct/perfusion_qc.json"))
    through_ct = read_json(finished.path("results/register/sim002/qc.json"))
    assert rigid["method"] == "rigid on the SPECT images"
    assert rigid["dice_after"] is None
    assert any("no attenuation CT" in flag for flag in rigid["flags"])
    assert through_ct["method"] == "deformable through the attenuation CT"
    assert through_ct["dice_after"] > 0.5
    assert rigid["frame_of_reference"] == {"ventilation": "shared"}
    assert through_ct["frame_of_reference"] == {"perfusion": "shared", "ventilation": "shared"}
    folder = study.path("results/register/no-camera-ct")
    fields = [read_volume(folder / f"{target}_ct_to_spect.nii.gz") for target in ("perfusion", "ventilation")]
    assert np.array_equal(*map(to_array, fields)), "both lie in one frame: each helps the other's registration"
    assert not study.path("results/segment/no-camera-ct/attenuation_ct_lungs.nii.gz").exists()


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no-dicom", ("data/dicom/no-dicom/ct", "no DICOM image found")),
        ("no-folder", ("data/dicom/no-folder/ct", "does not exist")),
        ("empty-slice", ("data/dicom/empty-slice/ct/", "the file is empty (0 bytes)")),
    ],
)
def test_a_bad_case_fails_by_itself_and_its_file_can_be_found(converted, case, said):
    """The log names no file, but an id that `ct2vq where` leads to it."""
    study, result = converted
    path, problem = said
    assert result.returncode != 0
    log = study.path(f"logs/convert/{case}/ct.log").read_text(encoding="utf-8")
    assert problem in log, log
    assert problem in result.output
    assert "data/dicom" not in log + result.output
    name = re.search(r"file ([0-9a-f]{10})", log)[1]
    assert name in result.output
    found = study.finish(study.start(sys.executable, "-m", "ct2vq", "where", name)).require_success()
    assert found.output.startswith(path), found.output
    assert "Traceback" not in log
    assert not study.path(f"results/convert/{case}/ct.nii.gz").exists()
    assert not study.path(f"results/crop/{case}").exists() or not list(files_under(study.path(f"results/crop/{case}")))
    assert study.path(f"results/convert/{case}/perfusion.nii.gz").exists()


def test_a_replaced_slice_converts_its_case_again_and_no_other(converted, tmp_path):
    study = converted[0].copy(tmp_path / "study")
    assert study.plan(*BEFORE_TRAINING).cases() == set(BAD)
    path = next(files_under(study.path("data/dicom/no-ventilation/ct")))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    plan = study.plan(*BEFORE_TRAINING)
    again = {(job["case"], job["volume"]) for job in plan.wildcards["convert_ct"]} - {(case, "ct") for case in BAD}
    assert again == {("no-ventilation", "ct")}
    assert "no-camera-ct" not in plan.cases()


def test_a_repaired_case_is_converted_and_the_others_are_not(converted, tmp_path):
    study = converted[0].copy(tmp_path / "study")
    shutil.copytree(study.path("data/dicom/no-camera-ct/ct"), study.path("data/dicom/no-folder/ct"))
    targets = ["results/convert/no-folder/ct.nii.gz", "results/convert/no-camera-ct/ct.nii.gz"]
    assert study.plan(*targets).rules == {"convert_ct": 1}
    study.snakemake(*targets).require_success()
    assert study.path(targets[0]).read_bytes() == study.path(targets[1]).read_bytes()


def test_a_new_case_takes_a_fold_and_the_others_keep_theirs(own_cases):
    folds = "results/split/folds.tsv"
    own_cases.snakemake(folds).require_success()
    before = own_cases.path(folds).read_text().splitlines()
    row = {"ct": "new/ct", "perfusion": "new/perfusion"}
    rows = {"new": row} | {case: {"ct": f"{case}/ct", "perfusion": f"{case}/perfusion"} for case in ("a", "b", "c")}
    write_cases(own_cases, rows)
    assert own_cases.plan(folds).rules == {"split": 1}
    own_cases.snakemake(folds).require_success()
    after = own_cases.path(folds).read_text().splitlines()
    assert set(before) < set(after)
    assert len(after) == len(before) + 1
