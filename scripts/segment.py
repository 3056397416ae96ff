"""Adapter of the rule `segment`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import private_stage, stage

    own = snakemake.params.lung_mask is not None
    with (private_stage if own else stage)(snakemake.log[0]) as curtain:
        from ct2vq.segment import segment_case

        lung_mask = same_frame = None
        if own:
            from ct2vq.segment.own import open_own_mask

            named = snakemake.wildcards
            curtain.cleaner, lung_mask, same_frame = open_own_mask(
                named.case, named.volume, Path(snakemake.input.sidecar)
            )
        segment_case(
            Path(snakemake.input.ct),
            Path(snakemake.output.lungs),
            Path(snakemake.output.record),
            snakemake.params.settings,
            lung_mask,
            regions=Path(snakemake.output.regions),
            same_frame=same_frame,
        )
