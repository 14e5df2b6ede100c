"""What a search is ordered by: columns that an index has in order, and what is made for each row that was found."""

from collections.abc import Sequence
from dataclasses import dataclass

from fhir import units
from fhir.bodies import json_paths
from fhir.conditions import any_start
from fhir.index import normalised_sql
from fhir.references import about_patient
from fhir.registry import AMOUNTS, SPECS, ResourceSpec, SearchParam
from fhir.store import Sql, Visible
from fhir.tables import date_column
from fhir.wire import encode
from fhir.written import NotUnderstood, bad, listed, unknown

# Keys to sort by: beyond it a search only costs.
MOST_KEYS = 5


@dataclass(frozen=True, slots=True)
class Sort:
    """One column to order by, as SQL on alias `r`, with the SQL type its cursor value has.

    `made` is None for a column of the search table; otherwise it makes the column for each row that was found.
    """

    expression: str
    cast: str
    descending: bool
    nullable: bool
    made: Sql | None = None

    @property
    def direction(self) -> str:
        """As `ORDER BY` takes it. No value counts as the least, so that one index serves both directions."""
        if not self.nullable:
            return " DESC" if self.descending else ""
        return " DESC NULLS LAST" if self.descending else " NULLS FIRST"


def by_id(descending: bool) -> Sort:
    """The order that tells every two rows of a type apart."""
    return Sort("r.id", "text", descending, False)


def by_updated(descending: bool) -> Sort:
    return Sort("r.updated", "timestamptz", descending, False)


def by_date(code: str, descending: bool) -> Sort:
    return Sort(f"r.{date_column(code)}", "tstzrange", descending, True)


def sorts(spec: ResourceSpec, text: str, visible: Visible) -> list[Sort]:
    """`-date,patient.family` as columns. Refusal 400 for what cannot be sorted by."""
    found: list[Sort] = []
    for item in text.split(","):
        descending = item.startswith("-")
        code = item.removeprefix("-")
        if code == "_id":
            found.append(by_id(descending))
            return found
        if code == "_lastUpdated":
            found.append(by_updated(descending))
        elif code in spec.dates:
            found.append(by_date(code, descending))
        else:
            made, cast = _made(spec, code, "r", descending, visible)
            found.append(Sort(f"r.s{len(found)}", cast, descending, True, made))
        if len(found) > MOST_KEYS:
            raise bad(spec.type, "_sort", f"_sort has more than {MOST_KEYS} keys")
    # What else is equal is told apart by id, in the direction of the rest so that one index can serve both.
    return [*found, by_id(found[-1].descending)]


def _made(spec: ResourceSpec, code: str, alias: str, descending: bool, visible: Visible) -> tuple[Sql, str]:
    """The least value of a row, or the greatest when *descending*, and its SQL type."""
    name, dot, following = code.partition(".")
    name, _, target = name.partition(":")
    param = spec.params.get(name)
    if param is None or param.type in ("special", "composite") or (target and not dot):
        raise _no_key(spec, code)
    if dot:
        return _chained(spec, param, target, following, descending, visible)
    most = "max" if descending else "min"
    if param.type == "date":
        return Sql(f"{alias}.{date_column(code)}"), "tstzrange"
    if param.type in AMOUNTS:
        return _amount(spec, param, alias, most), "numeric"
    if param.type == "string":
        starts = [f"{one}:exact=" for one in param.stored]
        text = normalised_sql("substr(w, strpos(w, '=') + 1)")
        rows = f"unnest(tsvector_to_array({alias}.strings)) AS w WHERE {any_start('w', starts)}"
    else:
        starts = [f"{one}=" for one in param.stored]
        # Of a token, the code without its system.
        plain = " AND strpos(w, '|') = 0" if param.type == "token" else ""
        text = "substr(w, strpos(w, '=') + 1)"
        rows = f"unnest({alias}.keys) AS w WHERE {any_start('w', starts)}{plain}"
    return Sql(f'(SELECT {most}({text} COLLATE "C") FROM {rows})', tuple(starts)), "text"


def _amount(spec: ResourceSpec, param: SearchParam, alias: str, most: str) -> Sql:
    """In the preferred unit of its kind."""
    table = {code: [one.factor, one.offset] for code, one in units.UNITS.items() if not one.preferred}
    value = (
        "coalesce(q->>'value', q #>> '{low,value}', q #>> '{high,value}',"
        " CASE jsonb_typeof(q) WHEN 'number' THEN q #>> '{}' END)::numeric"
    )
    code = units.plain_sql("coalesce(q->>'code', q #>> '{low,code}', q #>> '{high,code}', '')")
    text = (
        f"(SELECT {most}(value * coalesce((u->>0)::numeric, 1) + coalesce((u->>1)::numeric, 0)) FROM ("
        f"SELECT {value} AS value, %s::jsonb -> ({code}) AS u FROM resource_version b"
        " CROSS JOIN LATERAL (SELECT b.body::jsonb AS body OFFSET 0) d CROSS JOIN unnest(%s::text[]::jsonpath[]) AS p"
        f" CROSS JOIN LATERAL jsonb_path_query(d.body, p) AS q WHERE b.type = '{spec.type}' AND b.id = {alias}.id"
        f" AND b.version = {alias}.version) AS n)"
    )
    return Sql(text, (encode(table).decode(), json_paths(param)))


def _chained(
    spec: ResourceSpec, param: SearchParam, target: str, following: str, descending: bool, visible: Visible
) -> tuple[Sql, str]:
    """By what the row refers to, as far as the actor may see it; one link."""
    possible = sorted(param.targets & SPECS.keys()) if param.type == "reference" else []
    types = [one for one in possible if one == target] if target else possible
    if len(types) != 1 or "." in following or following not in SPECS[types[0]].params:
        said = (
            f"'{param.code}.{following[:60]}': sort by one link to one type, as in patient.name or subject:Patient.name"
        )
        raise unknown(spec.type, "_sort", said)
    inner = SPECS[types[0]]
    limit = visible(inner.type, "t")
    if limit is None:
        return Sql("NULL::text"), "text"
    made, cast = _made(inner, following, "t", descending, visible)
    order = "DESC NULLS LAST" if descending else "NULLS LAST"
    if inner.type == "Patient" and about_patient(spec, param):
        linked, starts = "t.id = r.patient_id", []
    else:
        starts = [f"{name}={inner.type}/" for name in param.stored]
        linked = (
            f"t.id = ANY(ARRAY(SELECT split_part(k, '/', 2) FROM unnest(r.keys) AS k WHERE {any_start('k', starts)}))"
        )
    text = (
        f"(SELECT {made.text} FROM r_{inner.type.lower()} t WHERE {linked} AND ({limit[0]}) ORDER BY 1 {order} LIMIT 1)"
    )
    return Sql(text, (*made.params, *starts, *limit[1])), cast


def _no_key(spec: ResourceSpec, code: str) -> NotUnderstood:
    there = [name for name, param in spec.params.items() if param.type not in ("special", "composite")]
    return unknown(spec.type, "_sort", f"{spec.type} cannot be sorted by '{code[:80]}'; there are {listed(there)}")


def own_order(spec: ResourceSpec, names: Sequence[str], selective: bool) -> list[Sort]:
    """The order of a search that asks for none, by *names* of its conditions."""
    if not selective:
        if "_lastUpdated" in names:
            # Upwards: what is changed meanwhile moves to the end, where the reader has yet to come by.
            return [by_updated(False), by_id(False)]
        for date in spec.dates:
            if date in names:
                return [by_date(date, True), by_id(True)]
    return [by_id(True)]
