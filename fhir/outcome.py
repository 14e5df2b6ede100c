"""Refusals as values: what is wrong, where, and what was expected."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong. `code` is an IssueType code of FHIR; `expression` a FHIRPath such as `Observation.status`."""

    code: str
    diagnostics: str
    expression: str | None = None
    severity: str = "error"

    def as_json(self) -> dict[str, Any]:
        issue: dict[str, Any] = {"severity": self.severity, "code": self.code, "diagnostics": self.diagnostics}
        if self.expression:
            issue["expression"] = [self.expression]
        return issue


class Refusal(Exception):
    """A request that the hub will not carry out. Translated once per transport: OperationOutcome, page or CLI text."""

    def __init__(self, status: int, issues: Sequence[Issue], headers: dict[str, str] | None = None) -> None:
        super().__init__(issues[0].diagnostics)
        self.status = status
        self.issues = tuple(issues)
        self.headers = headers or {}


def refuse(status: int, code: str, diagnostics: str, expression: str | None = None) -> Refusal:
    """A refusal with one issue: `raise refuse(404, "not-found", "...")`."""
    return Refusal(status, [Issue(code, diagnostics, expression)])


def operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [issue.as_json() for issue in issues]}


# Where a refusal is about no element of a resource, its expression names the part of the request, as FHIR R4 has it
# for HTTP errors: "http." and the parameter's name. Anything else is about the resource as a whole.
_PARTS = {
    401: "http.Authorization",
    403: "http.Authorization",
    404: "http.url",
    405: "http.method",
    406: "http.Accept",
    408: "http.body",
    410: "http.url",
    412: "http.If-Match",
    413: "http.body",
    415: "http.Content-Type",
    421: "http.Host",
}


def outcome_of(refusal: Refusal) -> dict[str, Any]:
    """The OperationOutcome of *refusal*; every issue of a 4xx has an expression."""
    outcome = operation_outcome(refusal.issues)
    if refusal.status < 500:
        for issue in outcome["issue"]:
            issue.setdefault("expression", [_PARTS.get(refusal.status, "Resource")])
    return outcome
