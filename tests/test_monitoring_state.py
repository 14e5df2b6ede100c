"""Readings in and out of the database: projection, cases and charts, each in a fixed number of statements."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from monitoring_cases import NOW, days, hours, reading
from msgspec.structs import replace

from hub.db import Tx
from monitoring.case import Facts
from monitoring.evaluation import evaluate
from monitoring.limits import Limits, Order, project_limits
from monitoring.projection import correct_receipts, known_receipts, project_readings, put_receipts
from monitoring.readings import CHECK, WRONG, Reading
from monitoring.series import series
from monitoring.state import load_cases


class Counting:
    """A connection that counts the statements it is asked for."""

    def __init__(self, pg: psycopg.AsyncConnection[Any]) -> None:
        self.pg = pg
        self.count = 0

    async def execute(self, *args: Any, **more: Any) -> Any:
        self.count += 1
        return await self.pg.execute(*args, **more)

    def cursor(self, **more: Any) -> Any:
        self.count += 1
        return self.pg.cursor(**more)


def of(patient: str, found: Reading) -> Reading:
    return replace(found, patient_id=patient)


async def stored(tx: Tx, columns: str = "observation_id, measure, value, quality") -> list[tuple[Any, ...]]:
    cursor = await tx.pg.execute(f"SELECT {columns} FROM reading ORDER BY observation_id, measure")
    return await cursor.fetchall()


class TestProjection:
    @pytest.mark.parametrize("number", [1, 20, 500])
    async def test_every_reading_is_stored_whole(self, tx: Tx, number: int) -> None:
        sent = [
            Reading("weight", NOW - days(n), 94.39, None, "208.1 [lb_av]", CHECK, "Doubt.", f"o{n:03}", "p1", "d1")
            for n in range(number)
        ]
        await project_readings(tx.pg, sent, NOW)
        rows = await stored(tx, "measure, at, value, word, given, quality, why, observation_id, patient_id, device_id")
        assert [Reading(*row) for row in rows] == sent

    async def test_words(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("consciousness", "confused", id="o1")], NOW)
        assert await stored(tx, "measure, value, word, received") == [("consciousness", None, "confused", NOW)]

    async def test_an_updated_observation_replaces_its_readings(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("systolic", 120, id="o1"), reading("diastolic", 80, id="o1")], NOW)
        await project_readings(tx.pg, [reading("systolic", 125, id="o1")], NOW, ["o1"])
        assert await stored(tx) == [("o1", "systolic", 125.0, "ok")]

    async def test_entered_in_error_stays_as_wrong(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("pulse", 200, id="o1")], NOW)
        await project_readings(tx.pg, [replace(reading("pulse", 200, id="o1"), quality=WRONG)], NOW, ["o1"])
        assert await stored(tx) == [("o1", "pulse", 200.0, "wrong")]

    async def test_a_deleted_observation_leaves_none(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("pulse", 70, id="o1")], NOW)
        await project_readings(tx.pg, [], NOW, ["o1"])
        assert await stored(tx) == []


class TestReceipts:
    async def test_hazard_duplicate_device_readings(self, tx: Tx) -> None:
        first = [(b"a" * 16, "o1", b"1" * 16), (b"b" * 16, "o2", b"2" * 16)]
        again = [(b"a" * 16, "o3", b"1" * 16), (b"c" * 16, "o4", b"3" * 16)]
        assert await put_receipts(tx.pg, first) == {b"a" * 16, b"b" * 16}
        assert await put_receipts(tx.pg, again) == {b"c" * 16}
        assert await known_receipts(tx.pg, [b"a" * 16, b"z" * 16]) == {b"a" * 16: ("o1", b"1" * 16)}

    async def test_a_correction_is_compared_with_from_then_on(self, tx: Tx) -> None:
        await put_receipts(tx.pg, [(b"a" * 16, "o1", b"1" * 16)])
        await correct_receipts(tx.pg, [(b"a" * 16, b"9" * 16)])
        assert await known_receipts(tx.pg, [b"a" * 16]) == {b"a" * 16: ("o1", b"9" * 16)}


class TestCases:
    async def load(self, tx: Tx, new: Sequence[Reading], **more: Any) -> dict[str, Any]:
        return await load_cases(tx.pg, new, NOW, **more)

    async def test_what_was_known_before_is_seen(self, tx: Tx) -> None:
        await project_readings(
            tx.pg, [of("p1", reading("weight", 80, days(2))), of("p2", reading("weight", 60, days(1)))], NOW
        )
        found = await self.load(tx, [of("p1", reading("weight", 82.5))])
        assert found.keys() == {"p1"}
        assert [one.value for one in found["p1"].recent["weight"]] == [82.5, 80]
        assert [one.rule for one in evaluate(found["p1"])] == ["hf-weight"]

    async def test_new_readings_may_be_stored_already(self, tx: Tx) -> None:
        new = [reading("spo2", 93, id="o1")]
        await project_readings(tx.pg, new, NOW)
        found = await self.load(tx, new)
        assert len(found["p1"].recent["spo2"]) == 1

    async def test_only_the_window_that_a_rule_needs(self, tx: Tx) -> None:
        inside, outside = reading("weight", 80, days(2.9)), reading("weight", 70, days(3.1))
        await project_readings(tx.pg, [inside, outside, reading("dry-weight", 79, days(200))], NOW)
        found = (await self.load(tx, [reading("weight", 81)]))["p1"]
        assert [one.value for one in found.recent["weight"]] == [81, 80]
        assert [one.value for one in found.recent["dry-weight"]] == [79]

    async def test_doubtful_and_wrong_ones_are_not_seen(self, tx: Tx) -> None:
        await project_readings(
            tx.pg,
            [
                replace(reading("spo2", 93, hours(1)), quality=CHECK),
                replace(reading("spo2", 93, hours(2)), quality=WRONG),
            ],
            NOW,
        )
        found = (await self.load(tx, [reading("spo2", 93)]))["p1"]
        assert len(found.recent["spo2"]) == 1

    async def test_limits_and_facts(self, tx: Tx) -> None:
        own = Order("s1", "p1", "spo2", Limits(85, 88), 2, None, "Practitioner/g", "COPD", date(2027, 1, 1))
        await project_limits(tx.pg, [own])
        found = (await self.load(tx, [reading("spo2", 90)], facts={"p1": Facts(date(1950, 1, 1))}))["p1"]
        assert (found.scale, found.facts.birth_date) == (2, date(1950, 1, 1))
        limits = found.personal("spo2")
        assert limits is not None
        assert (limits.low_red, limits.low_amber) == (85, 88)
        assert limits.source == "personal limits set by Practitioner/g: COPD"
        assert evaluate(found) == []

    async def test_late_readings_load_nothing(self, tx: Tx) -> None:
        counting = Counting(tx.pg)
        assert await load_cases(counting, [reading("spo2", 80, hours(25))], NOW) == {}  # type: ignore[arg-type]
        assert counting.count == 0

    async def test_two_statements_for_any_number_of_people(self, tx: Tx) -> None:
        for number in (1, 40):
            counting = Counting(tx.pg)
            new = [of(f"p{n}", reading("spo2", 93)) for n in range(number)]
            found = await load_cases(counting, new, NOW)  # type: ignore[arg-type]
            assert (len(found), counting.count) == (number, 2)

    async def test_a_measure_that_no_rule_needs_is_not_loaded(self, tx: Tx) -> None:
        counting = Counting(tx.pg)
        found = await load_cases(counting, [reading("steps", 900)], NOW)  # type: ignore[arg-type]
        assert counting.count == 1
        assert evaluate(found["p1"]) == []


class TestCharts:
    async def test_a_short_series_is_told_reading_by_reading(self, tx: Tx) -> None:
        odd = replace(reading("pulse", 300, hours(2), id="o2"), quality=CHECK, why="Not believable.")
        await project_readings(
            tx.pg, [reading("pulse", 70, hours(3), id="o1"), odd, reading("pulse", 72, hours(1), id="o3")], NOW
        )
        found = (await series(tx.pg, "p1", ["pulse"], NOW - days(1), NOW))["pulse"]
        assert [(one.value, one.count, one.quality, one.observation_id) for one in found] == [
            (70, 1, "ok", "o1"),
            (300, 1, "check", "o2"),
            (72, 1, "ok", "o3"),
        ]
        assert found[1].why == "Not believable."

    async def test_a_long_series_is_summed_up_and_loses_no_extreme(self, tx: Tx) -> None:
        sent = [reading("glucose", 5 + n % 7, timedelta(minutes=5 * n)) for n in range(1, 2000)]
        low = reading("glucose", 1.9, timedelta(minutes=5003), id="low")
        odd = replace(reading("glucose", 90, hours(3)), quality=CHECK)
        await project_readings(tx.pg, [*sent, low, odd], NOW)
        found = (await series(tx.pg, "p1", ["glucose"], NOW - days(7), NOW, points=100))["glucose"]
        good = [one for one in found if one.quality == "ok"]
        assert len(good) <= 101
        assert sum(one.count for one in good) == 2000
        assert min(one.low for one in good if one.low is not None) == 1.9
        assert [one.value for one in found if one.quality == "check"] == [90]
        assert [one.at for one in found] == sorted(one.at for one in found)

    async def test_words_are_never_summed_up(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("consciousness", "alert", hours(n)) for n in range(1, 30)], NOW)
        found = (await series(tx.pg, "p1", ["consciousness"], NOW - days(2), NOW, points=5))["consciousness"]
        assert [one.word for one in found] == ["alert"] * 5
