"""Adapter of the rule `report_registration`."""

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
        from ct2vq.fields import read_transform
        from ct2vq.overlay import draw_registration

        files = dict(snakemake.input.items())
        draw_registration(
            {name: path for name, path in files.items() if name not in ("ct", "lungs", "ct_to_spect", "qc")},
            files["ct"],
            files["lungs"],
            read_transform(Path(files["ct_to_spect"])),
            files["qc"],
            snakemake.output.overlay,
            case=" ".join(snakemake.wildcards),
            figure=snakemake.params.figure,
        )
