"""A Questionnaire filled in as far as the record knows the answers: a QuestionnaireResponse in progress.

After SDC's `$populate` (http://hl7.org/fhir/uv/sdc/), for the parts that need no engine: an item is answered by what it
says it is, in this order: `initialExpression` with a plain path from `%patient`, `definition` of an element of Patient,
`code` of an observation, `initial`. Whoever answers sees where a value comes from and how old it is, and changes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from care_plans.shapes import EXTENSION, codings
from fhir.fhirpath_evaluation import compiled
from fhir.fhirpath_values import Scope
from fhir.index import instants
from fhir.outcome import refuse

JSON = dict[str, Any]
Code = tuple[str | None, str]

_SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/"
_PATIENT = "http://hl7.org/fhir/StructureDefinition/Patient"
MOST_ITEMS = 2_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the record knows of one person: the Patient, and Observations, the newest of a code first."""

    patient: JSON
    observations: Sequence[JSON]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Value:
    """A FHIR value with its type (`Quantity`); *source* and *at* where it was observed."""

    type: str
    value: Any
    source: str | None = None
    at: str | None = None


def codes_of(questionnaire: JSON) -> list[Code]:
    """The codes of the questions, to look for in observations. Refusal 422 for more than MOST_ITEMS."""
    items = [item for item in _items(questionnaire) if item.get("type") not in ("group", "display")]
    if len(items) > MOST_ITEMS:
        raise refuse(422, "too-costly", f"it asks more than {MOST_ITEMS:,} questions", "Questionnaire.item")
    found = [(one.get("system"), one["code"]) for item in items for one in item.get("code", ()) if "code" in one]
    return list(dict.fromkeys(found))


def populate(questionnaire: JSON, known: Known) -> JSON:
    """The response. Refusal 422 for a questionnaire that is retired or asks about somebody else than a Patient."""
    if questionnaire.get("status") == "retired":
        raise refuse(422, "business-rule", "the Questionnaire is retired", "Questionnaire.status")
    if "Patient" not in questionnaire.get("subjectType", ("Patient",)):
        raise refuse(422, "not-supported", "it is not about a Patient", "Questionnaire.subjectType")
    url, version = questionnaire.get("url"), questionnaire.get("version")
    named = f"{url}|{version}" if url and version else url or f"Questionnaire/{questionnaire.get('id', '')}"
    response: JSON = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": named,
        "status": "in-progress",
        "subject": {"reference": f"Patient/{known.patient['id']}"},
        "authored": known.now.isoformat(timespec="seconds"),
    }
    items = [_answered(item, known) for item in questionnaire.get("item", ()) if item.get("type") != "display"]
    return response | ({"item": items} if items else {})


def _answered(item: JSON, known: Known) -> JSON:
    made: JSON = {name: item[name] for name in ("linkId", "definition", "text") if name in item}
    below = [_answered(child, known) for child in item.get("item", ()) if child.get("type") != "display"]
    if item.get("type") == "group":
        return made | ({"item": below} if below else {})
    answers = _answers(item, known)
    if answers and below:
        answers[0]["item"] = below
    return made | ({"answer": answers} if answers else {})


def _answers(item: JSON, known: Known) -> list[JSON]:
    for value in _values(item, known):
        answer = _answer(item, value)
        if answer is not None:
            return [answer]
    kept = [{name: value for name, value in one.items() if name.startswith("value")} for one in item.get("initial", ())]
    kept += [
        {name: one[name] for name in one if name.startswith("value")}
        for one in item.get("answerOption", ())
        if one.get("initialSelected")
    ]
    return kept if item.get("repeats") else kept[:1]


def _values(item: JSON, known: Known) -> Iterator[_Value]:
    """What the record says, the best first."""
    expression = _extension(item, f"{_SDC}sdc-questionnaire-initialExpression", "valueExpression") or {}
    path = str(expression.get("expression", ""))
    if expression.get("language") == "text/fhirpath" and path.startswith("%patient."):
        yield from _found(path.removeprefix("%patient."), known)
    definition = str(item.get("definition", ""))
    if definition.startswith(f"{_PATIENT}#Patient."):
        yield from _found(definition.removeprefix(f"{_PATIENT}#Patient."), known)
    wanted = {(one.get("system"), one["code"]) for one in item.get("code", ()) if "code" in one}
    yield from _observed(wanted, _oldest(item, known), known)


def _found(path: str, known: Known) -> Iterator[_Value]:
    """The first value of a path of the Patient; nothing for one that is not understood."""
    try:
        found = compiled(path)([known.patient], Scope(known.patient, known.patient))
    except ValueError:
        return
    for value in found[:1]:
        if isinstance(value, bool):
            yield _Value("boolean", value)
        elif isinstance(value, dict):
            yield _Value("string", _text(value))
        elif isinstance(value, str):
            yield _Value("string", value)


