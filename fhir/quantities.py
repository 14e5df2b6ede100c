"""Searches by number and quantity. They read the stored JSON, not an index.

A device writes thousands of values for each time that somebody asks for those above 140, and asks beside a code or a
person, which do have an index. So the cost stands where the question is: some 20 µs for each row that the rest of the
search leaves. Units are compared as written; 140 mm[Hg] and 18.7 kPa do not meet.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from fhir.paths import Step, alternatives, compile_path
from fhir.registry import ResourceSpec, SearchParam
from fhir.store import Sql

_NUMBER = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?([+-]?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?)")
# What a choice element may be called in JSON when it holds a number or an amount.
_NUMBERS = ("Decimal", "Integer", "PositiveInt", "UnsignedInt", "Range")
_AMOUNTS = ("Quantity", "Age", "Duration", "Count", "Distance", "Money", "Range")

# [low, high] of a number, an amount or a Range; `< 5` reaches down without end, and so does a Range without a low.
_BOUNDS = """
    SELECT coalesce(CASE WHEN q->>'comparator' IN ('<', '<=') THEN '-Infinity' END, q->>'value', q #>> '{low,value}',
                    CASE jsonb_typeof(q) WHEN 'number' THEN q #>> '{}' END, '-Infinity')::numeric AS low,
           coalesce(CASE WHEN q->>'comparator' IN ('>', '>=') THEN 'Infinity' END, q->>'value', q #>> '{high,value}',
                    CASE jsonb_typeof(q) WHEN 'number' THEN q #>> '{}' END, 'Infinity')::numeric AS high,
           CASE WHEN q ? 'low' THEN q->'low' WHEN q ? 'high' THEN q->'high' ELSE q END AS unit"""


def compared(spec: ResourceSpec, alias: str, param: SearchParam, values: Sequence[tuple[str, str, str]]) -> Sql:
    """Whether some value of *param* is as one of *values* says: `(gt5.4, system, code)`. ValueError for no number."""
    tests = [_test(*value) for value in values]
    text = " OR ".join(f"({test.text})" for test in tests)
    return _some(spec, alias, param, Sql(f"({text})", tuple(value for test in tests for value in test.params)))


def present(spec: ResourceSpec, alias: str, param: SearchParam) -> Sql:
    """Whether *param* has any value."""
    return _some(spec, alias, param, Sql("TRUE"))


def _some(spec: ResourceSpec, alias: str, param: SearchParam, test: Sql) -> Sql:
    return Sql(
        "EXISTS (SELECT 1 FROM resource_version b CROSS JOIN unnest(%s::text[]::jsonpath[]) AS p"
        f" CROSS JOIN LATERAL jsonb_path_query(b.body::jsonb, p) AS q CROSS JOIN LATERAL ({_BOUNDS}) AS n"
        f" WHERE b.type = '{spec.type}' AND b.id = {alias}.id AND b.version = {alias}.version AND {test.text})",
        (_json_paths(param), *test.params),
    )


def _json_paths(param: SearchParam) -> list[str]:
    """SQL/JSON paths to every place where *param* may stand: lax, so that lists open by themselves."""
    endings = _NUMBERS if param.type == "number" else _AMOUNTS
    paths: list[str] = []
    for alternative in alternatives(param.expression):
        *inner, last = compile_path(alternative).steps
        if last.chosen == "SampledData":  # a series is no number
            continue
        names = [_name(last)] if last.chosen else [last.name, *(last.name + ending for ending in endings)]
        start = "".join(f'."{_name(step)}"' for step in inner)
        paths += [f'${start}."{name}"[*]' for name in names]
    return paths


def _name(step: Step) -> str:
    return step.name + (step.chosen[0].upper() + step.chosen[1:] if step.chosen else "")


def _test(written: str, system: str, code: str) -> Sql:
    match = _NUMBER.fullmatch(written)
    if match is None:
        raise ValueError(f"'{written[:40]}' is no number such as 5.4, gt140 or le1e3")
    prefix, value = match[1] or "eq", Decimal(match[2])
    low, high = _precision(value)
    margin = abs(value) / 10
    tests: dict[str, tuple[str, Iterable[Decimal]]] = {
        "eq": ("n.low >= %s AND n.high < %s", (low, high)),
        "ne": ("NOT (n.low >= %s AND n.high < %s)", (low, high)),
        "gt": ("n.high > %s", (value,)),
        "ge": ("n.high >= %s", (value,)),
        "lt": ("n.low < %s", (value,)),
        "le": ("n.low <= %s", (value,)),
        "sa": ("n.low > %s", (value,)),
        "eb": ("n.high < %s", (value,)),
        "ap": ("n.high >= %s AND n.low <= %s", (value - margin, value + margin)),
    }
    text, params = tests[prefix]
    if system:
        return Sql(f"{text} AND n.unit->>'system' = %s AND n.unit->>'code' = %s", (*params, system, code))
    if code:
        return Sql(f"{text} AND %s IN (n.unit->>'code', n.unit->>'unit', n.unit->>'currency')", (*params, code))
    return Sql(text, tuple(params))


def _precision(value: Decimal) -> tuple[Decimal, Decimal]:
    """What a written number stands for in FHIR: 100 is [99.5, 100.5), 5.40 is [5.395, 5.405), 1e2 is [95, 105)."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - (2 if exponent > 0 else 1))
    return value - half, value + half
