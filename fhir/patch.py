"""A patch, in either language: applied to the version that is there, and its result a resource like any other.

JSON Patch is an array of operations, also inside a Binary (how a Bundle carries it); FHIRPath Patch is a Parameters.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir import fhirpath_patch, json_patch
from fhir.outcome import Issue, Refusal, refuse
from fhir.validation import check
from fhir.wire import decode_array, survey_of

JSON = dict[str, Any]
JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True, slots=True)
class Patch:
    """What is to be changed: operations of JSON Patch, or a valid Parameters."""

    operations: Sequence[JSON] | JSON

    def apply(self, resource: JSON) -> JSON:
        """*resource* as it is after the patch, valid and of the same identity; *resource* itself stays as it is.

        Refusal 400 for a path that means nothing, 422 for an operation that does not fit what is there, for what would
        not be a valid resource, and for one of another type or id.
        """
        type_ = resource["resourceType"]
        if isinstance(self.operations, dict):
            changed = fhirpath_patch.apply(fhirpath_patch.checked(self.operations, type_), resource)
        else:
            changed = json_patch.apply(self.operations, resource)
        survey_of(changed)  # refuses what is nested too deep, before anything walks it
        changed = _without_empty(changed)
        for key in ("resourceType", "id"):
            if changed.get(key) != resource.get(key):
                raise refuse(422, "invalid", f"a patch cannot change {key}", f"{type_}.{key}")
        try:
            check(changed)
        except Refusal as refusal:
            said = "the resource would not be valid any more: "
            issues = [Issue(one.code, said + one.diagnostics, one.expression) for one in refusal.issues]
            raise Refusal(422, issues) from None
        return changed


def of_json(raw: bytes) -> Patch:
    """The JSON Patch in *raw*. Refusal 400 for anything else, 413 for too many operations."""
    return Patch(json_patch.checked(decode_array(raw)))


def of_resource(resource: JSON, type_: str, at: str) -> Patch:
    """The patch that a resource carries, for one of *type_*: a Parameters, or a Binary of JSON Patch."""
    kind = resource.get("resourceType")
    if kind == "Parameters":
        fhirpath_patch.checked(resource, type_)
        return Patch(resource)
    if kind == "Binary" and resource.get("contentType", "").partition(";")[0].strip() == JSON_PATCH:
        try:
            raw = b64decode(resource.get("data", ""), validate=True)
        except (Error, ValueError):
            raise refuse(400, "value", f"{at}.data is not base64", f"{at}.data") from None
        return of_json(raw)
    said = f"a patch is a Parameters (FHIRPath Patch) or a Binary of {JSON_PATCH}, not a {kind}"
    raise refuse(400, "invalid", said, at)


def _without_empty(node: JSON) -> JSON:
    """*node* without empty objects and arrays: what a patch has taken everything out of is not there any more."""
    kept = {key: _pruned(value) for key, value in node.items()}
    return {key: value for key, value in kept.items() if not _empty(value)}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_empty(value)
    if isinstance(value, list):
        items = [_pruned(item) for item in value]
        # Only beside primitives is there a null: it keeps the place of a value in the other array.
        return [None if item == {} else item for item in items] if None in items else [i for i in items if i != {}]
    return value


def _empty(value: Any) -> bool:
    return value in ({}, []) or (isinstance(value, list) and all(item is None for item in value))
