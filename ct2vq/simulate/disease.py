"""Disease and normal variation as regional state: the latent causes that density, perfusion and ventilation share.

A disease changes the lung, not an image: `ct` and `function` read the same state and never each other. Magnitudes are
our assumptions; the patterns follow textbooks: matched loss in emphysema, perfusion loss with kept ventilation in
embolism (EANM guideline for V/Q scintigraphy, Bajc et al., Eur J Nucl Med Mol Imaging 2019;46:2429-2451), hypoxic
vasoconstriction and air trapping in obstruction, loss of function behind a mass that compresses bronchus and artery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ct2vq.errors import ConfigError
from ct2vq.lungs import LOBES
from ct2vq.simulate import anatomy
from ct2vq.simulate.anatomy import smoothstep
from ct2vq.simulate.chest import DrawnChest, Effusion
from ct2vq.simulate.lungs import LungSample, sample_units
from ct2vq.simulate.randomness import RandomField
from ct2vq.simulate.trees import Tree
from ct2vq.simulate.units import FIRST_LOBAR, FIRST_SEGMENTAL, Units
from ct2vq.simulate.world import World

#: scar below this share is not marked in the truth's disease labels
MARKED_LOSS = 0.1
_VISIBLE, _INVISIBLE = 1, 2


@dataclass(frozen=True)
class Mass:
    """A tumour: centre (3,) and radius in mm."""

    centre: np.ndarray
    radius: float
    surface: RandomField

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (n,) of points (3, n) to the lobulated surface, in mm."""
        radial = np.linalg.norm(points - self.centre[:, None].astype(np.float32), axis=0)
        return radial - self.radius - 0.12 * self.radius * self.surface(points)


@dataclass
class Destruction:
    """Emphysema: low-attenuation clusters. `amount` 0 to 1, `shift` their extent, `upper` their zonal preference."""

    amount: float
    shift: float
    upper: float
    field: RandomField

    def __call__(self, lung: LungSample) -> np.ndarray:
        """Share of lung destroyed (n,), from 0 to `amount`."""
        raw = self.field(lung.points) + self.upper * (lung.height - 0.5) + self.shift
        return self.amount / (1 + np.exp(-3.0 * raw))

    def worsen(self, severity: float, rng: np.random.Generator) -> None:
        """From the trace that everybody may have to emphysema."""
        self.amount = max(self.amount, 0.55 + 0.4 * severity)
        self.shift = float(-0.9 + 1.3 * severity + rng.normal(0, 0.1))
        self.upper = float(rng.uniform(0.5, 2.6) * (-1 if rng.random() < 0.12 else 1))


@dataclass
class Scarring:
    """Fibrosis at the bases under the pleura, with a reticular pattern."""

    amount: float
    reach_mm: float
    field: RandomField

    def __call__(self, lung: LungSample) -> np.ndarray:
        """Share of lung replaced by scar (n,), 0 to `amount`."""
        rind = np.exp(-np.maximum(lung.depth, 0) / self.reach_mm)
        basal = smoothstep((0.85 - lung.height) / 0.7)
        return self.amount * np.clip(rind * basal * (1.1 + 0.5 * self.field(lung.points)), 0, 1)


@dataclass(frozen=True)
class Field:
    """A radiation field after months: a box with soft edges, centre and half sizes (3,) in mm."""

    centre: np.ndarray
    half: np.ndarray

    def dose(self, points: np.ndarray, penumbra_mm: float = 10.0) -> np.ndarray:
        """Relative dose (n,), 0 to 1."""
        outside = (np.abs(points - self.centre[:, None]) - self.half[:, None]).max(axis=0)
        return smoothstep(0.5 - outside / (2 * penumbra_mm))


