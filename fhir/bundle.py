"""Batch and transaction bundles: what the entries ask for, in which order, with references between them resolved.

Pure: nothing is searched or written here. `plan` reads a bundle; whoever carries it out looks up the criteria that
`Plan.conditions` and `Plan.sought` hold, and hands the answers to `Plan.bound`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fhir.links import references, relinked, relinked_patch
from fhir.outcome import Issue, Refusal, refuse
from fhir.steps import LOOKS, Condition, Step, condition_of, entry_of
from fhir.store import new_id

JSON = dict[str, Any]

# DELETE, POST, PUT and PATCH, GET: the order that FHIR sets (http.html#trules), whatever order the entries have.
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}

MOST_ENTRIES = 5_000
MOST_LOOKS = 500
"""Reads and searches in one bundle: each may answer a whole page."""

_REST_URL = re.compile(r"\A(?P<base>[a-z][a-z0-9+.\-]*://\S+)/[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}\Z")
_VERSION = re.compile(r"/_history/[A-Za-z0-9.\-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order in which they are carried out, and what the entries call one another.

    `names` are the `fullUrl`s by position, `bases` the servers that entries come from: `https://a.example/fhir` for
    `https://a.example/fhir/Patient/7`. Only there does `Patient/7` mean that entry; elsewhere it is the hub's own.
    `sought` are criteria in references: FHIR has them in transactions, but a record about nobody would be the
    alternative.
    """

    steps: tuple[Step, ...]
    names: Mapping[str, int] = field(default_factory=dict)
    bases: Mapping[int, str] = field(default_factory=dict)
    sought: frozenset[Condition] = frozenset()

    def conditions(self) -> set[Condition]:
        """Criteria that stand for an id: nobody else may act on them meanwhile."""
        return {step.where for step in self.steps if step.where}

    def bound(self, found: Mapping[Condition, str | None]) -> "Plan":
        """Criteria and references resolved: *found* holds the id that each criteria met, None for none.

        Refusal 412 for a reference that nothing meets, 404 for a patch of nothing, 400 for a resource with another id
        than the one that is meant, and for two steps that turn out to be about one resource: both are named.
        """
        steps = [_bound(step, found[step.where]) if step.where else step for step in self.steps]
        if issues := [*_written_twice(steps)]:
            raise Refusal(400, issues)
        if not self.names and not self.sought:
            return replace(self, steps=tuple(steps))
        at = {step.position: step.name for step in steps}
        links = {name: at[position] for name, position in self.names.items()}

        def resolve(step: Step) -> Callable[[str, str], str]:
            base = self.bases.get(step.position) if step.position is not None else None

            def link(key: str, text: str) -> str:
                if (new := links.get(text)) is not None:
                    return new
                named = condition_of(text) if key == "reference" and "?" in text else None
                if named is None:
                    plain = _VERSION.sub("", text) if "/_history/" in text else text
                    return links.get(plain) or (links.get(f"{base}/{plain}") if base else None) or text
                if found.get(named) is None:
                    raise refuse(412, "not-found", f"nothing matches {named}", step.at("resource"))
                return f"{named.type}/{found[named]}"

            return link

        return replace(self, steps=tuple(_relinked(step, resolve(step)) for step in steps))


def single(step: Step) -> Plan:
    """The plan of one request outside of a bundle."""
    return Plan((step,), sought=_sought([step]))


def _sought(steps: Iterable[Step]) -> frozenset[Condition]:
    texts = (text for step in steps for text in references(step.resource or step.patch))
    return frozenset(named for text in texts if "?" in text and (named := condition_of(text)))


def together(plans: Iterable[Plan]) -> Plan:
    """Entries of a batch as one plan: none of them refers to another."""
    steps = tuple(step for one in plans for step in one.steps)
    return Plan(steps, sought=frozenset().union(*(one.sought for one in plans)))


def plan(bundle: JSON, base_url: str) -> Plan:
    """The plan of a validated transaction. Absolute URLs under *base_url* are our own.

    Refusal 400 with an issue for every entry that cannot be understood, 413 for too many. A batch is planned entry by
    entry instead, with `entry_of` and `alone`, so that one bad entry does not harm the others.
    """
    entries = bundle.get("entry", [])
    bounded(entries)
    steps: list[Step] = []
    issues: list[Issue] = []
    for position, entry in enumerate(entries):
        try:
            steps.append(entry_of(entry, position, base_url))
        except Refusal as refusal:
            issues += refusal.issues
    issues += _written_twice(steps)
    issues += _same_criteria(steps)
    if issues:
        raise Refusal(400, issues)
    names, bases = _names(entries, steps)
    return Plan(tuple(sorted(steps, key=order)), names, bases, _sought(steps))


