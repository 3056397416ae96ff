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
        from ct2vq.figures import Look
        from ct2vq.plots.study import draw_study

        params = snakemake.params
        inputs = dict(snakemake.input.items())
        density, histories = inputs.pop("density"), inputs.pop("histories")
        draw_study(
            inputs,
            density,
            histories,
            {name: path for name, path in snakemake.output.items() if not name.endswith("_files")},
            Look(params.labels, params.networks, params.simulated, params.figure),
            definition=params.definition,
            flow=params.flow,
            diagnoses=params.diagnoses,
            flags=params.flags,
            pairs=params.pairs,
            confidence=params.confidence,
            threads=snakemake.threads,
        )
