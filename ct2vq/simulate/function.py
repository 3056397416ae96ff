"""Perfusion and ventilation of lung points, from the regional state and from what no CT shows. HU is never read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.simulate.disease import LungState
from ct2vq.simulate.lungs import LungSample
from ct2vq.simulate.randomness import RandomField

#: standard deviation of the regional variation that leaves no trace on a CT; an assumption
HIDDEN_SD = 0.11


@dataclass(frozen=True)
class FunctionModel:
    """One person's regional function; slopes are relative changes from front to back, base to apex, hub to 100 mm."""

    perfusion_gravity: float
    ventilation_gravity: float
    perfusion_hilar: float
    ventilation_hilar: float
    perfusion_height: float
    ventilation_height: float
    territory_perfusion: np.ndarray
    territory_ventilation: np.ndarray
    hidden_common: RandomField
    hidden_perfusion: RandomField
    hidden_ventilation: RandomField


def draw_function(state: LungState, rng: np.random.Generator) -> FunctionModel:
    """Draw how one person's perfusion and ventilation are spread (supine: both more at the back, perfusion most)."""
    count = len(state.perfusion_loss)
    return FunctionModel(
        perfusion_gravity=float(rng.uniform(0.45, 1.0)),
        ventilation_gravity=float(rng.uniform(0.3, 0.75)),
        perfusion_hilar=float(rng.uniform(-0.5, -0.15)),
        ventilation_hilar=float(rng.uniform(-0.4, -0.05)),
        perfusion_height=float(rng.normal(-0.2, 0.15)),
        ventilation_height=float(rng.normal(-0.35, 0.12)),
        territory_perfusion=np.exp(rng.normal(0, 0.05, count)),
        territory_ventilation=np.exp(rng.normal(0, 0.06, count)),
        hidden_common=RandomField(rng, 16.0),
        hidden_perfusion=RandomField(rng, 12.0),
        hidden_ventilation=RandomField(rng, 12.0),
    )


def regional_function(
    model: FunctionModel, state: LungState, lung: LungSample, *, visible_only: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Perfusion and ventilation (n,) per volume of lung, in arbitrary units.

    Args:
        model: the person's function.
        state: the regional state, shared with the CT.
        lung: the points.
        visible_only: leave out what no CT shows (hidden variation and invisible emboli), keep all else.
    """
    t = lung.territory
    back, up, away = lung.gravity - 0.5, lung.height - 0.5, lung.hilar - 0.5
    alive = 1 - state.emphysema(lung)
    collapsed = state.atelectasis(lung) * state.dependent_atelectasis / 0.22
    perfusion = 1 + model.perfusion_gravity * back + model.perfusion_hilar * away + model.perfusion_height * up
    ventilation = 1 + model.ventilation_gravity * back + model.ventilation_hilar * away + model.ventilation_height * up
    perfusion = np.maximum(perfusion, 0.15) * state.blood[t] * alive**1.1 * (1 - 0.25 * collapsed)
    ventilation = np.maximum(ventilation, 0.15) / state.inflation[t] * alive * (1 - 0.55 * collapsed)
    perfusion_loss = state.perfusion_loss - (state.hidden_perfusion_loss if visible_only else 0)
    perfusion *= 1 - perfusion_loss[t]
    ventilation *= 1 - state.ventilation_loss[t]
    if not visible_only:
        common = model.hidden_common(lung.points)
        perfusion *= model.territory_perfusion[t] * np.exp(
            HIDDEN_SD * (0.6 * common + 0.8 * model.hidden_perfusion(lung.points))
        )
        ventilation *= model.territory_ventilation[t] * np.exp(
            HIDDEN_SD * (0.6 * common + 0.8 * model.hidden_ventilation(lung.points))
        )
    if state.mass is not None:
        outside = np.clip(0.5 + state.mass.distance(lung.points) / 3.0, 0, 1)
        perfusion, ventilation = perfusion * outside, ventilation * outside
    return perfusion.astype(np.float32), ventilation.astype(np.float32)
