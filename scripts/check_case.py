"""Adapter of the rule `check_case`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import private_stage

    with private_stage(snakemake.log[0]) as curtain:
        from ct2vq.check import Jobs, check_case
        from ct2vq.identity.sources import private_folder

        curtain.cleaner = Jobs(private_folder(), snakemake.wildcards.case, snakemake.params.volumes)
        check_case(
            snakemake.wildcards.case,
            curtain.cleaner.volumes(),
            snakemake.params.settings,
            curtain.cleaner.clean,
            Path(snakemake.output.problems),
            Path(snakemake.output.facts),
        )
