"""The states of a flag, and the one table of moves between them (monitoring-rules 4.10).

raised -> (confirming) -> open -> acknowledged -> in progress -> resolved | escalated | snoozed | false alarm. A finding
is what raises; a flag begins as `confirming` (a second reading is asked for) or `open`.
"""

from typing import TypedDict

CONFIRMING, OPEN, ESCALATED = "confirming", "open", "escalated"
ACKNOWLEDGED, IN_PROGRESS, SNOOZED = "acknowledged", "in-progress", "snoozed"
RESOLVED, FALSE_ALARM = "resolved", "false-alarm"

STATES = (CONFIRMING, OPEN, ESCALATED, ACKNOWLEDGED, IN_PROGRESS, SNOOZED, RESOLVED, FALSE_ALARM)
CALLING = frozenset({OPEN, ESCALATED})
"""Somebody has to look, and nobody says that they have."""
SEEN = frozenset({ACKNOWLEDGED, IN_PROGRESS, SNOOZED})
"""Somebody said that they have looked."""
ENDED = frozenset({RESOLVED, FALSE_ALARM})

WORDS = {
    CONFIRMING: "Waiting for a second reading",
    OPEN: "Open",
    ESCALATED: "Escalated",
    ACKNOWLEDGED: "Acknowledged",
    IN_PROGRESS: "In progress",
    SNOOZED: "Snoozed",
    RESOLVED: "Resolved",
    FALSE_ALARM: "False alarm",
}

_ANSWERS = frozenset({ACKNOWLEDGED, IN_PROGRESS, SNOOZED, ESCALATED, RESOLVED, FALSE_ALARM})

BY_PEOPLE: dict[str, frozenset[str]] = {
    CONFIRMING: frozenset({ACKNOWLEDGED, IN_PROGRESS, RESOLVED, FALSE_ALARM}),
    OPEN: _ANSWERS,
    ESCALATED: _ANSWERS,
    ACKNOWLEDGED: _ANSWERS - {ACKNOWLEDGED},
    IN_PROGRESS: _ANSWERS - {ACKNOWLEDGED, IN_PROGRESS},
    SNOOZED: (_ANSWERS - {SNOOZED}) | {OPEN},
    RESOLVED: frozenset(),
    FALSE_ALARM: frozenset(),
}
"""From each state, those into which people move a flag. What has ended stays ended, but for undoing a mistake."""

BY_ENGINE: dict[str, frozenset[str]] = {
    CONFIRMING: frozenset({OPEN, RESOLVED}),
    OPEN: frozenset({ESCALATED}),
    ESCALATED: frozenset({ESCALATED}),
    ACKNOWLEDGED: frozenset({OPEN}),
    IN_PROGRESS: frozenset({OPEN}),
    SNOOZED: frozenset({OPEN}),
    RESOLVED: frozenset(),
    FALSE_ALARM: frozenset(),
}
"""What readings and time bring about: a second reading, none, nobody who looks, a worse value, the end of a snooze."""

UNDO = "undo"


class Move(TypedDict):
    """One step of a flag's life. `at` and `until` are ISO 8601 with offset, `by` a reference; `code` is one of
    `outcomes.OUTCOMES` where the flag ends, or UNDO."""

    to: str
    at: str
    by: str
    why: str
    code: str | None
    until: str | None
