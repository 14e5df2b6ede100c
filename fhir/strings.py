"""Conditions on strings and uris: words and whole values, and what is above or below in a path."""

from collections.abc import Sequence

from fhir.conditions import any_of, contains, has_key, has_key_from, term, texts
from fhir.index import key, lexeme, normalised
from fhir.registry import SearchParam
from fhir.store import Sql


def uri(alias: str, param: SearchParam, modifier: str | None, values: Sequence[str]) -> Sql:
    if modifier == "below":
        # What is under it, not what only begins alike: http://x/a is not above http://x/ab. No index.
        starts = [value if value.endswith("/") else f"{value}/" for value in values]
        under = has_key_from(alias, [key(name, value) for value in starts for name in param.stored])
        return any_of([has_key(alias, [key(name, value) for value in values for name in param.stored]), under])
    if modifier == "above":
        values = [one for value in values for one in _above(value)]
    return has_key(alias, [key(name, one) for one in values for name in param.stored])


def _above(uri: str) -> list[str]:
    """`http://x/a/b` -> itself, `http://x/a/`, `http://x/a`, `http://x/`, `http://x`."""
    parts = uri.split("/")
    cut = ["/".join(parts[:size]) for size in range(len(parts) - 1, 0, -1)]
    return [uri, *(one for part in cut if part.rstrip("/:") and not part.endswith(":/") for one in (f"{part}/", part))]


def string(alias: str, param: SearchParam, modifier: str | None, values: Sequence[str]) -> Sql:
    pairs = [(name, value) for value in values for name in param.stored]
    if modifier == "contains":
        return any_of([contains(alias, name, value) for name, value in pairs])
    if modifier in ("equals", "ends"):
        return any_of([texts(alias, name, modifier, value) for name, value in pairs])
    if modifier == "exact":
        terms = [term(lexeme(f"{name}:exact", value)) for name, value in pairs]
    else:
        terms = [term(lexeme(name, normalised(value))) + ":*" for name, value in pairs]
    return Sql(f"{alias}.strings @@ %s::tsquery", (" | ".join(terms),))
