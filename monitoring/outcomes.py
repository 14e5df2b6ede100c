"""How a flag ends, as coded data: what was done about it, or why it was a false alarm. The usefulness report counts it.

Which codes there are is ours; a code is never removed, since flags that have ended keep theirs.
"""

from dataclasses import dataclass

SYSTEM = "https://carehub.example/fhir/CodeSystem/flag-outcome"

RESOLVED, FALSE_ALARM = "resolved", "false-alarm"

NOT_CONFIRMED = "not-confirmed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ends` is the state in which the flag ends; `acted`: somebody did something because of it. `chosen`: people may
    choose it; the others are said by the engine alone."""

    code: str
    words: str
    ends: str
    acted: bool = False
    chosen: bool = True


_ALL = (
    Outcome("phone-call", "Telephoned", RESOLVED, acted=True),
    Outcome("visit", "Visited", RESOLVED, acted=True),
    Outcome("medication-change", "Medicines changed", RESOLVED, acted=True),
    Outcome("gp", "Passed to the GP", RESOLVED, acted=True),
    Outcome("emergency", "999 or hospital", RESOLVED, acted=True),
    Outcome("other-action", "Something else was done", RESOLVED, acted=True),
    Outcome("none-needed", "Looked at; nothing was needed", RESOLVED),
    Outcome(NOT_CONFIRMED, "No second reading confirmed it", RESOLVED, chosen=False),
    Outcome("artefact", "The measurement went wrong (cold fingers, movement, cuff)", FALSE_ALARM),
    Outcome("wrong-person", "Somebody else was measured", FALSE_ALARM),
    Outcome("known-accepted", "Known and accepted for this person", FALSE_ALARM),
    Outcome("device-fault", "The device is faulty", FALSE_ALARM),
    Outcome("rule-too-sensitive", "The rule is too sensitive", FALSE_ALARM),
    Outcome("other", "Another reason", FALSE_ALARM),
)

OUTCOMES: dict[str, Outcome] = {one.code: one for one in _ALL}

ACTED = frozenset(one.code for one in _ALL if one.acted)


def chosen(ends: str) -> tuple[Outcome, ...]:
    """What people choose from when a flag ends as *ends*."""
    return tuple(one for one in _ALL if one.ends == ends and one.chosen)
