"""Adapter of the rule `synthesize`."""

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
        from ct2vq.gpus import own_gpus

        with own_gpus(snakemake.params.device):
            from ct2vq.synthesize.case import synthesize_case

            synthesize_case(
                Path(snakemake.input.lungs).parent,
                Path(snakemake.input.ct_lungs),
                {model: Path(snakemake.input[model]) for model in snakemake.params.models},
                Path(snakemake.output.record).parent,
                Path(snakemake.output.record),
                device=snakemake.params.device,
                settings=snakemake.params.settings,
                seed=snakemake.params.seed,
                uncertain=snakemake.params.uncertain,
            )
