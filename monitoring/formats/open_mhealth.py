"""Open mHealth and IEEE 1752.1 data points: header and body, as schemas 1.x to 4.x of openmhealth/schemas write them.

A data point says no person: whoever held the device when it was measured is given as *subject*. Its own id becomes an
identifier, so that a data point that is sent again is known. What is a statistic (the lowest of a month), or was not
measured at rest, is kept as a record with its own code and no code of a measure: no rule may take it for a reading.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from monitoring.formats import FormatRefused
from monitoring.measures import LOINC, MEASURES, UCUM

JSON = dict[str, Any]

SYSTEM = "https://carehub.example/fhir/CodeSystem/open-mhealth"
"""Codes for what is no measure here: the schema's name, such as `blood-glucose`."""
IDENTIFIER = "https://carehub.example/fhir/Id/open-mhealth-data-point"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

VERSION = re.compile(r"[1-4]\.(\d+|x)(\.\w+)*")


@dataclass(frozen=True, slots=True)
class Kind:
    """A schema: the field of its value, and the measure that it is (or the two of a blood pressure)."""

    field: str
    measure: str
    needs_interval: bool = False


OMH: Mapping[str, Kind] = {
    "blood-pressure": Kind("systolic_blood_pressure", "systolic"),
    "heart-rate": Kind("heart_rate", "pulse"),
    "oxygen-saturation": Kind("oxygen_saturation", "spo2"),
    "body-temperature": Kind("body_temperature", "temperature"),
    "respiratory-rate": Kind("respiratory_rate", "respiratory-rate"),
    "body-weight": Kind("body_weight", "weight"),
    "blood-glucose": Kind("blood_glucose", "glucose"),
    "step-count": Kind("step_count", "steps", needs_interval=True),
}
IEEE: Mapping[str, Kind] = {"physical-activity": Kind("base_movement_quantity", "steps", needs_interval=True)}
KNOWN = {"omh": OMH, "ieee": IEEE}

# What a body may say beside its value. Where the words are listed, another one is refused: it may mean that this is no
# reading. The others are kept as a note.
WORDS: Mapping[str, frozenset[str]] = {
    "descriptive_statistic": frozenset(
        {"average", "count", "maximum", "median", "minimum", "standard deviation", "sum", "variance"}
        | {f"{n} percentile" for n in ("5th", "10th", "20th", "25th", "75th", "80th", "90th", "95th")}
        | {"first quartile", "third quartile", "lower limit", "upper limit"}
    ),
    "specimen_source": frozenset(
        {"capillary blood", "interstitial fluid", "whole blood", "venous blood", "plasma", "serum"}
        | {"tears", "sweat", "urine", "saliva", "control solution"}
    ),
    "temporal_relationship_to_meal": frozenset(
        {"fasting", "not fasting", "before meal", "after meal", "with meal", "with food", "2 hours postprandial"}
        | {f"{when} {meal}" for when in ("before", "after") for meal in ("breakfast", "lunch", "dinner")}
    ),
    "temporal_relationship_to_sleep": frozenset({"before sleeping", "during sleep", "on waking"}),
    "temporal_relationship_to_physical_activity": frozenset(
        {"at rest", "active", "before exercise", "during exercise", "after exercise"}
    ),
}
WORDS = {**WORDS, "blood_specimen_type": WORDS["specimen_source"]}
NOTED = (*WORDS, "body_posture", "measurement_location", "measurement_method", "user_notes", "activity_name")

MOVING = frozenset({"active", "during exercise", "after exercise"})
NO_BLOOD = frozenset({"tears", "sweat", "urine", "saliva", "control solution"})
DURATIONS = {"sec": 1, "min": 60, "h": 3600, "d": 86_400, "wk": 7 * 86_400}


def is_data_point(found: object) -> bool:
    """Whether this JSON is meant as a data point."""
    return isinstance(found, dict) and "resourceType" not in found and "header" in found


