"""Finished trials that lie beside the table: its figures can be recomputed, and another machine goes on from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.files import read_json, read_tsv, replacing, write_json, write_tsv
from ct2vq.names import CEILINGS
from training.summary import NAMES, read_scores

#: significant digits of scores that are kept
DIGITS = 6
#: file of what no trial made
CEILINGS_FILE = "ceilings.tsv"


def keep(state: Path, path: Path) -> dict[str, Any]:
    """Write the scores of all finished trials to one compressed table.

    Args:
        state: folder of the trials.
        path: `*.tsv.xz`; the same trials give the same bytes.

    Returns:
        what the table's header has to keep besides: `plan`, and `costs` by trial.
    """
    scores = read_scores(state)
    scores = scores[scores["metric"].isin(NAMES)]
    with replacing(path) as temporary:
        scores.to_csv(
            temporary,
            sep="\t",
            index=False,
            na_rep="n/a",
            float_format=f"%.{DIGITS}g",
            lineterminator="\n",
            compression={"method": "xz", "preset": 9},
        )
    costs = {found.parent.name: read_json(found) for found in sorted((state / "trainings").glob("*/cost.json"))}
    return {"plan": read_json(state / "plan.json"), "costs": costs}


def restore(state: Path, path: Path, header: Mapping[str, Any], key: str) -> int:
    """Take over what `keep` wrote, if these trials have not begun here and were planned for the same key.

    Args:
        state: folder of the trials.
        path: the compressed table.
        header: with `plan` and `costs`, or without.
        key: of the settings, code and cases that trials would be planned for now.

    Returns:
        number of trials taken over.
    """
    plan = header.get("plan", {})
    if (state / "plan.json").exists() or not path.is_file() or plan.get("key") != key:
        return 0
    for trial, cost in header["costs"].items():
        write_json(cost, state / "trainings" / trial / "cost.json")
    scores = read_tsv(path)
    ceilings = scores["model"].isin(CEILINGS)
    write_tsv(scores[ceilings], state / "scores" / CEILINGS_FILE)
    trials = list(scores[~ceilings].groupby(["model", "seed", "fold"], sort=False))
    for (model, seed, fold), rows in trials:
        write_tsv(rows, state / "scores" / f"{model}.seed{seed}.fold{fold}.tsv")
    write_json(plan, state / "plan.json")
    return len(trials)
