"""A whole study's inputs of the report, made up: `build` writes them and returns the arguments of `write_report`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from factories import write_cropped_case
from PIL import Image
from registration_records import registration_record
from segmentation_records import usual_case

from ct2vq.config import complete_config
from ct2vq.figures import METRIC_NAMES
from ct2vq.files import write_json, write_tsv
from ct2vq.report.volumes import write_viewer_volumes

LABELS = {
    "ddran": "DDRAN",
    "ran_perfusion": "RAN perfusion",
    "ran_ventilation": "RAN ventilation",
    "mean_map": "mean map",
    "hu_regression": "HU regression",
}
TARGETS = ("perfusion", "ventilation")
MEANS = {"ddran": 0.72, "ran_perfusion": 0.70, "ran_ventilation": 0.66, "mean_map": 0.60, "hu_regression": 0.50}
DIAGNOSES = ("normal & <fit>", "embolism")
FIGURES = ("metrics", "training", "cohort", "roc")
CHANCE = {"dice_low": 0.40, "dice_high": 0.60}


SPECIFICATION = (
    *("metric", "region", "definition", "spect", "reference", "hodges_lehmann", "ci_low", "ci_high", "favours"),
)
#: estimates favour a model more often than intervals do; of errors less is better
SENSITIVITY = (
    ("ssim", "lungs", "sigma 1.5", "study", "spect", 0.02, 0.01, 0.03, "first"),
    ("ssim", "core", "sigma 1.5", "study", "spect", 0.01, -0.01, 0.03, "first"),
    ("mae", "lungs", None, "study", "spect", -0.01, -0.03, 0.01, "first"),
    ("mae", "core", None, "study", "spect", 0.02, 0.01, 0.03, "second"),
    ("dice_low", "lungs", "p40", "study", "spect", -0.01, -0.02, 0.01, "second"),
    ("dice_low", "lungs", "p25_p75", "study", "spect", 0.0, -0.02, 0.02, "neither"),
    ("dice_low", "core", "p25_p75", "mean", "spect", None, None, None, None),
    ("dice_low", "lungs", "p40", "study", "truth_visible", -0.03, -0.04, -0.02, "second"),
)


def models_of(config: dict[str, Any], target: str) -> list[str]:
    return [name for name, model in config["models"].items() if target in model["targets"]]


def metrics_table(config: dict[str, Any], cases: list[str]) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    rows = []
    for case in cases:
        for target in TARGETS:
            for model in models_of(config, target):
                common = (case, model, target)
                for metric in METRIC_NAMES:
                    value = MEANS[model] + generator.normal(0, 0.05)
                    names = ["p40", "p25_p75"] if metric in CHANCE else ["sigma=1.5" if metric == "ssim" else None]
                    rows += [(*common, metric, "lungs", name, "spect", value, "1") for name in names]
                    if metric in CHANCE:
                        chance = (*common, f"{metric}_chance", "lungs")
                        rows += [(*chance, name, "spect", CHANCE[metric], "1") for name in names]
    names = ["case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit"]
    return pd.concat([pd.DataFrame(rows, columns=names), *(more(cases) for more in (ceilings, core, shares, both))])


def core(cases: list[str]) -> pd.DataFrame:
    """Agreement in the lungs' core, which is lower than in the lungs."""
    rows = [
        {"case_id": case, "model": "ddran", "target": "perfusion", "metric": "spearman", "region": "core", "unit": "1"}
        | {"reference": "spect", "value": 0.3 + 0.01 * number}
        for number, case in enumerate(cases)
    ]
    return pd.DataFrame(rows)


def shares(cases: list[str]) -> pd.DataFrame:
    """Shares of the right lung, with a bias of 2 points that differs by patient."""
    rows = []
    for number, case in enumerate(cases):
        row = {"case_id": case, "model": "ddran", "target": "perfusion", "region": "right", "unit": "1"}
        for metric, value in (("share_reference", 0.5), ("share_image", 0.515 + 0.01 * (number % 2))):
            rows.append(row | {"metric": metric, "reference": "spect", "value": value})
    return pd.DataFrame(rows)


