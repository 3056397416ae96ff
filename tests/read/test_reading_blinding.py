"""Trying to tell source and case apart from everything in a pack but the pictures."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading_study import SPACING_MM, TARGETS, SmallStudy, small_study

from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json
from ct2vq.read import blind
from ct2vq.read.exports import read_pack
from ct2vq.read.pack import pack_digest, read_case
from ct2vq.volume import read_volume

HEADER = blind.HEADER_BYTES
PERCENTILE = 99


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> SmallStudy:
    made = small_study(tmp_path_factory.mktemp("study"), number=8, repeats=0.3)
    made.pack()
    return made


@pytest.fixture(scope="module")
def folder(study) -> Path:
    return study.folder / "packs" / "ann"


@pytest.fixture(scope="module")
def contents(folder) -> dict[str, bytes]:
    """Unpacked content of each volume, by name."""
    return {path.stem: unpacked(path) for path in (folder / "volumes").iterdir()}


def unpacked(script: Path) -> bytes:
    text = script.read_text(encoding="ascii")
    match = re.fullmatch(r'ct2vqVolume\("(\w+)","([\w+/=]+)"\);\n/\* [\w+/=]*\*/\n', text)
    assert match[1] == script.stem
    return gzip.decompress(base64.b64decode(match[2], validate=True))


def voxels_of(content: bytes) -> np.ndarray:
    """Voxels `(z, y, x)` of a NIfTI-1 file (its size stands at byte 40, its type at byte 70)."""
    size = np.frombuffer(content, "<i2", 3, 42)
    kind = {2: np.uint8, 4: "<i2"}[int(np.frombuffer(content, "<i2", 1, 70)[0])]
    return np.frombuffer(content, kind, offset=HEADER).reshape(size[::-1])


def volumes_of(rows: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, what it shows and row of the key, of each volume."""
    kinds = [*TARGETS, "ct"]
    return [
        (row[f"volume_{kind}"], kind, row) for row in rows for kind in kinds if isinstance(row[f"volume_{kind}"], str)
    ]


def cropped(voxels: np.ndarray) -> np.ndarray:
    """What is not background."""
    where = np.nonzero(voxels)
    return voxels[tuple(slice(index.min(), index.max() + 1) for index in where)]


def test_files_are_alike(study, folder, contents) -> None:
    lengths = {(kind == "ct"): set() for kind in (*TARGETS, "ct")}
    headers = {is_ct: set() for is_ct in lengths}
    for name, kind, _ in volumes_of(study.key_rows()):
        lengths[kind == "ct"].add((folder / "volumes" / f"{name}.js").stat().st_size)
        headers[kind == "ct"].add(contents[name][:HEADER])
        assert len(contents[name]) == HEADER + voxels_of(contents[name]).nbytes
    assert [len(found) for found in lengths.values()] == [1, 1]
    assert [len(found) for found in headers.values()] == [1, 1]
    assert len({path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}) == 1
    assert len({(path.stat().st_mode, path.stat().st_uid) for path in (folder / "volumes").iterdir()}) == 1


def test_files_are_written_in_the_order_of_their_names(tmp_path, monkeypatch) -> None:
    """An archive may list files in the order in which they were written: it must not tell what is of one case."""
    study, written = small_study(tmp_path, number=3), []
    write = Path.write_text

    def noted(path: Path, *args: Any, **kwargs: Any) -> int:
        written.append(path)
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", noted)
    study.pack()
    monkeypatch.undo()
    names = [path.stem for path in written if path.parent.name == "volumes"]
    assert names == sorted(path.stem for path in (tmp_path / "packs" / "ann" / "volumes").iterdir())


def test_grey_steps_are_alike(study, contents) -> None:
    brightest: dict[tuple[str, str], set[int]] = {}
    for name, kind, row in volumes_of(study.key_rows()):
        voxels = voxels_of(contents[name])
        if kind == "ct":
            assert voxels.min() == blind.HU_RANGE[0]
            continue
        inside = voxels[voxels > 0]
        assert (inside.min(), inside.max(), voxels.dtype) == (1, 255, np.uint8)
        brightest.setdefault((row["case_id"], kind), set()).add(int((voxels == 255).sum()))
        lungs = np.asarray(read_volume(study.images[row["case_id"]]["lungs"]))
        assert inside.size == np.count_nonzero(lungs), "the lungs and nothing else, whatever the source"
    assert {len(counts) for counts in brightest.values()} == {1}, "as many for both sources"


