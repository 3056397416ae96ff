"""The realism table measures what it says: each figure on a construction whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ct2vq.config import complete_config
from ct2vq.simulate import realism
from ct2vq.simulate.case import Case, draw_case, simulate_case
from ct2vq.simulate.function import Function
from ct2vq.simulate.spect import HotSpot
from ct2vq.simulate.trees import Tree

PUBLISHED = Path(__file__).resolve().parents[2] / "resources" / "published_lungs.tsv"


def settings() -> dict:
    """The default simulation on coarse grids, every CT in full inspiration."""
    config = complete_config({"study": "realism"})["simulate"]
    config["ct"] |= {"matrix": 64, "pixel_mm": 5.6, "slice_mm": 8.0, "contrast": 0.0}
    config["attenuation_ct"] |= {"matrix": 48, "pixel_mm": 8.2, "slice_mm": 10.0}
    config["spect"] |= {"matrix": 60, "voxel_mm": 6.4}
    config["motion"]["full_inspiration"] = 1.0
    return config


@pytest.fixture(scope="module")
def normal() -> Case:
    return draw_case("n", "n", "normal", 5, settings())


@pytest.fixture(scope="module")
def embolism() -> Case:
    config = settings()
    config["disease"]["comorbidity"] = {}
    return draw_case("e", "e", "embolism", 5, config)


# --- weighted statistics ---


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_the_weighted_median_with_equal_weights_is_the_lower_median(values):
    expected = np.sort(values)[(len(values) - 1) // 2]
    assert realism.weighted_median(np.array(values), np.ones(len(values))) == expected


def test_the_weighted_median_follows_the_weight():
    assert realism.weighted_median(np.array([3.0, 1.0, 2.0]), np.array([10.0, 1.0, 1.0])) == 3.0


def test_half_excess_cuts_each_lung_by_itself():
    """The left lung lies farther back as a whole; only the halves within each lung count."""
    coordinate = np.concatenate([np.arange(10.0), np.arange(100.0, 110.0)])
    side = np.repeat([1, 2], 10)
    values = np.where(coordinate % 100 >= 5, 1.2, 1.0)
    assert realism.half_excess(values, np.ones(20), coordinate, side) == pytest.approx(20.0)
    assert realism.half_excess(values, np.ones(20), -coordinate, side) == pytest.approx(100 * (1 / 1.2 - 1))


def test_slope_and_correlation_of_a_line():
    position, weights = np.linspace(0, 200, 50), np.linspace(1, 3, 50)
    values = 1 + 0.03 * position / 10
    assert realism.slope_per_cm(values, weights, position) == pytest.approx(0.03)
    assert realism.correlation(values, position, weights) == pytest.approx(1.0)
    assert realism.correlation(values, -position, weights) == pytest.approx(-1.0)


def test_the_third_ratio_takes_thirds_of_the_extent():
    position = np.array([0.0, 1.0, 5.0, 8.9, 9.0])
    values = np.array([1.0, 3.0, 100.0, 4.0, 6.0])
    assert realism.third_ratio(values, np.ones(5), position, np.ones(5)) == pytest.approx(2.5)


# --- trees ---


def symmetric_tree(levels: int, diameter_ratio: float, length_ratio: float) -> Tree:
    """A tree that divides in two at each level with constant ratios; daughters 60 degrees apart."""
    parent, generation, start, end, radius = [-1], [0], [np.zeros(3)], [np.array([0.0, 0.0, -50.0])], [10.0]
    angle = [np.deg2rad(-90.0)]
    for level in range(1, levels):
        for mother in [k for k in range(len(parent)) if generation[k] == level - 1]:
            for turn in (-1, 1):
                heading = angle[mother] + turn * np.deg2rad(30)
                length = 50.0 / length_ratio**level
                parent.append(mother)
                generation.append(level)
                angle.append(heading)
                start.append(end[mother])
                end.append(end[mother] + length * np.array([np.cos(heading), 0.0, np.sin(heading)]))
                radius.append(10.0 / diameter_ratio**level)
    both = np.repeat(np.array(radius)[:, None], 2, axis=1)
    terminal = np.flatnonzero(np.array(generation) == levels - 1)
    return Tree(np.array(start), np.array(end), both, np.array(parent), np.array(generation), terminal, {})


def test_a_symmetric_tree_has_the_ratios_it_was_built_with():
    tree = symmetric_tree(7, 1.3, 1.5)
    orders = realism.strahler_orders(tree.parent, tree.generation)
    assert np.array_equal(orders, 7 - tree.generation)
    ratios = realism.order_ratios(tree)
    assert (ratios.branching, ratios.diameter, ratios.length) == pytest.approx((2.0, 1.3, 1.5))
    assert ratios.orders == 7


def test_a_chain_keeps_its_order_and_counts_as_one_branch():
    """Two ends join to order 2; a side twig of order 1 leaves the mother at order 2, in a row with her daughter."""
    parent, generation = np.array([-1, 0, 0, 1, 1]), np.array([0, 1, 1, 2, 2])
    assert realism.strahler_orders(parent, generation).tolist() == [2, 2, 1, 1, 1]


def test_angles_and_murrays_exponent_of_a_symmetric_tree():
    tree = symmetric_tree(5, 2 ** (1 / 2.7), 1.2)
    every = np.ones(len(tree.parent), dtype=bool)
    np.testing.assert_allclose(realism.branch_angles(tree, every), 30.0, atol=1e-6)
    exponents = realism.murray_exponents(tree, every)
    assert len(exponents) == 15
    np.testing.assert_allclose(exponents, 2.7, atol=1e-6)


# --- the camera ---


def test_the_width_of_a_gaussian_point_is_recovered():
    volume = np.zeros((40, 40, 40))
    volume[20, 19, 22] = 1e5
    sigma = np.array([14.0, 12.0, 10.0]) / np.sqrt(8 * np.log(2))
    blurred = gaussian_filter(volume, sigma / 4.8)
    assert realism.point_width(blurred, (4.8, 4.8, 4.8)) == pytest.approx((10.0, 12.0, 14.0), abs=0.05)


def test_the_camera_blurs_as_set_and_breathing_adds_along_z(normal):
    values = realism.measure_camera(normal, np.random.default_rng(1))
    fwhm = normal.settings["spect"]["fwhm_mm"]
    assert values["spect_fwhm", "", "camera"] == pytest.approx(fwhm, abs=0.6)
    assert values["spect_fwhm_breathing", "", "camera"] > fwhm + 1
    noise = [values["spect_background_cov", target, "camera"] for target in ("perfusion", "ventilation")]
    assert 1 < noise[0] < noise[1] < 60


# --- drawn cases ---


def test_volumes_agree_with_the_units_and_shares_add_up(normal):
    tidal, held = realism.lung_volumes(normal, None), realism.lung_volumes(normal, normal.motion)
    assert tidal.sum() == pytest.approx(normal.units.volume_ml.sum(), rel=0.02)
    assert held.sum() > 1.1 * tidal.sum()
    assert (held > tidal).all()
    values = realism.measure_drawn(normal).values
    shares = [values[f"lobar_volume_share_{name}", "", "drawn"] for name in realism.LOBES]
    assert sum(shares) == pytest.approx(100)
    assert sum(shares[:3]) == pytest.approx(values["right_lung_volume_share", "", "drawn"])


def test_even_function_has_no_gradient_and_the_lungs_own_shares(normal):
    nearly = np.random.default_rng(0).lognormal(0, 1e-6, (2, len(normal.units.position)))
    figures = realism.function_figures(replace(normal, function=Function(*nearly)))
    volume = normal.units.volume_ml
    assert figures["perfusion_dorsal_over_ventral_excess", ""] == pytest.approx(0, abs=1e-3)
    assert figures["perfusion_gradient_dorsal", ""] == pytest.approx(0, abs=1e-3)
    right = 100 * volume[normal.units.side == 1].sum() / volume.sum()
    assert figures["right_perfusion_share", ""] == pytest.approx(right, abs=1e-3)
    assert figures["vq_ratio_anterior_over_posterior", ""] == pytest.approx(1, abs=1e-3)


def test_a_built_in_gradient_is_measured(normal):
    y = normal.units.position[:, 1]
    line = 1 + 0.02 * (y - normal.units.mean(y)) / 10
    figures = realism.function_figures(replace(normal, function=Function(line, line)))
    assert figures["perfusion_gradient_dorsal", ""] == pytest.approx(2.0)
    assert figures["ventilation_heterogeneity_share_vertical", ""] == pytest.approx(100)
    assert figures["vq_correlation", ""] == pytest.approx(1)
    # 90 % air: V per gas rises like V, less where the lung is emptier
    assert figures["specific_ventilation_gradient_dorsal", ""] > 2.0


def test_mass_is_kept_from_the_reference_to_the_inspiration(normal):
    values = realism.measure_drawn(normal).values
    means = [values[f"mean_lung_density_{name}", "", "drawn"] for name in ("frc", "inspiration")]
    volumes = [values[f"lung_volume_{name}", "", "drawn"] for name in ("tidal", "inspiration")]
    mass = [(mean + 1000) * volume for mean, volume in zip(means, volumes, strict=True)]
    assert mass[1] == pytest.approx(mass[0], rel=0.02)
    assert values["mean_lung_density_tidal", "", "drawn"] > means[0]


def test_perfusion_loss_is_what_the_clots_take(embolism):
    figures = realism.embolism_figures(embolism)
    assert 0 < figures["perfusion_loss", ""] < 80
    clots = [finding for finding in embolism.state.findings if finding["kind"] == "embolus"]
    shown = np.mean([finding["visible_on_ct"] for finding in clots])
    assert figures["embolism_visible_unenhanced_ct_peripheral", ""] == pytest.approx(100 * shown)
    ones = np.ones_like(embolism.state.perfusion)
    without = replace(embolism, state=replace(embolism.state, perfusion=0.25 * ones, hidden_perfusion=ones, lesions=[]))
    assert realism.embolism_figures(without)["perfusion_loss", ""] == pytest.approx(75)


def test_a_normal_has_no_embolism_figures(normal):
    assert realism.embolism_figures(normal) == {}


def test_only_a_clump_that_outshines_the_lungs_is_a_hot_spot(normal):
    place = normal.units.airways.end[0]
    faint = replace(normal, spots=[HotSpot("a", place, 0.5)])
    bright = replace(normal, spots=[HotSpot("a", place, 0.5), HotSpot("b", place, 8.0)])
    assert realism.hot_spot_figures(faint)["hot_spot_prevalence", ""] == 0
    assert realism.hot_spot_figures(bright) == {("hot_spots", ""): 1.0, ("hot_spot_prevalence", ""): 100.0}


def test_lobar_r2_is_one_where_function_follows_density():
    density = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    lobes = {"density": density, "perfusion": 3 * density + 1, "ventilation": np.array([1.0, -1.0, 1.0, 1.0, -1.0])}
    figures = realism.lobar_density_figures([realism.DrawnCase({}, lobes)] * 2)
    assert figures["emphysema_density_perfusion_lobar_r2", "", "drawn"] == pytest.approx(1)
    assert figures["emphysema_density_ventilation_lobar_r2", "", "drawn"] < 0.5


# --- finished cases ---


def test_a_finished_case_gives_back_what_was_simulated(tmp_path):
    config = complete_config({"study": "realism"})
    simulate_case("n", "n", "normal", 5, settings(), tmp_path / "case")
    (tmp_path / "scratch").mkdir()
    written = realism.read_written(tmp_path / "case", config["convert"], tmp_path / "scratch")
    values = realism.measure_written(written)
    facts = written.facts["volumes"]
    assert values["mean_lung_density_inspiration", "", "ct"] == pytest.approx(facts["ct_mean_lung_hu"], abs=0.1)
    inside = written.lungs > 0
    assert written.weight[inside].sum() == pytest.approx(facts["reference_ml"], rel=0.05)
    core = inside & (written.depth > realism.CORE_MM)
    for target in realism.TARGETS:
        seen, known = written.images[target][core], written.images[f"{target}_system"][core]
        assert np.corrcoef(seen, known)[0, 1] > 0.6, target
    assert 0 <= values["laa950", "", "ct"] < 60
    assert values["vq_correlation", "", "spect"] <= 1


# --- comparison ---


def published(**changes: object) -> pd.DataFrame:
    """A published table of one row."""
    row = {"quantity": "lung_mass", "group": "normal", "population": "people", "low": 500.0, "high": 1200.0}
    row |= {"kind": "range", "value": np.nan, "unit": "g", "source": "A paper", "read": "abstract", "note": ""}
    return pd.DataFrame([row | changes])


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(500.0, "within"), (1200.0, "within"), (1250.0, "off: above by 50 g"), (480.0, "off: below by 20 g")],
)
def test_the_verdict_says_by_how_much(mean, verdict):
    table = published()
    assert realism.judge(mean, table.iloc[0], table) == verdict


def test_a_number_without_spread_or_of_another_kind_is_not_judged():
    point = published(low=np.nan, high=np.nan, value=530.0)
    assert realism.judge(530.0, point.iloc[0], point) == "not judged: one number without spread"
    unlike = published(quantity="laa950_gold4")
    assert realism.judge(800.0, unlike.iloc[0], unlike).startswith("not judged: our severity")


def test_another_populations_range_is_named():
    table = pd.concat([published(), published(low=1300.0, high=1500.0)], ignore_index=True)
    assert realism.judge(1400.0, table.iloc[0], table) == "off: above by 200 g (within another population's range)"
    assert realism.judge(1250.0, table.iloc[0], table) == "off: above by 50 g"


def test_summary_and_comparison_keep_groups_apart():
    table = pd.concat([published(), published(quantity="laa950", group="emphysema", unit="%", low=5.0, high=51.0)])
    mass, laa = ("lung_mass", "", "drawn"), ("laa950", "", "ct")
    measured = [("normal", {mass: 900.0, laa: 1.0}), ("normal", {mass: 1000.0}), ("emphysema", {mass: 5.0, laa: 2.0})]
    summary = realism.summarise(measured, table)
    assert list(summary.columns) == ["arm", "case", "target", "reference", "metric", "value", "unit"]
    values = summary.set_index(["case", "metric"])["value"]
    assert values["normal", "lung_mass:mean"] == 950
    assert values["normal", "lung_mass:n"] == 2
    assert ("emphysema", "lung_mass:mean") not in values.index
    compared = realism.compare(summary, table).set_index("quantity")
    assert compared.loc["lung_mass", "verdict"] == "within"
    assert compared.loc["laa950", "verdict"] == "off: below by 3 %"
    assert compared.loc["laa950", ["mean", "n", "seen"]].tolist() == [2.0, 1.0, "ct"]


def test_a_yes_or_no_has_a_mean_and_no_spread():
    table = published(quantity="embolism_in_copd_prevalence", group="obstruction", unit="%")
    key = ("embolism_in_copd_prevalence", "", "drawn")
    summary = realism.summarise([("obstruction", {key: value}) for value in (0.0, 0.0, 100.0, 0.0)], table)
    values = summary.set_index("metric")["value"]
    assert values["embolism_in_copd_prevalence:mean"] == 25
    assert values[[f"embolism_in_copd_prevalence:{name}" for name in ("sd", "p05", "p95")]].isna().all()


def test_what_is_not_measured_says_so():
    table = pd.concat([published(), published(quantity="embolism_wedge_consolidation")])
    compared = realism.compare(realism.summarise([("normal", {("lung_mass", "", "drawn"): 900.0})], table), table)
    assert compared["verdict"].tolist() == ["within", "not judged: no infarcts are simulated"]


def test_every_published_quantity_is_measured_or_explained(normal, embolism):
    """A published row that nothing measures must say why; a measured name that nothing publishes needs a unit."""
    table = realism.published_lungs(PUBLISHED)
    drawn = realism.measure_drawn(normal).values | realism.measure_drawn(embolism).values
    obstruction = draw_case("o", "o", "obstruction", 5, settings())
    women_and_men = {"lung_volume_inspiration_women", "lung_volume_inspiration_men"}
    measured = {key[0] for key in drawn} | {key[0] for key in realism.measure_drawn(obstruction).values} | women_and_men
    measured |= {"laa950", "vq_ratio_cv", "ventilation_local_cv_cut", "spect_fwhm", "spect_background_cov"}
    measured |= {f"emphysema_density_{target}_lobar_r2" for target in realism.TARGETS}
    explained = set(realism.ABSENT) | set(realism.UNLIKE)
    assert set(table["quantity"]) - measured - explained == set()
    own = {key[0] for key in drawn} - set(table["quantity"])
    assert own <= set(realism._OWN_UNITS)
