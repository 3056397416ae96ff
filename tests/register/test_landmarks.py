"""Tables of landmarks: what is wrong is told by line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ct2vq.errors import RegistrationError
from ct2vq.register.landmarks import CT_COLUMNS, SPECT_COLUMNS, read_landmarks

HEADER = "\t".join(("name", *CT_COLUMNS, *SPECT_COLUMNS))


def write(folder: Path, text: str) -> Path:
    path = folder / "landmarks.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_come_back_and_are_measured(tmp_path: Path) -> None:
    marks = read_landmarks(write(tmp_path, f"{HEADER}\na\t1\t2\t3\t4\t6\t3\nb\t0\t0\t0\t0\t0\t-2.5\n"))
    assert marks.ct.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert marks.error_mm(None).tolist() == [5.0, 2.5]
    moved = marks.error_mm(sitk.TranslationTransform(3, (3.0, 4.0, 0.0)))
    assert np.allclose(moved, [0, np.linalg.norm([3, 4, 2.5])])


def test_excels_byte_order_mark_and_other_columns_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeff" + f"{HEADER}\tregion\nb\t0\t0\t0\t0\t0\t1\tleft lung\n"
    assert len(read_landmarks(write(tmp_path, text)).ct) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "\n", "no rows"),
        ("", "no column x_ct_mm"),
        (HEADER.replace("z_spect_mm", "z_pet_mm") + "\n", "no column z_spect_mm; columns found: name"),
        (f"{HEADER}\na\t1\t2\tabc\t4\t5\t6\n", "line 2: `abc` is no position"),
        (f"{HEADER}\na\t1\t2\t3\t4\t5\t6\nb\t1\t2\t3\t4\t5\n", "line 3: `None` is no position"),
        (f"{HEADER}\na\t1\t2\t3\t4\t5\tnan\n", "line 2: `nan` is no position"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RegistrationError, match=said) as caught:
        read_landmarks(write(tmp_path, text))
    assert caught.value.code == "D810"


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="cannot be read"):
        read_landmarks(tmp_path / "none.tsv")
