"""What the hub knows of each FHIR type: its search parameters, its link to a person, and its search table.

Made from `data/search-parameters.json` (HL7 FHIR R4, CC0). Importing this module puts one table per served type on
`fhir.tables.metadata`; it compiles nothing else, so that it stays cheap for every command line.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Table

from fhir.paths import alternatives
from fhir.tables import resource_table
from fhir.types import SERVED

# Kinds of search parameter that the search table answers alone; of numbers and quantities it holds the span of all that
# a resource says, and the rest of the answer is in the stored JSON. Composites are made of the others.
INDEXED = frozenset({"token", "reference", "date", "string", "uri"})
AMOUNTS = frozenset({"number", "quantity"})
KINDS = INDEXED | AMOUNTS | {"composite", "special"}
# Of every type, and not in the definitions as parameters with an expression.
_SPECIAL = ("_content", "_filter", "_list", "_text")
# Parameters that say whom a resource is about, the best first: a performer or author in the patient compartment
# does not make a record that person's.
_ABOUT = ("patient", "subject", "beneficiary", "individual", "actor")
# Said by no search parameter: a stored file belongs to whoever its security context names.
_ALSO_ABOUT = {"Binary": ("Binary.securityContext",)}
# Elements that may name several patients; `patient_id` holds the first.
_LISTS = frozenset({"Account.subject", "Contract.subject", "Provenance.target", "Schedule.actor"})
ONLY_PATIENT = ".where(resolve() is Patient)"
# Definitions and directories: few rows, so the indexes that serve lists of thousands would only cost start-up time.
# fmt: off
_BUSY_WITHOUT_PATIENT = frozenset((
    "AuditEvent", "Binary", "Bundle", "Device", "Group", "HealthcareService", "Location", "Medication",
    "MessageHeader", "Organization", "Practitioner", "PractitionerRole", "Schedule", "Slot", "Subscription",
    "Task",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class SearchParam:
    """A search parameter.

    `targets` are the types a reference may name (empty: any). `bare` marks a token whose element is a plain `code`, so
    that its system is implied. `stored` names the parameters whose index entries answer
    this one, so that `Observation?patient=` and `combo-code=` cost no entries of their own. `components` are those of a
    composite: the code of a search parameter of the type, and the path from where the composite stands.
    """

    code: str
    type: str
    expression: str
    targets: frozenset[str] = frozenset()
    stored: tuple[str, ...] = ()
    bare: bool = False
    components: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One served type.

    `patient_paths` are FHIRPaths to the person it is about, the best first; `one_patient` says that there is one path,
    to one reference. `compartments` are, for each compartment, the parameters by which FHIR puts a resource there.
    `amounts` says that the search table has columns for numbers and quantities.
    """

    type: str
    params: dict[str, SearchParam]
    patient_paths: tuple[str, ...]
    dates: tuple[str, ...]
    strings: bool
    amounts: bool
    table: Table
    one_patient: bool = False
    compartments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def compartment(self) -> tuple[str, ...]:
        """That of a Patient."""
        return self.compartments.get("Patient", ())

    @property
    def in_patient_compartment(self) -> bool:
        return bool(self.patient_paths) or self.type == "Patient"


def _specs() -> dict[str, ResourceSpec]:
    raw = msgspec.json.decode((Path(__file__).parent / "data" / "search-parameters.json").read_bytes())
    common = {code: _param(code, row) for code, row in raw["params"]["Resource"].items()}
    common |= {code: SearchParam(code, "special", "", stored=(code,)) for code in _SPECIAL}
    params, compartments = raw["params"], raw["compartments"]
    return {type_: _spec(type_, params.get(type_, {}), common, compartments) for type_ in sorted(SERVED)}


def _spec(
    type_: str, rows: dict[str, Any], common: dict[str, SearchParam], compartments: dict[str, dict[str, list[str]]]
) -> ResourceSpec:
    known = {code: _param(code, row) for code, row in rows.items()}
    params = common | _shared(known)
    inside = {
        owner: tuple(code for code in types[type_] if code in known)
        for owner, types in compartments.items()
        if type_ in types
    }
    compartment = inside.get("Patient", ())
    dates = tuple(code for code, param in known.items() if param.type == "date")
    first = [code for code in ("date", "authored", "authored-on", "created") if code in dates]
    dates = tuple(dict.fromkeys((*first, *dates)))
    strings = any(param.type == "string" for param in known.values())
    about = [rows[code][1] for code in _ABOUT if code in known and (code == "patient" or code in compartment)]
    paths = [part.removesuffix(ONLY_PATIENT) for expression in about for part in alternatives(expression)]
    patient_paths = tuple(dict.fromkeys((*paths, *_ALSO_ABOUT.get(type_, ()))))
    patient = bool(patient_paths) or type_ == "Patient"
    busy = patient or type_ in _BUSY_WITHOUT_PATIENT
    amounts = busy and any(param.type in AMOUNTS for param in known.values())
    table = resource_table(type_, dates, strings, patient, busy, amounts)
    one_patient = len(patient_paths) == 1 and patient_paths[0] not in _LISTS and patient_paths[0].count(".") == 1
    return ResourceSpec(type_, params, patient_paths, dates, strings, amounts, table, one_patient, inside)


def _param(code: str, row: list[Any]) -> SearchParam:
    kind, expression, targets, *more = row
    parts = tuple((name, path) for name, path in more[0]) if kind == "composite" else ()
    return SearchParam(
        code, kind, expression, frozenset(targets) - {"Resource"}, (code,), bool(more) and not parts, parts
    )


def _shared(params: dict[str, SearchParam]) -> dict[str, SearchParam]:
    """Let a parameter use the index entries of others where they hold the same values."""
    single: dict[tuple[str, str], str] = {}
    for code, param in params.items():
        if "|" not in param.expression:
            single.setdefault((param.type, param.expression), code)
    shared = {}
    for code, param in params.items():
        if param.type in {"date", "string", "composite", "special"}:
            stored: tuple[str, ...] = (code,)
            if param.type == "string":
                stored = (single.get((param.type, param.expression), code),)
        else:
            parts = [_unrestricted(part, param) for part in alternatives(param.expression)]
            owners = [single.get((param.type, part)) for part in parts]
            stored = tuple(dict.fromkeys(owner for owner in owners if owner)) if all(owners) else (code,)
        shared[code] = replace(param, stored=stored)
    return shared


def _unrestricted(part: str, param: SearchParam) -> str:
    """`A.subject.where(resolve() is Patient)` finds the references of `A.subject` that name the one target Patient."""
    if len(param.targets) == 1:
        return part.removesuffix(f".where(resolve() is {next(iter(param.targets))})")
    return part


SPECS: dict[str, ResourceSpec] = _specs()
