"""Who of 20,000 people missed what: the check as upkeep runs it, beside the look-ups that no check can do without."""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from bench.measures import Row
from bench.setting import say
from hub import embedded, followup, migrations
from hub.db import Database
from monitoring import overdue

PEOPLE = 20_000
ASKED = (("systolic", "07:00-10:00,17:00-20:00", 12), ("weight", "07:00-12:00", 24), ("spo2", "", 8))
DAYS = 14
LATE = 10
"""One in so many people has measured nothing for two days."""
REACH = 5.0

_POPULATION = """
INSERT INTO person (patient_id, family, given, search_name, hub_id, tier, synthetic)
SELECT 'p' || n, 'Bench', 'Person', 'bench person', 'h' || n %% 10, 'complex', true
FROM generate_series(1, %(people)s) n
"""
_ORDERS = """
INSERT INTO monitoring_limit (service_request_id, patient_id, measure, every_hours, windows, active)
SELECT measure || n, 'p' || n, measure, every, windows, true
FROM generate_series(1, %(people)s) n
CROSS JOIN unnest(%(measures)s::text[], %(windows)s::text[], %(every)s::real[]) AS asked (measure, windows, every)
"""
_READINGS = """
INSERT INTO reading (observation_id, measure, patient_id, at, value, quality, received, seq)
SELECT o.service_request_id || '-' || k, o.measure, o.patient_id, at, 100, 'ok', at, 0
FROM monitoring_limit o
CROSS JOIN generate_series(0, (%(days)s * 24 / o.every_hours)::int) k
CROSS JOIN LATERAL (SELECT %(now)s - make_interval(hours => (k * o.every_hours)::int, mins => 7)) AS one (at)
WHERE NOT (substr(o.patient_id, 2)::int %% %(late)s = 0 AND at > %(now)s - interval '2 days')
"""
_LOOKUPS = """
SELECT count(last.at) FROM monitoring_limit l LEFT JOIN LATERAL (
    SELECT r.at FROM reading r WHERE r.patient_id = l.patient_id AND r.measure = l.measure ORDER BY r.at DESC LIMIT 1
) last ON true
"""


async def measured() -> list[Row]:
    """One row: the first check, which writes what it finds, and the one after, which changes nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="carehub-bench-", ignore_cleanup_errors=True) as folder,
        embedded.start(Path(folder) / "data") as server,
    ):
        migrations.upgrade(server.url)
        database = Database(server.url, statement_timeout_ms=600_000)
        # Any noon: nobody is reminded at night.
        now = datetime.now(UTC).replace(hour=13, minute=0, second=0, microsecond=0)
        readings = await _populate(database, server.url, now)
        async with database.transaction() as tx:
            start = time.perf_counter()
            await tx.pg.execute(_LOOKUPS)
            lookups = time.perf_counter() - start
        async with database.transaction() as tx:
            start = time.perf_counter()
            found = await overdue.check(tx.pg, now)
            first = time.perf_counter() - start
        again = await _timed(database, now)
        steps = await _timed(database, now + timedelta(minutes=5))
        await database.close()
    seconds = max(first, again)
    say(f"follow-up of {followup.AT_ONCE} people at a time: {steps:.2f} s with its check")
    row = Row(
        f"overdue check, {PEOPLE:,} people, {PEOPLE * len(ASKED):,} orders, {readings:,} readings",
        f"{first:.2f} s, the next {again:.2f} s; {found.missed:,} missed",
        f"{lookups:.2f} s for the look-ups alone",
        f"{lookups / first:.0%}",
        f"< {REACH:.0f} s",
        seconds < REACH,
    )
    say(f"{row.work}: {row.figure}; {row.ceiling} {row.ratio}")
    return [row]


async def _timed(database: Database, now: datetime) -> float:
    """Seconds of a check as upkeep runs it, follow-up and commit included."""
    start = time.perf_counter()
    async with database.transaction() as tx:
        await followup.check(tx, now)
    return time.perf_counter() - start


async def _populate(database: Database, url: str, now: datetime) -> int:
    measures, windows, every = zip(*ASKED, strict=True)
    values = {
        "people": PEOPLE, "measures": list(measures), "windows": list(windows), "every": list(every), "now": now,
        "days": DAYS, "late": LATE,
    }  # fmt: skip
    start = time.perf_counter()
    async with database.transaction() as tx:
        await tx.pg.execute(_POPULATION, values)
        await tx.pg.execute(_ORDERS, values)
        made = await tx.pg.execute(_READINGS, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    say(f"made {PEOPLE:,} people and {made.rowcount:,} readings in {time.perf_counter() - start:.0f} s")
    return made.rowcount
