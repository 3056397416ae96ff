"""The whole study, from simulated DICOM to the report, as `make demo` runs it."""

import json
import math

import pandas as pd
import pytest
import yaml
from outline import Outline
from studies import CASES, NOTHING, Study, contents, files_under

from ct2vq.config import complete_config
from ct2vq.files import read_tsv
from ct2vq.lungs import LOBES, THIRDS

pytestmark = pytest.mark.workflow

CEILINGS = ("noise_ceiling", "visible_ceiling")
#: what each definition of low and high function has rows of
KINDS = (("dice", ""), ("dice", "_chance"), ("volume", "_image"), ("volume", "_reference"), ("volume", "_error"))
#: what two runs of the same study may differ in: wall clock and memory
MACHINE_KEYS = {"seconds", "peak_memory_mb", "machine"}


@pytest.fixture(scope="module")
def settings(finished: Study) -> dict:
    return complete_config(yaml.safe_load(finished.path("config/tiny.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def metrics(finished: Study) -> pd.DataFrame:
    return read_tsv(finished.path("results/evaluate/metrics.tsv"))


def test_the_report_is_there_and_names_every_case(finished):
    page = finished.path("results/report/index.html").read_text(encoding="utf-8")
    assert [case for case in CASES if case not in page] == []
    assert "simulated" in page


def test_the_reports_folder_is_whole(finished):
    folder = finished.path("results/report").resolve()
    for name in ("index.html", "registration.html"):
        outline = Outline((folder / name).read_text(encoding="utf-8"))
        for address in {*outline.loaded, *outline.links}:
            if not address.startswith(("#", "data:", "https://")):
                target = (folder / address.partition("#")[0]).resolve()
                assert target.exists() and target.is_relative_to(folder), address
    for case in CASES:
        volumes = {path.stem for path in folder.glob(f"volumes/*/{case}/*")}
        assert {"ct", "spect_perfusion", "ddran_ventilation", "mean_map_perfusion"} <= volumes


def test_every_case_model_target_and_metric_has_one_row(metrics, settings):
    keys = ["case_id", "model", "target", "metric", "region", "definition", "reference"]
    assert not metrics.duplicated(keys).any()
    thresholds = [threshold["name"] for threshold in settings["evaluate"]["function_thresholds"]]
    models = {(name, target) for name, block in settings["models"].items() for target in block["targets"]}
    models |= {(ceiling, target) for ceiling in CEILINGS for target in ("perfusion", "ventilation")}
    by_threshold = [f"{kind}_{part}{end}" for part in ("low", "high") for kind, end in KINDS]
    of_an_image = [(metric, "") for metric in ("spearman", "pearson", "mae", "rmse", "psnr")]
    of_an_image += [(metric, name) for metric in by_threshold for name in thresholds]
    expected = {(case, *model, *metric) for case in CASES for model in models for metric in of_an_image}
    chosen = metrics[(metrics["region"] == "lungs") & (metrics["reference"] == "spect") & (metrics["target"] != "vq")]
    found = set(chosen[["case_id", "model", "target", "metric", "definition"]].itertuples(index=False, name=None))
    assert expected - found == set()
    assert {key[:3] for key in found} == {key[:3] for key in expected}


def test_simulated_cases_are_scored_against_their_truth(metrics, finished):
    assert set(metrics["reference"]) == {"spect", "truth", "truth_visible"}
    regions = {"lungs", "core", "crop", "right", "left", *THIRDS.values(), *LOBES.values()}
    assert set(metrics["region"]) == regions
    assert {"ddran", "ran", "mean_map", *CEILINGS} <= set(metrics.loc[metrics["target"] == "vq", "model"])
    rs = metrics[(metrics["metric"] == "spearman") & (metrics["region"] == "lungs") & (metrics["reference"] == "spect")]
    mean = rs.groupby("model")["value"].mean()
    assert mean.idxmax() == "noise_ceiling"
    for table in ("density", "detection", "defects"):
        assert all(finished.path(f"results/evaluate/{table}/{case}.tsv").is_file() for case in CASES)


def test_every_missing_value_has_a_reason_and_every_value_is_possible(metrics):
    missing = metrics["value"].isna()
    assert (metrics["reason"].fillna("") != "").equals(missing)
    values = metrics.loc[~missing].groupby("metric")["value"]
    lowest, highest = values.min(), values.max()
    signed = ("ssim", "spearman", "pearson", "difference_spearman", "psnr")
    for metric in highest.index:
        bounded = metric.endswith(("spearman", "pearson")) or metric == "ssim" or metric.startswith("dice")
        floor = -math.inf if metric.endswith("_error") or metric == "psnr" else -1.0 if metric in signed else 0.0
        assert floor <= lowest[metric] <= highest[metric] <= (1.0 if bounded else math.inf), metric
    # defects that neither image has
    assert missing[metrics["target"] != "vq"].mean() < 0.1


def test_every_declared_file_is_in_place(finished):
    listing = finished.snakemake("--summary").require_success().output
    lines = [line.split("\t") for line in listing.partition("output_file\t")[2].splitlines()[1:] if "\t" in line]
    assert len(lines) > 150
    assert [line for line in lines if line[4] != "ok" or line[5] != "no update"] == []
    assert [line[0] for line in lines if not finished.path(line[0]).exists()] == []


def test_nothing_temporary_is_left(finished):
    assert [path for path in files_under(finished.folder) if ".part." in path.name] == []
    assert list(finished.path("work/train").glob("*")) == [], "a finished training has no checkpoint"


def test_every_job_left_a_log_and_a_benchmark_and_no_warning_of_an_error(finished):
    logs = contents(finished.path("logs"), "*.log")
    benchmarks = contents(finished.path("benchmarks"), "*.tsv")
    assert {name.removesuffix(".log") for name in logs} == {name.removesuffix(".tsv") for name in benchmarks}
    assert [name for name, text in logs.items() if b" ERROR " in text or b"Traceback" in text] == []


def test_the_directory_says_whose_results_it_holds(finished):
    assert json.loads(finished.path("results/study.json").read_text())["study"] == "ct2vq-tiny"


def test_a_second_run_has_nothing_to_do(finished):
    before = {path: path.stat().st_mtime_ns for path in files_under(finished.path("results"))}
    assert NOTHING in finished.snakemake(cores=2).require_success().output
    assert {path: path.stat().st_mtime_ns for path in files_under(finished.path("results"))} == before


@pytest.mark.slow
def test_one_core_and_two_give_the_same_bytes(finished, serial):
    # The page is left out: it tells how many minutes the trainings took.
    patterns = ("*.nii.gz", "*.safetensors", "*.tsv", "*.dcm", "*.json", "*.png", "*.yaml")
    ours, theirs = (contents(run.path("results"), *patterns) for run in (finished, serial))
    assert ours.keys() == theirs.keys()
    for name in [name for name in ours if name.endswith("run.json")]:
        records = [json.loads(files.pop(name)) for files in (ours, theirs)]
        first, second = ({key: record[key] for key in record.keys() - MACHINE_KEYS} for record in records)
        assert first == second, name
    assert [name for name in ours if ours[name] != theirs[name]] == []
