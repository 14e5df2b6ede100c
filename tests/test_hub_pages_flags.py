"""One flag on its page: it offers what is allowed now, keeps what was typed, and shows who did what, when and why."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from rest import Rest, running
from test_flow_readings import send, spo2
from test_hub_pages_access import PASSWORD, Visitor

from hub import accounts
from hub.identity import Actor

ROLES = ("clinician", "health-coach")


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ROLES:
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
        yield rest


async def raised(rest: Rest, *values: str) -> str:
    """The address of the flag that readings an hour apart raise, of somebody in whose team all of ROLES are."""
    patient_id = await rest.patient()
    caller = await rest.device(patient_id)
    device = Actor("device", caller.id, "Oximeter", "device", f"Device/{caller.id}", (f"Device/{caller.id}",))
    now = datetime.now(UTC)
    async with rest.database.transaction() as tx:
        for role in ROLES:
            await tx.pg.execute(
                "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
                (f"Practitioner/{role}", patient_id),
            )
        for number, value in enumerate(values):
            at = now - timedelta(hours=len(values) - number)
            await send(tx, device, spo2(patient_id, value, at), now=now)
    ((flag_id,),) = await rest.rows(
        "SELECT id FROM flag WHERE patient_id = %s AND rule = 'oximetry-at-home'", patient_id
    )
    return f"/flags/{flag_id}"


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    return found


def acts(page: str) -> set[str]:
    """The acts that *page* offers for its flag."""
    return {
        act for act in ("acknowledge", "progress", "escalate", "wake", "resolve", "snooze", "undo")
        if f'name="act" value="{act}"' in page
    }  # fmt: skip


async def done(who: Visitor, address: str, act: str, **more: str) -> str:
    """The flag's page after *act*."""
    form = {"csrf": who.csrf, "act": act, "why": f"Because of {act}", "back": address, **more}
    answer = await who.client.post(address, data=form, follow_redirects=True)
    assert answer.status_code == 200, answer.text[-300:]
    return answer.text


class TestJourney:
    async def test_only_what_is_allowed_now_is_offered(self, rest: Rest) -> None:
        address = await raised(rest, "88")
        who = await visitor(rest, "clinician")
        page = (await who.client.get(address)).text
        assert acts(page) == {"acknowledge", "progress", "escalate", "resolve", "snooze"}
        assert "the clinicians of the team will hear of it" in page and "Raised</strong> by Care Hub" in page
        page = await done(who, address, "acknowledge")
        assert acts(page) == {"progress", "escalate", "resolve", "snooze", "undo"}
        page = await done(who, address, "undo")
        assert acts(page) == {"acknowledge", "progress", "escalate", "resolve", "snooze"} and "Undone" in page
        page = await done(who, address, "snooze", hours="4")
        assert acts(page) == {"acknowledge", "progress", "escalate", "wake", "resolve", "undo"}
        assert "Snoozed until" in page and "or as soon as a reading is worse" in page
        page = await done(who, address, "wake")
        page = await done(who, address, "progress")
        page = await done(who, address, "resolve", outcome="artefact")
        assert acts(page) == {"undo"} and "False alarm: The measurement went wrong" in page
        assert "“Because of progress”" in page and "by In clinician" in page

    async def test_a_coach_sees_it_through_and_does_not_end_it(self, rest: Rest) -> None:
        address = await raised(rest, "88")
        who = await visitor(rest, "health-coach")
        assert acts((await who.client.get(address)).text) == {"acknowledge", "progress", "escalate"}
        for act, more in (("resolve", {"outcome": "visit"}), ("snooze", {"hours": "1"})):
            form = {"csrf": who.csrf, "act": act, "why": "Because", **more}
            assert (await who.client.post(address, data=form)).status_code == 403

    async def test_one_that_waits_for_a_second_reading_says_so(self, rest: Rest) -> None:
        address = await raised(rest, "94")
        who = await visitor(rest, "clinician")
        page = (await who.client.get(address)).text
        assert "Waiting for a second reading" in page and "it falls away" in page
        assert acts(page) == {"acknowledge", "progress", "resolve"}
        assert "A second reading was asked for" in (await who.client.get("/mdt")).text

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({"act": "resolve"}, "Choose how it ends"),
            ({"act": "snooze"}, "for how long"),
            ({"act": "snooze", "hours": "99"}, "for how long"),
            ({"act": "snooze", "hours": "72"}, "at most 24 hours"),
            ({"act": "acknowledge", "why": " "}, "Say why"),
            ({"act": "undo"}, "Only the last move"),
            ({"act": "wake"}, "it cannot become open"),
        ],
    )
    async def test_what_is_missing_is_said_and_what_was_typed_is_kept(
        self, rest: Rest, sent: dict[str, str], said: str
    ) -> None:
        address = await raised(rest, "88")
        who = await visitor(rest, "clinician")
        form = {"csrf": who.csrf, "why": "Rang twice, no answer", **sent}
        answer = await who.client.post(address, data=form)
        assert answer.status_code in (409, 422) and said in answer.text
        assert form["why"].strip() in answer.text
        assert (await rest.rows("SELECT state FROM flag WHERE id = %s", address.split("/")[-1])) == [("open",)]