def observation(point: object, subject: str) -> JSON:
    """The Observation of *point*; *subject* is a reference such as `Patient/p1`.

    Raises FormatRefused, with the place in the data point as expression (`body.blood_glucose.unit`).
    """
    if not isinstance(point, dict):
        raise FormatRefused("structure", "A data point is a JSON object with header and body.", "header")
    header, body = _object(point, "header", "header"), _object(point, "body", "body")
    name, kind = _schema(header)
    for field, words in WORDS.items():
        said = body.get(field)
        if said is not None and (not isinstance(said, str) or said not in words):
            known = ", ".join(sorted(words))
            raise FormatRefused("unknown-answer", f"{said!r:.80} is not one of: {known}.", f"body.{field}")
    made: JSON = {
        "resourceType": "Observation",
        "status": "final",
        "identifier": [_identifier(header)],
        "category": [{"coding": [{"system": CATEGORY, "code": _category(kind)}]}],
        "subject": {"reference": subject},
        **_time(body, kind),
    }
    if "descriptive_statistic" in body:
        _record(made, name, f"{name}: {body['descriptive_statistic']}", body, kind)
    elif body.get("temporal_relationship_to_physical_activity") in MOVING:
        if kind.measure == "spo2":
            _single(made, "spo2-exertion", body, kind)
        else:
            _record(made, name, f"{name}, {body['temporal_relationship_to_physical_activity']}", body, kind)
    else:
        _reading(made, name, body, kind)
    notes = [f"{field.replace('_', ' ')}: {body[field]}" for field in NOTED if isinstance(body.get(field), str)]
    if notes:
        made["note"] = [{"text": "; ".join(notes)[:2000]}]
    if _modality(header) == "self-reported":
        made["performer"] = [{"reference": subject}]
    return made


def _schema(header: JSON) -> tuple[str, Kind]:
    schema = _object(header, "schema_id", "header.schema_id")
    namespace, name, version = (str(schema.get(part, "")) for part in ("namespace", "name", "version"))
    kind = KNOWN.get(namespace, {}).get(name)
    if kind is None:
        known = "; ".join(f"{space}: {', '.join(sorted(kinds))}" for space, kinds in KNOWN.items())
        raise FormatRefused(
            "unknown-schema", f"{namespace}:{name} is not known here; known are {known}.", "header.schema_id"
        )
    if VERSION.fullmatch(version) is None:
        text = f"Version {version!r:.20} of {namespace}:{name} is not known here; known are 1.x to 4.x."
        raise FormatRefused("unknown-schema", text, "header.schema_id.version")
    return name, kind


