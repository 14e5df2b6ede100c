"""What a bundle asks for, in which order, and what its references mean."""

from typing import Any

import pytest

from fhir.bundle import Condition, alone, entry_of, plan
from fhir.outcome import Refusal

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
        assert (step.id, step.if_match) == ("a", 3)
        assert entry_of(entry("GET", "Patient/a/_history/2"), 0, BASE).version == 2


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
        assert made.conditions() == [condition]
        met = made.bound({condition: "known"})
        assert met.steps[0].existing == "known"
        assert met.steps[1].resource == about("Patient/known")
        new = made.bound({condition: None})
        assert new.steps[1].resource == about(f"Patient/{new.steps[0].id}")

    def test_a_conditional_reference_must_be_met(self) -> None:
        made = plan(transaction(entry("POST", "Condition", about("Patient?identifier=a|1"))), BASE)
        (condition,) = made.sought()
        assert made.bound({condition: "known"}).steps[0].resource == about("Patient/known")
        with pytest.raises(Refusal) as caught:
            made.bound({condition: None})
        assert caught.value.status == 412
        assert caught.value.issues[0].expression == "Bundle.entry[0].resource"


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
            (entry("PATCH", "Patient/a"), "Bundle.entry[0].request.method"),
            (entry("POST", "Nothing", patient()), "Bundle.entry[0].request.url"),
            (entry("POST", "Patient"), "Bundle.entry[0].resource"),
            (entry("POST", "Patient/a", patient()), "Bundle.entry[0].request.url"),
            (entry("POST", "Condition", patient()), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient", patient(id="a")), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient?name=a", patient(id="a")), "Bundle.entry[0].request.url"),
            (entry("PUT", "Patient/a", patient(id="b")), "Bundle.entry[0].resource.id"),
            (entry("PUT", "Patient/a", patient(id="a"), ifMatch="new"), "Bundle.entry[0].request.ifMatch"),
            (entry("DELETE", "Patient?name=a"), "Bundle.entry[0].request.url"),
            (entry("GET", "Patient/a/$everything"), "Bundle.entry[0].request.url"),
            (entry("GET", "Patient?%ff"), "Bundle.entry[0].request.url"),
            (entry("POST", "Patient", patient(), ifNoneExist="_count=1"), "Bundle.entry[0].request.ifNoneExist"),
        ],
    )
    def test_entries_that_cannot_be_understood(self, made: JSON, expression: str) -> None:
        assert [where for where, _ in reasons(transaction(made))] == [expression]

    def test_every_bad_entry_is_named(self) -> None:
        bundle = transaction(entry("POST", "Patient"), entry("PATCH", "Patient/a"), entry("GET", "Patient/a"))
        assert [where for where, _ in reasons(bundle)] == ["Bundle.entry[0].resource", "Bundle.entry[1].request.method"]

    def test_one_full_url_for_two_entries(self) -> None:
        twice = [entry("POST", "Patient", patient(), TestReferences.URN) for _ in range(2)]
        assert [where for where, _ in reasons(transaction(*twice))] == ["Bundle.entry[1].fullUrl"]

    def test_an_entry_of_a_batch_may_not_refer_to_another(self) -> None:
        step = entry_of(entry("POST", "Condition", about(TestReferences.URN)), 1, BASE)
        with pytest.raises(Refusal, match="send a transaction"):
            alone(step, frozenset({TestReferences.URN}))
        assert alone(step, frozenset()).steps == (step,)
        assert alone(step, frozenset({TestReferences.URN}), own=TestReferences.URN).steps == (step,)