def bounded(entries: Sequence[JSON]) -> None:
    """Refusal 413 for more entries than are carried out at once."""
    if len(entries) > MOST_ENTRIES:
        said = (
            f"a bundle has at most {MOST_ENTRIES} entries here, not {len(entries)}: send it in several, or use $import"
        )
        raise refuse(413, "too-costly", said, "Bundle.entry")
    looks = sum(1 for entry in entries if entry.get("request", {}).get("method") in LOOKS)
    if looks > MOST_LOOKS:
        said = f"a bundle reads and searches at most {MOST_LOOKS} times here, not {looks}: send it in several"
        raise refuse(413, "too-costly", said, "Bundle.entry")


def order(step: Step) -> tuple[int, int]:
    """What steps are sorted by before they are carried out."""
    return _ORDER[step.method], step.position or 0


def alone(step: Step, names: frozenset[str], own: str | None = None) -> Plan:
    """The plan of one batch entry. Refusal 400 when it refers to another: *names* are all `fullUrl`s, *own* its own."""
    for text in references(step.resource or step.patch):
        if text in names and text != own:
            said = f"an entry of a batch cannot refer to another ({text}): send a transaction"
            raise refuse(400, "invalid", said, step.at("resource"))
    return single(step)


def _bound(step: Step, found: str | None) -> Step:
    """A step with criteria, now that it is known what meets them."""
    assert step.where is not None
    if step.method == "POST":
        return replace(step, existing=found, id=found or step.id)
    if step.method == "PATCH" and found is None:
        raise refuse(404, "not-found", f"nothing matches {step.where}", step.at("request.url"))
    if step.method != "PUT":
        return replace(step, existing=found, id=found)
    own = (step.resource or {}).get("id")
    if found is not None and own not in (None, found):
        said = f"{step.where} is {step.type}/{found}, the resource has the id {own}"
        raise refuse(400, "invalid", said, step.at("resource.id"))
    return replace(step, existing=found, id=found or own or new_id())


def _relinked(step: Step, link: Callable[[str, str], str]) -> Step:
    if step.resource is not None:
        return replace(step, resource=relinked(step.resource, link))
    if step.patch is not None:
        return replace(step, patch=relinked_patch(step.patch, link))
    return step


def _written_twice(steps: Iterable[Step]) -> Iterator[Issue]:
    """An issue for every two steps about one resource: one that writes it, and one that writes it or has met it."""
    seen: dict[str, Step] = {}
    for step in sorted(steps, key=lambda one: one.position or 0):
        if step.method in LOOKS or step.id is None:
            continue
        if (first := seen.get(step.name)) is not None:
            both = " and ".join(f"Bundle.entry[{one.position}] ({_told(one)})" for one in (first, step))
            yield Issue("invalid", f"{step.name} stands in two entries: {both}", step.at("request.url"))
        seen[step.name] = step


def _told(step: Step) -> str:
    return f"{step.method} {step.where}" if step.where else step.method


def _same_criteria(steps: Iterable[Step]) -> Iterator[Issue]:
    seen: dict[Condition, Step] = {}
    for step in steps:
        if step.where is None:
            continue
        if (first := seen.get(step.where)) is not None:
            said = (
                f"Bundle.entry[{first.position}] and Bundle.entry[{step.position}] have the same criteria {step.where}"
            )
            yield Issue("invalid", said, step.criteria_at)
        seen[step.where] = step


def _names(entries: Sequence[JSON], steps: Sequence[Step]) -> tuple[dict[str, int], dict[int, str]]:
    """The `fullUrl`s of entries that write, and the bases of those that are addresses. Refusal 400 for one twice."""
    names: dict[str, int] = {}
    bases: dict[int, str] = {}
    issues = []
    for step in steps:
        assert step.position is not None
        full_url = entries[step.position].get("fullUrl")
        if full_url is None or (step.resource is None and step.patch is None):
            continue
        if full_url in names:
            said = f"Bundle.entry[{names[full_url]}] and Bundle.entry[{step.position}] have the same fullUrl"
            issues.append(Issue("invalid", said, step.at("fullUrl")))
        names[full_url] = step.position
        if match := _REST_URL.match(full_url):
            bases[step.position] = match["base"]
    if issues:
        raise Refusal(400, issues)
    return names, bases
