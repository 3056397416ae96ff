"""Adapter of the rule `train_cohort`."""

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
        from ct2vq.convert.cohort import convert_cohort
        from ct2vq.learners import write_learners

        convert_cohort(
            [Path(path) for path in snakemake.input.sidecars],
            snakemake.params.patients,
            snakemake.params.limits,
            Path(snakemake.output.table),
        )
        write_learners(snakemake.params.learned, Path(snakemake.params.kept))
