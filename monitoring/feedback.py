"""What a person is told at once about a reading of theirs: that it came, what it means in plain words, what to do next,
and whether anybody looks at it now. Never reassurance, never a diagnosis (monitoring-rules 4.10, duties 4 and 12).

The words are data (`data/feedback.json`). A rule that has advice of its own goes before them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring.case import Finding
from monitoring.cover import Cover
from monitoring.doubts import Doubt
from monitoring.hours import DAYS, LONDON, clock
from monitoring.limits import AMBER, RED

WORDS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "feedback.json").read_text())

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# What is doubtful about a reading, and what is said of it, the first that applies.
_DOUBTS = {"test": "test", "late": "late", "check-reading": "check"}


@dataclass(frozen=True, slots=True)
class Feedback:
    """`kind` is one of the meanings in the data; `next` what to do, the most urgent first; `urgent`: at once."""

    kind: str
    meaning: str
    next: tuple[str, ...]
    watching: str

    @property
    def urgent(self) -> bool:
        return self.kind in ("red", "amber", "repeat", "check")


def feedback(findings: Iterable[Finding], doubts: Sequence[Doubt], cover: Cover, now: datetime) -> Feedback:
    """Of readings that came together: what the gravest of the *findings* says, else what is doubtful about them."""
    ranked = sorted((one for one in findings if one.kind == "clinical"), key=lambda one: -one.severity)
    kind = _kind(ranked[0]) if ranked else _doubtful(doubts)
    advice = dict.fromkeys(one.advice for one in ranked if one.advice)
    return Feedback(kind, WORDS["meaning"][kind], tuple(advice) or (WORDS["next"][kind],), watching(cover, now))


def watching(cover: Cover, now: datetime) -> str:
    """Whether anybody looks at readings now, and if not, from when on and what to do until then."""
    said: dict[str, str] = WORDS["watching"]
    opens = cover.hours.opens(now)
    if opens is None:
        return said["never"]
    if opens == now:
        closes = cover.hours.closes(now)
        return said["open"].format(closes=_when(closes, now)) if closes else said["never"]
    key = "closed-on-call" if cover.on_call_phone else "closed"
    return said[key].format(opens=_when(opens, now, on=True), phone=cover.on_call_phone)


def _kind(finding: Finding) -> str:
    if finding.severity == RED:
        return "red"
    if finding.repeat:
        return "repeat"
    return "amber" if finding.severity == AMBER else "information"


def _doubtful(doubts: Sequence[Doubt]) -> str:
    codes = {one.code for one in doubts}
    return next((kind for code, kind in _DOUBTS.items() if code in codes), "none")


def _when(at: datetime, now: datetime, on: bool = False) -> str:
    """`5pm`, `today at 9am`, `tomorrow at 9am`, `on Monday at 9am`, `on 29 December at 9am`."""
    local, today = at.astimezone(LONDON), now.astimezone(LONDON).date()
    time = clock(local.hour * 60 + local.minute)
    days = (local.date() - today).days
    if days == 0 and not on:
        return time
    if days <= 1:
        return f"{'today' if days == 0 else 'tomorrow'} at {time}"
    if local.date() - today < timedelta(days=7):
        return f"on {DAYS[local.weekday()]} at {time}"
    return f"on {local.day} {MONTHS[local.month - 1]} at {time}"
