"""Adapter of the rule `segment_backend`, where a network of others finds the lungs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import private_stage

    own = snakemake.params.lung_mask is not None
    # the networks' libraries print to stdout what belongs in the log
    with private_stage(snakemake.log[0]) as curtain:
        from ct2vq.identity.sources import backend_weights, private_folder
        from ct2vq.segment import segment_case
        from ct2vq.segment.backends import backend_of
        from ct2vq.segment.own import open_own_mask

        settings = snakemake.params.settings
        # params hold digests of the weights: where they lie is no part of the study
        backend = backend_of(settings, backend_weights(private_folder()))
        lung_mask = same_frame = None
        if own:
            named = snakemake.wildcards
            curtain.cleaner, lung_mask, same_frame = open_own_mask(
                named.case, named.volume, Path(snakemake.input.sidecar)
            )
        segment_case(
            Path(snakemake.input.ct),
            Path(snakemake.output.lungs),
            Path(snakemake.output.record),
            settings,
            lung_mask,
            regions=Path(snakemake.output.regions),
            lobes=Path(snakemake.output.lobes[0]) if snakemake.output.lobes else None,
            same_frame=same_frame,
            backend=backend,
        )
