"""FHIRPath Patch: what it does, and how it refuses; and what carries a patch of either language."""

from base64 import b64encode
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from fhir.outcome import Refusal
from fhir.patch import Patch, of_json, of_resource
from fhir.wire import encode

JSON = dict[str, Any]
AT_O = {"reference": "#o"}
MARRIED = {"text": "married"}


def patient(**elements: Any) -> JSON:
    return {"resourceType": "Patient", "id": "p", **elements}


def ids(*values: str) -> list[JSON]:
    return [{"system": "urn:x", "value": value} for value in values]


def part(name: str, **value: Any) -> JSON:
    return {"name": name, **value}


def operation(kind: str, path: str, *parts: JSON) -> JSON:
    return part("operation", part=[part("type", valueCode=kind), part("path", valueString=path), *parts])


def add(path: str, name: str, **value: Any) -> JSON:
    return operation("add", path, part("name", valueString=name), part("value", **value))


def replace(path: str, **value: Any) -> JSON:
    return operation("replace", path, part("value", **value))


def insert(path: str, index: int, **value: Any) -> JSON:
    return operation("insert", path, part("index", valueInteger=index), part("value", **value))


def move(path: str, source: int, destination: int) -> JSON:
    return operation("move", path, part("source", valueInteger=source), part("destination", valueInteger=destination))


def delete(path: str) -> JSON:
    return operation("delete", path)


def by_fhirpath(resource: JSON, *operations: JSON) -> JSON:
    parameters = {"resourceType": "Parameters", **({"parameter": list(operations)} if operations else {})}
    return of_resource(parameters, resource["resourceType"], "Parameters").apply(resource)


def refused(act: Any) -> tuple[int, str | None, str]:
    with pytest.raises(Refusal) as caught:
        act()
    issue = caught.value.issues[0]
    return caught.value.status, issue.expression, issue.diagnostics


