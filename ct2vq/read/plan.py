"""The plan of the reader study in words, as a protocol or an ethics committee asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ct2vq.read.sample_size import FEWEST_READERS

#: marks what is our assumption: the paper tells nothing of it
DAGGER = "†"
PART_NAMES = {
    "diagnosis": "Part II, diagnosis from ventilation and perfusion alone (the CT is hidden)",
    "diagnosis_ct": "Part II with CT, a separate arm: the same with the CT beside and fused",
    "acceptability": "Part I, acceptability for clinical review",
}
METRIC_NAMES = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}


def plan_text(design: Mapping[str, Any], settings: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The plan as Markdown.

    Args:
        design: what `ct2vq.read.design.make_design` returns.
        settings: config block `read`.
        labels: how figures call the models.
    """
    sections = (
        ("What is read", _what(design, labels)),
        ("Sessions", _sessions(design, settings)),
        ("Blinding", _blinding(settings)),
        ("What is asked", _questions(design, settings)),
        ("Reference diagnosis", _reference(design, settings)),
        ("Primary endpoint and sample size", _endpoint(design, settings)),
    )
    lines = [f"# Plan of the reader study `{design['study']}`", "", *_warnings(design)]
    for title, told in sections:
        lines += [f"## {title}", "", *told, ""]
    return "\n".join([*lines, f"{DAGGER} Assumption: the paper does not tell it.", ""])


def _warnings(design: Mapping[str, Any]) -> list[str]:
    told = [
        *(["**SIMULATED READERS: a noise model on the known diagnosis, no people.**"] * design["simulated_readers"]),
        *(["**Simulated patients.**"] * design["simulated"]),
    ]
    return [line for warning in told for line in (warning, "")] + [
        "This page is made from the configuration. It is fixed before packs are handed out: answers to packs of\n"
        "another design are refused.",
        "",
    ]


