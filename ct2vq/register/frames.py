"""Whether images lie to each other as they were scanned: only in one frame of reference (DICOM PS3.3 C.7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ct2vq.files import read_json


@dataclass(frozen=True)
class Frames:
    """Whether SPECT images share the frame of reference of what is registered.

    Attributes:
        of_what: `attenuation_ct`, or the SPECT that is registered without one.
        relations: `shared`, `different` or `unknown` of each SPECT; unknown where a header names no frame.
    """

    of_what: str
    relations: Mapping[str, str]

    @classmethod
    def of(cls, sidecars: Mapping[str, Path]) -> Frames:
        """By the sidecars' keyed hashes of FrameOfReferenceUID, against the attenuation CT's, else the first one's."""
        frames = {name: read_json(path)["frame_of_reference"] for name, path in sidecars.items()}
        of_what = "attenuation_ct" if "attenuation_ct" in frames else next(iter(frames))
        others = [name for name in frames if name != of_what]
        return cls(of_what, {name: _relation(frames[name], frames[of_what]) for name in others})

    @property
    def strangers(self) -> list[str]:
        """SPECT images that must not be added to the one that is registered."""
        if self.of_what == "attenuation_ct":
            return []
        return [name for name, relation in self.relations.items() if relation != "shared"]

    def flags(self) -> list[str]:
        """What was assumed, or left out, for want of a common frame of reference."""
        flags = []
        for name, relation in self.relations.items():
            if relation == "shared":
                continue
            other = "another" if relation == "different" else "perhaps another"
            if self.of_what == "attenuation_ct":
                consequence = "its attenuation CT: that both lie as they were scanned is only assumed"
            else:
                consequence = f"{self.of_what}: it does not help the registration"
            flags.append(f"{name} has {other} frame of reference than {consequence}")
        return flags


def _relation(one: str | None, other: str | None) -> str:
    if one is None or other is None:
        return "unknown"
    return "shared" if one == other else "different"
