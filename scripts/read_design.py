"""Adapter of the rule `read_design`."""

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
        from ct2vq.identity.sources import open_store, private_folder
        from ct2vq.read.design import write_design

        write_design(
            snakemake.output.design,
            snakemake.output.plan,
            study=snakemake.params.study,
            secret=open_store(private_folder()).pseudonym("readers", str(snakemake.params.seed), 64),
            settings=snakemake.params.settings,
            cases=snakemake.params.cases,
            readers=snakemake.params.readers,
            simulated=snakemake.params.simulated,
            simulated_readers=snakemake.params.simulated_readers,
            labels=snakemake.params.labels,
        )
