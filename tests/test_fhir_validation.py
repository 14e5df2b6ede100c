"""What a broken resource is told; the fast and the full half agree; nothing broken slips through."""

import copy
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fhir.compiled import fits
from fhir.inspection import MAX_ISSUES, inspect
from fhir.outcome import Refusal
from fhir.structure import Element, Shape, model_of, shape_of
from fhir.validation import check, parse
from fhir.wire import decode, encode, survey_of

SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"

PULSE: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "category": [
        {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"},
            ]
        }
    ],
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Heart rate"},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2026-11-21T09:30:00+00:00",
    "device": {"reference": "Device/d1"},
    "valueQuantity": {
        "value": Decimal("71.50"),
        "unit": "/min",
        "system": "http://unitsofmeasure.org",
        "code": "/min",
    },
}


def issues_of(resource: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    """The same answer from JSON text and from decoded JSON."""
    with pytest.raises(Refusal) as of_text:
        parse(encode(resource))
    with pytest.raises(Refusal) as of_value:
        check(resource)
    assert of_text.value.issues == of_value.value.issues
    assert of_text.value.status == 400
    return [(issue.code, issue.expression, issue.diagnostics) for issue in of_text.value.issues]


def edited(**changes: Any) -> dict[str, Any]:
    resource = copy.deepcopy(PULSE) | changes
    return {key: value for key, value in resource.items() if value is not ...}


class TestReasons:
    @pytest.mark.parametrize(
        ("changes", "code", "expression", "said"),
        [
            ({"status": "bogus"}, "code-invalid", "Observation.status", "expected one of amended, cancelled"),
            ({"status": ...}, "required", "Observation.status", "is required (code; expected one of amended"),
            ({"code": ...}, "required", "Observation.code", "is required (CodeableConcept)"),
            ({"staus": "final"}, "structure", "Observation.staus", "did you mean status?"),
            ({"status": ["final"]}, "code-invalid", "Observation.status", "an array"),
            ({"category": {}}, "structure", "Observation.category", "must be an array"),
            ({"category": []}, "structure", "Observation.category", "empty array"),
            ({"category": [None]}, "structure", "Observation.category[0]", "must be an object"),
            ({"code": {}}, "structure", "Observation.code", "is empty"),
            ({"code": {"text": ""}}, "value", "Observation.code.text", "text of 1 to 1048576 characters"),
            ({"id": "a b"}, "value", "Observation.id", "1 to 64 letters"),
            ({"effectiveDateTime": "2026-02-30"}, "value", "Observation.effective", "a date that exists"),
            ({"effectiveDateTime": "2026-11-21T09:30"}, "value", "Observation.effective", "with zone"),
            ({"issued": "2016-12-31T23:59:60Z"}, "value", "Observation.issued", "no leap second"),
            ({"issued": "2026-11-21"}, "value", "Observation.issued", "date and time with zone"),
            ({"valueString": "fast"}, "structure", "Observation.value", "valueQuantity, valueString"),
            ({"valueQuantity": {"value": "71.5"}}, "structure", "Observation.value.value", "a number (as Decimal"),
            ({"valueQuantity": {"value": True}}, "structure", "Observation.value.value", "a number"),
            ({"valueQuantity": {"comparator": "~"}}, "code-invalid", "Observation.value.comparator", "<, <=, >, >="),
            ({"subject": {"reference": "Practitioner/x"}}, "value", "Observation.subject.reference", "Patient"),
            ({"subject": {"reference": "Bogus/x"}}, "value", "Observation.subject.reference", "no resource type"),
            ({"subject": {"reference": "x"}}, "value", "Observation.subject.reference", "Type/id"),
            (
                {"subject": {"reference": "https://a.example/fhir/Practitioner/x"}},
                "value",
                "Observation.subject.reference",
                "points at Practitioner",
            ),
            (
                {"component": [{"code": {"text": "a"}}, {"valueString": "b"}]},
                "required",
                "Observation.component[1].code",
                "is required",
            ),
            (
                {"contained": [{"resourceType": "Patient", "gender": "x"}]},
                "code-invalid",
                "Observation.contained[0].gender",
                "male",
            ),
            ({"contained": [{"id": "x"}]}, "required", "Observation.contained[0].resourceType", "needs resourceType"),
            ({"contained": [{"resourceType": "Evidence"}]}, "not-supported", "Observation.contained[0]", "not served"),
            ({"extension": [{"url": "a"}]}, "required", "Observation.extension[0].value", "needs one of"),
            ({"note": [{"text": "x" * (1024 * 1024 + 1)}]}, "value", "Observation.note[0].text", "1048576"),
            (
                {"text": {"status": "generated", "div": "<div><script>alert(1)</script></div>"}},
                "value",
                "Observation.text.div",
                "no script",
            ),
        ],
    )
    def test_says_where_and_what_was_expected(
        self, changes: dict[str, Any], code: str, expression: str, said: str
    ) -> None:
        found = issues_of(edited(**changes))
        assert [(c, e) for c, e, _ in found] == [(code, expression)]
        assert said in found[0][2]

    def test_lists_every_issue_at_once(self) -> None:
        broken = edited(status="bogus", code=..., staus=1, issued="yesterday")
        assert sorted(e or "" for _, e, _ in issues_of(broken)) == [
            "Observation.code",
            "Observation.issued",
            "Observation.status",
            "Observation.staus",
        ]

    def test_the_list_is_bounded(self) -> None:
        assert len(issues_of(edited(category=[{}] * 10_000))) == MAX_ISSUES

    def test_a_bound_concept_must_carry_one_of_the_codes(self) -> None:
        condition = {
            "resourceType": "Condition",
            "subject": {"reference": "Patient/p1"},
            "clinicalStatus": {"coding": [{"code": "poorly"}]},
        }
        assert issues_of(condition)[0][:2] == ("code-invalid", "Condition.clinicalStatus")
        issues_of(condition | {"clinicalStatus": {"text": "active"}})
        check(condition | {"clinicalStatus": {"coding": [{"code": "local"}, {"code": "active"}]}})

    def test_another_type_than_expected(self) -> None:
        with pytest.raises(Refusal, match="expected Patient; resourceType is 'Observation'"):
            parse(encode(PULSE), "Patient")
        with pytest.raises(Refusal, match="resourceType is missing"):
            parse(b"{}", "Patient")

    @pytest.mark.parametrize("type_name", [None, 7, "Evidence", "Bogus", {"a": 1}])
    def test_types_that_are_not_served(self, type_name: Any) -> None:
        with pytest.raises(Refusal) as caught:
            parse(json.dumps({"resourceType": type_name}).encode())
        assert caught.value.status == 400

    def test_decoded_json_is_held_to_the_limits_of_the_wire(self) -> None:
        with pytest.raises(Refusal, match="NUL"):
            check(edited(code={"text": "a\x00b"}))
        deep: dict[str, Any] = {"url": "a", "valueString": "b"}
        for _ in range(100):
            deep = {"url": "a", "extension": [deep]}
        with pytest.raises(Refusal, match="deeper"):
            check(edited(extension=[deep]))


class TestRareForms:
    """Allowed by FHIR, refused by the fast half: the full one accepts them."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"status": ..., "_status": {"extension": [{"url": "a", "valueCode": "unknown"}]}},
            {"subject": {"reference": "https://a.example/fhir/Patient/p1/_history/2"}},
            {"subject": {"reference": "http://a.example/whatever"}},
            {"subject": {"reference": "#p"}, "contained": [{"resourceType": "Patient", "id": "p"}]},
            {"subject": {"reference": "Patient?identifier=a|b"}},
            {"_effectiveDateTime": {"extension": [{"url": "a", "valueCode": "b"}]}},
            {
                "performer": [{"reference": "#p"}],
                "contained": [
                    {
                        "resourceType": "Patient",
                        "id": "p",
                        "name": [{"given": ["A", None], "_given": [None, {"id": "x"}]}],
                    }
                ],
            },
        ],
    )
    def test_accepted(self, changes: dict[str, Any]) -> None:
        assert parse(encode(edited(**changes))).type == "Observation"

    @pytest.mark.parametrize(
        "name",
        [
            {"given": ["A", None]},
            {"given": ["A", None], "_given": [None, None]},
            {"given": ["A"], "_given": [None, {"id": "x"}]},
            {"_given": {"id": "x"}},
            {"_given": []},
        ],
    )
    def test_refused(self, name: dict[str, Any]) -> None:
        issues_of({"resourceType": "Patient", "name": [name]})


# Mutants: each official example broken in every way that its elements allow, a few times each.

Mutant = tuple[str, dict[str, Any]]
PER_KIND = 3


def places(shape: Shape, value: dict[str, Any], at: tuple[Any, ...]) -> Iterator[tuple[Shape, tuple[Any, ...]]]:
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


def ways_to_break(shape: Shape, node: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(kind, key, new content); `...` removes the key."""
    yield "unknown element", "notAnElement", "x"
    for name, element in shape.elements.items():
        if name not in node:
            yield from ways_to_add(shape, node, element)
            continue
        if element.required and f"_{name}" not in node:
            yield "required missing", name, ...
        if element.many:
            yield "empty array", name, []
            yield "object for array", name, node[name][0] if isinstance(node[name][0], dict) else {"a": 1}
            continue
        yield "array for single", name, [node[name]]
        yield "null", name, None
        if not element.primitive:
            yield "empty object", name, {}
            yield "text for object", name, "x"
        elif element.codes:
            yield "code outside binding", name, "not-in-the-set"
        elif element.type == "boolean":
            yield "text for boolean", name, "true"
        elif element.type in ("decimal", "integer", "positiveInt", "unsignedInt"):
            yield "number as text", name, str(node[name])
            if element.type != "decimal":
                yield "fraction for integer", name, Decimal("1.5")
            if element.type == "positiveInt":
                yield "not positive", name, 0
        else:
            yield "empty text", name, ""
            yield "number for text", name, 7
            if element.type in ("id", "date", "dateTime", "instant", "time", "oid", "uuid"):
                yield f"bad {element.type}", name, "not one of these!"
            if element.type in ("date", "dateTime", "instant"):
                yield "day that does not exist", name, "2026-02-30" + str(node[name])[10:]
        if element.type == "Reference" and element.targets:
            wrong = next(t for t in ("Slot", "Patient") if t not in element.targets)
            yield "wrong reference target", name, {"reference": f"{wrong}/x"}


def ways_to_add(shape: Shape, node: dict[str, Any], element: Element) -> Iterator[tuple[str, str, Any]]:
    if element.choice and element.type in ("string", "boolean", "Period"):
        others = next(choice.names for choice in shape.choices if choice.name == element.choice)
        if any(other in node for other in others):
            content = {"string": "x", "boolean": True, "Period": {"start": "2026"}}[element.type]
            yield "two of a choice", element.name, content


def mutants(resource: dict[str, Any]) -> Iterator[Mutant]:
    made: Counter[str] = Counter()
    for shape, at in places(shape_of(model_of(resource["resourceType"])), resource, ()):
        node: Any = resource
        for step in at:
            node = node[step]
        for kind, key, content in ways_to_break(shape, node):
            made[kind] += 1
            if made[kind] > PER_KIND:
                continue
            mutant = copy.deepcopy(resource)
            target: Any = mutant
            for step in at:
                target = target[step]
            if content is ...:
                del target[key]
            else:
                target[key] = content
            yield kind, mutant


def small_examples() -> list[Path]:
    return [path for path in sorted((SHARED / "hl7-examples").glob("*/*.json")) if path.stat().st_size < 20_000]


def test_broken_examples_are_refused_and_both_halves_agree() -> None:
    total: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for path in small_examples():
        for kind, mutant in mutants(decode(path.read_bytes())):
            total[kind] += 1
            issues = inspect(mutant)
            refused[kind] += bool(issues)
            if fits(mutant) and not survey_of(mutant).hollow:
                assert issues == [], (path.name, kind)
    assert len(total) >= 20, "every kind of mutant occurs"
    assert sum(refused.values()) >= 0.99 * sum(total.values())
    assert all(refused[kind] >= 0.95 * total[kind] for kind in total), {k: (refused[k], total[k]) for k in total}


def test_what_fhir_resources_refuses_is_refused() -> None:
    """The package is the second opinion: it sees fewer errors, and none that we accept."""
    accepted = []
    compared = 0
    for path in small_examples()[::6]:
        for kind, mutant in mutants(decode(path.read_bytes())):
            if inspect(mutant):
                continue
            compared += 1
            try:
                model_of(mutant["resourceType"]).model_validate(mutant)
            except ValidationError as error:
                accepted.append((path.name, kind, str(error)))
    assert accepted == []
    assert compared < 20


def test_a_vital_sign_is_checked_in_microseconds() -> None:
    raw = encode(PULSE)
    parse(raw)
    best = min(timed(raw) for _ in range(5))
    # 15,000 a second on one core is the aim, about 50,000 the rule; the bound leaves room for slow machines.
    assert best < 1 / 5_000


def timed(raw: bytes, times: int = 500) -> float:
    begin = time.process_time()
    for _ in range(times):
        parse(raw)
    return (time.process_time() - begin) / times


THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
from fhir.outcome import Refusal
from fhir.validation import parse
types = ["Observation", "Patient", "CarePlan", "Encounter", "Claim", "Task", "Bundle", "Questionnaire"]
refused = []
def run():
    for name in types:
        try:
            parse(b'{"resourceType":"%s","nothing":[1]}' % name.encode())
        except Refusal:
            refused.append(name)
threads = [threading.Thread(target=run) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(refused) == 64, len(refused)
"""


def test_threads_that_compile_the_same_types_at_once() -> None:
    """msgspec crashes the process when two threads work out one struct."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
