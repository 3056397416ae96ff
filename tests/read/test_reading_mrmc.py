"""Obuchowski and Rockette's analysis gives the numbers that were published for the study of Van Dyke (1993).

Five readers, two kinds of MRI, 45 patients with a dissected aorta and 69 without. Areas, covariances and results are
those that Hillis and colleagues publish with their programs: OR-DBM MRMC 2.51 (trapezoidal areas, jackknife), and Smith
and Hillis, Proc SPIE 2020;11316:113160K (DeLong; sensitivity).
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ct2vq.read.mrmc import (
    Merits,
    analyse,
    components,
    delong,
    jackknife_auc,
    jackknife_share,
    mean_squares,
)

AREAS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
SENSITIVITIES = np.array([[40, 35, 37, 42, 31], [44, 37, 41, 45, 40]]) / 45


def covariance(error_of: tuple[float, float], cov1: float, cov2_of: tuple[float, float], cov3: float) -> np.ndarray:
    """A covariance with the published components, the same for all readers."""
    array = np.full((2, 5, 2, 5), cov3)
    for source in range(2):
        array[source, :, source, :] = cov2_of[source]
        for reader in range(5):
            array[source, reader, 1 - source, reader] = cov1
            array[source, reader, source, reader] = error_of[source]
    return array


#: by the jackknife: variance and Cov2 of each kind of MRI, Cov1, Cov3
JACKKNIFE = covariance((0.00101410, 0.00059047), 0.00034661, (0.00048396, 0.00020419), 0.00023903)
DELONG = covariance((0.0007921325,) * 2, 0.0003420090, (0.0004775239, 0.0002015292), 0.0002358497)


def test_published_random_readers_jackknife() -> None:
    found = analyse(Merits(AREAS, JACKKNIFE), 0.95, random_readers=True)
    assert found["ms_source"] == pytest.approx(0.00479617, abs=1e-8)
    assert found["ms_reader"] == pytest.approx(0.00383620, abs=1e-8)
    assert found["ms_interaction"] == pytest.approx(0.00055103, abs=1e-8)
    assert found["statistic"] ** 2 == pytest.approx(4.46, abs=0.005)
    assert found["df"] == pytest.approx(15.26, abs=0.005) and found["p"] == pytest.approx(0.0517, abs=5e-5)
    assert found["difference"] == pytest.approx(0.04380032, abs=1e-8)
    assert found["se"] == pytest.approx(0.02075, abs=5e-6)
    assert (found["low"], found["high"]) == pytest.approx((-0.00036, 0.08796), abs=1e-5)
    assert found["low_of"] == pytest.approx([0.82522360, 0.89413783], abs=2e-6)
    assert found["high_of"] == pytest.approx([0.96885048, 0.98753689], abs=2e-6)
    assert found["variance_reader"] == pytest.approx(0.00153500, abs=1e-8)
    assert found["variance_interaction"] == pytest.approx(0.00020040, abs=2e-8)


def test_published_random_readers_delong() -> None:
    found = analyse(Merits(AREAS, DELONG), 0.95, random_readers=True)
    assert found["statistic"] ** 2 == pytest.approx(4.484854, abs=2e-6)
    assert found["df"] == pytest.approx(15.06611, abs=1e-5) and found["p"] == pytest.approx(0.05123303, abs=1e-7)
    assert (found["low"], found["high"]) == pytest.approx((-0.0002665519, 0.0878671960), abs=1e-7)
    assert found["low_of"] == pytest.approx([0.8253461, 0.8942155], abs=1e-7)
    assert found["high_of"] == pytest.approx([0.9687280, 0.9874592], abs=1e-7)


def test_published_fixed_readers() -> None:
    found = analyse(Merits(AREAS, JACKKNIFE), 0.95, random_readers=False)
    assert found["statistic"] ** 2 == pytest.approx(5.47595, abs=2e-4) and found["p"] == pytest.approx(0.0193, abs=5e-5)
    assert (found["low"], found["high"]) == pytest.approx((0.00711, 0.08049), abs=1e-5)
    assert found["low_of"] == pytest.approx([0.84943008, 0.90795637], abs=2e-6)
    # one reader: variance and Cov1 of the first
    single = np.array([[[[0.00069890]], [[0.00037347]]], [[[0.00037347]], [[0.00069890]]]]).reshape(2, 1, 2, 1)
    one = analyse(Merits(AREAS[:, :1], single), 0.95, random_readers=False)
    assert one["se"] == pytest.approx(0.02551, abs=5e-6) and one["p"] == pytest.approx(0.2693, abs=5e-5)
    assert np.isnan(one["cov2"]) and np.isnan(one["ms_interaction"]), "nothing is known of readers from one"


def test_published_sensitivity() -> None:
    published = covariance((0.0023681257,) * 2, 0.0009943883, (0.001646465, 0.000382716), 0.0006604938)
    found = analyse(Merits(SENSITIVITIES, published), 0.95, random_readers=True)
    assert found["df"] == pytest.approx(15.71732, abs=1e-4) and found["p"] == pytest.approx(0.02008822, abs=1e-6)
    assert (found["low"], found["high"]) == pytest.approx((0.0175185, 0.1780371), abs=1e-6)
    assert found["low_of"] == pytest.approx([0.6961876, 0.8328691], abs=1e-6)
    assert found["high_of"] == pytest.approx([0.9482568, 1.0], abs=1e-6), "not beyond 1"


def ratings(cases: int = 60, readers: int = 3, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Five-step ratings of two sources with ties, and who is ill."""
    generator = np.random.default_rng(seed)
    positive = np.arange(cases) % 3 == 0
    latent = positive * 1.2 + generator.normal(size=cases) + generator.normal(size=(2, readers, cases))
    return np.clip(np.round(latent), -2, 2), positive


