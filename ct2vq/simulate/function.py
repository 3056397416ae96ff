"""Perfusion and ventilation of terminal units, from the regional state and from what no CT shows. HU is never read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.simulate.anatomy import smoothstep
from ct2vq.simulate.disease import LungState, Patient, draw_invisible_emboli, expected_clots
from ct2vq.simulate.lungs import sample_units
from ct2vq.simulate.units import FIRST_SEGMENTAL, Units
from ct2vq.simulate.world import World

#: how often what no CT shows is drawn anew for the mean that a CT can tell of
REDRAWS = 64


@dataclass(frozen=True)
class FunctionModel:
    """What no CT shows of one case's function.

    Attributes:
        perfusion_slopes, ventilation_slopes: relative change front to back, hub to 100 mm away, base to apex.
        perfusion_flow, ventilation_flow: (units,) factors by the uneven splitting of flow along the trees.
    """

    perfusion_slopes: tuple[float, float, float]
    ventilation_slopes: tuple[float, float, float]
    perfusion_flow: np.ndarray
    ventilation_flow: np.ndarray


@dataclass(frozen=True)
class Function:
    """Perfusion and ventilation (units,) per volume of lung in the reference state, relative to the lungs' mean."""

    perfusion: np.ndarray
    ventilation: np.ndarray


def draw_function(units: Units, world: World, state: LungState, rng: np.random.Generator) -> FunctionModel:
    """Draw how one case's perfusion and ventilation are spread (supine: both more at the back, perfusion most)."""
    shares = _split_weights(units)
    common, own_q, own_v = (rng.standard_normal(len(shares)) for _ in range(3))
    airway = world.ventilation_split * (world.airway_disease_split if state.airway_disease else 1.0)
    return FunctionModel(
        perfusion_slopes=(
            float(rng.uniform(*world.perfusion_gravity)),
            float(rng.uniform(*world.perfusion_hilar)),
            float(rng.normal(*world.perfusion_height)),
        ),
        ventilation_slopes=(
            float(rng.uniform(*world.ventilation_gravity)),
            float(rng.uniform(*world.ventilation_hilar)),
            float(rng.normal(*world.ventilation_height)),
        ),
        perfusion_flow=_flow(units, shares, common * world.common_split + own_q * world.perfusion_split, world),
        ventilation_flow=_flow(units, shares, common * world.common_split + own_v * airway, world),
    )


def _split_weights(units: Units) -> np.ndarray:
    """For each branch twice its sister's share of the two's volume, signed so that sisters deviate oppositely (n,)."""
    tree = units.airways
    volume, sister = tree.sums(units.volume_ml), tree.siblings()
    share = volume[sister] / np.maximum(volume[sister] + volume, 1e-9)
    sign = np.where(np.arange(len(sister)) < sister, 1.0, -1.0)
    return np.where(sister >= 0, 2 * share * sign, 0.0)


def _flow(units: Units, shares: np.ndarray, draws: np.ndarray, world: World) -> np.ndarray:
    """Factor on each unit's flow (units,): at every bifurcation the two daughters deviate oppositely by the same draw.

    Flow is conserved: the daughters' deviations, weighted by their volumes, add up to nothing. Only pairs of sisters
    deviate: the divisions of lobar bronchi into three and more segments do not.
    """
    tree = units.airways
    sister = tree.siblings()
    first = np.where((sister >= 0) & (sister < np.arange(len(sister))), sister, np.arange(len(sister)))
    coarse = np.where(tree.generation <= tree.generation[FIRST_SEGMENTAL], world.coarse_split, 1.0)
    deviation = np.log1p(np.clip(2 * draws[first] * coarse * shares, -0.6, 1.5))
    return np.exp(tree.accumulate(deviation))


def regional_function(model: FunctionModel, state: LungState, units: Units, world: World) -> Function:
    """Function of every unit: gravity, distance from the hilum, disease, and what no CT shows."""
    return _combine(model, state, units, world, state.kept(), state.hidden_perfusion)