def both(cases: list[str]) -> pd.DataFrame:
    """Ventilation minus perfusion; the first case has no mismatch, so that it has no overlap of mismatches."""
    row = {"model": "ddran", "target": "vq", "region": "lungs", "reference": "spect", "definition": "rule", "unit": "1"}
    rows = []
    for number, case in enumerate(cases):
        rows.append(row | {"case_id": case, "metric": "difference_spearman", "value": 0.4})
        value, reason = (None, "both regions are empty") if number == 0 else (0.2, None)
        rows.append(row | {"case_id": case, "metric": "mismatch_dice", "value": value, "reason": reason})
        rows.append(row | {"case_id": case, "metric": "mismatch_volume_error", "value": 10.0 - 20 * (number % 2)})
    return pd.DataFrame(rows)


def ceilings(cases: list[str]) -> pd.DataFrame:
    """Rows that other readers of the table must not take for models: the second case has disease that no CT shows."""
    rows = [
        {"case_id": case, "model": model, "target": target, "metric": "spearman", "region": "lungs", "unit": "1"}
        | {"reference": reference, "value": 0.61 if model == "visible_ceiling" and number == 1 else 0.97}
        for number, case in enumerate(cases)
        for target in TARGETS
        for model, reference in (("visible_ceiling", "truth"), ("noise_ceiling", "spect"))
    ]
    return pd.DataFrame(rows)


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    wanted = [*METRIC_NAMES, *(f"{metric}_chance" for metric in CHANCE), "difference_spearman", "mismatch_dice"]
    metrics = metrics[metrics["metric"].isin(wanted)]
    keys = ["model", "target", "metric", "region", "definition", "reference"]
    groups = metrics.groupby(keys, dropna=False, sort=False)["value"]
    table = (
        groups.agg(["count", "mean", "std", "median"])
        .reset_index()
        .rename(columns={"count": "n", "std": "sd"})
        .assign(q1=0.0, q3=1.0)
    )
    table = table.assign(ci_low=table["mean"] - 0.03, ci_high=table["mean"] + 0.03)
    missing = groups.apply(lambda values: int(values.isna().sum())).to_numpy()
    return table.assign(n_common=table["n"] - 1, mean_common=0.123, missing_cases=missing)


def pairs_table(config: dict[str, Any], n: int) -> pd.DataFrame:
    rows = []
    for first, second, target in config["compare"]["pairs"]:
        for metric in METRIC_NAMES:
            significant = metric == "ssim" and target == "perfusion"
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "target": target,
                    "metric": metric,
                    "region": "lungs",
                    "definition": "p40" if metric in CHANCE else None,
                    "n": n,
                    "median_first": 0.72,
                    "median_second": 0.70,
                    "hodges_lehmann": 0.004,
                    "ci_low": 0.002 if significant else -0.05,
                    "ci_high": 0.006 if significant else 0.06,
                    "p": 0.0005 if significant else 0.4,
                    "p_holm": 0.004 if significant else 1.0,
                    "rank_biserial": 0.8,
                    "margin": 0.02,
                    "equivalence_low": -0.01,
                    "equivalence_high": 0.01,
                    "equivalent": "yes",
                    "conclusion": "different, but within the margin" if significant else "equivalent",
                    "zeros": 0,
                    "method": "exact, two-sided",
                    "note": None,
                }
            )
    return pd.DataFrame(rows)


BASELINES = pd.DataFrame(
    [
        ("ddran", "perfusion", 0.72, "mean_map", 0.60, 0.12, 0.09, 0.15, 0.001, 12, 12, "yes"),
        ("ran_perfusion", "perfusion", 0.70, "mean_map", 0.60, 0.10, 0.05, 0.16, 0.002, 11, 12, "yes"),
        ("ddran", "ventilation", 0.59, "mean_map", 0.60, -0.01, -0.05, 0.03, 0.6, 5, 12, "not shown"),
        ("ran_ventilation", "ventilation", 0.66, "mean_map", 0.60, 0.06, 0.01, 0.1, 0.04, 9, 12, "yes"),
    ],
    columns=[
        "network", "target", "mean_spearman", "best_baseline", "baseline_mean_spearman", "difference", "ci_low",
        "ci_high", "p", "patients_better", "n", "beats",
    ],
)  # fmt: skip


