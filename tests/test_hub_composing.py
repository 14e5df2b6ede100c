"""A hub's own rules: from draft to live to retired, whom they watch, and what no door lets through."""

import asyncio
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from monitoring_cases import hours
from rest import running
from test_flow_readings import NOW, person, rows, send, spo2

from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import composing, flows
from hub.db import Database, Tx
from hub.identity import IMPORTER, Actor
from monitoring import rule_projection
from monitoring.composed import Clause, Composed
from monitoring.in_force import rules_for
from monitoring.local_rules import LIVE, LocalRule, Scope, Step
from monitoring.plan_definitions import to_plan_definition

YEOVIL = ("Organization/yeovil",)
NURSE = Actor("user", "a1", "Nina Nurse", "clinician", "Practitioner/nina", ("Practitioner/nina", *YEOVIL), "yeovil")
COORDINATOR = Actor(
    "user", "a2", "Cora", "care-coordinator", "Practitioner/cora", ("Practitioner/cora", *YEOVIL), "yeovil"
)
ELSEWHERE = Actor(
    "user", "a3", "Ed", "clinician", "Practitioner/ed", ("Practitioner/ed", "Organization/taunton"), "taunton"
)
EHR = Actor("system", "a4", "EHR", "ehr-system", "Device/ehr", ("Device/ehr",))

PERCENT = {"value": 96, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}

LOW = Composed("all", (Clause("spo2", "at-most", 96.0),), severity=2, told="Sit down and rest for five minutes.")


def made(what: Composed | None = LOW, scope: Scope | None = None, **more: Any) -> LocalRule:
    id_ = new_id()
    given: dict[str, Any] = {"key": f"local-{id_}", "version": 1, "status": "draft", "name": "Lower than we like"}
    return LocalRule(id_, scope=scope or Scope("yeovil"), what=what, **{**given, **more})


async def live(tx: Tx, rule: LocalRule, actor: Actor = NURSE) -> LocalRule:
    await composing.draft(tx, actor, rule)
    return await composing.make_live(tx, actor, rule.id, "Agreed at the meeting")


async def flags_of(tx: Tx, patient_id: str) -> list[Any]:
    return await rows(
        tx, "SELECT rule, rule_version, severity FROM flag WHERE patient_id = %s ORDER BY rule", patient_id
    )


async def attached(tx: Tx, patient_id: str) -> None:
    """The hub is in the person's care team, so that its clinicians see them."""
    team = {
        "resourceType": "CareTeam",
        "status": "active",
        "subject": {"reference": f"Patient/{patient_id}"},
        "managingOrganization": [{"reference": "Organization/yeovil"}],
        "participant": [{"member": {"reference": "Organization/yeovil"}}],
    }
    await flows.write(tx, IMPORTER, [Change("create", "CareTeam", new_id(), team)])


def refused(error: pytest.ExceptionInfo[Refusal]) -> tuple[int, Sequence[str | None]]:
    return error.value.status, [one.expression for one in error.value.issues]


