"""Adapter of the rule `convert_ct`."""

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
        from ct2vq.convert import convert_ct

        convert_ct(
            Path(snakemake.params.source),
            Path(snakemake.output.volume),
            Path(snakemake.output.sidecar),
            snakemake.params.settings,
            snakemake.wildcards.case,
        )
