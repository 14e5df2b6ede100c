"""What falls due by itself: an approval that runs out takes its plan with it."""

from datetime import UTC, datetime, timedelta

from test_flow_readings import person, rows

from care_plans.consent import new_consent
from care_plans.plan import new_plan
from fhir.store import Change, new_id
from hub import flows, upkeep
from hub.db import Tx
from hub.identity import IMPORTER

NOW = datetime.now(UTC)


async def plan_of(tx: Tx, until: datetime | None) -> tuple[str, str]:
    patient_id, _ = await person(tx)
    consent = new_consent(
        new_id(), f"Patient/{patient_id}", "Organization/yeovil", NOW - timedelta(days=30), "in person", until=until
    )
    plan = new_plan(new_id(), f"Patient/{patient_id}", "Practitioner/p", NOW.date()).resource | {"status": "active"}
    await flows.write(
        tx,
        IMPORTER,
        [Change("create", "Consent", consent["id"], consent), Change("create", "CarePlan", plan["id"], plan)],
    )
    return patient_id, plan["id"]


async def test_an_approval_that_ran_out_puts_the_plan_on_hold_and_says_why(tx: Tx) -> None:
    _, plan_id = await plan_of(tx, NOW + timedelta(days=1))
    _, lasting = await plan_of(tx, None)
    assert await upkeep.suspend_unapproved(tx, NOW) == []
    assert await upkeep.suspend_unapproved(tx, NOW + timedelta(days=2)) == [plan_id]
    found = await rows(tx, "SELECT id, status FROM plan WHERE id = ANY(%s)", [plan_id, lasting])
    assert dict(found) == {plan_id: "on-hold", lasting: "active"}
    ((body,),) = await rows(
        tx, "SELECT body FROM resource_version WHERE type = 'CarePlan' AND id = %s AND version = 2", plan_id
    )
    assert "withdrawn or has ended" in body


async def test_the_team_is_told_nothing_twice(tx: Tx) -> None:
    _, plan_id = await plan_of(tx, NOW + timedelta(days=1))
    await upkeep.suspend_unapproved(tx, NOW + timedelta(days=2))
    assert await upkeep.suspend_unapproved(tx, NOW + timedelta(days=2)) == []
    assert await rows(tx, "SELECT max(version) FROM resource_version WHERE id = %s", plan_id) == [(2,)]
