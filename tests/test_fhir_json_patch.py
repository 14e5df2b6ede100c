"""JSON Patch: what it does, that numbers keep their writing, and how it refuses."""

from typing import Any

import pytest
from test_fhir_patch import ids, patient, refused

from fhir.patch import of_json
from fhir.wire import decode, encode

JSON = dict[str, Any]


def by_json(resource: JSON, *operations: JSON) -> JSON:
    return of_json(encode(list(operations))).apply(resource)


class TestJsonPatch:
    def test_every_operation(self) -> None:
        before = patient(gender="male", name=[{"family": "Frost"}], birthDate="1950-02-03")
        after = by_json(
            before,
            {"op": "test", "path": "/gender", "value": "male"},
            {"op": "add", "path": "/name/-", "value": {"family": "Winter"}},
            {"op": "add", "path": "/name/0/given", "value": ["Jo"]},
            {"op": "replace", "path": "/gender", "value": "female"},
            {"op": "remove", "path": "/birthDate"},
            {"op": "copy", "from": "/name/0", "path": "/name/1"},
            {"op": "move", "from": "/name/2", "path": "/name/0"},
        )
        jo = {"family": "Frost", "given": ["Jo"]}
        assert after == patient(gender="female", name=[{"family": "Winter"}, jo, jo])
        assert before == patient(gender="male", name=[{"family": "Frost"}], birthDate="1950-02-03")

    def test_numbers_keep_their_writing(self) -> None:
        observation = decode(
            b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"Weight"},'
            b'"valueQuantity":{"value":72.50}}'
        )
        patch = of_json(
            b'[{"op":"test","path":"/valueQuantity/value","value":72.5},'
            b'{"op":"add","path":"/referenceRange","value":[{"low":{"value":1.10}}]}]'
        )
        assert b'"value":72.50' in encode(patch.apply(observation))
        assert b'"value":1.10' in encode(patch.apply(observation))

    def test_escapes_in_pointers(self) -> None:
        before = patient(extension=[{"url": "urn:a/b~c", "valueString": "x"}])
        assert refused(lambda: by_json(before, {"op": "remove", "path": "/extension/0/a~1b~0c"}))[0] == 422
        assert refused(lambda: by_json(before, {"op": "remove", "path": "/a~2"}))[:2] == (400, "[0].path")

    def test_what_becomes_empty_is_gone(self) -> None:
        before = patient(identifier=ids("1"), name=[{"text": "A", "family": "B"}], contact=[{"name": {"text": "A"}}])
        removed = ("/identifier/0", "/contact/0/name/text", "/name/0/text")
        after = by_json(before, *({"op": "remove", "path": path} for path in removed))
        assert after == patient(name=[{"family": "B"}])
        built = by_json(
            patient(),
            {"op": "add", "path": "/name", "value": []},
            {"op": "add", "path": "/name/-", "value": {"text": "A"}},
        )
        assert built == patient(name=[{"text": "A"}])

    @pytest.mark.parametrize(
        ("operation", "place"),
        [
            ({"op": "test", "path": "/gender", "value": "female"}, "[0].path"),
            ({"op": "test", "path": "/active", "value": 1}, "[0].path"),
            ({"op": "remove", "path": "/birthDate"}, "[0].path"),
            ({"op": "replace", "path": "/birthDate", "value": "1950-01-01"}, "[0].path"),
            ({"op": "add", "path": "/name/2", "value": {}}, "[0].path"),
            ({"op": "add", "path": "/name/01", "value": {}}, "[0].path"),
            ({"op": "remove", "path": "/name/-1"}, "[0].path"),
            ({"op": "remove", "path": "/name/-"}, "[0].path"),
            ({"op": "add", "path": "/gender/0", "value": "x"}, "[0].path"),
            ({"op": "add", "path": "/contact/0/x", "value": "x"}, "[0].path"),
            ({"op": "move", "from": "/name", "path": "/name/0"}, "[0].path"),
            ({"op": "copy", "from": "/nothing", "path": "/name/0"}, "[0].path"),
            ({"op": "remove", "path": ""}, "[0].path"),
            ({"op": "replace", "path": "", "value": [1]}, "Resource"),
            ({"op": "replace", "path": "/id", "value": "q"}, "Patient.id"),
            ({"op": "replace", "path": "/resourceType", "value": "Person"}, "Patient.resourceType"),
            ({"op": "replace", "path": "/gender", "value": "sometimes"}, "Patient.gender"),
            ({"op": "add", "path": "/nonsense", "value": 1}, "Patient.nonsense"),
            ({"op": "add", "path": "/gender", "value": None}, "Patient.gender"),
        ],
    )
    def test_what_does_not_fit_is_422(self, operation: JSON, place: str) -> None:
        before = patient(gender="male", active=True, name=[{"family": "Frost"}])
        status, expression, said = refused(lambda: by_json(before, operation))
        assert (status, expression) == (422, place)
        assert "Frost" not in said
        assert "is male" not in said, "a refusal never quotes the record"

    @pytest.mark.parametrize(
        ("raw", "place"),
        [
            (b'{"op":"add"}', None),
            (b"[1]", "[0]"),
            (b'[{"op":"increase","path":"/a"}]', "[0].op"),
            (b'[{"op":[],"path":"/a"}]', "[0].op"),
            (b'[{"path":"/a"}]', "[0].op"),
            (b'[{"op":"add","path":"/a"}]', "[0].value"),
            (b'[{"op":"move","path":"/a"}]', "[0].from"),
            (b'[{"op":"remove","path":"a"}]', "[0].path"),
            (b'[{"op":"remove"}]', "[0].path"),
            (b'[{"op":"remove","path":7}]', "[0].path"),
            (b"[", None),
            (b'[{"op":"add","path":"/a","path":"/b","value":1}]', None),
        ],
    )
    def test_what_is_no_patch_is_400(self, raw: bytes, place: str | None) -> None:
        assert refused(lambda: of_json(raw))[:2] == (400, place)

    def test_copies_of_copies_are_bounded(self) -> None:
        doubling = [{"op": "copy", "from": "/extension", "path": "/extension/-"} for _ in range(40)]
        before = patient(extension=[{"url": "urn:x", "valueString": "x"}])
        assert refused(lambda: by_json(before, *doubling))[0] == 413
        assert refused(lambda: by_json(before, *[{"op": "remove", "path": "/x"}] * 1001))[0] == 413

    def test_a_nest_built_move_by_move_is_refused(self) -> None:
        wrapped = [
            one
            for _ in range(400)
            for one in (
                {"op": "add", "path": "/w", "value": {}},
                {"op": "move", "from": "/x", "path": "/w/x"},
                {"op": "move", "from": "/w", "path": "/x"},
            )
        ][:999]
        deep = [{"op": "add", "path": "/x", "value": {"a": 1}}, *wrapped]
        assert refused(lambda: by_json(patient(), *deep))[0] == 400
        copied = [*deep[:991], {"op": "copy", "from": "/x", "path": "/y"}]
        assert refused(lambda: by_json(patient(), *copied))[0] == 413