@dataclass(frozen=True)
class Lesion:
    """A lesion whose place a CT shows and whose loss of function it does not: that can be drawn anew.

    Attributes:
        weight: (units,) how far each unit is affected, 0 to 1.
        perfusion, ventilation: share of function lost where the weight is 1, (low, high).
        reflex: perfusion loses its share of what ventilation lost (hypoxic vasoconstriction), not of the whole.
    """

    weight: np.ndarray
    perfusion: tuple[float, float] = (0.0, 0.0)
    ventilation: tuple[float, float] = (0.0, 0.0)
    reflex: bool = False

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Shares of perfusion and of ventilation lost."""
        ventilation = float(rng.uniform(*self.ventilation))
        return float(rng.uniform(*self.perfusion)) * (ventilation if self.reflex else 1.0), ventilation


@dataclass
class LungState:
    """Regional state of one case. Arrays over terminal units (u,) unless said otherwise.

    Attributes:
        diagnosis: the primary diagnosis; `also` lists milder ones beside it.
        severity: 0.25 to 1 (0 in normals).
        perfusion, ventilation: factors on function that follow from what a CT shows.
        lesions: what else is lost, with the drawn shares of perfusion and ventilation.
        hidden_perfusion: factor on perfusion by what no CT shows (invisible emboli).
        blood: relative blood volume. inflation: relative inflation.
        oligaemia: share of blood volume lost behind clots that show.
        filled: share of air spaces filled by fluid or cells (consolidation).
        trapped: share of density lost to trapped air.
        collapse: factor on density where lung has lost volume.
        calibre: (branches,) factor on the arteries' radius.
        airway_disease: whether small airways are diseased too, so that ventilation splits more unevenly.
        marks: 0 none, 1 disease that a CT shows, 2 disease that it does not.
        invisible_clots: expected number of emboli that no CT shows, given the diagnosis.
        findings: what the truth file says about each lesion.
    """

    diagnosis: str
    severity: float
    perfusion: np.ndarray
    ventilation: np.ndarray
    hidden_perfusion: np.ndarray
    blood: np.ndarray
    oligaemia: np.ndarray
    inflation: np.ndarray
    filled: np.ndarray
    trapped: np.ndarray
    collapse: np.ndarray
    calibre: np.ndarray
    destruction: Destruction
    dependent_atelectasis: float
    marks: np.ndarray
    scarring: Scarring | None = None
    mass: Mass | None = None
    airway_disease: bool = False
    invisible_clots: float = 0.0
    lesions: list[tuple[Lesion, float, float]] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    findings: list[dict] = field(default_factory=list)

    def lose(self, lesion: Lesion, rng: np.random.Generator) -> dict[str, float]:
        """Add a lesion and draw what it takes; returns the shares for the truth file."""
        perfusion, ventilation = lesion.draw(rng)
        self.lesions.append((lesion, perfusion, ventilation))
        return {"perfusion_loss": round(perfusion, 4), "ventilation_loss": round(ventilation, 4)}

    def kept(self, redraw: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Factors on perfusion and ventilation (units,) of all that a CT shows, without hidden emboli.

        Args:
            redraw: draw what the lesions take anew; None: as it was drawn.
        """
        perfusion, ventilation = self.perfusion.copy(), self.ventilation.copy()
        for lesion, lost_q, lost_v in self.lesions:
            if redraw is not None:
                lost_q, lost_v = lesion.draw(redraw)
            perfusion *= 1 - lost_q * lesion.weight
            ventilation *= 1 - lost_v * lesion.weight
        return perfusion, ventilation

    def atelectasis(self, lung: LungSample) -> np.ndarray:
        """How far the dependent lung has collapsed (n,), 0 to 1: the back of the lower half."""
        return smoothstep((lung.gravity - 0.78) / 0.22) * (1 - smoothstep((lung.height - 0.35) / 0.3))


@dataclass(frozen=True)
class Patient:
    """What a disease is drawn into."""

    units: Units
    world: World
    settings: dict
    rng: np.random.Generator

    @property
    def lung(self) -> LungSample:
        """The units' seed points."""
        return sample_units(self.units)


def draw_effusions(diagnosis: str, body: anatomy.Body, rng: np.random.Generator) -> tuple[Effusion, ...]:
    """Pleural fluid on one side or both, if that is the diagnosis."""
    if diagnosis != "effusion":
        return ()
    sides = [anatomy.RIGHT, anatomy.LEFT] if rng.random() < 0.35 else [int(rng.integers(1, 3))]
    deepest, size = body.half_depth, body.size
    return tuple(
        Effusion(side, float(rng.uniform(0.28, 0.62)) * deepest * size, float(rng.uniform(-10, 30)) * size)
        for side in sides
    )


