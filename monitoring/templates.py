"""Templates of plans of monitoring: FHIR PlanDefinitions that say what is measured and when, for a condition.

A template sets no limits: these are a clinician's, for one person. What `$apply` makes of one are proposals; `orders`
turns them into orders in the name of whoever decided.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from monitoring.limits import CATEGORY, Order, from_service_request
from monitoring.schedules import LONDON

JSON = dict[str, Any]

DATA = Path(__file__).parent / "data"

TEMPLATES: Mapping[str, JSON] = MappingProxyType(
    {
        path.stem.removeprefix("plan-"): json.loads(path.read_text(), parse_float=Decimal)
        for path in sorted(DATA.glob("plan-*.json"))
    }
)
"""By the name of their condition, such as `heart-failure`."""


def orders(proposed: Iterable[JSON], who: str, now: datetime) -> Iterator[Order]:
    """The orders that the *proposed* ServiceRequests become, by *who* (a reference), from *now* on; without ids. A time
    that is bounded by a duration ends after so many days, at midnight in London."""
    for resource in proposed:
        repeat = resource.get("occurrenceTiming", {}).get("repeat", {})
        order = from_service_request({**resource, "category": [{"coding": [_CATEGORY]}]})
        if order is None:
            continue
        days = repeat.get("boundsDuration", {}).get("value")
        ends = None
        if days is not None:
            last = now.astimezone(LONDON).date() + timedelta(days=int(days))
            ends = datetime(last.year, last.month, last.day, tzinfo=LONDON)
        yield replace(order, service_request_id="", set_by=who, active=True, starts=now, ends=ends)


_CATEGORY = {"system": CATEGORY[0], "code": CATEGORY[1]}
