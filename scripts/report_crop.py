"""Adapter of the rule `report_crop`."""

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
        from ct2vq.report.pictures import draw_normalisations

        draw_normalisations(snakemake.params.cases, Path(snakemake.output.figures), snakemake.params.figure)
