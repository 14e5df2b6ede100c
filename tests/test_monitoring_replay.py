"""The past evaluated again gives what was found when it was the present; other limits are tried on it."""

from dataclasses import astuple
from datetime import date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from recorded_days import END, World
from test_flow_readings import person, rows, send, spo2

from fhir.wire import decode
from hub import replays
from hub.db import Database, Tx
from monitoring import usefulness
from monitoring.comparison import identical
from monitoring.flags import AUTHOR, Flag, from_fhir
from monitoring.limits import Limits, Order
from monitoring.replay import load_past, raised, replay, would_have_raised
from monitoring.rules import RULES
from monitoring.usefulness import Usefulness

NAMES = [rule.id for rule in RULES]


@pytest.fixture(scope="module")
async def world(database: Database) -> World:
    made = World(database, people=8, days=9, seed=2)
    await made.live()
    return made


class TestExactness:
    """Hazard: what is shown of a rule before it goes live is not what it would do."""

    async def test_replaying_what_stood_gives_what_was_raised(self, world: World) -> None:
        database = world.database
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
                "resource_version WHERE type = 'ServiceRequest'",
                "reading WHERE received - at > interval '24 hours'",
            ):
                assert (await rows(tx, f"SELECT count(*) FROM {what}"))[0][0] > 0, what

    async def test_several_processes_find_the_same_by_themselves(self, world: World) -> None:
        later = END + timedelta(days=1)
        async with world.database.reading() as pg:
            people = await (await pg.execute(replays.PEOPLE, (later,))).fetchall()
        heard: list[tuple[int, int]] = []
        question = replays.Question(world.since, later)
        done = await replays.answer(world.database.url, people, question, lambda *so: heard.append(so), processes=2)
        assert identical(done.raised, done.replayed)
        assert (done.people, len(done.raised) > 20) == (len(world.people), True)
        assert heard[-1][0] == done.readings > 0
        # Of one rule alone, it is the same as of all.
        question = replays.Question(world.since, later, only=("oximetry-at-home",))
        alone = await replays.answer(world.database.url, people, question, processes=1)
        assert identical(alone.replayed, [one for one in done.raised if one.rule == "oximetry-at-home"])


class TestUsefulness:
    async def test_the_report_is_what_one_counts_in_the_history_of_the_flags(self, world: World) -> None:
        since, until = world.since + timedelta(days=1), END
        async with world.database.reading() as pg:
            lines = await usefulness.report(pg, since, until)
            bodies = await (
                await pg.execute("SELECT body FROM resource_version WHERE type = 'Flag' ORDER BY seq")
            ).fetchall()
        latest = {one["id"]: one for (body,) in bodies for one in [decode(body.encode())]}
        found = [flag for one in latest.values() if (flag := from_fhir(one, 0)) is not None]
        found = [flag for flag in found if since <= flag.opened < until]
        assert {line.rule for line in lines} == {flag.rule for flag in found} | {None}
        for line in lines:
            of_it = [flag for flag in found if line.rule in (flag.rule, None)]
            called = [flag for flag in of_it if any(move["to"] in ("open", "escalated") for move in flag.moves)]
            looks = sorted(wait for flag in called if (wait := _wait(flag)) is not None)
            assert line.alerts == len(called), line.rule
            assert line.people == len({flag.patient_id for flag in called})
            assert line.unconfirmed == len(of_it) - len(called)
            assert line.looked == len(looks)
            assert line.acted == sum(flag.outcome == "phone-call" for flag in called)
            assert line.false_alarms == sum(flag.outcome == "artefact" for flag in called)
            assert line.nothing == sum(flag.outcome in ("not-confirmed", "none-needed") for flag in called)
            assert line.open == sum(flag.live for flag in called)
            assert line.reopened == sum(_reopened(flag) for flag in called)
            assert line.escalated == sum(any(move["to"] == "escalated" for move in flag.moves) for flag in called)
            assert (line.first_look is None) == (not looks)
            if looks:
                assert line.first_look == median(looks)
                assert looks[0] <= line.first_look <= (line.first_look_p90 or looks[0]) <= looks[-1]
        assert lines[-1].alerts > 10
        assert lines[-1].looked > 5
        assert lines[-1].reopened > 0


def _wait(flag: Flag) -> timedelta | None:
    """How long the flag called until a person answered."""
    called = next(move["at"] for move in flag.moves if move["to"] in ("open", "escalated"))
    answered = next((move["at"] for move in flag.moves if move["by"] != AUTHOR), None)
    if answered is None:
        return None
    return max(datetime.fromisoformat(answered) - datetime.fromisoformat(called), timedelta(0))


def _reopened(flag: Flag) -> int:
    count = 0
    for before, move in pairwise(flag.moves):
        woke = before["to"] == "snoozed" and before["until"] is not None and move["at"] >= before["until"]
        seen = before["to"] in ("acknowledged", "in-progress", "snoozed")
        count += move["to"] == "open" and move["by"] == AUTHOR and seen and not woke
    return count


class TestWeeks:
    def test_a_week_is_londons(self) -> None:
        since, until = usefulness.week("2026-W13")
        assert (since.isoformat(), until.isoformat()) == ("2026-03-23T00:00:00+00:00", "2026-03-30T00:00:00+01:00")
        assert usefulness.week_of(date(2026, 11, 22)) == "2026-W47"

    @pytest.mark.parametrize("text", ["", "2026", "2026-47", "2026-W54", "2026-W00", "20261-W1", "2026-W4x"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            usefulness.week(text)


class TestRetuning:
    def line(self, **more: Any) -> Usefulness:
        given = {name: 0 for name in Usefulness.__dataclass_fields__}
        given |= {"hub_id": "h", "rule": "news2", "first_look": None, "first_look_p90": None, "reasons": {}}
        return Usefulness(**{**given, **more})

    def test_more_than_the_share_of_enough_is_worth_another_look(self) -> None:
        assert self.line(alerts=9, false_alarms=6, acted=3).retune
        assert not self.line(alerts=10, false_alarms=5, acted=3, nothing=2).retune
        assert not self.line(alerts=4, false_alarms=4).retune

    def test_no_share_where_nothing_has_ended(self) -> None:
        assert self.line(alerts=3, open=3).false_share is None

    def test_few_are_said_to_be_few(self) -> None:
        assert self.line(alerts=9).few
        assert not self.line(alerts=10).few


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