class TestFromDraftToLiveToRetired:
    async def test_a_draft_watches_nobody_and_what_is_live_everybody_of_its_hub(self, tx: Tx) -> None:
        rule = made()
        await composing.draft(tx, NURSE, rule)
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        assert await flags_of(tx, first) == []
        await composing.make_live(tx, NURSE, rule.id, "Agreed at the meeting")
        await send(tx, device, spo2(first, "96", NOW + timedelta(minutes=1)), now=NOW + timedelta(minutes=1))
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]
        ((advice, summary),) = await rows(tx, "SELECT advice, summary FROM flag WHERE patient_id = %s", first)
        assert advice == "Sit down and rest for five minutes."
        assert summary == "Oxygen saturation 96 %, at or below 96 %."

    async def test_retired_it_watches_nobody_and_its_flags_stay(self, tx: Tx) -> None:
        rule = await live(tx, made())
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        await composing.retire(tx, NURSE, rule.id, "Too many calls")
        second, other = await person(tx)
        await send(tx, other, spo2(second, "96"))
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]
        assert await flags_of(tx, second) == []
        found, _ = await composing.find(tx, NURSE, rule.id)
        assert [(one.to, one.by, one.why) for one in found.steps] == [
            ("active", "Practitioner/nina", "Agreed at the meeting"),
            ("retired", "Practitioner/nina", "Too many calls"),
        ]

    async def test_hazard_rule_changed_unseen_old_flags_keep_their_version(self, tx: Tx) -> None:
        rule = await live(tx, made())
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        draft = await composing.next_version(tx, NURSE, rule.id)
        assert (draft.key, draft.version, draft.what) == (rule.key, 2, rule.what)
        assert (await composing.next_version(tx, NURSE, rule.id)).id == draft.id
        stricter = replace(draft, what=replace(LOW, clauses=(Clause("spo2", "at-most", 95.0),)))
        await composing.draft(tx, NURSE, stricter, (await composing.find(tx, NURSE, draft.id))[1])
        # Version 1 goes on watching until the next is live.
        second, other = await person(tx)
        await send(tx, other, spo2(second, "96"))
        assert await flags_of(tx, second) == [(rule.key, 1, 2)]
        await composing.make_live(tx, NURSE, draft.id, "96 was too high")
        assert [one.status for one in await composing.versions(tx, rule)] == ["active", "retired"]
        third, another = await person(tx)
        await send(tx, another, spo2(third, "96"))
        assert await flags_of(tx, third) == []
        await send(tx, another, spo2(third, "95", NOW + hours(0.01)), now=NOW + hours(0.01))
        assert await flags_of(tx, third) == [(rule.key, 2, 2)]
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]

    async def test_every_step_is_in_the_audit_trail(self, tx: Tx) -> None:
        rule = await live(tx, made())
        found = await rows(
            tx,
            "SELECT actor, action FROM audit WHERE type = 'PlanDefinition' AND resource_id = %s ORDER BY seq",
            rule.id,
        )
        assert found == [("Practitioner/nina", "create"), ("Practitioner/nina", "update")]


