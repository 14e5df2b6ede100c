"""A day and a half in a fast clock: timers looked at all the time, or rarely and by processes that are killed."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from conftest import Fresh
from test_flow_readings import person, rows, send, spo2

from fhir.store import new_id
from hub import timers
from hub.db import Database
from hub.identity import Actor

START = datetime(2026, 11, 19, 9, 0, tzinfo=UTC)  # a Thursday
STEP = timedelta(hours=1)
STEPS = 40
PEOPLE = 10


class Killed(Exception):
    pass


async def crowd(database: Database) -> list[tuple[str, Actor]]:
    """People with a device each, and a team of one, who has no account and never looks."""
    async with database.transaction() as tx:
        people = [await person(tx) for _ in range(PEOPLE)]
        for patient_id, _ in people:
            await tx.pg.execute(
                "INSERT INTO team_member (care_team_id, member, role_code, patient_id, role, name)"
                " VALUES (%s, 'Practitioner/away', '768820003', %s, '', 'N')",
                (new_id(), patient_id),
            )
    return people


async def lived(database: Database, every: int, killed: random.Random | None) -> list[Any]:
    """What was raised, with what became of it, when timers are looked at every *every* steps: by number of the person,
    since ids differ between two runs."""
    people = await crowd(database)
    readings = random.Random(7)
    for number in range(STEPS):
        now = START + number * STEP
        for patient_id, device in people:
            if readings.random() < 0.12:
                value = str(readings.choice((97, 97, 97, 96, 94, 93, 91)))
                async with database.transaction() as tx:
                    await send(tx, device, spo2(patient_id, value, now), now=now)
        if number % every == every - 1:
            await looked(database, now, killed)
    await looked(database, START + STEPS * STEP, None)
    numbers = {patient_id: number for number, (patient_id, _) in enumerate(people)}
    async with database.transaction() as tx:
        found = await rows(
            tx, "SELECT patient_id, rule, opened, severity, count, outcome, resolved_at, id, moves, level FROM flag"
        )
        notices = Counter(one[0] for one in await rows(tx, "SELECT link FROM notice WHERE kind = 'flag-escalated'"))
    for *_, id_, moves, level in found:
        # Each time that it went up is told once, whatever was killed in between.
        assert notices[f"/flags/{id_}"] == level == sum(one["to"] == "escalated" for one in moves)
    return sorted((numbers[one[0]], *one[1:7]) for one in found)


async def looked(database: Database, now: datetime, killed: random.Random | None) -> None:
    """Every timer that is due, by processes of which *killed* kills some before they commit."""
    while True:
        try:
            async with database.transaction() as tx:
                done = await timers.fire_due(tx, now, limit=5)
                if done and killed is not None and killed.random() < 0.5:
                    raise Killed
        except Killed:
            continue
        if not done:
            return


async def test_alerts_are_the_same_and_each_timer_fires_once_though_processes_are_killed(
    fresh_database: Fresh,
) -> None:
    calm = await lived(await fresh_database(), 1, None)
    rough = await lived(await fresh_database(), 7, random.Random(3))
    assert calm == rough
    outcomes = Counter(one[5] for one in calm)
    assert outcomes["not-confirmed"] and outcomes[None] and {one[3] for one in calm} >= {1, 3}
