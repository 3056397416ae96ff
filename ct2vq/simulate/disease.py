"""Disease and normal variation as regional state: the latent causes that density, perfusion and ventilation share.

A disease changes the lung, not an image: `ct.py` and `function.py` read the same state and never each other.
Magnitudes are our assumptions; the patterns follow textbooks: matched loss in emphysema, perfusion loss with kept
ventilation in embolism (EANM guideline for V/Q scintigraphy, Bajc et al. 2019), hypoxic vasoconstriction and air
trapping in obstruction, loss of a whole lobe's function behind a hilar mass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ct2vq.errors import ConfigError
from ct2vq.simulate.anatomy import LOBES, smoothstep
from ct2vq.simulate.lungs import LungSample
from ct2vq.simulate.randomness import RandomField
from ct2vq.simulate.territories import Territory, TerritoryMap

#: share of emboli that show on a CT (thin vessels and oligaemia); an assumption
VISIBLE_EMBOLI = 0.7


@dataclass
class Mass:
    """A tumour: centre (3,) and radius in mm, and the lobe behind it."""

    centre: np.ndarray
    radius: float
    lobe: int
    surface: RandomField

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (n,) of points (3, n) to the lobulated surface, in mm."""
        radial = np.linalg.norm(points - self.centre[:, None].astype(np.float32), axis=0)
        return radial - self.radius - 0.12 * self.radius * self.surface(points)


@dataclass
class LungState:
    """Regional state of one person's lungs. Territory arrays are indexed by label; index 0 is no territory.

    Attributes:
        perfusion_loss: share of perfusion lost in a territory.
        ventilation_loss: share of ventilation lost.
        oligaemia: density lost with the blood, in g/mL.
        trapping: share of density lost to trapped air.
        collapse: factor on density where a lobe has lost volume.
        calibre: factor on the radius of arteries.
        blood: relative blood volume of a territory (normal variation that CT and perfusion share).
        inflation: relative inflation of a territory (normal variation that CT and ventilation share).
        emphysema_amount, emphysema_shift, upper_zones: strength (0 to 1), extent and zonal preference of destruction.
        dependent_atelectasis: density added in the lowermost posterior lung, in g/mL.
        affected: what the truth file says about each affected territory.
    """

    diagnosis: str
    severity: float
    perfusion_loss: np.ndarray
    ventilation_loss: np.ndarray
    oligaemia: np.ndarray
    trapping: np.ndarray
    collapse: np.ndarray
    calibre: np.ndarray
    blood: np.ndarray
    inflation: np.ndarray
    emphysema_amount: float
    emphysema_shift: float
    upper_zones: float
    emphysema_field: RandomField
    dependent_atelectasis: float
    mass: Mass | None = None
    hidden_perfusion_loss: np.ndarray | None = None
    affected: list[dict] = field(default_factory=list)

    def emphysema(self, lung: LungSample) -> np.ndarray:
        """Share of lung destroyed (n,), from 0 to `emphysema_amount`."""
        raw = self.emphysema_field(lung.points) + self.upper_zones * (lung.height - 0.5) + self.emphysema_shift
        return self.emphysema_amount / (1 + np.exp(-3.0 * raw))

    def atelectasis(self, lung: LungSample) -> np.ndarray:
        """How far the dependent lung has collapsed (n,), 0 to 1: the back of the lower half."""
        return smoothstep((lung.gravity - 0.78) / 0.22) * (1 - smoothstep((lung.height - 0.35) / 0.3))


def draw_state(diagnosis: str, division: TerritoryMap, rng: np.random.Generator) -> LungState:
    """Draw the regional state of a case.

    Raises:
        ConfigError: unknown diagnosis.
    """
    if diagnosis not in DISEASES:
        raise ConfigError(
            f"unknown diagnosis {diagnosis!r}", key="simulate.diagnoses", hint=f"one of {', '.join(DISEASES)}"
        )
    severity = float(rng.uniform(0.25, 1.0))
    state = _healthy_variation(diagnosis, severity, division, rng)
    DISEASES[diagnosis](state, division, rng)
    if state.hidden_perfusion_loss is None:
        state.hidden_perfusion_loss = np.zeros_like(state.perfusion_loss)
    return state


def _healthy_variation(diagnosis: str, severity: float, division: TerritoryMap, rng: np.random.Generator) -> LungState:
    """Normal variation, with the mild emphysema or dependent atelectasis that many people have."""
    count = max(t.label for t in division.territories) + 1
    return LungState(
        diagnosis=diagnosis,
        severity=severity,
        perfusion_loss=np.zeros(count),
        ventilation_loss=np.zeros(count),
        oligaemia=np.zeros(count),
        trapping=np.zeros(count),
        collapse=np.ones(count),
        calibre=np.ones(count),
        blood=np.exp(rng.normal(0, 0.13, count)),
        inflation=np.exp(rng.normal(0, 0.06, count)),
        emphysema_amount=float(rng.uniform(0, 0.30)),
        emphysema_shift=float(rng.uniform(-1.6, -0.4)),
        upper_zones=float(rng.uniform(-0.5, 1.5)),
        emphysema_field=RandomField(rng, 18.0),
        dependent_atelectasis=float(rng.uniform(0, 0.22)) * (rng.random() < 0.6),
    )


