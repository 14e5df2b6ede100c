"""What a kind of rule is: one way to look at readings. Its parameters are its fields, so that a rule is data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from monitoring.case import Case, Verdict, worst


class Kind(Protocol):
    """A frozen dataclass with its parameters as fields. Pure: what it says follows from the case alone.

    `triggers` are the measures whose new reading makes it look, `needs` how far back it looks at each measure. One that
    needs much of the past may also have `looks(reading)`, and look at few readings of the day: the past is fetched for
    those alone, and its `evaluate` must be silent at the others.
    """

    @property
    def triggers(self) -> frozenset[str]: ...

    @property
    def needs(self) -> Mapping[str, timedelta]: ...

    def evaluate(self, case: Case) -> Verdict | None: ...


@dataclass(frozen=True, slots=True)
class WorstOf:
    """The gravest of what several kinds say of one case: one fact, one flag."""

    kinds: tuple[Kind, ...]

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset().union(*(one.triggers for one in self.kinds))

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return furthest_back(*(one.needs for one in self.kinds))

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(one.evaluate(case) for one in self.kinds)


def furthest_back(*needs: Mapping[str, timedelta]) -> dict[str, timedelta]:
    """What is needed to look as far back as each of *needs* does."""
    back: dict[str, timedelta] = {}
    for one in needs:
        for measure, within in one.items():
            if within > back.get(measure, timedelta(0)):
                back[measure] = within
    return back
