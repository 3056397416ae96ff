"""The page says what the tables say, needs nothing from elsewhere, and is the same bytes twice."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import math
import re
import struct
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from outline import Outline
from registration_records import registration_record
from report_study import build
from segmentation_records import lungs_facts, spect_facts, write_case

from ct2vq import findings
from ct2vq.figures import METRIC_NAMES
from ct2vq.files import read_tsv, sha256_file, write_json, write_tsv
from ct2vq.pages import RESOURCES
from ct2vq.plots import sensitivity
from ct2vq.report import published
from ct2vq.report.cases import failure_reasons
from ct2vq.report.page import write_report
from ct2vq.report.settings import assumptions
from ct2vq.report.volumes import nifti_bytes, write_viewer_volumes
from ct2vq.volume import read_volume, to_array


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    arguments = build(tmp_path_factory.mktemp("study"))
    write_report(**arguments)
    return arguments | {"html": arguments["outputs"]["page"].read_text(encoding="utf-8")}


def test_page_is_well_formed_and_all_it_needs_lies_in_its_folder(written: dict[str, Any]) -> None:
    outline = Outline(written["html"])
    assert outline.open == []
    folder = written["outputs"]["page"].parent
    elsewhere = ("https://doi.org/", "https://pubmed.ncbi.nlm.nih.gov/", "https://pmc.ncbi.nlm.nih.gov/")
    for address in {*outline.loaded, *outline.links}:
        if address.startswith(("#", "data:", *elsewhere)):
            continue
        target = (folder / address.partition("#")[0]).resolve()
        assert target.is_file() and target.is_relative_to(folder.resolve()), address
    assert all(not source.startswith("http") for source in outline.loaded)
    assert "@import" not in written["html"] and "url(" not in written["html"] and "fetch(" not in written["html"]
    anchors = {link[1:] for link in outline.links if link.startswith("#")}
    cases = {f"case-{case}" for case in re.findall(r'<tr data-case="([^"]+)"', written["html"])}
    assert not cases & set(outline.ids), "the page's script goes there; the browser would, too"
    assert anchors <= set(outline.ids) | cases and len(outline.ids) == len(set(outline.ids))
    assert "effective_config.yaml" in outline.links and "figures/roc.svg" in outline.links


def test_only_the_times_differ_between_two_runs(written: dict[str, Any], tmp_path: Path) -> None:
    again = build(tmp_path)
    (again["benchmarks"] / "train" / "ddran" / "fold0.tsv").write_text("s\tmax_rss\n99.0\t1.0\n", encoding="utf-8")
    write_report(**again)
    folders = [arguments["outputs"]["page"].parent for arguments in (written, again)]
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert files[0].keys() == files[1].keys()
    assert [str(name) for name in files[0] if files[0][name] != files[1][name]] == ["times.js"]
    assert files[0][Path("times.js")] == b'ct2vqTimes([["train", "2", "1.0", "31.5", "101"]]);\n'


def test_page_says_what_it_is(written: dict[str, Any], tmp_path: Path) -> None:
    assert "SYNTHETIC IMAGES, RESEARCH ONLY" in written["html"]
    assert "The patients of this study are simulated" in written["html"]
    real = build(tmp_path) | {"simulated": False}
    write_report(**real)
    html = real["outputs"]["page"].read_text(encoding="utf-8")
    assert "SYNTHETIC IMAGES, RESEARCH ONLY" in html and "patients of this study are simulated" not in html


def test_user_text_is_escaped(written: dict[str, Any]) -> None:
    assert "normal &amp; &lt;fit&gt;" in written["html"] and "<fit>" not in written["html"]


def test_effective_config_is_complete(written: dict[str, Any]) -> None:
    text = written["outputs"]["config"].read_text(encoding="utf-8")
    assert yaml.safe_load(text) == written["config"]
    assert list(yaml.safe_load(text)) == sorted(written["config"])


def test_summary_follows_from_the_tables(written: dict[str, Any]) -> None:
    summary = read_tsv(written["tables"]["summary"])
    mine = "model == 'ddran' and target == 'perfusion' and metric == 'spearman' and region == 'lungs'"
    mean = summary.query(mine)["mean"].item()
    html = written["html"]
    assert f"DDRAN mean Rs {mean:.3f}" in html
    assert "DDRAN beats mean map, the best trivial baseline, for perfusion" in html
    assert "DDRAN is not shown to be better than mean map, the best trivial baseline, for ventilation" in html
    assert "significant, but within the margin of ±0.02: too small to matter" in html
    assert "7 shown to lie within the margin of equivalence" in html
    assert re.search(r"DDRAN is higher than RAN perfusion in SSIM for perfusion by 0\.004.*too small to matter", html)
    assert "by chance 0.40" in html


def test_other_definitions_are_averaged_over_patients(written: dict[str, Any]) -> None:
    metrics = read_tsv(written["tables"]["metrics"])
    rows = metrics.query("model == 'ddran' and target == 'perfusion' and metric == 'dice_low'")
    values = rows[rows["definition"] == "p25_p75"]["value"]
    details = written["html"].split("Dice with the definition <code>p25_p75</code>")[1].split("</details>")[0]
    assert f"{values.mean():.3f} ± {values.std():.3f}" in details and "n/a" not in details


def test_flagged_registrations_are_told_and_linked(tmp_path: Path) -> None:
    arguments = build(tmp_path)
    path = tmp_path / "register" / "sim001" / "ventilation_qc.json"
    write_json(registration_record(0.95) | {"flags": ["W802 another frame of reference"]}, path)
    arguments["qc"].append(path)
    write_report(**arguments)
    html = arguments["outputs"]["page"].read_text(encoding="utf-8")
    section = html.split('id="registration"')[1].split("</section>")[0]
    assert "13 registrations, 2 flagged" in section and "1 of them had no attenuation CT" in section
    for anchor in ("sim004", "sim001.ventilation"):
        assert f'<a href="registration.html#registration-{anchor}">' in section
    assert "W802 another frame of reference" in section and "never dropped" in section
    assert "sim002" not in section, "what is not flagged stands on the registrations' own page"
    assert '<a href="registration.html#registration-sim001.ventilation">registration ventilation</a>' in html


def test_what_segment_and_crop_noticed_is_told_and_linked(tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    cut = "W702 the lungs touch the image's border on the feet side (31 cm2): truncated field of view"
    spots = "W903 4 hot spots held 12.0% of the counts in the lungs; they are handled by inpaint"
    write_case(tmp_path, "sim003", ct_lungs=lungs_facts(cut), ventilation=spect_facts(spots, clump=True))
    write_report(**arguments)
    html = arguments["outputs"]["page"].read_text(encoding="utf-8")
    section = html.split('<section id="lungs">')[1].split("</section>")[0]
    assert "1 of 4 cases" in section and "W702 in 1, W903 in 1" in section
    assert "<strong>W702</strong> CT: the lungs touch" in section
    assert "<strong>W903</strong> ventilation: 4 hot spots" in section
    assert '<a href="figures/crop/sim003.png">sim003</a>' in section
    assert section.index("sim003") < section.index("sim001"), "what was noticed stands first"
    assert section.count("left out: the method tells no lobes") == 5 and "2400 / 1600" in section
    assert '<a href="#lungs">' in html


def test_published_values_stand_beside_ours(written: dict[str, Any]) -> None:
    section = written["html"].split('id="published"')[1].split("</section>")[0]
    assert "0.871" in section and "p &lt; 0.05 against RAN" in section and "never a target" in section
    assert section.count("RAN ventilation 0.") == 4, "the ventilation RAN is ours beside each published RAN metric"


def test_assumptions_come_from_the_schema(written: dict[str, Any]) -> None:
    rows = {row["key"]: row for row in assumptions(written["config"])}
    assert rows["split.folds"]["value"] == "5"
    assert rows["models.ddran.network.coordinates"]["value"] == "true"
    assert "train.epochs" in rows and "train.threads" not in rows
    assert not any(key.startswith("models.mean_map") for key in rows)
    assert all("assumption" in row["reason"].lower() for row in rows.values())


def test_a_changed_assumption_does_not_borrow_the_reason_of_the_default(written: dict[str, Any]) -> None:
    config = copy.deepcopy(written["config"])
    usual = {row["key"]: row["reason"] for row in assumptions(config)}
    config["compare"]["acceptance"]["ssim"] = 0.4
    changed = {row["key"]: row["reason"] for row in assumptions(config)}
    differ = [key for key in usual if usual[key] != changed[key]]
    assert differ == ["compare.acceptance.ssim"] and changed["compare.acceptance.ssim"].startswith("Changed from 0.8")


def test_a_tiny_cohort_is_told_that_nothing_can_be_significant(tmp_path: Path) -> None:
    assert findings.smallest_p(4) == 0.125 and findings.smallest_p(1) == 1.0
    small = build(tmp_path, cases=4)
    write_report(**small)
    assert "no difference could have been significant, whatever its size" in small["outputs"]["page"].read_text(
        encoding="utf-8"
    )


def test_a_study_without_pairs_and_baselines_has_a_page(tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    for name in ("pairs", "baselines"):
        table = read_tsv(arguments["tables"][name])
        write_tsv(table.iloc[:0], arguments["tables"][name])
    write_report(**arguments)
    html = arguments["outputs"]["page"].read_text(encoding="utf-8")
    assert "No comparison is declared" in html and "no baseline to compare with" in html


def test_numbers_in_words() -> None:
    assert findings.number(-0.12345) == "−0.123" and findings.number(None) == "n/a"
    assert findings.p_value(0.0) == "<\N{NO-BREAK SPACE}0.001" and findings.p_value(0.04) == "0.040"
    assert findings.mean_and_sd(0.5, math.nan) == "0.500"
    assert findings.interval(-math.inf, math.inf) == "unbounded" and findings.interval(0.1, 0.2) == "0.100 to 0.200"


def test_every_published_value_has_a_source() -> None:
    table = read_tsv(RESOURCES / "published.tsv")
    assert all(published.address(identifier).startswith("https://") for identifier in table["identifier"])
    paper = table[table["paper"] == published.PAPER]
    assert len(paper) == 16 and set(paper["metric"]) == set(METRIC_NAMES)
    assert table["mean"].between(0, 1).all()


def test_table_one_counts_and_describes(written: dict[str, Any]) -> None:
    section = words(part(written["html"], "cohort"))
    assert "Age (years) 66.5 [58.2–74.8; 50.0–83.0]" in section
    assert "female 6 (50%) 6 (100%) 0 (0%)" in section and "embolism 6 (50%)" in section
    assert "camera A SPECT 6 (50%)" in section and "days from CT 2.5 [2.5–2.5; 2.5–2.5]" in section
    assert "Site A" not in section.split("Subgroups")[1], "a division with one group is none"
    assert re.search(r"Age younger than 65 5 0\.\d\d ± 0\.\d\d", section)


def test_worst_cases_stand_first_with_what_may_explain_them(tmp_path: Path) -> None:
    arguments = build(tmp_path)
    path = tmp_path / "compare" / "metrics.tsv"
    table = read_tsv(path)
    low = (table["case_id"] == "sim003") & (table["metric"] == "spearman") & (table["reference"] == "spect")
    table.loc[low, "value"] = 0.1
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    write_report(**arguments)
    rows = part(arguments["outputs"]["page"].read_text(encoding="utf-8"), "failures").split("<tr>")[2:]
    assert "#case-sim003" in rows[0] and "perfusion: few counts (0.90 million" in rows[0]
    assert len(rows) == 6 and any("#case-sim003" in row for row in rows[3:])
    assert all("<td>−0." in row and "−0.00" not in row for row in rows), "only what lies below the median"
    data = study_data(arguments)
    flags = {case["id"]: case["flags"] for case in data["cases"]}
    assert any("much that the CT does not show" in words for words in flags["sim002"])
    assert "noisy SPECT" in " ".join(flags["sim003"]), "here the ceiling was lowered too"
    assert not any("few training cases" in words for words in flags["sim001"])


def test_a_case_that_is_bad_for_both_targets_counts_once() -> None:
    few = "few training cases with this diagnosis (normal: 0)"
    rows = [{"case": "a", "why": [few]}, {"case": "a", "why": [few, "lungs: W702 x"]}, {"case": "b", "why": [few]}]
    assert failure_reasons(rows) == [("few training cases with this diagnosis", 2), ("lungs: W702 x", 1)]


def test_core_ceilings_differences_and_missing_cases_stand_beside_the_lungs(written: dict[str, Any]) -> None:
    section = words(part(written["html"], "results"))
    assert "Agreement with SPECT in the lungs' core" in section
    assert "The core is the lungs without their outer 10 mm" in section
    assert re.search(r"Perfusion \(Q\) DDRAN 12 n/a 0\.355 ± 0\.036", section), "mean of 0.30 to 0.41"
    assert "Perfusion (Q) ceiling: truth 12 n/a 0.970" in section
    overlap = "0.200 ± 0.000 0.170 to 0.230 11 patients missing in 1 case 0.123 in the 10 that all models have"
    assert f"V/Q DDRAN 12 0.400 ± 0.000 0.370 to 0.430 n/a {overlap}" in section
    assert "V/Q DDRAN 12 0 ± 10 size 10" in section
    assert "Agreement with the truth in the lungs" in section
    names = ("DDRAN", "RAN perfusion", "mean map", "HU regression", "ceiling: truth")
    order = [section.index(f"Perfusion (Q) {name} 12") for name in names]
    assert order == sorted(order), "the configuration's order"
    assert "right lung 12 +2.00 +1.67 to +2.33 +0.80 to +3.20" in section, "bias and limits by hand"


def test_detection_is_in_the_summary_and_its_counts_in_the_tables(written: dict[str, Any]) -> None:
    summary = words(part(written["html"], "summary"))
    assert "of the 8 defects that SPECT shows, DDRAN shows 2 (1.5 false ones a case)" in summary
    assert "AUROC of low function by voxels (p40): DDRAN 0.80 (0.70 to 0.90)" in summary
    told = (
        "(5 of 12 cases have it), AUROC: DDRAN 0.80 (0.70 to 0.90), RAN 0.80 (0.70 to 0.90); the real SPECT pair itself"
    )
    assert f"Diagnosis “embolism” told from the volume of defects on V and Q {told} 0.80" in summary
    section = words(part(written["html"], "classification"))
    assert "Patients Cases Positive Missing Prevalence Threshold AUROC AUROC within patients" in section
    assert "V/Q DDRAN embolism (diagnosis) 12 12 5 1 0.40 none called 0.80 0.70 to 0.90 0.66" in section
    models = [section.index(f"V/Q {name} embolism") for name in ("DDRAN", "RAN", "SPECT itself")]
    assert models == sorted(models)


def test_a_cohort_of_one_target_and_one_patient_has_a_true_sentence(tmp_path: Path) -> None:
    arguments = build(tmp_path, cases=4)
    flow = {"analysed": 1, "patients": 1, "targets": {"ventilation": 1}, "folds": [1]}
    write_report(**(arguments | {"flow": arguments["flow"] | flow}))
    summary = words(part(arguments["outputs"]["page"].read_text(encoding="utf-8"), "summary"))
    assert (
        "CT alone: DDRAN makes ventilation; RAN ventilation makes ventilation. 1 case of 1 patient took part in 1 fold;"
        in summary
    )


def test_the_methods_say_how_many_cases_came_after_the_training(tmp_path: Path, written: dict[str, Any]) -> None:
    said = "they were predicted by the networks of their fold"
    assert said not in written["html"]
    arguments = build(tmp_path, cases=4)
    write_report(**(arguments | {"flow": arguments["flow"] | {"only_predicted": 3}}))
    page = words(arguments["outputs"]["page"].read_text(encoding="utf-8"))
    assert f"Cases that came after the training: 3; {said}, and no network learnt from them." in page


def test_browser_data_is_what_the_tables_say(written: dict[str, Any]) -> None:
    data = study_data(written)
    metrics = read_tsv(written["tables"]["metrics"]).query("model == 'ddran' and reference == 'spect'")
    column = next(i for i, c in enumerate(data["columns"]) if (c["model"], c["target"]) == ("ddran", "ventilation"))
    for case in data["cases"]:
        mine = metrics.query(f"case_id == '{case['id']}' and target == 'ventilation'")
        for metric in ("spearman", "dice_low"):
            wanted = mine[(mine["metric"] == metric) & (mine["definition"].fillna("p40") == "p40")]["value"].item()
            assert case["values"][metric][column] == pytest.approx(wanted, abs=1e-4)
    assert list(data["viewer"]["models"]) == ["ddran", "ran_perfusion", "ran_ventilation", "mean_map", "hu_regression"]
    assert data["viewer"]["models"]["ran_perfusion"]["targets"] == ["perfusion"]
    assert "ceiling" not in json.dumps(data["viewer"])


def test_classification_says_what_the_tables_say(written: dict[str, Any]) -> None:
    section = words(part(written["html"], "classification"))
    assert "Perfusion (Q) DDRAN Spearman's Rs ≥ 0.7 9 of 12 0.75 0.47 to 0.91" in section
    assert "MAE ≤ 0.1" in section and "all together 9 of 12" in section
    assert "V/Q RAN embolism (diagnosis)" in section and "only one class" in section
    assert "less than 50 % is low in the reference" in section
    assert "DDRAN SPECT 0.91 0.70 to 1.10 0.04 0.70 to 1.10" in section
    assert "truth embolism, not seen on CT 8 2 0.25 0.10 to 0.50" in section
    missing = words(part(written["html"], "missing"))
    assert "Missing values: 1." in missing and "metrics of all images, regions and definitions 1 are missing" in missing
    assert "DSC of mismatched defects both regions are empty 1 1" in missing
    results = words(part(written["html"], "results"))
    assert "±0.02 −0.010 to 0.010 yes equivalent" in results


def test_sensitivity_tells_estimates_from_intervals_and_spect_from_truth(written: dict[str, Any]) -> None:
    section = words(part(written["html"], "sensitivity"))
    table = section.split("Interval excludes 0, favours second", 1)[1]
    pair = "Perfusion (Q) DDRAN RAN perfusion"
    assert table.startswith(f" {pair} SPECT 6 3 2 1 1 {pair} truth that CT shows 1 0 1 0 1")
    drawn = sensitivity.specifications(read_tsv(written["tables"]["sensitivity"]))
    clear = drawn[(drawn["clear"] == "yes") & (drawn["reference"] == "spect")]
    assert sorted(clear["favours"]) == ["first", "second"], "the figure counts the same"
    assert "n/a" not in section
    answer = words(part(written["html"], "checklist"))
    assert "7 comparisons against SPECT: 1 declared pair with every combination of 3 metrics" in answer
    assert "1 more against the simulated truth, counted apart." in answer


def test_methods_follow_the_configuration(tmp_path: Path) -> None:
    arguments = build(tmp_path)
    arguments["config"]["crop"]["spacing_mm"] = 5.5
    arguments["config"]["segment"]["threshold_hu"] = -412
    arguments["config"]["train"]["epochs"] = 77
    write_report(**arguments)
    section = words(part(arguments["outputs"]["page"].read_text(encoding="utf-8"), "methods"))
    assert "5.5 mm" in section and "−412" in section.replace("-", "−") and "77 epochs" in section
    assert "†" in section and "None" not in section and "{" not in section


def test_checklist_has_all_items_and_says_what_only_the_author_knows(written: dict[str, Any]) -> None:
    rows = part(written["html"], "checklist").split("<tr class=")[1:]
    assert [int(re.search(r'<th scope="row">(\d+)<', row)[1]) for row in rows] == list(range(1, 45))
    for row in rows:
        assert ("Author:" in row) == (not row.startswith('"filled"')), row
        assert row.startswith('"author"') or len(words(row)) > 60
    assert {*read_tsv(RESOURCES / "claim2024.tsv")["source"]} == {"doi:10.1148/ryai.240300"}


def test_viewer_is_the_file_that_its_source_note_names() -> None:
    folder = RESOURCES / "report" / "viewer"
    assert sha256_file(folder / "niivue.umd.js") in (folder / "SOURCE.md").read_text(encoding="utf-8")
    code = (folder / "niivue.umd.js").read_text(encoding="utf-8")
    assert "new Worker" not in code and "importScripts" not in code and "import.meta" not in code
    assert "BSD 2-Clause" in (folder / "LICENSE.txt").read_text(encoding="utf-8")


def test_viewer_volumes_hold_the_images(written: dict[str, Any], tmp_path: Path) -> None:
    folder = next(path for path in written["volumes"] if path.name == "sim002")
    source = written["outputs"]["page"].parents[1] / "crop" / "sim002_volumes"
    for name, file, tolerance in (("ct", "ct", 0.51), ("spect_perfusion", "perfusion", 0.5 / 255 + 1e-6)):
        key, packed = json.loads(f"[{(folder / f'{name}.js').read_text()[len('ct2vqVolume(') : -3]}]")
        assert key == f"sim002/{name}"
        path = tmp_path / "volume.nii"
        path.write_bytes(gzip.decompress(base64.b64decode(packed)))
        image, expected = read_volume(path), read_volume(source / f"{file}.nii.gz")
        assert np.abs(to_array(image) - to_array(expected)).max() <= tolerance
        assert np.allclose(image.GetOrigin(), expected.GetOrigin()) and image.GetSpacing() == expected.GetSpacing()
    assert struct.unpack_from("<f", nifti_bytes(expected, 0.25), 112)[0] == 0.25


def test_viewer_volumes_are_the_same_bytes_twice_and_hold_no_nan(written: dict[str, Any], tmp_path: Path) -> None:
    source = written["outputs"]["page"].parents[1] / "crop" / "sim001_volumes"
    for part_of in ("a", "b"):
        images = {"spect_perfusion": source / "perfusion.nii.gz"}
        write_viewer_volumes(source / "ct.nii.gz", images, tmp_path / part_of, case="sim001")
    for name in ("ct.js", "spect_perfusion.js"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def part(html: str, section: str) -> str:
    """A section of the page."""
    return html.split(f'<section id="{section}">')[1].split("</section>")[0]


def words(html: str) -> str:
    """The text of a piece of the page, one space between words."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def study_data(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the page tells its scripts."""
    html = arguments["outputs"]["page"].read_text(encoding="utf-8")
    return json.loads(html.split('id="study">')[1].split("</script>")[0])
