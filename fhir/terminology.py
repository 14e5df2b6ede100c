"""What a terminology server answers: the codes of a value set, whether a code is one of them, and what a code means.

Pure: `Terms` holds the ValueSets and CodeSystems that a question needs, those that are stored before those that are
carried. R4: valueset-operation-expand.html, -validate-code.html, codesystem-operation-lookup.html.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fhir.carried import systems as carried_systems
from fhir.carried import value_sets as carried_value_sets
from fhir.outcome import Refusal, refuse

JSON = dict[str, Any]

MOST_CODES = 10_000
"""Of one expansion; more are refused as too costly, unless a page of them is asked for."""
MOST_LOOKED_AT = 500_000
DEEPEST = 5
"""How far value sets may be made of others."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One code of a system. `parents` are those right above it."""

    system: str
    code: str
    display: str | None = None
    version: str | None = None
    parents: tuple[str, ...] = ()
    abstract: bool = False
    inactive: bool = False
    definition: str | None = None
    designations: tuple[JSON, ...] = ()
    properties: tuple[JSON, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.system, self.code

    def contains(self, designations: bool = False) -> JSON:
        """As `ValueSet.expansion.contains` has it."""
        found: JSON = {"system": self.system} if self.system else {}
        found |= {"version": self.version} if self.version else {}
        found |= {"abstract": True} if self.abstract else {}
        found |= {"inactive": True} if self.inactive else {}
        found |= {"code": self.code} | ({"display": self.display} if self.display else {})
        return found | ({"designation": list(self.designations)} if designations and self.designations else {})


@dataclass(slots=True)
class Terms:
    """ValueSets by url and `url|version`, CodeSystems by url; *known* are CodeSystems of the hub's own."""

    value_sets: Mapping[str, JSON]
    systems: Mapping[str, JSON]
    known: Mapping[str, JSON] = field(default_factory=dict)
    _read: dict[str, dict[str, Concept]] = field(default_factory=dict)

    def value_set(self, url: str) -> JSON:
        """Refusal 404 for one that is neither stored, as far as the caller may see, nor carried."""
        found = self.value_sets.get(url) or self._carried(url)
        if found is None:
            said = f"no ValueSet '{url[:200]}' is stored here that you may see, and none is carried"
            raise refuse(404, "not-found", said, "url")
        return found

    def system(self, url: str) -> JSON | None:
        return self.systems.get(url) or self.known.get(url) or carried_systems().get(url)

    def concepts(self, system: str) -> dict[str, Concept]:
        """The codes of a CodeSystem. Refusal 404 for one that is not here."""
        if system not in self._read:
            found = self.system(system)
            if found is None:
                said = f"no CodeSystem '{system[:200]}' is stored here that you may see, and none is carried"
                raise refuse(404, "not-found", said, "system")
            self._read[system] = _concepts(found)
        return self._read[system]

    def codes(self, value_set: JSON, depth: int = 0) -> list[Concept]:
        """Every code of *value_set*, in its order. Refusal 404 for what it is made of and is not here, 422 for a filter
        that is not understood and for more than MOST_LOOKED_AT codes."""
        if depth > DEEPEST:
            raise refuse(422, "too-costly", f"the value set is made of others more than {DEEPEST} deep", "url")
        compose = value_set.get("compose")
        if compose is None:
            return [*_expanded(value_set.get("expansion", {}).get("contains", ()))]
        found = dict[tuple[str, str], Concept]()
        for concept in chain.from_iterable(self._part(part, depth) for part in compose.get("include", ())):
            found.setdefault(concept.key, concept)
            if len(found) > MOST_LOOKED_AT:
                raise refuse(422, "too-costly", f"the value set has more than {MOST_LOOKED_AT:,} codes", "url")
        for concept in chain.from_iterable(self._part(part, depth) for part in compose.get("exclude", ())):
            found.pop(concept.key, None)
        if compose.get("inactive") is False:
            return [concept for concept in found.values() if not concept.inactive]
        return list(found.values())

    def _part(self, part: JSON, depth: int) -> Iterable[Concept]:
        """One include or exclude: what all of it says at once."""
        others = [
            {one.key: one for one in self.codes(self.value_set(url), depth + 1)} for url in part.get("valueSet", ())
        ]
        system = part.get("system")
        if system is None:
            first, *rest = others or [{}]
            return [concept for key, concept in first.items() if all(key in other for other in rest)]
        if "concept" in part:
            found = self._named(system, part["concept"])
        else:
            known = self.concepts(system)
            found = list(known.values())
            for one in part.get("filter", ()):
                found = [concept for concept in found if _held(concept, one, known)]
        return [concept for concept in found if all(concept.key in other for other in others)]

    def _named(self, system: str, named: Iterable[JSON]) -> list[Concept]:
        """Codes that the value set names one by one; their system need not be here."""
        known = self.concepts(system) if self.system(system) is not None else {}
        found = []
        for one in named:
            concept = known.get(one["code"]) or Concept(system, one["code"])
            found.append(
                Concept(
                    system, concept.code, one.get("display") or concept.display, concept.version, concept.parents,
                    concept.abstract, concept.inactive, concept.definition,
                    (*one.get("designation", ()), *concept.designations), concept.properties,
                )
            )  # fmt: skip
        return found

    def _carried(self, url: str) -> JSON | None:
        name, _, version = url.partition("|")
        found = carried_value_sets().get(name)
        return found if found is not None and version in ("", found["version"]) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a code is valid; `message` says why it is not, `concept` what it is."""

    result: bool
    message: str | None = None
    concept: Concept | None = None


def judged(codes: Iterable[Concept], system: str | None, code: str, display: str | None, where: str) -> Verdict:
    """Whether *code* is one of *codes*, and *display* a name of it. Without a *system*, it must be of one only."""
    found = [one for one in codes if one.code == code and (system is None or one.system == system)]
    if not found:
        named = f"{system}|{code}" if system else code
        return Verdict(False, f"'{named[:200]}' is not in {where}")
    if len({one.system for one in found}) > 1:
        return Verdict(False, f"'{code[:80]}' is a code of several systems in {where}: say which")
    [concept, *_] = found
    names = [name for name in (concept.display, *(one.get("value") for one in concept.designations)) if name]
    if display is not None and names and " ".join(display.split()).casefold() not in {n.casefold() for n in names}:
        return Verdict(False, f"'{display[:80]}' is no name of {code[:80]}, which is '{names[0]}'", concept)
    return Verdict(True, None, concept)


def subsumed(concepts: Mapping[str, Concept], one: str, other: str) -> str:
    """equivalent, subsumes, subsumed-by or not-subsumed: how *one* stands to *other*."""
    if one == other:
        return "equivalent"
    if one in _above(concepts, other):
        return "subsumes"
    return "subsumed-by" if other in _above(concepts, one) else "not-subsumed"


def _above(concepts: Mapping[str, Concept], code: str) -> set[str]:
    found, waiting = set[str](), [code]
    while waiting:
        concept = concepts.get(waiting.pop())
        for parent in concept.parents if concept else ():
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def _concepts(system: JSON) -> dict[str, Concept]:
    url, version = system["url"], system.get("version")
    found: dict[str, Concept] = {}
    waiting: list[tuple[JSON, tuple[str, ...]]] = [(one, ()) for one in reversed(system.get("concept", ()))]
    while waiting:
        one, above = waiting.pop()
        said = {p["code"]: _value(p) for p in one.get("property", ()) if p["code"] not in ("parent", "subsumedBy")}
        parents = tuple(_value(p) for p in one.get("property", ()) if p["code"] in ("parent", "subsumedBy"))
        code = one["code"]
        before = found[code].parents if code in found else ()
        found[code] = Concept(
            url, code, one.get("display"), version, tuple(dict.fromkeys((*before, *above, *parents))),
            said.get("notSelectable") is True or said.get("abstract") is True,
            said.get("inactive") is True or said.get("status") in ("retired", "inactive"),
            one.get("definition"), tuple(one.get("designation", ())), tuple(one.get("property", ())),
        )  # fmt: skip
        waiting += [(child, (code,)) for child in reversed(one.get("concept", ()))]
    return found


def _value(holder: JSON) -> Any:
    return next((value for name, value in holder.items() if name.startswith("value")), None)


def _expanded(items: Iterable[JSON]) -> Iterator[Concept]:
    for item in items:
        if "code" in item:
            yield Concept(
                item.get("system", ""), item["code"], item.get("display"), item.get("version"),
                abstract=bool(item.get("abstract")), inactive=bool(item.get("inactive")),
                designations=tuple(item.get("designation", ())),
            )  # fmt: skip
        yield from _expanded(item.get("contains", ()))


def _held(concept: Concept, one: JSON, known: Mapping[str, Concept]) -> bool:
    """Whether a concept passes one filter of a value set."""
    name, operator, value = one["property"], one["op"], one["value"]
    if name in ("concept", "code"):
        if operator == "=":
            return bool(concept.code == value)
        if operator in ("in", "not-in"):
            named = concept.code in [part.strip() for part in value.split(",")]
            return named if operator == "in" else not named
        below = concept.code == value or value in _above(known, concept.code)
        tests = {
            "is-a": below,
            "descendent-of": below and concept.code != value,
            "is-not-a": not below,
            "generalizes": concept.code == value or concept.code in _above(known, value),
        }
        if operator in tests:
            return bool(tests[operator])
    else:
        values = [_value(p) for p in concept.properties if p["code"] == name]
        values += [concept.display] if name == "display" else []
        texts = [_said(one) for one in values]
        if operator == "exists":
            return (value == "true") is bool(texts)
        if operator == "=":
            return str(value) in texts
        if operator in ("in", "not-in"):
            there = not {part.strip() for part in value.split(",")}.isdisjoint(texts)
            return there if operator == "in" else not there
    raise _not_understood(name, operator)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("code"))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_understood(name: str, operator: str) -> Refusal:
    said = f"a filter of the value set is not supported: {name[:60]} {operator[:20]}"
    return refuse(422, "not-supported", said, "ValueSet.compose.include.filter")