def build(folder: Path, cases: int = 12) -> dict[str, Any]:
    """Every input of the page in `folder`; returns the arguments of `write_report`."""
    config = complete_config({"study": "example", "cohort": {"source": "simulated"}})
    names = [f"sim{number:03d}" for number in range(1, cases + 1)]
    metrics = metrics_table(config, names)
    tables = {"metrics": metrics, "summary": summary_table(metrics), "pairs": pairs_table(config, cases)}
    tables["baselines"] = BASELINES
    tables["folds"] = pd.DataFrame({"case_id": names, "patient_id": names, "fold": 1})
    tables["acquisitions"] = acquisitions(names)
    tables |= extra_tables(names)
    for name, table in tables.items():
        write_tsv(table, folder / "compare" / f"{name}.tsv")
    for number, name in enumerate(names):
        missing = number == 3
        qc = registration_record(None if missing else 0.97 - 0.01 * number)
        write_json(qc, folder / "register" / name / "qc.json")
    runs = []
    for model in LABELS:
        for fold in range(2):
            path = folder / "train" / model / f"fold{fold}" / "run.json"
            record = {"fold": fold, "kind": config["models"][model]["kind"], "seconds": 60.0}
            write_json(
                record | {"parameters": 1000, "seed": 20260, "digest": "d1e2", "versions": {"numpy": "2.0"}}, path
            )
            runs.append(path)
    report = folder / "report"
    return {
        "tables": {name: folder / "compare" / f"{name}.tsv" for name in tables},
        "qc": [folder / "register" / name / "qc.json" for name in names],
        "noticed": [path for name in names for path in usual_case(folder, name)],
        "runs": runs,
        "sidecars": [path for number, name in enumerate(names) for path in sidecars(folder, name, number)],
        "panels": [picture(report / "figures" / "cases" / f"{name}.png") for name in names],
        "normalised": [picture(report / "figures" / "crop" / f"{name}.png") for name in names],
        "volumes": [volumes(folder, config, name, seed) for seed, name in enumerate(names)],
        "registrations": written(report / "registration.html", "<p>registrations</p>"),
        "figures": [path for name in FIGURES for path in figure(report / "figures" / name)],
        "benchmarks": benchmarks(folder),
        "outputs": {
            "page": report / "index.html",
            "config": report / "effective_config.yaml",
            "times": report / "times.js",
            "tables": report / "tables",
            "viewer": report / "viewer",
        },
        "config": config,
        "labels": LABELS,
        "cases": {
            name: {"fold": number % 2 + 1, "targets": list(TARGETS), "diagnosis": DIAGNOSES[number % 2], "site": "A"}
            for number, name in enumerate(names)
        },
        "flow": {
            "listed": cases + 1,
            "exclusions": [{"case_id": "sim099", "stage": "convert", "reason": "truncated"}],
            "analysed": cases,
            "only_predicted": 0,
            "patients": cases,
            "targets": dict.fromkeys(TARGETS, cases),
            "folds": [cases // 2, cases - cases // 2],
        },
        "simulated": True,
    }


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (200, 220, 240)).save(path)
    return path


def figure(stem: Path) -> list[Path]:
    others = [written(stem.with_suffix(end), "x") for end in (".pdf", ".svg", ".tsv")]
    return [picture(stem.with_suffix(".png")), *others]


def benchmarks(folder: Path) -> Path:
    for number in range(2):
        table = f"s\th:m:s\tmax_rss\n{30 + number}.5\t0:00:30\t{100 + number}.0\n"
        written(folder / "benchmarks" / "train" / "ddran" / f"fold{number}.tsv", table)
    return folder / "benchmarks"


def volumes(folder: Path, config: dict[str, Any], case: str, seed: int) -> Path:
    """The viewer's volumes of a case; one image of function stands for those of all models."""
    cropped = folder / "crop" / f"{case}_volumes"
    write_cropped_case(cropped, seed)
    images = {f"spect_{target}": cropped / f"{target}.nii.gz" for target in TARGETS}
    images |= {f"{model}_{t}": cropped / "ventilation.nii.gz" for t in TARGETS for model in models_of(config, t)}
    write_viewer_volumes(cropped / "ct.nii.gz", images, folder / "report" / "volumes" / case, case=case)
    return folder / "report" / "volumes" / case


def sidecars(folder: Path, case: str, number: int) -> list[Path]:
    patient = {"age_years": 50 + number * 3, "sex": "FM"[number % 2], "size_m": 1.7, "weight_kg": 70.0}
    device = {"manufacturer": f"camera {'AB'[number % 2]}", "model": "SPECT"}
    source = {"files": 3, "input_sha256": f"{number:064x}", "converter": "4"}
    counts = 0.9e6 if number == 2 else 5.0e6
    acquisition = {"counts_total": counts, "injected_activity_mbq": 150.0, "acquisition_duration_s": 900.0}
    paths = []
    for volume in ("ct", *TARGETS):
        path = folder / "convert" / case / f"{volume}.json"
        write_json({"patient": patient, "acquisition": acquisition} | device | source, path)
        paths.append(path)
    return paths


