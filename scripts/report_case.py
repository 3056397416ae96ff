"""Adapter of the rule `report_case`."""

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
        from ct2vq.panels import draw_case
        from ct2vq.report.volumes import write_viewer_volumes

        known = ("ct", "ct_lungs", "lungs", "network_ct")
        files = dict(snakemake.input.items())
        images = {name: path for name, path in files.items() if name not in known}
        draw_case(
            images,
            files,
            snakemake.output.panel,
            case=snakemake.wildcards.case,
            diagnosis=snakemake.params.diagnosis,
            labels=snakemake.params.labels,
            networks=snakemake.params.networks,
            arms=snakemake.params.arms,
            defects=snakemake.params.defects,
            simulated=snakemake.params.simulated,
            figure=snakemake.params.figure,
        )
        write_viewer_volumes(files["network_ct"], images, snakemake.output.volumes, case=snakemake.wildcards.case)
