"""What a job asks a cluster for."""

import pytest

from ct2vq.needs import asked, raw_megavoxels, simulated_megavoxels


def test_each_attempt_asks_for_half_as_much_again():
    assert [asked(1000, attempt, 20, 35.5) for attempt in (1, 2, 3)] == [1710, 2565, 3420]
    assert asked(500, 1) == 500


def test_a_simulated_ct_has_the_size_that_its_scanner_gives_it():
    assert simulated_megavoxels({"matrix": 512, "slice_mm": 1.0}) == pytest.approx(104.9, abs=0.1)


def test_a_raw_ct_is_as_large_as_its_files(tmp_path):
    (tmp_path / "series" / "deeper").mkdir(parents=True)
    files = [tmp_path / "series" / "1.dcm", tmp_path / "series" / "deeper" / "2.dcm"]
    for file in files:
        file.write_bytes(b"\0" * 2_000_000)
    assert raw_megavoxels(tmp_path / "series") == 2.0
    assert raw_megavoxels(files[0]) == 1.0
    assert raw_megavoxels((tmp_path, tuple(files))) == 2.0


def test_what_is_missing_has_no_size_and_is_left_to_the_job(tmp_path):
    assert raw_megavoxels(tmp_path / "nothing") == 0.0
    (tmp_path / "empty").mkdir()
    assert raw_megavoxels(tmp_path / "empty") == 0.0
    assert raw_megavoxels((tmp_path, (tmp_path / "gone.dcm",))) == 0.0