def test_areas_are_those_of_scikit_learn_and_covariances_those_of_a_definition() -> None:
    scores, positive = ratings()
    merits = delong(scores, positive)
    expected = [[roc_auc_score(positive, reader) for reader in source] for source in scores]
    assert merits.values == pytest.approx(np.array(expected), abs=1e-12)
    # Sen (1960), the definition that DeLong et al. compute: one entry by loops
    first, second = scores[0, 0], scores[1, 2]

    def components_of(score: np.ndarray) -> tuple[list[float], list[float]]:
        def wins(x: float, y: float) -> float:
            return 1.0 if x > y else 0.5 if x == y else 0.0

        ill, well = score[positive], score[~positive]
        return [np.mean([wins(x, y) for y in well]) for x in ill], [np.mean([wins(x, y) for x in ill]) for y in well]

    (a, b), (c, d) = components_of(first), components_of(second)
    by_hand = np.cov(a, c)[0, 1] / len(a) + np.cov(b, d)[0, 1] / len(b)
    assert merits.covariance[0, 0, 1, 2] == pytest.approx(by_hand, abs=1e-15)


def test_jackknife_and_delong_agree_and_a_patient_with_two_cases_counts_once() -> None:
    scores, positive = ratings(120)
    ids = np.arange(120)
    first, second = delong(scores, positive), jackknife_auc(scores, positive, ids)
    assert second.values == pytest.approx(first.values)
    assert components(second.covariance).error == pytest.approx(components(first.covariance).error, rel=0.05)
    doubled = jackknife_auc(np.repeat(scores, 2, axis=2), np.repeat(positive, 2), np.repeat(ids, 2))
    assert doubled.covariance == pytest.approx(second.covariance, rel=1e-9), "a copied case is no new patient"
    naive = delong(np.repeat(scores, 2, axis=2), np.repeat(positive, 2))
    assert components(naive.covariance).error < 0.6 * components(doubled.covariance).error


def test_jackknife_of_a_share_is_the_variance_of_a_mean() -> None:
    hits = np.random.default_rng(3).integers(0, 2, (2, 2, 25)).astype(float)
    found = jackknife_share(hits, np.arange(25)).covariance
    assert found[0, 0, 0, 0] == pytest.approx(hits[0, 0].var(ddof=1) / 25)
    assert found[0, 0, 1, 1] == pytest.approx(np.cov(hits[0, 0], hits[1, 1])[0, 1] / 25)


def test_the_error_rate_is_kept_when_nothing_differs() -> None:
    """Of 400 studies without a difference about 5 % are significant (binomial 95 % range 12 to 29)."""
    generator, significant = np.random.default_rng(11), 0
    positive = np.arange(50) % 2 == 0
    for _ in range(400):
        case = positive * 1.0 + generator.normal(size=50)
        scores = case + generator.normal(size=(4, 50)) * 0.5 + generator.normal(size=(2, 4, 50)) * 0.7
        significant += analyse(delong(scores, positive), 0.95, random_readers=True)["p"] < 0.05
    assert 8 <= significant <= 34


def test_without_variance_there_is_no_interval() -> None:
    perfect = np.ones((2, 3))
    found = analyse(Merits(perfect, np.zeros((2, 3, 2, 3))), 0.95, random_readers=True)
    assert found["difference"] == 0 and np.isnan([found["low"], found["p"], *found["low_of"]]).all()
    assert mean_squares(perfect)["interaction"] == 0
    alone = delong(np.ones((2, 2, 3)), np.array([True, False, False]))
    assert alone.values == pytest.approx(0.5) and np.isnan(alone.covariance).all()
