"""Facts of an acquisition: what headers say in their many ways, in one spelling, and nothing that identifies."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import nm, series, thorax_like
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ct2vq.config import complete_config
from ct2vq.convert.cohort import convert_cohort
from ct2vq.convert.converted import Converted
from ct2vq.convert.facts import acquisition_time, ct_acquisition, spect_acquisition
from ct2vq.convert.limits import VolumeFacts, cohort_problems, require_limits, volume_problems
from ct2vq.dicom.files import Instance
from ct2vq.errors import DicomError
from ct2vq.files import read_tsv, write_json

LIMITS = complete_config({"study": "test"})["convert"]["limits"]
SHAPE = (3, 4, 5)
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def instance(data: Dataset) -> Instance:
    return Instance(Path("a.dcm"), data, data.SOPClassUID)


def ct_facts(**attributes) -> dict:
    data = series(thorax_like(SHAPE))
    for one in data:
        for keyword, value in attributes.items():
            setattr(one, keyword, value)
    slices = [instance(one) for one in data]
    return ct_acquisition(Converted(volume(), slices[0], [], {"units": "HU"}, []), slices)


def spect_facts(data: Dataset, units: str = "counts") -> dict:
    return spect_acquisition(Converted(volume(), instance(data), [], {"units": units}, []))


def volume() -> sitk.Image:
    image = sitk.GetImageFromArray(np.full(SHAPE, 7, np.float32))
    image.SetSpacing([1, 1, 2.5])
    return image


def spect(**attributes) -> Dataset:
    data = nm(np.full(SHAPE, 7))
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    return data


def drug(name: str | None = None, nuclide: str | None = None, dose: float | None = None) -> Sequence:
    item, code = Dataset(), Dataset()
    if name is not None:
        item.Radiopharmaceutical = name
    if nuclide is not None:
        code.CodeMeaning = nuclide
        item.RadionuclideCodeSequence = Sequence([code])
    if dose is not None:
        item.RadionuclideTotalDose = dose
    return Sequence([item])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Thorax INSP 1.0 B70f", "inspiration"),
        ("chest_inspiration_1mm", "inspiration"),
        ("Lunge Exspiration", "expiration"),
        ("EXP 3mm", "expiration"),
        ("export exploration", "unknown"),
        ("AC CT free-breathing", "free"),
        ("shallow breathing", "free"),
        ("insp and exp", "unknown"),
        ("breath hold", "unknown"),
        ("", "unknown"),
    ],
)
def test_breath_hold_from_words(words, expected) -> None:
    assert ct_facts(SeriesDescription=words)["breath_hold"] == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "unknown"),
        ({"ContrastBolusAgent": ""}, "unknown"),
        ({"ContrastBolusAgent": "Iomeprol 350"}, "yes"),
        ({"ContrastBolusVolume": 80}, "yes"),
        ({"ContrastBolusVolume": 0}, "no"),
        ({"ContrastBolusAgent": "NONE"}, "no"),
        ({"ContrastBolusAgent": "Non-ionic"}, "yes"),
    ],
)
def test_contrast(attributes, expected) -> None:
    assert ct_facts(**attributes)["contrast"] == expected


def test_numbers_of_a_ct_and_what_is_damaged_is_unknown() -> None:
    facts = ct_facts(KVP="120", ReconstructionDiameter="360", CTDIvol=4.5, PatientPosition="HFS", Exposure="80")
    assert (facts["tube_voltage_kv"], facts["reconstruction_diameter_mm"], facts["ctdi_vol_mgy"]) == (120, 360, 4.5)
    assert (facts["exposure_mas"], facts["patient_position"], facts["slice_increment_mm"]) == (80, "HFS", 2.5)
    damaged = ct_facts(PatientPosition="MEIER^HANS")
    assert damaged["patient_position"] is None
    assert damaged["tube_voltage_kv"] is None


@pytest.mark.parametrize(
    ("corrected", "method", "expected"),
    [
        (["ATTN", "SCAT"], None, "yes"),
        (["SCAT"], None, "no"),
        (None, None, "unknown"),
        (None, "CT-based", "yes"),
        (None, "NONE", "no"),
        (["DECY"], "measured", "yes"),
    ],
)
def test_attenuation_correction(corrected, method, expected) -> None:
    data = spect(CorrectedImage=corrected)
    if method:
        data.AttenuationCorrectionMethod = method
    assert spect_facts(data)["attenuation_corrected"] == expected


@pytest.mark.parametrize(("dose", "expected"), [(120.0, 120.0), (120e6, 120.0), (0, None), (-5, None), (None, None)])
def test_activity_is_mbq_whichever_unit_was_stored(dose, expected) -> None:
    assert (
        spect_facts(spect(RadiopharmaceuticalInformationSequence=drug(dose=dose)))["injected_activity_mbq"] == expected
    )


@pytest.mark.parametrize(
    ("name", "nuclide", "agent", "word", "positron"),
    [
        ("99mTc-MAA", None, "MAA", "Tc-99m", False),
        ("Macroaggregated albumin", "^99m^Technetium", "MAA", "Tc-99m", False),
        ("Technegas", "^99m^Technetium", "Technegas", "Tc-99m", False),
        ("Krypton", "^81m^Krypton", "other", "Kr-81m", False),
        ("FDG", "^18^Fluorine", "other", "other", True),
        ("Galligas", "Ga-68", "other", "other", True),
        ("citrate", "^67^Gallium", "other", "other", False),
        ("oxine", "^111^Indium", "other", "other", False),
        ("gas", "^133^Xenon", "other", "Xe-133", False),
        (None, None, "unknown", "unknown", False),
    ],
)
def test_tracer(name, nuclide, agent, word, positron) -> None:
    facts = spect_facts(spect(RadiopharmaceuticalInformationSequence=drug(name, nuclide)))
    assert (facts["agent"], facts["nuclide"], facts["positron_emitter"]) == (agent, word, positron)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("OSEM 4i8s", (4, 8)), ("Flash3D 8i, 4s", (8, 4)), ("10 iter 6 subsets", (10, 6)), ("FBP", (None, None))],
)
def test_iterations_and_subsets(words, expected) -> None:
    facts = spect_facts(spect(ReconstructionMethod=words))
    assert (facts["iterations"], facts["subsets"]) == expected


def test_collimator_window_duration_and_counts() -> None:
    data = spect()
    detector, window, energies, rotation = data.DetectorInformationSequence[0], Dataset(), Dataset(), Dataset()
    detector.CollimatorGridName, detector.CollimatorType = "LEHR-PAR", "PARA"
    energies.EnergyWindowLowerLimit, energies.EnergyWindowUpperLimit = 126, 154
    window.EnergyWindowRangeSequence = Sequence([energies])
    data.EnergyWindowInformationSequence = Sequence([window])
    rotation.NumberOfFramesInRotation, rotation.ActualFrameDuration = 60, 15000
    data.RotationInformationSequence = Sequence([rotation])
    facts = spect_facts(data)
    assert (facts["collimator"], facts["collimator_type"]) == ("LEHR", "PARA")
    assert facts["energy_windows_kev"] == [[126, 154]]
    assert facts["acquisition_duration_s"] == 900
    assert (facts["counts_total"], facts["matrix"]) == (7 * 60, [5, 4, 3])
    assert spect_facts(data, "Bq/mL")["counts_total"] is None


def test_no_fact_repeats_a_text_of_the_header() -> None:
    data = nm(np.full(SHAPE, 7))
    planted = "Xyzzy"
    for keyword in ("SeriesDescription", "ProtocolName", "ReconstructionMethod", "ImageComments", "PatientPosition"):
        setattr(data, keyword, planted)
    data.CorrectedImage = [planted.upper()]
    data.RadiopharmaceuticalInformationSequence = drug(planted, planted)
    detector = data.DetectorInformationSequence[0]
    detector.CollimatorGridName = detector.CollimatorType = planted.upper()
    ct = ct_facts(ContrastBolusAgent=planted, ConvolutionKernel=planted, SeriesDescription=planted)
    assert planted.lower() not in json.dumps([spect_facts(data), ct]).lower()


def test_the_time_of_an_acquisition() -> None:
    data = spect(AcquisitionDateTime="20240304101112.345+0100")
    assert acquisition_time(instance(data)) == datetime(2024, 3, 4, 10, 11, 12)
    data = spect(SeriesDate="20240305", SeriesTime="0800")
    assert acquisition_time(instance(data)) == datetime(2024, 3, 5, 8)
    assert acquisition_time(instance(spect())) is None  # a date without a time of day is no moment
    assert acquisition_time(instance(spect(AcquisitionDate="20241399", AcquisitionTime="101010"))) is None


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "kernel", "codes"),
    [
        ({}, None, []),
        ({"max_slice_thickness_mm": 2}, None, ["D501"]),
        ({"max_slice_thickness_mm": 3}, None, []),
        ({"contrast": "none"}, None, ["D502"]),
        ({"kernels": "B[0-9]+f"}, "B70f", []),
        ({"kernels": "B[0-9]+f"}, "B70fx", ["D503"]),
        ({"kernels": "B[0-9]+f"}, None, ["W501"]),
        ({"contrast": "none", "max_slice_thickness_mm": 1}, None, ["D501", "D502"]),
    ],
)
def test_limits_of_a_ct(limits, kernel, codes) -> None:
    facts = ct_facts(ContrastBolusAgent="Iomeprol")
    assert [problem.code for problem in volume_problems(facts, "ct", LIMITS | limits, kernel)] == codes
    assert volume_problems(facts, "attenuation_ct", LIMITS | limits, kernel) == []


@pytest.mark.parametrize(
    ("wanted", "corrected", "codes"),
    [
        ("all", ["ATTN"], []),
        ("all", ["SCAT"], ["D504"]),
        ("none", ["ATTN"], ["D504"]),
        ("none", ["SCAT"], []),
        ("all", None, ["W501"]),
        ("consistent", ["SCAT"], []),
        ("any", None, []),
    ],
)
def test_limit_of_attenuation_correction(wanted, corrected, codes) -> None:
    facts = spect_facts(spect(CorrectedImage=corrected))
    limits = LIMITS | {"attenuation_correction": wanted}
    assert [problem.code for problem in volume_problems(facts, "perfusion", limits)] == codes


def test_pet_and_swapped_tracers() -> None:
    pet = spect_facts(spect(RadiopharmaceuticalInformationSequence=drug("FDG", "^18^Fluorine")))
    assert [problem.code for problem in volume_problems(pet, "perfusion", LIMITS)] == ["D505"]
    assert volume_problems(pet, "perfusion", LIMITS | {"allow_positron_emitters": True}) == []
    maa = spect_facts(spect(RadiopharmaceuticalInformationSequence=drug("MAA")))
    assert volume_problems(maa, "perfusion", LIMITS) == []
    assert [problem.code for problem in volume_problems(maa, "ventilation", LIMITS)] == ["W505"]


def test_convert_stops_at_a_limit_and_says_what_it_cannot_check() -> None:
    first = instance(series(thorax_like(SHAPE))[0])
    converted = Converted(volume(), first, [], {"units": "HU"}, [])
    converted.facts["acquisition"] = ct_acquisition(converted, [first])
    require_limits(converted, "ct", LIMITS | {"kernels": "B70f"})
    assert converted.notes == ["W501 the kernel is not stated: its limit cannot be checked"]
    with pytest.raises(DicomError, match=r"D501 .*3 mm thick, at most 1 mm"):
        require_limits(converted, "ct", LIMITS | {"max_slice_thickness_mm": 1})


# --- cohort --------------------------------------------------------------------------------------------------------

START = datetime(2020, 1, 1)


def facts_of(case: str, name: str, *, ac: str = "yes", days: float | None = 0, **more) -> VolumeFacts:
    time = None if days is None else START + timedelta(days=days)
    content, patient = more.get("content", f"{case}{name}"), more.get("header", case)
    return VolumeFacts(case, more.get("patient", case), name, {"attenuation_corrected": ac}, time, content, patient)


def codes(volumes: list[VolumeFacts], **limits) -> list[tuple[str, str, str]]:
    return [(case, name, problem.code) for case, name, problem in cohort_problems(volumes, LIMITS | limits)]


def test_mixed_attenuation_correction_is_judged_for_each_target() -> None:
    mixed = [facts_of("a", "perfusion"), facts_of("b", "perfusion", ac="no"), facts_of("b", "ventilation", ac="no")]
    assert codes(mixed) == [("", "perfusion", "D508")]
    assert (
        "(a)" in cohort_problems(mixed, LIMITS)[0][2].message and "(b)" in cohort_problems(mixed, LIMITS)[0][2].message
    )
    assert codes(mixed, attenuation_correction="any") == []
    assert codes([facts_of("a", "perfusion"), facts_of("b", "ventilation", ac="no")]) == []
    assert codes([facts_of("a", "perfusion"), facts_of("b", "perfusion", ac="unknown")]) == [("b", "perfusion", "W501")]


def test_intervals() -> None:
    case = [facts_of("a", "ct"), facts_of("a", "perfusion", days=3), facts_of("a", "ventilation", days=-1.5)]
    assert codes(case) == []
    assert codes(case, max_ct_spect_days=2) == [("a", "perfusion", "D506")]
    assert codes(case, max_perfusion_ventilation_days=4) == [("a", "ventilation", "D507")]
    unknown = [facts_of("a", "ct"), facts_of("a", "perfusion", days=None)]
    assert codes(unknown, max_ct_spect_days=2) == [("a", "perfusion", "W501")]


def test_images_and_patients_that_stand_twice() -> None:
    assert codes([facts_of("a", "ct", content="x"), facts_of("b", "ct", content="x")]) == [("a", "ct", "D509")]
    visits = [facts_of(case, "ct", content="x", patient="p", header="h") for case in ("a", "b")]
    assert codes(visits) == [("a", "ct", "W504")]
    swapped = [facts_of("a", "perfusion", content="x"), facts_of("a", "ventilation", content="x")]
    assert codes(swapped) == [("a", "perfusion", "D509")]
    cameras = [facts_of("a", f"attenuation_ct_{target}", content="x") for target in ("perfusion", "ventilation")]
    assert codes(cameras) == [("a", "attenuation_ct_perfusion", "W504")], "one camera's CT in two columns is no slip"
    own = [facts_of("a", "attenuation_ct_perfusion", content="x"), facts_of("a", "ct", content="x")]
    assert codes(own) == [("a", "attenuation_ct_perfusion", "W504")], "a hybrid camera's CT may be all there is"
    spect = [facts_of("a", "ct", content="x"), facts_of("a", "perfusion", content="x")]
    assert codes(spect) == [("a", "ct", "D509")]
    same = [facts_of("a", "ct", header="h"), facts_of("b", "ct", header="h"), facts_of("c", "ct", header="i")]
    assert codes(same) == [("a", "", "D510")]
    anonymous = [facts_of(case, "ct", header="h") for case in "abc"]
    assert codes(anonymous) == [("", "", "W503")]
    assert codes([facts_of("a", "ct", header="h"), facts_of("a", "perfusion", header="i")]) == [("a", "", "W502")]
    assert codes([facts_of(case, "ct", header=None, content=None) for case in "abc"]) == []


def test_an_inconsistent_cohort_stops_with_all_its_problems(tmp_path) -> None:
    for case, corrected in (("a", "yes"), ("b", "no")):
        acquisition = ct_facts() | {"attenuation_corrected": corrected}
        for name, hours in (("ct", 0), ("perfusion", 30)):
            facts = {"manufacturer": "M", "model": "N", "kernel": None, "frame_of_reference": "f"}
            facts |= {"acquired_shifted": (START + timedelta(hours=hours)).isoformat(), "acquisition": acquisition}
            facts |= {"input_sha256": case + name, "header_patient": case}
            write_json(facts, tmp_path / case / f"{name}.json")
    sidecars = sorted(tmp_path.rglob("*.json"))
    patients = {"a": "p", "b": "q"}
    limits = LIMITS | {"max_ct_spect_days": 1}
    with pytest.raises(DicomError, match=r"(?s)D506 a perfusion.*D506 b perfusion.*D508 perfusion.*\(a\).*\(b\)"):
        convert_cohort(sidecars, patients, limits, tmp_path / "cohort.tsv")
    convert_cohort(sidecars, patients, LIMITS | {"attenuation_correction": "any"}, tmp_path / "cohort.tsv")
    table = read_tsv(tmp_path / "cohort.tsv")
    assert list(table["case_id"] + table["volume"]) == ["act", "aperfusion", "bct", "bperfusion"]
    assert list(table["days_from_ct"]) == [0, 1.25, 0, 1.25]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["ATTN"], ("yes", "no", "no")),
        (["ATTN", "SCAT"], ("yes", "yes", "no")),
        (["DECY"], ("no", "no", "yes")),
        (None, ("unknown", "unknown", "unknown")),
    ],
)
def test_each_correction_answers_for_itself(listed, expected) -> None:
    facts = spect_facts(spect(CorrectedImage=listed))
    assert tuple(facts[f"{name}_corrected"] for name in ("attenuation", "scatter", "decay")) == expected


@pytest.mark.parametrize(
    ("nuclide", "positrons"),
    [
        ("113In", False),
        ("^113m^Indium", False),
        ("^111^Indium", False),
        ("^99m^Technetium", False),
        ("Tc-99m", False),
        ("^133^Xenon", False),
        ("^131^Iodine", False),
        ("13N", True),
        ("N-13", True),
        ("^13^Nitrogen", True),
        ("^11^Carbon", True),
        ("^18^Fluorine", True),
        ("^68^Gallium", True),
        ("^67^Gallium", False),
    ],
)
def test_positron_emitters_by_name(nuclide, positrons) -> None:
    facts = spect_facts(spect(RadiopharmaceuticalInformationSequence=drug(nuclide=nuclide)))
    assert facts["positron_emitter"] is positrons


@pytest.mark.parametrize(("fraction", "positrons"), [(0.89, True), (0.0, False), (None, False)])
def test_a_positron_fraction_tells_a_positron_emitter(fraction, positrons) -> None:
    item = drug(nuclide="Special")
    item[0].RadionuclidePositronFraction = fraction
    assert spect_facts(spect(RadiopharmaceuticalInformationSequence=item))["positron_emitter"] is positrons
