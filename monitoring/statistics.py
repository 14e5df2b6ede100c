"""Statistics of a person's readings, over the typed rows: one statement for any number of measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import psycopg

# Code of HL7's observation-statistics -> SQL over the good readings of one measure; R4: observation-operation-stats.
STATISTICS: Mapping[str, str] = MappingProxyType(
    {
        "average": "avg(value) FILTER (WHERE good)",
        "maximum": "max(value) FILTER (WHERE good)",
        "minimum": "min(value) FILTER (WHERE good)",
        "count": "count(*) FILTER (WHERE good)",
        "total-count": "count(*)",
        "median": "percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FILTER (WHERE good)",
        "std-dev": "stddev_samp(value) FILTER (WHERE good)",
        "variance": "var_samp(value) FILTER (WHERE good)",
        "sum": "sum(value) FILTER (WHERE good)",
        "20-percent": "percentile_cont(0.2) WITHIN GROUP (ORDER BY value) FILTER (WHERE good)",
        "80-percent": "percentile_cont(0.8) WITHIN GROUP (ORDER BY value) FILTER (WHERE good)",
        "4-lower": "percentile_cont(0.25) WITHIN GROUP (ORDER BY value) FILTER (WHERE good)",
        "4-upper": "percentile_cont(0.75) WITHIN GROUP (ORDER BY value) FILTER (WHERE good)",
    }
)
COUNTS = frozenset({"count", "total-count"})


@dataclass(frozen=True, slots=True)
class Summary:
    """The statistics of one measure, by code, in its unit; None where there is nothing to compute from.

    `first` and `last` are when the good readings were taken; `left_out` counts those that are wrong, need checking, or
    come from a sandbox device, and stand in no statistic but total-count.
    """

    values: Mapping[str, float | int | None]
    first: datetime | None
    last: datetime | None
    left_out: int


NOTHING = Summary({code: 0 if code in COUNTS else None for code in STATISTICS}, None, None, 0)


async def statistics(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measures: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    condition: str,
    params: Sequence[Any],
) -> dict[str, Summary]:
    """By measure, for readings taken in [*since*, *until*). *condition*, with its *params*, limits the Observations
    (alias `r` of `r_observation`) to what whoever asks may see."""
    rows = await pg.execute(
        f"""SELECT measure, min(at) FILTER (WHERE good), max(at) FILTER (WHERE good), count(*) FILTER (WHERE NOT good),
                   {", ".join(STATISTICS.values())}
            FROM (SELECT measure, at, value, quality = 'ok' AND value IS NOT NULL AS good FROM reading
                  JOIN r_observation r ON r.id = reading.observation_id
                  WHERE reading.patient_id = %s AND measure = ANY(%s)
                    AND (%s::timestamptz IS NULL OR at >= %s) AND (%s::timestamptz IS NULL OR at < %s)
                    AND ({condition})) AS chosen
            GROUP BY measure""",
        (patient_id, list(measures), since, since, until, until, *params),
        prepare=False,
    )
    return {
        measure: Summary(dict(zip(STATISTICS, values, strict=True)), first, last, left_out)
        async for measure, first, last, left_out, *values in rows
    }
