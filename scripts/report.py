"""Adapter of the rule `report`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import stage

    with stage(snakemake.log[0]):
        from ct2vq.report import write_report

        write_report(
            {name: snakemake.input[name] for name in ("summary", "pairs", "baselines", "metrics", "folds")},
            snakemake.input.qc,
            snakemake.input.noticed,
            snakemake.input.runs,
            snakemake.input.panels,
            snakemake.input.registrations,
            snakemake.input.figures,
            snakemake.output.page,
            snakemake.output.config,
            config=snakemake.params.config,
            labels=snakemake.params.labels,
            cases=snakemake.params.cases,
            flow=snakemake.params.flow,
            simulated=snakemake.params.simulated,
            normalised=snakemake.input.normalised,
        )
