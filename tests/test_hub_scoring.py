"""A questionnaire is filled in; its scores, an alert and a task for a human follow in the same transaction."""

from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import pytest
from test_monitoring_questionnaires import response

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change
from hub import flows
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from monitoring.questionnaires import observation_id

JSON = dict[str, Any]


async def answered(tx: Tx, patient: str, one: JSON, ago: timedelta = timedelta(minutes=5), put: bool = False) -> None:
    at = (datetime.now(UTC) - ago).isoformat(timespec="seconds")
    resource = {**one, "subject": {"reference": f"Patient/{patient}"}, "authored": at}
    await flows.write(
        tx, IMPORTER, [Change("update" if put else "create", "QuestionnaireResponse", one["id"], resource)]
    )


async def readings(tx: Tx, patient: str) -> dict[str, tuple[float, str]]:
    rows = await tx.pg.execute("SELECT measure, value, quality FROM reading WHERE patient_id = %s", (patient,))
    return {measure: (value, quality) for measure, value, quality in await rows.fetchall()}


async def rules(tx: Tx, patient: str) -> dict[str, int]:
    rows = await tx.pg.execute("SELECT rule, severity FROM flag WHERE patient_id = %s", (patient,))
    return dict(await rows.fetchall())


async def tasks(tx: Tx, patient: str) -> list[tuple[str, str]]:
    rows = await tx.pg.execute("SELECT owner, description FROM task WHERE patient_id = %s", (patient,))
    return await rows.fetchall()


async def somebody(tx: Tx) -> tuple[str, str]:
    hub = await factories.organisation(tx)
    return await factories.patient(tx, hub=hub), f"Organization/{hub}"


class TestItem9:
    async def test_thoughts_of_self_harm_reach_a_human_the_same_day(self, tx: Tx) -> None:
        """Hazard: an answer that tells of self-harm lies unread behind a mild total."""
        patient, hub = await somebody(tx)
        await answered(tx, patient, response("phq-9", 0, 0, 0, 0, 0, 0, 0, 0, 1))
        assert await readings(tx, patient) == {"phq-9": (1, "ok"), "phq-9-item-9": (1, "ok")}
        assert await rules(tx, patient) == {"phq-9-item-9": 3}
        ((owner, description),) = await tasks(tx, patient)
        assert owner == hub and "Speak with the person today" in description
        row = await (await tx.pg.execute("SELECT due - now() FROM task WHERE patient_id = %s", (patient,))).fetchone()
        assert row is not None and timedelta(0) < row[0] <= timedelta(hours=25)

    async def test_one_task_however_often_the_form_is_saved(self, tx: Tx) -> None:
        patient, _ = await somebody(tx)
        form = response("phq-9", *[1] * 9, status="in-progress")
        await answered(tx, patient, form)
        await answered(tx, patient, {**form, "status": "completed"}, put=True)
        assert len(await tasks(tx, patient)) == 1

    async def test_what_arrives_late_asks_for_a_human_all_the_same_but_an_old_record_does_not(self, tx: Tx) -> None:
        late, _ = await somebody(tx)
        await answered(tx, late, response("phq-9", *[1] * 9, id="late"), timedelta(days=3))
        old, _ = await somebody(tx)
        await answered(tx, old, response("phq-9", *[1] * 9, id="old"), timedelta(days=400))
        assert len(await tasks(tx, late)) == 1 and await tasks(tx, old) == []

    async def test_not_at_all_asks_for_nobody(self, tx: Tx) -> None:
        patient, _ = await somebody(tx)
        await answered(tx, patient, response("phq-9", *[0] * 9))
        assert await tasks(tx, patient) == [] and await rules(tx, patient) == {}


class TestScores:
    async def test_one_question_less_takes_the_total_back(self, tx: Tx) -> None:
        patient, _ = await somebody(tx)
        await answered(tx, patient, response("gad-7", *[2] * 7))
        assert await readings(tx, patient) == {"gad-7": (14, "ok")}
        await answered(tx, patient, response("gad-7", *[2] * 6, status="amended"), put=True)
        assert await readings(tx, patient) == {"gad-7": (14, "wrong")}
        await answered(tx, patient, response("gad-7", *[1] * 7, status="amended"), put=True)
        assert await readings(tx, patient) == {"gad-7": (7, "ok")}

    async def test_a_wrong_form_leaves_no_score_behind(self, tx: Tx) -> None:
        patient, _ = await somebody(tx)
        await answered(tx, patient, response("ucla-3", 2, 2, 2))
        await flows.write(tx, IMPORTER, [Change("delete", "QuestionnaireResponse", "r1", None)])
        assert await readings(tx, patient) == {"ucla-3": (9, "wrong")}

    async def test_an_answer_beyond_the_options_stores_nothing(self, tx: Tx) -> None:
        patient, _ = await somebody(tx)
        with pytest.raises(Refusal):
            await answered(tx, patient, response("mmrc", {"valueInteger": 5}))

    async def test_the_score_is_the_engines_whoever_answers(self, tx: Tx) -> None:
        """A patient may not write what they like as their total, and a social worker's form is scored too."""
        patient, hub = await somebody(tx)
        social = Actor("user", "u9", "Sol", "social-worker", "Practitioner/s9", ("Practitioner/s9", hub))
        await factories.team(tx, patient, {"Practitioner/s9": "106328005"})
        one = {**response("ucla-3", 0, 1, 1), "subject": {"reference": f"Patient/{patient}"}}
        one["authored"] = datetime.now(UTC).isoformat(timespec="seconds")
        await flows.write(tx, social, [Change("create", "QuestionnaireResponse", "r1", one)])
        assert await readings(tx, patient) == {"ucla-3": (5, "ok")}
        rows = await tx.pg.execute(
            "SELECT author FROM resource_version WHERE type = 'Observation' AND id = %s",
            (observation_id("r1", "ucla-3"),),
        )
        assert await rows.fetchone() == ("Device/care-hub-engine",)
        stored = await store.load(tx.pg, [("Observation", observation_id("r1", "ucla-3"))])
        assert len(stored) == 1
