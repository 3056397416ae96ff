"""What a pack says to its reader: nothing in it names a method, a case or a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import LinearSegmentedColormap

from ct2vq.figures import OWN_MAPS

#: steps of a colour map, as many as a display has
COLOURS = 256
PART_TITLES = {
    "diagnosis": "Diagnosis",
    "diagnosis_ct": "Diagnosis with CT",
    "acceptability": "Image quality",
}
PART_WORDS = {
    "diagnosis": "Diagnosis: you see ventilation (V) and perfusion (Q) of a patient and say what you would diagnose.",
    "diagnosis_ct": "Diagnosis with CT: the same, with the patient's CT beside the images and fused with them.",
    "acceptability": "Image quality: you judge whether the images of a patient are fit for clinical review.",
}
SOURCES_WORDS = (
    "Some image pairs were acquired with SPECT, others were synthesised by a computer. They are mixed. Do not try to "
    "find out which is which before you are asked."
)
TWICE_WORDS = "Some pairs come more than once. Judge each on its own."
SIMULATED_WORDS = "The patients of this study are simulated. It is a demonstration."
GUESSES = (
    {"name": "real", "label": "Acquired with SPECT"},
    {"name": "synthesised", "label": "Synthesised by a computer"},
    {"name": "unsure", "label": "I cannot tell"},
)
README = """{title}
Study: {study}
Reader: {reader}

1. Copy this whole folder to a disk that you may write to, and leave it there until you are done.
2. Open index.html with a current browser (Firefox, Chrome, Edge or Safari). No network is used.
3. Use the same browser on the same computer for all sessions: your answers are kept in it. Do not use a private window.
4. When you have finished a session, press the button that saves your answers to a file, and return that file.

The file holds your answers, your pseudonym and times of reading, nothing about a patient.
"""


def pack_wording(settings: Mapping[str, Any], parts: Sequence[str], simulated: bool) -> dict[str, Any]:
    """What a pack asks and says, for all readers alike.

    Args:
        settings: config block `read`.
        parts: parts of the study in their order.
        simulated: whether the patients are.

    Returns:
        The keys of `pack.js` that are no reader's own: `title`, `intro`, `washout`, `go_back`, `idle_minutes`,
        `return_to`, `ct_windows`, `colour_maps` (256 colours of red, green and blue, 0 to 255), `colour_map`,
        `acceptability`, `guess`, `diagnosis`.
    """
    acceptability, diagnosis = settings["acceptability"], settings["diagnosis"]
    return {
        "title": settings["title"],
        "intro": _intro(settings, parts, simulated),
        "washout": {"days": settings["washout_days"], "mode": settings["washout"]},
        "go_back": settings["go_back"],
        "idle_minutes": settings["idle_minutes"],
        "return_to": settings["return_to"],
        "ct_windows": [dict(window) for window in settings["ct_windows"]],
        "colour_maps": {name: colours_of(name) for name in (*OWN_MAPS, "grey")},
        "colour_map": settings["colour_map"],
        "acceptability": {
            "levels": _numbered(acceptability["levels"]),
            "items": [dict(item) for item in acceptability["items"]],
        },
        "guess": [dict(guess) for guess in GUESSES] if acceptability["guess"] else [],
        "diagnosis": {
            "choices": [{key: choice[key] for key in ("name", "label")} for choice in diagnosis["choices"]],
            "confidence": _numbered(diagnosis["confidence"]),
            "locations": [dict(location) for location in diagnosis["locations"]],
            "patterns": [dict(pattern) for pattern in diagnosis["patterns"]],
        },
    }


def session_titles(parts: Sequence[str]) -> list[str]:
    """Title of each session, `parts` being the part of each in their order."""
    seen = [parts[:index].count(part) + 1 for index, part in enumerate(parts)]
    return [
        f"{PART_TITLES[part]}, session {number} of {parts.count(part)}"
        for part, number in zip(parts, seen, strict=True)
    ]


def colours_of(name: str) -> list[list[int]]:
    """A colour map as 256 triples of 0 to 255; `grey` or one of the project's own."""
    if name == "grey":
        return [[step, step, step] for step in range(COLOURS)]
    colours = LinearSegmentedColormap.from_list(name, OWN_MAPS[name], N=COLOURS)
    return [[int(value) for value in colours(step, bytes=True)[:3]] for step in range(COLOURS)]


def _intro(settings: Mapping[str, Any], parts: Sequence[str], simulated: bool) -> list[str]:
    told = [*settings["intro"], *(PART_WORDS[part] for part in parts), SOURCES_WORDS]
    if settings["repeats"]:
        told.append(TWICE_WORDS)
    return told + ([SIMULATED_WORDS] if simulated else [])


def _numbered(words: Sequence[str]) -> list[dict[str, Any]]:
    return [{"value": value, "label": label} for value, label in enumerate(words, start=1)]
