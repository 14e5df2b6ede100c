"""FHIR's rules of severity error: each is asked, of whom it concerns, and only where members leave it in doubt."""

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhir import invariants, narrative
from fhir.compiled import fits
from fhir.fhirpath import read
from fhir.fhirpath_evaluation import CHOICE_NAMES, compiled
from fhir.fhirpath_presence import Doubt, doubts
from fhir.fhirpath_values import Scope
from fhir.inspection import inspect
from fhir.invariants import invariants_of
from fhir.outcome import Refusal
from fhir.structure import Model, Shape, model_of, shape_of
from fhir.types import LEFT_OUT, SERVED
from fhir.validation import check
from fhir.wire import decode

SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
EXAMPLES = sorted((SHARED / "hl7-examples").glob("*/*.json"))

JSON = dict[str, Any]
PATIENT = {"reference": "Patient/p"}
OBSERVATION: JSON = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}


def broken_by(resource: JSON) -> list[str]:
    """The keys of the rules that *resource* breaks; both halves of validation agree."""
    issues = inspect(resource)
    assert fits(resource) is False or issues == []
    assert {issue.code for issue in issues} <= {"invariant"}, issues
    return [issue.diagnostics.partition(" breaks ")[2].partition(":")[0] for issue in issues]


def observation(**members: Any) -> JSON:
    return copy.deepcopy(OBSERVATION) | members


def quantity(**members: Any) -> JSON:
    return observation(valueQuantity=members)


def patient(**members: Any) -> JSON:
    return {"resourceType": "Patient"} | members


def bundle(type_: str, **members: Any) -> JSON:
    return {"resourceType": "Bundle", "type": type_} | members


CODED = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
HELD = {"resourceType": "Patient", "id": "held"}
WHILE = {"start": "2026-01-02", "end": "2026-01-01"}