class TestWhomItWatches:
    async def test_nobody_of_another_hub(self, tx: Tx) -> None:
        await live(tx, made(scope=Scope("taunton")), ELSEWHERE)
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        assert await flags_of(tx, first) == []

    async def test_people_with_a_condition_while_it_is_active(self, tx: Tx) -> None:
        copd = ("http://snomed.info/sct", "13645005")
        rule = await live(tx, made(scope=Scope("yeovil", "condition", (copd,), "COPD")))
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        assert await flags_of(tx, first) == []
        condition = {
            "resourceType": "Condition",
            "clinicalStatus": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
            },
            "code": {"coding": [{"system": copd[0], "code": copd[1]}]},
            "subject": {"reference": f"Patient/{first}"},
        }
        await flows.write(tx, IMPORTER, [Change("create", "Condition", new_id(), condition)])
        later = NOW + timedelta(minutes=1)
        await send(tx, device, spo2(first, "96", later), now=later)
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]

    async def test_people_chosen_one_by_one_until_the_order_ends(self, tx: Tx) -> None:
        rule = await live(tx, made(scope=Scope("yeovil", "chosen")))
        first, device = await person(tx)
        second, other = await person(tx)
        await attached(tx, first)
        await composing.order(tx, NURSE, first, rule, "Two admissions this autumn")
        await send(tx, device, spo2(first, "96"))
        await send(tx, other, spo2(second, "96"))
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]
        assert await flags_of(tx, second) == []
        await composing.end_orders(tx, NURSE, first, rule, "Stable since")
        assert await composing.orders_of(tx, first) == []
        await rows(tx, "DELETE FROM flag WHERE patient_id = %s RETURNING id", first)
        later = NOW + timedelta(minutes=1)
        await send(tx, device, spo2(first, "96", later), now=later)
        assert await flags_of(tx, first) == []

    async def test_people_whose_measure_is_monitored(self, tx: Tx) -> None:
        rule = await live(tx, made(scope=Scope("yeovil", "monitored", measure="spo2")))
        first, device = await person(tx)
        await send(tx, device, spo2(first, "96"))
        assert await flags_of(tx, first) == []
        order = {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "category": [
                {
                    "coding": [
                        {
                            "system": "https://carehub.example/fhir/CodeSystem/service-category",
                            "code": "home-monitoring",
                        }
                    ]
                }
            ],
            "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
            "subject": {"reference": f"Patient/{first}"},
            "occurrenceTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        }
        await flows.write(tx, IMPORTER, [Change("create", "ServiceRequest", new_id(), order)])
        later = NOW + timedelta(minutes=1)
        await send(tx, device, spo2(first, "96", later), now=later)
        assert await flags_of(tx, first) == [(rule.key, 1, 2)]

    async def test_a_shipped_rule_is_switched_on_and_another_off(self, tx: Tx) -> None:
        await live(tx, made(None, shipped="oximetry-at-home", off=True))
        on = await live(tx, made(None, shipped="usual-spo2", name="Oxygen far from usual"))
        first, device = await person(tx)
        for day in range(3, 13):
            at = NOW - timedelta(days=day)
            await send(tx, device, spo2(first, "98", at), now=at)
        await send(tx, device, spo2(first, "92"))
        assert await flags_of(tx, first) == [("usual-spo2", 1, 2)]
        assert on.rule_id == "usual-spo2"


class TestWhatNoDoorLetsThrough:
    @pytest.mark.parametrize("actor", [COORDINATOR, EHR, ELSEWHERE])
    async def test_hazard_rule_changed_unseen_only_clinicians_of_the_hub(self, tx: Tx, actor: Actor) -> None:
        rule = made()
        await composing.draft(tx, NURSE, rule)
        stepped = replace(rule, status=LIVE, steps=(Step(LIVE, actor.reference, NOW, "because"),))
        change = Change("update", "PlanDefinition", rule.id, to_plan_definition(stepped))
        with pytest.raises(Refusal) as error:
            await flows.write(tx, actor, [change])
        assert error.value.status == 403

    async def test_in_the_name_of_somebody_else_or_without_a_step(self, tx: Tx) -> None:
        rule = made()
        await composing.draft(tx, NURSE, rule)
        for steps in ((), (Step(LIVE, "Practitioner/other", NOW, "because"),)):
            resource = to_plan_definition(replace(rule, status=LIVE, steps=steps))
            with pytest.raises(Refusal) as error:
                await flows.write(tx, NURSE, [Change("update", "PlanDefinition", rule.id, resource)])
            assert error.value.status == 422
        with pytest.raises(Refusal, match="Say why"):
            await composing.make_live(tx, NURSE, rule.id, " ")

    async def test_it_begins_as_a_draft(self, tx: Tx) -> None:
        rule = made(status=LIVE, steps=(Step(LIVE, NURSE.reference, NOW, "because"),))
        with pytest.raises(Refusal) as error:
            await flows.write(tx, NURSE, [Change("create", "PlanDefinition", rule.id, to_plan_definition(rule))])
        assert refused(error) == (422, ["PlanDefinition.status"])

    async def test_hazard_rule_changed_unseen_what_is_live_stays_as_it_is(self, tx: Tx) -> None:
        rule = await live(tx, made())
        other = to_plan_definition(replace(rule, what=replace(LOW, severity=3)))
        for change in (
            Change("update", "PlanDefinition", rule.id, other),
            Change(
                "update", "PlanDefinition", rule.id, {**other, "url": "http://elsewhere.example/x", "extension": []}
            ),
            Change("delete", "PlanDefinition", rule.id, None),
        ):
            with pytest.raises(Refusal) as error:
                await flows.write(tx, NURSE, [change])
            assert error.value.status in (409, 422)

    async def test_two_versions_are_never_live_at_once(self, tx: Tx) -> None:
        rule = await live(tx, made())
        draft = await composing.next_version(tx, NURSE, rule.id)
        resource = to_plan_definition(replace(draft, status=LIVE, steps=(Step(LIVE, NURSE.reference, NOW, "because"),)))
        with pytest.raises(Refusal) as error:
            await flows.write(tx, NURSE, [Change("update", "PlanDefinition", draft.id, resource)])
        assert refused(error) == (409, ["PlanDefinition.status"])
        same = replace(draft, id=new_id())
        with pytest.raises(Refusal) as error:
            await flows.write(tx, NURSE, [Change("create", "PlanDefinition", same.id, to_plan_definition(same))])
        assert refused(error) == (409, ["PlanDefinition.version"])

    async def test_another_hubs_rule_cannot_be_taken_over(self, tx: Tx) -> None:
        rule = await live(tx, made())
        theirs = replace(rule, id=new_id(), version=2, status="draft", steps=(), scope=Scope("taunton"))
        with pytest.raises(Refusal) as error:
            await flows.write(
                tx, ELSEWHERE, [Change("create", "PlanDefinition", theirs.id, to_plan_definition(theirs))]
            )
        assert refused(error) == (409, ["PlanDefinition.url"])
        with pytest.raises(Refusal) as error:
            await composing.find(tx, ELSEWHERE, rule.id)
        assert error.value.status == 404

    async def test_content_that_cannot_be_evaluated_is_refused_with_where_it_is(self, tx: Tx) -> None:
        resource = to_plan_definition(made())
        content = resource["extension"][0]["extension"]
        (clause,) = [one for one in content if one["url"] == "clause"]
        clause["extension"][2]["valueQuantity"]["code"] = "kg"
        content[1]["valueCode"] = "purple"
        with pytest.raises(Refusal) as error:
            await flows.write(tx, NURSE, [Change("create", "PlanDefinition", resource["id"], resource)])
        status, where = refused(error)
        assert status == 422
        assert [str(one).rpartition("extension(")[2] for one in where] == ["'severity')", "'value')"]

    async def test_a_rule_is_ordered_by_clinicians_for_people_in_their_care(self, tx: Tx) -> None:
        rule = await live(tx, made(scope=Scope("yeovil", "chosen")))
        patient_id, _ = await person(tx)
        for actor, status in ((NURSE, 403), (COORDINATOR, 403)):
            with pytest.raises(Refusal) as error:
                await composing.order(tx, actor, patient_id, rule, "Because")
            assert error.value.status == status
        await attached(tx, patient_id)
        everybody = await live(tx, made())
        with pytest.raises(Refusal) as error:
            await composing.order(tx, NURSE, patient_id, everybody, "Because")
        assert refused(error) == (422, ["ServiceRequest.instantiatesCanonical"])

    async def test_other_plans_are_not_ours_to_judge(self, tx: Tx) -> None:
        plan = {"resourceType": "PlanDefinition", "status": "active", "url": "http://example.org/plan", "title": "COPD"}
        id_ = new_id()
        await flows.write(tx, EHR, [Change("create", "PlanDefinition", id_, plan)])
        assert await rows(tx, "SELECT 1 FROM local_rule WHERE id = %s", id_) == []


class TestAtHand:
    """Each process keeps the live rules, and is told when they change: no reading asks for them."""

    async def test_readings_ask_for_no_rules_and_a_rule_counts_as_soon_as_it_is_live(
        self, fresh_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = fresh_url()
        asked: list[str] = []
        load = rule_projection.load

        async def counted(pg: Any) -> Any:
            asked.append("now")
            return await load(pg)

        monkeypatch.setattr(rule_projection, "load", counted)
        elsewhere = Database(url)  # another process: what it does is heard of through PostgreSQL alone
        try:
            async with running(url) as rest:
                patient_id = await rest.patient(managingOrganization={"reference": "Organization/yeovil"})
                device = await rest.device(patient_id)
                application: Any = rest.client._transport
                await asyncio.wait_for(application.app.state.runtime.live.listening.wait(), 10)

                async def sent(minute: int) -> list[Any]:
                    at = NOW - timedelta(minutes=60 - minute)
                    body = {**spo2(patient_id, "96", at), "valueQuantity": PERCENT}
                    assert (await device("POST", "/Observation", body)).status_code == 201
                    return await rest.rows("SELECT rule FROM flag WHERE patient_id = %s", patient_id)

                assert await sent(0) == []
                before = len(asked)
                assert [await sent(minute) for minute in range(1, 6)] == [[]] * 5
                assert len(asked) == before
                async with elsewhere.transaction() as tx:
                    rule = await live(tx, made())
                for minute in range(6, 40):
                    if found := await sent(minute):
                        break
                    await asyncio.sleep(0.1)
                assert found == [(rule.key,)]
        finally:
            await elsewhere.close()

    async def test_what_is_rolled_back_watches_nobody(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await live(tx, made())
                patient_id, device = await person(tx)
                await send(tx, device, spo2(patient_id, "96"))
                raise ZeroDivisionError
        async with database.transaction() as tx:
            patient_id, device = await person(tx)
            await send(tx, device, spo2(patient_id, "96"))
            assert await flags_of(tx, patient_id) == []

    def test_it_may_travel_to_a_process_that_replays(self) -> None:
        rules = rules_for([made(), made(None, shipped="copd-composite")])
        assert [one.id for one in pickle.loads(pickle.dumps(rules))] == [one.id for one in rules]
