"""Conditions on references: to one of several, to whoever has an identifier, to a place in a hierarchy."""

import re
from collections.abc import Sequence

from fhir.conditions import NEVER, has_key
from fhir.index import key
from fhir.registry import ONLY_PATIENT, SPECS, ResourceSpec, SearchParam
from fhir.store import ID, Sql, Visible
from fhir.written import Asked, bad, bar_split, listed

_PATIENT = re.compile(rf"Patient/{ID.pattern}")
_PARENTS = ("partof", "part-of")


def about_patient(spec: ResourceSpec, param: SearchParam) -> bool:
    """Whether a reference to a Patient that *param* finds is what `patient_id` holds, and the other way round."""
    return spec.one_patient and param.expression.removesuffix(ONLY_PATIENT) == spec.patient_paths[0]


def identified(alias: str, param: SearchParam, values: Sequence[str]) -> Sql:
    """References that are said by an identifier."""
    said = []
    for value in values:
        system, bar, code = bar_split(value)
        said.append(f"{system}|{code}" if bar else system)
    return has_key(alias, [key(f"{name}:identifier", one) for one in said for name in param.stored])


def to_any_of(spec: ResourceSpec, alias: str, param: SearchParam, wanted: Sequence[str]) -> Sql:
    """References that are one of *wanted*, as they stand in the index."""
    patients = [reference.removeprefix("Patient/") for reference in wanted]
    if about_patient(spec, param) and all(map(_PATIENT.fullmatch, wanted)):
        # The same rows as by the key, through an index that is smaller and in the order of dates.
        if len(patients) == 1:
            return Sql(f"{alias}.patient_id = %s", (patients[0],))
        return Sql(f"{alias}.patient_id = ANY(%s::text[])", (patients,)) if patients else NEVER
    return has_key(alias, [key(name, reference) for reference in wanted for name in param.stored])


def in_hierarchy(
    spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, reference: str, visible: Visible, inner: str
) -> Sql:
    """`location:below=Location/1`: it, and what is part of it, as far as the actor may see. *inner* is a free alias."""
    type_, _, id_ = reference.partition("/")
    parent = next((code for code in _PARENTS if type_ in SPECS and type_ in _targets(SPECS[type_], code)), None)
    if parent is None or not ID.fullmatch(id_):
        kinds = listed(one for one in SPECS if any(one in _targets(SPECS[one], code) for code in _PARENTS))
        said = f"'{reference[:80]}' is in no hierarchy: name one resource, such as Location/1, of {kinds}"
        raise bad(spec.type, asked.written, said)
    limit = visible(type_, inner)
    if limit is None:
        return NEVER
    start = f"{parent}={type_}/"
    table = f"r_{type_.lower()}"
    if asked.modifier == "below":
        step = f"SELECT {inner}.id FROM tree JOIN {table} {inner} ON {inner}.keys @> ARRAY[%s || tree.id]"
        params: tuple[object, ...] = (start,)
        where = ""
    else:
        step = (
            f"SELECT substr(k, %s) FROM tree JOIN {table} {inner} ON {inner}.id = tree.id"
            f" CROSS JOIN unnest({inner}.keys) AS k"
        )
        where, params = "starts_with(k, %s) AND ", (len(start) + 1, start)
    tree = (
        f'WITH RECURSIVE tree (id) AS (SELECT %s::text COLLATE "C" UNION {step} WHERE {where}({limit[0]}))'
        f" SELECT n || '={type_}/' || id FROM tree CROSS JOIN unnest(%s::text[]) AS n"
    )
    return Sql(f"{alias}.keys && ARRAY({tree})", (id_, *params, *limit[1], list(param.stored)))


def _targets(spec: ResourceSpec, code: str) -> frozenset[str]:
    param = spec.params.get(code)
    return param.targets if param is not None and param.type == "reference" else frozenset()
