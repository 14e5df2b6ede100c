"""The search in SQL finds what a naive evaluator finds, over the official examples, whatever is asked."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import naive_search as naive
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir import search, store
from fhir.outcome import Refusal
from fhir.registry import SPECS
from fhir.store import Change, Sql
from fhir.wire import decode
from hub.db import Database

SHARED = Path(__file__).parents[2] / "shared" / "data" / "hl7-examples"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NUMERIC = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
UCUM = "http://unitsofmeasure.org"
OF_KIND = {
    "token": ("", "", ":not", ":missing", ":text"),
    "string": ("", "", ":exact", ":contains", ":missing"),
    "reference": ("", "", ":missing", ":identifier", ":Type"),
    "uri": ("", "", ":below", ":above", ":missing"),
    "date": ("", "", ":missing"),
    "number": ("", "", ":missing"),
    "quantity": ("", "", ":missing"),
    "composite": ("",),
}


def _resources() -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(SHARED.glob("*/*.json")):
        resource = decode(path.read_bytes())
        if resource["resourceType"] in SPECS:
            found[f"{resource['resourceType']}/{resource['id']}"] = resource
    return list(found.values())


WORLD = naive.World(_resources() if SHARED.is_dir() else [])


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


@pytest.fixture(scope="module")
async def loaded(database: Database, shared_data: Path) -> AsyncIterator[Database]:
    async with database.transaction() as tx:
        for name, resource in list(WORLD.named.items()):
            change = Change("update", resource["resourceType"], resource["id"], resource)
            try:
                await store.write(tx.pg, [change], "Practitioner/x", NOW)
            except Refusal:
                del WORLD.named[name]
        await tx.pg.execute("ANALYZE")
    assert len(WORLD.named) > 200
    yield database


def _said(kind: str, value: Any, targets: list[str]) -> list[str]:
    """Ways to ask for *value*, and for what is nearly it."""
    if kind == "token":
        codes = naive.codings(value)
        return [
            text
            for system, code in codes
            for text in (code, f"{system}|{code}", f"|{code}", f"{system}|")
            if text != "|"
        ]
    if kind == "string":
        return [part for text in naive.texts(value) for part in (text, text[:3], text.split()[-1], text.upper())]
    if kind == "reference":
        said = value if isinstance(value, str) else value.get("reference", "")
        return [] if not said or said.startswith("#") else [said, said.rsplit("/", 1)[-1]]
    if kind == "uri":
        return [value, value.rsplit("/", 1)[0], f"{value}/more"] if isinstance(value, str) else []
    if kind == "date":
        spans = naive.span(value)
        if spans is None:
            return []
        return [
            f"{prefix}{low.astimezone(UTC).isoformat().replace('+00:00', 'Z')[:cut]}"
            for low in spans
            if naive.NEVER_BEFORE < low < naive.FOREVER
            for cut in (4, 7, 10, 20)
            for prefix in ("", "ne", "gt", "lt", "ge", "le", "sa", "eb")
        ]
    bounds = naive.bounds(value)
    if bounds is None:
        return []
    numbers = {
        str(round(one, 2)) for bound in bounds[:2] if bound.is_finite() for one in (bound, bound * Decimal("1.07"))
    }
    code, system = bounds[2].get("code", ""), bounds[2].get("system", "")
    units = {""}
    if kind == "quantity" and code:
        others = [other for line in naive.UNITS if code in line for other in line]
        units |= {f"||{code}", f"|{system}|{code}", *(f"|{UCUM}|{other}" for other in others)}
    return [f"{prefix}{number}{unit}" for number in numbers for unit in sorted(units) for prefix in ("", *NUMERIC)]


def _usable(text: str) -> bool:
    """Without the characters that FHIR escapes, which other tests are about."""
    return bool(text.strip(" |")) and not set(text) & set("\\,$&") and len(text) < 200


def _asked_for(type_: str, code: str, kind: str) -> list[str]:
    _, expression, targets, *more = naive.param(type_, code)
    found: dict[str, None] = {}
    for resource in WORLD.of(type_):
        if kind == "composite":
            for place in expression.split(" | "):
                for node in [resource] if place == type_ else naive.values(resource, place):
                    parts = []
                    for name, path in more[0]:
                        inner = naive.param(type_, name)
                        values = naive.values(resource, inner[1]) if path[0] == "%" else naive.values(node, path)
                        parts.append([t for v in values for t in _said(inner[0], v, inner[2]) if _usable(t)][:6])
                    found |= dict.fromkeys("$".join(pair) for pair in zip(*parts, strict=False))
        else:
            for value in naive.values(resource, expression.replace("Resource.", "")):
                found |= {text: None for text in _said(kind, value, targets) if _usable(text)}
    return list(found)


ASKED = {
    (type_, code): said
    for type_ in sorted({one["resourceType"] for one in WORLD.named.values()})
    for code, (kind, *_) in (naive.TABLE.get(type_, {}) | {"_tag": ["token"], "_profile": ["uri"]}).items()
    if kind in OF_KIND and (said := _asked_for(type_, code, kind))
}
BY_TYPE = {type_: [code for known, code in ASKED if known == type_] for type_ in {type_ for type_, _ in ASKED}}


@st.composite
def conditions(draw: st.DrawFn, type_: str) -> tuple[str, str]:
    code = draw(st.sampled_from(BY_TYPE[type_]))
    kind, _, targets, *_ = naive.param(type_, code)
    modifier = draw(st.sampled_from(OF_KIND[kind]))
    said = ASKED[type_, code]
    if modifier == ":missing":
        return f"{code}:missing", draw(st.sampled_from(["true", "false"]))
    if modifier == ":Type":
        possible = [one for one in targets if one in SPECS]
        modifier = f":{draw(st.sampled_from(possible))}" if possible else ""
    value = ",".join(draw(st.lists(st.sampled_from(said), min_size=1, max_size=2)))
    return f"{code}{modifier}", value


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    type_ = draw(st.sampled_from(sorted(BY_TYPE)))
    return type_, draw(st.lists(conditions(type_), min_size=1, max_size=2))


LINKS = [
    (type_, code, target)
    for type_, code in ASKED
    if naive.param(type_, code)[0] == "reference"
    for target in naive.param(type_, code)[2]
    if target in BY_TYPE
]


@st.composite
def linked(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A chain, or a `_has`."""
    type_, code, target = draw(st.sampled_from(LINKS))
    if draw(st.booleans()):
        name, value = draw(conditions(target))
        return type_, [(f"{code}:{target}.{name}", value)]
    name, value = draw(conditions(type_))
    return target, [(f"_has:{type_}:{code}:{name}", value)]


