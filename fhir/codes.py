"""The codes of value sets and hierarchies that a search names, taken from stored ValueSets and CodeSystems.

They are looked up once, before the search is made into SQL, with the access of whoever asks. The codes of value sets
that R4 binds elements to are carried with the definitions, so
`status:in=http://hl7.org/fhir/ValueSet/observation-status` needs nothing stored.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from fhir.registry import SPECS
from fhir.store import ID, Connection, Visible
from fhir.wire import decode
from fhir.written import bad, bar_split, split, too_much, unescaped

JSON = dict[str, Any]
Code = tuple[str, str]

# A value set with more codes would be a search with as many keys.
MOST_CODES = 10_000
# How far value sets may be made of others.
DEEPEST = 5
_NAMED = re.compile(r"(?:^|[:.])[\w-]+:(in|not-in|above|below)$")
_IN_FILTER = re.compile(r'\b(?:in|ni|ss|sb)\s+(?:"((?:[^"\\]|\\.)*)"|([^\s()]+))')


@dataclass(slots=True)
class CodeSets:
    """ValueSets by url, `url|version` and `ValueSet/id`; CodeSystems by url."""

    value_sets: dict[str, JSON] = field(default_factory=dict)
    systems: dict[str, JSON] = field(default_factory=dict)

    def value_set(self, type_: str, written: str, name: str) -> list[Code]:
        """Its codes. Refusal 400 when the hub has no such value set, or cannot tell its codes."""
        try:
            codes = self._expanded(name, 0)
        except LookupError as error:
            raise bad(type_, written, str(error.args[0])) from None
        if len(codes) > MOST_CODES:
            raise too_much(type_, written, f"'{name[:100]}' has more than {MOST_CODES} codes")
        return codes

    def hierarchy(self, type_: str, written: str, modifier: str, value: str) -> list[Code]:
        """The code itself with all below or above it."""
        system, bar, code = bar_split(value)
        known = self.systems.get(system)
        if not bar or known is None:
            said = f"no CodeSystem is stored here that says what is {modifier} '{value[:100]}': name system|code of one"
            raise bad(type_, written, said)
        parents = _parents(known)
        if code not in parents:
            raise bad(type_, written, f"'{code[:80]}' is no code of {system}")
        return [(system, one) for one in (_below(parents, code) if modifier == "below" else _above(parents, code))]

    def _expanded(self, name: str, depth: int) -> list[Code]:
        if depth > DEEPEST:
            raise LookupError(f"'{name[:100]}' is made of value sets more than {DEEPEST} deep")
        stored = self.value_sets.get(name)
        if stored is None:
            carried = carried_codes().get(name.partition("|")[0])
            if carried is None:
                raise LookupError(f"no ValueSet '{name[:100]}' is stored here that you may see, and none is carried")
            # HL7 says these without a system: elements of type `code` imply it.
            return [("", code) for code in carried]
        compose = stored.get("compose")
        if compose is None:
            return list(_contained(stored.get("expansion", {}).get("contains", ())))
        found = dict.fromkeys(code for part in compose.get("include", ()) for code in self._part(part, depth))
        for part in compose.get("exclude", ()):
            for code in self._part(part, depth):
                found.pop(code, None)
        return list(found)

    def _part(self, part: JSON, depth: int) -> Iterable[Code]:
        system = part.get("system")
        sets = [set(self._expanded(name, depth + 1)) for name in part.get("valueSet", ())]
        if system is None:
            return sorted(set.intersection(*sets)) if sets else ()
        if "concept" in part:
            codes: Iterable[str] = [concept["code"] for concept in part["concept"]]
        else:
            known = self.systems.get(system)
            if known is None:
                raise LookupError(f"the value set takes codes of {system[:100]}, whose CodeSystem is not stored here")
            parents = _parents(known)
            codes = list(parents)
            for one in part.get("filter", ()):
                codes = [code for code in codes if code in _filtered(parents, one)]
        return [(system, code) for code in codes if all((system, code) in others for others in sets)]


@cache
def carried_codes() -> dict[str, list[str]]:
    """The value sets of R4's required bindings."""
    raw = msgspec.json.decode((Path(__file__).parent / "data" / "required-bindings.json").read_bytes())
    return {name.partition("|")[0]: codes for name, codes in raw["valueSets"].items()}


def _filtered(parents: Mapping[str, Sequence[str]], one: JSON) -> set[str]:
    operator, value = one.get("op"), one.get("value", "")
    if one.get("property") == "concept" and operator in ("is-a", "descendent-of") and value in parents:
        return set(_below(parents, value)) - ({value} if operator == "descendent-of" else set())
    if one.get("property") in ("concept", "code") and operator == "in":
        return set(value.split(","))
    raise LookupError(f"a filter of the value set is not understood: {one.get('property')} {operator} {value[:60]}")


def _contained(items: Iterable[JSON]) -> Iterable[Code]:
    for item in items:
        if "code" in item and not item.get("abstract"):
            yield item.get("system", ""), item["code"]
        yield from _contained(item.get("contains", ()))


def _parents(system: JSON) -> dict[str, list[str]]:
    """Each code with those right above it: where it stands, and what its properties say."""
    parents: dict[str, list[str]] = {}

    def walk(concepts: Iterable[JSON], above: list[str]) -> None:
        for concept in concepts:
            said = [one["valueCode"] for one in concept.get("property", ()) if _is_parent(one)]
            parents.setdefault(concept["code"], []).extend([*above, *said])
            walk(concept.get("concept", ()), [concept["code"]])

    walk(system.get("concept", ()), [])
    return parents


def _is_parent(one: JSON) -> bool:
    return one.get("code") in ("parent", "subsumedBy") and "valueCode" in one


def _above(parents: Mapping[str, Sequence[str]], code: str) -> list[str]:
    found, waiting = dict[str, None](), [code]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += parents.get(one, ())
    return list(found)


def _below(parents: Mapping[str, Sequence[str]], code: str) -> list[str]:
    children: dict[str, list[str]] = {}
    for child, above in parents.items():
        for one in above:
            children.setdefault(one, []).append(child)
    return _above(children, code)


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