def _combine(
    model: FunctionModel,
    state: LungState,
    units: Units,
    world: World,
    kept: tuple[np.ndarray, np.ndarray],
    hidden: np.ndarray,
) -> Function:
    """Function from the gradients, the regional state, what is `kept` of both, and hidden emboli."""
    lung = sample_units(units)
    alive = np.clip(1 - state.destruction(lung), 0.02, 1)
    collapsed = state.atelectasis(lung) * state.dependent_atelectasis / 0.2
    perfusion = _gradient(model.perfusion_slopes, units, world) * state.blood**world.perfusion_of_blood
    perfusion = perfusion * alive**world.destruction_perfusion * (1 - 0.25 * collapsed)
    ventilation = _gradient(model.ventilation_slopes, units, world) * state.inflation
    ventilation = ventilation * alive**world.destruction_ventilation * (1 - 0.55 * collapsed)
    perfusion = perfusion * kept[0] * model.perfusion_flow * hidden
    ventilation = ventilation * kept[1] * model.ventilation_flow
    if state.mass is not None:
        outside = np.clip(0.5 + state.mass.distance(lung.points) / 3.0, 0, 1)
        perfusion, ventilation = perfusion * outside, ventilation * outside
    return Function(perfusion / units.mean(perfusion), ventilation / units.mean(ventilation))


def _gradient(slopes: tuple[float, float, float], units: Units, world: World) -> np.ndarray:
    """Change with gravity, distance from the hub and height (units,), at least 0.15."""
    gravity = units.gravity
    if world.gravity_law == "smooth":
        gravity = 0.15 + 0.7 * smoothstep((gravity - 0.2) / 0.6)
    value = 1 + slopes[0] * (gravity - 0.5) + slopes[1] * (units.hilar - 0.5) + slopes[2] * (units.height - 0.5)
    return np.maximum(value, 0.15)


def visible_function(
    patient: Patient, state: LungState, prevalence: dict[str, float], redraws: int = REDRAWS
) -> Function:
    """The mean over what no CT shows, with all fixed that it does show: the best that a CT could tell.

    Slopes, flow splitting, what lesions take and invisible emboli are drawn anew. A case with a visible embolus has as
    many invisible ones as its severity lets expect; beside another disease that shows, emboli have the probability of
    the comorbidity; a case on whose CT nothing shows is a normal or an embolism without any visible clot, by their
    prevalence.

    Args:
        patient: the case; its generator draws.
        state: the regional state.
        prevalence: relative frequency of the diagnoses (config `simulate.diagnoses`).
        redraws: number of draws.
    """
    units, world = patient.units, patient.world
    total_q, total_v = np.zeros(len(units.position)), np.zeros(len(units.position))
    chance, rate = _hidden_embolism(state, patient.settings, prevalence)
    for _ in range(redraws):
        count = int(patient.rng.poisson(rate)) if patient.rng.random() < chance else 0
        hidden, _clots = draw_invisible_emboli(count, patient)
        model = draw_function(units, world, state, patient.rng)
        drawn = _combine(model, state, units, world, state.kept(patient.rng), hidden)
        total_q += drawn.perfusion / redraws
        total_v += drawn.ventilation / redraws
    return Function(total_q, total_v)


def _hidden_embolism(state: LungState, settings: dict, prevalence: dict[str, float]) -> tuple[float, float]:
    """Probability of emboli that do not show, given what the CT shows, and their expected number."""
    share = settings["invisible_emboli"]
    typical = expected_clots(0.6)
    shows_clot = any(f["kind"] == "embolus" and f["visible_on_ct"] for f in state.findings)
    shows_other = any(f["kind"] != "embolus" and f["visible_on_ct"] for f in state.findings)
    if shows_clot:
        return 1.0, state.invisible_clots or share * typical
    unseen = float(np.exp(-typical * (1 - share)))
    if shows_other:
        prior = settings["comorbidity"].get("embolism", 0.0)
    else:
        total = prevalence.get("normal", 0.0) + prevalence.get("embolism", 0.0)
        prior = prevalence.get("embolism", 0.0) / total if total else 0.0
    return prior * unseen / (prior * unseen + 1 - prior) if prior < 1 else 1.0, share * typical
