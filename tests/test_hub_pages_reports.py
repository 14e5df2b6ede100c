"""The report of alerts, a rule tried on the past, and limits tried before they are saved: one journey each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from rest import Rest, running
from test_flow_readings import send, spo2
from test_hub_pages_access import PASSWORD, Visitor

from hub import accounts
from hub.identity import Actor
from monitoring import usefulness

ROLES = ("clinician", "care-coordinator", "health-coach")
NOW = datetime.now(UTC).replace(microsecond=0)
WEEK = usefulness.week_of(NOW.astimezone(usefulness.LONDON).date())


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ROLES:
                for hub in ("yeovil", "elsewhere"):
                    await accounts.create_account(
                        tx, f"{role}-{hub}", PASSWORD, "In", role, f"Practitioner/{role}-{hub}",
                        (f"Organization/{hub}",), hub, demonstration=True,
                    )  # fmt: skip
        yield rest


@pytest.fixture(scope="module")
async def patient_id(rest: Rest) -> str:
    """Somebody of the hub `yeovil`, whose oxygen was low an hour ago and two days ago."""
    made = await rest.patient()
    device = await rest.device(made)
    async with rest.database.transaction() as tx:
        ((held,),) = await (await tx.pg.execute("SELECT id FROM device WHERE patient_id = %s", (made,))).fetchall()
        actor = Actor("device", held, "Oximeter", "device", f"Device/{held}", (f"Device/{held}",))
        await tx.pg.execute("UPDATE device SET since = NULL")
        for ago, value in ((50, "93"), (49, "93"), (1, "85")):
            at = NOW - timedelta(hours=ago)
            await send(tx, actor, spo2(made, value, at), now=at)
        for role in ("clinician", "care-coordinator"):
            await tx.pg.execute(
                "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
                (f"Practitioner/{role}-yeovil", made),
            )
    assert device
    return made


async def visitor(rest: Rest, name: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(name)
    return found


class TestReport:
    async def test_only_who_reads_reports_opens_it(self, rest: Rest, patient_id: str) -> None:
        coach = await visitor(rest, "health-coach-yeovil")
        assert (await coach.client.get("/reports/alerts")).status_code == 403

    async def test_each_hub_sees_its_own(self, rest: Rest, patient_id: str) -> None:
        other = await visitor(rest, "care-coordinator-elsewhere")
        shown = await other.client.get(f"/reports/alerts?week={WEEK}")
        assert shown.status_code == 200
        assert "No alerts opened in this week" in shown.text

    async def test_a_week_on_the_page_and_as_csv(self, rest: Rest, patient_id: str) -> None:
        who = await visitor(rest, "care-coordinator-yeovil")
        weeks = {
            usefulness.week_of((NOW - timedelta(hours=ago)).astimezone(usefulness.LONDON).date()) for ago in (1, 50)
        }
        pages = [(await who.client.get(f"/reports/alerts?week={week}")).text for week in sorted(weeks)]
        assert any("Oxygen level at home" in text and "Fewer than 10" in text for text in pages)
        assert patient_id not in "".join(pages)
        answer = await who.client.get(f"/reports/alerts?week={min(weeks)}&as=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.text.startswith("hub,rule,name,alerts,")
        assert "yeovil,oximetry-at-home,Oxygen level at home,1,1," in answer.text

    async def test_what_is_no_week_is_refused(self, rest: Rest, patient_id: str) -> None:
        who = await visitor(rest, "care-coordinator-yeovil")
        assert (await who.client.get("/reports/alerts?week=2026-99")).status_code == 422


class TestTrial:
    async def _tried(self, who: Visitor, rule: str) -> str:
        begun = await who.client.post(f"/rules/{rule}/replay", data={"csrf": who.csrf, "days": "7"})
        assert begun.status_code == 303, begun.text
        for _ in range(400):
            shown = await who.client.get(begun.headers["location"])
            if "refresh" not in shown.headers:
                return shown.text
            await asyncio.sleep(0.05)
        raise AssertionError("it never ended")

    async def test_what_a_rule_would_have_raised_for_whom(self, rest: Rest, patient_id: str) -> None:
        who = await visitor(rest, "clinician-yeovil")
        assert "Try it on the past" in (await who.client.get("/rules/oximetry-at-home/replay")).text
        text = await self._tried(who, "oximetry-at-home")
        assert "It would have raised 1 alert for 1 of 1 people in 7 days" in text
        assert "1 was raised" in text
        assert f"/patients/{patient_id}/readings" in text

    async def test_who_may_not_see_the_person_gets_no_count_of_them(self, rest: Rest, patient_id: str) -> None:
        other = await visitor(rest, "clinician-elsewhere")
        text = await self._tried(other, "oximetry-at-home")
        assert "It would have raised 0 alerts for 0 of 0 people" in text
        assert patient_id not in text

    async def test_a_trial_is_its_own_askers_and_no_rule_is_no_page(self, rest: Rest, patient_id: str) -> None:
        who, other = await visitor(rest, "clinician-yeovil"), await visitor(rest, "clinician-elsewhere")
        begun = await who.client.post("/rules/news2/replay", data={"csrf": who.csrf, "days": "7"})
        assert (await other.client.get(begun.headers["location"])).status_code == 404
        assert (await who.client.get("/rules/nonesuch/replay")).status_code == 404
        assert (await who.client.post("/rules/news2/replay", data={"csrf": who.csrf, "days": "8"})).status_code == 422


class TestLimits:
    async def test_limits_are_tried_before_they_are_saved(self, rest: Rest, patient_id: str) -> None:
        who = await visitor(rest, "clinician-yeovil")
        form = {"csrf": who.csrf, "act": "try", "low_red": "80"}
        text = (await who.client.post(f"/patients/{patient_id}/limits/spo2", data=form)).text
        assert "These limits would have raised 0 alerts in the last 30 days; 1 was raised." in text
        assert await rest.rows("SELECT 1 FROM monitoring_limit WHERE patient_id = %s", patient_id) == []
