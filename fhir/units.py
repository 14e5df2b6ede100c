"""Units that can be converted into each other: UCUM, by a table made beforehand (`data/units_of_measure.py`).

A unit that is not in the table is not converted: it meets itself, as written. So does any unit of another system.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Unit:
    """`value * factor + offset` is the value in the preferred unit of *kind*, such as mm[Hg] for pressures."""

    kind: int
    factor: Decimal
    offset: Decimal

    @property
    def preferred(self) -> bool:
        return self.factor == 1 and not self.offset


def _units() -> dict[str, Unit]:
    raw = msgspec.json.decode((Path(__file__).parent / "data" / "units.json").read_bytes())
    return {code: Unit(kind, Decimal(f), Decimal(o[0] if o else 0)) for code, (kind, f, *o) in raw["units"].items()}


UNITS: Mapping[str, Unit] = _units()
_ALONE = re.compile(r"(^|[./(])\{[^}]*\}")
_BEHIND = re.compile(r"\{[^}]*\}")
_ONCE = re.compile(r"[/.]1$")


def plain(code: str) -> str:
    """Without annotations, which say what is counted: `{beats}/min` -> `1/min`, `mL/min/{1.73_m2}` -> `mL/min`."""
    if "{" not in code:
        return code
    return _ONCE.sub("", _BEHIND.sub("", _ALONE.sub(r"\g<1>1", code)))


def unit(code: str) -> Unit | None:
    return UNITS.get(plain(code))


@lru_cache(4096)
def known(code: str | None, written: str | None) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Of an amount's *code* and of its unit as it is *written* for people: the keys of their kinds, and the factors and
    offsets to their preferred units. None for a unit that cannot be converted, no factor for a preferred one.
    """
    found = {one for name in (code, written) if name and (one := unit(name)) is not None}
    factors = sorted({(float(one.factor), float(one.offset)) for one in found if not one.preferred})
    return tuple(sorted({key(one) for one in found})), tuple(factors)


def key(one: Unit) -> str:
    """What the search table calls amounts that can be converted into *one*."""
    return f":unit={one.kind}"


@cache
def of_kind(kind: int) -> dict[str, Any]:
    """The units of *kind* as JSON for PostgreSQL: `{code: [factor, offset]}`."""
    return {code: [one.factor, one.offset] for code, one in UNITS.items() if one.kind == kind}


def plain_sql(code: str) -> str:
    """`plain` of the SQL text *code*."""
    alone = rf"regexp_replace({code}, '(^|[./(])\{{[^}}]*\}}', '\11', 'g')"
    bare = rf"regexp_replace({alone}, '\{{[^}}]*\}}', '', 'g')"
    return f"CASE WHEN strpos({code}, '{{') = 0 THEN {code} ELSE regexp_replace({bare}, '[/.]1$', '') END"
