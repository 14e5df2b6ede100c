"""Conditions on the stored JSON, for what no index holds: some 20 µs for each row that the rest of the search left."""

from collections.abc import Sequence

from fhir.paths import Step, alternatives, compile_path
from fhir.registry import ResourceSpec, SearchParam
from fhir.store import Sql

# What a choice element may be called in JSON, by the kind of search parameter that looks at it.
_ENDINGS = {
    "number": ("Decimal", "Integer", "PositiveInt", "UnsignedInt", "Range"),
    "quantity": ("Quantity", "Age", "Duration", "Count", "Distance", "Money", "Range"),
    "token": ("CodeableConcept", "Coding", "Code", "Boolean", "Identifier", "Id", "String", "ContactPoint"),
    "reference": ("Reference", "Uri", "Canonical"),
    "string": ("String", "HumanName", "Address", "CodeableConcept", "Markdown"),
    "uri": ("Uri", "Url", "Canonical", "Oid"),
}


def some(spec: ResourceSpec, alias: str, paths: Sequence[str], test: Sql) -> Sql:
    """Whether *test* holds for some value at one of the SQL/JSON *paths*; the value is jsonb, and called `q`."""
    return Sql(
        "EXISTS (SELECT 1 FROM resource_version b CROSS JOIN LATERAL (SELECT b.body::jsonb AS body OFFSET 0) d"
        " CROSS JOIN unnest(%s::text[]::jsonpath[]) AS p CROSS JOIN LATERAL jsonb_path_query(d.body, p) AS q"
        f" WHERE b.type = '{spec.type}' AND b.id = {alias}.id AND b.version = {alias}.version AND ({test.text}))",
        (list(paths), *test.params),
    )


def whole(spec: ResourceSpec, alias: str, test: Sql) -> Sql:
    """Whether *test* holds for the resource as a whole, which is jsonb, and called `q`."""
    return some(spec, alias, ["$"], test)


def json_paths(param: SearchParam) -> list[str]:
    """SQL/JSON paths to every place where *param* may stand: lax, so that lists open by themselves."""
    return [path for part in alternatives(param.expression) for path in relative(part, param.type)]


def relative(path: str, kind: str) -> list[str]:
    """SQL/JSON paths for one FHIRPath that begins with the name of what it starts at: `Observation.value` or `Part.x`.

    The tests of a `where` are left out: what is found here is asked for beside the index, which has kept to them.
    """
    if "." not in path:
        return ["$"]
    *inner, last = compile_path(path).steps
    if last.chosen == "SampledData":  # a series is no number
        return []
    names = [_name(last)] if last.chosen else [last.name, *(last.name + ending for ending in _ENDINGS.get(kind, ()))]
    start = "".join(f'."{_name(step)}"' for step in inner)
    return [f'${start}."{name}"[*]' for name in names]


def _name(step: Step) -> str:
    return step.name + (step.chosen[0].upper() + step.chosen[1:] if step.chosen else "")
