"""What a bundle asks for, in which order, and what its references mean."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir.bundle import alone, plan
from fhir.outcome import Refusal
from fhir.steps import Condition, entry_of
from fhir.wire import encode

BASE = "https://hub.example/fhir"
JSON = dict[str, Any]


def entry(method: str, url: str, resource: JSON | None = None, full_url: str | None = None, **request: Any) -> JSON:
    made: JSON = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def transaction(*entries: JSON) -> JSON:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def patient(**elements: Any) -> JSON:
    return {"resourceType": "Patient", **elements}


def about(reference: str, **elements: Any) -> JSON:
    return {"resourceType": "Condition", "subject": {"reference": reference}, **elements}


REMOVAL = {
    "resourceType": "Binary",
    "contentType": "application/json-patch+json",
    "data": b64encode(b'[{"op":"remove","path":"/active"}]').decode(),
}


def reasons(bundle: JSON) -> list[tuple[str | None, str]]:
    with pytest.raises(Refusal) as caught:
        plan(bundle, BASE)
    assert caught.value.status == 400
    return [(issue.expression, issue.diagnostics) for issue in caught.value.issues]


class TestOrder:
    def test_deletes_creates_updates_then_reads(self) -> None:
        made = plan(
            transaction(
                entry("GET", "Patient/a"),
                entry("PUT", "Patient/b", patient(id="b")),
                entry("POST", "Patient", patient()),
                entry("DELETE", "Patient/d"),
                entry("GET", "Patient?name=x&name=y"),
            ),
            BASE,
        )
        assert [(step.method, step.position) for step in made.steps] == [
            ("DELETE", 3),
            ("POST", 2),
            ("PUT", 1),
            ("GET", 0),
            ("GET", 4),
        ]
        assert made.steps[4].query == (("name", "x"), ("name", "y"))

    def test_versions_and_addresses_of_this_hub(self) -> None:
        step = entry_of(entry("PUT", f"{BASE}/Patient/a", patient(id="a"), ifMatch='W/"3"'), 0, BASE)
        assert (step.id, step.if_match) == ("a", (3,))
        assert entry_of(entry("GET", f"{BASE}/Patient/a/_history/2"), 0, BASE).path == ("Patient", "a", "_history", "2")


class TestReferences:
    URN = "urn:uuid:0192f5a0-1111-4abc-8def-0123456789ab"

    @pytest.mark.parametrize(
        ("full_url", "reference"),
        [
            (URN, URN),
            ("https://other.example/fhir/Patient/7", "https://other.example/fhir/Patient/7"),
            ("https://other.example/fhir/Patient/7", "https://other.example/fhir/Patient/7/_history/3"),
            ("Patient/7", "Patient/7"),
        ],
    )
    def test_what_an_entry_is_called_becomes_its_new_id(self, full_url: str, reference: str) -> None:
        made = plan(
            transaction(entry("POST", "Condition", about(reference)), entry("POST", "Patient", patient(), full_url)),
            BASE,
        ).bound({})
        by_type = {step.type: step for step in made.steps}
        assert by_type["Condition"].resource == about(f"Patient/{by_type['Patient'].id}")

    def test_a_relative_reference_means_an_entry_of_the_same_server_only(self) -> None:
        """Hazard: wrong patient. `Patient/7` of another server is not the hub's, nor the other way round."""
        other = "https://other.example/fhir"
        made = plan(
            transaction(
                entry("POST", "Patient", patient(), f"{other}/Patient/7"),
                entry("POST", "Condition", about("Patient/7"), f"{other}/Condition/1"),
                entry("POST", "Condition", about("Patient/7"), "https://third.example/Condition/1"),
                entry("POST", "Condition", about("Patient/7"), self.URN),
                entry("POST", "Condition", about("Patient/7")),
            ),
            BASE,
        ).bound({})
        meant = [step.resource["subject"]["reference"] for step in made.steps[1:] if step.resource]
        assert meant == [f"Patient/{made.steps[0].id}", "Patient/7", "Patient/7", "Patient/7"]

    def test_everywhere_in_a_resource_but_not_in_identifiers(self) -> None:
        resource = about(
            self.URN,
            identifier=[{"system": "urn:ietf:rfc:3986", "value": self.URN}],
            extension=[{"url": "https://a.example", "valueUri": self.URN}],
            evidence=[{"detail": [{"reference": self.URN}]}],
            text={"status": "generated", "div": f'<div><a href="{self.URN}">{self.URN}</a></div>'},
        )
        made = plan(
            transaction(entry("POST", "Patient", patient(), self.URN), entry("POST", "Condition", resource)), BASE
        ).bound({})
        new = f"Patient/{made.steps[0].id}"
        assert made.steps[1].resource == about(
            new,
            identifier=[{"system": "urn:ietf:rfc:3986", "value": self.URN}],
            extension=[{"url": "https://a.example", "valueUri": new}],
            evidence=[{"detail": [{"reference": new}]}],
            text={"status": "generated", "div": f'<div><a href="{new}">{self.URN}</a></div>'},
        )
        assert resource["subject"]["reference"] == self.URN, "the bundle itself stays as it came"

    def test_other_references_stay(self) -> None:
        for reference in ("Patient/other", "#contained", "https://other.example/fhir/Patient/9", "urn:uuid:unknown"):
            made = plan(transaction(entry("POST", "Condition", about(reference))), BASE).bound({})
            assert made.steps[0].resource == about(reference)

    def test_a_conditional_create_that_met_something_is_what_references_mean(self) -> None:
        made = plan(
            transaction(
                entry("POST", "Patient", patient(), self.URN, ifNoneExist="identifier=a|1"),
                entry("POST", "Condition", about(self.URN)),
            ),
            BASE,
        )
        condition = Condition("Patient", (("identifier", "a|1"),))
        assert made.conditions() == {condition}
        met = made.bound({condition: "known"})
        assert met.steps[0].existing == "known"
        assert met.steps[1].resource == about("Patient/known")
        new = made.bound({condition: None})
        assert new.steps[1].resource == about(f"Patient/{new.steps[0].id}")

    def test_a_conditional_reference_must_be_met(self) -> None:
        made = plan(transaction(entry("POST", "Condition", about("Patient?identifier=a|1"))), BASE)
        (condition,) = made.sought
        assert made.bound({condition: "known"}).steps[0].resource == about("Patient/known")
        with pytest.raises(Refusal) as caught:
            made.bound({condition: None})
        assert caught.value.status == 412
        assert caught.value.issues[0].expression == "Bundle.entry[0].resource"


