"""Compartments: what belongs to a Patient, an Encounter, a Device or one of those who care, as R4 defines them."""

from fhir import store
from fhir.conditions import any_of, has_key
from fhir.outcome import refuse
from fhir.registry import SPECS, ResourceSpec
from fhir.store import Sql

OWNERS = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")

Compartment = tuple[str, str]


def types_in(owner: str) -> list[str]:
    """The types that a compartment of *owner* may hold, its own first."""
    return [owner, *(type_ for type_, spec in SPECS.items() if type_ != owner and _belongs(spec, owner))]


def within(spec: ResourceSpec, compartment: Compartment) -> Sql:
    """What of a type, as alias `r`, is in *compartment*. Refusal 404 for a type that never is.

    The owner itself is in its compartment. A Patient's holds what it is about, and what FHIR adds, such as what they
    performed.
    """
    owner, id_ = compartment
    if not store.ID.fullmatch(id_):
        raise refuse(400, "value", f"'{id_[:80]}' is no id")
    if spec.type != owner and not _belongs(spec, owner):
        raise refuse(404, "not-supported", f"{spec.type} is not in the compartment of a {owner}")
    params = spec.compartments.get(owner, ())
    stored = dict.fromkeys(name for code in params for name in spec.params[code].stored)
    referring = has_key("r", [f"{name}={owner}/{id_}" for name in stored])
    if owner != "Patient":
        return any_of([*([Sql("r.id = %s", (id_,))] if spec.type == owner else []), referring])
    parts = [Sql("r.patient_id = %s", (id_,))]
    if (not spec.one_patient and stored) or len(params) > 1:
        parts.append(referring)
    return any_of(parts)


def last(limit: Sql) -> Sql:
    """*limit*, what the actor may see, as a test of the rows that a compartment has: as it is, PostgreSQL makes a join
    of it, and begins with everybody whom the actor may see."""
    return Sql(f"({limit.text}) IS TRUE", limit.params)


def _belongs(spec: ResourceSpec, owner: str) -> bool:
    return spec.in_patient_compartment if owner == "Patient" else owner in spec.compartments
