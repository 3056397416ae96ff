"""The words that may pass from a header into a result; everything else becomes a keyed name.

A header's free text can hold anything: hospitals write names into kernels and stations into models. So no text passes
because it looks harmless, only because every word of it is known. What is not known becomes `other:` and a keyed hash,
so that groups (two scanners, two kernels) stay apart without being told.
"""

from __future__ import annotations

import re

from ct2vq.identity.store import Store

#: makers of CT and gamma cameras as they write themselves, and this project's simulator
_MAKERS = """
    siemens healthineers healthcare medical systems solutions ge general electric philips toshiba canon hitachi
    fujifilm fuji mediso spectrum dynamics neurologica united imaging uih neusoft shimadzu elscint picker adac marconi
    digirad hermes mim ddd diagnostic sopha dicom smv trionix cti pet ms ltd inc co gmbh ag corporation corp kk
    ct2vq camera a b c d e
"""
#: families of machines, and what their makers append
_MODELS = """
    symbia intevo evo excel bold pro specta truepoint t t2 t6 t16 s e ecam e.cam signature series biograph mct vision
    somatom definition as flash edge force drive emotion sensation perspective confidence go top up now all sim open
    naeotom alpha volume zoom discovery nm ct pet infinia hawkeye millennium varicam vg mg optima revolution evo apex
    frontier maxima lightspeed ultra vct xt xtream brightspeed elite select pro16 hd hd750 starguide
    brightview xct precedence skylight forte brilliance ict ingenuity iq big bore spectral incisive access core
    mx8000 idt gemini tf allura aquilion one prime lb rxl lightning exceed cxl genesis start viva anyscan sc scp trio
    flex interview scenaria supria eclos veriton d spect simulated
"""
#: nuclides and agents of lung scintigraphy and of what is confused with it
_TRACERS = """
    tc tc99m 99mtc technetium 99m m maa macroaggregated macroaggregate macroaggregates macrosalb albumin aggregated
    aggregate human serum hsa pulmocis technegas carbon graphite aerosol nanoparticles dtpa pentetate pentetic acid
    diethylenetriamine krypton kr kr81m 81mkr 81m xenon xe xe133 133xe lutetium lu lu177 177lu psma i i131 131i iodine
    i123 123i indium in in111 111in f f18 18f fluorine fluorodeoxyglucose fdg fluciclovine ga ga68 68ga gallium
    ga67 67ga thallium tl tl201 201tl c c11 11c n n13 13n rb rb82 82rb rubidium gas injection solution perfusion
    ventilation lung 18 68 67 81 82 99 111 123 131 133 177 201 11 13
"""
WORDS = {name: frozenset(text.split()) for name, text in {
    "manufacturer": _MAKERS, "model": _MODELS, "radiopharmaceutical": _TRACERS, "radionuclide": _TRACERS,
}.items()}  # fmt: skip
#: attributes whose known values may be said
VOCABULARIES = {
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "Radiopharmaceutical": "radiopharmaceutical",
}
#: a machine's number: at most four digits, with at most two letters behind
_NUMBER = re.compile(r"\d{1,4}[a-z]{0,2}")
#: names of kernels: Siemens B30f, Br40d, Hr64f, Qr40; GE words; Toshiba and Canon FC51, FL; Philips letters; simulated
_KERNEL = re.compile(
    r"[ABCDEHTUIJQS][rvfpz]?\d{1,3}[a-z]{0,3}(\\\d)?|F[CL]\d{1,2}|B|C|D|E|F|L|YA|YB|YC|YD|Y-Det|IMR\d?|i?Dose\d?|"
    r"STANDARD|LUNG|BONE|BONEPLUS|SOFT|DETAIL|EDGE|CHEST|ULTRA|MEDIUM|SHARP|Standard|Lung|Soft|Bone|Sharp|Detail|\d",
)
UNITS = frozenset(
    {
        "HU",
        "counts",
        "counts/s",
        "proportional to counts",
        "proportional to counts/s",
        "Bq/mL",
        "kBq/mL",
        "MBq/mL",
        "1",
        "%",
        "{SUVbw}g/ml",
        "g/ml",
    }
)


def known_term(kind: str, value: str | None, store: Store) -> str | None:
    """A header's text if every word of it is known, else `other:` and its keyed name.

    Args:
        kind: a key of `WORDS`, `kernel` or `units`.
        value: the text, several values joined by a backslash.
        store: gives the keyed name.
    """
    if value is None or is_known(kind, value):
        return value
    return f"other:{store.pseudonym(kind, value)}"


def is_known(kind: str, value: str) -> bool:
    """Whether a text may pass as it is."""
    if kind == "units":
        return value in UNITS
    if kind == "kernel":
        return all(_KERNEL.fullmatch(part.strip()) for part in re.split(r"[\\/]", value))
    words = [word for word in re.split(r"[^\w.]+|_", value.lower()) if word]
    unknown = [word for word in words if word not in WORDS[kind]]
    return not unknown or (kind == "model" and _is_numbered_model(words, unknown))


def _is_numbered_model(words: list[str], unknown: list[str]) -> bool:
    """Whether a model's only unknown word is its number: several, or one alone, may be a birth date or an id."""
    named = any(len(word) > 1 and word.isalpha() for word in words if word not in unknown)
    return named and len(unknown) == 1 and _NUMBER.fullmatch(unknown[0]) is not None
