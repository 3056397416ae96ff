"""Adapter of the rule `compare`."""

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
        from ct2vq.compare.study import compare_models

        compare_models(
            Path(snakemake.input.metrics),
            {name: Path(path) for name, path in snakemake.output.items()},
            snakemake.params.settings,
            patients=snakemake.params.patients,
            kinds=snakemake.params.kinds,
            targets=snakemake.params.targets,
            threshold=snakemake.params.threshold,
            seed=snakemake.params.seed,
        )
