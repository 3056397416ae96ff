"""What the rule `compare` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.compare.excluded import list_excluded
from ct2vq.compare.pairs import compare_pairs
from ct2vq.compare.passes import compare_passes, count_passes, thresholds_of
from ct2vq.compare.scores import scores_of, tested_rows
from ct2vq.compare.summary import METRICS, REGIONS, against_baselines, summarise
from ct2vq.files import write_tsv
from ct2vq.names import SPECT
from ct2vq.values import read_metrics


def compare_models(
    metrics: Path,
    outputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    *,
    patients: Mapping[str, str],
    kinds: Mapping[str, str],
    targets: Mapping[str, Sequence[str]],
    threshold: str,
    seed: int,
) -> None:
    """Write the summary of every model, the paired comparisons, the passes, and who is left out.

    Args:
        metrics: the table of stage `evaluate`.
        outputs: files to write: `summary`, `pairs`, `baselines`, `passes`, `mcnemar`, `excluded`.
        settings: config block `compare`.
        patients: patient of each case.
        kinds: kind of each model.
        targets: targets of each model.
        threshold: name of the definition of low and high function in comparisons: the summary's first.
        seed: seed of the bootstrap.
    """
    table = read_metrics(metrics, METRICS, {*REGIONS, *settings["regions"]})
    tested = dict.fromkeys((*settings["metrics"], "spearman", *thresholds_of(settings)))
    against_spect = table[(table["reference"] == SPECT) & table["metric"].isin(tested)]
    scores = scores_of(tested_rows(against_spect, [threshold]))
    tables = {
        "summary": summarise(table, patients, settings, seed),
        "pairs": compare_pairs(scores, patients, settings, threshold, seed),
        "baselines": against_baselines(scores, patients, kinds, settings, seed),
        "passes": count_passes(scores, patients, settings, threshold),
        "mcnemar": compare_passes(scores, patients, settings, threshold),
        "excluded": list_excluded(against_spect, scores, patients, targets, tested, threshold),
    }
    for name, path in outputs.items():
        write_tsv(tables[name], path)