def acquisitions(cases: list[str]) -> pd.DataFrame:
    rows = [(case, volume, -2.5 if volume in TARGETS else 0.0) for case in cases for volume in ("ct", *TARGETS)]
    return pd.DataFrame(rows, columns=["case_id", "volume", "days_from_ct"])


def extra_tables(cases: list[str]) -> dict[str, pd.DataFrame]:
    """The tables of the stage `compare` beside summary, pairs and baselines, a few rows of each."""
    model = {"model": "ddran", "target": "perfusion"}
    pair = {"first": "ddran", "second": "ran_perfusion", "target": "perfusion"}
    merits = ("sensitivity", "specificity", "accuracy", "ppv", "npv", "f1", "balanced_accuracy", "auroc", "auprc")
    merit = {f"{name}{end}": value for name in merits for end, value in (("", 0.8), ("_low", 0.7), ("_high", 0.9))}
    detection = [
        model | {"level": "voxel", "definition": "p40", "reference": "spect", "reason": None},
        {"model": "ran", "target": "vq", "level": "case", "definition": "embolism", "reference": "diagnosis"}
        | {"reason": "only one class"},
    ]
    detection += [
        {"model": model, "target": "vq", "level": "case", "definition": "embolism", "reference": "diagnosis"}
        | {"reason": None, "threshold": math.inf}
        for model in ("spect", "ddran")
    ]
    shared = {"n_patients": len(cases), "n": 12, "n_positive": 5, "missing": 1, "prevalence": 0.4, "threshold": 0.35}
    merit |= {"auroc_within": 0.66}
    share = {"n": 12, "passed": 9, "share": 0.75, "wilson_low": 0.47, "wilson_high": 0.91, "missing": 0, "note": None}
    counts = {"n": 12, "both": 7, "only_first": 2, "only_second": 1, "neither": 2, "difference": 0.08}
    bounds = {"value_low": 0.7, "value_high": 1.1, "reason": None}
    defect = {"n_patients": 12, "n_cases": 12, "n_defects": 8, "found": 2, "reason": None}
    defect |= {"sensitivity": 0.25, "sensitivity_low": 0.1, "sensitivity_high": 0.5}
    empty = {"false_per_case": None, "false_per_case_low": None, "false_per_case_high": None}
    return {
        "excluded": pd.DataFrame(
            [model | {"metric": "ssim", "patient": cases[0], "case_id": cases[0], "whole": "yes", "reason": "too thin"}]
        ),
        "passes": pd.DataFrame(
            [
                model | {"metric": "spearman", "direction": "at least", "threshold": 0.7} | share,
                model | {"metric": "mae", "direction": "at most", "threshold": 0.1} | share,
                model | {"metric": "all", "direction": None, "threshold": None} | share,
            ]
        ),
        "mcnemar": pd.DataFrame(
            [
                pair
                | counts
                | {"metric": "all", "difference_low": -0.1, "difference_high": 0.2, "p": 1.0, "p_holm": 1.0, "note": ""}
            ]
        ),
        "detection": pd.DataFrame([shared | merit | row for row in detection]),
        "calibration": pd.DataFrame(
            [
                model | {"reference": "spect", "kind": "slope", "value": 0.91} | bounds,
                model | {"reference": "spect", "kind": "intercept", "value": 0.04} | bounds,
                model | {"reference": "spect", "kind": "reference_mean", "value": 0.5} | bounds,
            ]
        ),
        "defects": pd.DataFrame(
            [
                model | {"reference": "truth", "kind": "embolism", "visible": "no"} | defect | empty,
                model | {"reference": "spect", "kind": "all", "visible": None} | defect | empty,
                model
                | {"reference": "spect", "kind": "false", "visible": None}
                | dict.fromkeys(defect)
                | {"false_per_case": 1.5, "false_per_case_low": 1.0, "false_per_case_high": 2.0},
            ]
        ),
        "sensitivity": pd.DataFrame([pair | dict(zip(SPECIFICATION, row, strict=True)) for row in SENSITIVITY]),
    }
