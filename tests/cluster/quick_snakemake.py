"""Snakemake that asks Slurm for the state of its jobs every four seconds; the executor's own pauses are 40 to 180."""

import sys

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main

PAUSE_S = 4

plugin.common_settings.init_seconds_before_status_checks = PAUSE_S
plugin.Executor.next_seconds_between_status_checks = property(lambda _: PAUSE_S, lambda _, asked: None)
sys.argv[0] = "snakemake"
main()