def _identifier(header: JSON) -> JSON:
    own = header.get("uuid", header.get("id"))
    if not isinstance(own, str) or not own.strip():
        raise FormatRefused("required", "A data point has an id: header.uuid (or header.id before 2.0).", "header.uuid")
    try:
        return {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{UUID(own)}"}
    except ValueError:
        return {"system": IDENTIFIER, "value": own.strip()[:200]}


def _modality(header: JSON) -> object:
    provenance = header.get("acquisition_provenance")
    return header.get("modality", provenance.get("modality") if isinstance(provenance, dict) else None)


def _category(kind: Kind) -> str:
    if kind.measure == "steps":
        return "activity"
    return "laboratory" if kind.measure == "glucose" else "vital-signs"


# -- when --------------------------------------------------------------------------------------------------------------


def _time(body: JSON, kind: Kind) -> JSON:
    frame = body.get("effective_time_frame")
    place = "body.effective_time_frame"
    if not isinstance(frame, dict):
        raise FormatRefused("no-time", "A reading needs the time of measuring.", place)
    if "date_time" in frame:
        if kind.needs_interval:
            raise FormatRefused("no-time", "A count needs the interval that it was counted over.", place)
        return {"effectiveDateTime": _instant(frame["date_time"], f"{place}.date_time")[1]}
    interval = frame.get("time_interval")
    if not isinstance(interval, dict):
        raise FormatRefused("no-time", "The time is given by date_time or time_interval.", place)
    place = f"{place}.time_interval"
    ends = {
        name: _instant(interval[f"{name}_date_time"], f"{place}.{name}_date_time")
        for name in ("start", "end")
        if f"{name}_date_time" in interval
    }
    if len(ends) == 1 and "duration" in interval:
        length = _duration(interval["duration"], f"{place}.duration")
        if "start" in ends:
            at = ends["start"][0] + length
            ends["end"] = at, at.isoformat()
        else:
            at = ends["end"][0] - length
            ends["start"] = at, at.isoformat()
    if len(ends) < 2:
        text = "An interval has two of start_date_time, end_date_time and duration; a day and part of it is no time."
        raise FormatRefused("no-time", text, place)
    if "descriptive_statistic" not in body and ends["end"][0] < ends["start"][0]:
        raise FormatRefused("value", "The interval ends before it begins.", place)
    start, end = sorted((ends["start"], ends["end"]))
    return {"effectivePeriod": {"start": start[1], "end": end[1]}}


def _instant(said: object, place: str) -> tuple[datetime, str]:
    text = "A time is written as 2026-11-21T09:30:00Z or with an offset such as +01:00."
    if not isinstance(said, str) or len(said) <= 10:
        raise FormatRefused("no-time", text, place)
    try:
        at = datetime.fromisoformat(said)
    except ValueError as error:
        raise FormatRefused("no-time", text, place) from error
    if at.tzinfo is None:
        raise FormatRefused("no-time", f"{said!r:.40} has no offset. {text}", place)
    return at, at.isoformat()


def _duration(said: object, place: str) -> timedelta:
    value, unit = _amount(said, place)
    if unit not in DURATIONS or not 0 <= value <= 10**7:
        raise FormatRefused("value", f"A duration is in one of {', '.join(DURATIONS)}.", place)
    return timedelta(seconds=float(value) * DURATIONS[unit])


# -- what --------------------------------------------------------------------------------------------------------------


def _reading(made: JSON, name: str, body: JSON, kind: Kind) -> None:
    if kind.measure == "systolic":
        made["code"] = {"coding": [{"system": LOINC, "code": "85354-9"}], "text": "Blood pressure"}
        made["component"] = [
            {"code": {"coding": [MEASURES[key].coding]}, "valueQuantity": _quantity(body, f"{key}_blood_pressure", key)}
            for key in ("systolic", "diastolic")
        ]
    elif kind.measure == "glucose":
        source = body.get("specimen_source", body.get("blood_specimen_type"))
        if source in NO_BLOOD:
            _record(made, name, f"glucose of {source}", body, kind)
        else:
            _single(made, "glucose-sensor" if source == "interstitial fluid" else "glucose", body, kind)
    else:
        _single(made, kind.measure, body, kind)
        if kind.measure == "spo2" and "supplemental_oxygen_flow_rate" in body:
            flow = _quantity(body, "supplemental_oxygen_flow_rate", "oxygen")
            made["component"] = [{"code": {"coding": [MEASURES["oxygen"].coding]}, "valueQuantity": flow}]
        if kind.measure == "steps":
            period = made["effectivePeriod"]
            length = datetime.fromisoformat(period["end"]) - datetime.fromisoformat(period["start"])
            if not timedelta(hours=23) <= length <= timedelta(hours=25):
                # Not "in 24 hours", which is what the measure's first code says.
                made["code"]["coding"] = [{"system": LOINC, "code": "55423-8"}]


def _single(made: JSON, measure: str, body: JSON, kind: Kind) -> None:
    made["code"] = {"coding": [MEASURES[measure].coding], "text": MEASURES[measure].name}
    made["valueQuantity"] = _quantity(body, kind.field, measure)


def _record(made: JSON, name: str, text: str, body: JSON, kind: Kind) -> None:
    """Kept, with no code of a measure: no reading."""
    made["code"] = {"coding": [{"system": SYSTEM, "code": name}], "text": text}
    if kind.measure == "systolic":
        made["component"] = [
            {
                "code": {"coding": [{"system": SYSTEM, "code": f"{key}-blood-pressure"}]},
                "valueQuantity": _quantity(body, f"{key}_blood_pressure", key),
            }
            for key in ("systolic", "diastolic")
        ]
    else:
        made["valueQuantity"] = _quantity(body, kind.field, kind.measure)


def _quantity(body: JSON, field: str, measure: str) -> JSON:
    said = body.get(field)
    if measure == "steps" and isinstance(said, int) and not isinstance(said, bool):
        said = {"value": said, "unit": "steps"}  # step-count 1.0 had the bare number
    value, unit = _amount(said, f"body.{field}")
    known = MEASURES[measure]
    code = known.spellings.get(unit, unit if unit == known.unit or unit in known.accepts else None)
    if measure == "oxygen":
        code = unit if unit in ("L/min", "l/min", "%") else None
    if code is None:
        spellings = ", ".join(dict.fromkeys((*known.spellings, *known.accepts))) or "L/min"
        raise FormatRefused(
            "wrong-unit", f"{known.name} came in {unit!r:.40}; known are {spellings}.", f"body.{field}.unit"
        )
    return {"value": value, "unit": unit, "system": UCUM, "code": code}


def _amount(said: object, place: str) -> tuple[Decimal | int, str]:
    if not isinstance(said, dict):
        raise FormatRefused("required", "A value is an object with value and unit.", place)
    value, unit = said.get("value"), said.get("unit")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise FormatRefused("value", f"{value!r:.40} is not a number.", f"{place}.value")
    if not isinstance(unit, str):
        raise FormatRefused("required", "A value needs its unit.", f"{place}.unit")
    return value, unit


def _object(whole: JSON, name: str, place: str) -> JSON:
    found = whole.get(name)
    if not isinstance(found, dict):
        raise FormatRefused("required", f"{name} is missing, or no object.", place)
    return found
