"""Broken resources: official examples, each broken in every way that its elements allow.

The same examples make the same mutants. Kinds are those of what clients get wrong: unknown and missing elements, wrong
JSON types, bad ids, dates and instants, what is empty, codes outside of required bindings, two `value[x]`, wrong
targets of references, extensions, and FHIR's invariants.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from fhir.structure import Element, Shape, model_of, shape_of

JSON = dict[str, Any]
Mutant = tuple[str, JSON]
Edit = tuple[str, JSON]
"""A kind of error, and the members that make it; `...` takes one away."""

PER_KIND = 1


def mutants(resource: JSON) -> Iterator[Mutant]:
    """(kind, broken resource); one of each kind of error, and of each invariant."""
    made: Counter[str] = Counter()
    for shape, at in places(shape_of(model_of(resource["resourceType"])), resource, ()):
        node: Any = resource
        for step in at:
            node = node[step]
        for kind, edits in ways_to_break(shape, node):
            made[kind] += 1
            if made[kind] > PER_KIND:
                continue
            mutant = copy.deepcopy(resource)
            target: Any = mutant
            for step in at:
                target = target[step]
            for key, content in edits.items():
                if content is ...:
                    target.pop(key, None)
                else:
                    target[key] = content
            yield kind, mutant


def places(shape: Shape, value: JSON, at: tuple[Any, ...]) -> Iterator[tuple[Shape, tuple[Any, ...]]]:
    """Every object of a resource with its shape and the way to it."""
    yield shape, at
    for name, content in value.items():
        element = shape.elements.get(name)
        if element is None or element.primitive:
            continue
        for position, item in enumerate(content if element.many else [content]):
            here = (*at, name, position) if element.many else (*at, name)
            below = model_of(item["resourceType"]) if element.model is None else element.model
            yield from places(shape_of(below), item, here)


def ways_to_break(shape: Shape, node: JSON) -> Iterator[Edit]:
    yield "unknown element", {"notAnElement": "x"}
    yield from _broken_rules(shape, node)
    for name, element in shape.elements.items():
        if name not in node:
            yield from _added(shape, node, element)
            continue
        if element.required and f"_{name}" not in node:
            yield "required missing", {name: ...}
        ways = _in_array(element, node[name]) if element.many else _in_value(element, node[name])
        for kind, content in ways:
            yield kind, {name: content}


def _in_array(element: Element, content: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "empty array", []
    yield "object for array", content[0] if isinstance(content[0], dict) else {"a": 1}
    yield "null in array", [*content, None]
    if element.primitive and isinstance(content[0], str):
        yield "empty text", [*content, ""]
        yield "number for text", [7]
    for kind, one in _of_its_type(element, content[0]):
        yield kind, [one, *content[1:]] if element.name != "coding" else [one]


def _in_value(element: Element, content: Any) -> Iterator[tuple[str, Any]]:
    yield "array for single", [content]
    yield "null", None
    yield from _of_its_type(element, content)


def _of_its_type(element: Element, content: Any) -> Iterator[tuple[str, Any]]:
    if not element.primitive:
        yield "empty object", {}
        yield "text for object", "x"
        if element.codes:
            coding = {"code": "not-in-the-set"}
            yield "code outside binding", coding if element.type == "Coding" else {"coding": [coding]}
        if element.type == "Reference" and element.targets:
            wrong = next(t for t in ("Slot", "Patient") if t not in element.targets)
            yield "wrong reference target", {"reference": f"{wrong}/x"}
            yield "wrong reference target", {"reference": f"https://a.example/fhir/{wrong}/x"}
        if element.type == "Reference":
            yield "bad reference", {"reference": "Nothing/x"}
            yield "bad reference", {"reference": "the patient"}
    elif element.codes:
        yield "code outside binding", "not-in-the-set"
    elif element.type == "boolean":
        yield "text for boolean", "true"
    elif element.type in ("decimal", "integer", "positiveInt", "unsignedInt"):
        yield "number as text", str(content)
        if element.type != "decimal":
            yield "fraction for integer", Decimal("1.5")
        if element.type == "positiveInt":
            yield "not positive", 0
    else:
        yield "empty text", ""
        yield "number for text", 7
        if element.type in ("id", "date", "dateTime", "instant", "time", "oid", "uuid"):
            yield f"bad {element.type}", "not one of these!"
        if element.type == "id":
            yield "bad id", "a" * 65
        if element.type in ("date", "dateTime", "instant"):
            yield "day that does not exist", "2026-02-30" + str(content)[10:]
        if element.type == "dateTime":
            yield "time without zone", "2026-11-21T09:30:00"


def _added(shape: Shape, node: JSON, element: Element) -> Iterator[Edit]:
    if element.choice and element.type in ("string", "boolean", "Period"):
        others = next(choice.names for choice in shape.choices if choice.name == element.choice)
        if any(other in node for other in others):
            content = {"string": "x", "boolean": True, "Period": {"start": "2026"}}[element.type]
            yield "two of a choice", {element.name: content}
    if element.name == "extension":
        yield "extension", {"extension": [{"url": "urn:x"}]}
        yield "extension", {"extension": [{"valueString": "x"}]}
        inner = {"url": "urn:y", "valueString": "x"}
        yield "extension", {"extension": [{"url": "urn:x", "valueString": "x", "extension": [inner]}]}


NOBODY = {"resourceType": "Basic", "id": "nobody-points-here", "code": {"text": "x"}}
POINTED_AT = {"extension": [{"url": "urn:x", "valueReference": {"reference": "#nobody-points-here"}}]}
ACTIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}
REASON = {"text": "unknown"}

# By the path of a shape: the invariant, and members that break it whatever else stands there.
BREAKING: dict[str, list[Edit]] = {
    "Quantity": [("qty-3", {"code": "kg", "system": ...})],
    "Age": [("age-1", {"value": 3, "code": "a", "system": "urn:x"})],
    "Duration": [("drt-1", {"code": "h", "system": "urn:x", "value": 1})],
    "Period": [
        ("per-1", {"start": "2026-01-02", "end": "2026-01-01"}),
        ("per-1", {"start": "2026-01-01T10:00:00+02:00", "end": "2026-01-01T07:59:00Z"}),
    ],
    "Range": [("rng-2", {"low": {"value": 2, "unit": "x"}, "high": {"value": Decimal("1.9"), "unit": "x"}})],
    "Ratio": [("rat-1", {"denominator": ...})],
    "Reference": [("ref-1", {"reference": "#nobody-is-here"})],
    "Attachment": [("att-1", {"data": "aGk=", "contentType": ...})],
    "ContactPoint": [("cpt-2", {"value": "1", "system": ...})],
    "Narrative": [
        ("txt-1", {"div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>open</div>'}),
        ("txt-1", {"div": '<div xmlns="http://www.w3.org/1999/xhtml"><blink>x</blink></div>'}),
        ("txt-2", {"div": '<div xmlns="http://www.w3.org/1999/xhtml"> <br/> </div>'}),
    ],
    "Timing.repeat": [
        ("tim-1", {"duration": 1, "durationUnit": ...}),
        ("tim-2", {"period": 1, "periodUnit": ...}),
        ("tim-4", {"duration": -1, "durationUnit": "h"}),
        ("tim-6", {"periodMax": 3, "period": ..., "periodUnit": "h"}),
        ("tim-8", {"countMax": 3, "count": ...}),
        ("tim-10", {"timeOfDay": ["09:00:00"], "when": ["MORN"]}),
    ],
    "Observation": [("obs-6", {"dataAbsentReason": REASON})],
    "Observation.referenceRange": [("obs-3", {"low": ..., "high": ..., "text": ..., "id": "x"})],
    "Patient.contact": [
        ("pat-1", {"name": ..., "_name": ..., "telecom": ..., "address": ..., "organization": ..., "gender": "male"})
    ],
    "Organization": [
        ("org-1", {"identifier": ..., "name": ..., "_name": ..., "active": True}),
        ("org-2", {"address": [{"use": "home"}]}),
        ("org-3", {"telecom": [{"use": "home"}]}),
    ],
    "Bundle": [("bdl-1", {"type": "collection", "total": 1})],
    "Bundle.entry": [("bdl-8", {"fullUrl": "http://a.example/Patient/1/_history/1"})],
    "AllergyIntolerance": [("ait-1", {"clinicalStatus": ..., "verificationStatus": ...})],
    "Appointment": [("app-2", {"status": "proposed", "start": "2026-01-01T09:00:00Z", "end": ...})],
    "Appointment.participant": [("app-1", {"type": ..., "actor": ...})],
    "CarePlan.activity": [
        ("cpl-3", {"reference": {"reference": "Task/1"}, "detail": {"status": "unknown"}}),
    ],
    "Composition.section": [("cmp-1", {"text": ..., "entry": ..., "section": ..., "title": "x"})],
    "Condition": [("con-4", {"abatementString": "gone", "clinicalStatus": ACTIVE})],
    "Consent": [("ppc-1", {"policy": ..., "policyRule": ...})],
    "Goal.target": [("gol-1", {"detailString": "x", "detailQuantity": ..., "detailRange": ..., "measure": ...})],
    "Linkage": [("lnk-1", {"item": [{"type": "source", "resource": {"reference": "Patient/1"}}]})],
    "List": [("lst-2", {"mode": "working", "entry": [{"deleted": True, "item": {"display": "x"}}]})],
    "Questionnaire.item": [
        ("que-1", {"type": "group", "item": ...}),
        ("que-10", {"type": "date", "maxLength": 3, "item": ..., "answerOption": ..., "initial": ...}),
        ("que-11", {"type": "string", "initial": [{"valueString": "x"}], "answerOption": [{"valueString": "x"}]}),
    ],
    "RiskAssessment.prediction": [("ras-2", {"probabilityDecimal": 101, "probabilityRange": ...})],
    "Task": [("inv-1", {"authoredOn": "2026-01-02", "lastModified": "2026-01-01"})],
    "ValueSet.compose.include": [("vsd-1", {"system": ..., "valueSet": ..., "concept": ..., "filter": ..., "id": "x"})],
    "ValueSet.expansion.contains": [("vsd-10", {"code": "x", "system": ...})],
}


def _broken_rules(shape: Shape, node: JSON) -> Iterator[Edit]:
    for key, edits in BREAKING.get(shape.path, ()):
        # What would break something else as well (no value that a reason could stand beside) is no test of the rule.
        if key == "obs-6" and not any(name.startswith("value") for name in node):
            continue
        yield f"invariant {key}", edits
    if "contained" in shape.elements and "resourceType" in node:
        held = node.get("contained", [])
        loose = {**NOBODY, "id": "loose"}
        yield "invariant dom-3", {"contained": [*held, loose]}
        pointed = [*node.get("extension", []), *POINTED_AT["extension"]]
        yield "invariant dom-4", {"contained": [*held, {**NOBODY, "meta": {"versionId": "1"}}], "extension": pointed}
        labelled = {**NOBODY, "meta": {"security": [{"code": "R"}]}}
        yield "invariant dom-5", {"contained": [*held, labelled], "extension": pointed}
