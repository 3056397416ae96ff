"""Tables of the results: means, paired comparisons, baselines, and the summary in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ct2vq.config import LOSS_PARTS, is_network
from ct2vq.figures import TARGET_NAMES
from ct2vq.findings import (
    MORE_METRIC_NAMES,
    Finding,
    against_baselines,
    agreement,
    caveats,
    in_lungs,
    interval,
    number,
    p_value,
    paired_differences,
)
from ct2vq.report.detected import detection_findings
from ct2vq.report.readers import reading_findings
from ct2vq.report.study import Study

#: the layouts of others, in words
PEERS = {
    "unet": "U-Net with residual units",
    "attention_unet": "Attention U-Net",
    "dynunet": "U-Net in nnU-Net's layout",
    "swin_unetr": "Swin UNETR",
}
DEFINITIONS = {
    "percentile": "low at or below the {low:g}th, high above the {high:g}th percentile of an image's own values",
    "percent_of_maximum": "low below {low:g} %, high above {high:g} % of the robust maximum",
    "activity": "low outside the brightest voxels with {low:g} % of the activity, high the brightest with {high:g} %",
    "equal_volumes": "thirds of the lungs' volume, by function",
}


def findings(study: Study) -> list[Finding]:
    """The summary in plain words."""
    confidence, patients = study.confidence, study.flow["patients"]
    return [
        _overview(study),
        *(
            agreement(study.summary, target, study.networks, study.labels, confidence, patients)
            for target in study.targets
        ),
        *against_baselines(study.baselines, study.labels, confidence, patients),
        *paired_differences(study.pairs, study.labels, patients),
        *detection_findings(study),
        *reading_findings(study),
        *caveats(study.pairs, confidence, patients, study.simulated),
    ]


def _overview(study: Study) -> Finding:
    """Which network makes which image, of how many cases, and how it is judged."""
    made = []
    for model in study.networks:
        targets = [target for target in study.targets if target in study.config["models"][model]["targets"]]
        if targets:
            made.append(f"{study.labels[model]} makes {_join(targets)}")
    makers = f"SPECT images are synthesised from the CT alone: {'; '.join(made)}" if made else "No network was trained"
    flow = study.flow
    return Finding(
        f"{makers}. {count(flow['analysed'], 'case')} of {count(flow['patients'], 'patient')} took part in "
        f"{count(len(flow['folds']), 'fold')}; every image that is shown or scored comes from a model that never saw "
        f"the patient. Agreement is measured voxel by voxel in the lungs: Rs is Spearman's rank correlation and SSIM "
        f"the structural similarity, both 1 for perfect agreement."
    )


def count(number_of: int, word: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number_of} {word}{'' if number_of == 1 else 's'}"


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def describe_models(study: Study) -> list[dict[str, str]]:
    """Name, kind and targets of each model, in words."""
    kinds = {
        "mean_map": "trivial baseline: the training patients' mean image in lung coordinates, blind to the CT's values",
        "hu_regression": "trivial baseline: a ridge regression on the voxel's density (HU) and position",
    }
    models = []
    for name, label in study.labels.items():
        model = study.config["models"][name]
        kind = network_words(model) if is_network(model) else kinds[model["kind"]]
        models.append({"label": label, "kind": kind, "targets": ", ".join(model["targets"])})
    return models


def network_words(model: Mapping[str, Any]) -> str:
    """What a network is: its layout, and how it gives its targets."""
    number = len(model["targets"])
    if model["kind"] == "ran":
        return f"residual attention network with {number} decoder{'s' if number > 1 else ''}"
    return f"{PEERS[model['kind']]} with {number} channel{'s' if number > 1 else ''} in its head"


def loss_words(loss: Mapping[str, Any]) -> str:
    """The parts of a loss that have a weight, and a balance of the targets that is not the plain mean."""
    parts = ", ".join(f"{loss[part]:g} × {part}" for part in LOSS_PARTS if loss.get(part))
    balance = loss.get("balance", "equal")
    return parts if balance == "equal" else f"{parts} (targets balanced by {balance})"


def threshold_words(threshold: Mapping[str, Any]) -> str:
    """What a definition of low and high function says, in words."""
    numbers = {key: threshold[key] for key in ("low", "high") if threshold.get(key) is not None}
    cut = "; both images are cut at the value of SPECT" if threshold.get("cut") == "reference" else ""
    return DEFINITIONS[threshold.get("method", "percentile")].format(**numbers) + cut


def pairs_table(study: Study) -> list[dict[str, Any]]:
    """The declared comparisons, with what difference and equivalence say together."""
    rows = []
    for pair in in_lungs(study.pairs).itertuples():
        rows.append(
            {
                "target": TARGET_NAMES[pair.target],
                "comparison": f"{study.labels[pair.first]} − {study.labels[pair.second]}",
                "metric": MORE_METRIC_NAMES.get(pair.metric, pair.metric),
                "n": pair.n,
                "medians": f"{number(pair.median_first)} / {number(pair.median_second)}",
                "difference": number(pair.hodges_lehmann, 4),
                "interval": interval(pair.ci_low, pair.ci_high),
                "p": p_value(pair.p),
                "p_holm": p_value(pair.p_holm),
                "rank_biserial": number(pair.rank_biserial, 2),
                "conclusion": pair.conclusion if isinstance(pair.conclusion, str) else "n/a",
                "method": pair.method if isinstance(pair.method, str) else "",
                "note": pair.note if isinstance(pair.note, str) else "",
            }
        )
    return rows


def baselines_table(study: Study) -> list[dict[str, Any]]:
    """Networks against the better trivial baseline."""
    return [
        {
            "target": TARGET_NAMES[row.target],
            "network": study.labels[row.network],
            "mean": number(row.mean_spearman),
            "baseline": study.labels.get(row.best_baseline, "n/a"),
            "baseline_mean": number(row.baseline_mean_spearman),
            "difference": number(row.difference),
            "interval": interval(row.ci_low, row.ci_high),
            "better": f"{row.patients_better} of {row.n}",
        }
        for row in study.baselines.itertuples()
    ]