def draw_state(
    diagnosis: str,
    units: Units,
    world: World,
    settings: dict,
    rng: np.random.Generator,
    destruction: Destruction | None = None,
) -> LungState:
    """Draw the regional state of a case.

    Args:
        diagnosis: the primary diagnosis.
        units: the divided lungs.
        world: the laws.
        settings: config block `simulate.disease`.
        rng: source of randomness.
        destruction: emphysema that is known already (a real CT shows it), else it is drawn.

    Raises:
        ConfigError: unknown diagnosis.
    """
    require_known(diagnosis)
    severity = float(rng.uniform(0.25, 1.0))
    state = _healthy(diagnosis, severity, units, world, rng)
    state.destruction = destruction or state.destruction
    patient = Patient(units, world, settings, rng)
    DISEASES[diagnosis](state, patient, severity)
    if diagnosis != "normal":
        for other in sorted(settings["comorbidity"]):
            if other != diagnosis and rng.random() < settings["comorbidity"][other]:
                state.also.append(other)
                DISEASES[other](state, patient, float(rng.uniform(0.1, 0.35)))
    return state


def require_known(diagnosis: str) -> None:
    """Refuse a diagnosis that the simulator does not know.

    Raises:
        ConfigError: with the known ones.
    """
    if diagnosis not in DISEASES:
        raise ConfigError(
            f"unknown diagnosis {diagnosis!r}", key="simulate.diagnoses", hint=f"one of {', '.join(DISEASES)}"
        )


def _healthy(diagnosis: str, severity: float, units: Units, world: World, rng: np.random.Generator) -> LungState:
    """Normal variation, with the trace of emphysema or dependent atelectasis that many people have."""
    ones = np.ones(len(units.position))
    subsegments = int(units.subsegment.max()) + 1
    return LungState(
        diagnosis=diagnosis,
        severity=severity,
        perfusion=ones.copy(),
        ventilation=ones.copy(),
        hidden_perfusion=ones.copy(),
        blood=np.exp(rng.normal(0, world.blood_sd, subsegments))[units.subsegment],
        oligaemia=0 * ones,
        inflation=np.exp(rng.normal(0, world.inflation_sd, subsegments))[units.subsegment],
        filled=0 * ones,
        trapped=0 * ones,
        collapse=ones.copy(),
        calibre=np.exp(rng.normal(0, 0.06, len(units.arteries.parent))),
        destruction=Destruction(
            float(rng.uniform(0, 0.12)),
            float(rng.uniform(-1.6, -0.8)),
            float(rng.uniform(-0.5, 1.5)),
            RandomField(rng, 18.0),
        ),
        dependent_atelectasis=float(rng.uniform(0, 0.2)) * (rng.random() < 0.6),
        marks=np.zeros(len(units.position), dtype=np.uint8),
    )


def _record(state: LungState, units: Units, kind: str, where: np.ndarray, *, visible: bool, **facts: object) -> None:
    """Note a lesion for the truth, and mark its units; what shows is not overwritten by what does not."""
    label = _VISIBLE if visible else _INVISIBLE
    state.marks[where & ((state.marks == 0) | visible)] = label
    lobes = sorted({LOBES[int(lobe)] for lobe in np.unique(units.lobe[where])})
    segments = [units.segment_names[int(s)] for s in np.unique(units.segment[where])]
    volume = round(float(units.volume_ml[where].sum()), 1)
    state.findings.append(
        {"kind": kind, "visible_on_ct": visible, "volume_ml": volume, "lobes": lobes, "segments": segments, **facts}
    )


def _branch_of_size(patient: Patient, low_ml: float, high_ml: float) -> int:
    """A random branch below the lobes that supplies between two volumes; larger ones are hit more often."""
    tree = patient.units.arteries
    volume = tree.sums(patient.units.volume_ml)
    eligible = np.flatnonzero((volume >= low_ml) & (volume <= high_ml) & (np.arange(len(volume)) >= FIRST_SEGMENTAL))
    weight = volume[eligible] ** 0.5
    return int(patient.rng.choice(eligible, p=weight / weight.sum()))


def _below(tree: Tree, branch: int) -> np.ndarray:
    """A branch and all that it divides into (branches,)."""
    return tree.downstream(np.arange(len(tree.parent)) == branch)


def _behind(tree: Tree, branch: int) -> np.ndarray:
    """Units (u,) downstream of a branch."""
    return tree.units_of(np.arange(len(tree.parent)) == branch)


def _normal(state: LungState, patient: Patient, severity: float) -> None:
    """Nothing beyond healthy variation."""
    state.severity = 0.0


