"""The laws of a simulated world: the main numbers that link anatomy and disease to density, perfusion and ventilation.

Magnitudes of single diseases stand in `disease`, of the scans in `ct`, `motion` and `spect`; they are frozen alike.

`FIRST` is the cohort's world. `SECOND` follows other laws (other link functions, other strengths, other correlation
lengths), to see whether a ranking of models holds where the simulator differs. Sources stand in
`resources/published_lungs.tsv`; what has none is an assumption.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

#: raised whenever a number here or in those modules changes what is simulated: results of versions do not compare
COHORT_VERSION = 2


@dataclass(frozen=True)
class World:
    """The laws. Ranges are (low, high), drawn uniformly for each case.

    Attributes:
        perfusion_gravity, ventilation_gravity: relative change of function from front to back (supine).
        perfusion_hilar, ventilation_hilar: relative change over 100 mm away from the lobe's hub.
        perfusion_height, ventilation_height: relative change from base to apex, (mean, sd).
        gravity_law: `linear` or `smooth` (the change gathers in the middle).
        common_split, perfusion_split, ventilation_split: standard deviation of the share that a bifurcation sends
            one way: the fractal branching model of regional flow (Glenny and Robertson, J Appl Physiol
            1995;79:357-369); the common part moves perfusion and ventilation together.
        coarse_split: the same for bifurcations down to the segments, in units of the finer ones'.
        airway_disease_split: factor on `ventilation_split` where airways are diseased (obstruction, emphysema).
        blood_sd: relative variation between subsegments of blood volume that CT and perfusion share.
        inflation_sd: relative variation between subsegments of inflation that CT and ventilation share.
        perfusion_of_blood: exponent with which perfusion follows that blood volume.
        blood_share: share of the parenchyma's mass that is blood.
        density_gravity: relative change of density from front to back.
        texture_mm, texture_strength: correlation and strength of density's variation that function never shares.
        destruction_density: share of density lost where the lung is destroyed.
        destruction_perfusion, destruction_ventilation: exponents with which function follows what is left.
        reflex: share of ventilation's loss that perfusion follows (hypoxic vasoconstriction).
        clot_loss: share of perfusion lost behind a clot.
        oligaemia: share of blood volume lost behind a clot that shows.
    """

    name: str
    perfusion_gravity: tuple[float, float]
    ventilation_gravity: tuple[float, float]
    perfusion_hilar: tuple[float, float]
    ventilation_hilar: tuple[float, float]
    perfusion_height: tuple[float, float]
    ventilation_height: tuple[float, float]
    gravity_law: str
    common_split: float
    perfusion_split: float
    ventilation_split: float
    coarse_split: float
    airway_disease_split: float
    blood_sd: float
    inflation_sd: float
    perfusion_of_blood: float
    blood_share: float
    density_gravity: tuple[float, float]
    texture_mm: float
    texture_strength: tuple[float, float]
    destruction_density: float
    destruction_perfusion: float
    destruction_ventilation: float
    reflex: tuple[float, float]
    clot_loss: tuple[float, float]
    oligaemia: tuple[float, float]


FIRST = World(
    name="first",
    perfusion_gravity=(0.3, 0.7),
    ventilation_gravity=(0.0, 0.4),
    perfusion_hilar=(-0.1, 0.2),
    ventilation_hilar=(-0.15, 0.15),
    perfusion_height=(-0.42, 0.12),
    ventilation_height=(-0.35, 0.12),
    gravity_law="linear",
    common_split=0.065,
    perfusion_split=0.03,
    ventilation_split=0.03,
    coarse_split=0.7,
    airway_disease_split=2.4,
    blood_sd=0.13,
    inflation_sd=0.06,
    perfusion_of_blood=1.0,
    blood_share=0.45,
    density_gravity=(0.15, 0.4),
    texture_mm=14.0,
    texture_strength=(0.05, 0.11),
    destruction_density=0.85,
    destruction_perfusion=0.85,
    destruction_ventilation=0.75,
    reflex=(0.3, 0.65),
    clot_loss=(0.65, 0.97),
    oligaemia=(0.1, 0.35),
)

SECOND = World(
    name="second",
    perfusion_gravity=(0.1, 0.5),
    ventilation_gravity=(-0.1, 0.3),
    perfusion_hilar=(-0.3, 0.0),
    ventilation_hilar=(-0.1, 0.2),
    perfusion_height=(-0.2, 0.15),
    ventilation_height=(-0.3, 0.15),
    gravity_law="smooth",
    common_split=0.06,
    perfusion_split=0.05,
    ventilation_split=0.05,
    coarse_split=0.9,
    airway_disease_split=1.4,
    blood_sd=0.10,
    inflation_sd=0.09,
    perfusion_of_blood=1.4,
    blood_share=0.35,
    density_gravity=(0.3, 0.6),
    texture_mm=20.0,
    texture_strength=(0.08, 0.14),
    destruction_density=0.6,
    destruction_perfusion=0.8,
    destruction_ventilation=1.4,
    reflex=(0.5, 0.9),
    clot_loss=(0.5, 0.9),
    oligaemia=(0.2, 0.5),
)

WORLDS = {world.name: world for world in (FIRST, SECOND)}


def laws_digest() -> str:
    """SHA-256 of all numbers of all worlds: a test compares it with the one kept for `COHORT_VERSION`."""
    text = json.dumps([asdict(world) for world in WORLDS.values()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
