"""Adapter of the rule `register_quality`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import private_stage, stage

    own = snakemake.params.landmarks is not None
    with (private_stage if own else stage)(snakemake.log[0]) as curtain:
        from ct2vq.identity.job import open_job
        from ct2vq.identity.sources import private_folder
        from ct2vq.register.judge import judge_registration

        files = {name: Path(path) for name, path in snakemake.input.items()}
        fields = files.pop("ct_to_spect"), files.pop("spect_to_ct")
        record, truth = files.pop("record"), files.pop("truth", None)
        landmarks = truth and truth / "landmarks.tsv"
        if own:
            curtain.cleaner = open_job(private_folder(), snakemake.wildcards.case, "landmarks")
            landmarks = curtain.cleaner.raw.root
        judge_registration(
            files,
            fields,
            record,
            Path(snakemake.output.qc),
            Path(snakemake.output.accepted),
            snakemake.params.limits,
            landmarks,
            accept=snakemake.params.accept,
        )