def test_what_surrounds_the_pictures_does_not_tell_the_source(study, folder, contents) -> None:
    """A learner of one feature at a time: its rank correlation with the source is that of chance."""
    rows = [volume for volume in volumes_of(study.key_rows()) if volume[1] != "ct"]
    real = np.array([row["source"] == "real" for _, _, row in rows])
    features = []
    for name, _, row in rows:
        voxels = voxels_of(contents[name])
        where = [index.mean() for index in np.nonzero(voxels)]
        text = (folder / "volumes" / f"{name}.js").read_text(encoding="ascii")
        features.append([int(name, 16), int(row["item"], 16), row["order"], *where, ord(text[-4]), len(text)])
    for values in np.array(features, float).T:
        above = (values[real][:, None] > values[~real]).mean() + (values[real][:, None] == values[~real]).mean() / 2
        # standard deviation of this area under chance (Mann & Whitney)
        spread = np.sqrt((len(real) + 1) / (12 * real.sum() * (~real).sum()))
        assert abs(above - 0.5) < 3 * spread


def test_names_do_not_depend_on_what_they_stand_for(tmp_path, study) -> None:
    other = small_study(tmp_path, number=8, repeats=0.3)
    design = read_json(other.design)
    for session in design["readers"]["ann"]["sessions"]:
        for item in session["items"]:
            item["source"] = {"real": "synthesised", "synthesised": "real"}[item["source"]]
            item["case_id"] = f"case{7 - int(item['case_id'][4:]):02d}"
    other.design.write_text(json.dumps(design), encoding="utf-8")
    other.pack()
    for before, after in zip(study.key_rows(), other.key_rows(), strict=True):
        assert before["source"] != after["source"]
        assert [before[key] for key in ("item", "volume_perfusion")] == [
            after[key] for key in ("item", "volume_perfusion")
        ]


def test_the_words_of_a_pack_name_nothing(study, folder) -> None:
    told = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
    pack = read_pack(folder / "pack.js")
    for case, facts in study.cases.items():
        for text in told.values():
            assert case not in text
            assert facts["patient_id"] not in text
    assert not re.search("ddran|real|synthes", json.dumps(pack["sessions"]).lower())
    names = {path.stem for path in (folder / "volumes").iterdir()}
    assert names == {name for name, _, _ in volumes_of(study.key_rows())}
    assert all(re.fullmatch("[0-9a-f]{12}", name) for name in names)


def test_both_images_of_a_patient_never_share_a_session(study) -> None:
    of_session: dict[tuple[int, str], set[str]] = {}
    for row in study.key_rows():
        of_session.setdefault((row["session"], row["patient_id"]), set()).add(row["source"])
    assert {len(found) for found in of_session.values()} == {1}


def test_what_comes_twice_has_other_bytes_and_the_same_picture(study, folder, contents) -> None:
    scripts = Counter((folder / "volumes" / f"{name}.js").read_bytes() for name in contents)
    assert set(scripts.values()) == {1}
    assert len(set(contents.values())) == len(contents), "also when unpacked"
    rows = {row["item"]: row for row in study.key_rows()}
    repeats = [row for row in rows.values() if isinstance(row["repeat_of"], str)]
    assert len(repeats) == 8
    for row in repeats:
        first = rows[row["repeat_of"]]
        assert (first["case_id"], first["source"], first["session"]) == (row["case_id"], row["source"], row["session"])
        for target in TARGETS:
            pictures = [cropped(voxels_of(contents[one[f"volume_{target}"]])) for one in (row, first)]
            np.testing.assert_array_equal(*pictures)


def test_v_q_and_ct_of_an_item_lie_over_each_other(study, contents) -> None:
    shown = [row for row in study.key_rows() if isinstance(row["volume_ct"], str)]
    assert len(shown) == 20
    for row in shown:
        perfusion, ventilation, ct = (voxels_of(contents[row[f"volume_{kind}"]]) for kind in (*TARGETS, "ct"))
        np.testing.assert_array_equal(perfusion > 0, ventilation > 0)
        assert ct[perfusion > 0].mean() < -700, "lung under function"
        tissue = (ct > -500) & (ct < 300)
        assert not (tissue & (perfusion > 0)).any()


