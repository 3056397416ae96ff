"""Carries a SPECT onto the CT."""

from __future__ import annotations

from pathlib import Path

from ct2vq.fields import carry
from ct2vq.volume import read_volume, write_volume


def warp_spect(spect: Path, ct: Path, ct_to_spect: Path, output: Path, modulate: bool = False) -> None:
    """Carry a SPECT onto the CT's grid in one interpolation.

    Args:
        spect: NIfTI volume to carry.
        ct: NIfTI volume whose grid the result takes.
        ct_to_spect: displacement field.
        output: NIfTI volume to write.
        modulate: multiply by the Jacobian determinant, so that counts are kept and not concentrations.
    """
    write_volume(carry(read_volume(spect), read_volume(ct), read_volume(ct_to_spect), modulate), output)
