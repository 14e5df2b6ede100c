"""The pages of rules: one is composed without code, read back, made live, ordered for a person, changed and retired."""

import re
from collections.abc import AsyncIterator, Callable

import pytest
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from hub import accounts

ROLES = (
    "clinician", "care-coordinator", "health-coach", "practice-staff", "social-worker", "voluntary-worker",
    "information-governance", "operations",
)  # fmt: skip
READERS = {"clinician", "care-coordinator", "health-coach", "information-governance", "operations"}

FAST_AND_LOW = {
    "name": "Fast and low",
    "match": "all",
    "measure": ["pulse", "spo2", ""],
    "look": ["at-least", "falls", "at-least"],
    "value": ["100", "3", ""],
    "over": ["1440", "4320", "1440"],
    "count": ["2", "1", "1"],
    "together": "60",
    "severity": "amber",
    "who": "chosen",
    "told": "Rest for five minutes and measure again.",
}
READING = (
    "For people chosen one by one. When pulse is at or above 100 /min in 2 readings on end within 24 hours and oxygen "
    "saturation is 3 % or more below its highest of the 3 days before: amber. All measured within 1 hour. The person "
    "is told at once: “Rest for five minutes and measure again.”"
)


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ROLES:
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
            await accounts.create_account(
                tx, "elsewhere", PASSWORD, "Ed", "clinician", "Practitioner/ed", (), "taunton", demonstration=True
            )
        yield rest


async def visitor(rest: Rest, name: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(name)
    return found


async def test_every_role_gets_what_it_should(rest: Rest) -> None:
    for role in ROLES:
        one = await visitor(rest, role)
        answer = await one.client.get("/rules")
        assert answer.status_code == (200 if role in READERS else 403), role
        assert (await one.client.get("/rules/new")).status_code == (200 if role == "clinician" else 403), role
        sent = await one.client.post("/rules/preview", data={"csrf": one.csrf})
        assert sent.status_code == (200 if role == "clinician" else 403), role


async def test_every_shipped_rule_stands_there_with_its_source(rest: Rest) -> None:
    text = (await (await visitor(rest, "care-coordinator")).client.get("/rules")).text
    for words in ("NEWS2", "On for everybody", "COPD composite", "Hurst 2010", "International", "unverified"):
        assert words.lower() in text.lower(), words
    assert "Compose a rule" not in text and 'id="copd-composite"' in text
    shipped = await (await visitor(rest, "care-coordinator")).client.get("/rules/copd-composite")
    assert shipped.status_code == 303 and shipped.headers["location"] == "/rules#copd-composite"


async def test_a_rule_from_a_blank_form_to_a_retired_one(rest: Rest) -> None:
    nurse = await visitor(rest, "clinician")
    wrong = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **FAST_AND_LOW, "value": ["fast", "3", ""]})
    assert wrong.status_code == 422
    assert "“fast” is not a number" in wrong.text and 'href="#value-1"' in wrong.text and 'value="fast"' in wrong.text
    read = await nurse.client.post("/rules/preview", data={"csrf": nurse.csrf, **FAST_AND_LOW})
    assert READING in read.text
    tried = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **FAST_AND_LOW, "act": "preview"})
    assert tried.status_code == 200 and READING in tried.text
    more = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **FAST_AND_LOW, "act": "add"})
    assert "Condition 4" in more.text

    saved = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **FAST_AND_LOW})
    assert saved.status_code == 303
    address = saved.headers["location"].partition("?")[0]
    draft = await nurse.client.get(address)
    assert READING in draft.text and "It watches nobody yet" in draft.text
    assert f'href="{address}/replay"' in draft.text
    assert (await nurse.client.get(f"{address}/replay")).status_code == 200
    edit = await nurse.client.get(f"{address}/edit")
    version = re.search(r'name="version" value="(\d+)"', edit.text)
    assert version is not None and READING in edit.text
    changed = {**FAST_AND_LOW, "value": ["104", "3", ""], "version": version.group(1)}
    assert (await nurse.client.post(f"{address}/edit", data={"csrf": nurse.csrf, **changed})).status_code == 303
    stale = await nurse.client.post(f"{address}/edit", data={"csrf": nurse.csrf, **changed})
    assert stale.status_code == 412 and "Somebody changed this draft" in stale.text

    unsaid = await nurse.client.post(address, data={"csrf": nurse.csrf, "act": "live", "why": " "})
    assert unsaid.status_code == 422 and "Say why" in unsaid.text
    coordinator = await visitor(rest, "care-coordinator")
    answer = await coordinator.client.post(address, data={"csrf": coordinator.csrf, "act": "live", "why": "Yes"})
    assert answer.status_code == 403
    answer = await nurse.client.post(address, data={"csrf": nurse.csrf, "act": "live", "why": "Agreed on Tuesday"})
    assert answer.status_code == 303
    live = (await coordinator.client.get(address)).text
    assert "Live, version 1" in live and "In clinician: Agreed on Tuesday" in live and "Retire it" not in live
    assert (await nurse.client.get(f"{address}/edit")).status_code == 409

    following = await nurse.client.post(address, data={"csrf": nurse.csrf, "act": "next"})
    assert following.status_code == 303 and following.headers["location"].endswith("/edit")
    gone = await nurse.client.post(address, data={"csrf": nurse.csrf, "act": "retire", "why": "Too many"})
    assert gone.status_code == 303
    assert "It watches nobody any more" in (await nurse.client.get(address)).text