class TestCriteria:
    CONDITION = Condition("Patient", (("identifier", "a|1"),))

    def put(self, **elements: Any) -> JSON:
        return entry("PUT", "Patient?identifier=a%7C1", patient(**elements), TestReferences.URN)

    def test_an_update_goes_to_what_meets_them_and_references_follow(self) -> None:
        made = plan(transaction(self.put(), entry("POST", "Condition", about(TestReferences.URN))), BASE)
        assert made.conditions() == {self.CONDITION}
        posted, put = made.bound({self.CONDITION: "known"}).steps
        assert (put.id, put.existing, posted.resource) == ("known", "known", about("Patient/known"))

    def test_an_update_of_nothing_creates_under_the_id_given_or_a_new_one(self) -> None:
        (given,) = plan(transaction(self.put(id="mine")), BASE).bound({self.CONDITION: None}).steps
        assert (given.id, given.existing) == ("mine", None)
        (new,) = plan(transaction(self.put()), BASE).bound({self.CONDITION: None}).steps
        assert new.id not in (None, "mine")

    def test_another_id_than_the_one_that_is_meant_is_refused(self) -> None:
        with pytest.raises(Refusal) as caught:
            plan(transaction(self.put(id="mine")), BASE).bound({self.CONDITION: "known"})
        assert (caught.value.status, caught.value.issues[0].expression) == (400, "Bundle.entry[0].resource.id")

    def test_a_deletion_of_nothing_is_done_and_a_patch_of_nothing_is_not(self) -> None:
        (gone,) = (
            plan(transaction(entry("DELETE", "Patient?identifier=a%7C1")), BASE).bound({self.CONDITION: None}).steps
        )
        assert gone.id is None
        with pytest.raises(Refusal) as caught:
            plan(transaction(entry("PATCH", "Patient?identifier=a%7C1", REMOVAL)), BASE).bound({self.CONDITION: None})
        assert caught.value.status == 404

    @pytest.mark.parametrize(
        "other",
        [
            entry("PUT", "Patient/known", patient(id="known")),
            entry("DELETE", "Patient/known"),
            entry("PATCH", "Patient/known", REMOVAL),
            entry("DELETE", "Patient?name=x"),
            entry("POST", "Patient", patient(), ifNoneExist="name=x"),
        ],
    )
    def test_entries_that_turn_out_to_be_about_one_resource_name_both(self, other: JSON) -> None:
        met = {self.CONDITION: "known", Condition("Patient", (("name", "x"),)): "known"}
        with pytest.raises(Refusal) as caught:
            plan(transaction(other, self.put()), BASE).bound(met)
        (issue,) = caught.value.issues
        assert (caught.value.status, issue.expression) == (400, "Bundle.entry[1].request.url")
        assert f"Bundle.entry[0] ({other['request']['method']}" in issue.diagnostics
        assert "Bundle.entry[1] (PUT Patient?identifier=a%7C1)" in issue.diagnostics

    @pytest.mark.parametrize("before", ["", "?", "Patient?"])
    def test_a_question_mark_in_a_value_belongs_to_it(self, before: str) -> None:
        created = entry("POST", "Patient", patient(), ifNoneExist=f"{before}identifier=a|1?name=b")
        (step,) = plan(transaction(created), BASE).steps
        assert step.where == Condition("Patient", (("identifier", "a|1?name=b"),))

    def test_the_format_of_an_address_is_none_of_them(self) -> None:
        put = entry("PUT", "Patient?identifier=a%7C1&_format=json&_pretty=true", patient())
        assert plan(transaction(put), BASE).conditions() == {self.CONDITION}

    def test_one_criteria_twice_is_refused_before_anything_is_asked(self) -> None:
        created = entry("POST", "Patient", patient(), ifNoneExist="identifier=a|1")
        for other in (created, entry("DELETE", "Patient?identifier=a%7C1")):
            ((_, text),) = reasons(transaction(created, other))
            assert "Bundle.entry[0] and Bundle.entry[1] have the same criteria" in text


