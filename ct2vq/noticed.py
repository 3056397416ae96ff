"""What the stages `segment` and `crop` noticed of each case, as rows of the report's section "Lungs and crop"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.cohort import OWN_ATTENUATION_CT
from ct2vq.config import TARGETS
from ct2vq.files import read_json
from ct2vq.lungs import LOBES, SIDES, THIRDS, THIRDS_OF

#: what a reader calls the files, by the names that the stages give them; in this order they are told
CT_NAMES = {"ct": "CT", "attenuation_ct": "attenuation CT"} | {
    volume: f"attenuation CT of {target}" for target, volume in OWN_ATTENUATION_CT.items()
}
TARGET_LETTERS = {"perfusion": "Q", "ventilation": "V"}
HANDLED = {"none": "left in", "cap": "capped", "inpaint": "filled"}


def read_records(paths: Sequence[str | Path]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Records of the stages `segment` and `crop`, by case and then by file name without suffix.

    Args:
        paths: `results/segment/<case>/<ct>_lungs.json`, also `ct_lobes.json` where lobes have a rule of their own, and
            `results/crop/<case>/crop.json` and `<target>.json`.
    """
    records: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path in map(Path, paths):
        records.setdefault(path.parent.name, {})[path.stem] = read_json(path)
    return records


def noticed_rows(records: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each case: those with the most warnings first, then by name.

    Args:
        records: of `read_records`.
    """
    rows = [noticed_row(case, of_case) for case, of_case in records.items()]
    return sorted(rows, key=lambda row: (-len(row["warnings"]), row["case"]))


def noticed_row(case: str, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the page says of one case; volumes in mL.

    Args:
        case: its identifier.
        records: by file name without suffix; `ct_lungs` and `crop` must be there.
    """
    lungs = records["ct_lungs"]
    lobes = records.get("ct_lobes", lungs)
    return {
        "case": case,
        "lungs": [_lungs(name, records[f"{volume}_lungs"]) for volume, name in _cts(records)],
        "thirds": [_millilitres(lungs["thirds_ml"], [THIRDS[label] for label in THIRDS_OF[side]]) for side in SIDES],
        "lobes": _lobes(lobes),
        "lobes_source": lobes["lobes_source"] if "lobes_ml" not in lobes else f"from {lobes['lobes_source']}",
        "spect": [_spect(letter, records[target]) for target, letter in _targets(records)],
        "warnings": _warnings(records),
    }


def summarise_noticed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of cases and of those with a warning, how many cases have each code, and where lobes come from."""
    codes = Counter(code for row in rows for code in {warning["code"] for warning in row["warnings"]})
    return {
        "number": len(rows),
        "noticed": sum(bool(row["warnings"]) for row in rows),
        "codes": sorted(codes.items()),
        "lobes": sorted(Counter(row["lobes_source"] for row in rows).items()),
    }


def _cts(records: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(volume, name) for volume, name in CT_NAMES.items() if f"{volume}_lungs" in records]


def _targets(records: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(target, TARGET_LETTERS[target]) for target in TARGETS if target in records]


def _lungs(name: str, record: Mapping[str, Any]) -> dict[str, str]:
    return {"ct": name, "volumes": _millilitres(record["volume_ml"], ("right", "left")), "method": record["method"]}


def _lobes(record: Mapping[str, Any]) -> list[str]:
    """Volumes from head to feet, the right lung's and the left lung's; empty if there are no lobes."""
    if "lobes_ml" not in record:
        return []
    sides = ([name for name in LOBES.values() if name.startswith(side)] for side in ("right", "left"))
    return [_millilitres(record["lobes_ml"], names) for names in sides]


def _millilitres(volumes: Mapping[str, float], names: Sequence[str]) -> str:
    return " / ".join(f"{volumes[name]:.0f}" for name in names)


def _spect(letter: str, record: Mapping[str, Any]) -> dict[str, str]:
    clipped = f"{record['clipped_fraction']:.1%}, up to {record['maximum_over_reference']:.2f}"
    return {"letter": letter, "clipped": clipped, "hot_spots": hot_spots(record)}


def hot_spots(record: Mapping[str, Any]) -> str:
    """Number, volume and share of the counts of a SPECT's hot spots, and what became of them."""
    spots = record["hot_spots"]
    if spots["method"] == "none":
        return "not looked for"
    if not spots["number"]:
        return "none"
    handled = HANDLED[spots["method"]]
    return f"{spots['number']}, {spots['volume_ml']:.1f} mL {handled}, {spots['count_fraction']:.1%} of counts"


def _warnings(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Every warning with its code and with the image that it is of, the CT's first."""
    images = [(f"{volume}_lungs", name) for volume, name in _cts(records)]
    images += [("crop", "network's grid"), *((target, target) for target, _ in _targets(records))]
    found = []
    for stem, image in images:
        for warning in records[stem]["warnings"]:
            code, _, words = warning.partition(" ")
            found.append({"image": image, "code": code, "words": words})
    return found