def _neighbours(division: TerritoryMap, start: Territory, count: int) -> list[Territory]:
    """The `count` territories of the same lung that lie nearest to `start`, itself first."""
    side = start.lobe <= 3
    own = [t for t in division.territories if (t.lobe <= 3) == side]
    return sorted(own, key=lambda t: float(np.linalg.norm(t.centroid - start.centroid)))[:count]


def _record(state: LungState, territory: Territory, visible: bool) -> None:
    """Note an affected territory for the truth file."""
    state.affected.append(
        {
            "territory": territory.label,
            "name": territory.name,
            "lobe": territory.lobe,
            "segment": territory.segment,
            "perfusion_loss": round(float(state.perfusion_loss[territory.label]), 4),
            "ventilation_loss": round(float(state.ventilation_loss[territory.label]), 4),
            "visible_on_ct": bool(visible),
        }
    )


def _normal(state: LungState, division: TerritoryMap, rng: np.random.Generator) -> None:
    """Nothing beyond healthy variation."""
    state.severity = 0.0
    state.emphysema_amount *= 0.4


def _emphysema(state: LungState, division: TerritoryMap, rng: np.random.Generator) -> None:
    """Clusters of destroyed lung, mostly in the upper zones: perfusion and ventilation are lost alike."""
    state.emphysema_amount = 0.45 + 0.45 * state.severity
    state.emphysema_shift = float(-0.5 + 0.9 * state.severity + rng.normal(0, 0.1))
    state.upper_zones = float(rng.uniform(0.5, 2.6) * (-1 if rng.random() < 0.12 else 1))
    for t in division.territories:
        state.calibre[t.label] = 0.85


def _embolism(state: LungState, division: TerritoryMap, rng: np.random.Generator) -> None:
    """Emboli in segmental and subsegmental arteries: wedges without perfusion, ventilation kept."""
    hidden = np.zeros_like(state.perfusion_loss)
    segments = sorted({t.segment for t in division.territories})
    count = round(2 + 5 * state.severity)
    for segment in rng.choice(segments, count, replace=False):
        own = [t for t in division.territories if t.segment == segment]
        if rng.random() < 0.3:
            own = own[:1]
        loss, visible = float(rng.uniform(0.65, 0.97)), bool(rng.random() < VISIBLE_EMBOLI)
        oligaemia, calibre = float(rng.uniform(0.015, 0.040)), float(rng.uniform(0.45, 0.7))
        for t in own:
            state.perfusion_loss[t.label] = loss
            if visible:
                state.oligaemia[t.label], state.calibre[t.label] = oligaemia, calibre
            else:
                hidden[t.label] = loss
            _record(state, t, visible)
    state.hidden_perfusion_loss = hidden


def _obstruction(state: LungState, division: TerritoryMap, rng: np.random.Generator) -> None:
    """Obstructed airways: ventilation lost, air trapped, perfusion diverted in part by vasoconstriction."""
    clusters = 1 + int(rng.random() < state.severity)
    for _ in range(clusters):
        start = division.territories[rng.integers(len(division.territories))]
        reflex = float(rng.uniform(0.3, 0.65))
        for t in _neighbours(division, start, round(3 + 7 * state.severity)):
            loss = float(np.clip(rng.normal(0.45 + 0.35 * state.severity, 0.12), 0.25, 0.95))
            state.ventilation_loss[t.label] = loss
            state.perfusion_loss[t.label] = reflex * loss
            state.trapping[t.label] = float(rng.uniform(0.10, 0.20) + 0.15 * loss)
            state.calibre[t.label] = 0.8
    for t in division.territories:
        if state.ventilation_loss[t.label]:
            _record(state, t, True)


def _tumour(state: LungState, division: TerritoryMap, rng: np.random.Generator) -> None:
    """A mass at a lobe's hub compresses its bronchus and artery: the lobe behind it loses function and volume."""
    lobe = int(rng.choice(list(LOBES)))
    own = [t for t in division.territories if t.lobe == lobe]
    middle = np.average([t.centroid for t in own], axis=0, weights=[t.volume_ml for t in own])
    hub = division.hubs[lobe]
    radius = 15.0 + 15.0 * state.severity
    direction = (middle - hub) / np.linalg.norm(middle - hub)
    state.mass = Mass(hub + direction * (0.7 * radius), radius, lobe, RandomField(rng, 9.0))
    airway, artery = rng.uniform(0.55, 0.92), rng.uniform(0.6, 0.93)
    collapse = float(rng.uniform(1.1, 1.2) + 0.6 * rng.random() * state.severity)
    for t in own:
        state.ventilation_loss[t.label] = float(np.clip(airway + rng.normal(0, 0.05), 0.3, 0.97))
        state.perfusion_loss[t.label] = float(np.clip(artery + rng.normal(0, 0.05), 0.3, 0.97))
        state.collapse[t.label], state.calibre[t.label] = collapse, 0.75
        _record(state, t, True)


DISEASES = {
    "normal": _normal,
    "emphysema": _emphysema,
    "embolism": _embolism,
    "obstruction": _obstruction,
    "tumour": _tumour,
}
