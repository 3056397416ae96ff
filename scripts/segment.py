"""Adapter of the rule `segment`."""

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
        from ct2vq.segment import segment_case

        lung_mask = snakemake.params.lung_mask
        segment_case(
            Path(snakemake.input.ct),
            Path(snakemake.output.lungs),
            Path(snakemake.output.record),
            snakemake.params.settings,
            Path(lung_mask) if lung_mask else None,
        )
