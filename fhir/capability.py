"""The CapabilityStatement: made from the registry, so that it names what is answered and nothing else."""

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

from fhir.compartments import OWNERS
from fhir.modifiers import modifiers
from fhir.patch import JSON_PATCH
from fhir.profiles import PROFILES
from fhir.registry import SPECS, ResourceSpec
from fhir.subscriptions import PROFILE, TOPIC_OFFERED
from fhir.types import LEFT_OUT

JSON = dict[str, Any]

# When what is said here last changed.
DATE = "2026-11-22"
_INTERACTIONS = (
    "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type",
)  # fmt: skip
INGEST = "https://carehub.example/fhir/OperationDefinition/ingest"

_DOCUMENTATION = (
    "Every reply is limited to the people in whose care the caller is. An unknown or unsupported search "
    "parameter is refused with the list of those that are known; with Prefer: handling=lenient it is left out and told "
    "of. Searches also take _count, _sort, _include and _revinclude (:iterate), chains and _has, _total, _summary, "
    "_elements and _contained; pages are followed by their next link. Criteria of conditional writes and references "
    "must name one resource among those that the caller sees; several: 412. Patches are JSON Patch, or FHIRPath Patch "
    "(Parameters), also inside bundles. Required bindings, reference targets, invariants and the rules of the hub "
    "(approval before a plan, one active plan) are checked on every write"
)
_SECURITY = (
    "Bearer tokens for people's scripts and other systems, device keys for devices, both in the Authorization header. "
    "Whoever runs the service issues them; a system whose public key is registered gets its tokens by itself (SMART "
    "Backend Services). Nobody signs in through OAuth here. This statement can be read without."
)
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SECURITY_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"


Declared = Callable[[str | None], list[JSON]]
"""The operations of a type as the statement lists them; those of the whole system for None."""


def statement(base_url: str, operations: Declared, topics: tuple[str, ...] = (), token_url: str | None = None) -> JSON:
    """The CapabilityStatement of the service at *base_url* (ends in `/fhir`); *topics* may be subscribed to, and other
    systems get their tokens at *token_url*."""
    return {
        "resourceType": "CapabilityStatement",
        "id": "care-hub",
        "url": f"{base_url}/metadata",
        "name": "CareHub",
        "title": "Care Hub FHIR R4 interface",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": {"name": "Care Hub", "version": version("care-hub")},
        "implementation": {"description": "Care Hub", "url": base_url},
        "fhirVersion": "4.0.1",
        "format": ["json", "xml", "application/fhir+json", "application/fhir+xml"],
        "patchFormat": [JSON_PATCH, "application/fhir+json", "application/fhir+xml"],
        "rest": [
            {"extension": [_websocket(base_url)], **_server(operations, topics), "security": _security(token_url)}
        ],
    }


def _websocket(base_url: str) -> JSON:
    """Where those listen who have a subscription with a websocket."""
    url = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-websocket"
    return {"url": url, "valueUri": base_url.replace("http", "ws", 1) + "/$subscriptions"}


@cache
def _server(operations: Declared, topics: tuple[str, ...]) -> JSON:
    """What does not depend on the address, so that asking under many names costs nothing."""
    left_out = "; ".join(f"{type_}: {why}" for type_, why in LEFT_OUT.items())
    return {
        "mode": "server",
        "documentation": f"{_DOCUMENTATION}. Types of R4 and R4B that are not served: {left_out}.",
        "resource": [_resource(spec, operations) | _offered(spec, topics) for spec in SPECS.values()],
        "interaction": [{"code": code} for code in ("transaction", "batch", "history-system", "search-system")],
        "searchParam": [_param(code, kind) for code, kind in sorted(_of_every_type().items())],
        "compartment": [f"http://hl7.org/fhir/CompartmentDefinition/{owner[0].lower()}{owner[1:]}" for owner in OWNERS],
        "operation": [
            {
                "name": "ingest",
                "definition": INGEST,
                "documentation": "POST [base]/$ingest: NDJSON of a device's Observations; answered by Parameters.",
            },
            *operations(None),
        ],
    }


def _security(token_url: str | None) -> JSON:
    issued = {"text": "Bearer tokens and device keys that the service itself issues (RFC 6750)"}
    if token_url is None:
        return {"cors": False, "service": [issued], "description": _SECURITY}
    smart = {"coding": [{"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}]}
    return {
        "extension": [{"url": _OAUTH_URIS, "extension": [{"url": "token", "valueUri": token_url}]}],
        "cors": False,
        "service": [smart, issued],
        "description": _SECURITY,
    }


def _offered(spec: ResourceSpec, topics: tuple[str, ...]) -> JSON:
    """The topics, where the backport of R5 subscriptions has clients look for them."""
    if spec.type != "Subscription" or not topics:
        return {}
    profile = [PROFILE + "backport-subscription"]
    return {"extension": [{"url": TOPIC_OFFERED, "valueCanonical": url} for url in topics], "supportedProfile": profile}


def _resource(spec: ResourceSpec, operations: Declared) -> JSON:
    params = [_param(code, param.type) for code, param in sorted(spec.params.items())]
    includes = [f"{spec.type}:{code}" for code, param in sorted(spec.params.items()) if param.type == "reference"]
    resource: JSON = {
        "type": spec.type,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        # Criteria that name several records mean none of them: a slip must not delete many.
        "conditionalDelete": "single",
        "searchParam": params,
    }
    if includes:
        resource["searchInclude"] = includes
    if reverse := _reverse_includes().get(spec.type):
        resource["searchRevInclude"] = reverse
    if kept := [profile.url for profile in PROFILES.values() if profile.type == spec.type]:
        resource["supportedProfile"] = kept
    if offered := operations(spec.type):
        resource["operation"] = offered
    return resource


def _param(code: str, kind: str) -> JSON:
    known = modifiers(code, kind)
    said = {"documentation": "modifiers " + ", ".join(f":{modifier}" for modifier in known)} if known else {}
    return {"name": code, "type": kind} | said


def _of_every_type() -> dict[str, str]:
    """What a search over all types may ask for."""
    of_types = [{(code, param.type) for code, param in spec.params.items()} for spec in SPECS.values()]
    return dict(set.intersection(*of_types)) | {"_type": "token"}


@cache
def _reverse_includes() -> dict[str, list[str]]:
    """For each type, the parameters by which others refer to it. One that may refer to any type is named for none."""
    found: dict[str, list[str]] = defaultdict(list)
    for spec in SPECS.values():
        for code, param in spec.params.items():
            if param.type == "reference":
                for target in param.targets:
                    found[target].append(f"{spec.type}:{code}")
    return {type_: sorted(names) for type_, names in found.items()}
