"""Conditions on a search table, as SQL: how a key, a word or a date is looked up."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fhir.index import Range, normalised, normalised_sql
from fhir.store import Sql
from fhir.tables import ends

NEVER = Sql("FALSE")
ALWAYS = Sql("TRUE")


def all_of(parts: Sequence[Sql]) -> Sql:
    """Every part in brackets: an OR inside one, such as what the actor may see, must not reach outside it."""
    parts = [part for part in parts if part is not ALWAYS]
    if not parts:
        return ALWAYS
    text = " AND ".join(f"({part.text})" for part in parts)
    return Sql(text, tuple(value for part in parts for value in part.params))


def any_of(parts: Sequence[Sql]) -> Sql:
    if not parts:
        return NEVER
    if len(parts) == 1:
        return parts[0]
    text = "(" + " OR ".join(f"({part.text})" for part in parts) + ")"
    return Sql(text, tuple(value for part in parts for value in part.params))


def none_of(part: Sql) -> Sql:
    return Sql(f"NOT ({part.text})", part.params)


def has_key(alias: str, keys: Sequence[str]) -> Sql:
    """Whether one of *keys* is among those of the row."""
    if not keys:
        return NEVER
    operator = "@>" if len(keys) == 1 else "&&"
    return Sql(f"{alias}.keys {operator} %s::text[]", (list(keys),))


def any_start(name: str, prefixes: Sequence[str]) -> str:
    """The text of a test, with one placeholder for each of *prefixes*."""
    return "(" + " OR ".join(f"starts_with({name}, %s)" for _ in prefixes) + ")"


def has_key_from(alias: str, prefixes: Sequence[str]) -> Sql:
    """Whether some key starts so. No index: for what is asked rarely, or beside another condition."""
    test = any_start("k", prefixes)
    return Sql(f"EXISTS (SELECT 1 FROM unnest({alias}.keys) AS k WHERE {test})", tuple(prefixes))


def contains(alias: str, name: str, value: str) -> Sql:
    """Whether *value* stands anywhere in a text of parameter *name*. No index."""
    start = f"{name}="
    return Sql(
        f"EXISTS (SELECT 1 FROM unnest(tsvector_to_array({alias}.strings)) AS w"
        " WHERE starts_with(w, %s) AND strpos(substr(w, %s), %s) > 0)",
        (start, len(start) + 1, normalised(value)),
    )


def texts(alias: str, name: str, how: str, value: str) -> Sql:
    """Whether a text of parameter *name*, as a whole, `equals` *value* or `ends` with it, case and accents apart."""
    start = f"{name}:exact="
    written = normalised_sql("substr(w, %s)")
    test = f"{written} = %s" if how == "equals" else f"right({written}, length(%s)) = %s"
    values = (normalised(value),) if how == "equals" else (normalised(value), normalised(value))
    return Sql(
        f"EXISTS (SELECT 1 FROM unnest(tsvector_to_array({alias}.strings)) AS w WHERE starts_with(w, %s) AND {test})",
        (start, len(start) + 1, *values),
    )


def term(text: str) -> str:
    """*text* as one operand of a tsquery."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}'"


def dated(column: str, prefix: str, low: datetime, high: datetime | None) -> Sql:
    """FHIR's comparison of ranges: eq contains, gt/lt overlap what lies beyond, sa/eb lie beyond altogether.

    Beside the test stands the bound that it implies on where the range begins or ends. Ranges are ordered by where
    they begin, so an index in the order of dates can start and stop there; `[x,x]` comes before every range that begins
    at x.
    """
    inside: Range = (low, high)
    tests: dict[str, tuple[str, Range, str]] = {
        "eq": ("<@", inside, "within"),
        "ne": ("<@", inside, ""),
        "ap": ("&&", inside, ""),
        "gt": ("&&", (high, None), "end after high"),
        "ge": ("&&", (low, None), "end after low"),
        "lt": ("&&", (None, low), "before low"),
        "le": ("&&", (None, high), "before high"),
        "sa": (">>", inside, "after high"),
        "eb": ("<<", inside, "before low"),
    }
    operator, (start, end), bound = tests[prefix]
    if high is None and prefix in ("gt", "sa"):
        return NEVER
    found = Sql(f"{column} {operator} tstzrange(%s, %s)", (start, end))
    if prefix == "ne":
        return none_of(found)
    point = "tstzrange(%s, %s, '[]')"
    parts = [found]
    if bound in ("within", "after high"):
        edge = low if bound == "within" else high
        parts.append(Sql(f"{column} > {point}", (edge, edge)))
    if bound in ("within", "before high", "before low"):
        edge = low if bound == "before low" else high
        if edge is not None:
            parts.append(Sql(f"{column} < {point}", (edge, edge)))
    if bound.startswith("end after"):
        parts.append(Sql(f"{ends(column)} > %s", (high if bound == "end after high" else low,)))
    return all_of(parts)


def overlapping(column: str, low: datetime, high: datetime | None) -> Sql:
    return Sql(f"{column} && tstzrange(%s, %s)", (low, high))


def updated(alias: str, prefix: str, low: datetime, high: datetime | None) -> Sql:
    column = f"{alias}.updated"
    end = high or datetime.max.replace(tzinfo=UTC)
    if prefix in ("eq", "ap"):
        return Sql(f"{column} >= %s AND {column} < %s", (low, end))
    if prefix == "ne":
        return Sql(f"NOT ({column} >= %s AND {column} < %s)", (low, end))
    operator, value = {
        "gt": (">=", end),
        "sa": (">=", end),
        "ge": (">=", low),
        "lt": ("<", low),
        "eb": ("<", low),
        "le": ("<", end),
    }[prefix]
    return Sql(f"{column} {operator} %s", (value,))
