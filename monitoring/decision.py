"""What a finding does to the flags of a person: opens one, adds to the live one, calls for eyes again, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from monitoring.case import Finding, Reason
from monitoring.extents import Extent, breaks, exceeds, extent
from monitoring.flags import AUTHOR, Flag
from monitoring.limits import RED
from monitoring.moves import by_engine
from monitoring.rules import CLINICAL
from monitoring.states import CONFIRMING, OPEN, SEEN, Move

MOST_REASONS = 40
MOST_OBSERVATIONS = 100
"""What a flag lists at most, newest kept; `count` goes on counting. The readings themselves stay in the record."""

CONFIRM_WITHIN = timedelta(hours=24)
"""How far from a reading the second one may be that confirms it, and so how long a flag waits for it. Ours."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a finding does: `open` a flag, `refresh` the open one (`worse`: it needs eyes again), or nothing (None)."""

    act: Literal["open", "refresh"]
    flag: Flag
    worse: bool = field(default=False)


def decide(
    live: Flag | None, finding: Finding, now: datetime, *, id: str, hub_id: str | None = None
) -> Decision | None:
    """One live flag per rule and person: a finding opens it (with *id*), or adds what is new to the live one.

    A finding that asks for a repeat, and is not red, opens a flag that waits (`confirming`) until a second reading goes
    the same way; red opens at once. Severity rises and never falls. A flag that somebody has seen, a snoozed one too,
    is open again when it rises, and when a value goes a step further than what was seen (`extents.STEPS`). The same
    readings once more, or readings within the rule's quiet time that go no further than those listed, change nothing; a
    reading that was corrected does, or the flag would go on showing a value that is no longer the reading's, and so do
    words that are no longer true.
    """
    if live is None:
        state = CONFIRMING if _waits(finding) else OPEN
        flag = Flag(
            id=id,
            version=0,
            patient_id=finding.patient_id,
            hub_id=hub_id,
            rule=finding.rule,
            rule_version=finding.rule_version,
            kind=finding.kind,
            severity=finding.severity,
            state=state,
            summary=finding.summary,
            reasons=list(finding.reasons)[:MOST_REASONS],
            observations=list(finding.observations)[-MOST_OBSERVATIONS:],
            count=1,
            opened=now,
            refreshed=now,
            advice=finding.advice,
            extents=list(finding.extents),
            moves=[Move(to=state, at=now.isoformat(), by=AUTHOR, why=finding.summary, code=None, until=None)],
        )
        return Decision("open", flag, worse=True)
    seen = live.state in SEEN
    confirmed = live.state == CONFIRMING and (not _waits(finding) or _repeats(finding, live))
    worse = (
        confirmed
        or finding.severity > live.severity
        or (seen and breaks(finding.extents, finding.severity, live.extents))
    )
    # A part of NEWS2 that scores nothing is no reason by itself, yet completes a score that the flag calls partial.
    says_more = finding.severity >= live.severity and finding.summary != live.summary
    nothing_new = set(finding.observations) <= set(live.observations) and not says_more
    quiet = now - live.refreshed < finding.quiet and not exceeds(finding.extents, _furthest(live))
    if not worse and not _corrects(finding, live) and (nothing_new or quiet):
        return None
    # What opens a flag again is what it says then, also where something graver was acknowledged.
    speaks = worse or finding.severity >= live.severity
    flag = replace(
        live,
        rule_version=finding.rule_version,
        severity=max(live.severity, finding.severity),
        summary=finding.summary if speaks else live.summary,
        advice=finding.advice if speaks else live.advice,
        reasons=_merge(finding.reasons, live.reasons),
        observations=list(dict.fromkeys((*live.observations, *finding.observations)))[-MOST_OBSERVATIONS:],
        count=live.count + 1,
        refreshed=now,
        extents=live.extents if seen and not worse else list(finding.extents) or live.extents,
    )
    if confirmed:
        flag = by_engine(flag, OPEN, now, f"Confirmed: {finding.summary}")
    elif worse and seen:
        flag = by_engine(flag, OPEN, now, f"Worse: {finding.summary}")
    return Decision("refresh", flag, worse)


def _waits(finding: Finding) -> bool:
    """Whether *finding* counts for more once a second reading confirms it. A doubtful reading is no finding about the
    person: it waits for somebody to look."""
    return finding.repeat and finding.severity < RED and finding.kind == CLINICAL


def _repeats(finding: Finding, live: Flag) -> bool:
    """Whether *finding* is a second reading that goes the way of those that wait, at most CONFIRM_WITHIN from them."""
    sides = {(one["measure"], one["side"]) for one in live.extents}
    if not any((one["measure"], one["side"]) in sides for one in finding.extents):
        return False
    known = [(one["observation"], datetime.fromisoformat(one["at"])) for one in live.reasons]
    return any(
        one["observation"] not in live.observations
        and any(abs(datetime.fromisoformat(one["at"]) - at) <= CONFIRM_WITHIN for _, at in known)
        for one in finding.reasons
    )


def _furthest(live: Flag) -> list[Extent]:
    """How far the readings that are listed with the flag go, one for each of its extents."""
    found = []
    for one in live.extents:
        values = [each["value"] for each in live.reasons if each["measure"] == one["measure"]]
        known = [value for value in (*values, one["value"]) if value is not None]
        found.append(extent(one["measure"], one["side"], (min if one["side"] == "low" else max)(known)))
    return found


def _corrects(finding: Finding, live: Flag) -> bool:
    """Whether a reading that is listed with the flag has another value now."""
    listed = {(one["observation"], one["measure"]): (one["value"], one["word"]) for one in live.reasons}
    found = {(one["observation"], one["measure"]): (one["value"], one["word"]) for one in finding.reasons}
    return any(listed[one] != found[one] for one in listed.keys() & found.keys())


def _merge(new: Sequence[Reason], old: Sequence[Reason]) -> list[Reason]:
    merged = {(one["observation"], one["measure"]): one for one in (*old[::-1], *new[::-1])}
    return list(merged.values())[::-1][:MOST_REASONS]
