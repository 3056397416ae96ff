"""Adapter of the rule `report_figures`."""

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
        from ct2vq.plots import draw_cohort, draw_metrics, draw_training

        params = snakemake.params
        draw_metrics(
            snakemake.input.metrics,
            snakemake.input.pairs,
            snakemake.input.folds,
            snakemake.output.metrics,
            labels=params.labels,
            networks=params.networks,
            definition=params.definition,
            simulated=params.simulated,
            figure=params.figure,
        )
        draw_training(
            snakemake.input.histories,
            snakemake.output.training,
            labels=params.labels,
            networks=params.networks,
            simulated=params.simulated,
            figure=params.figure,
        )
        draw_cohort(
            params.flow,
            snakemake.input.folds,
            snakemake.output.cohort,
            simulated=params.simulated,
            figure=params.figure,
        )
