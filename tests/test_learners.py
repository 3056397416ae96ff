"""Which cases models learn from, and that a later one changes no training unless the study says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2vq.cohort import Case
from ct2vq.digests import ROOT, _closure
from ct2vq.errors import ConfigError
from ct2vq.learners import learned_targets, read_learners, write_learners

PERFUSION = {"ct": "a", "perfusion": "b"}
BOTH = {"ct": "a", "perfusion": "b", "ventilation": "c"}


def test_models_learn_from_everything_until_trainings_have_begun() -> None:
    cases = [Case("c0", "p0", PERFUSION), Case("c1", "p1", BOTH)]
    everything = {"c0": ("perfusion",), "c1": ("perfusion", "ventilation")}
    assert learned_targets(cases, None, "predict") == everything
    assert learned_targets(cases, None, "learn") == everything


def test_what_comes_later_is_learnt_from_only_if_asked_for() -> None:
    cases = [Case("c0", "p0", PERFUSION), Case("c1", "p1", BOTH), Case("c2", "p2", PERFUSION)]
    kept = {"c0": ("perfusion",), "c1": ("perfusion",), "gone": ("perfusion",)}
    assert learned_targets(cases, kept, "predict") == {"c0": ("perfusion",), "c1": ("perfusion",)}, (
        "neither a new case nor a new image of an old one"
    )
    assert learned_targets(cases, kept, "learn") == {
        "c0": ("perfusion",),
        "c1": ("perfusion", "ventilation"),
        "c2": ("perfusion",),
    }


def test_learners_are_kept_and_grow_only(tmp_path: Path) -> None:
    kept = tmp_path / "work" / "learners.tsv"
    write_learners({"c0": ("perfusion",), "c1": ("perfusion",)}, kept)
    assert kept.read_text() == "case_id\ttargets\nc0\tperfusion\nc1\tperfusion\n"
    write_learners({"c1": ("perfusion", "ventilation"), "c2": ("ventilation",)}, kept)
    assert read_learners(kept) == {
        "c0": ("perfusion",),
        "c1": ("perfusion", "ventilation"),
        "c2": ("ventilation",),
    }, "a case that was excluded learns again when it comes back"


def test_a_table_of_learners_that_is_none(tmp_path: Path) -> None:
    table = tmp_path / "learners.tsv"
    table.write_text("case_id\tfold\nc1\t1\n")
    with pytest.raises(ConfigError, match="no table of learners") as caught:
        read_learners(table)
    assert str(table) in str(caught.value)


def test_what_all_trainings_wait_for_depends_on_no_module_that_reads_the_cohort() -> None:
    modules, _ = _closure(ROOT / "scripts" / "train_cohort.py", ROOT)
    names = {path.name for path in modules}
    assert "learners.py" in names
    assert not {"cohort.py", "split.py"} & {path.name for path in modules if path.parent.name == "ct2vq"}
