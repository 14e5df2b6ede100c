"""Whether a resource conforms to R4: structure, cardinality, formats, required bindings, reference targets."""

from typing import Any

import msgspec

from fhir import wire
from fhir.compiled import fits
from fhir.inspection import inspect
from fhir.outcome import Refusal, refuse
from fhir.types import SERVED


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A resource that conforms. `resource` is its JSON, as `fhir.wire.decode` gives it."""

    type: str
    resource: dict[str, Any]


def parse(raw: bytes, expected_type: str | None = None) -> Parsed:
    """The resource in *raw*, checked. Refusal 400 with every issue; with *expected_type*, also for another type."""
    resource, hollow = wire.read(raw)
    type_name = resource.get("resourceType")
    if expected_type is not None and type_name != expected_type:
        shown = repr(type_name[:64]) if isinstance(type_name, str) else "missing"
        raise refuse(400, "invalid", f"expected {expected_type}; resourceType is {shown}", "Resource.resourceType")
    _check(resource, hollow)
    assert isinstance(type_name, str)
    return Parsed(type_name, resource)


def check(resource: dict[str, Any]) -> None:
    """The same for JSON that is already decoded, such as an edited resource."""
    _check(resource, wire.survey_of(resource).hollow)
    if wire.holds_nul(resource):
        raise refuse(400, "value", "a string holds the NUL character (\\u0000), which cannot be stored")


def _check(resource: dict[str, Any], hollow: bool) -> None:
    type_name = resource.get("resourceType")
    if isinstance(type_name, str) and type_name in SERVED and not hollow and fits(resource):
        return
    # The fast half gives no reasons and refuses some rare forms that FHIR allows: the full one decides.
    if issues := inspect(resource):
        raise Refusal(400, issues)
