"""Why an accepted Observation is watched less than its sender may think: nobody is to believe that it alarms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir.outcome import Issue
from monitoring.evaluation import LATE
from monitoring.readings import OK, SANDBOX, WRONG, Reading, unknown_parts

JSON = dict[str, Any]

# What each code tells a program, with the issue type of FHIR that stands nearest.
CODES = {
    "no-reading": "code-invalid",
    "unknown-part": "code-invalid",
    "check-reading": "business-rule",
    "late": "business-rule",
    "test": "informational",
    "device-clock": "business-rule",
}

CLOCK_OFF = 300.0
"""Seconds by which a device's clock may be off before its readings carry a doubt."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """`code` is one of CODES; `text` says to people what it means."""

    code: str
    text: str
    expression: str

    def issue(self) -> Issue:
        return Issue(CODES[self.code], self.text, self.expression, severity="warning")


NO_READING = Doubt(
    "no-reading",
    "Kept as a record, but no rule looks at it: it has no code of a measure that is known here, no value, or a status"
    " that is not yet or no longer one of a reading.",
    "Observation.code",
)
TEST = Doubt("test", "A test reading of a real person: charted as such, and no rule looks at it.", "Observation.meta")
LATE_READING = Doubt(
    "late",
    f"Measured more than {LATE.days * 24 + LATE.seconds // 3600} hours ago: it is charted, and raises no flag.",
    "Observation.effective",
)


def doubts(observation: JSON, found: Sequence[Reading], now: datetime) -> tuple[Doubt, ...]:
    """What is doubtful about *observation*, whose readings are *found*; empty when the rules look at all of it."""
    if not found:
        return (NO_READING,)
    first = found[0]
    late = now - first.at > LATE
    # Nearly every reading ends here: this is said of each one that comes in.
    if not late and "component" not in observation and all([one.quality == OK for one in found]):
        return ()
    told = [Doubt("check-reading", one.why, "Observation.value") for one in found if one.why and one.quality != OK]
    for place in unknown_parts(observation):
        text = "No rule looks at this part: it has no code of a measure that is known here."
        told.append(Doubt("unknown-part", text, f"Observation.component[{place}].code"))
    if first.quality == SANDBOX:
        told.append(TEST)
    elif first.quality != WRONG and late:
        told.append(LATE_READING)
    return tuple(told)


def clock_doubt(off: float | None) -> Doubt | None:
    """What is doubtful about any time that a device says whose clock is *off* by so many seconds (ahead: positive)."""
    if off is None or abs(off) <= CLOCK_OFF:
        return None
    minutes = round(abs(off) / 60)
    shown = f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
    text = (
        f"The device's clock is about {shown} {'ahead' if off > 0 else 'behind'}: when this was measured is in doubt."
    )
    return Doubt("device-clock", text, "Observation.effective")