def _emphysema(state: LungState, patient: Patient, severity: float) -> None:
    """Clusters of destroyed lung, mostly in the upper zones: perfusion and ventilation are lost alike."""
    rng = patient.rng
    state.destruction.worsen(severity, rng)
    state.airway_disease = True
    state.calibre *= 1 - 0.18 * severity
    where = state.destruction(patient.lung) > 0.3
    _record(state, patient.units, "emphysema", where, visible=True, amount=round(state.destruction.amount, 4))


def expected_clots(severity: float) -> float:
    """Expected number of emboli."""
    return 2.0 + 5.0 * severity


def _embolism(state: LungState, patient: Patient, severity: float) -> None:
    """Clots in segmental to subsubsegmental arteries: wedges without perfusion, ventilation kept.

    Their number is Poisson, and each shows on the CT or not by itself: so those that do not show are independent of
    those that do, and can be drawn anew. One at least there is.
    """
    rng, share = patient.rng, patient.settings["invisible_emboli"]
    rate = expected_clots(severity)
    visible, hidden = int(rng.poisson(rate * (1 - share))), int(rng.poisson(rate * share))
    if visible + hidden == 0:
        visible, hidden = (0, 1) if rng.random() < share else (1, 0)
    tree = patient.units.arteries
    state.invisible_clots += rate * share
    for _ in range(visible):
        branch = _branch_of_size(patient, 15, 400)
        where = _behind(tree, branch)
        losses = state.lose(Lesion(where.astype(float), perfusion=patient.world.clot_loss), rng)
        state.oligaemia = np.maximum(state.oligaemia, where * float(rng.uniform(*patient.world.oligaemia)))
        state.calibre[_below(tree, branch)] *= float(rng.uniform(0.5, 0.75))
        _record(state, patient.units, "embolus", where, visible=True, branch=branch, **losses)
    state.hidden_perfusion, clots = draw_invisible_emboli(hidden, patient)
    for branch, loss in clots:
        where = _behind(tree, branch)
        _record(state, patient.units, "embolus", where, visible=False, perfusion_loss=round(loss, 4), branch=branch)


