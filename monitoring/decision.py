"""What a finding does to the flags of a person: opens one, adds to the live one, calls for eyes again, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from monitoring.case import Finding, Reason
from monitoring.extents import Extent, breaks, exceeds, extent
from monitoring.flags import ACKNOWLEDGED, OPEN, Flag

MOST_REASONS = 40
MOST_OBSERVATIONS = 100
"""What a flag lists at most, newest kept; `count` goes on counting. The readings themselves stay in the record."""


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

    Severity rises and never falls. An acknowledged flag is open again when it rises, and when a value goes a step
    further than what was acknowledged (`extents.STEPS`). The same readings once more, or readings within the rule's
    quiet time that go no further than those listed, change nothing; a reading that was corrected does, or the flag
    would go on showing a value that is no longer the reading's, and so do words that are no longer true.
    """
    if live is None:
        flag = Flag(
            id=id,
            version=0,
            patient_id=finding.patient_id,
            hub_id=hub_id,
            rule=finding.rule,
            rule_version=finding.rule_version,
            kind=finding.kind,
            severity=finding.severity,
            state=OPEN,
            summary=finding.summary,
            reasons=list(finding.reasons)[:MOST_REASONS],
            observations=list(finding.observations)[-MOST_OBSERVATIONS:],
            count=1,
            opened=now,
            refreshed=now,
            advice=finding.advice,
            extents=list(finding.extents),
        )
        return Decision("open", flag, worse=True)
    acknowledged = live.state == ACKNOWLEDGED
    worse = finding.severity > live.severity or (
        acknowledged and breaks(finding.extents, finding.severity, live.extents)
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
        extents=live.extents if acknowledged and not worse else list(finding.extents) or live.extents,
    )
    if worse and acknowledged:
        flag = replace(flag, state=OPEN, acknowledged_by=None, acknowledged_at=None, acknowledged_why=None)
    return Decision("refresh", flag, worse)


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