class TestPatches:
    def test_what_a_patch_brings_is_linked_too(self) -> None:
        link = TestReferences.URN
        operations = [
            {"op": "add", "path": "/subject", "value": {"reference": link}},
            {"op": "replace", "path": "/recorder/reference", "value": link},
            {"op": "replace", "path": "/note/0/text", "value": link},
        ]
        binary = {**REMOVAL, "data": b64encode(encode(operations)).decode()}
        parts = [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "Condition.subject.reference"},
            {"name": "value", "valueString": link},
        ]
        parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
        made = plan(
            transaction(
                entry("POST", "Patient", patient(), link),
                entry("PATCH", "Condition/a", binary),
                entry("PATCH", "Condition/b", parameters),
            ),
            BASE,
        ).bound({})
        new = f"Patient/{made.steps[0].id}"
        first, second = (step.patch.operations for step in made.steps[1:] if step.patch)
        assert [one["value"] for one in first] == [{"reference": new}, new, link]
        assert second["parameter"][0]["part"][2]["valueString"] == new

    def test_criteria_in_a_patch_are_sought(self) -> None:
        operations = [{"op": "add", "path": "/subject", "value": {"reference": "Patient?identifier=a|1"}}]
        binary = {**REMOVAL, "data": b64encode(encode(operations)).decode()}
        made = plan(transaction(entry("PATCH", "Condition/a", binary)), BASE)
        assert made.sought == {TestCriteria.CONDITION}
        (step,) = made.bound({TestCriteria.CONDITION: "known"}).steps
        assert step.patch is not None
        assert step.patch.operations[0]["value"] == {"reference": "Patient/known"}


class TestLimits:
    def test_entries_and_looks_are_bounded(self) -> None:
        for entries in ([entry("GET", "Patient/a")] * 501, [entry("DELETE", "Patient/a")] * 5001):
            with pytest.raises(Refusal) as caught:
                plan(transaction(*entries), BASE)
            assert caught.value.status == 413
            assert caught.value.issues[0].expression == "Bundle.entry"


class TestLooks:
    @pytest.mark.parametrize(
        "url",
        ["Patient", "Patient?name=a", "Patient/a", "Patient/a/_history", "Patient/_history?_count=2", "_history",
         "Patient/a/Observation?code=x", f"{BASE}/Patient?name=a", "Practitioner/a/*", "?_type=Patient"],
    )  # fmt: skip
    def test_every_address_that_is_answered(self, url: str) -> None:
        (step,) = plan(transaction(entry("GET", url)), BASE).steps
        path = url.removeprefix(BASE).strip("/").partition("?")[0]
        assert step.path == tuple(path.split("/") if path else ())

    def test_conditions(self) -> None:
        look = entry("GET", "Patient/a", ifNoneMatch='W/"2"', ifModifiedSince="2026-11-21T09:00:00+01:00")
        (step,) = plan(transaction(look), BASE).steps
        assert (step.known, step.since) == (2, datetime(2026, 11, 21, 8, tzinfo=UTC))


