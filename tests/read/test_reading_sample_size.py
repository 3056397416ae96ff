"""Sample sizes against published figures and against the power that they promise."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from ct2vq.config import complete_config
from ct2vq.read.sample_size import auc_patients_needed, auc_variance, pairs_needed, sample_size, with_readers

ENDPOINT = complete_config({"study": "x"})["read"]["endpoint"]
CHOICES = ["normal", "embolism", "obstructive", "other"]


def test_pairs_by_hand() -> None:
    assert pairs_needed(0.1, 0.0, 0.15, 0.025, 0.8) == 118  # 2.80159^2 x 0.15 / 0.01 = 117.73
    assert pairs_needed(0.1, 0.02, 0.15, 0.025, 0.9) == math.ceil(3.24151556**2 * (0.15 - 0.0004) / 0.0144)
    assert pairs_needed(0.1, -0.1, 0.15, 0.025, 0.8) is None


@pytest.mark.parametrize(
    ("margin", "difference", "discordance"), [(0.1, 0.0, 0.15), (0.1, 0.03, 0.3), (0.15, -0.02, 0.2)]
)
def test_the_number_has_the_power_that_it_was_asked_for(margin, difference, discordance) -> None:
    number = pairs_needed(margin, difference, discordance, 0.025, 0.8)
    better, worse = (discordance + difference) / 2, (discordance - difference) / 2
    counts = np.random.default_rng(0).multinomial(number, [better, worse, 1 - discordance], size=200_000)
    found = (counts[:, 0] - counts[:, 1]) / number
    spread = np.sqrt(np.maximum((counts[:, 0] + counts[:, 1]) / number - found**2, 1e-12) / number)
    power = ((found + margin) / spread > NormalDist().inv_cdf(0.975)).mean()
    assert power == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("area", "positives", "negatives"), [(0.85, 12, 30), (0.7, 25, 20), (0.93, 40, 15)])
def test_the_variance_of_an_auc_is_that_of_its_model(area: float, positives: int, negatives: int) -> None:
    # Q1 and Q2 are exact for exponential ratings, whose area is the ratio of the ill's mean to the sum of both means
    generator = np.random.default_rng(1)
    ill = generator.exponential(area / (1 - area), (20_000, positives, 1))
    well = generator.exponential(1.0, (20_000, 1, negatives))
    areas = (ill > well).mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(area, abs=0.003)
    assert areas.var() == pytest.approx(auc_variance(area, positives, negatives), rel=0.04)


def test_patients_for_an_auc_are_the_fewest_that_suffice() -> None:
    number = auc_patients_needed(0.1, 0.0, 0.85, 0.5, 0.025, 0.8, 0.4)
    limit = (0.1 / (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8))) ** 2
    variances = [2 * (1 - 0.5) * auc_variance(0.85, n * 0.4, n * 0.6) for n in (number - 1, number)]
    assert variances[1] <= limit < variances[0]
    assert auc_patients_needed(0.1, 0.0, 0.85, 0.9, 0.025, 0.8, 0.4) < number
    assert auc_patients_needed(0.1, 0.0, 0.85, 0.5, 0.025, 0.8, 0.0) is None


def test_a_number_that_no_study_can_have_is_none() -> None:
    assert auc_patients_needed(0.0001, 0.0, 0.7, 0.0, 0.025, 0.8, 0.4) is None
    assert pairs_needed(0.0001, 0.0, 0.3, 0.025, 0.8) is None


def test_more_readers_help_as_far_as_they_differ() -> None:
    assert with_readers(118, 5, 1.0) == 118
    assert with_readers(118, 5, 0.0) == 24
    assert with_readers(118, 2, 0.5) == 89


def test_what_counts_as_present() -> None:
    references = {f"p{index}": CHOICES[index % 4] for index in range(10)}
    of_metric = {
        metric: sample_size(ENDPOINT | {"metric": metric}, references, readers=3)
        for metric in ("accuracy", "sensitivity", "specificity", "auc")
    }
    assert {metric: size["present"] for metric, size in of_metric.items()} == {
        "accuracy": 10,
        "sensitivity": 3,
        "specificity": 7,
        "auc": 10,
    }
    assert of_metric["accuracy"]["asked"] == 118
    assert of_metric["auc"]["asked"] > 50
    assert "Hanley" in of_metric["auc"]["formula"]
    assert sample_size(ENDPOINT | {"difference": -0.2}, references, readers=3)["asked"] is None