def draw_invisible_emboli(count: int, patient: Patient) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Factor on perfusion (u,) by a number of emboli that leave no trace on a CT, and where they are."""
    factor, clots = np.ones(len(patient.units.position)), []
    for _ in range(count):
        branch, loss = _branch_of_size(patient, 15, 400), float(patient.rng.uniform(*patient.world.clot_loss))
        factor[_behind(patient.units.arteries, branch)] *= 1 - loss
        clots.append((branch, loss))
    return factor, clots


def _obstruction(state: LungState, patient: Patient, severity: float) -> None:
    """Obstructed airways: ventilation lost, air trapped, perfusion diverted in part by vasoconstriction."""
    rng, units = patient.rng, patient.units
    state.airway_disease = True
    for _ in range(1 + int(rng.poisson(1.0 + 4.0 * severity))):
        branch = _branch_of_size(patient, 25, 350)
        where = _behind(units.airways, branch)
        range_ = (0.2 + 0.35 * severity, 0.6 + 0.35 * severity)
        lesion = Lesion(where.astype(float), perfusion=patient.world.reflex, ventilation=range_, reflex=True)
        losses = state.lose(lesion, rng)
        trapped = float(rng.uniform(0.12, 0.24) + 0.05 * severity)
        state.trapped[where] = np.maximum(state.trapped[where], trapped)
        state.calibre[_below(units.arteries, branch)] *= 0.88
        _record(state, units, "obstructed airway", where, visible=True, branch=branch, **losses)


def _tumour(state: LungState, patient: Patient, severity: float) -> None:
    """A mass at a lobar or segmental bronchus compresses what passes through it: the lung behind loses function."""
    rng, units = patient.rng, patient.units
    airways = units.airways
    branch = int(rng.integers(FIRST_LOBAR, FIRST_SEGMENTAL + len(units.segment_names)))
    radius = 12.0 + 17.0 * severity
    along = airways.end[branch] - airways.start[branch]
    centre = airways.end[branch] + 0.35 * radius * along / max(float(np.linalg.norm(along)), 1e-6)
    state.mass = Mass(centre, radius, RandomField(rng, 9.0))
    collapse = float(rng.uniform(1.1, 1.2) + 0.6 * rng.random() * severity)
    inside = np.linalg.norm(airways.end - centre, axis=1) < 0.8 * radius
    inside[:FIRST_LOBAR] = False
    inside[branch] = True
    where = airways.units_of(inside)
    losses = state.lose(Lesion(where.astype(float), perfusion=(0.5, 0.93), ventilation=(0.5, 0.92)), rng)
    state.collapse[where] *= collapse
    state.calibre[airways.downstream(inside)] *= 0.75
    place = {"centre_mm": [round(float(v), 2) for v in centre], "diameter_mm": round(2 * radius, 1)}
    _record(state, units, "mass", where, visible=True, branch=branch, **losses, **place)


def _fibrosis(state: LungState, patient: Patient, severity: float) -> None:
    """Scars under the pleura of the bases, reticular on CT; both functions fall, ventilation most."""
    rng = patient.rng
    state.scarring = Scarring(0.35 + 0.5 * severity, float(rng.uniform(12, 26)), RandomField(rng, 14.0))
    scar = state.scarring(patient.lung)
    state.ventilation *= 1 - 0.75 * scar
    state.perfusion *= 1 - 0.65 * scar
    _record(state, patient.units, "fibrosis", scar > 0.25, visible=True, amount=round(state.scarring.amount, 4))


def _consolidation(state: LungState, patient: Patient, severity: float) -> None:
    """Air spaces filled in parts of segments: no ventilation there, less perfusion (shunt remains)."""
    rng, units = patient.rng, patient.units
    patchy = RandomField(rng, 16.0)(units.position.T.astype(np.float32))
    for _ in range(1 + int(rng.poisson(0.5 + 1.5 * severity))):
        branch = _branch_of_size(patient, 60, 350)
        where = _behind(units.airways, branch)
        share = np.clip(0.35 + 0.55 * severity + 0.3 * patchy, 0.1, 0.97) * where
        state.filled = np.maximum(state.filled, share)
        losses = state.lose(Lesion(share, perfusion=patient.world.reflex, ventilation=(1.0, 1.0)), rng)
        _record(state, units, "consolidation", where, visible=True, branch=branch, **losses)


def _effusion(state: LungState, patient: Patient, severity: float) -> None:
    """Fluid in the pleura (part of the chest's shape) compresses the lung beside it."""
    units, chest = patient.units, patient.units.chest
    if not isinstance(chest, DrawnChest) or not chest.effusions:
        return
    points = units.position.T.astype(np.float32)
    shape = anatomy.measure(chest.body, points)
    fluid = chest.fluid(points, shape.wall)
    squeezed = smoothstep(1 - fluid / 28.0) * (fluid > -12)
    state.collapse *= 1 + 2.2 * squeezed
    state.ventilation *= 1 - 0.8 * squeezed
    state.perfusion *= 1 - 0.55 * squeezed
    where = (squeezed > 0.2) & (fluid > 0)
    _record(state, units, "effusion", where, visible=True, sides=[e.side for e in chest.effusions])


def _radiation(state: LungState, patient: Patient, severity: float) -> None:
    """Months after radiotherapy beside the mediastinum: a scar with straight edges.

    Perfusion is lost most, and farther out than the CT shows.
    """
    rng, units = patient.rng, patient.units
    side = -1 if rng.random() < 0.5 else 1
    hub = units.chest.hubs[1 if side < 0 else 4].astype(float)
    centre = hub + np.array([side * rng.uniform(0, 18), rng.uniform(-15, 15), rng.uniform(-20, 25)])
    half = np.array([rng.uniform(24, 40), rng.uniform(30, 60), rng.uniform(28, 50)]) * (0.7 + 0.4 * severity)
    beam = Field(centre, half)
    dose, low = beam.dose(units.position.T), beam.dose(units.position.T, 26.0)
    scar = dose * (0.4 + 0.5 * severity)
    state.filled = np.maximum(state.filled, 0.45 * scar)
    state.ventilation *= 1 - 0.5 * scar
    state.perfusion *= 1 - 0.75 * scar
    state.lose(Lesion(np.clip(low - dose, 0, 1) * severity, perfusion=(0.1, 0.6)), rng)
    place = {"centre_mm": [round(float(v), 2) for v in centre], "half_mm": [round(float(v), 2) for v in half]}
    _record(state, units, "radiation change", scar > MARKED_LOSS, visible=True, **place)


DISEASES: dict[str, Callable[[LungState, Patient, float], None]] = {
    "normal": _normal,
    "emphysema": _emphysema,
    "embolism": _embolism,
    "obstruction": _obstruction,
    "tumour": _tumour,
    "fibrosis": _fibrosis,
    "consolidation": _consolidation,
    "effusion": _effusion,
    "radiation": _radiation,
}