class TestFhirpathPatch:
    @pytest.mark.parametrize(
        ("before", "operations", "after"),
        [
            ({}, [], {}),
            ({}, [add("Patient", "birthDate", valueDate="1930-01-01")], {"birthDate": "1930-01-01"}),
            ({"birthDate": "1"}, [replace("Patient.birthDate", valueDate="1930-01-01")], {"birthDate": "1930-01-01"}),
            ({"birthDate": "1930-01-01"}, [delete("Patient.birthDate")], {}),
            ({}, [delete("Patient.birthDate")], {}),
            ({}, [add("Patient", "maritalStatus", valueCodeableConcept=MARRIED)], {"maritalStatus": MARRIED}),
            (
                {"contact": [{"name": {"text": "A"}, "gender": "male"}]},
                [replace("Patient.contact[0].gender", valueCode="female")],
                {"contact": [{"name": {"text": "A"}, "gender": "female"}]},
            ),
            (
                {"contact": [{"name": {"text": "A"}, "telecom": [{"system": "phone"}]}]},
                [delete("Patient.contact[0].name.text")],
                {"contact": [{"telecom": [{"system": "phone"}]}]},
            ),
            (
                {},
                [add("Patient", "contact", part=[part("name", valueHumanName={"text": "A"})])],
                {"contact": [{"name": {"text": "A"}}]},
            ),
            ({"contact": [{"gender": "male"}]}, [delete("Patient.contact[0]")], {}),
            (
                {"identifier": ids("1", "2")},
                [add("Patient", "identifier", valueIdentifier=ids("3")[0])],
                {"identifier": ids("1", "2", "3")},
            ),
            (
                {"identifier": ids("1", "2")},
                [insert("Patient.identifier", 1, valueIdentifier=ids("3")[0])],
                {"identifier": ids("1", "3", "2")},
            ),
            ({}, [insert("Patient.identifier", 0, valueIdentifier=ids("3")[0])], {"identifier": ids("3")}),
            (
                {"identifier": ids("1", "2", "3")},
                [delete("Patient.identifier[1]")],
                {"identifier": ids("1", "3")},
            ),
            (
                {"identifier": ids("1", "2", "3", "4")},
                [move("Patient.identifier", 3, 1)],
                {"identifier": ids("1", "4", "2", "3")},
            ),
            (
                {"identifier": ids("1", "2", "3")},
                [delete("Patient.identifier.where(value = '2' and system = 'urn:x')")],
                {"identifier": ids("1", "3")},
            ),
            (
                {"name": [{"use": "old", "family": "A"}, {"use": "official", "family": "B"}]},
                [replace("Patient.name.where(use='official').family", valueString="C")],
                {"name": [{"use": "old", "family": "A"}, {"use": "official", "family": "C"}]},
            ),
            (
                {"name": [{"given": ["A", "B"], "_given": [None, {"id": "b"}]}]},
                [delete("Patient.name.first().given.first()")],
                {"name": [{"given": ["B"], "_given": [{"id": "b"}]}]},
            ),
            (
                {"name": [{"given": ["A"], "_given": [{"id": "a"}]}]},
                [insert("Patient.name[0].given", 0, valueString="B")],
                {"name": [{"given": ["B", "A"], "_given": [None, {"id": "a"}]}]},
            ),
            (
                {"deceasedBoolean": False},
                [replace("Patient.deceased", valueDateTime="2026-01-01")],
                {"deceasedDateTime": "2026-01-01"},
            ),
            ({"deceasedBoolean": False}, [delete("Patient.deceased")], {}),
            ({}, [add("Patient", "deceased", valueBoolean=True)], {"deceasedBoolean": True}),
            (
                {},
                [
                    add(
                        "Patient",
                        "extension",
                        part=[part("url", valueUri="urn:e"), part("value", valueCoding={"code": "c"})],
                    )
                ],
                {"extension": [{"url": "urn:e", "valueCoding": {"code": "c"}}]},
            ),
            (
                {"extension": [{"url": "urn:e", "valueInteger": 1}, {"url": "urn:f", "valueInteger": 1}]},
                [replace("Patient.extension('urn:e').value", valueInteger=2)],
                {"extension": [{"url": "urn:e", "valueInteger": 2}, {"url": "urn:f", "valueInteger": 1}]},
            ),
            (
                {"birthDate": "1950-02-03"},
                [
                    add(
                        "Patient.birthDate",
                        "extension",
                        part=[part("url", valueUri="urn:t"), part("value", valueDateTime="1950-02-03T10:00:00Z")],
                    )
                ],
                {
                    "birthDate": "1950-02-03",
                    "_birthDate": {"extension": [{"url": "urn:t", "valueDateTime": "1950-02-03T10:00:00Z"}]},
                },
            ),
            (
                {"birthDate": "1950-02-03", "_birthDate": {"extension": [{"url": "urn:t", "valueCode": "c"}]}},
                [delete("Patient.birthDate.extension[0]")],
                {"birthDate": "1950-02-03"},
            ),
            (
                {"managingOrganization": AT_O, "contained": [{"resourceType": "Organization", "id": "o", "name": "A"}]},
                [replace("Patient.contained.ofType(Organization).name", valueString="B")],
                {"managingOrganization": AT_O, "contained": [{"resourceType": "Organization", "id": "o", "name": "B"}]},
            ),
            (
                {"telecom": [{"system": "phone", "rank": 1}, {"system": "email"}]},
                [delete("Patient.telecom.where(rank.exists().not() or system != 'phone')")],
                {"telecom": [{"system": "phone", "rank": 1}]},
            ),
            ({"active": True}, [replace("active", valueBoolean=False)], {"active": False}),
            ({"active": True}, [replace("Patient.where(active = true).active", valueBoolean=False)], {"active": False}),
            (
                {"telecom": [{"rank": 1}, {"rank": 2}, {"rank": 3}]},
                [delete("Patient.telecom.skip(1).take(1)"), delete("Patient.telecom.tail().last()")],
                {"telecom": [{"rank": 1}]},
            ),
            (
                {"name": [{"given": ["Jo", "Ann"]}]},
                [replace("Patient.name.given.where($this.startsWith('A'))", valueString="Anna")],
                {"name": [{"given": ["Jo", "Anna"]}]},
            ),
        ],
    )
    def test_what_it_does(self, before: JSON, operations: list[JSON], after: JSON) -> None:
        assert by_fhirpath(patient(**before), *operations) == patient(**after)

    def test_choices_of_an_observation(self) -> None:
        before = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "W"}}
        weight = {"value": Decimal("72.50"), "unit": "kg"}
        after = by_fhirpath(
            before,
            add("Observation", "value", valueQuantity=weight),
            replace("(Observation.value as Quantity).unit", valueString="kilograms"),
            add("Observation.value.ofType(Quantity)", "system", valueUri="http://unitsofmeasure.org"),
            add("Observation.value", "code", valueCode="kg"),
        )
        ucum = {"system": "http://unitsofmeasure.org", "code": "kg"}
        assert after["valueQuantity"] == {"value": Decimal("72.50"), "unit": "kilograms", **ucum}
        assert b"72.50" in encode(after)

    @pytest.mark.parametrize(
        "operation",
        [
            replace("Patient.birthDate", valueDate="1930-01-01"),
            replace("Patient", valueString="x"),
            delete("Patient"),
            delete("Patient.identifier"),
            replace("Patient.identifier.value", valueString="x"),
            add("Patient", "gender", valueCode="female"),
            add("Patient", "nonsense", valueCode="female"),
            add("Patient.gender", "nonsense", valueCode="female"),
            add("Patient", "deceased", valueString="x"),
            add("Patient", "name", part=[part("nonsense", valueString="x")]),
            insert("Patient.identifier", 3, valueIdentifier={"value": "x"}),
            insert("Patient.gender", 0, valueCode="male"),
            insert("Patient.identifier[0]", 0, valueIdentifier={"value": "x"}),
            move("Patient.identifier", 2, 0),
            delete("Patient.nonsense"),
            delete("Patient.gender.nonsense"),
            replace("Patient.gender", valueCode="sometimes"),
            replace("Patient.id", valueId="q"),
        ],
    )
    def test_what_does_not_fit_is_422(self, operation: JSON) -> None:
        before = patient(gender="male", identifier=ids("secret", "2"))
        status, _, said = refused(lambda: by_fhirpath(before, operation))
        assert status == 422
        assert "secret" not in said

    @pytest.mark.parametrize(
        "operation",
        [
            part("other"),
            part("operation"),
            operation("increase", "Patient"),
            operation("add", "Patient", part("value", valueCode="x")),
            operation("add", "Patient", part("name", valueInteger=1), part("value", valueCode="x")),
            operation("delete", "Patient.name", part("index", valueInteger=1)),
            operation("insert", "Patient.name", part("index", valueInteger=-1), part("value", valueString="x")),
            operation("insert", "Patient.name", part("index", valueString="1"), part("value", valueString="x")),
            part("operation", part=[part("type", valueCode="delete"), part("type", valueCode="delete")]),
            delete("Patient.name.repeat(given)"),
            delete("Patient.name[x]"),
            delete("Patient..name"),
            delete("Patient.name.where(use = 'a'"),
            delete("Patient.name)"),
            delete("Patient.name | Patient.contact"),
            delete("'Patient'"),
            delete("Patient." + "x" * 1000),
            delete("(" * 30 + "Patient" + ")" * 30),
        ],
    )
    def test_what_is_no_patch_is_400(self, operation: JSON) -> None:
        status, expression, _ = refused(lambda: by_fhirpath(patient(), operation))
        assert status == 400
        assert (expression or "").startswith("Parameters.parameter[0]")

    def test_the_operation_that_fails_is_named(self) -> None:
        status, expression, said = refused(
            lambda: by_fhirpath(
                patient(active=True), delete("Patient.active"), replace("Patient.active", valueCode="x")
            )
        )
        assert (status, expression) == (422, "Parameters.parameter[1]")
        assert "Parameters.parameter[1], replace at 'Patient.active'" in said


