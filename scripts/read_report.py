"""Adapter of the rule `read_report`."""

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
        from ct2vq.read.names import FIGURES, TABLES
        from ct2vq.read.results import report_reading

        params, inputs, outputs = snakemake.params, snakemake.input, snakemake.output
        report_reading(
            list(inputs.get("exports", [])),
            list(inputs.packs),
            list(inputs.keys_),
            inputs.design,
            {name: outputs[name] for name in TABLES},
            {name: outputs[name] for name in FIGURES},
            Look(params.labels, params.networks, params.simulated, params.figure),
            settings={"confidence": params.confidence, "bootstrap": params.bootstrap},
            seed=params.seed,
        )
