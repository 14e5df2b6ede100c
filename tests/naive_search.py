"""A search as anybody would write it from the specification, over plain dicts: what `fhir.search` is held against.

It shares nothing with `fhir/` but the definitions' table: no path compiler, no index, no SQL. Where FHIR leaves a
choice to the server, it makes the one that docs/fhir-search.md says: words of a string, one span for the dates of a
parameter.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
TABLE: JSON = json.loads((Path(__file__).parents[1] / "fhir" / "data" / "search-parameters.json").read_text())["params"]
FOREVER = datetime.max.replace(tzinfo=UTC)
NEVER_BEFORE = datetime.min.replace(tzinfo=UTC)
TYPES = re.findall(
    r"\w+",
    "Boolean Code Date DateTime Decimal Instant Integer String Uri Age CodeableConcept Coding Identifier Period"
    " Quantity Range Ratio Reference SampledData Timing Canonical Duration Money Time Markdown Url PositiveInt"
    " UnsignedInt",
)
# How much one of these is in the first unit of its line.
UNITS: list[dict[str, int | Decimal]] = [
    {"mm[Hg]": 1, "kPa": Decimal("1000") / Decimal("133.322")},
    {"kg": 1, "g": Decimal("0.001"), "mg": Decimal("0.000001"), "[lb_av]": Decimal("0.45359237")},
    {"mmol/L": 1, "umol/L": Decimal("0.001")},
    {"g/L": 1, "g/dL": 10, "mg/dL": Decimal("0.01")},
    {"min": 1, "h": 60, "d": 1440, "s": Decimal(1) / 60},
]


def param(type_: str, code: str) -> list[Any]:
    found: list[Any] = TABLE.get(type_, {}).get(code) or TABLE["Resource"][code]
    return found


def values(node: Any, expression: str) -> list[Any]:
    """What a search parameter's FHIRPath finds: `Type.a.b | (Type.c as T)`, with where, extension and [0]."""
    found: list[Any] = []
    for part in expression.split(" | "):
        if " != false" in part:
            name = part.split(".exists()")[0]
            found.append(any(value is not False for value in values(node, name)))
            continue
        text = re.sub(r"\((\S+) as (\w+)\)", r"\1.as(\2)", part)
        steps = re.findall(r"[A-Za-z]+\((?:[^()]|\([^()]*\))*\)|\w+(?:\[\d+\])?", text)
        nodes = [(node, "")]
        for step in steps[1:] if steps[0][0].isupper() else steps:
            nodes = [one for parent, type_ in nodes for one in _step(parent, type_, step)]
        found += [value for value, _ in nodes]
    return found


def _step(node: Any, type_: str, step: str) -> list[tuple[Any, str]]:
    name, _, inside = step.partition("(")
    inside = inside[:-1]
    if name in ("as", "ofType"):
        return [(node, type_)] if type_.lower() == inside.lower() else []
    if name == "where":
        return [(node, type_)] if _holds(node, inside) else []
    if name == "extension":
        url = inside.strip("'")
        said = [one for one in node.get("extension", ()) if one.get("url") == url] if isinstance(node, dict) else []
        return [pair for one in said for pair in _step(one, "", "value")]
    if not isinstance(node, dict):
        return []
    name, _, number = step.partition("[")
    found: list[tuple[Any, str]] = []
    for key, value in node.items():
        chosen = key[len(name) :] if key.startswith(name) and key[len(name) :] in TYPES else None
        if key == name or chosen:
            items = value if isinstance(value, list) else [value]
            found += [(item, chosen or "") for item in (items[int(number[:-1]) :][:1] if number else items)]
    return found


def _holds(node: Any, test: str) -> bool:
    if test.startswith("resolve() is "):
        type_ = test.removeprefix("resolve() is ")
        said = node.get("reference", "") if isinstance(node, dict) else ""
        return f"/{said.split('/_history/')[0]}".rsplit("/", 2)[-2:-1] == [type_] or (
            isinstance(node, dict) and node.get("type") == type_
        )
    if match := re.fullmatch(r"(\w+)='(.*)'", test):
        return isinstance(node, dict) and node.get(match[1]) == match[2]
    return any(one.get("url") in test for one in node.get("extension", ()))


