"""The plan of monitoring and questionnaires as pages: who sees and changes what, one journey through each."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta

import pytest
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from hub import accounts

ROLES = ("clinician", "care-coordinator", "health-coach", "practice-staff", "social-worker", "patient")


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        yield rest


@pytest.fixture(scope="module")
async def person(rest: Rest) -> str:
    """Somebody in whose team every one of ROLES is, and who signs in as `patient`."""
    patient_id = await rest.patient()
    async with rest.database.transaction() as tx:
        for role in ROLES:
            reference = f"Patient/{patient_id}" if role == "patient" else f"Practitioner/{role}"
            await accounts.create_account(
                tx, role, PASSWORD, f"In {role}", role, reference, (), "yeovil", demonstration=True
            )
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis) SELECT 'Practitioner/' || role, %s, 'CareTeam/t',"
            " 'team' FROM unnest(%s::text[]) AS role",
            (patient_id, list(ROLES)),
        )
    return patient_id


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    if not found.csrf:
        page = await found.client.get("/me/readings")
        found.csrf = re.search(r'name="csrf" value="([^"]+)"', page.text).group(1)  # type: ignore[union-attr]
    return found


class TestRoles:
    SEE = ("clinician", "care-coordinator", "health-coach", "practice-staff")

    @pytest.mark.parametrize("role", ROLES)
    async def test_who_sees_and_who_changes(self, rest: Rest, person: str, role: str) -> None:
        who = await visitor(rest, role)
        here = f"/patients/{person}/monitoring"
        seen = await who.client.get(here)
        assert seen.status_code == (200 if role in self.SEE else 403)
        assert ("Use this template" in seen.text) is (role == "clinician")
        sent = await who.client.post(here, data={"csrf": who.csrf, "act": "template", "template": "copd"})
        assert sent.status_code == (303 if role == "clinician" else 403)
        if role == "clinician":
            await who.client.post(
                here, data={"csrf": who.csrf, "act": "undo", "undo": undo_of(sent.headers["location"])}
            )
        assert (await who.client.get(f"{here}/weight")).status_code == (200 if role == "clinician" else 403)
        may_answer = role in ("clinician", "care-coordinator", "health-coach")
        answered = await who.client.get(f"/patients/{person}/questions/phq-9")
        assert answered.status_code == (200 if may_answer else 403)


def undo_of(address: str) -> str:
    return re.search(r"undo=([^&]+)", address).group(1)  # type: ignore[union-attr]


async def test_a_plan_from_template_to_pause(rest: Rest, person: str) -> None:
    doctor = await visitor(rest, "clinician")
    here = f"/patients/{person}/monitoring"
    mark = {"csrf": doctor.csrf}
    used = await doctor.client.post(here, data=mark | {"act": "template", "template": "heart-failure"})
    shown = (await doctor.client.get(used.headers["location"])).text
    assert "The template is in force" in shown and "Once a day, 6am to 10am" in shown and "Undo what was" in shown
    assert "Default: amber at 170 mmHg or more" in shown and "None yet" in shown

    form = mark | {"start-0": "08:00", "end-0": "09:30", "day": ["1", "4"], "every": "24", "ends": ""}
    saved = await doctor.client.post(f"{here}/weight", data=form)
    assert saved.status_code == 303, saved.text
    assert "8am to 9:30am, on Monday and Thursday" in (await doctor.client.get(here)).text
    wrong = await doctor.client.post(f"{here}/weight", data=form | {"end-0": "07:00"})
    assert wrong.status_code == 422 and "ends before it begins" in wrong.text and 'value="07:00"' in wrong.text
    past = (date.today() - timedelta(days=9)).isoformat()
    over = await doctor.client.post(f"{here}/weight", data=form | {"ends": past})
    assert over.status_code == 422 and "over already" in over.text

    limited = {"low_red": "60", "reason": "Frail", "review_on": (date.today() + timedelta(days=9)).isoformat()}
    await doctor.client.post(f"/patients/{person}/limits/weight", data=mark | limited)
    shown = (await doctor.client.get(here)).text
    assert "Personal: red at 60 kg or less" in shown and "8am to 9:30am, on Monday and Thursday" in shown

    mine = await visitor(rest, "patient")
    own = (await mine.client.get("/me")).text
    assert "What to measure today" in own and "Blood pressure" in own

    until = (date.today() + timedelta(days=3)).isoformat()
    pause = {"act": "pause", "since": date.today().isoformat(), "until": until, "code": "holiday", "reason": ""}
    assert (await doctor.client.post(here, data=mark | pause)).status_code == 303
    assert "Away from home" in (await doctor.client.get(here)).text
    assert "You do not have to measure" in (await mine.client.get("/me")).text
    never = await doctor.client.post(here, data=mark | pause | {"until": "never"})
    assert never.status_code == 422 and "Say until which day" in never.text

    stopped = await doctor.client.post(here, data=mark | {"act": "stop", "key": "weight"})
    assert "Stopped: Weight" in (await doctor.client.get(here)).text
    undo = mark | {"act": "undo", "undo": undo_of(stopped.headers["location"])}
    assert (await doctor.client.post(here, data=undo)).status_code == 303
    shown = (await doctor.client.get(here)).text
    assert "Personal: red at 60 kg or less" in shown and "Stopped: Weight" not in shown
    twice = await doctor.client.post(here, data=undo)
    assert twice.status_code == 422 and "changed again since" in twice.text


async def test_a_questionnaire_by_the_person_and_by_a_coach(rest: Rest, person: str) -> None:
    mine = await visitor(rest, "patient")
    page = await mine.client.get("/me/questions/phq-9")
    links = re.findall(r'id="q-\d+-1" name="([^"]+)"', page.text)
    assert len(links) == 9 and "Pfizer" in page.text
    answers = {link: "LA6569-3" for link in links}
    form = {"csrf": mine.csrf, "once": "one"}
    saved = await mine.client.post("/me/questions/phq-9", data=form | answers)
    shown = (await mine.client.get(saved.headers["location"])).text
    assert "116 123" in shown and "999" in shown
    assert "116 123" in (await mine.client.get("/me")).text
    await mine.client.post("/me/questions/phq-9", data=form | answers)
    assert await rest.rows("SELECT count(*) FROM r_questionnaireresponse WHERE patient_id = %s", person) == [(1,)]
    assert await rest.rows("SELECT count(*) FROM task WHERE patient_id = %s", person) == [(1,)]
    assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s AND measure = 'phq-9'", person) == [(9.0,)]

    nothing = await mine.client.post("/me/questions/gad-7", data=form)
    assert nothing.status_code == 422 and "No question was answered" in nothing.text
    odd = await mine.client.post("/me/questions/ucla-3", data=form | {"isolated": "perhaps"})
    assert odd.status_code == 422 and "Choose one of the answers" in odd.text
    coach = await visitor(rest, "health-coach")
    form = {"csrf": coach.csrf, "once": "two", "index": "0,612", "vas": "70"}
    assert (await coach.client.post(f"/patients/{person}/questions/eq-5d", data=form)).status_code == 303
    assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s AND measure = 'eq-5d-index'", person) == [
        (0.612,)
    ]
    far = await coach.client.post(f"/patients/{person}/questions/eq-5d", data=form | {"index": "612"})
    assert far.status_code == 422 and "from -1 to 1" in far.text
