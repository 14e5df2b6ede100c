"""Searches by number and quantity: span and units in the search table say which rows may fit, their JSON which do.

`low` and `high` of a row span every amount of the resource, as written and in the preferred unit of its kind, so one
pair of indexes serves each quantity and number of a type, whatever unit is asked for. 18.7 kPa finds 140 mm[Hg]. A key
for each kind of unit keeps weights and rates apart, whose JSON would be asked in vain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf

from fhir import units
from fhir.bodies import json_paths, some
from fhir.conditions import ALWAYS, all_of, any_of, has_key
from fhir.registry import ResourceSpec, SearchParam
from fhir.store import Sql
from fhir.wire import encode

_NUMBER = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?([+-]?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?)")
# The columns are rounded to what a double holds; the JSON decides.
_ROUNDING = 1e-9

# [low, high] of a number, an amount or a Range; `< 5` reaches down without end, and so does a Range without a low.
_BOUNDS = """
    SELECT coalesce(CASE WHEN q->>'comparator' IN ('<', '<=') THEN '-Infinity' END, q->>'value', q #>> '{low,value}',
                    CASE jsonb_typeof(q) WHEN 'number' THEN q #>> '{}' END, '-Infinity')::numeric AS low,
           coalesce(CASE WHEN q->>'comparator' IN ('>', '>=') THEN 'Infinity' END, q->>'value', q #>> '{high,value}',
                    CASE jsonb_typeof(q) WHEN 'number' THEN q #>> '{}' END, 'Infinity')::numeric AS high,
           CASE WHEN q ? 'low' THEN q->'low' WHEN q ? 'high' THEN q->'high' ELSE q END AS unit
     WHERE jsonb_typeof(q) = 'number' OR q ?| ARRAY['value', 'low', 'high']"""


@dataclass(frozen=True, slots=True)
class Amount:
    """`gt5.4|http://unitsofmeasure.org|mmol/L`, taken apart. `low` and `high` are the least and the most that fit."""

    prefix: str
    value: Decimal
    system: str
    code: str

    @classmethod
    def of(cls, number: str, system: str = "", code: str = "") -> "Amount":
        """ValueError for what is no number."""
        match = _NUMBER.fullmatch(number)
        if match is None:
            raise ValueError(f"'{number[:40]}' is no number such as 5.4, gt140 or le1e3")
        return cls(match[1] or "eq", Decimal(match[2]), system, code)

    @property
    def unit(self) -> units.Unit | None:
        """That of UCUM, when the amount is asked for in one that can be converted."""
        return units.unit(self.code) if self.code and self.system in ("", units.UCUM) else None

    def edges(self) -> tuple[Decimal, Decimal]:
        """What the value stands for: itself and what is rounded to it, or a tenth around it for `ap`."""
        if self.prefix in ("eq", "ne"):
            return precision(self.value)
        if self.prefix == "ap":
            margin = abs(self.value) / 10
            return self.value - margin, self.value + margin
        return self.value, self.value


def fitting(spec: ResourceSpec, alias: str, param: SearchParam, values: Sequence[Amount]) -> tuple[Sql, Sql]:
    """Whether some value of *param* is as one of *values* says: what an index tells, and what the JSON decides."""
    exact = some(spec, alias, json_paths(param), test(values))
    return spanned(alias, values) if spec.amounts else ALWAYS, exact


def present(spec: ResourceSpec, alias: str, param: SearchParam) -> Sql:
    """Whether *param* has any value."""
    exact = some(spec, alias, json_paths(param), Sql("TRUE"))
    return all_of([Sql(f"{alias}.low IS NOT NULL"), exact]) if spec.amounts else exact


def spanned(alias: str, values: Sequence[Amount]) -> Sql:
    """Whether the span of the row's amounts reaches one of *values*, and some amount has a unit of that kind: by index,
    and never wrong about a no."""
    parts: list[Sql] = []
    for amount in values:
        low, high = _reach(amount)
        tests = [Sql(f"{alias}.high >= %s::float8", (low,))] if low > -inf else []
        tests += [Sql(f"{alias}.low <= %s::float8", (high,))] if high < inf else []
        tests = tests or [Sql(f"{alias}.low IS NOT NULL")]
        if amount.unit is not None:
            tests.append(has_key(alias, [units.key(amount.unit)]))
        parts.append(all_of(tests))
    return any_of(parts)


def _reach(amount: Amount) -> tuple[float, float]:
    """From where to where the amounts lie that may fit: in the preferred unit, or as written when there is none."""
    least, most = amount.edges()
    unit = amount.unit
    factor, offset = (unit.factor, unit.offset) if unit is not None else (Decimal(1), Decimal(0))
    low, high = float(least * factor + offset), float(most * factor + offset)
    low, high = low - abs(low) * _ROUNDING, high + abs(high) * _ROUNDING
    if amount.prefix in ("gt", "ge", "sa"):
        return low, inf
    if amount.prefix in ("lt", "le", "eb"):
        return -inf, high
    return (-inf, inf) if amount.prefix == "ne" else (low, high)


def test(values: Sequence[Amount]) -> Sql:
    """Whether the jsonb `q` is an amount as one of *values* says."""
    tests = [_one(amount) for amount in values]
    text = " OR ".join(f"({one.text})" for one in tests)
    return Sql(
        f"EXISTS (SELECT 1 FROM ({_BOUNDS}) AS n WHERE {text})", tuple(value for one in tests for value in one.params)
    )


def _one(amount: Amount) -> Sql:
    if not amount.code:
        return _compared("n.low", "n.high", amount)
    written = _written(amount)
    if amount.unit is None:
        return written
    unit = amount.unit
    table = encode(units.of_kind(unit.kind)).decode()
    code = units.plain_sql("(n.unit->>'code')")
    said = f"%s::numeric * {unit.factor} + {unit.offset}"
    compared = _compared(
        "n.low * (f->>0)::numeric + (f->>1)::numeric", "n.high * (f->>0)::numeric + (f->>1)::numeric", amount, said
    )
    converted = Sql(
        f"n.unit->>'system' = %s AND EXISTS (SELECT 1 FROM (SELECT %s::jsonb -> ({code}) AS f OFFSET 0) AS u"
        f" WHERE f IS NOT NULL AND {compared.text})",
        (units.UCUM, table, *compared.params),
    )
    return converted if amount.system else any_of([converted, written])


def _written(amount: Amount) -> Sql:
    """In the very unit that is asked for."""
    compared = _compared("n.low", "n.high", amount)
    if amount.system:
        unit = Sql("n.unit->>'system' = %s AND n.unit->>'code' = %s", (amount.system, amount.code))
    else:
        unit = Sql("%s IN (n.unit->>'code', n.unit->>'unit', n.unit->>'currency')", (amount.code,))
    return all_of([unit, compared])


def _compared(low: str, high: str, amount: Amount, said: str = "%s") -> Sql:
    """The test of FHIR's prefix on the SQL expressions *low* and *high*; *said* makes the asked value comparable."""
    least, most = amount.edges()
    tests: dict[str, tuple[str, tuple[Decimal, ...]]] = {
        "eq": (f"{low} >= {said} AND {high} < {said}", (least, most)),
        "ne": (f"NOT ({low} >= {said} AND {high} < {said})", (least, most)),
        "gt": (f"{high} > {said}", (least,)),
        "ge": (f"{high} >= {said}", (least,)),
        "lt": (f"{low} < {said}", (least,)),
        "le": (f"{low} <= {said}", (least,)),
        "sa": (f"{low} > {said}", (least,)),
        "eb": (f"{high} < {said}", (least,)),
        "ap": (f"{high} >= {said} AND {low} <= {said}", (least, most)),
    }
    text, params = tests[amount.prefix]
    return Sql(text, params)


def precision(value: Decimal) -> tuple[Decimal, Decimal]:
    """What a written number stands for in FHIR: 100 is [99.5, 100.5), 5.40 is [5.395, 5.405), 1e2 is [95, 105)."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - (2 if exponent > 0 else 1))
    return value - half, value + half
