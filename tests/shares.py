"""Which tests stay in one process (`make test` has two)."""

from __future__ import annotations

WORKFLOW = "tests/workflow/"
#: what runs Snakemake and is left for the process that is done first
LAST = tuple(
    f"{WORKFLOW}test_{name}.py"
    for name in (
        "added_cases",
        "attenuation_cts",
        "checking",
        "conda_environments",
        "engine_profiles",
        "wrong_input",
    )
)


def share_of(nodeid: str) -> str:
    """What of the tests stays in one process: what runs Snakemake, in two parts, else a module."""
    if nodeid.startswith(LAST):
        return "last"
    return WORKFLOW if nodeid.startswith(WORKFLOW) else nodeid.partition("::")[0]
