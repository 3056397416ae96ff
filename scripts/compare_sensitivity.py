"""Adapter of the rule `compare_sensitivity`."""

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
        from ct2vq.compare.universe import Choices, compare_universes

        compare_universes(
            Path(snakemake.input.metrics),
            [Path(path) for path in snakemake.input.alternatives],
            Path(snakemake.output.universes),
            Choices(**snakemake.params.choices),
            snakemake.params.settings,
            patients=snakemake.params.patients,
            seed=snakemake.params.seed,
        )
