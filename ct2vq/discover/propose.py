"""The proposal of the cohort table: which series make up a case. Equal claims are listed, never decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ct2vq.cohort import OWN_ATTENUATION_CT, VOLUMES
from ct2vq.config import TARGETS
from ct2vq.discover.classify import Finding, is_derived
from ct2vq.discover.series import patients_with_several_births
from ct2vq.identity.store import Store

ROLES = VOLUMES


@dataclass
class Claim:
    """The series that may fill one cell of the cohort table.

    Attributes:
        candidates: all with the strongest claim; one alone is proposed.
        others: weaker ones, with the reason.
        problem: why there is no proposal, if so.
    """

    candidates: list[Finding] = field(default_factory=list)
    others: list[tuple[Finding, str]] = field(default_factory=list)
    problem: str = ""

    @property
    def chosen(self) -> Finding | None:
        """The only candidate, None if there is none or there are several."""
        return self.candidates[0] if len(self.candidates) == 1 and not self.problem else None

    @property
    def cell(self) -> str:
        """What stands in the cohort table."""
        return self.chosen.series.cell if self.chosen else ""


@dataclass
class ProposedCase:
    """One row of the cohort table.

    Attributes:
        case_id, patient_id: pseudonyms.
        claims: by role.
        obstacle: why the whole row is only a comment, if so.
    """

    case_id: str
    patient_id: str
    claims: dict[str, Claim]
    obstacle: str = ""

    @property
    def is_ambiguous(self) -> bool:
        """Whether a human must decide something."""
        return bool(self.obstacle) or any(claim.problem for claim in self.claims.values())


def propose(findings: Sequence[Finding], settings: Mapping[str, Any], store: Store) -> list[ProposedCase]:
    """One case for each patient and session of SPECT images, in the order of their pseudonyms.

    Args:
        findings: all series.
        settings: the config block `discover`.
        store: makes the pseudonyms.
    """
    by_patient: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_patient[finding.series.patient].append(finding)
    doubtful = patients_with_several_births(finding.series for finding in findings)
    cases = []
    for patient, own in sorted(by_patient.items()):
        for session in _sessions(own, settings["session_days"]):
            case = _case(patient, session, own, settings, store)
            if patient in doubtful:
                case.obstacle = "this patient number comes with several birth dates: is it one person?"
            cases.append(case)
    return sorted(cases, key=lambda case: (case.patient_id, case.case_id))


def _sessions(findings: Iterable[Finding], days: float) -> list[list[Finding]]:
    """SPECT images that belong together: within `days` of the first; those without a date by their study."""
    spects = [finding for finding in findings if set(finding.roles) & set(TARGETS)]
    sessions: list[list[Finding]] = []
    undated: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(spects, key=lambda f: (f.series.facts.taken, f.series.cell)):
        if finding.taken is None:
            undated[finding.series.study].append(finding)
        elif sessions and abs(_days(finding, sessions[-1][0])) <= days:
            sessions[-1].append(finding)
        else:
            sessions.append([finding])
    return sessions + list(undated.values())


def _case(
    patient: str, session: list[Finding], own: Sequence[Finding], settings: Mapping[str, Any], store: Store
) -> ProposedCase:
    studies = sorted({finding.series.study for finding in session})
    claims = {target: _target_claim(target, session, settings) for target in TARGETS}
    scans = [finding for finding in own if "ct" in finding.roles]
    claims |= _attenuation_claims(claims, scans)
    spects = [finding for finding in own if set(finding.roles) & set(TARGETS)]
    cameras = {scan.series.cell for spect in spects for scan in _cameras_own(spect, scans)}
    claims["ct"] = _ct_claim(session, cameras, scans, settings)
    # The day tells sessions of one study apart; candidates that come or go do not change the name.
    name = store.pseudonym("case", " ".join([patient, *studies, session[0].series.facts.taken[:8]]))
    case = ProposedCase(f"c{name}", f"p{patient}", claims)
    if not claims["ct"].candidates:
        case.obstacle = claims["ct"].problem
    return case


# --- SPECT ---------------------------------------------------------------------------------------------------------


def _target_claim(target: str, session: Sequence[Finding], settings: Mapping[str, Any]) -> Claim:
    """Of several reconstructions the wanted one as to attenuation correction, if that leaves one."""
    possible = [finding for finding in session if target in finding.roles]
    sure = [finding for finding in possible if finding.roles == (target,)]
    claim = Claim(possible)
    wanted = {"corrected": True, "uncorrected": False}.get(settings["attenuation_correction"])
    if wanted is not None and len(possible) > 1:
        claim = _narrowed(claim, lambda f: f.corrected is (not wanted), "the other one as to attenuation correction")
    if len(claim.candidates) > 1:
        claim.problem = f"{len(claim.candidates)} candidates for {target}"
    elif claim.candidates and claim.candidates[0] not in sure:
        claim.problem = f"a SPECT that may show {target} or not"
    return claim


def _narrowed(claim: Claim, is_weaker: Callable[[Finding], bool], reason: str) -> Claim:
    """The claim without the weaker candidates, unless all of them are weaker."""
    weaker = [finding for finding in claim.candidates if is_weaker(finding)]
    if len(weaker) == len(claim.candidates):
        return claim
    rest = [finding for finding in claim.candidates if finding not in weaker]
    return Claim(rest, [*claim.others, *((finding, reason) for finding in weaker)])


# --- CT ------------------------------------------------------------------------------------------------------------


def _attenuation_claims(targets: Mapping[str, Claim], scans: Sequence[Finding]) -> dict[str, Claim]:
    """The camera's own CT: one for both SPECT images, or one for each where each has just one in its own frame."""
    own = {OWN_ATTENUATION_CT[target]: _in_own_frame(claim, scans) for target, claim in targets.items()}
    chosen = [claim.chosen for claim in own.values()]
    if all(chosen) and chosen[0] is not chosen[1]:
        return {"attenuation_ct": Claim()} | own
    spects = [spect for claim in targets.values() for spect in claim.candidates]
    return {"attenuation_ct": _attenuation_claim(spects, scans)} | {role: Claim() for role in own}


