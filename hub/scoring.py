"""Answers that become readings: what follows from writing a QuestionnaireResponse, in its transaction.

The scores are written by the engine, whoever answered, as flags are: a total is nobody's to write. Those of a response
that was taken back, or that has a question less now, are marked as entered in error, never removed.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from care_plans.tasks import new_task
from fhir import store
from fhir.store import Change, Key, Written
from hub import effects, watch
from hub.db import Tx
from hub.identity import ENGINE
from monitoring.flags import AUTHOR
from monitoring.questionnaires import every_measure, observation_id, observations

JSON = dict[str, Any]

LONDON = ZoneInfo("Europe/London")
WITHDRAWN = "entered-in-error"
SAME_DAY = timedelta(days=7)
"""How old an answer may be, when it arrives, for somebody to speak with the person today: a form that was filled in on
paper last week counts, a record that is imported does not. Ours."""
LEAST = timedelta(hours=2)
"""What is answered just before midnight is not overdue before anybody could have seen it. Ours."""

SPEAK = (
    "Speak with the person today: they answered question 9 of the PHQ-9 (thoughts of being better off dead, or of "
    "self-harm) with more than “not at all”. Read the answer, assess the risk, and write down what was agreed."
)


async def score(tx: Tx, written: Sequence[Written], now: datetime) -> None:
    """Write the Observations and Tasks that follow from the responses among *written*, and all that follows from them.

    Refusal 422 where an answer cannot be scored: the response then is not stored either.
    """
    responses = {one.change.id: one for one in written if one.change.type == "QuestionnaireResponse"}
    keys = [
        ("Observation", observation_id(id_, measure))
        for id_, one in responses.items()
        if one.version > 1
        for measure in every_measure()
    ]
    known = await store.load(tx.pg, keys, lock=True)
    changes: list[Change] = []
    said: set[Key] = set()
    for id_, one in responses.items():
        made = observations(one.change.resource, now) if one.change.resource is not None else []
        for observation in made:
            said.add(("Observation", observation["id"]))
            before = known.get(("Observation", observation["id"]))
            if before is None or before.resource is None or _says(before.resource) != _says(observation):
                changes.append(
                    Change("create" if before is None else "update", "Observation", observation["id"], observation)
                )
        changes += await _asks(tx, id_, made, now)
    for key, stored in known.items():
        if key not in said and stored.resource is not None and stored.resource["status"] != WITHDRAWN:
            changes.append(Change("update", *key, {**stored.resource, "status": WITHDRAWN}))
    if changes:
        readings = await watch.typed(tx, changes, now)
        await effects.carry_out(tx, [ENGINE] * len(changes), changes, known, readings, now)


def _says(observation: JSON) -> JSON:
    return {key: value for key, value in observation.items() if key != "meta"}


async def _asks(tx: Tx, response_id: str, made: Sequence[JSON], now: datetime) -> list[Change]:
    """The Task for a human when item 9 of a PHQ-9 was answered with more than nothing; one for each response."""
    for observation in made:
        if observation["id"] != observation_id(response_id, "phq-9-item-9"):
            continue
        if observation["valueQuantity"]["value"] <= 0 or watch.is_test(observation):
            continue
        if now - datetime.fromisoformat(observation["effectiveDateTime"]) > SAME_DAY:
            continue
        task_id = observation_id(response_id, "task")
        if ("Task", task_id) in await store.load(tx.pg, [("Task", task_id)]):
            continue
        patient = observation["subject"]["reference"]
        task = new_task(
            task_id, SPEAK, AUTHOR, now, patient=patient, owner=await _hub(tx, patient), due=_tonight(now),
            priority="asap", focus=f"QuestionnaireResponse/{response_id}",
        )  # fmt: skip
        return [Change("create", "Task", task_id, task)]
    return []


async def _hub(tx: Tx, patient: str) -> str | None:
    rows = await tx.pg.execute("SELECT hub_id FROM person WHERE patient_id = %s", (patient.removeprefix("Patient/"),))
    row = await rows.fetchone()
    return f"Organization/{row[0]}" if row and row[0] else None


def _tonight(now: datetime) -> datetime:
    """The end of the day in London."""
    tomorrow: date = now.astimezone(LONDON).date() + timedelta(days=1)
    return max(datetime.combine(tomorrow, time(), LONDON), now + LEAST)