async def test_another_hubs_rules_are_not_there(rest: Rest) -> None:
    nurse, other = await visitor(rest, "clinician"), await visitor(rest, "elsewhere")
    saved = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **FAST_AND_LOW, "name": "Ours alone"})
    address = saved.headers["location"].partition("?")[0]
    assert "Ours alone" in (await nurse.client.get("/rules")).text
    assert "Ours alone" not in (await other.client.get("/rules")).text
    for path in (address, f"{address}/edit"):
        assert (await other.client.get(path)).status_code == 404
        assert (await other.client.post(path, data={"csrf": other.csrf, "act": "live", "why": "x"})).status_code == 404


async def test_a_shipped_rule_is_switched_and_a_rule_ordered_for_one_person(rest: Rest) -> None:
    nurse = await visitor(rest, "clinician")
    patient_id = await rest.patient(name=[{"family": "Archer", "given": ["Ada"]}])
    async with rest.database.transaction() as tx:
        for role in ("clinician", "care-coordinator"):
            await tx.pg.execute(
                "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
                (f"Practitioner/{role}", patient_id),
            )
    for data in ({"shipped": "copd-composite", "who": "chosen"}, {"shipped": "hf-weight", "who": "hub"}):
        saved = await nurse.client.post("/rules/new", data={"csrf": nurse.csrf, **data})
        address = saved.headers["location"].partition("?")[0]
        live = await nurse.client.post(address, data={"csrf": nurse.csrf, "act": "live", "why": "Agreed"})
        assert live.status_code == 303
        if data["who"] == "chosen":
            composite = address.rpartition("/")[2]
    listed = (await nurse.client.get("/rules")).text
    assert "Off at this hub" in listed and "On for people chosen one by one" in listed
    page = f"/patients/{patient_id}/rules"
    before = (await nurse.client.get(page)).text
    assert "Switched off at this hub:" in before and "COPD composite: on</a>" not in before
    sent = {"csrf": nurse.csrf, "rule": composite, "act": "order"}
    assert (await nurse.client.post(page, data={**sent, "why": ""})).status_code == 422
    assert (await nurse.client.post(page, data={**sent, "why": "Two admissions"})).status_code == 303
    coordinator = await visitor(rest, "care-coordinator")
    refused = await coordinator.client.post(page, data={**sent, "csrf": coordinator.csrf, "why": "Me too"})
    assert refused.status_code == 403
    after = (await coordinator.client.get(page)).text
    assert "Two admissions" in after and "for people chosen one by one" in after
    assert (await nurse.client.post(page, data={**sent, "act": "end", "why": "Stable"})).status_code == 303
    assert "Two admissions" not in (await nurse.client.get(page)).text