def _in_own_frame(target: Claim, scans: Sequence[Finding]) -> Claim:
    """CTs in the frame of reference of a SPECT that is decided."""
    spect = target.chosen
    found = _cameras_own(spect, scans) if spect else []
    return Claim([scan for scan in found if spect and _same_frame(spect, scan)])


def _attenuation_claim(spects: Sequence[Finding], scans: Sequence[Finding]) -> Claim:
    """The camera's own CT: in the SPECT's frame of reference, else of its study or day and so described.

    Two different ones are for a human.
    """
    found: dict[str, Finding] = {}
    for spect in spects:
        for scan in _cameras_own(spect, scans):
            found[scan.series.cell] = scan
    claim = Claim(list(found.values()))
    if len(claim.candidates) > 1:
        claim.problem = f"{len(claim.candidates)} candidates for attenuation_ct"
    return claim


def _cameras_own(spect: Finding, scans: Sequence[Finding]) -> list[Finding]:
    """CTs with the strongest claim to be a SPECT's attenuation CT."""
    ranks = [(_attenuation_rank(spect, scan), scan) for scan in scans]
    best = max((rank for rank, _ in ranks), default=0)
    return [scan for rank, scan in ranks if rank == best and rank > 0]


def _attenuation_rank(spect: Finding, scan: Finding) -> int:
    """Strength of a claim, 0: none."""
    same_study = spect.series.study == scan.series.study
    days = _days(spect, scan)
    near = same_study or (days is not None and abs(days) < 1)
    if _same_frame(spect, scan):
        return 3 + scan.low_dose
    return (2 if same_study else 1) if scan.low_dose and near else 0


def _same_frame(spect: Finding, scan: Finding) -> bool:
    frames = (spect.series.facts.frame, scan.series.facts.frame)
    return bool(frames[0]) and frames[0] == frames[1]


def _ct_claim(
    session: Sequence[Finding], cameras: set[str], scans: Sequence[Finding], settings: Mapping[str, Any]
) -> Claim:
    """The diagnostic CT: no camera's own, nearest in days, not derived, thin slices."""
    claim = Claim([scan for scan in scans if scan.series.cell not in cameras])
    if not claim.candidates:
        return _no_ct([scan for scan in scans if scan.series.cell in cameras])
    distances = {scan.series.cell: _distance(scan, session) for scan in claim.candidates}
    dated = [days for days in distances.values() if days is not None]
    if dated and min(dated) > settings["ct_days"]:
        nearest = f"the nearest CT is {min(dated)} days away, more than `discover.ct_days`"
        return Claim([], [(scan, nearest) for scan in claim.candidates], nearest)
    if len(claim.candidates) > 1:
        claim = _preferred(claim, distances, settings)
    if len(claim.candidates) > 1:
        claim.problem = f"{len(claim.candidates)} candidates for ct"
    elif claim.candidates[0].low_dose:
        claim.problem = "described as an attenuation CT, and no SPECT is near"
    return claim


def _no_ct(cameras: list[Finding]) -> Claim:
    """Where the camera's CT is the only one, the study may be made with it: that is for a human."""
    if not cameras:
        return Claim([], problem="no CT of the lungs")
    return Claim(cameras, problem="no diagnostic CT; the camera's own may be used as `ct`, beside its own column")


def _preferred(claim: Claim, distances: Mapping[str, int | None], settings: Mapping[str, Any]) -> Claim:
    """The nearest CTs; of these original ones before derived, thin slices before thick.

    A missing date decides nothing.
    """
    if None not in distances.values():
        least = min(days for days in distances.values() if days is not None)
        claim = _narrowed(claim, lambda f: (distances[f.series.cell] or 0) > least, "another CT is nearer in time")
    claim = _narrowed(claim, lambda f: f.low_dose, "described as an attenuation CT")
    claim = _narrowed(claim, lambda f: is_derived(f.series), "derived, and there is an original")
    finest = min(f.series.slice_mm or float("inf") for f in claim.candidates)
    limit = finest * settings["thicker_factor"]
    return _narrowed(claim, lambda f: (f.series.slice_mm or float("inf")) > limit, "another CT has thinner slices")


def _distance(scan: Finding, session: Iterable[Finding]) -> int | None:
    """Whole days between a CT and the nearest SPECT of a session, None if a date is missing."""
    days = [abs(days) for spect in session if (days := _days(scan, spect)) is not None]
    return min(days, default=None)


def _days(one: Finding, other: Finding) -> int | None:
    """Days from the date of `other` to that of `one`."""
    if one.taken is None or other.taken is None:
        return None
    return (one.taken.date() - other.taken.date()).days