def matches(resource: JSON, name: str, value: str, world: "World") -> bool:
    """Whether *resource* is found by `name=value`; values between commas are alternatives."""
    if name.startswith("_has:"):
        _, type_, link, rest = name.split(":", 3)
        me = f"{resource['resourceType']}/{resource['id']}"
        return any(
            matches(other, rest, value, world)
            for other in world.of(type_)
            if any(isinstance(one, dict) and one.get("reference") == me for one in values(other, param(type_, link)[1]))
        )
    head, dot, chain = name.partition(".")
    code, _, modifier = head.partition(":")
    kind, expression, targets, *more = param(resource["resourceType"], code)
    found = values(resource, expression.replace("Resource.", ""))
    if dot:
        allowed = {modifier} if modifier else set(targets)
        linked = [world.named.get(one.get("reference", "")) for one in found if isinstance(one, dict)]
        return any(
            matches(one, chain, value, world)
            for one in linked
            if one is not None and one["resourceType"] in allowed and _has_param(one["resourceType"], chain)
        )
    if modifier == "missing":
        if " != false" in expression:  # about the element itself: whether somebody died is never unsaid otherwise
            found = values(resource, expression.split(".exists()")[0])
        return (value == "true") != _present(kind, found)
    alternatives = value.split(",")
    if kind == "composite":
        return any(_composite(resource, expression, more[0], one) for one in alternatives)
    if kind == "date":
        return any(_date(found, one) for one in alternatives)
    one_of = _one_of(kind, modifier, targets, bool(more))
    answer = any(one_of(v, one) for v in found for one in alternatives)
    return not answer if modifier == "not" else answer


def _one_of(kind: str, modifier: str, targets: list[str], bare: bool) -> Callable[[Any, str], bool]:
    tests: dict[str, Callable[[Any, str], bool]] = {
        "token": lambda v, one: _token(v, one, modifier, bare),
        "string": lambda v, one: _string(v, one, modifier),
        "reference": lambda v, one: _reference(v, one, modifier, targets),
        "uri": lambda v, one: _uri(v, one, modifier),
        "number": _amount,
        "quantity": _amount,
    }
    return tests[kind]


def _has_param(type_: str, chain: str) -> bool:
    code = chain.split(".")[0].split(":")[0]
    return code in TABLE.get(type_, {}) or code in TABLE["Resource"]


def _present(kind: str, found: Iterable[Any]) -> bool:
    if kind == "date":
        return any(span(value) is not None for value in found)
    if kind in ("number", "quantity"):
        return any(bounds(value) is not None for value in found)
    if kind == "token":
        return any(codings(value) for value in found)
    if kind == "reference":
        return any(
            isinstance(value, str)
            or (not value.get("reference", "#").startswith("#"))
            or value.get("identifier", {}).get("value")
            or "resourceType" in value
            for value in found
        )
    if kind == "string":
        return any(texts(value) for value in found)
    return any(isinstance(value, str) for value in found)


def codings(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        if "coding" in value:
            return [(one.get("system", ""), one["code"]) for one in value["coding"] if "code" in one]
        if "code" in value:
            return [(value.get("system", ""), value["code"])]
        return [(value.get("system", ""), value["value"])] if "value" in value else []
    return [("", {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value))]


def _token(value: Any, asked: str, modifier: str, bare: bool) -> bool:
    if modifier == "text":
        said = [value] if isinstance(value, dict) else []
        words = [one.get("text") for one in said] + [one.get("display") for one in said]
        words += [c.get("display") for one in said for c in one.get("coding", ())]
        words += [one["type"].get("text") for one in said if isinstance(one.get("type"), dict)]
        return any(f" {plain(asked)}" in f" {plain(one)}" for one in words if isinstance(one, str))
    system, bar, code = asked.partition("|")
    if not bar:
        return any(system == known for _, known in codings(value))
    if bare and system.startswith("http://hl7.org/fhir/"):
        system = ""
    return any(known == system and (not code or code == other) for known, other in codings(value))


def plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).casefold().split())


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    if isinstance(value, dict):
        apart = ("id", "use", "system", "type", "period", "extension", "rank")
        return [text for key, one in value.items() if key not in apart and key[0] != "_" for text in texts(one)]
    return []