def _observed(wanted: set[Code], oldest: datetime | None, known: Known) -> Iterator[_Value]:
    """The newest observation of one of the codes, in a component too. What says no time is not known to be recent."""
    best: tuple[datetime, _Value] | None = None
    for observation in known.observations:
        at = observation.get("effectiveDateTime") or observation.get("effectivePeriod", {}).get("start")
        if at is None or not wanted:
            continue
        when = instants(at)[0]
        if (oldest is not None and when < oldest) or (best is not None and when <= best[0]):
            continue
        for part in (observation, *observation.get("component", ())):
            name = next((one for one in part if one.startswith("value")), None)
            if name is not None and wanted & set(codings(part.get("code"))):
                source = f"Observation/{observation['id']}"
                best = when, _Value(name.removeprefix("value"), part[name], source, at)
                break
    if best is not None:
        yield best[1]


def _oldest(item: JSON, known: Known) -> datetime | None:
    """From when an observation counts, when the item says so (SDC's observationLinkPeriod)."""
    period = _extension(item, f"{_SDC}sdc-questionnaire-observationLinkPeriod", "valueDuration")
    days = {"h": 1 / 24, "d": 1, "wk": 7, "mo": 30.4375, "a": 365.25}.get((period or {}).get("code", ""))
    if period is None or days is None or "value" not in period:
        return None
    return datetime.fromtimestamp(known.now.timestamp() - float(period["value"]) * days * 86_400, known.now.tzinfo)


def _answer(item: JSON, value: _Value) -> JSON | None:
    """The value as this item takes it; None when it does not fit."""
    made: JSON | None = _FITTING.get(item.get("type", ""), _none)(item, value)
    if made is None or value.source is None:
        return made
    origin = [
        {"url": "observation", "valueReference": {"reference": value.source}},
        {"url": "observed", "valueDateTime": value.at},
    ]
    return {"extension": [{"url": f"{EXTENSION}prefilled-from", "extension": origin}], **made}


def _string(item: JSON, value: _Value) -> JSON | None:
    text = (
        value.value if isinstance(value.value, str) else _text(value.value) if isinstance(value.value, dict) else None
    )
    most = item.get("maxLength")
    return {"valueString": text} if text and (most is None or len(text) <= most) else None


def _date(item: JSON, value: _Value) -> JSON | None:
    text = value.value[:10] if isinstance(value.value, str) else ""
    try:
        instants(text)
    except ValueError:
        return None
    return {"valueDate": text}


def _number(item: JSON, value: _Value) -> JSON | None:
    """The number of a quantity only where the item says its unit: a bare 70 may be anything."""
    number: Any = value.value
    if isinstance(number, dict):
        if "comparator" in number:
            return None
        unit, number = number.get("code"), number.get("value")
        asked = _extension(item, "http://hl7.org/fhir/StructureDefinition/questionnaire-unit", "valueCoding") or {}
        if unit is not None and asked.get("code") != unit:
            return None
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return None
    if item["type"] == "integer":
        return {"valueInteger": int(number)} if number == int(number) else None
    return {"valueDecimal": number}


def _quantity(item: JSON, value: _Value) -> JSON | None:
    return {"valueQuantity": value.value} if value.type == "Quantity" else None


def _boolean(item: JSON, value: _Value) -> JSON | None:
    return {"valueBoolean": value.value} if isinstance(value.value, bool) else None


def _choice(item: JSON, value: _Value) -> JSON | None:
    """The option that is meant; a word of one's own only where the item is open."""
    said = set(codings(value.value)) if isinstance(value.value, dict) else {(None, value.value)}
    for option in item.get("answerOption", ()):
        coding = option.get("valueCoding")
        if coding is not None and any(
            code == coding.get("code") and s in (None, coding.get("system")) for s, code in said
        ):
            return {"valueCoding": coding}
        if coding is None and option.get("valueString") == value.value:
            return {"valueString": value.value}
    return _string(item, value) if item["type"] == "open-choice" else None


def _none(item: JSON, value: _Value) -> JSON | None:
    return None


_FITTING: Mapping[str, Any] = {
    "string": _string, "text": _string, "date": _date, "integer": _number, "decimal": _number, "quantity": _quantity,
    "boolean": _boolean, "choice": _choice, "open-choice": _choice,
}  # fmt: skip


def _text(value: JSON) -> str:
    """A name, address, identifier, contact or concept in words."""
    if value.get("text"):
        return str(value["text"])
    if "family" in value or "given" in value:
        return " ".join([*value.get("given", ()), value.get("family", "")]).strip()
    if "line" in value or "postalCode" in value:
        return ", ".join([*value.get("line", ()), *(value[one] for one in ("city", "postalCode") if one in value)])
    first: JSON = next(iter(value.get("coding", ())), {})
    return str(value.get("value") or first.get("display") or first.get("code") or "")


def _items(holder: JSON) -> Iterator[JSON]:
    for item in holder.get("item", ()):
        yield item
        yield from _items(item)


def _extension(item: JSON, url: str, key: str) -> JSON | None:
    found = next((one for one in item.get("extension", ()) if one.get("url") == url), None)
    value: JSON | None = (found or {}).get(key)
    return value
