"""The past evaluated again gives what was found when it was the present; other limits are tried on it."""

from dataclasses import astuple
from datetime import date, timedelta

from recorded_days import END, World
from test_flow_readings import person, rows, send, spo2

from hub.db import Database, Tx
from monitoring.limits import Limits, Order
from monitoring.replay import load_past, raised, replay, would_have_raised
from monitoring.rules import RULES

NAMES = [rule.id for rule in RULES]


class TestExactness:
    """Hazard: what is shown of a rule before it goes live is not what it would do."""

    async def test_replaying_what_stood_gives_what_was_raised(self, database: Database) -> None:
        world = World(database, people=8, days=9, seed=2)
        await world.live()
        later = END + timedelta(days=1)
        told = 0
        for patient_id, _ in world.people:
            for since in (world.since, world.since + timedelta(days=3)):
                async with database.reading() as pg:
                    past = await load_past(pg, patient_id, RULES, since, later)
                was = sorted(map(astuple, raised(past, since, NAMES)))
                assert sorted(map(astuple, replay(past, since))) == was
                told += len(was)
        assert told > 40
        # All that makes it hard did happen.
        async with database.transaction() as tx:
            for what in (
                "reading_replaced",
                "flag WHERE state IN ('resolved', 'false-alarm')",
                "flag WHERE outcome = 'not-confirmed'",
                "pregnancy",
                "monitoring_limit WHERE active",
                "reading WHERE received - at > interval '24 hours'",
            ):
                assert (await rows(tx, f"SELECT count(*) FROM {what}"))[0][0] > 0, what


class TestPreviewOfLimits:
    async def test_what_other_limits_would_have_raised(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        for days, value in ((20, "91"), (19, "96"), (9, "93"), (8, "93"), (2, "89")):
            at = END - timedelta(days=days)
            await send(tx, device, spo2(patient_id, value, at), now=at)
        wider = Order(
            "s", patient_id, "spo2", Limits(low_red=88, low_amber=90), None, 24, "Practitioner/gp", "COPD", date.max
        )
        was, would = await would_have_raised(tx.pg, wider, END)
        # The flag of day 20 was never answered: what came later added to it.
        assert [(one.rule, one.severity, END - one.opened) for one in was] == [
            ("oximetry-at-home", 3, timedelta(days=20))
        ]
        # Day 2 alone is beyond the wider limits, once, so a repeat would have been asked for.
        assert [(one.rule, one.severity, END - one.opened) for one in would] == [("limit-spo2", 1, timedelta(days=2))]
        assert [one.called for one in would] == [None]

    async def test_an_episode_that_nobody_could_end_ends_by_itself(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        for hours in (200, 190, 100, 95, 2):
            at = END - timedelta(hours=hours)
            await send(tx, device, spo2(patient_id, "95", at), now=at)
        strict = Order("s", patient_id, "spo2", Limits(low_red=95), None, 24, "Practitioner/gp", "why", date.max)
        was, would = await would_have_raised(tx.pg, strict, END)
        assert was == []
        assert [(END - one.opened) / timedelta(hours=1) for one in would] == [200, 100, 2]

    async def test_a_reading_that_came_too_late_raises_nothing(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "85", END - timedelta(hours=25)), now=END)
        strict = Order("s", patient_id, "spo2", Limits(low_red=95), None, 24, "Practitioner/gp", "why", date.max)
        assert await would_have_raised(tx.pg, strict, END + timedelta(seconds=1)) == ([], [])
