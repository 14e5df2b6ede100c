"""An ActivityDefinition made into the request it describes, for one person: always a draft, always a proposal.

R4: activitydefinition-operation-apply.html. What this cannot carry over is refused by name, so that nobody takes half
of a definition for the whole of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from care_plans.shapes import concept_text
from fhir.outcome import Refusal, refuse

JSON = dict[str, Any]

# What says something of the definition, not of what is to be done.
_ABOUT = frozenset({
    "resourceType", "id", "meta", "implicitRules", "language", "text", "contained", "url", "identifier", "version",
    "name", "title", "subtitle", "status", "experimental", "date", "publisher", "contact", "description", "useContext",
    "jurisdiction", "purpose", "usage", "copyright", "approvalDate", "lastReviewDate", "effectivePeriod", "topic",
    "author", "editor", "reviewer", "endorser", "relatedArtifact", "library", "kind", "intent", "profile",
    "subjectCodeableConcept", "subjectReference",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class For:
    """Whom an application is for, and in whose name: references; `authored` is a FHIR dateTime."""

    subject: str
    authored: str
    practitioner: str | None = None
    encounter: str | None = None
    organization: str | None = None


Put = Callable[[JSON, Any], None]


def _as(name: str) -> Put:
    def put(made: JSON, value: Any) -> None:
        made[name] = value

    return put


def _roles(many: bool) -> Put:
    def put(made: JSON, participants: Any) -> None:
        roles = [one["role"] for one in participants if "role" in one]
        if roles:
            made["performerType"] = roles if many else roles[0]

    return put


def _supply(made: JSON, quantity: Any) -> None:
    made["dispenseRequest"] = {"quantity": quantity}


_URGENT: Mapping[str, Put] = {"priority": _as("priority")}
_ORDERED: Mapping[str, Put] = {**_URGENT, "doNotPerform": _as("doNotPerform")}
_WHEN = {f"timing{kind}": _as(f"occurrence{kind}") for kind in ("DateTime", "Period", "Timing")}
# For each kind of request: which elements of the definition it takes, and where they go.
_KINDS: Mapping[str, Mapping[str, Put]] = {
    "ServiceRequest": {
        **_ORDERED, **_WHEN, "code": _as("code"), "participant": _roles(many=False), "bodySite": _as("bodySite"),
        "quantity": _as("quantityQuantity"), "location": lambda made, value: made.update(locationReference=[value]),
    },
    "Task": {
        "priority": _as("priority"), "code": _as("code"), "participant": _roles(many=True), "location": _as("location"),
        "timingPeriod": lambda made, value: made.update(restriction={"period": value}),
    },
    "CommunicationRequest": {
        **_ORDERED, "timingDateTime": _as("occurrenceDateTime"), "timingPeriod": _as("occurrencePeriod"),
        "code": lambda made, value: made.update(reasonCode=[value]),
    },
    "MedicationRequest": {
        **_ORDERED, "productReference": _as("medicationReference"), "dosage": _as("dosageInstruction"),
        "productCodeableConcept": _as("medicationCodeableConcept"), "quantity": _supply,
    },
    "DeviceRequest": {
        **_URGENT, **_WHEN, "code": _as("codeCodeableConcept"),
        "productReference": _as("codeReference"), "productCodeableConcept": _as("codeCodeableConcept"),
    },
}  # fmt: skip


def activity(definition: JSON, for_: For, where: str) -> JSON:
    """The request of *definition*, without an id. *where* names the definition in a refusal.

    Refusal 422 for a kind, or an element, that is not carried over, and for a definition that says too little.
    """
    kind = str(definition.get("kind", "nothing"))
    if definition.get("status") == "retired":
        raise refuse(422, "business-rule", f"{where} is retired", "ActivityDefinition.status")
    if kind not in _KINDS:
        raise _unsupported(where, "kind", f"{kind}; there are {', '.join(_KINDS)}")
    made: JSON = {"resourceType": kind, "status": "draft", **_instantiates(kind, definition), **_for(kind, for_)}
    if definition.get("profile"):
        made["meta"] = {"profile": [definition["profile"]]}
    taken = _KINDS[kind]
    for name, value in definition.items():
        if name in _ABOUT or name.startswith("_"):
            continue
        if name not in taken:
            raise _unsupported(where, name, f"it cannot be said in a {kind}")
        taken[name](made, value)
    _complete(made, definition, where)
    return made


def _for(kind: str, for_: For) -> JSON:
    found: JSON = {"intent": "proposal"} if kind != "CommunicationRequest" else {}
    found["for" if kind == "Task" else "subject"] = {"reference": for_.subject}
    found["authoredOn"] = for_.authored
    asked = for_.practitioner or for_.organization
    if asked:
        found["requester"] = {"reference": asked}
    return found | ({"encounter": {"reference": for_.encounter}} if for_.encounter else {})


def _instantiates(kind: str, definition: JSON) -> JSON:
    url = definition.get("url")
    if url is None or (kind == "Task" and "|" in url):
        return {}
    named = f"{url}|{definition['version']}" if definition.get("version") else url
    # Those of a Task and of the others differ in how many they may be.
    return {"instantiatesCanonical": named if kind == "Task" else [named]}


def _complete(made: JSON, definition: JSON, where: str) -> None:
    """What a request must say, from the definition's title where it says nothing else."""
    title = definition.get("title") or definition.get("description") or concept_text(definition.get("code"))
    match made["resourceType"]:
        case "ServiceRequest" if "code" not in made and title:
            made["code"] = {"text": title}
        case "Task" if title:
            made["description"] = definition.get("description") or title
        case "CommunicationRequest" if title:
            made["payload"] = [{"contentString": definition.get("description") or title}]
        case "MedicationRequest" if not made.keys() & {"medicationReference", "medicationCodeableConcept"}:
            raise _unsupported(where, "product[x]", "it names no medicine")
        case "DeviceRequest" if not made.keys() & {"codeReference", "codeCodeableConcept"}:
            raise _unsupported(where, "code", "it names no device")


def _unsupported(where: str, name: str, why: str) -> Refusal:
    return refuse(422, "not-supported", f"{where}: {name} cannot be applied: {why}", f"ActivityDefinition.{name}")
