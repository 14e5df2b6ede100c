"""Which rules watch whom: those that are shipped and on, less what a hub switched off, and what it made live itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitoring.local_rules import LocalRule
from monitoring.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The live rules of all hubs. `members`: by the id of a LocalRule, the people it watches; a rule that is not in it
    watches its whole hub. `of` remembers its answers: most people of a hub have the same rules."""

    live: tuple[LocalRule, ...] = ()
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _known: dict[tuple[str | None, frozenset[str]], tuple[Rule, ...]] = field(default_factory=dict, compare=False)
    _hubs: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hubs", frozenset(one.scope.hub_id for one in self.live))

    def of(self, patient_id: str, hub_id: str | None) -> Sequence[Rule]:
        """The rules that watch one person, who belongs to the hub *hub_id*, or to none."""
        if hub_id not in self._hubs:
            return RULES
        chosen = frozenset(
            one.id
            for one in self.live
            if one.scope.hub_id == hub_id and (one.id not in self.members or patient_id in self.members[one.id])
        )
        key = hub_id, chosen
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = rules_for([one for one in self.live if one.id in chosen])
        return known


ONLY_SHIPPED = RulesInForce()


def rules_for(live: Iterable[LocalRule]) -> tuple[Rule, ...]:
    """The rules that watch a person whom all of *live* watch."""
    live = list(live)
    off = {one.shipped for one in live if one.off}
    found = {rule.id: rule for rule in RULES if rule.id not in off}
    for one in sorted((one for one in live if not one.off), key=lambda one: one.rule_id):
        found.setdefault(one.rule_id, one.rule())
    return tuple(found.values())