BROKEN: list[tuple[str, JSON]] = [
    ("qty-3", quantity(value=71, code="/min")),
    ("per-1", patient(name=[{"family": "A", "period": WHILE}])),
    ("per-1", patient(name=[{"period": {"start": "2026-01-01T10:00:00+02:00", "end": "2026-01-01T07:59:59Z"}}])),
    ("obs-6", observation(dataAbsentReason={"text": "asleep"}, valueInteger=1)),
    ("obs-7", observation(code=CODED, valueInteger=1, component=[{"code": CODED}])),
    ("obs-3", observation(referenceRange=[{"age": {"low": {"value": 1}}}])),
    ("rng-2", observation(valueRange={"low": {"value": 3, "unit": "kg"}, "high": {"value": 2, "unit": "kg"}})),
    ("rat-1", observation(valueRatio={"numerator": {"value": 3}})),
    ("att-1", patient(photo=[{"data": "QUJD"}])),
    ("cpt-2", patient(telecom=[{"value": "01234"}])),
    ("pat-1", patient(contact=[{"gender": "female"}])),
    ("org-1", {"resourceType": "Organization", "active": True}),
    ("org-2", {"resourceType": "Organization", "name": "A", "address": [{"use": "home", "city": "B"}]}),
    ("org-3", {"resourceType": "Organization", "name": "A", "telecom": [{"use": "home", "system": "phone"}]}),
    ("dom-2", patient(contact=[{"organization": {"reference": "#a"}}], contained=[
        {"resourceType": "Organization", "id": "a", "name": "A", "endpoint": [{"reference": "Endpoint/b"}],
         "contained": [{"resourceType": "Organization", "id": "b", "name": "B", "partOf": {"reference": "#"}}]}])),
    ("dom-3", observation(contained=[HELD])),
    ("dom-4", observation(subject={"reference": "#held"}, contained=[HELD | {"meta": {"versionId": "1"}}])),
    ("dom-5", observation(subject={"reference": "#held"}, contained=[HELD | {"meta": {"security": [{"code": "R"}]}}])),
    ("ref-1", observation(subject={"reference": "#nobody"})),
    ("ref-1", observation(subject={"reference": "#"})),
    ("txt-1", patient(text={"status": "generated", "div": "<div><b>open</div>"})),
    ("txt-1", patient(text={"status": "generated", "div": "<div><video>film</video></div>"})),
    ("txt-2", patient(text={"status": "generated", "div": "<div> <p> </p>&nbsp;</div>"})),
    ("bdl-1", bundle("transaction", total=3)),
    ("bdl-3", bundle("transaction", entry=[{"resource": patient()}])),
    ("bdl-5", bundle("collection", entry=[{"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}])),
    ("bdl-7", bundle("collection", entry=[{"fullUrl": "http://a/Patient/1", "resource": patient()}] * 2)),
    ("bdl-8", bundle("collection", entry=[{"fullUrl": "http://a/Patient/1/_history/1", "resource": patient()}])),
    ("bdl-10", bundle("document", identifier={"system": "a", "value": "b"}, entry=[{"resource": {
        "resourceType": "Composition", "status": "final", "type": {"text": "a"}, "date": "2026", "title": "A",
        "author": [PATIENT]}}])),
    ("ait-1", {"resourceType": "AllergyIntolerance", "patient": PATIENT}),
    ("app-2", {"resourceType": "Appointment", "status": "proposed", "start": "2026-01-01T10:00:00Z",
               "participant": [{"status": "accepted", "actor": PATIENT}]}),
    ("app-1", {"resourceType": "Appointment", "status": "proposed", "participant": [{"status": "accepted"}]}),
    ("app-4", {"resourceType": "Appointment", "status": "proposed", "cancelationReason": {"text": "a"},
               "participant": [{"status": "accepted", "actor": PATIENT}]}),
    ("con-4", {"resourceType": "Condition", "subject": PATIENT, "abatementString": "gone", "clinicalStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}}),
    ("cpl-3", {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": PATIENT, "activity": [
        {"reference": {"reference": "Task/1"}, "detail": {"status": "completed"}}]}),
    ("ppc-1", {"resourceType": "Consent", "status": "active", "scope": {"text": "a"}, "category": [{"text": "b"}]}),
    ("gol-1", {"resourceType": "Goal", "lifecycleStatus": "active", "description": {"text": "a"}, "subject": PATIENT,
               "target": [{"detailString": "b"}]}),
    ("inv-1", {"resourceType": "Task", "status": "draft", "intent": "order", "authoredOn": "2026-01-02",
               "lastModified": "2026-01-01"}),
    ("inv-1", {"resourceType": "Parameters", "parameter": [{"name": "a"}]}),
    ("tim-2", {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": PATIENT,
               "occurrenceTiming": {"repeat": {"period": 1}}}),
    ("que-2", {"resourceType": "Questionnaire", "status": "draft", "item": [
        {"linkId": "a", "type": "group", "item": [{"linkId": "a", "type": "string"}]}]}),
    ("que-7", {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "a", "type": "string",
        "enableWhen": [{"question": "b", "operator": "exists", "answerInteger": 1}]}]}),
    ("ras-2", {"resourceType": "RiskAssessment", "status": "final", "subject": PATIENT,
               "prediction": [{"probabilityDecimal": Decimal("100.1")}]}),
    ("ras-1", {"resourceType": "RiskAssessment", "status": "final", "subject": PATIENT,
               "prediction": [{"probabilityRange": {
                   "low": {"value": 1, "system": "http://unitsofmeasure.org", "code": "1"}}}]}),
    ("csd-1", {"resourceType": "CodeSystem", "status": "draft", "content": "complete", "concept": [
        {"code": "a", "concept": [{"code": "a"}]}]}),
    ("eld-3", {"resourceType": "StructureDefinition", "url": "a", "name": "A", "status": "draft", "kind": "resource",
               "abstract": False, "type": "Patient", "baseDefinition": "b", "derivation": "constraint",
               "differential": {"element": [{"id": "Patient", "path": "Patient", "max": "-1"}]}}),
    ("sdf-6", {"resourceType": "StructureDefinition", "url": "a", "name": "A", "status": "draft", "kind": "resource",
               "abstract": True, "type": "Patient"}),
]  # fmt: skip


class TestBroken:
    @pytest.mark.parametrize(("key", "resource"), BROKEN, ids=[f"{key}-{n}" for n, (key, _) in enumerate(BROKEN)])
    def test_is_refused_by_its_rule(self, key: str, resource: JSON) -> None:
        assert set(broken_by(resource)) == {key}

    def test_inside_a_bundle_the_place_is_named(self) -> None:
        whole = bundle("collection", entry=[{"resource": patient()}, {"resource": quantity(value=1, code="kg")}])
        assert [issue.expression for issue in inspect(whole)] == ["Bundle.entry[1].resource.value"]

    def test_beside_other_errors(self) -> None:
        """A rule is asked of sound objects; what is wrong beside them does not hide it."""
        found = inspect(quantity(value=1, code="kg") | {"staus": "final"})
        assert [issue.code for issue in found] == ["invariant", "structure"] or [issue.code for issue in found] == [
            "structure",
            "invariant",
        ]


class TestHeld:
    @pytest.mark.parametrize(
        "resource",
        [
            quantity(value=71, unit="a minute"),
            patient(name=[{"period": {"start": "2026-01-01", "end": "2026-01-01"}}]),
            patient(name=[{"period": {"start": "2026", "end": "2026-01-01T10:00:00Z"}}]),
            patient(name=[{"period": {"start": "2026-01-01T10:00:00+02:00", "end": "2026-01-01T08:00:00Z"}}]),
            patient(name=[{"period": {"start": "2026-01-02", "_end": {"id": "x"}}}]),
            observation(valueRange={"low": {"value": 3, "unit": "kg"}, "high": {"value": 2, "unit": "t"}}),
            observation(code=CODED, component=[{"code": CODED}]),
            observation(subject={"reference": "#held"}, contained=[HELD]),
            observation(contained=[{"resourceType": "List", "status": "current", "mode": "working",
                                    "subject": {"reference": "#"}}]),
            patient(text={"status": "generated", "div": "<div>caf&eacute;<br/></div>"}),
            {"resourceType": "RiskAssessment", "status": "final", "subject": PATIENT,
             "prediction": [{"probabilityDecimal": 100}]},
            {"resourceType": "Appointment", "status": "proposed",
             "participant": [{"status": "accepted", "actor": PATIENT}]},
        ],
    )  # fmt: skip
    def test_what_breaks_no_rule_is_accepted(self, resource: JSON) -> None:
        assert broken_by(resource) == []

    def test_rules_whose_members_are_absent_are_not_asked(self) -> None:
        rules = invariants_of(model_of("Observation"))
        sound = quantity(value=1)
        assert rules.always == ()
        assert rules.doubtful(sound) == []
        assert [rule.key for rule in rules.doubtful(sound | {"dataAbsentReason": {"text": "a"}})] == ["obs-6"]


class TestPresence:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("code.empty() or system.exists()", [Doubt(("code",), ("system",))]),
            ("a.exists() implies (b.exists() and c = 1)", [Doubt(("a",), ())]),
            ("a.exists() = b.exists()", [Doubt(("a",), ("b",)), Doubt(("b",), ("a",))]),
            ("a.exists() or true", []),
            ("a.count() > 1", [Doubt((), ())]),
            ("a.where(b = 1).empty()", [Doubt(("a",), ())]),
        ],
    )
    def test_says_where_an_expression_must_be_worked_out(self, expression: str, expected: list[Doubt]) -> None:
        assert sorted(doubts(read(expression)), key=repr) == sorted(expected, key=repr)

    @pytest.mark.skipif(not EXAMPLES, reason="needs the examples")
    def test_no_rule_is_broken_where_presence_leaves_no_doubt(self) -> None:
        """Over all objects of the examples, and each of them without each of its members."""
        asked = 0
        for model, node, scope in objects_of_examples():
            rules = invariants_of(model)
            for rule in rules.every:
                for one in (node, *({k: v for k, v in node.items() if k != left} for left in node)):
                    asked += 1
                    if not rule.holds(one, scope):
                        assert rule.in_doubt(one), (rule.key, one)
                        assert rule in rules.doubtful(one)
        assert asked > 20_000


def objects_of_examples() -> Iterator[tuple[Model, JSON, Scope]]:
    for path in EXAMPLES:
        if path.stat().st_size < 20_000:
            resource = decode(path.read_bytes())
            yield from objects(model_of(resource["resourceType"]), resource, Scope(resource, resource))


def objects(model: Model, node: JSON, scope: Scope) -> Iterator[tuple[Model, JSON, Scope]]:
    yield model, node, scope
    shape = shape_of(model)
    for name, content in node.items():
        element = shape.elements.get(name)
        if element is None or element.primitive:
            continue
        for item in content if element.many else [content]:
            if element.model is None:
                root = scope.root if name == "contained" else item
                yield from objects(model_of(item["resourceType"]), item, Scope(item, root))
            else:
                yield from objects(element.model, item, scope)


class TestFhirpath:
    def test_every_rule_of_the_definitions_is_read_and_has_its_place(self) -> None:
        table = json.loads((Path(invariants.__file__).parent / "data" / "invariants.json").read_bytes())
        shapes = {shape.path: model for model, shape in all_shapes().items()}
        for path, rules in table.items():
            if path.partition(".")[0] in LEFT_OUT:
                continue
            known = invariants_of(shapes[path])
            keys = {rule.key for rule in known.every}
            assert {key for key, _, _ in rules} <= keys, path

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("name.given.first()", ["Ann"]),
            ("name.given.tail()", ["Bea"]),
            ("name[0].given[1]", ["Bea"]),
            ("name.given.count() = 2 and true", [True]),
            ("'#' + id in ('#p' | '#q')", [True]),
            ("value", [5]),
            ("value is integer", [True]),
            ("value.as(string)", []),
            ("name.given.where($this = 'Bea').exists()", [True]),
            ("name.all(given.exists())", [True]),
            ("missing = 1", []),
            ("(missing = 1) or true", [True]),
            ("(missing = 1) and true", []),
            ("missing.empty() xor id.empty()", [True]),
            ("name.given & 'x'", ["Annx"]),
            ("id.matches('^p$')", [True]),
            ("'a.b'.replaceMatches('\\\\..*', '')", ["a"]),
            ("iif(id = 'p', 'yes', 'no')", ["yes"]),
            ("'12'.toInteger() > 11", [True]),
            ("name.select(given).isDistinct()", [True]),
            ("contact.resolve() is Practitioner", [True]),
            ("id.trace('x')", ["p"]),
            ("given.hasValue()", [False]),
        ],
    )
    def test_answers(self, expression: str, expected: list[Any]) -> None:
        resource = {
            "id": "p",
            "name": [{"given": ["Ann", "Bea"]}],
            "valueInteger": 5,
            "contact": {"reference": "Practitioner/1"},
            "_given": {"id": "x"},
        }
        assert compiled(expression)([resource], Scope(resource, resource)) == expected

    @pytest.mark.parametrize("expression", ["a +", "a.b(", "unknown()", "a ~ b", "'open", "a b", "", "a.1"])
    def test_refuses_what_it_does_not_know(self, expression: str) -> None:
        with pytest.raises(ValueError, match="FHIRPath"):
            compiled(expression)

    def test_a_body_made_to_be_slow_is_refused(self) -> None:
        scope = Scope(steps=[1_000])
        with pytest.raises(Refusal) as caught:
            compiled("a.where(%resource.b.where(c = 1).exists())")([{"a": [{}] * 2_000}], scope)
        assert caught.value.status == 413

    def test_an_observation_made_to_be_slow_is_refused(self) -> None:
        """obs-7 compares every component with every coding."""
        many = [{"code": f"c{n}"} for n in range(6_000)]
        parts = [{"code": {"coding": [{"code": f"d{n}"}]}} for n in range(6_000)]
        begin = time.process_time()
        with pytest.raises(Refusal) as caught:
            check(observation(code={"coding": many}, component=parts, valueInteger=1))
        assert caught.value.status == 413
        assert time.process_time() - begin < 10

    def test_choice_elements_are_those_of_the_definitions(self) -> None:
        assert {choice.name for shape in all_shapes().values() for choice in shape.choices} == CHOICE_NAMES


def all_shapes() -> dict[Model, Shape]:
    shapes: dict[Model, Shape] = {}
    queue = [model_of(type_) for type_ in sorted(SERVED)]
    while queue:
        model = queue.pop()
        if model not in shapes:
            shapes[model] = shape_of(model)
            queue += [element.model for element in shapes[model].elements.values() if element.model]
    return shapes


class TestNarrative:
    @pytest.mark.parametrize(
        "div",
        [
            "<div><p>a</p></div>",
            '<div xmlns="http://www.w3.org/1999/xhtml"><a href="#x">b</a></div>',
            "<div>&lt;</div>",
        ],
    )
    def test_formatting(self, div: str) -> None:
        assert narrative.is_formatting(div)

    @pytest.mark.parametrize(
        "div", ["<div><p>a</div>", "<div><svg/></div>", "<div>&nothing;</div>", "<div/><div/>", "<!DOCTYPE a><div/>"]
    )
    def test_anything_else(self, div: str) -> None:
        assert not narrative.is_formatting(div)

    def test_content(self) -> None:
        check: Callable[[str], bool] = narrative.has_content
        assert check("<div>a</div>")
        assert check('<div><img src="#x"/></div>')
        assert not check("<div>&#160; <br/></div>")
