"""The smallest valid resource of any served type, made from its shape."""

from copy import deepcopy
from decimal import Decimal
from typing import Any

from fhir.structure import Element, Shape, model_of, shape_of

JSON = dict[str, Any]

PRIMITIVE: JSON = {
    "boolean": True,
    "integer": 1,
    "unsignedInt": 1,
    "positiveInt": 1,
    "decimal": Decimal("1.50"),
    "date": "2026-11-21",
    "dateTime": "2026-11-21T09:30:00Z",
    "instant": "2026-11-21T09:30:00Z",
    "time": "09:30:00",
    "oid": "urn:oid:1.2.3",
    "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "base64Binary": "aGk=",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>',
    "uri": "urn:x",
    "url": "https://a.example",
    "canonical": "https://a.example/x",
}
# What FHIR's invariants demand beyond the cardinalities.
NEEDED: dict[str, JSON] = {
    "AllergyIntolerance": {"clinicalStatus": {"coding": [{"code": "active"}]}},
    "Appointment": {"status": "proposed"},
    "Appointment.participant": {"actor": {"reference": "Patient/x"}},
    "AppointmentResponse": {"actor": {"reference": "Patient/x"}},
    "CapabilityStatement": {"software": {"name": "x"}, "rest": [{"mode": "server"}]},
    "Consent": {"policyRule": {"text": "x"}},
    "ImmunizationRecommendation.recommendation": {"targetDisease": {"text": "x"}},
    "InsurancePlan": {"name": "x"},
    "Organization": {"name": "x"},
    "StructureDefinition": {"differential": {"element": [{"id": "x", "path": "urn:x"}]}},
    "TerminologyCapabilities": {"software": {"name": "x"}},
    "TriggerDefinition": {"data": [{"type": "Patient"}]},
    "Linkage": {
        "item": [
            {"type": "source", "resource": {"reference": "Patient/x"}},
            {"type": "alternate", "resource": {"reference": "Patient/y"}},
        ]
    },
}


def minimal(type_name: str, **elements: Any) -> JSON:
    """A resource of *type_name* with what is required, references to nobody in particular, and *elements*."""
    return {"resourceType": type_name, **_object(shape_of(model_of(type_name))), **elements}


def _object(shape: Shape) -> JSON:
    made: JSON = {}
    for element in shape.elements.values():
        if element.required:
            made[element.name] = [_value(element)] if element.many else _value(element)
    for choice in shape.choices:
        if choice.required:
            made[choice.names[0]] = _value(shape.elements[choice.names[0]])
    made |= deepcopy(NEEDED.get(shape.path, {}))
    if made or "extension" not in shape.elements:
        return made
    return {"extension": [{"url": "urn:x", "valueBoolean": True}]}


def _value(element: Element) -> Any:
    if element.type == "Resource":
        return {"resourceType": "Basic", "code": {"text": "x"}}
    if element.type == "Reference":
        return {"reference": f"{sorted(element.targets or {'Organization'})[0]}/x"}
    if element.type == "CodeableConcept" and element.codes:
        return {"coding": [{"code": sorted(element.codes)[0]}]}
    if element.model is not None:
        return _object(shape_of(element.model))
    if element.codes:
        return sorted(element.codes)[0]
    return PRIMITIVE.get(element.type, "x")