async def found(database: Database, type_: str, query: list[tuple[str, str]]) -> list[str]:
    async with database.transaction() as tx:
        page = await search.search(tx.pg, type_, query, everything, "https://hub.example/fhir", b"s", 1000)
    assert page.total == len(page.entries)
    return sorted(entry.id for entry in page.entries)


quickly = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@quickly
@given(asked=questions())
async def test_finds_what_the_naive_search_finds(loaded: Database, asked: tuple[str, list[tuple[str, str]]]) -> None:
    type_, query = asked
    said = [*query, ("_count", "1000")]
    assert await found(loaded, type_, said) == WORLD.found(type_, query), (type_, query)


@quickly
@given(asked=linked())
async def test_chains_find_what_the_naive_search_finds(
    loaded: Database, asked: tuple[str, list[tuple[str, str]]]
) -> None:
    type_, query = asked
    assert await found(loaded, type_, [*query, ("_count", "1000")]) == WORLD.found(type_, query), (type_, query)


COMPARED = ("token", "reference", "date", "number", "quantity")


@st.composite
def filters(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """A type, a `_filter` of two comparisons, and the ids that the naive search finds for it."""
    type_ = draw(st.sampled_from([one for one in sorted(BY_TYPE) if _compared(one)]))
    texts, sets = [], []
    for _ in range(2):
        code = draw(st.sampled_from(_compared(type_)))
        value = draw(st.sampled_from(ASKED[type_, code]))
        kind = naive.param(type_, code)[0]
        numeric = kind in ("date", "number", "quantity")
        operator, said = (value[:2], value[2:]) if numeric and value[:2] in NUMERIC else ("eq", value)
        texts.append(f'{code} {operator} "{said}"')
        sets.append(set(WORLD.found(type_, [(code, f"{operator}{said}" if numeric else said)])))
    whole = {one["id"] for one in WORLD.of(type_)}
    text, expected = draw(
        st.sampled_from(
            [
                (f"{texts[0]} and {texts[1]}", sets[0] & sets[1]),
                (f"{texts[0]} or ({texts[1]})", sets[0] | sets[1]),
                (f"not ({texts[0]}) and {texts[1]}", sets[1] - sets[0]),
                (f"not({texts[0]} or {texts[1]})", whole - sets[0] - sets[1]),
            ]
        )
    )
    return type_, text, sorted(expected)


def _compared(type_: str) -> list[str]:
    return [code for code in BY_TYPE[type_] if naive.param(type_, code)[0] in COMPARED]


@quickly
@given(asked=filters())
async def test_filters_find_what_the_naive_search_finds(loaded: Database, asked: tuple[str, str, list[str]]) -> None:
    type_, text, expected = asked
    assert await found(loaded, type_, [("_filter", text), ("_count", "1000")]) == expected, (type_, text)


@pytest.mark.parametrize("kind", sorted(OF_KIND))
async def test_every_parameter_with_examples_is_asked(loaded: Database, kind: str) -> None:
    """One of each, so that chance leaves none out."""
    asked = [(type_, code) for type_, code in ASKED if naive.param(type_, code)[0] == kind]
    assert len(asked) >= (1 if kind == "number" else 3)
    for type_, code in asked:
        for value in ASKED[type_, code][:: max(1, len(ASKED[type_, code]) // 3)]:
            query = [(code, value)]
            assert await found(loaded, type_, [*query, ("_count", "1000")]) == WORLD.found(type_, query), (type_, query)
