"""What may be subscribed to by topic: a canonical URL, the type it is about, and which of its versions are events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from care_plans.plan import is_persons_plan
from care_plans.shapes import local_reference
from fhir.conditions import ALWAYS
from fhir.store import Sql
from monitoring import flags

JSON = dict[str, Any]
BASE = "https://carehub.example/fhir/SubscriptionTopic/"


def _always(before: JSON | None, after: JSON) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. A version of *type* is an event when *condition*, SQL on alias `r` of its search row, holds, and
    *happened* says so of the version before (None: there is none, or it is a deletion) and of this one."""

    name: str
    type: str
    words: str
    condition: Sql = ALWAYS
    happened: Callable[[JSON | None, JSON], bool] = _always

    @property
    def url(self) -> str:
        return BASE + self.name


def _raised(before: JSON | None, after: JSON) -> bool:
    """Opened, or open again after it had been acknowledged; a flag that only takes in a further reading is no event."""
    if after.get("status") != "active":
        return False
    if before is None or before.get("status") != "active":
        return True
    return flags.called(before, after) is not None


def _plan_changed(before: JSON | None, after: JSON) -> bool:
    return is_persons_plan(after)


def _assigned(before: JSON | None, after: JSON) -> bool:
    owner = local_reference(after.get("owner"))
    return owner is not None and (before is None or local_reference(before.get("owner")) != owner)


_ALL = (
    Topic("flag-raised", "Flag", "a flag was opened, or opened again after it had been acknowledged", happened=_raised),
    Topic("plan-changed", "CarePlan", "a version of a person's plan was written", happened=_plan_changed),
    Topic(
        "reading-received",
        "Observation",
        "a reading came in that the hub understands: a measure it knows, in a unit it knows",
        Sql("r.version = 1 AND EXISTS (SELECT 1 FROM reading WHERE reading.observation_id = r.id)"),
    ),
    Topic("task-assigned", "Task", "a task was given to somebody, or to somebody else", happened=_assigned),
)

TOPICS: Mapping[str, Topic] = MappingProxyType({topic.url: topic for topic in _ALL})
