"""What is said beside a chart: what is usual, the week of home blood pressure, and a sensor's glucose over the day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from monitoring import blood_pressure, glucose_sensor
from monitoring.baseline import FLOORS, LENGTH, Baseline, TooFew, usual
from monitoring.blood_pressure import Week
from monitoring.case import Case
from monitoring.glucose_sensor import TimeInRange
from monitoring.limits import Order
from monitoring.readings import Reading

MOST_JUDGED = 2000
"""Readings of one measure that a baseline is made of: as many as rules look at (`monitoring.state`)."""

MOST_OF_A_SENSOR = 20_160
"""One a minute for two weeks."""

SLOT = timedelta(minutes=30)
"""Readings of one half hour of the day, of all days, are one point of the profile. Ours."""


async def usual_of(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measures: Sequence[str],
    orders: Mapping[str, Order],
    at: datetime,
) -> dict[str, Baseline | TooFew]:
    """What was usual for the person at the instant *at*, of those of *measures* that have a baseline: one statement."""
    wanted = [measure for measure in measures if measure in FLOORS]
    recent = await _recent(pg, patient_id, wanted, at - LENGTH, at, MOST_JUDGED)
    case = Case(patient_id, at, orders=orders, recent=recent)
    return {measure: usual(case, measure, at) for measure in wanted}


async def pressure_week(pg: psycopg.AsyncConnection[Any], patient_id: str, at: datetime) -> Week:
    """The week of home blood pressure that ends with the newest reading up to *at*, at most a week before it."""
    since = at - 2 * blood_pressure.WEEK
    recent = await _recent(pg, patient_id, ("systolic", "diastolic"), since, at, MOST_JUDGED)
    return blood_pressure.week(recent.get("systolic", ()), recent.get("diastolic", ()))


@dataclass(frozen=True, slots=True)
class Slot:
    """The half hour of the day that begins `minute` minutes after midnight in London: percentiles over all days."""

    minute: int
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    count: int


@dataclass(frozen=True, slots=True)
class SensorProfile:
    """Two weeks of a sensor up to the newest reading: time in range, and the day that is made of all days."""

    range: TimeInRange
    slots: tuple[Slot, ...]


async def sensor_profile(pg: psycopg.AsyncConnection[Any], patient_id: str, at: datetime) -> SensorProfile | None:
    """The profile (as in the ambulatory glucose profile, PMC8481000) of the 14 days before *at*; None without any."""
    since, sensor = at - glucose_sensor.DAYS, glucose_sensor.SENSOR
    recent = await _recent(pg, patient_id, (sensor,), since, at, MOST_OF_A_SENSOR)
    if not recent:
        return None
    rows = await pg.execute(
        "SELECT slot * %(slot)s, p[1], p[2], p[3], p[4], p[5], count FROM ("
        " SELECT extract(epoch FROM (at AT TIME ZONE 'Europe/London')::time)::int / (60 * %(slot)s) AS slot,"
        " percentile_cont(ARRAY[0.05, 0.25, 0.5, 0.75, 0.95]) WITHIN GROUP (ORDER BY value) AS p, count(*)"
        " FROM reading WHERE patient_id = %(patient)s AND measure = %(sensor)s AND quality = 'ok'"
        " AND value IS NOT NULL AND at > %(since)s AND at <= %(at)s GROUP BY 1) AS slots ORDER BY 1",
        {"slot": int(SLOT / timedelta(minutes=1)), "patient": patient_id, "sensor": sensor, "since": since, "at": at},
        prepare=False,
    )
    slots = tuple(Slot(*row) for row in await rows.fetchall())
    return SensorProfile(glucose_sensor.time_in_range(recent[sensor]), slots)


async def _recent(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measures: Sequence[str],
    since: datetime,
    until: datetime,
    most: int,
) -> dict[str, list[Reading]]:
    """Good numbers, newest first, at most *most* of each measure."""
    if not measures:
        return {}
    rows = await pg.execute(
        "SELECT found.* FROM unnest(%s::text[]) AS w(measure) CROSS JOIN LATERAL ("
        " SELECT measure, at, value, observation_id FROM reading WHERE patient_id = %s AND measure = w.measure"
        " AND quality = 'ok' AND value IS NOT NULL AND at >= %s AND at <= %s ORDER BY at DESC LIMIT %s) AS found",
        (list(measures), patient_id, since, until, most),
        prepare=False,
    )
    recent: dict[str, list[Reading]] = {}
    for measure, moment, value, observation_id in await rows.fetchall():
        recent.setdefault(measure, []).append(Reading(measure, moment, value, observation_id=observation_id))
    return recent
