"""Adapter of the rule `sensitivity_case`."""

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
        from ct2vq.sensitivity.case import Alternative, score_alternatives

        files = {name: Path(path) for name, path in snakemake.input.items() if name != "fields"}
        score_alternatives(
            snakemake.wildcards.case,
            files,
            [Alternative.of(name, made) for name, made in snakemake.params.alternatives.items()],
            Path(snakemake.output.metrics),
            snakemake.params.choices,
            snakemake.params.settings,
        )
