"""A rule: a kind with its parameters, and what people must know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from monitoring.case import Case, Verdict
from monitoring.kind import Kind
from monitoring.readings import Reading

CLINICAL, OPERATIONAL = "clinical", "operational"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule: `how` it looks (a kind with its parameters) and what people must know of it. One is itself alone: sets of
    rules are compared and remembered with every reading.

    `personal` rules look only where a clinician set limits for that measure. `quiet`: while its flag is open and no
    worse, readings closer than this to the last refresh add nothing, since a sensor that reads every three minutes
    would rewrite the flag each time. A rule that is not `on` watches nobody until a hub switches it on. `triggers`,
    `needs`, `evaluate` and `looks` are those of `how`, kept here because every reading asks for them.
    """

    id: str
    version: int
    name: str
    sentence: str
    how: Kind
    source: str
    kind: str = CLINICAL
    personal: bool = False
    quiet: timedelta = timedelta(0)
    on: bool = True
    triggers: frozenset[str] = field(init=False, compare=False)
    needs: Mapping[str, timedelta] = field(init=False, compare=False)
    evaluate: Callable[[Case], Verdict | None] = field(init=False, compare=False, repr=False)
    looks: Callable[[Reading], bool] | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("triggers", "needs", "evaluate"):
            object.__setattr__(self, name, getattr(self.how, name))
        object.__setattr__(self, "looks", getattr(self.how, "looks", None))
