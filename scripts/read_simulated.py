"""Adapter of the rule `read_simulated`."""

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
        from ct2vq.read.simulated import write_simulated_export

        write_simulated_export(
            snakemake.input.pack,
            snakemake.input.key,
            snakemake.input.design,
            snakemake.output.export,
            settings=snakemake.params.settings,
            seed=snakemake.params.seed,
        )
