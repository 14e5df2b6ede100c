"""The operations of the FHIR interface, `$name`: where each is asked for, and who carries it out.

One row of `OPERATIONS` is all that an operation needs: the routes, the CapabilityStatement and "not with this method"
are made from it. The handler is an interaction like any other: it is given the `Call`, goes through `access.visible`
for what it shows and through `flows.write` for what it changes, and leaves its rows in the trail.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

from fhir.store import ID
from fhir.subscriptions import OPERATION
from fhir.types import SERVED
from hub.fhir_operations import (
    apply,
    diff,
    everything,
    export,
    imports,
    job,
    lastn,
    meta,
    populate,
    stats,
    subscriptions,
    terminology,
    validate,
)
from hub.interactions import Call

JSON = dict[str, Any]
Handler = Callable[[Call], Awaitable[Response]]
Level = Literal["system", "type", "instance"]


@dataclass(frozen=True, slots=True)
class Operation:
    """`$name`, asked for at *levels*: `/fhir/$name`, `/fhir/Type/$name`, `/fhir/Type/id/$name`.

    *types* None stands for every type. GET belongs to *methods* only when the operation changes nothing. *media* are
    content types that it reads besides those of FHIR. With *parts*, up to as many more parts of a path may follow the
    name, such as the id of a job; they are the last ones of `Call.path`. *answers* are media types that it may answer
    with besides those of FHIR. One that *streams* reads its body itself, piece by piece, however long it is; one that
    stands *alone* is no entry of a batch.
    *definition* is the canonical URL of its OperationDefinition.
    """

    name: str
    levels: tuple[Level, ...]
    handler: Handler
    definition: str
    types: frozenset[str] | None = None
    methods: tuple[str, ...] = ("GET", "POST")
    media: tuple[str, ...] = ()
    parts: int = 0
    answers: tuple[str, ...] = ()
    streams: bool = False
    alone: bool = False
    documentation: str = ""

    @property
    def looks(self) -> bool:
        """Whether it only looks, and answers at once: what may also be an entry of a batch."""
        return "GET" in self.methods and not (self.alone or self.streams or self.parts)

    def serves(self, level: Level, type_: str | None) -> bool:
        return level in self.levels and (type_ is None or self.types is None or type_ in self.types)


HL7 = "http://hl7.org/fhir/OperationDefinition/"
BULK = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
OWN = "https://carehub.example/fhir/OperationDefinition/"

_EXPORT = "Bulk Data Access 2.0, with Prefer: respond-async: _outputFormat, _since, _type, _typeFilter, patient."

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "everything",
        ("instance",),
        everything.carry_out,
        HL7 + "Patient-everything",
        frozenset({"Patient"}),
        documentation="The Patient, its compartment, what these refer to, in pages: start, end, _since, _type, _count.",
    ),
    Operation("export", ("system",), export.carry_out, BULK + "export", alone=True, documentation=_EXPORT),
    Operation("export", ("type",), export.carry_out, BULK + "patient-export", frozenset({"Patient"}), alone=True),
    Operation("export", ("instance",), export.carry_out, BULK + "group-export", frozenset({"Group"}), alone=True),
    Operation(
        "apply", ("type", "instance"), apply.of_plan, HL7 + "PlanDefinition-apply", frozenset({"PlanDefinition"})
    ),
    Operation(
        "populate",
        ("type", "instance"),
        populate.carry_out,
        "http://hl7.org/fhir/uv/sdc/OperationDefinition/Questionnaire-populate",
        frozenset({"Questionnaire"}),
    ),
    Operation(
        "apply",
        ("type", "instance"),
        apply.of_activity,
        HL7 + "ActivityDefinition-apply",
        frozenset({"ActivityDefinition"}),
    ),
    Operation(
        "lastn",
        ("type",),
        lastn.carry_out,
        HL7 + "Observation-lastn",
        frozenset({"Observation"}),
        documentation="The last of each code, for the patient or subject that is named: max, and any search parameter.",
    ),
    Operation("stats", ("type",), stats.carry_out, HL7 + "Observation-stats", frozenset({"Observation"})),
    *(
        Operation(name, ("type", "instance"), handler, f"{HL7}{type_}-{name}", frozenset({type_}))
        for type_, name, handler in (
            ("ValueSet", "expand", terminology.expand),
            ("ValueSet", "validate-code", terminology.validate_in_set),
            ("CodeSystem", "validate-code", terminology.validate_in_system),
            ("CodeSystem", "lookup", terminology.lookup),
            ("CodeSystem", "subsumes", terminology.subsumes),
        )
    ),
    Operation(
        "validate",
        ("type",),
        validate.carry_out_on_type,
        HL7 + "Resource-validate",
        methods=("POST",),
        documentation="resource, mode (create, profile), profile; nothing is kept.",
    ),
    Operation(
        "validate",
        ("instance",),
        validate.carry_out_on_instance,
        HL7 + "Resource-validate",
        documentation="The stored resource, or another for its place: mode (update, delete, profile), profile.",
    ),
    Operation("meta", ("instance",), meta.show, HL7 + "Resource-meta"),
    Operation("meta-add", ("instance",), meta.add, HL7 + "Resource-meta-add", methods=("POST",)),
    Operation("meta-delete", ("instance",), meta.remove, HL7 + "Resource-meta-delete", methods=("POST",)),
    Operation(
        "diff",
        ("instance",),
        diff.of_one,
        OWN + "diff",
        documentation="Two versions as a FHIRPath Patch and in words: fromVersion, toVersion, includeMeta.",
    ),
    Operation("diff", ("system",), diff.of_two, OWN + "diff", documentation="The same for any two: from, to."),
    Operation(
        "import",
        ("system",),
        imports.carry_out,
        OWN + "import",
        methods=("POST",),
        media=tuple(imports.NDJSON),
        streams=True,
        documentation="POST of NDJSON with Prefer: respond-async; each line is written or refused with its reason.",
    ),
    Operation(
        "job",
        ("system",),
        job.carry_out,
        OWN + "job",
        methods=("GET", "DELETE"),
        parts=2,
        answers=job.MEDIA,
        documentation="$job/id: how far an export or import is, its manifest, its files; DELETE ends and removes it.",
    ),
    Operation(
        "status",
        ("type", "instance"),
        subscriptions.stands,
        OPERATION + "status",
        frozenset({"Subscription"}),
        documentation="How subscriptions stand: events so far, and why the last attempt failed. id, status.",
    ),
    Operation(
        "events",
        ("instance",),
        subscriptions.again,
        OPERATION + "events",
        frozenset({"Subscription"}),
        documentation="Events again: eventsSinceNumber, eventsUntilNumber, content.",
    ),
    Operation(
        "get-ws-binding-token",
        ("type", "instance"),
        subscriptions.binding_token,
        OPERATION + "get-ws-binding-token",
        frozenset({"Subscription"}),
        alone=True,
        documentation="A token that binds a websocket, once and within five minutes, to subscriptions of the caller.",
    ),
    Operation(
        "new-secret",
        ("instance",),
        subscriptions.secret,
        OWN + "new-secret",
        frozenset({"Subscription"}),
        methods=("POST",),
        documentation="The secret that signs what is sent from now on, shown this once to whose subscription it is.",
    ),
)


def asked(path: Sequence[str], operations: Sequence[Operation] = OPERATIONS) -> Operation | None:
    """The operation at *path* (the parts below `/fhir`); None when there is none. One name may have several rows."""
    at = next((place for place, part in enumerate(path) if part.startswith("$")), None)
    if at is None or at > 2:
        return None
    before, name, rest = path[:at], path[at][1:], path[at + 1 :]
    if (at and before[0] not in SERVED) or (at == 2 and not ID.fullmatch(before[1])):
        return None
    level: Level = ("system", "type", "instance")[at]
    type_ = before[0] if before else None
    return next(
        (one for one in operations if one.name == name and one.serves(level, type_) and len(rest) <= one.parts), None
    )


def names(operations: Sequence[Operation] = OPERATIONS) -> list[str]:
    return sorted({f"${one.name}" for one in operations})


def declared(type_: str | None, operations: Sequence[Operation] = OPERATIONS) -> list[JSON]:
    """What the CapabilityStatement says of the operations of a type; of those of the whole system for None."""
    levels: tuple[Level, ...] = ("system",) if type_ is None else ("type", "instance")
    found = [one for one in operations if any(one.serves(level, type_) for level in levels)]
    return [
        {"name": one.name, "definition": one.definition}
        | ({"documentation": one.documentation} if one.documentation else {})
        for one in found
    ]