def _string(value: Any, asked: str, modifier: str) -> bool:
    for text in texts(value):
        if modifier == "exact":
            if " ".join(text.split()) == " ".join(asked.split()):
                return True
        elif modifier == "contains":
            if plain(asked) in plain(text):
                return True
        elif any(word.startswith(plain(asked)) for word in (plain(text), *re.findall(r"\w+", plain(text)))):
            return True
    return False


def _reference(value: Any, asked: str, modifier: str, targets: list[str]) -> bool:
    if modifier == "identifier":
        said = value.get("identifier", {}) if isinstance(value, dict) else {}
        system, bar, code = asked.partition("|")
        if not said.get("value"):
            return False
        return (said.get("system", ""), said["value"]) == (system, code) if bar else said["value"] == system
    if isinstance(value, str) and asked in (value, value.rsplit("|", 1)[0] if "|" in value else value):
        return True
    asked = asked.split("/_history/")[0]
    said = (value if isinstance(value, str) else value.get("reference", "")).split("/_history/")[0]
    if modifier:
        asked = asked if "/" in asked else f"{modifier}/{asked}"
        return said == asked and asked.startswith(f"{modifier}/")
    if "/" in asked or ":" in asked:
        return said == asked
    type_, _, id_ = said.rpartition("/")
    return id_ == asked and "/" not in type_ and (type_ in targets or targets in ([], ["Resource"]))


def _uri(value: Any, asked: str, modifier: str) -> bool:
    if modifier == "below":
        return bool(value == asked) or str(value).startswith(asked.rstrip("/") + "/")
    if modifier == "above":
        return asked == value or asked.startswith(value.rstrip("/") + "/")
    return bool(value == asked)


