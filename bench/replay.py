"""How fast the past is replayed: a month of home monitoring, the rules in force, processes side by side."""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from bench.measures import Row
from bench.setting import say
from hub import embedded, migrations, replays
from monitoring.rules import RULES

DAYS = 30
REACH = 1_000_000 / 60

# What people measure at home, in turn: pressure with pulse, oxygen, weight, temperature, glucose. Most of it is well.
_KINDS = """(VALUES (0, 'systolic', 132, 14), (0, 'diastolic', 82, 9), (0, 'pulse', 76, 11), (1, 'spo2', 96.5, 1.4),
    (1, 'pulse', 78, 11), (2, 'weight', 81, 0.6), (3, 'temperature', 36.7, 0.4), (4, 'glucose', 7.5, 2.1),
    (5, 'spo2', 96.5, 1.4), (5, 'respiratory-rate', 16, 2)) AS kind(turn, measure, middle, spread)"""

_FILL = f"""
INSERT INTO reading (observation_id, measure, patient_id, at, value, quality, received, seq)
SELECT 'o' || person || '-' || turns.number, measure, 'p' || person, moment,
    round((middle + spread * (random() + random() + random() + random() - 2) * 1.7)::numeric, 1), 'ok',
    moment + interval '3 seconds', turns.number * 10000 + person
FROM generate_series(1, %(people)s) AS person
CROSS JOIN generate_series(1, %(turns)s) AS turns(number)
CROSS JOIN LATERAL (SELECT %(since)s::timestamptz + turns.number * interval '1 second' * %(gap)s
    + interval '1 second' * person AS moment) AS timed
JOIN {_KINDS} ON kind.turn = turns.number %% 6"""


async def measured(readings: int = 1_000_000, people: int = 1500, processes: int = 2) -> list[Row]:
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS)
    turns = round(readings / people * 6 / 10)
    with (
        tempfile.TemporaryDirectory(prefix="carehub-bench-", ignore_cleanup_errors=True) as folder,
        embedded.start(Path(folder) / "data") as server,
    ):
        migrations.upgrade(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            gap = (DAYS * 86_400 - people) / turns
            connection.execute(_FILL, {"people": people, "turns": turns, "since": since, "gap": gap})
            connection.execute("VACUUM ANALYZE")
            everybody = connection.execute(replays.PEOPLE, (now,)).fetchall()
        figures = []
        for rules in ((), RULES):  # first the stream alone, which nothing can beat
            begun = time.perf_counter()
            done = await replays.answer(server.url, everybody, replays.Question(since, now, rules), processes=processes)
            spent = time.perf_counter() - begun
            say(f"{done.readings:,} readings, {len(rules)} rules, {len(done.replayed):,} alerts: {spent:.1f} s")
            figures.append(done.readings / spent)
    ceiling, figure = figures
    row = Row(
        f"replay of {readings:,} stored readings of {people:,} people, {len(RULES)} rules, {processes} processes",
        f"{figure:,.0f} readings/s",
        f"the stream alone {ceiling:,.0f}/s",
        f"{figure / ceiling:.0%}",
        ">= 1,000,000 a minute",
        figure >= REACH,
    )
    return [row]