def _what(design: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    cases = design["cases"]
    patients = {case["patient_id"] for case in cases.values()}
    arms = ", ".join(f"{target} by {labels.get(model, model)}" for target, model in design["models"].items())
    yield (
        f"Pairs of ventilation and perfusion images of {len(cases)} cases ({len(patients)} patients), each pair once\n"
        f"as acquired with SPECT and once synthesised from CT ({arms}), out of fold: no network saw its patient."
    )
    yield ""
    yield "| reader | experience | sessions | pairs shown | of these repeats |"
    yield "|---|---|---|---|---|"
    for reader, own in design["readers"].items():
        items = [item for session in own["sessions"] for item in session["items"]]
        repeats = sum(item["repeat_of"] is not None for item in items)
        yield f"| {reader} | {own['level']} | {len(own['sessions'])} | {len(items)} | {repeats} |"


def _sessions(design: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    first = next(iter(design["readers"].values()))
    yield "| session | part | CT | pairs |"
    yield "|---|---|---|---|"
    for session in first["sessions"]:
        yield f"| {session['number']} | {PART_NAMES[session['part']]} | {session['ct']} | {len(session['items'])} |"
    how = {"lock": "the page keeps the session shut until then", "warn": "the page asks and notes an earlier start"}
    yield ""
    days = f"{settings['washout_days']:g} days{DAGGER}"
    repeats = f"{settings['repeats']:.0%}{DAGGER} of a session's cases (at least one)"
    yield f"- {days} lie between a session and the next; {how[settings['washout']]}."
    yield (
        "- Each part has two sessions. Half of the cases are real in the first and synthesised in the second, the\n"
        "  others the other way round; so both images of a patient never share a session. Readers come in pairs with\n"
        "  opposite halves, so each case is real first for half of the readers. Of each diagnosis half are real in a\n"
        "  session (one more or less)."
    )
    yield (
        "- The order is random by reader and session. Diagnosis comes before acceptability, because the CT would\n"
        "  teach."
    )
    yield f"- {repeats} come a second time, never next to each other." if settings["repeats"] else "- None comes twice."
    yield f"- Readers may{'' if settings['go_back'] else ' not'} return to a case of the open session."


def _blinding(settings: Mapping[str, Any]) -> Iterator[str]:
    percentile = f"percentile {settings['display_percentile']:g}{DAGGER}"
    guess = settings["acceptability"]["guess"]
    yield (
        "Volumes of a pack share size, voxel, header, number of grey steps and length of file; names and order\n"
        "are random; a pair that comes twice has other names and bytes. Real and synthesised images are masked by the\n"
        f"same lungs and scaled by their own {percentile} in the lungs, with equally many voxels at the brightest\n"
        "step. What stays is the picture: readers may recognise a synthesised image by its look, which is "
        + ("what their guess measures." if guess else "not measured, because no guess is asked.")
    )


def _questions(design: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    if "acceptability" in design["parts"]:
        levels = _listed(f"{value} {word}" for value, word in enumerate(settings["acceptability"]["levels"], start=1))
        yield f"Acceptability{DAGGER}, each on the scale {levels}:"
        yield ""
        for item in settings["acceptability"]["items"]:
            yield f"- {item['question']} (`{item['name']}`)"
        if settings["acceptability"]["guess"]:
            yield "- Real, synthesised, or cannot tell? (Bang's blinding index)"
        yield ""
    if {"diagnosis", "diagnosis_ct"} & set(design["parts"]):
        yield from _diagnosis_questions(settings["diagnosis"])


def _diagnosis_questions(diagnosis: Mapping[str, Any]) -> Iterator[str]:
    yield f"Diagnosis{DAGGER}:"
    yield ""
    for choice in diagnosis["choices"]:
        yield f"- {choice['label']} (`{choice['name']}`): reference {_listed(choice['diagnoses']) or 'none'}"
    yield ""
    confidence = _listed(f"{value} {word}" for value, word in enumerate(diagnosis["confidence"], start=1))
    yield f"Confidence: {confidence}."
    if diagnosis["locations"]:
        yield f"Location of defects, several: {_listed(place['label'] for place in diagnosis['locations'])}."
    if diagnosis["patterns"]:
        yield f"Pattern, one: {_listed(pattern['label'] for pattern in diagnosis['patterns'])}."


def _reference(design: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    reference = design["reference"]
    yield f"- Source: {reference['source'] or 'not told'}."
    yield f"- Adjudication: {reference['adjudication'] or 'not told'}."
    counts: dict[str, int] = {}
    for case in design["cases"].values():
        counts[case["reference"] or ""] = counts.get(case["reference"] or "", 0) + 1
    names = {choice["name"]: choice["label"] for choice in settings["diagnosis"]["choices"]}
    told = _listed(f"{names[name]} {counts[name]}" for name in names if name in counts)
    yield f"- Cases: {told or 'none with a reference'}" + (
        f"; without a reference {counts['']}." if "" in counts else "."
    )


def _endpoint(design: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    endpoint, size = design["endpoint"], design["sample_size"]
    metric = METRIC_NAMES[endpoint["metric"]]
    if not {"diagnosis", "diagnosis_ct"} & set(design["parts"]):
        yield "No diagnosis is asked, so there is no primary endpoint."
        return
    if endpoint["metric"] != "accuracy":
        yield f"- Positive: {_listed(endpoint['positive'])}."
    interval = f"{100 - 200 * endpoint['alpha']:g}% confidence interval"
    yield (
        f"- Synthesised images are not inferior if the lower limit of the {interval} of the difference in\n"
        f"  {metric}, synthesised less real, lies above -{endpoint['margin']:g}{DAGGER} "
        f"(one-sided alpha {endpoint['alpha']:g}),\n"
        "  in the analysis with random readers and in that with fixed readers (Obuchowski and Rockette); with one\n"
        "  reader in the latter."
    )
    asked = size["asked"] if size["asked"] is not None else "no number suffices under these expectations"
    yield (
        f"- Patients asked for, with a power of {endpoint['power']:.0%}: **{asked}**. Patients present that count\n"
        f"  for it: **{size['present']}** ({size['positives']} positive, {size['negatives']} negative).{_enough(size)}"
    )
    for assumption in size["assumptions"]:
        yield f"- {assumption[0].upper()}{assumption[1:]}{DAGGER}."
    yield f"- Formula: {size['formula']}."
    yield from _few_readers(len(design["readers"]))


def _few_readers(readers: int) -> Iterator[str]:
    if readers == 1:
        yield "- **One reader: the result is about this reader alone, not about readers.**"
    elif readers < FEWEST_READERS:
        yield (
            f"- **Fewer than {FEWEST_READERS} readers ({readers}): the formula takes readers as fixed, the analysis\n"
            "  does not. If several readers lowered the number, expect less power than asked for: in a simulation\n"
            "  with 80% asked for, 50 to 63% with two readers and 64 to 74% with three.**"
        )


def _enough(size: Mapping[str, Any]) -> str:
    if size["asked"] is not None and size["present"] >= size["asked"]:
        return ""
    return " **Too few: non-inferiority will probably not be shown even if it is true.**"


def _listed(words: Sequence[str] | Iterator[str]) -> str:
    return ", ".join(words)
