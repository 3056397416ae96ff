"""The reader study as a part of the workflow: packs, keys that stay, simulated readers, and a study without readers."""

import pytest
from studies import TINY, Study, require_plain_failure

from ct2vq.files import read_json, read_tsv
from ct2vq.read.exports import read_pack

pytestmark = pytest.mark.workflow

READERS = ("simulated-1", "simulated-2")
#: what follows from a pack
AFTER_PACKS = {"read_pack", "read_simulated", "read_report", "report"}


def test_packs_are_whole_and_keys_stay_out_of_them(finished: Study) -> None:
    design = read_json(finished.path("results/read/design.json"))
    assert list(design["readers"]) == list(READERS)
    assert len(design["cases"]) == 4
    for reader in READERS:
        folder = finished.path(f"results/read/packs/{reader}")
        pack, record = read_pack(folder / "pack.js"), read_json(finished.path(f"results/read/keys/{reader}.json"))
        assert pack["pack"] == record["pack"]
        assert pack["simulated"] is pack["simulated_readers"] is True
        key = read_tsv(finished.path(f"results/read/keys/{reader}.tsv"))
        assert {f"{name}.js" for name in key["volume_perfusion"]} < {
            path.name for path in (folder / "volumes").iterdir()
        }
        assert not [path.name for path in folder.rglob("*") if path.suffix in (".tsv", ".json")]
        kept = finished.path(f"work/read/{reader}-{pack['pack'][:8]}.tsv")
        assert kept.read_bytes() == finished.path(f"results/read/keys/{reader}.tsv").read_bytes()


def test_everything_that_simulated_readers_said_is_called_so(finished: Study) -> None:
    assert "SIMULATED READERS" in finished.path("results/read/plan.md").read_text(encoding="utf-8")
    for name in ("completeness", "acceptability", "diagnosis", "endpoint"):
        assert set(read_tsv(finished.path(f"results/read/{name}.tsv"))["readers"]) == {"simulated"}, name


def test_a_question_makes_packs_again_and_trains_nothing(study: Study) -> None:
    study.replace(TINY, "simulated: {readers: 2}", "simulated: {readers: 2}\n  title: Another title")
    assert set(study.plan().rules) == AFTER_PACKS


def test_a_study_without_readers_has_none_of_it(fresh: Study) -> None:
    fresh.replace(TINY, "enabled: true", "enabled: false")
    assert not [rule for rule in fresh.plan().rules if rule.startswith("read")]
    require_plain_failure(fresh.snakemake("reader_pack"), "this study has no readers", "read.enabled")
