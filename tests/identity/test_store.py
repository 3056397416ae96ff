"""The study's secret: one for all processes, readable by its owner only, and what follows from it."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.config import complete_config
from ct2vq.digests import folder_digest
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.identity.job import where
from ct2vq.identity.store import LARGEST_SHIFT_DAYS, Store, single_use_store, study_store, write_private

SECRET = bytes(range(32))
STORE = Store(Path("unused"), SECRET)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def settings(**cohort: str) -> dict:
    return complete_config({"study": "s", "cohort": cohort})


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path) -> None:
    folder = tmp_path / "private"
    key = Store(folder).key()
    assert Store(folder).key() == key
    assert len(key) == 32 and bytes.fromhex((folder / "secret").read_text()) == key
    assert mode(folder) == 0o700 and mode(folder / "secret") == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"
    assert {path.name for path in folder.iterdir()} == {"secret", ".gitignore"}
    assert Store(tmp_path / "other").key() != key


def test_an_open_folder_is_closed(tmp_path) -> None:
    (tmp_path / "private").mkdir(mode=0o755)
    Store(tmp_path / "private").key()
    assert mode(tmp_path / "private") == 0o700


def test_a_folder_of_others_is_left_as_it_is(tmp_path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "thesis.txt").write_text("x")
    for use in (Store(folder).key, Store(folder).make_folder):
        with pytest.raises(ConfigError, match=r"cohort\.private.*other files"):
            use()
    assert mode(folder) == 0o755 and [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_its_own_folder_is_used_again(tmp_path) -> None:
    folder = Store(tmp_path / "private", SECRET).make_folder()
    (folder / "sources.json").write_text("{}")
    assert Store(folder, SECRET).make_folder() == folder


def test_names_that_are_no_utf8(tmp_path) -> None:
    name = os.fsdecode(b"M\xfcller")
    (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / name / name).write_text("x")
    assert len(folder_digest(tmp_path / "raw" / name, tmp_path / "private" / "hashes")) == 16
    (cache,) = (tmp_path / "private" / "hashes").iterdir()
    assert mode(cache) == 0o600
    write_private(tmp_path / "private" / "names" / "a_ct.tsv", f"0123456789\t{name}\n")
    assert where(tmp_path / "private", "0123456789") == [name]


def test_processes_that_start_together_agree(tmp_path) -> None:
    code = (
        f"from pathlib import Path; from ct2vq.identity.store import Store; print(Store(Path({str(tmp_path)!r})).key())"
    )
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: subprocess.check_output([sys.executable, "-c", code]), range(6)))
    assert len(set(done)) == 1


@pytest.mark.parametrize("text", ["", "00", "x" * 64])
def test_a_damaged_secret_is_no_new_one(tmp_path, text, monkeypatch) -> None:
    monkeypatch.setattr("ct2vq.identity.store._PATIENCE_S", 0.0)
    (tmp_path / "secret").write_text(text)
    with pytest.raises(Ct2vqError, match="secret"):
        Store(tmp_path).key()
    assert (tmp_path / "secret").read_text() == text


@given(st.text(), st.text())
def test_pseudonyms_depend_on_kind_value_and_secret(kind, value) -> None:
    name = STORE.pseudonym(kind, value)
    assert len(name) == 10 and int(name, 16) >= 0
    assert name == Store(Path("elsewhere"), SECRET).pseudonym(kind, value)
    assert name != Store(Path("unused"), bytes(32)).pseudonym(kind, value)
    assert name != STORE.pseudonym(kind + "x", value)
    assert STORE.pseudonym(kind, value, 16).startswith(name)


def test_a_pseudonym_is_the_keyed_hash_of_rfc_2104() -> None:
    import hashlib
    import hmac

    expected = hmac.new(SECRET, b"uid:1.2.3", hashlib.sha256).hexdigest()
    assert STORE.pseudonym("uid", "1.2.3", 64) == expected


@given(st.from_regex(r"1(\.[1-9]\d{0,9}){3,6}", fullmatch=True))
def test_remapped_uids_are_valid_and_stay_the_same(uid) -> None:
    new = STORE.uid(uid)
    assert new == STORE.uid(uid) != uid
    assert new.startswith("2.25.") and len(new) <= 64 and new[5] != "0"


@given(st.text(min_size=1))
def test_dates_move_into_the_past_by_a_patients_own_days(patient) -> None:
    days = STORE.date_shift_days(patient)
    assert -LARGEST_SHIFT_DAYS <= days <= -1
    assert days == STORE.date_shift_days(patient)


def test_patients_move_by_different_days() -> None:
    shifts = [STORE.date_shift_days(f"p{n}") for n in range(200)]
    assert len(set(shifts)) > 180
    assert min(shifts) < -3000 and max(shifts) > -600


def test_the_fingerprint_tells_secrets_apart_and_no_secret() -> None:
    assert STORE.fingerprint() != Store(Path("unused"), bytes(32)).fingerprint()
    assert STORE.fingerprint() not in SECRET.hex()


def test_a_simulated_cohort_has_the_secret_of_its_seed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, same, other = (study_store(settings(source="simulated") | {"seed": seed}) for seed in (1, 1, 2))
    assert one.key() == same.key() != other.key()
    assert not (tmp_path / "private").exists()
    real = study_store(settings(source="table"))
    assert real.key() not in (one.key(), other.key())
    assert (tmp_path / "private" / "secret").is_file()


def test_a_single_use_leaves_nothing_behind(tmp_path) -> None:
    keys = {single_use_store(tmp_path).key() for _ in range(3)}
    assert len(keys) == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "folder", ["results/p", "logs", "benchmarks/a/b", "./results/../results/p", "work/p", ".", ".."]
)
def test_a_private_folder_is_not_public(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"cohort\.private"):
        study_store(settings(private=folder))


@pytest.mark.parametrize("folder", ["private", "../secrets", "results-private"])
def test_a_private_folder_may_lie_anywhere_else(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert study_store(settings(private=folder)).folder == Path(folder)


def test_the_store_is_light() -> None:
    heavy = "numpy", "pandas", "pydicom", "SimpleITK"
    code = f"import sys, ct2vq.identity.store, ct2vq.identity.sources; print(set({heavy}) & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_names_do_not_collide_in_a_large_archive() -> None:
    names = [STORE.pseudonym("file", f"DICOM/{a:03d}/{b:03d}") for a, b in itertools.product(range(100), range(100))]
    assert len(set(names)) == len(names)
