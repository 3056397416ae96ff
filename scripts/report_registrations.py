"""Adapter of the rule `report_registrations`."""

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
        from ct2vq.registrations import write_registrations

        write_registrations(
            snakemake.input.qc,
            snakemake.params.overlays,
            snakemake.input.quality,
            snakemake.output.page,
            snakemake.output.table,
            title=snakemake.params.title,
            simulated=snakemake.params.simulated,
            modulated=snakemake.params.modulated,
        )
