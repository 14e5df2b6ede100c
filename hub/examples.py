"""Commands that work as they are: a device's own readings, for whoever integrates it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from monitoring.instruments import Instrument
from monitoring.measures import MEASURES

JSON = dict[str, Any]

PLACEHOLDER = "YOUR-DEVICE-KEY"
"""Stands where a key goes that was not just made: keys are shown once."""

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
# What an ordinary reading of each measure is, for an example; a device of no known kind shows a saturation.
_ORDINARY = {
    "spo2": 97, "pulse": 72, "temperature": 36.8, "weight": 78.4, "glucose": 6.1, "glucose-sensor": 6.1,
    "peak-flow": 420, "respiratory-rate": 16, "steps": 4200, "falls": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """`command` is for a shell; `answer` says what a right answer is."""

    key: str
    title: str
    command: str
    answer: str


def examples(base_url: str, patient_id: str, kind: Instrument | None, key: str, now: datetime) -> list[Example]:
    """A single reading, a stream and a batch, each with times of its own just before *now*. *base_url* ends in `/fhir`.

    They are run as they stand by `tests/test_hub_pages_devices.py`.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    made = [_reading(patient_id, kind, now - timedelta(minutes=minute)) for minute in range(5)]
    entries = [{"request": {"method": "POST", "url": "Observation"}, "resource": one} for one in made[3:]]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    lines = " ".join(f"'{_text(one)}'" for one in made[1:3])
    sent = f"-H 'Authorization: Bearer {key}' -H 'CareHub-Device-Time: '$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    post = f"curl -sS -i -X POST {sent}"
    json, ndjson = "-H 'Content-Type: application/fhir+json'", "-H 'Content-Type: application/fhir+ndjson'"
    return [
        Example(
            "single",
            "One reading",
            f"{post} {json} \\\n  --data '{_text(made[0])}' \\\n  '{base_url}/Observation'",
            "201 Created: it is stored, and the rules have looked at it. Sent again: 200, and nothing is stored twice.",
        ),
        Example(
            "stream",
            "Many, one a line",
            f"printf '%s\\n' {lines} | \\\n{post} {ndjson} \\\n  --data-binary @- '{base_url}/$ingest'",
            "200 with a count: accepted, corrected, duplicate, refused; and for each refused line why.",
        ),
        Example(
            "batch",
            "A FHIR batch",
            f"{post} {json} \\\n  --data '{_text(batch)}' \\\n  '{base_url}'",
            "200 with one answer for each entry, in their order: 201 Created for a new reading.",
        ),
    ]


def _reading(patient_id: str, kind: Instrument | None, at: datetime) -> JSON:
    measure = next((one for one in kind.measures if one in _ORDINARY or one == "systolic"), "spo2") if kind else "spo2"
    resource: JSON = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [_coding(measure)]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat().replace("+00:00", "Z"),
    }
    if measure != "systolic":
        return {**resource, "valueQuantity": _quantity(measure, _ORDINARY[measure])}
    resource["code"] = {"coding": [{"system": LOINC, "code": "85354-9"}]}
    resource["component"] = [
        {"code": {"coding": [_coding(part)]}, "valueQuantity": _quantity(part, value)}
        for part, value in (("systolic", 128), ("diastolic", 76))
    ]
    return resource


def _coding(measure: str) -> JSON:
    coding = MEASURES[measure].coding
    return {"system": coding["system"], "code": coding["code"]}


def _quantity(measure: str, value: float) -> JSON:
    known = MEASURES[measure]
    return {"value": value, "unit": known.shown, "system": UCUM, "code": known.unit}


def _text(resource: JSON) -> str:
    # Between single quotes of a shell nothing but a single quote means anything.
    return msgspec.json.encode(resource).decode().replace("'", "\\u0027")