def test_the_picture_is_the_image(study, contents) -> None:
    """Steps follow the values: what blinding may change is the scale, the brightest voxels and the least one."""
    for name, kind, row in volumes_of(study.key_rows())[:12]:
        paths = study.images[row["case_id"]]
        image = np.asarray(read_volume(paths[f"{row['source']}_{kind}"]))
        lungs = np.asarray(read_volume(paths["lungs"])) > 0
        steps, values = cropped(voxels_of(contents[name])), image[lungs]
        steps = steps[steps > 0]
        clipped = (steps == 255).sum()
        scale = np.sort(values)[-clipped]
        kept = (steps > 1) & (steps < 255)
        np.testing.assert_allclose(steps[kept], 1 + 253 * values[kept] / scale, atol=0.51)


def test_the_header_is_a_volume_that_other_programs_read(tmp_path, contents) -> None:
    path = tmp_path / "volume.nii.gz"
    path.write_bytes(
        gzip.compress(next(content for content in contents.values() if voxels_of(content).dtype == np.uint8))
    )
    image = read_volume(path)
    assert image.GetSpacing() == (SPACING_MM,) * 3
    assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert np.asarray(image).max() == pytest.approx(1.0), "slope of 1/255"


def test_the_digest_is_of_the_content(folder) -> None:
    pack = read_pack(folder / "pack.js")
    assert pack["pack"] == pack_digest(pack, folder / "volumes")
    assert pack["pack"] != pack_digest(pack | {"title": "x"}, folder / "volumes")


def test_a_volume_that_was_changed_changes_the_digest(tmp_path, folder) -> None:
    pack, copy = read_pack(folder / "pack.js"), tmp_path / "volumes"
    copy.mkdir()
    for path in (folder / "volumes").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert pack_digest(pack, copy) == pack["pack"]
    with open(next(copy.iterdir()), "a") as stream:
        stream.write(" ")
    assert pack_digest(pack, copy) != pack["pack"]


# ---------------------------------------------------------------- single steps


@given(st.integers(0, 2**32 - 1), st.floats(51, 100), st.floats(0, 0.2))
def test_both_sources_have_one_share_of_brightest_voxels(seed: int, percentile: float, saturated: float) -> None:
    generator = np.random.default_rng(seed)
    inside = generator.random((5, 6, 7)) < 0.5
    inside[0, 0, :2] = True
    first, second = generator.random((2, 5, 6, 7))
    first = np.minimum(first, 1 - saturated)
    clipped = blind.clipped_voxels((first, second), inside, percentile)
    for image in (first, second):
        steps = blind.function_steps(image, inside, clipped)
        assert (steps == 255).sum() == clipped >= (1 - percentile / 100) * inside.sum() - 1e-6
        assert (steps[~inside] == 0).all()
        assert (steps[inside] > 0).all()


def test_an_image_without_function_is_refused() -> None:
    inside = np.ones((2, 2, 2), bool)
    with pytest.raises(Ct2vqError, match="no function"):
        blind.function_steps(np.zeros((2, 2, 2)), inside, 8)


def test_what_is_no_number_counts_as_no_function() -> None:
    image = np.full((2, 2, 2), 0.5)
    image[0, 0, 0] = np.nan
    steps = blind.function_steps(image, np.ones((2, 2, 2), bool), 1)
    assert steps[0, 0, 0] == 1
    assert blind.ct_steps(np.array([np.nan, -2000.0, 5000.0, 0.6])).tolist() == [-1024, -1024, 3071, 1]


@given(st.integers(blind.SHORTEST_FILLER, 3000), st.text(max_size=5))
def test_a_filler_is_one_comment_of_its_length(length: int, name: str) -> None:
    text = blind.filler(length, name, "seed")
    assert len(text) == length
    assert text.index("*/") == length - 3
    assert re.fullmatch(r"/\* [A-Za-z0-9+/]*\*/\n", text)


@given(st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=1, max_size=4), st.integers(0, 63))
def test_every_volume_fits_the_box_at_every_place(shapes, which) -> None:
    box = blind.common_box(shapes)
    for shape in shapes:
        boxed = blind.in_box(np.ones(shape, np.uint8), box, blind.PLACES[which])
        assert boxed.shape == box
        assert boxed.sum() == np.prod(shape)
        assert cropped(boxed).shape == shape


def test_images_on_other_grids_are_refused(study) -> None:
    first, second = (study.images[case] for case in ("case00", "case01"))
    with pytest.raises(Ct2vqError, match="case01"):
        read_case(first | {"real_perfusion": second["real_perfusion"]}, PERCENTILE)
