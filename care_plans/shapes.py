"""How the hub's concepts lie in FHIR JSON: code systems, local extensions, references and dates."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

JSON = dict[str, Any]

SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
GOAL_ACHIEVEMENT = "http://terminology.hl7.org/CodeSystem/goal-achievement"
LOCAL = "https://carehub.example/fhir/CodeSystem/"
EXTENSION = "https://carehub.example/fhir/StructureDefinition/"

# A date without a time is a day as people here live it.
LONDON = ZoneInfo("Europe/London")


def codings(concepts: object) -> Iterator[tuple[str | None, str | None]]:
    """(system, code) of every coding in one CodeableConcept or a list of them."""
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        if isinstance(concept, dict):
            for coding in concept.get("coding") or ():
                yield coding.get("system"), coding.get("code")


def concept_text(concept: JSON | None) -> str | None:
    """The words of a CodeableConcept: its text, else the first display."""
    if not concept:
        return None
    displays = (coding.get("display") for coding in concept.get("coding") or ())
    return concept.get("text") or next((display for display in displays if display), None)


_LOCAL_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")


def local_reference(reference: object) -> str | None:
    """`{"reference": "Practitioner/x"}` -> `Practitioner/x`; None for anything but a literal, relative reference.

    What comes back is short enough for an index, however long the text was that came in.
    """
    literal = reference.get("reference") if isinstance(reference, dict) else None
    found = _LOCAL_REFERENCE.fullmatch(literal) if isinstance(literal, str) else None
    return f"{found[1]}/{found[2]}" if found else None


def reference_id(reference: object, type: str) -> str | None:
    """`{"reference": "Patient/x"}` -> `x`; None for anything but a literal, relative reference to *type*."""
    found = local_reference(reference)
    return found.removeprefix(type + "/") if found and found.startswith(type + "/") else None


def literals(references: Iterable[object] | None) -> tuple[str, ...]:
    """The local references in a list, such as `("Goal/a", "Goal/b")`; contained and foreign ones are left out."""
    return tuple(found for reference in references or () if (found := local_reference(reference)))


def extension(element: JSON, name: str) -> JSON | None:
    """The element's own extension `EXTENSION + name`, or None."""
    return next((ext for ext in element.get("extension") or () if ext.get("url") == EXTENSION + name), None)


def extension_value(element: JSON, name: str, key: str) -> Any:
    """`extension_value(plan, "what-matters", "valueString")`, or None."""
    found = extension(element, name)
    return found.get(key) if found else None


def set_extension(element: JSON, name: str, value: JSON | None) -> None:
    """Put, replace or (with None) remove a local extension of *element*, in place; the others keep their order."""
    url = EXTENSION + name
    extensions: list[JSON] = element.get("extension") or []
    urls = [found.get("url") for found in extensions]
    if value is None:
        kept = [found for found in extensions if found.get("url") != url]
    elif url in urls:
        kept = [{"url": url, **value} if found.get("url") == url else found for found in extensions]
    else:
        kept = [*extensions, {"url": url, **value}]
    element.pop("extension", None)
    if kept:
        element["extension"] = kept


def nested(found: JSON | None, name: str) -> JSON:
    """The part *name* of a complex extension: `nested(ext, "by")["valueReference"]`; empty when absent."""
    return next((part for part in (found or {}).get("extension") or () if part.get("url") == name), {})


def instant(text: object, *, end: bool = False) -> datetime | None:
    """A FHIR date or dateTime as an instant; with *end* the first instant after it.

    `2026`, `2026-11`, `2026-11-21` (whole London days) and `2026-11-21T10:00:00Z` are understood, all else is None.
    """
    if not isinstance(text, str):
        return None
    try:
        if "T" in text:
            found = datetime.fromisoformat(text)
            return found if found.tzinfo else None
        parts = [int(part) for part in text.split("-")]
        year, month, day = [*parts, 1, 1][:3]
        first = datetime.combine(datetime(year, month, day), time(), LONDON)
        if not end:
            return first.astimezone(UTC)
        if len(parts) == 1:
            after = datetime(year + 1, 1, 1)
        elif len(parts) == 2:
            after = datetime(year + month // 12, month % 12 + 1, 1)
        else:
            after = datetime(year, month, day) + timedelta(days=1)
        return after.replace(tzinfo=LONDON).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