def bounds(value: Any) -> tuple[Decimal, Decimal, JSON] | None:
    """Least and greatest of an amount, and where its unit stands."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal | float):
        return Decimal(value), Decimal(value), {}
    if not isinstance(value, dict):
        return None
    if "low" in value or "high" in value:
        low, high = (value.get(end, {}).get("value") for end in ("low", "high"))
        endless = Decimal("Infinity")
        unit: JSON = value.get("low") or value["high"]
        return (-endless if low is None else Decimal(low)), (endless if high is None else Decimal(high)), unit
    if "value" not in value or "origin" in value:
        return None
    one = Decimal(value["value"])
    comparator = value.get("comparator", "")
    low = Decimal("-Infinity") if comparator.startswith("<") else one
    return low, Decimal("Infinity") if comparator.startswith(">") else one, value


def _amount(value: Any, asked: str) -> bool:
    found = bounds(value)
    if found is None:
        return False
    low, high, unit = found
    number, _, rest = asked.partition("|")
    system, _, code = rest.partition("|")
    factor = Decimal(1)
    if code:
        written = code in (unit.get("code"), unit.get("unit"), unit.get("currency")) if not system else (
            (unit.get("system"), unit.get("code")) == (system, code)
        )  # fmt: skip
        kind = next((line for line in UNITS if code in line and unit.get("code") in line), None)
        if not written:
            if kind is None or unit.get("system") != "http://unitsofmeasure.org":
                return False
            if system not in ("", "http://unitsofmeasure.org"):
                return False
            factor = Decimal(kind[unit["code"]]) / Decimal(kind[code])
    prefix, number = (number[:2], number[2:]) if number[:2].isalpha() else ("eq", number)
    wanted = Decimal(number)
    exponent = wanted.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(1).scaleb(exponent) / 2
    low, high = low * factor, high * factor
    return compared(
        prefix, low, high, wanted, wanted - half, wanted + half, wanted - abs(wanted) / 10, abs(wanted) / 10
    )


def compared(
    prefix: str,
    low: Decimal,
    high: Decimal,
    wanted: Decimal,
    least: Decimal,
    most: Decimal,
    about: Decimal,
    by: Decimal,
) -> bool:
    return {
        "eq": least <= low and high < most,
        "ne": not (least <= low and high < most),
        "gt": high > wanted,
        "ge": high >= wanted,
        "lt": low < wanted,
        "le": low <= wanted,
        "sa": low > wanted,
        "eb": high < wanted,
        "ap": high >= about and low <= wanted + by,
    }[prefix]


def instants(text: str) -> tuple[datetime, datetime]:
    for form, step in (("%Y", "year"), ("%Y-%m", "month"), ("%Y-%m-%d", "day")):
        if len(text) == {"year": 4, "month": 7, "day": 10}[step]:
            low = datetime.strptime(text, form).replace(tzinfo=UTC)
            if step == "day":
                return low, low + timedelta(days=1)
            following = low.replace(year=low.year + (step == "year" or low.month == 12))
            return low, following.replace(month=low.month % 12 + 1) if step == "month" else following
    low = datetime.fromisoformat(text)
    low = low if low.tzinfo else low.replace(tzinfo=UTC)
    fraction = re.search(r"\.(\d+)", text)
    if re.fullmatch(r"[^T]+T\d\d:\d\d(?:Z|[+-].*)?", text):
        return low, low + timedelta(minutes=1)
    return low, low + (timedelta(microseconds=10 ** (6 - len(fraction[1]))) if fraction else timedelta(seconds=1))


def span(value: Any) -> tuple[datetime, datetime] | None:
    """From when until before when a date, a Period or a Timing reaches."""
    if isinstance(value, str):
        try:
            return instants(value)
        except ValueError:
            return None
    if not isinstance(value, dict):
        return None
    if "event" in value or "repeat" in value:
        spans = [span(one) for one in (*value.get("event", ()), (value.get("repeat") or {}).get("boundsPeriod"))]
        return hull([one for one in spans if one is not None])
    if "start" in value or "end" in value:
        low = instants(value["start"])[0] if "start" in value else NEVER_BEFORE
        return low, instants(value["end"])[1] if "end" in value else FOREVER
    return None


def hull(spans: list[tuple[datetime, datetime]]) -> tuple[datetime, datetime] | None:
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


def _date(found: list[Any], asked: str) -> bool:
    known = hull([one for one in map(span, found) if one is not None])
    if known is None:
        return False
    low, high = known
    prefix, text = (asked[:2], asked[2:]) if asked[:2].isalpha() else ("eq", asked)
    least, most = instants(text)
    return {
        "eq": least <= low and high <= most,
        "ne": not (least <= low and high <= most),
        "gt": high > most,
        "ge": high > least,
        "lt": low < least,
        "le": low < most,
        "sa": low >= most,
        "eb": high <= least,
    }[prefix]


def _composite(resource: JSON, expression: str, parts: list[list[str]], asked: str) -> bool:
    type_ = resource["resourceType"]
    wanted = asked.split("$")
    for place in expression.split(" | "):
        for node in [resource] if place == type_ else values(resource, place):
            held = []
            for (code, path), value in zip(parts, wanted, strict=True):
                kind, own, targets, *bare = param(type_, code)
                found = values(resource, own) if path.startswith("%resource") else values(node, path)
                if kind == "date":
                    held.append(_date(found, value))
                else:
                    test = _one_of(kind, "", targets, bool(bare))
                    held.append(any(test(one, value) for one in found))
            if all(held):
                return True
    return False


class World:
    """Resources, found by their names."""

    def __init__(self, resources: Iterable[JSON]) -> None:
        self.named = {f"{one['resourceType']}/{one['id']}": one for one in resources}

    def of(self, type_: str) -> list[JSON]:
        return [one for one in self.named.values() if one["resourceType"] == type_]

    def found(self, type_: str, query: Iterable[tuple[str, str]]) -> list[str]:
        asked = list(query)
        return sorted(one["id"] for one in self.of(type_) if all(matches(one, n, v, self) for n, v in asked))
