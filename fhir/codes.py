"""The codes of value sets and hierarchies that a search names, taken from stored ValueSets and CodeSystems.

They are looked up once, before the search is made into SQL, with the access of whoever asks. The codes of value sets
that R4 binds elements to are carried with the definitions, so
`status:in=http://hl7.org/fhir/ValueSet/observation-status` needs nothing stored.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir.outcome import Refusal
from fhir.registry import SPECS
from fhir.store import ID, Connection, Visible
from fhir.terminology import DEEPEST, MOST_CODES, Terms
from fhir.wire import decode
from fhir.written import bad, bar_split, split, too_much, unescaped

JSON = dict[str, Any]
Code = tuple[str, str]

_NAMED = re.compile(r"(?:^|[:.])[\w-]+:(in|not-in|above|below)$")
_IN_FILTER = re.compile(r'\b(?:in|ni|ss|sb)\s+(?:"((?:[^"\\]|\\.)*)"|([^\s()]+))')


@dataclass(slots=True)
class CodeSets:
    """ValueSets by url, `url|version` and `ValueSet/id`; CodeSystems by url."""

    value_sets: dict[str, JSON] = field(default_factory=dict)
    systems: dict[str, JSON] = field(default_factory=dict)

    def value_set(self, type_: str, written: str, name: str) -> list[Code]:
        """Its codes. Refusal 400 when the hub has no such value set, or cannot tell its codes."""
        terms = Terms(self.value_sets, self.systems)
        try:
            codes = [concept.key for concept in terms.codes(terms.value_set(name))]
        except Refusal as refusal:
            raise bad(type_, written, refusal.issues[0].diagnostics) from None
        if len(codes) > MOST_CODES:
            raise too_much(type_, written, f"'{name[:100]}' has more than {MOST_CODES} codes")
        return codes

    def hierarchy(self, type_: str, written: str, modifier: str, value: str) -> list[Code]:
        """The code itself with all below or above it."""
        system, bar, code = bar_split(value)
        if not bar:
            raise bad(type_, written, f"name the system of '{value[:100]}' too: system|code")
        try:
            concepts = Terms(self.value_sets, self.systems).concepts(system)
        except Refusal as refusal:
            raise bad(type_, written, refusal.issues[0].diagnostics) from None
        if code not in concepts:
            raise bad(type_, written, f"'{code[:80]}' is no code of {system}")
        related = {one: list(concept.parents) for one, concept in concepts.items()}
        if modifier == "below":
            children: dict[str, list[str]] = {}
            for one, parents in related.items():
                for parent in parents:
                    children.setdefault(parent, []).append(one)
            related = children
        return [(system, one) for one in _reached(related, code)]


def _reached(related: Mapping[str, Sequence[str]], code: str) -> list[str]:
    found, waiting = dict[str, None](), [code]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += related.get(one, ())
    return list(found)


async def gathered(pg: Connection, query: Sequence[tuple[str, str]], visible: Visible) -> CodeSets:
    """Every value set and code system that *query* needs, as far as it is stored and visible."""
    names = {one for name, value in query if _NAMED.search(name) for one in split(value)}
    for name, value in query:
        if name.partition(":")[0].endswith("_filter"):
            names |= {quoted or bare for quoted, bare in _IN_FILTER.findall(value)}
    urls, systems = {unescaped(one) for one in names}, {bar_split(one)[0] for one in names if "|" in one}
    return await stored_sets(pg, urls, systems, visible)


async def stored_sets(pg: Connection, urls: set[str], systems: set[str], visible: Visible) -> CodeSets:
    """The value sets named by *urls* (`url`, `url|version` or an id), all that they are made of, and *systems*."""
    sets = CodeSets()
    systems = set(systems)
    for _ in range(DEEPEST + 1):
        urls -= sets.value_sets.keys()
        if not urls:
            break
        asked, urls = urls, set()
        for stored in await stored_named(pg, "ValueSet", asked, visible):
            url = stored.get("url", "")
            for known in (url, f"{url}|{stored.get('version')}", f"ValueSet/{stored['id']}"):
                sets.value_sets[known] = stored
            compose = stored.get("compose", {})
            for part in (*compose.get("include", ()), *compose.get("exclude", ())):
                urls |= set(part.get("valueSet", ()))
                if "system" in part and "concept" not in part:
                    systems.add(part["system"])
    for stored in await stored_named(pg, "CodeSystem", systems, visible) if systems else ():
        sets.systems[stored["url"]] = stored
    return sets


async def stored_named(pg: Connection, type_: str, names: Iterable[str], visible: Visible) -> list[JSON]:
    """Definitions of *type_* by url, `url|version`, `Type/id` or id, as far as they are visible; at most 500."""
    limit = visible(type_, "r")
    if limit is None:
        return []
    urls = SPECS[type_].params["url"].stored
    keys = [f"{url}={name.partition('|')[0]}" for name in names for url in urls]
    ids = [id_ for name in names if ID.fullmatch(id_ := name.removeprefix(f"{type_}/"))]
    rows = await pg.execute(
        f"SELECT v.body FROM {SPECS[type_].table.name} r JOIN resource_version v"
        f" ON v.type = '{type_}' AND v.id = r.id AND v.version = r.version"
        f" WHERE (r.keys && %s::text[] OR r.id = ANY(%s::text[])) AND ({limit[0]}) ORDER BY r.updated LIMIT 500",
        (keys, ids, *limit[1]),
        prepare=False,
    )
    return [decode(body.encode()) async for (body,) in rows]