class TestCosts:
    def test_a_patch_that_would_keep_others_waiting_is_refused(self) -> None:
        many = patient(extension=[{"url": "urn:x", "valueString": str(n)} for n in range(20_000)])
        looking = [delete(f"Patient.extension.where(url = 'urn:{n}')") for n in range(100)]
        assert refused(lambda: by_fhirpath(many, *looking))[0] == 413
        few = [insert("Patient.extension", 0, part=[part("url", valueUri="urn:y"), part("value", valueCode="c")])] * 5
        assert len(by_fhirpath(many, *few)["extension"]) == 20_005


class TestAnything:
    PIECES = (
        "Patient", "name", "given", "birthDate", "deceased", "value", ".", ".", ".", "[0]", "[1]", "first()", "last()",
        "where(", "ofType(", "as(", "extension('u')", "(", ")", " as ", " = ", " and ", "'a'", "1", "@2020", "$this",
        "exists()", "not()", "string", "`name`", "\\", "'", "[", "]", ",", "!",
    )  # fmt: skip

    def test_no_path_does_more_than_be_refused(self) -> None:
        chosen = Random(7)
        before = patient(name=[{"given": ["Jo", "Ann"]}], birthDate="1950-02-03", deceasedBoolean=False)
        kept = encode(before)
        for _ in range(3000):
            path = "".join(chosen.choices(self.PIECES, k=chosen.randint(1, 9)))
            made = chosen.choice((delete(path), replace(path, valueString="x"), insert(path, 0, valueString="x")))
            try:
                by_fhirpath(before, made)
            except Refusal as refusal:
                assert refusal.status in (400, 422), path
        assert encode(before) == kept


class TestCarriers:
    def test_a_binary_carries_json_patch(self) -> None:
        data = b64encode(b'[{"op":"remove","path":"/active"}]').decode()
        binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
        assert of_resource(binary, "Patient", "x").apply(patient(active=True)) == patient()

    def test_other_resources_do_not(self) -> None:
        for carrier in (
            {"resourceType": "Patient"},
            {"resourceType": "Binary", "contentType": "application/json", "data": ""},
            {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "%%"},
        ):
            assert refused(lambda one=carrier: of_resource(one, "Patient", "Bundle.entry[0].resource"))[0] == 400

    def test_a_patch_can_be_applied_again(self) -> None:
        patch = of_json(b'[{"op":"add","path":"/name","value":[]},{"op":"add","path":"/name/-","value":{"text":"A"}}]')
        assert isinstance(patch, Patch)
        assert patch.apply(patient()) == patch.apply(patient()) == patient(name=[{"text": "A"}])
