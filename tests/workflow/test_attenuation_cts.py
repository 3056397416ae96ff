"""Perfusion and ventilation with an attenuation CT each: from other days, cameras or frames of reference."""

import shutil

import numpy as np
import pytest
from studies import Result, Study, table_study

from ct2vq.cohort import OWN_ATTENUATION_CT
from ct2vq.files import read_json
from ct2vq.volume import read_volume, to_array

pytestmark = pytest.mark.workflow

TARGETS = ("perfusion", "ventilation")
SPECTS = {"ct": "sim001/ct", "perfusion": "sim001/perfusion", "ventilation": "sim001/ventilation"}
CAMERA = "sim001/attenuation_ct"
ROWS = {
    "shared": SPECTS | {"attenuation_ct": CAMERA},
    "apart": SPECTS | {"attenuation_ct_perfusion": CAMERA, "attenuation_ct_ventilation": "copy/attenuation_ct"},
    # the ventilation's CT is another session's: in no frame of reference that its SPECT knows
    "mixed": SPECTS | {"attenuation_ct": CAMERA, "attenuation_ct_ventilation": "sim002/attenuation_ct"},
    "half": SPECTS | {"attenuation_ct_perfusion": CAMERA},
}
#: targets that are registered alone, and whether one registration carries the others
ALONE = {"shared": (set(), True), "apart": (set(TARGETS), False), "mixed": ({"ventilation"}, True)} | {
    "half": (set(TARGETS), False)
}


def _study(folder: Study, rows: dict[str, dict[str, str]], finished: Study) -> Study:
    study = table_study(folder, rows)
    raw = study.path("data/dicom")
    for case in ("sim001", "sim002"):
        shutil.copytree(finished.path(f"results/simulate/{case}/dicom"), raw / case, copy_function=shutil.copy)
    shutil.copytree(raw / CAMERA, raw / "copy/attenuation_ct", copy_function=shutil.copy)
    return study


@pytest.fixture(scope="module")
def registered(checkout: Study, finished: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Result]:
    """One patient's images by four rows, to the figures of their registrations."""
    study = _study(checkout.copy(tmp_path_factory.mktemp("cameras") / "study"), ROWS, finished)
    # an image may stand only once in a cohort: `convert_cohort` is not asked here
    wanted = ["--until", "crop_spect", "register_spect", "report_registration"]
    return study, study.snakemake("--keep-going", *wanted, cores=2).require_success()


def test_each_target_takes_the_transform_of_its_camera(own_cases: Study, finished: Study) -> None:
    study = _study(own_cases, ROWS, finished)
    plan = study.plan()
    together = {case for case, (_, shared) in ALONE.items() if shared}
    alone = {(case, target) for case, (targets, _) in ALONE.items() for target in targets}
    assert plan.values("register", "case") == together
    assert {(job["case"], job["target"]) for job in plan.wildcards["register_alone"]} == alone
    cts = {(case, column) for case, row in ROWS.items() for column in row if column not in TARGETS}
    assert {(job["case"], job["volume"]) for job in plan.wildcards["convert_ct"]} == cts
    assert {(job["case"], job["volume"]) for job in plan.wildcards["segment"]} == cts


def test_simulated_studies_have_one_camera(fresh: Study) -> None:
    plan = fresh.plan()
    assert not [rule for rule in plan.rules if rule.endswith("_alone")]
    assert plan.values("convert_ct", "volume") == plan.values("segment", "volume") == {"ct", "attenuation_ct"}
    assert [volume for volume in OWN_ATTENUATION_CT.values() if volume in plan.output] == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_camera_in_other_columns_gives_the_same_images(registered, target: str) -> None:
    """But for the random sampling, whose seed is each case's own."""
    study, _ = registered

    def image(stage: str, case: str) -> np.ndarray:
        return to_array(read_volume(study.path(f"results/{stage}/{case}/{target}.nii.gz"))).astype(float)

    def likeness(stage: str, one: str, other: str) -> float:
        return float(np.corrcoef(image(stage, one).ravel(), image(stage, other).ravel())[0, 1])

    for stage in ("register", "crop"):
        assert likeness(stage, "apart", "shared") > 0.98
    assert (likeness("register", "mixed", "shared") > 0.98) == (target == "perfusion")


def test_another_frame_of_reference_is_flagged_and_logged(registered) -> None:
    study, _ = registered
    expected = "W802 ventilation has another frame of reference than its attenuation CT"
    mixed = read_json(study.path("results/register/mixed/ventilation_qc.json"))
    assert mixed["frame_of_reference"] == {"ventilation": "different"}
    assert any(flag.startswith(expected) for flag in mixed["flags"])
    assert expected in study.path("logs/register/mixed/quality_ventilation.log").read_text(encoding="utf-8")
    shared = read_json(study.path("results/register/mixed/qc.json"))
    assert shared["frame_of_reference"] == {"perfusion": "shared"}
    for name in ("qc.json", "perfusion_qc.json"):
        case = "shared" if name == "qc.json" else "apart"
        record = read_json(study.path(f"results/register/{case}/{name}"))
        assert set(record["frame_of_reference"].values()) == {"shared"}
        assert not any("frame of reference" in flag for flag in record["flags"])


def test_a_target_without_a_camera_is_rigid_beside_one_with(registered) -> None:
    study, _ = registered
    records = {target: read_json(study.path(f"results/register/half/{target}_qc.json")) for target in TARGETS}
    assert records["perfusion"]["method"] == "deformable through the attenuation CT"
    assert records["ventilation"]["method"] == "rigid on the SPECT images"
    assert records["ventilation"]["ct_frame_of_reference"]["relation"] == "different"
    assert any(flag.startswith("W801") for flag in records["ventilation"]["flags"])


def test_cases_and_targets_do_not_share_a_log(registered) -> None:
    """A case `apart` with a target, and a case called `apart_perfusion`, would have met in one file."""
    study, _ = registered
    for case, (alone, shared) in ALONE.items():
        logs = {path.stem for path in study.path(f"logs/register/{case}").iterdir()}
        own = {f"{job}_{target}" for job in ("register", "quality") for target in alone}
        assert logs == own | ({"register", "quality"} if shared else set()) | set(TARGETS)


def test_every_registration_has_its_figure(registered) -> None:
    study, _ = registered
    folder = study.path("results/report/figures/registration")
    found = {
        path.relative_to(portion).with_suffix("").as_posix()
        for portion in folder.iterdir()
        for path in portion.rglob("*.png")
    }
    alone = {f"{case}/{target}" for case, (targets, _) in ALONE.items() for target in targets}
    assert found == alone | {case for case, (_, shared) in ALONE.items() if shared}
