"""What is searched for by rules of its own: `_list`, `_text`, `_content`, and `near` of Location."""

from decimal import Decimal, InvalidOperation

from fhir import units
from fhir.bodies import whole
from fhir.registry import ResourceSpec
from fhir.store import ID, Sql, Visible
from fhir.written import Asked, bad, split, unescaped

# Kilometres, when `near` does not say how far.
NEAR = Decimal(10)


def listed_in(spec: ResourceSpec, alias: str, asked: Asked, visible: Visible, inner: str) -> Sql:
    """Members of a List that the actor may see; *inner* is an alias that nothing else uses."""
    ids = split(asked.value)
    for one in ids:
        if one.startswith("$"):
            said = f"lists that a server makes up, such as '{one[:40]}', are not kept here: name a List by its id"
            raise bad(spec.type, asked.written, said)
        if not ID.fullmatch(one):
            raise bad(spec.type, asked.written, f"'{one[:80]}' is no id of a List")
    limit = visible("List", inner)
    if limit is None:
        return Sql("FALSE")
    start = f"item={spec.type}/"
    return Sql(
        f"{alias}.id = ANY(ARRAY(SELECT substr(k, %s) FROM r_list {inner} CROSS JOIN unnest({inner}.keys) AS k"
        f" WHERE {inner}.id = ANY(%s::text[]) AND starts_with(k, %s) AND ({limit[0]})))",
        (len(start) + 1, ids, start, *limit[1]),
    )


def words_of(spec: ResourceSpec, alias: str, asked: Asked) -> Sql:
    """`_text` looks through the narrative, `_content` through all the text of the resource.

    Words are all held; `or`, `-word` and `"a phrase"` mean what they say. There is no index: a reading would pay for
    its words each time it is written.
    """
    value = unescaped(asked.value)
    if not any(character.isalnum() for character in value):
        raise bad(spec.type, asked.written, f"'{asked.written}={value[:80]}' has no word to look for")
    text = (
        "to_tsvector('simple', regexp_replace(coalesce(q #>> '{text,div}', ''), '<[^>]*>', ' ', 'g'))"
        if asked.name == "_text"
        else """jsonb_to_tsvector('simple', q, '["string"]')"""
    )
    return whole(spec, alias, Sql(f"{text} @@ websearch_to_tsquery('simple', %s)", (value,)))


def near(spec: ResourceSpec, alias: str, asked: Asked, value: str) -> Sql:
    """`near=latitude|longitude|distance|unit`: along the surface of a globe (haversine), 10 km when not said."""
    parts = split(value, "|")
    try:
        latitude, longitude, *rest = (Decimal(part) for part in parts[:3])
        distance = rest[0] if rest else NEAR
    except (ValueError, InvalidOperation):
        raise bad(spec.type, asked.written, _near(value)) from None
    unit = units.unit(parts[3] if len(parts) == 4 and parts[3] else "km")
    kilometre = units.UNITS["km"]
    fits = latitude.is_finite() and longitude.is_finite() and distance.is_finite() and len(parts) <= 4
    if (
        not fits
        or abs(latitude) > 90
        or abs(longitude) > 180
        or distance < 0
        or not unit
        or unit.kind != kilometre.kind
    ):
        raise bad(spec.type, asked.written, _near(value))
    apart = (
        "2 * 6371.0088 * asin(least(1, sqrt(power(sin(radians(lat - %s::float8) / 2), 2)"
        " + cos(radians(%s::float8)) * cos(radians(lat)) * power(sin(radians(lon - %s::float8) / 2), 2))))"
    )
    test = Sql(
        "EXISTS (SELECT 1 FROM (SELECT (q #>> '{position,latitude}')::float8 AS lat,"
        f" (q #>> '{{position,longitude}}')::float8 AS lon) AS n WHERE {apart} <= %s::float8)",
        (latitude, latitude, longitude, distance * unit.factor / kilometre.factor),
    )
    return whole(spec, alias, test)


def _near(value: str) -> str:
    return (
        f"'{value[:80]}' must be written latitude|longitude|distance|unit in degrees and a unit of length,"
        " such as 50.94|-2.63|5|km"
    )
