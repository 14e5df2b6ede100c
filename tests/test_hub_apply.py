"""`$apply`: what a definition proposes for one person: a draft, never active, never half of it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from factories import consent
from rest import Caller, Fresh, Rest, running

from care_plans.activities import For, activity
from care_plans.application import apply
from fhir.outcome import Refusal
from fhir.store import Change, new_id
from fhir.validation import check
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
FOR = For("Patient/p", "2026-11-21T09:00:00Z", "Practitioner/d")
WEIGH = "http://example.org/ActivityDefinition/weigh"
MOOD = "http://example.org/Questionnaire/mood"


def weigh(**elements: Any) -> JSON:
    return {
        "resourceType": "ActivityDefinition",
        "id": "weigh",
        "url": WEIGH,
        "version": "1",
        "status": "active",
        "kind": "ServiceRequest",
        "title": "Weigh every day",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "timingTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        "intent": "order",
        "doNotPerform": False,
        **elements,
    }


def plan(**elements: Any) -> JSON:
    return {
        "resourceType": "PlanDefinition",
        "id": "hf",
        "url": "http://example.org/PlanDefinition/hf",
        "status": "active",
        "title": "Heart failure at home",
        "goal": [
            {
                "description": {"text": "Stay out of hospital"},
                "addresses": [{"text": "Heart failure"}],
                "target": [{"detailQuantity": {"value": 80, "unit": "kg"}, "due": {"value": 3, "unit": "mo"}}],
            }
        ],
        "action": [
            {
                "id": "a",
                "title": "Monitor",
                "action": [
                    {"id": "b", "title": "Weigh", "definitionCanonical": f"{WEIGH}|1"},
                    {
                        "title": "Ask about mood",
                        "definitionCanonical": MOOD,
                        "relatedAction": [{"actionId": "b", "relationship": "after-end"}],
                        "participant": [
                            {"type": "patient"},
                            {"type": "practitioner", "role": {"text": "health coach"}},
                        ],
                        "condition": [
                            {"kind": "stop", "expression": {"language": "text/plain", "expression": "3 weeks"}}
                        ],
                    },
                ],
            }
        ],
        **elements,
    }


def mood() -> JSON:
    return {"resourceType": "Questionnaire", "id": "mood", "url": MOOD, "status": "active", "title": "Mood"}


KNOWN = {f"{WEIGH}|1": weigh(), MOOD: mood()}


class TestPlan:
    def test_a_care_plan_with_its_actions_requests_and_goals(self) -> None:
        found = apply(plan(), KNOWN, FOR)
        check(found)
        assert (found["status"], found["intent"]) == ("draft", "proposal")
        group, request, task, goal = found["contained"]
        assert [one["resourceType"] for one in found["contained"]] == ["RequestGroup", "ServiceRequest", "Task", "Goal"]
        assert found["activity"] == [{"reference": {"reference": "#actions"}}]
        assert found["goal"] == [{"reference": "#goal-1"}]
        first, second = group["action"][0]["action"]
        assert first["resource"] == {"reference": f"#{request['id']}"}
        assert second["resource"] == {"reference": f"#{task['id']}"}
        assert second["participant"] == [{"reference": "Patient/p"}, {"reference": "Practitioner/d"}]
        assert second["relatedAction"][0]["actionId"] == first["id"]
        assert second["condition"][0]["kind"] == "stop"
        assert goal["target"][0]["dueDuration"] == {"value": 3, "unit": "mo"}
        assert task["input"][0]["valueCanonical"] == MOOD

    def test_hazard_proposal_taken_for_an_order_nothing_of_it_is_active(self) -> None:
        text = json.dumps(apply(plan(), KNOWN, FOR))
        assert '"active"' not in text
        assert '"order"' not in text
        for one in apply(plan(), KNOWN, FOR)["contained"]:
            assert one.get("status", one.get("lifecycleStatus")) in ("draft", "proposed")
            assert one.get("intent", "proposal") == "proposal"

    @pytest.mark.parametrize(
        ("change", "expression"),
        [
            ({"condition": [{"kind": "applicability"}]}, "PlanDefinition.action[0].condition[0]"),
            ({"dynamicValue": [{"path": "status"}]}, "PlanDefinition.action[0].dynamicValue"),
            ({"transform": "http://x"}, "PlanDefinition.action[0].transform"),
            ({"definitionUri": "http://x"}, "PlanDefinition.action[0].definitionUri"),
            ({"definitionCanonical": "http://x"}, "PlanDefinition.action[0].definitionCanonical"),
        ],
    )
    def test_hazard_proposal_taken_for_an_order_what_cannot_be_applied_refuses_the_whole(
        self, change: JSON, expression: str
    ) -> None:
        with pytest.raises(Refusal) as caught:
            apply(plan(action=[{"title": "A", **change}]), KNOWN, FOR)
        assert caught.value.issues[0].expression == expression
        assert caught.value.status in (404, 422)

    @pytest.mark.parametrize(
        "change",
        [
            {"status": "retired"},
            {"subjectCodeableConcept": {"coding": [{"code": "Practitioner"}]}},
            {"subjectReference": {"reference": "Group/1"}},
            {"action": [], "goal": []},
        ],
    )
    def test_plans_for_nobody_here(self, change: JSON) -> None:
        with pytest.raises(Refusal) as caught:
            apply(plan(**change), KNOWN, FOR)
        assert caught.value.status == 422

    def test_an_action_with_a_request_and_actions_below_keeps_both(self) -> None:
        both = [{"title": "A", "definitionCanonical": MOOD, "action": [{"title": "B"}]}]
        [action] = apply(plan(action=both), KNOWN, FOR)["contained"][0]["action"]
        assert "resource" not in action
        assert action["action"][0]["resource"] == {"reference": "#request-1"}
        assert action["action"][1] == {"title": "B"}

    def test_official_examples_are_applied_or_refused_by_name(self, shared_data: Path) -> None:
        applied = []
        for path in sorted((shared_data / "hl7-examples" / "PlanDefinition").glob("*.json")):
            definition = decode(path.read_bytes())
            try:
                check(apply(definition, {}, FOR))
                applied.append(definition["id"])
            except Refusal as refusal:
                assert refusal.issues[0].expression
                assert refusal.status in (404, 422)
        assert "options-example" in applied


class TestActivity:
    @pytest.mark.parametrize(
        ("definition", "expected"),
        [
            (
                weigh(),
                {"resourceType": "ServiceRequest", "status": "draft", "intent": "proposal", "doNotPerform": False},
            ),
            (weigh(code=None, timingTiming=None), {"code": {"text": "Weigh every day"}}),
            ({"kind": "Task", "title": "Ring"}, {"resourceType": "Task", "description": "Ring"}),
            (
                {"kind": "CommunicationRequest", "title": "Tell"},
                {"resourceType": "CommunicationRequest", "payload": [{"contentString": "Tell"}]},
            ),
            (
                {
                    "kind": "MedicationRequest",
                    "productCodeableConcept": {"text": "Furosemide"},
                    "dosage": [{"text": "one"}],
                    "quantity": {"value": 28},
                },
                {"medicationCodeableConcept": {"text": "Furosemide"}, "dispenseRequest": {"quantity": {"value": 28}}},
            ),
            ({"kind": "DeviceRequest", "code": {"text": "Scales"}}, {"codeCodeableConcept": {"text": "Scales"}}),
        ],
    )
    def test_each_kind(self, definition: JSON, expected: JSON) -> None:
        definition = {name: value for name, value in definition.items() if value is not None}
        found = activity({"resourceType": "ActivityDefinition", "status": "active", **definition}, FOR, "it")
        check(found)
        assert found | expected == found

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "Claim"},
            {"kind": None},
            {"dynamicValue": [{"path": "status"}]},
            {"timingAge": {"value": 70}},
            {"status": "retired"},
            {"kind": "MedicationRequest", "code": None, "timingTiming": None},
            {"kind": "DeviceRequest", "code": None, "doNotPerform": None},
        ],
    )
    def test_what_cannot_be_applied(self, change: JSON) -> None:
        definition = {name: value for name, value in weigh(**change).items() if value is not None}
        with pytest.raises(Refusal) as caught:
            activity(definition, FOR, "it")
        assert caught.value.status == 422
        assert (caught.value.issues[0].expression or "").startswith("ActivityDefinition.")


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        await put(made, weigh(), mood(), plan())
        yield made


async def put(rest: Rest, *resources: JSON) -> None:
    changes = [Change("create", one["resourceType"], one.get("id", new_id()), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)


async def applied(caller: Caller, path: str) -> JSON:
    answered = await caller("GET", path)
    assert answered.status_code == 200, answered.text
    return dict(decode(answered.content))


class TestOverHttp:
    async def test_by_id_by_url_and_posted(self, rest: Rest) -> None:
        person = await rest.patient()
        by_id = await applied(rest.system, f"/PlanDefinition/hf/$apply?subject=Patient/{person}")
        by_url = await applied(
            rest.system, f"/PlanDefinition/$apply?url=http://example.org/PlanDefinition/hf&subject={person}"
        )
        given = [
            {"name": "planDefinition", "resource": plan()},
            {"name": "subject", "valueString": f"Patient/{person}"},
        ]
        answered = await rest.system(
            "POST", "/PlanDefinition/$apply", {"resourceType": "Parameters", "parameter": given}
        )
        posted = decode(answered.content)
        for found in (by_id, by_url, posted):
            assert found["resourceType"] == "CarePlan"
            assert found["subject"] == {"reference": f"Patient/{person}"}
            assert len(found["contained"]) == 4
        request = await applied(rest.system, f"/ActivityDefinition/weigh/$apply?subject=Patient/{person}")
        assert request["resourceType"] == "ServiceRequest"
        assert await rest.rows("SELECT 1 FROM r_careplan") == [], "nothing is stored"

    async def test_what_it_gives_is_kept_only_with_the_persons_approval(self, rest: Rest) -> None:
        person = await rest.patient()
        found = await applied(rest.system, f"/PlanDefinition/hf/$apply?subject=Patient/{person}")
        assert (await rest.system("POST", "/CarePlan", found)).status_code == 422
        async with rest.database.transaction() as tx:
            await consent(tx, person)
        stored = await rest.system("POST", "/CarePlan", found)
        assert stored.status_code == 201, stored.text

    async def test_only_for_people_in_ones_care(self, rest: Rest) -> None:
        person, other = await rest.patient(), await rest.patient()
        path = f"/PlanDefinition/hf/$apply?subject=Patient/{person}"
        assert (await rest.nobody("GET", path)).status_code == 401
        assert (await (await rest.device(person))("GET", path)).status_code == 403
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        assert (await coordinator("GET", path)).status_code == 404
        assert (await (await rest.user("patient", f"Patient/{other}"))("GET", path)).status_code == 404
        assert (await (await rest.user("patient", f"Patient/{person}"))("GET", path)).status_code == 200
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s", person)
        assert ("apply",) in rows

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/PlanDefinition/hf/$apply", 400),
            ("/PlanDefinition/hf/$apply?subject=Group/1", 400),
            ("/PlanDefinition/hf/$apply?subject=Patient/unknown", 404),
            ("/PlanDefinition/unknown/$apply?subject=Patient/{}", 404),
            ("/PlanDefinition/$apply?url=http://example.org/none&subject=Patient/{}", 404),
            ("/PlanDefinition/$apply?subject=Patient/{}", 400),
            ("/PlanDefinition/hf/$apply?subject=Patient/{}&practitioner=Practitioner/unknown", 404),
            ("/PlanDefinition/hf/$apply?subject=Patient/{}&userLanguage=cy", 400),
            ("/Patient/{}/$apply", 404),
        ],
    )
    async def test_refusals(self, rest: Rest, path: str, status: int) -> None:
        answered = await rest.system("GET", path.format(await rest.patient()))
        assert answered.status_code == status, answered.text
