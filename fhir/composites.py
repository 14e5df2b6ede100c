"""Composite parameters: `component-code-value-quantity=8480-6$gt140`, both said of one and the same place.

Each part is asked for by its own parameter first, by index; where the place is not the resource itself, the stored JSON
then tells whether one place says it all.
"""

from collections.abc import Callable

from fhir.bodies import relative, some
from fhir.conditions import all_of
from fhir.paths import alternatives
from fhir.quantities import Amount
from fhir.quantities import test as amount_test
from fhir.registry import AMOUNTS, ResourceSpec, SearchParam
from fhir.store import Sql
from fhir.tokens import written_in
from fhir.written import Asked, bad, bar_split, split, unescaped

One = Callable[[SearchParam, str], tuple[Sql, Sql]]


def composite(
    spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, value: str, one: One
) -> tuple[Sql, Sql]:
    """The condition of one *value*: what an index tells, and what the JSON decides.

    *one* makes both for a part, by the part's own parameter.
    """
    parts = split(value, "$")
    names = [name for name, _ in param.components]
    if len(parts) != len(names) or not all(parts):
        said = f"'{value[:80]}' must be written {'$'.join(f'({name})' for name in names)}"
        raise bad(spec.type, asked.written, said)
    both = [one(spec.params[name], part) for name, part in zip(names, parts, strict=True)]
    indexed, exact = all_of([early for early, _ in both]), [late for _, late in both]
    places = [place for path in alternatives(param.expression) for place in relative(path, "composite")]
    if places == ["$"]:
        return indexed, all_of(exact)
    tests = [
        _part(spec.params[name], path, part)
        for (name, path), part in zip(param.components, parts, strict=True)
        if not path.startswith("%resource")
    ]
    return indexed, some(spec, alias, places, all_of(tests))


def _part(param: SearchParam, path: str, value: str) -> Sql:
    paths = [found for one in alternatives(path) for found in relative(f"Part.{one}", param.type)]
    if param.type in AMOUNTS:
        number, _, unit = bar_split(value)
        system, _, code = bar_split(unit)
        test = amount_test([Amount.of(number, system, code)])
    elif param.type == "token":
        test = written_in(param, value)
    else:
        # A relation's target: by its written reference, or by id alone.
        said = unescaped(value)
        test = Sql("%s IN (q->>'reference', split_part(q->>'reference', '/', 2))", (said,))
    return Sql(
        "EXISTS (SELECT 1 FROM (SELECT jsonb_path_query(q, p) AS q FROM unnest(%s::text[]::jsonpath[]) AS p) AS part"
        f" WHERE {test.text})",
        (paths, *test.params),
    )
