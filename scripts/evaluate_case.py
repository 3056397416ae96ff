"""Adapter of the rule `evaluate_case`."""

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
        from ct2vq.evaluate import evaluate_case

        images = {name: Path(path) for name, path in snakemake.input.items() if name != "lungs"}
        evaluate_case(
            snakemake.wildcards.case,
            images,
            Path(snakemake.input.lungs),
            Path(snakemake.output.metrics),
            snakemake.params.settings,
        )
