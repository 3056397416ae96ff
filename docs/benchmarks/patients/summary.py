"""What the table of right and wrong patients says in short: ranges of each figure, and what the limits would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.config import TARGETS
from patients.measure import AS_SCANNED, CTS, SPECT
from patients.scans import REAL, TINY

#: columns of a pair of CTs: figure and decimals
SHOWN = {
    "lung detail": ("lung_detail_after", 2),
    "mutual information (nat)": ("mutual_information_after", 2),
    "lung Dice": ("dice_after", 2),
}


def pairs_of(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of CTs: `arm`, `ct`, `camera`, `right`, `world` and its figures."""
    chosen = table[table["arm"].str.startswith(CTS)]
    wide = chosen.pivot(index=["arm", "case", "reference"], columns="metric", values="value").reset_index()
    wide = wide.rename(columns={"case": "ct", "reference": "camera"})
    return wide.assign(right=_right(wide["ct"], wide["camera"]), world=wide["ct"].str.split("/").str[0])


def _right(ct: pd.Series, camera: pd.Series) -> pd.Series:
    return ct == camera.str.split(",").str[0]


def _groups(pairs: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and pairs of each row of the first table."""
    fine, full = header["fine"], set(header["full_inspiration"])
    deep = pairs["ct"].isin(full)
    simulated = ~pairs["world"].isin([REAL, TINY])
    for arm in sorted(set(pairs["arm"]), key=lambda arm: (arm != fine, arm)):
        mine = pairs["arm"] == arm
        ending = "" if arm == fine else f", {arm.removeprefix(f'{CTS}, ')}"
        for right, word in ((True, "right"), (False, "wrong")):
            rows = mine & (pairs["right"] == right)
            yield f"{word}, simulated, shallow breath{ending}", pairs[rows & simulated & ~deep & right]
            yield f"{word}, simulated, full inspiration{ending}", pairs[rows & simulated & deep & right]
            yield f"{word}, simulated{ending}", pairs[rows & simulated & (not right)]
            yield f"{word}, real CTs{ending}", pairs[rows & (pairs["world"] == REAL)]
            yield f"{word}, voxels of config/tiny.yaml{ending}", pairs[rows & (pairs["world"] == TINY)]


def of_cts(table: pd.DataFrame, header: Mapping[str, Any]) -> pd.DataFrame:
    """Pairs of CTs: lowest to highest of each figure, and how many lie below a limit of lung detail.

    Args:
        table: the long table.
        header: `full_inspiration` (CTs), `fine` (the arm that has no word of its own), `limits` of lung detail
            (`refused`, `flagged`).

    Returns:
        columns `pairs`, `number`, those of `SHOWN`, `refused`, `flagged`.
    """
    rows = []
    for name, group in _groups(pairs_of(table), header):
        if group.empty:
            continue
        ranges = [_span(group[figure], decimals) for figure, decimals in SHOWN.values()]
        below = [(group["lung_detail_after"] < header["limits"][what]).sum() for what in ("refused", "flagged")]
        rows.append([name, len(group), *ranges, *below])
    return pd.DataFrame(rows, columns=["pairs", "number", *SHOWN, "refused", "flagged"])


def _span(values: pd.Series, decimals: int) -> str:
    low, high = (f"{value:.{decimals}f}" for value in (values.min(), values.max()))
    return f"{low} to {high}"


def separation(table: pd.DataFrame, header: Mapping[str, Any]) -> dict[str, float]:
    """How far the limit of lung detail separates right from wrong, of the registrations that it was made for.

    Returns:
        `right` and `wrong` (numbers of pairs), `right_refused`, `wrong_refused`, `lowest_right`, `highest_wrong`, and
        by the exact one-sided 95 % bound the least sensitivity (`sensitivity`) and the largest share of right pairs
        refused (`false`) that so many independent pairs leave possible.
    """
    from scipy.stats import beta

    pairs = pairs_of(table)
    pairs = pairs[(pairs["arm"] == header["fine"]) & (pairs["world"] != TINY)]
    right, wrong = (pairs[pairs["right"] == kind]["lung_detail_after"] for kind in (True, False))
    limit = header["limits"]["refused"]
    hits, errors = int((wrong < limit).sum()), int((right < limit).sum())
    return {
        "right": len(right),
        "wrong": len(wrong),
        "right_refused": errors,
        "wrong_refused": hits,
        "lowest_right": float(right.min()),
        "highest_wrong": float(wrong.max()),
        # Clopper and Pearson
        "sensitivity": float(beta.ppf(0.05, hits, len(wrong) - hits + 1)) if hits else 0.0,
        "false": float(beta.ppf(0.95, errors + 1, len(right) - errors)) if errors < len(right) else 1.0,
    }


def of_spects(table: pd.DataFrame) -> pd.DataFrame:
    """SPECT images against lungs: lowest to highest agreement of activity and lungs.

    Returns:
        columns `pairs`, `target`, `number`, `agreement`.
    """
    rows = []
    for arm in (SPECT, AS_SCANNED):
        chosen = table[(table["arm"] == arm) & (table["metric"] == "content_agreement")]
        right = _right(chosen["case"], chosen["reference"])
        for kind, word in ((True, "right"), (False, "wrong")):
            for target in TARGETS:
                values = chosen[(right == kind) & (chosen["target"] == target)]["value"]
                if not values.empty:
                    rows.append([f"{word}, {arm}", target, len(values), _span(values, 2)])
    return pd.DataFrame(rows, columns=["pairs", "target", "number", "agreement"])


def sentence(found: Mapping[str, float], limit: float) -> str:
    """`separation` in words."""
    if not np.isfinite([found["lowest_right"], found["highest_wrong"]]).all():
        return "Right and wrong pairs were not both measured."
    return (
        f"The limit of {limit:g} refuses {found['wrong_refused']:.0f} of {found['wrong']:.0f} wrong pairs and "
        f"{found['right_refused']:.0f} of {found['right']:.0f} right ones; the highest wrong pair has "
        f"{found['highest_wrong']:.3f}, the lowest right one {found['lowest_right']:.3f}. If the pairs were "
        f"independent, so many would exclude, at 95 %, a sensitivity below {100 * found['sensitivity']:.1f} % and "
        f"false refusals above {100 * found['false']:.1f} %."
    )


def parts_of_cts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """The pairs of CTs, how far the limit separates them, and whether all that were planned are measured."""
    yield of_cts(table, header)
    yield sentence(separation(table, header), header["limits"]["refused"])
    if header["done"] < header["planned"]:
        yield f"Measured so far: {header['done']} of {header['planned']} pairs, those with SPECT images included."


def parts_of_spects(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """SPECT images against lungs."""
    yield of_spects(table)


def parts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """What the benchmark's section shows; single pairs stay in the table."""
    limits = header["limits"]
    yield (
        f"Pairs of CTs, lowest to highest; `refused` and `flagged`: lung detail below {limits['refused']:g} and "
        f"{limits['flagged']:g}:"
    )
    yield from parts_of_cts(table, header)
    yield "Agreement of activity and lungs, lowest to highest:"
    yield from parts_of_spects(table, header)
