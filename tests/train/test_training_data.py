"""Training cases: read once, whole patients held out, batches padded with nothing; memory is planned for."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import CROP, NETWORK, TARGETS, TRAINING
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.errors import TrainingError
from ct2vq.inputs import case_folders
from ct2vq.networks.build import build_network
from ct2vq.train import data
from ct2vq.train.data import Cases, Sample, hold_out, stack
from ct2vq.train.machine import one_ahead
from ct2vq.train.memory import MEGABYTE, cache_budget, micro_batch, saved_bytes
from ct2vq.train.schedule import learning_rate

MODEL = {"targets": list(TARGETS), "network": NETWORK}


def a_case(seed: int, shape: tuple[int, int, int]) -> Sample:
    generator = np.random.default_rng(seed)
    lungs = np.zeros(shape, np.float32)
    lungs[2:-2, 2:-2, 2:-2] = 1
    image, truth = (torch.from_numpy(generator.random((n, *shape)).astype(np.float32) * lungs) for n in (5, 2))
    return Sample("c", image, torch.from_numpy(lungs)[None], truth)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 8), st.integers(0, 99))
def test_held_out_patients_are_whole_and_somebody_is_left(patients: list[int], number: int, seed: int) -> None:
    of_case = {f"c{n}": f"p{patient}" for n, patient in enumerate(patients)}
    folders = [Path(case) for case in of_case]
    learn, watch = hold_out(folders, of_case, number, seed, fold=1)
    assert sorted(learn + watch) == sorted(folders)
    learners, watchers = ({of_case[folder.name] for folder in part} for part in (learn, watch))
    assert learn
    assert not learners & watchers
    assert len(watchers) == min(number, len(set(patients)) - 1)


def test_other_patients_watch_in_other_folds_and_the_same_ones_over_all_models() -> None:
    of_case = {f"c{n}": f"p{n}" for n in range(30)}
    folders = [Path(case) for case in of_case]
    watchers = [hold_out(folders, of_case, 2, seed=5, fold=fold)[1] for fold in (1, 2, 3, 1)]
    assert watchers[0] == watchers[3]
    assert len({tuple(some) for some in watchers}) == 3


def test_cases_of_several_sizes_in_one_batch() -> None:
    small, large = a_case(0, (6, 9, 7)), a_case(1, (8, 8, 10))
    image, lungs, truth = stack([small, large])
    assert image.shape == (2, 5, 8, 9, 10)
    assert (lungs.shape, truth.shape) == ((2, 1, 8, 9, 10), (2, 2, 8, 9, 10))
    assert torch.equal(image[0, :, :6, :9, :7], small.image)
    assert lungs[0].sum() == small.lungs.sum()
    assert image[0].sum() == pytest.approx(small.image.sum().item(), rel=1e-5)


@pytest.mark.parametrize("in_memory", [0, 2, 4])
def test_each_case_is_read_once_and_is_the_same_from_memory_and_disk(
    cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    folders, reads = case_folders(cohort[0]), []
    real = data.read_cropped_case
    monkeypatch.setattr(data, "read_cropped_case", lambda folder, t: (reads.append(folder), real(folder, t))[1])
    reference = Cases(folders, MODEL, CROP["window_hu"], 1e12, tmp_path / "never")
    reads.clear()
    budget = in_memory * reference[0].bytes
    cases = Cases(folders, MODEL, CROP["window_hu"], budget, tmp_path / "store")
    for _ in range(2):
        for number in range(len(cases)):
            for name in ("image", "lungs", "truth"):
                assert torch.equal(getattr(cases[number], name), getattr(reference[number], name))
            assert cases.size(number) == cases[number].size
    assert reads == folders
    assert (cases.on_disk, cases.bytes_in_memory) == (4 - in_memory, budget)
    assert not (tmp_path / "never").exists()


def test_a_full_disk_while_cases_are_unpacked(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data.np, "save", full)
    with pytest.raises(TrainingError, match=r"no space is left for cases.*train\.memory_mb"):
        Cases(case_folders(cohort[0]), MODEL, CROP["window_hu"], 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_takes_half_of_the_memory_unless_told() -> None:
    assert cache_budget(TRAINING | {"memory_mb": 8000, "devices": 2}) == 2000 * MEGABYTE
    assert cache_budget(TRAINING | {"cache_mb": 100}) == 100 * MEGABYTE


def network_and_case() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    case = a_case(0, (16, 16, 24))
    return build_network("ran", TARGETS, NETWORK, 5), case.image[None], case.lungs[None]


def test_what_the_backward_pass_needs_grows_with_the_batch() -> None:
    network, image, lungs = network_and_case()
    one = saved_bytes(network, image, lungs)
    two = saved_bytes(network, image.repeat(2, 1, 1, 1, 1), lungs.repeat(2, 1, 1, 1, 1))
    assert one > 2 * image.numel() * 4
    assert two == pytest.approx(2 * one, rel=0.05)


def test_counting_memory_draws_no_random_numbers() -> None:
    network, image, lungs = network_and_case()
    state = torch.get_rng_state()
    saved_bytes(network, image, lungs)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 8}, 8),
        ({"batch_size": 8, "devices": 3}, 3),
        ({"batch_size": 8, "micro_batch": 2}, 2),
        ({"batch_size": 2, "micro_batch": 5}, 2),
        ({"batch_size": 1}, 1),
    ],
)
def test_the_micro_batch_is_the_batch_s_share_unless_told(settings, expected: int) -> None:
    assert micro_batch(TRAINING | settings, *network_and_case(), 0)[0] == expected


def test_the_micro_batch_follows_the_memory() -> None:
    network, image, lungs = network_and_case()
    need = 2.5 * saved_bytes(network, image, lungs) / MEGABYTE
    room = {"batch_size": 64, "memory_mb": 700 + 10 * need}
    number, facts = micro_batch(TRAINING | room, network, image, lungs, 0)
    assert 7 <= number <= 10
    assert facts["rule"] == "by memory"
    assert micro_batch(TRAINING | room, network, image, lungs, round(9 * need * MEGABYTE))[0] == 1


def test_one_ahead_keeps_the_order_and_the_errors() -> None:
    assert list(one_ahead(iter(range(5)))) == [0, 1, 2, 3, 4]

    def failing():
        yield 1
        raise ValueError("here")

    made = one_ahead(failing())
    assert next(made) == 1
    with pytest.raises(ValueError, match="here"):
        next(made)


def test_schedules() -> None:
    cosine = [learning_rate(step, 100, TRAINING | {"learning_rate": 1.0}) for step in range(100)]
    assert cosine[14] == 1.0
    assert max(cosine) == 1.0
    assert cosine[-1] < 0.001
    assert cosine[:15] == sorted(cosine[:15])
    constant = TRAINING | {"learning_rate": 1.0, "schedule": "constant", "warm_up": 0.0}
    assert {learning_rate(step, 100, constant) for step in range(100)} == {1.0}
