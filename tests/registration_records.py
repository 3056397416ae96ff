"""Quality records as `register` writes them, for the tests of what shows them."""

from __future__ import annotations

from typing import Any

from ct2vq.register.figures import FIGURES, SPECT_FIGURES


def registration_record(dice: float | None) -> dict[str, Any]:
    """A `qc.json`; without a Dice there was no attenuation CT."""
    record: dict[str, Any] = dict.fromkeys(FIGURES, 0.5) | {"dice_before": dice and 0.85, "dice_after": dice}
    return record | {
        "method": "rigid on the SPECT images" if dice is None else "deformable through the attenuation CT",
        "risk": None if dice else "rigid only",
        "spect": {"perfusion": dict.fromkeys(SPECT_FIGURES, 0.8)},
        "landmarks": 12,
        "flags": [] if dice else ["W801 no attenuation CT: rigid only"],
    }