class TestRefusals:
    def test_two_writes_of_one_identity_name_both(self) -> None:
        bundle = transaction(
            entry("PUT", "Patient/a", patient(id="a")), entry("GET", "Patient/a"), entry("DELETE", "Patient/a")
        )
        ((expression, text),) = reasons(bundle)
        assert expression == "Bundle.entry[2].request.url"
        assert "Bundle.entry[0] (PUT)" in text
        assert "Bundle.entry[2] (DELETE)" in text

    @pytest.mark.parametrize(
        ("made", "expression"),
        [
            ({"resource": patient()}, "Bundle.entry[0].request"),
            (entry("MERGE", "Patient/a"), "Bundle.entry[0].request.method"),
            (entry("PATCH", "Patient/a"), "Bundle.entry[0].resource"),
            (entry("PATCH", "Patient/a", patient(id="a")), "Bundle.entry[0].resource"),
            (entry("PATCH", "Patient", REMOVAL), "Bundle.entry[0].request.url"),
            (entry("PATCH", "Patient/a", REMOVAL, ifNoneMatch="*"), "Bundle.entry[0].request.ifNoneMatch"),
            (entry("POST", "Nothing", patient()), "Bundle.entry[0].request.url"),
            (entry("POST", "Patient"), "Bundle.entry[0].resource"),
            (entry("POST", "Patient/a", patient()), "Bundle.entry[0].request.url"),
            (entry("POST", "Condition", patient()), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient", patient(id="a")), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient?_sort=name", patient(id="a")), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient/a?name=b", patient(id="a")), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient/a", patient(id="a"), ifNoneExist="name=a"), "Bundle.entry[0].request.ifNoneExist"),
            (entry("PUT", "Patient/a", patient(id="a"), ifNoneMatch='W/"1"'), "Bundle.entry[0].request.ifNoneMatch"),
            (entry("PUT", "Patient/a", patient(id="b")), "Bundle.entry[0].resource.id"),
            (entry("PUT", "Patient/a", patient(id="a"), ifMatch="new"), "Bundle.entry[0].request.ifMatch"),
            (entry("DELETE", "Patient"), "Bundle.entry[0].request.url"),
            (entry("DELETE", "Patient?_count=1"), "Bundle.entry[0].request.url"),
            (entry("DELETE", "Nothing?name=a"), "Bundle.entry[0].request.url"),
            (entry("GET", "Observation/a/Patient"), "Bundle.entry[0].request.url"),
            (entry("GET", ""), "Bundle.entry[0].request.url"),
            (entry("GET", "Patient/a?name=b"), "Bundle.entry[0].request.url"),
            (entry("GET", "metadata"), "Bundle.entry[0].request.url"),
            (entry("GET", "Patient/a", ifModifiedSince="yesterday"), "Bundle.entry[0].request.ifModifiedSince"),
            (
                entry("GET", "Patient/a", ifModifiedSince="2026-11-21T09:00:00"),
                "Bundle.entry[0].request.ifModifiedSince",
            ),
            (entry("GET", "Patient/a", ifMatch='W/"1"'), "Bundle.entry[0].request.ifMatch"),
            (entry("GET", "Patient/a/$everything"), "Bundle.entry[0].request.url"),
            (entry("GET", "Patient?%ff"), "Bundle.entry[0].request.url"),
            (entry("POST", "Patient", patient(), ifNoneExist="_count=1"), "Bundle.entry[0].request.ifNoneExist"),
        ],
    )
    def test_entries_that_cannot_be_understood(self, made: JSON, expression: str) -> None:
        assert [where for where, _ in reasons(transaction(made))] == [expression]

    def test_every_bad_entry_is_named(self) -> None:
        bundle = transaction(entry("POST", "Patient"), entry("PATCH", "Patient/a"), entry("GET", "Patient/a"))
        assert [where for where, _ in reasons(bundle)] == ["Bundle.entry[0].resource", "Bundle.entry[1].resource"]

    def test_one_full_url_for_two_entries(self) -> None:
        twice = [entry("POST", "Patient", patient(), TestReferences.URN) for _ in range(2)]
        assert [where for where, _ in reasons(transaction(*twice))] == ["Bundle.entry[1].fullUrl"]

    def test_an_entry_of_a_batch_may_not_refer_to_another(self) -> None:
        step = entry_of(entry("POST", "Condition", about(TestReferences.URN)), 1, BASE)
        with pytest.raises(Refusal, match="send a transaction"):
            alone(step, frozenset({TestReferences.URN}))
        assert alone(step, frozenset()).steps == (step,)
        assert alone(step, frozenset({TestReferences.URN}), own=TestReferences.URN).steps == (step,)
