"""The parts of a flag-state (`monitoring.flags`) as FHIR extensions, and back."""

from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from monitoring.case import Reason
from monitoring.extents import STEPS, Extent, Side
from monitoring.measures import MEASURES, UCUM
from monitoring.outcomes import OUTCOMES, SYSTEM
from monitoring.states import STATES, UNDO, Move

JSON = dict[str, Any]


def reason_parts(reason: Reason) -> list[JSON]:
    parts: list[JSON] = [
        {"url": "text", "valueString": reason["text"]},
        {"url": "measure", "valueCode": reason["measure"]},
    ]
    if reason["value"] is not None:
        measure = MEASURES[reason["measure"]]
        quantity = {
            "value": _number(reason["value"]),
            "unit": measure.shown,
            "system": UCUM,
            "code": measure.unit,
        }
        parts.append({"url": "value", "valueQuantity": quantity})
    if reason["word"] is not None:
        parts.append({"url": "word", "valueCode": reason["word"]})
    parts.append({"url": "at", "valueDateTime": reason["at"]})
    if reason["observation"]:
        parts.append({"url": "observation", "valueReference": {"reference": f"Observation/{reason['observation']}"}})
    return parts


def reason_of(parts: list[JSON]) -> Reason:
    one = {part["url"]: part for part in parts}
    quantity = one["value"]["valueQuantity"] if "value" in one else None
    return Reason(
        text=one["text"]["valueString"],
        measure=one["measure"]["valueCode"],
        value=float(quantity["value"]) if quantity else None,
        word=cast(str | None, one["word"]["valueCode"]) if "word" in one else None,
        unit=MEASURES[one["measure"]["valueCode"]].unit,
        at=one["at"]["valueDateTime"],
        observation=tail(one["observation"]["valueReference"]["reference"]) if "observation" in one else "",
    )


def extent_parts(one: Extent) -> list[JSON]:
    return [
        {"url": "measure", "valueCode": one["measure"]},
        {"url": "side", "valueCode": one["side"]},
        {"url": "value", "valueDecimal": _number(one["value"])},
    ]


def extent_of(parts: list[JSON]) -> Extent:
    one = {part["url"]: part for part in parts}
    measure, side = one["measure"]["valueCode"], one["side"]["valueCode"]
    if measure not in STEPS or side not in ("low", "high"):
        raise ValueError(f"no extent of {measure!r} goes {side!r}")
    return Extent(measure=measure, side=cast(Side, side), value=float(one["value"]["valueDecimal"]))


def _number(value: float) -> int | Decimal:
    exact = Decimal(repr(value))
    return int(exact) if exact == exact.to_integral_value() else exact


def who_of(part: JSON | None) -> tuple[str | None, datetime | None, str | None]:
    if part is None:
        return None, None, None
    one = {inner["url"]: inner for inner in part["extension"]}
    why = one["why"]["valueString"] if "why" in one else None
    return one["by"]["valueReference"]["reference"], instant(one["at"]["valueDateTime"]), why


def instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at


def tail(reference: str) -> str:
    return reference.rpartition("/")[2]


def outcome_part(code: str) -> JSON:
    outcome = OUTCOMES.get(code)
    return {"system": SYSTEM, "code": code} | ({"display": outcome.words} if outcome else {})


def outcome_of(part: JSON) -> str:
    code: str = part["valueCoding"]["code"]
    if code not in OUTCOMES:
        raise ValueError(f"no outcome is called {code!r}")
    return code


def move_parts(one: Move) -> list[JSON]:
    parts: list[JSON] = [
        {"url": "to", "valueCode": one["to"]},
        {"url": "at", "valueDateTime": one["at"]},
        {"url": "by", "valueReference": {"reference": one["by"]}},
        {"url": "why", "valueString": one["why"]},
    ]
    if one["code"] == UNDO:
        parts.append({"url": "undo", "valueBoolean": True})
    elif one["code"] is not None:
        parts.append({"url": "outcome", "valueCoding": outcome_part(one["code"])})
    if one["until"] is not None:
        parts.append({"url": "until", "valueDateTime": one["until"]})
    return parts


def move_of(parts: list[JSON]) -> Move:
    one = {part["url"]: part for part in parts}
    to: str = one["to"]["valueCode"]
    if to not in STATES:
        raise ValueError(f"no flag is {to!r}")
    code = outcome_of(one["outcome"]) if "outcome" in one else None
    return Move(
        to=to,
        at=instant(one["at"]["valueDateTime"]).isoformat(),
        by=one["by"]["valueReference"]["reference"],
        why=one["why"]["valueString"],
        code=UNDO if one.get("undo", {}).get("valueBoolean") is True else code,
        until=instant(one["until"]["valueDateTime"]).isoformat() if "until" in one else None,
    )
