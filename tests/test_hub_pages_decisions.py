"""What people decide on a person's pages: approval withdrawn and given again, SpO2 scale 2, limits to look at again."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import pytest
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from fhir.store import Change
from hub import accounts, flows
from hub.identity import IMPORTER
from hub.pages import person as persons

TODAY = persons.today(datetime.now(UTC))
ROLES = ("clinician", "care-coordinator", "health-coach")
TARGET = "Dr Rao confirmed hypercapnic failure in May, target 88 to 92 %"


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ROLES:
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
        yield rest


async def person(rest: Rest) -> str:
    """Somebody in whose team all of ROLES are."""
    patient_id = await rest.patient()
    async with rest.database.transaction() as tx:
        for role in ROLES:
            await tx.pg.execute(
                "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
                (f"Practitioner/{role}", patient_id),
            )
    return patient_id


async def planned(rest: Rest) -> tuple[str, str]:
    """The same with an approval, an active plan and a daughter: the ids of person and plan."""
    patient_id = await person(rest)
    daughter = {
        "resourceType": "RelatedPerson",
        "active": True,
        "patient": {"reference": f"Patient/{patient_id}"},
        "name": [{"given": ["Beth"], "family": "Archer"}],
    }
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, [Change("create", "RelatedPerson", f"beth-{patient_id}", daughter)])
        await factories.consent(tx, patient_id)
        return patient_id, await factories.plan(tx, patient_id)


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    return found


async def column(rest: Rest, query: str, *values: Any) -> list[Any]:
    return [row[0] for row in await rest.rows(query, *values)]


class TestWithdrawal:
    async def test_hazard_opted_out_person_the_plan_goes_on_hold_with_who_when_and_why(self, rest: Rest) -> None:
        patient_id, plan_id = await planned(rest)
        who = await visitor(rest, "care-coordinator")
        address = f"/patients/{patient_id}/approval"
        shown = await who.client.get(address)
        assert "no longer approves" in shown.text and "Record approval" not in shown.text
        assert "See or withdraw it" in (await who.client.get(f"/patients/{patient_id}/plan")).text
        form = {"csrf": who.csrf, "by": f"RelatedPerson/beth-{patient_id}", "why": "By telephone: it is all too much"}
        answer = await who.client.post(f"{address}/withdraw", data=form, follow_redirects=True)
        assert answer.status_code == 200 and "The withdrawal is recorded" in answer.text
        assert "Withdrawn for the person, by Beth Archer" in answer.text and "it is all too much" in answer.text
        assert "Record approval" in answer.text
        assert await column(rest, "SELECT status FROM plan WHERE id = %s", plan_id) == ["on-hold"]
        found = await rest.rows(
            "SELECT denied, withdrawn_by, withdrawn_why, withdrawn_at IS NOT NULL FROM approval WHERE patient_id = %s",
            patient_id,
        )
        assert found == [(True, f"RelatedPerson/beth-{patient_id}", "By telephone: it is all too much", True)]
        again = await who.client.post(f"{address}/withdraw", data=form)
        assert again.status_code == 422 and "No approval stands" in again.text

    async def test_a_decision_of_a_day_is_given_no_hour(self, rest: Rest) -> None:
        patient_id = await person(rest)
        async with rest.database.transaction() as tx:
            await factories.consent(tx, patient_id, dateTime="2026-07-04")
        who = await visitor(rest, "care-coordinator")
        shown = (await who.client.get(f"/patients/{patient_id}/approval")).text
        assert "4 Jul" in shown and "00:00" not in shown

    async def test_who_edits_without_approval_is_told_so_before_and_after_in_plain_words(self, rest: Rest) -> None:
        patient_id, plan_id = await planned(rest)
        who = await visitor(rest, "care-coordinator")
        address = f"/patients/{patient_id}/plan/edit"
        assert "does not approve" not in (await who.client.get(address)).text
        withdrawal = {"csrf": who.csrf, "by": "", "why": "No reason given"}
        await who.client.post(f"/patients/{patient_id}/approval/withdraw", data=withdrawal)
        shown = (await who.client.get(address)).text
        assert "does not approve of a plan at present" in shown and f'href="/patients/{patient_id}/approval"' in shown
        (version,) = await column(rest, "SELECT version FROM plan WHERE id = %s", plan_id)
        edit = {"csrf": who.csrf, "kind": "set-what-matters", "text": "My dog", "expected_version": str(version)}
        answer = await who.client.post(address, data=edit)
        assert answer.status_code == 422 and "There is a problem" in answer.text and "My dog" in answer.text
        assert "LOINC" not in answer.text
        assert await column(rest, "SELECT version FROM plan WHERE id = %s", plan_id) == [version]

    async def test_it_is_undone_by_a_new_approval(self, rest: Rest) -> None:
        patient_id, plan_id = await planned(rest)
        who = await visitor(rest, "care-coordinator")
        address = f"/patients/{patient_id}/approval"
        await who.client.post(f"{address}/withdraw", data={"csrf": who.csrf, "by": "", "why": "No reason given"})
        given = {"csrf": who.csrf, "how": "in-person", "by": "", "note": ""}
        assert (await who.client.post(address, data=given)).status_code == 303
        shown = (await who.client.get(address)).text
        assert "no longer approves" in shown and "No reason given" in shown
        # That it may be planned again starts nothing by itself: a person does.
        assert await column(rest, "SELECT status FROM plan WHERE id = %s", plan_id) == ["on-hold"]

    @pytest.mark.parametrize(("why", "by"), [("", ""), (" ", ""), ("because", "RelatedPerson/somebody-else")])
    async def test_without_a_reason_or_by_a_stranger_nothing_happens(self, rest: Rest, why: str, by: str) -> None:
        patient_id, plan_id = await planned(rest)
        who = await visitor(rest, "care-coordinator")
        form = {"csrf": who.csrf, "by": by, "why": why}
        answer = await who.client.post(f"/patients/{patient_id}/approval/withdraw", data=form)
        assert answer.status_code == 422 and "There is a problem" in answer.text
        assert await column(rest, "SELECT status FROM plan WHERE id = %s", plan_id) == ["active"]

    async def test_a_coach_may_not(self, rest: Rest) -> None:
        patient_id, plan_id = await planned(rest)
        who = await visitor(rest, "health-coach")
        answer = await who.client.post(
            f"/patients/{patient_id}/approval/withdraw", data={"csrf": who.csrf, "why": "because"}
        )
        assert answer.status_code == 403
        assert await column(rest, "SELECT status FROM plan WHERE id = %s", plan_id) == ["active"]


def scale(csrf: str, **more: str) -> dict[str, str]:
    """The limits form of SpO2 with scale 2."""
    review = (TODAY + timedelta(days=90)).isoformat()
    return {"csrf": csrf, "scale": "2", "reason": TARGET, "review_on": review, "every": ""} | more


class TestScale2:
    async def test_a_clinician_sets_it_and_takes_it_back(self, rest: Rest) -> None:
        patient_id = await person(rest)
        doctor = await visitor(rest, "clinician")
        address = f"/patients/{patient_id}/limits/spo2"
        assert 'id="scale-1" name="scale" value="1" checked' in (await doctor.client.get(address)).text
        assert (await doctor.client.post(address, data=scale(doctor.csrf))).status_code == 303
        kept = "SELECT scale, set_by, reason FROM monitoring_limit WHERE patient_id = %s AND active"
        assert await rest.rows(kept, patient_id) == [(2, "Practitioner/clinician", TARGET)]
        assert 'id="scale-2" name="scale" value="2" checked' in (await doctor.client.get(address)).text
        assert (await doctor.client.post(address, data=scale(doctor.csrf, scale="1"))).status_code == 303
        assert await column(rest, kept, patient_id) == [None]

    @pytest.mark.parametrize("left_out", ["reason", "review_on"])
    async def test_hazard_scale_2_misuse_not_without_a_reason_and_a_day_of_review(
        self, rest: Rest, left_out: str
    ) -> None:
        patient_id = await person(rest)
        doctor = await visitor(rest, "clinician")
        form = scale(doctor.csrf) | {left_out: ""}
        answer = await doctor.client.post(f"/patients/{patient_id}/limits/spo2", data=form)
        assert answer.status_code == 422 and "There is a problem" in answer.text
        assert 'id="scale-2" name="scale" value="2" checked' in answer.text
        assert await rest.rows("SELECT 1 FROM monitoring_limit WHERE patient_id = %s", patient_id) == []

    async def test_hazard_scale_2_misuse_only_oxygen_and_only_who_sets_limits(self, rest: Rest) -> None:
        patient_id = await person(rest)
        doctor = await visitor(rest, "clinician")
        assert "SpO2 scale" not in (await doctor.client.get(f"/patients/{patient_id}/limits/pulse")).text
        form = scale(doctor.csrf, high_red="130")
        assert (await doctor.client.post(f"/patients/{patient_id}/limits/pulse", data=form)).status_code == 303
        assert await column(rest, "SELECT scale FROM monitoring_limit WHERE patient_id = %s", patient_id) == [None]
        coordinator = await visitor(rest, "care-coordinator")
        answer = await coordinator.client.post(f"/patients/{patient_id}/limits/spo2", data=scale(coordinator.csrf))
        assert answer.status_code == 403


class TestReviewOfLimits:
    @pytest.mark.parametrize("days", [0, -1, -2000])
    async def test_a_day_that_has_come_already_is_asked_again(self, rest: Rest, days: int) -> None:
        patient_id = await person(rest)
        doctor = await visitor(rest, "clinician")
        form = scale(doctor.csrf, review_on=(TODAY + timedelta(days=days)).isoformat())
        answer = await doctor.client.post(f"/patients/{patient_id}/limits/spo2", data=form)
        assert answer.status_code == 422 and "Choose a day after today" in answer.text
        assert await rest.rows("SELECT 1 FROM monitoring_limit WHERE patient_id = %s", patient_id) == []

    async def test_bounds_out_of_order_are_told_in_the_words_of_the_form(self, rest: Rest) -> None:
        patient_id = await person(rest)
        doctor = await visitor(rest, "clinician")
        form = scale(doctor.csrf, scale="1", low_red="95", low_amber="90")
        answer = await doctor.client.post(f"/patients/{patient_id}/limits/spo2", data=form)
        assert answer.status_code == 422
        assert "“Red at or below” (95) must be below “Amber at or below” (90)." in answer.text

    async def test_the_day_that_has_come_is_told_on_today_and_on_the_persons_pages(self, rest: Rest) -> None:
        patient_id = await person(rest)
        doctor, coordinator = await visitor(rest, "clinician"), await visitor(rest, "care-coordinator")
        address = f"/patients/{patient_id}/limits/spo2"
        assert (await doctor.client.post(address, data=scale(doctor.csrf))).status_code == 303
        todo = f'href="{address}"'
        assert todo not in (await doctor.client.get("/today?show=review")).text
        await rest.rows(
            "UPDATE monitoring_limit SET review_on = %s WHERE patient_id = %s RETURNING 1",
            TODAY - timedelta(days=3), patient_id,
        )  # fmt: skip
        for scope in ("", "&scope=hub"):
            assert todo in (await doctor.client.get(f"/today?show=review{scope}")).text
        board = (await coordinator.client.get("/today?show=review")).text
        assert "Personal limits: oxygen saturation." in board and todo not in board
        assert f'href="/patients/{patient_id}/readings#spo2"' in board
        assert "were to be looked at again" in (await doctor.client.get(address)).text
        later = scale(doctor.csrf, review_on=(TODAY + timedelta(days=30)).isoformat())
        assert (await doctor.client.post(address, data=later)).status_code == 303
        assert todo not in (await doctor.client.get("/today?show=review")).text
        assert "were to be looked at again" not in (await doctor.client.get(address)).text
