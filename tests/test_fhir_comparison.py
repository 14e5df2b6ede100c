"""Differences between versions: carried out as a patch, they turn the first into the second."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir import fhirpath_patch
from fhir.comparison import compare
from fhir.types import SERVED
from fhir.validation import check
from fhir.wire import decode

JSON = dict[str, Any]


def patched(before: JSON, after: JSON) -> JSON:
    operations = [one.operation for one in compare(before, after)]
    parameters: JSON = {"resourceType": "Parameters", "parameter": operations}
    if operations:
        check(parameters)
    else:
        del parameters["parameter"]
    return fhirpath_patch.apply(fhirpath_patch.checked(parameters, before["resourceType"]), before)


def person(**elements: Any) -> JSON:
    return {"resourceType": "Patient", "id": "p", **elements}


PAIRS = [
    (person(), person()),
    (person(birthDate="1950-02-03"), person(birthDate="1950-02-04")),
    (person(birthDate="1950-02-03"), person()),
    (person(), person(birthDate="1950-02-03", gender="female")),
    (person(deceasedBoolean=False), person(deceasedDateTime="2026-11-01")),
    (person(deceasedDateTime="2026-11-01"), person(deceasedBoolean=True)),
    (
        person(name=[{"family": "Frost", "given": ["Jo"]}]),
        person(name=[{"family": "Frost", "given": ["Jo", "Ada"]}, {"family": "Gale"}]),
    ),
    (
        person(name=[{"family": "A"}, {"family": "B"}, {"family": "C"}, {"family": "D"}]),
        person(name=[{"family": "B"}, {"family": "X", "use": "old"}, {"family": "D"}, {"family": "E"}]),
    ),
    (
        person(birthDate="1950-02-03", _birthDate={"extension": [{"url": "http://x", "valueString": "a"}]}),
        person(birthDate="1950-02-03", _birthDate={"extension": [{"url": "http://x", "valueString": "b"}]}),
    ),
    (
        person(extension=[{"url": "http://x", "valueQuantity": {"value": 1, "unit": "kg"}}]),
        person(extension=[{"url": "http://x", "valueCode": "b"}, {"url": "http://y", "valueBoolean": True}]),
    ),
    (
        person(contact=[{"relationship": [{"text": "son"}], "name": {"family": "A"}}]),
        person(contact=[{"name": {"family": "B"}}, {"relationship": [{"text": "daughter"}]}]),
    ),
    (
        person(contained=[{"resourceType": "Organization", "id": "o", "name": "A"}]),
        person(contained=[{"resourceType": "Organization", "id": "o", "name": "B"}]),
    ),
    (
        person(text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">a</div>'}),
        person(text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">b</div>'}),
    ),
    (person(communication=[{"language": {"text": "Welsh"}, "preferred": True}]), person(active=True)),
]


def _phone(number: str) -> JSON:
    return {"system": "phone", "value": number}


class TestPatch:
    @pytest.mark.parametrize(("before", "after"), PAIRS)
    def test_it_turns_the_first_into_the_second_and_back(self, before: JSON, after: JSON) -> None:
        assert patched(before, after) == after
        assert patched(after, before) == before

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.sampled_from("abcdef"), max_size=8),
        st.lists(st.sampled_from("abcdef"), max_size=8),
        st.sampled_from(["given", "prefix"]),
    )
    def test_any_two_lists(self, one: list[str], other: list[str], name: str) -> None:
        before, after = (
            person(name=[{"family": "F", **({name: items} if items else {})}], telecom=[_phone(x) for x in items])
            for items in (one, other)
        )
        for resource in (before, after):
            if not resource["telecom"]:
                del resource["telecom"]
        assert patched(before, after) == after

    def test_official_examples_from_nothing_and_back(self, shared_data: Path) -> None:
        tried = 0
        for path in sorted((shared_data / "hl7-examples").rglob("*.json"))[::4]:
            example = decode(path.read_bytes())
            if example["resourceType"] not in SERVED:
                continue
            bare = {"resourceType": example["resourceType"], "id": example.get("id", "x")}
            example = {name: value for name, value in example.items() if name not in ("id", "meta")} | {
                "id": bare["id"]
            }
            operations = [one.operation for one in compare(bare, example)]
            if len(operations) > fhirpath_patch.MOST_OPERATIONS:
                continue
            parameters = {"resourceType": "Parameters", "parameter": operations}
            made = fhirpath_patch.apply(fhirpath_patch.checked(parameters, example["resourceType"]), bare)
            assert made == example, path.name
            assert compare(example, made) == []
            tried += 1
        assert tried > 20


class TestWords:
    def test_each_change_is_said(self) -> None:
        before = person(birthDate="1950-02-03", gender="female", name=[{"family": "Frost", "given": ["Jo"]}])
        after = person(
            birthDate="1950-02-04",
            name=[{"family": "Frost", "given": ["Jo"]}, {"family": "Gale", "given": ["Jo", "Ann"]}],
            maritalStatus={"text": "widowed"},
        )
        assert {one.words for one in compare(before, after)} == {
            "Patient.name[1]: added Jo Ann Gale",
            "Patient.gender: removed female",
            "Patient.birthDate: 1950-02-03 became 1950-02-04",
            "Patient.maritalStatus: added widowed",
        }

    def test_quantities_codes_periods_and_long_texts(self) -> None:
        def observation(**elements: Any) -> JSON:
            return {"resourceType": "Observation", "status": "final", **elements}

        before = observation(
            valueQuantity={"value": 80, "unit": "kg"}, code={"coding": [{"code": "a", "display": "A"}]}
        )
        after = observation(
            valueQuantity={"value": 81, "unit": "kg"},
            code={"text": "Weight"},
            effectivePeriod={"start": "2026"},
            note=[{"text": "long " * 100}],
        )
        said = [one.words for one in compare(before, after)]
        assert "Observation.value.value: 80 became 81" in said
        assert "Observation.effective: added 2026 to …" in said
        assert all(len(one) < 300 for one in said)
        assert any(one.endswith("…") for one in said)

    def test_meta_only_when_asked_for(self) -> None:
        before, after = person(meta={"versionId": "1"}), person(meta={"versionId": "2"})
        assert compare(before, after) == []
        assert [one.path for one in compare(before, after, meta=True)] == ["Patient.meta"]

    def test_two_large_lists_take_no_long_time(self) -> None:
        def numbers(start: int) -> JSON:
            return {
                "resourceType": "List",
                "status": "current",
                "mode": "working",
                "entry": [{"item": {"reference": f"Patient/{number}"}} for number in range(start, start + 1500)],
            }

        assert len(compare(numbers(0), numbers(1))) >= 1
        assert json.dumps([one.words for one in compare(numbers(0), numbers(1))])
