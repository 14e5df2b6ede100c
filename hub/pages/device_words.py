"""What pages about devices say: why a message was refused and what to do, batteries, clocks and times."""

from datetime import datetime
from typing import Any

from hub.fleet import LOW_BATTERY, Message, Row, Use
from hub.pages import words
from monitoring.doubts import CLOCK_OFF
from monitoring.instruments import INSTRUMENTS

# Code under which a message was refused -> what happened, and what to do about it.
REFUSED: dict[str, tuple[str, str]] = {
    "wrong-unit": ("The unit is none that this measure has.", "Have the device send one of the units that are listed."),
    "unknown-answer": (
        "The answer is not one that is known.",
        "Have the device send one of the codes that are listed.",
    ),
    "impossible-value": ("The number is none that anything measures.", "Look at the device: it may be broken."),
    "future-time": ("It was measured in the future.", "Set the device's clock, and its time zone."),
    "no-time": ("It does not say when it was measured.", "Have it send effectiveDateTime with seconds and an offset."),
    "unknown-patient": (
        "It names somebody who never held this device.",
        "Check whom the device is set up for, and who holds it here.",
    ),
    "outside-assignment": (
        "It was measured when the person it names did not hold the device.",
        "Check since when the device is whose; if it was handed over at another time, say so here.",
    ),
    "unassigned-device": (
        "Nobody holds the device, or another device is named.",
        "Hand it to somebody, or check its id.",
    ),
    "conflict": (
        "It gives another value for a reading that is known.",
        "To correct one, send it with status corrected; two in one second need an identifier each.",
    ),
    "forbidden": ("It asked for something that a device may not do.", "A device posts Observations, and no more."),
    "too-long": ("It is too long.", "Send less at a time."),
    "too-costly": ("It has too many parts.", "Send less at a time."),
    "not-supported": ("It is of a kind that is not taken here.", "Compare it with the examples for integrators."),
}
OTHERWISE = "It is not a valid FHIR Observation.", "Compare it with the examples for integrators."

OUTCOMES = {"stored": "Stored", "refused": "Refused", "duplicate": "Known already", "record": "Kept as a record"}


def refusal(code: str | None) -> tuple[str, str]:
    """What happened, and what to do."""
    return REFUSED.get(code or "", OTHERWISE)


def message(one: Message, now: datetime) -> dict[str, Any]:
    happened, do = refusal(one.reason) if one.outcome == "refused" else ("", "")
    text = one.what or ("A reading" if one.outcome == "stored" else "")
    if one.outcome == "duplicate":
        text = "Sent again: nothing was stored twice"
    elif one.outcome == "record":
        text = words.sentence(one.detail or "") or "No rule looks at it"
    tests = ", a test" if one.quality == "sandbox" else ""
    return {
        "at": f"{words.clock(one.at)}:{one.at.astimezone(words.LONDON):%S}",
        "day": words.day(one.at.astimezone(words.LONDON).date(), now.astimezone(words.LONDON).date()),
        "outcome": OUTCOMES[one.outcome] + tests,
        "mark": {"refused": "red", "stored": "good"}.get(one.outcome, "info"),
        "text": text,
        "measured": f"measured {words.when(one.measured, now)}" if one.measured else "",
        "happened": happened,
        "do": do,
        "detail": one.detail if one.outcome in ("stored", "refused") else None,
    }


def row(one: Row, now: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "kind": kind(one.kind),
        "serial": one.serial,
        "held": one.held,
        "patient_id": one.patient_id,
        "person": words.person(one.family or "", one.given or "") if one.patient_id else None,
        "heard": heard(one.heard, now),
        "silent": one.silent,
        "expected": f"expected within {words.span(one.expected * 3600)}" if one.silent and one.expected else None,
        "battery": one.battery,
        "low": one.battery is not None and one.battery <= LOW_BATTERY,
        "clock": clock(one.clock_off),
        "paused": words.when(one.paused, now) if one.paused else None,
        "refused": one.refused,
        "why": refusal(one.reason)[0] if one.refused else None,
        "status": status(one.status, one.gone),
    }


def status(code: str, gone: str | None) -> str | None:
    """`Lost`, `Retired`, `Not in use`; None for a device that is in use."""
    return None if code == "active" else {"lost": "Lost", "retired": "Retired"}.get(gone or "", "Not in use")


def kind(key: str | None) -> str:
    known = INSTRUMENTS.get(key or "")
    return known.name if known else "Device of another kind"


def heard(at: datetime | None, now: datetime) -> str:
    return f"{words.when(at, now)} ({words.ago(at, now)})" if at else "never"


def clock(off: float | None) -> str | None:
    """`12 min ahead`; None for a clock that is right, or of which nothing is known."""
    if off is None or abs(off) <= CLOCK_OFF:
        return None
    return f"{words.span(abs(off))} {'ahead' if off > 0 else 'behind'}"


def use(one: Use, now: datetime) -> dict[str, Any]:
    return {
        "patient_id": one.patient_id,
        "person": words.person(one.family or "", one.given or "") if one.patient_id else "Somebody outside your care",
        "since": words.when(one.since, now) if one.since else "before anybody noted it",
        "until": words.when(one.until, now) if one.until else None,
    }
