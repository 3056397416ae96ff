"""A file is there whole or not at all, and a table comes back as it went."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, read_tsv, replacing, sha256_file, sha256_text, write_json, write_text, write_tsv


def test_a_torn_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_text("whole", path)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["image.nii.gz", "weights.safetensors", "no_suffix", ".hidden.json"])
def test_the_temporary_name(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path, "another file system could not be replaced from"
        assert temporary.name.endswith(name)
        assert temporary.name.startswith(".")
        assert str(os.getpid()) in temporary.name
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_json_has_no_nan_and_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_json({"b": 1.5, "a": [None, "ü"]}, tmp_path / "1.json")
    write_json({"a": [None, "ü"], "b": 1.5}, tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert read_json(tmp_path / "1.json") == {"a": [None, "ü"], "b": 1.5}
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON"):
            write_json({"a": value}, tmp_path / "3.json")
    assert not (tmp_path / "3.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(Ct2vqError, match=r"broken\.json.*not a JSON file"):
        read_json(path)
    with pytest.raises(Ct2vqError, match=r"gone\.json.*does not exist"):
        read_json(tmp_path / "gone.json")


@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_every_float_comes_back_exactly(tmp_path: Path, values: list[float]) -> None:
    table = pd.DataFrame({"name": ["x"] * len(values), "value": values})
    write_tsv(table, tmp_path / "table.tsv")
    back = read_tsv(tmp_path / "table.tsv", dtype={"value": float}, float_precision="round_trip")
    np.testing.assert_array_equal(back["value"].to_numpy(), np.array(values))


def test_missing_is_not_empty(tmp_path: Path) -> None:
    table = pd.DataFrame({"value": [1.0, np.nan], "reason": ["", "constant image"], "none": ["None", "NA"]})
    write_tsv(table, tmp_path / "table.tsv")
    assert (tmp_path / "table.tsv").read_bytes() == b"value\treason\tnone\n1.0\t\tNone\nn/a\tconstant image\tNA\n"
    pd.testing.assert_frame_equal(read_tsv(tmp_path / "table.tsv"), table)


@pytest.mark.parametrize("column", ["case_id", "patient_id", "patient"])
@pytest.mark.parametrize("names", [["001", "002"], ["1e3", "12"], ["nan", "NA"], ["True", "False"]])
def test_names_that_look_like_something_else(tmp_path: Path, column: str, names: list[str]) -> None:
    write_tsv(pd.DataFrame({column: names, "value": [1.0, 2.0]}), tmp_path / "table.tsv")
    assert list(read_tsv(tmp_path / "table.tsv")[column]) == names
    assert list(read_tsv(tmp_path / "table.tsv", dtype={"value": float})[column]) == names
    assert list(read_tsv(tmp_path / "table.tsv", dtype=str)["value"]) == ["1.0", "2.0"]


def test_hashes_are_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == sha256_text("abc") == known
