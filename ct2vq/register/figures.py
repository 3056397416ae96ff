"""The figures of quality: their names, units and limits.

Beyond a flag's limit a case is told of, never dropped; beyond a refusal's it stops, because what follows would be made
from something else than this patient's lungs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ct2vq.config import TARGETS
from ct2vq.errors import RegistrationError


class Figure(NamedTuple):
    """What a figure of `qc.json` is.

    Attributes:
        label: in words, as flags and tables say it.
        unit: its unit; `1` if it has none.
        code: of the error if it is beyond the limit of `register.refuse`.
        of_ct: whether it needs an attenuation CT to mean what its limits are made for.
    """

    label: str
    unit: str
    code: str = "D805"
    of_ct: bool = False


FIGURES = {
    "dice_before": Figure("lung Dice before", "1"),
    "dice_after": Figure("lung Dice after", "1"),
    "dice_right_before": Figure("Dice of the right lung before", "1"),
    "dice_right_after": Figure("Dice of the right lung after", "1"),
    "dice_left_before": Figure("Dice of the left lung before", "1"),
    "dice_left_after": Figure("Dice of the left lung after", "1"),
    "lung_volume_ct_ml": Figure("lung volume of the CT", "mL"),
    "lung_volume_attenuation_ct_ml": Figure("lung volume of the attenuation CT", "mL"),
    "lung_volume_ratio": Figure("lung volume, CT to attenuation CT,", "1"),
    "lungs_outside_attenuation_ct_percent": Figure("lungs outside the attenuation CT", "%", "D803"),
    "mutual_information_before": Figure("mutual information before", "nat", of_ct=True),
    "mutual_information_after": Figure("mutual information after", "nat", of_ct=True),
    "mutual_information_gain": Figure("gain of mutual information", "nat"),
    "lung_detail_before": Figure("correlation of lung detail before", "1"),
    "lung_detail_after": Figure("correlation of lung detail after", "1"),
    "jacobian_min": Figure("smallest Jacobian", "1", "D809"),
    "jacobian_p1": Figure("1st percentile of the Jacobian", "1", "D809"),
    "jacobian_p99": Figure("99th percentile of the Jacobian", "1", "D809"),
    "jacobian_max": Figure("largest Jacobian", "1", "D809"),
    "folding_percent": Figure("folded share of the lungs", "%", "D809"),
    "inverse_consistency_mean_mm": Figure("mean error there and back", "mm", "D808"),
    "inverse_consistency_p95_mm": Figure("95th percentile of the error there and back", "mm", "D808"),
    "inverse_consistency_max_mm": Figure("largest error there and back", "mm", "D808"),
    "inverse_outside_percent": Figure("share of the lungs carried beyond the field that leads back", "%", "D808"),
    "displacement_mean_mm": Figure("mean displacement", "mm", "D808"),
    "displacement_p95_mm": Figure("95th percentile of the displacement", "mm", "D808"),
    "displacement_max_mm": Figure("largest displacement", "mm", "D808"),
    "deformation_max_mm": Figure("largest displacement against the lungs' median", "mm", "D808"),
    "landmarks": Figure("landmarks", "1"),
    "tre_mean_before_mm": Figure("mean error at landmarks before", "mm"),
    "tre_mean_after_mm": Figure("mean error at landmarks after", "mm"),
    "tre_p95_before_mm": Figure("95th percentile of the error at landmarks before", "mm"),
    "tre_p95_after_mm": Figure("95th percentile of the error at landmarks after", "mm"),
    "tre_max_before_mm": Figure("largest error at landmarks before", "mm"),
    "tre_max_after_mm": Figure("largest error at landmarks after", "mm"),
}
#: figures whose limit of refusal is made for a deformable registration
OF_DEFORMABLE = frozenset({"lung_detail_after"})
#: figures of each SPECT image
SPECT_FIGURES = {
    "counts_inside_before": Figure("share of the counts inside the lungs before", "1", "D804"),
    "counts_inside_after": Figure("share of the counts inside the lungs after", "1", "D804"),
    "lungs_outside_spect_percent": Figure("lungs outside the SPECT", "%", "D803"),
    "content_shift_mm": Figure("distance of the activity from the lungs", "mm"),
    "content_agreement": Figure("agreement of activity and lungs", "1"),
    "content_agreement_shifted": Figure("agreement of activity and lungs after the best shift", "1"),
}


class Breach(NamedTuple):
    """A figure beyond a limit.

    Attributes:
        name: the figure.
        text: what was found against which limit, in words.
        code: of the error that it may be.
    """

    name: str
    text: str
    code: str


def breaches(record: Mapping[str, Any], limits: Mapping[str, float | None]) -> Iterator[Breach]:
    """Figures beyond limits named `<figure>_below` and `<figure>_above`; a limit of None is none.

    Args:
        record: as `ct2vq.register.quality.measure_quality` returns it.
        limits: `register.flags` or `register.refuse`.
    """
    for key, limit in limits.items():
        name, _, side = key.rpartition("_")
        if limit is None:
            continue
        for who, figure, value in _values(record, name):
            if figure.of_ct and record["dice_after"] is None:
                continue
            if value is not None and (value < limit if side == "below" else value > limit):
                unit = "" if figure.unit == "1" else f" {figure.unit}"
                yield Breach(name, f"{who}{figure.label} {value:.4g}{unit}, {side} {limit:g}{unit}", figure.code)


def _values(record: Mapping[str, Any], name: str) -> Iterator[tuple[str, Figure, float | None]]:
    if name in FIGURES:
        yield "", FIGURES[name], record[name]
    for target in TARGETS:
        if name in SPECT_FIGURES and target in record["spect"]:
            yield f"{target}: ", SPECT_FIGURES[name], record["spect"][target][name]


def refusals(record: Mapping[str, Any], limits: Mapping[str, float | None]) -> Iterator[Breach]:
    """What is beyond `register.refuse`; a rigid or affine registration is not refused for vessels that breathing moved.

    Args:
        record: figures, and `method` as `ct2vq.register.case` names it.
        limits: `register.refuse`.
    """
    deformed = record["method"].startswith("deformable")
    for breach in breaches(record, limits):
        if deformed or breach.name not in OF_DEFORMABLE:
            yield breach


def require_plausible(record: Mapping[str, Any], limits: Mapping[str, float | None]) -> None:
    """Stop where the images cannot belong together or the field cannot be breathing.

    Raises:
        RegistrationError: D803, D804, D805, D808 or D809, with every figure beyond its limit.
    """
    found = list(refusals(record, limits))
    if not found:
        return
    raise RegistrationError(
        found[0].code,
        "; ".join(breach.text for breach in found),
        key=f"register.refuse ({', '.join(dict.fromkeys(breach.name for breach in found))})",
        hint=f"{_suspicion(found)}; exclude the case, or, if all is right, name it in register.accept",
    )


def _suspicion(found: Sequence[Breach]) -> str:
    """Where to look first."""
    if "lung_detail_after" in {breach.name for breach in found}:
        return (
            "vessels of the CT are not where the attenuation CT shows them: look whether both are of one patient, the "
            "masks are right and the attenuation CT is fine enough to show vessels"
        )
    return "look whether all images show one patient and the lung masks are right"


def accepted_flags(record: Mapping[str, Any], limits: Mapping[str, float | None]) -> list[str]:
    """What would have been refused if nobody had looked at the case and accepted it."""
    return [f"W805 accepted by register.accept: {breach.text}" for breach in refusals(record, limits)]
