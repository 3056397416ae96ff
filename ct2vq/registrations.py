"""The cohort's page of registrations: every one with its figures, flags and overlay, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ct2vq.files import copy_file, read_json, write_text
from ct2vq.pages import link, style, template
from ct2vq.register.table import registration_of

TARGET_LETTERS = {"perfusion": "Q", "ventilation": "V"}


def registration_name(qc: str | Path) -> str:
    """`<case>`, or `<case> <target>` where a SPECT is registered alone."""
    case, target = registration_of(qc)
    return f"{case} {target}" if target else case


def anchor(name: str) -> str:
    """The id of a registration on the page."""
    return "registration-" + name.replace(" ", ".")


def worst_first(quality: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the registrations: most flags first, then those without an attenuation CT, then by Dice from below."""

    def badness(name: str) -> tuple[int, float, str]:
        dice = quality[name]["dice_after"]
        return -len(quality[name]["flags"]), -1.0 if dice is None else dice, name

    return sorted(quality, key=badness)


def write_registrations(
    qc: Sequence[str | Path],
    overlays: Sequence[str | Path],
    table: str | Path,
    page: str | Path,
    copy: str | Path,
    *,
    title: str,
    simulated: bool,
    modulated: bool,
) -> None:
    """Write the page.

    Args:
        qc: `results/register/<case>/qc.json`, or `<target>_qc.json` of a SPECT that is registered alone.
        overlays: the figure of each registration, in the order of `qc`.
        table: `quality.tsv` of the stage `register`.
        page: `*.html` to write; figures are linked relative to it.
        copy: where a copy of the table goes, which the page links to: the report's folder is whole on its own.
        title: the study's title.
        simulated: whether the patients are simulated.
        modulated: whether carried SPECT images were multiplied by the Jacobian.
    """
    quality = {registration_name(path): read_json(path) for path in qc}
    images = {registration_name(path): link(image, page) for path, image in zip(qc, overlays, strict=True)}
    html = template("registration.html.j2").render(
        title=title,
        style=style(),
        simulated=simulated,
        modulated=modulated,
        summary=summarise(quality),
        rows=[row(name, quality[name], images[name]) for name in worst_first(quality)],
        table=link(copy, page),
    )
    copy_file(table, copy)
    write_text(html, page)


def summarise(quality: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of registrations and flags, and the cohort's median figures."""
    without_ct = [name for name, qc in quality.items() if qc["dice_after"] is None]

    def middle(name: str) -> float | None:
        values = [qc[name] for qc in quality.values() if qc[name] is not None]
        return median(values) if values else None

    return {
        "number": len(quality),
        "flagged": sum(bool(qc["flags"]) for qc in quality.values()),
        "without_ct": len(without_ct),
        "dice_before": figure(middle("dice_before")),
        "dice_after": figure(middle("dice_after")),
        "tre_before": figure(middle("tre_mean_before_mm"), 1),
        "tre_after": figure(middle("tre_mean_after_mm"), 1),
        "with_landmarks": sum(bool(qc["landmarks"]) for qc in quality.values()),
    }


def row(name: str, qc: Mapping[str, Any], overlay: str) -> dict[str, Any]:
    """What the page says of one registration."""
    spects = {TARGET_LETTERS[target]: figures for target, figures in qc["spect"].items()}
    return {
        "name": name,
        "anchor": anchor(name),
        "overlay": overlay,
        "method": qc["method"],
        "risk": qc["risk"],
        "dice": change(qc, "dice"),
        "detail": change(qc, "lung_detail"),
        "information": change(qc, "mutual_information"),
        "tre": change(qc, "tre_mean", 1, "_mm"),
        "jacobian": f"{figure(qc['jacobian_p1'])} to {figure(qc['jacobian_p99'])}",
        "folding": figure(qc["folding_percent"]),
        "inverse": figure(qc["inverse_consistency_p95_mm"]),
        "counts": [f"{letter} {change(spect, 'counts_inside')}" for letter, spect in spects.items()],
        "shift": [f"{letter} {figure(spect['content_shift_mm'], 0)}" for letter, spect in spects.items()],
        "flags": qc["flags"],
    }


def change(qc: Mapping[str, Any], name: str, digits: int = 2, unit: str = "") -> str:
    """A figure before and after."""
    before, after = (qc[f"{name}_{when}{unit}"] for when in ("before", "after"))
    return "n/a" if after is None else f"{figure(before, digits)} → {figure(after, digits)}"


def figure(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign, `n/a` if it is missing."""
    return "n/a" if value is None else f"{value:.{digits}f}".replace("-", "−")
