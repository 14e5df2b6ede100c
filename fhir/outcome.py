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
