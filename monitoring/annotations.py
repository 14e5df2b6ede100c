"""Notes beside readings ("a cold since Monday", "new tablets"): Observations with text instead of a number.

LOINC 48767-8 is "Annotation comment [Interpretation] Narrative" (loinc.org/48767-8). As Observations they are written,
read, struck through and exported like readings, by whoever may add those: staff, the person and their carers.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.measures import LOINC

JSON = dict[str, Any]

CODE = "48767-8"
CODE_KEY = f"code={LOINC}|{CODE}"
"""As search keys have it (`fhir.index`)."""

LONGEST = 500
"""Characters: a note stands beside a chart, a letter elsewhere."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A note about the instant `at`, `by` a reference. `struck`: why it was wrong, where somebody said so."""

    id: str
    at: datetime
    text: str
    by: str
    struck: str | None
    struck_by: str | None


def to_observation(patient_id: str, at: datetime, text: str, by: str, name: str | None) -> JSON:
    """The Observation of a note, without id."""
    performer: JSON = {"reference": by} | ({"display": name} if name else {})
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": CODE, "display": "Annotation comment"}], "text": "Note"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
        "performer": [performer],
        "valueString": text,
    }


def annotation(observation: JSON) -> Annotation | None:
    """The note that *observation* is; None when it has no text or no instant."""
    text, effective = observation.get("valueString"), observation.get("effectiveDateTime")
    if not text or not effective or "T" not in effective:
        return None
    performer: JSON = next(iter(observation.get("performer", ())), {})
    last: JSON | None = None
    if observation.get("status") == "entered-in-error":
        last = next(reversed(observation.get("note", ())), {})
    return Annotation(
        observation.get("id", ""),
        datetime.fromisoformat(effective),
        text,
        performer.get("reference") or performer.get("display") or "unknown",
        last.get("text", "") if last is not None else None,
        last.get("authorReference", {}).get("reference") if last else None,
    )
