"""schemathesis over the OpenAPI document: nothing it makes up brings the service down; every answer is described."""

import json

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)
from serving import Served

from fhir.wire import encode
from hub.openapi import document

schemathesis.serializer.alias(
    ["application/fhir+ndjson", "application/ndjson", "application/x-ndjson"], "application/json"
)
SCHEMA = schemathesis.openapi.from_dict(json.loads(encode(document("http://127.0.0.1/fhir"))))
SCHEMA.config.phases.coverage.enabled = False
# What is said of each type is the same but for the parameters of its search: three stand for all.
CHOSEN = SCHEMA.include(path_regex=r"^/(?!(?!Patient$|Observation$|CarePlan$)[A-Z])")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED = settings(
    max_examples=3, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def ask(case: Case, served: Served, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    response = case.call(base_url=served.base, headers=headers)
    case.validate_response(response, checks=[*CHECKS, ignored_auth], headers=headers)


@CHOSEN.parametrize()
@BOUNDED
def test_as_a_coordinator(case: Case, served: Served) -> None:
    ask(case, served, served.coordinator)


@CHOSEN.parametrize()
@BOUNDED
def test_as_a_device(case: Case, served: Served) -> None:
    ask(case, served, served.device)


def test_what_is_read_of_a_known_person(served: Served) -> None:
    """What is made up finds nobody: each address that reads, once for somebody who is there."""
    read = 0
    for result in CHOSEN.get_all_operations():
        operation = result.ok()
        if operation.method.upper() != "GET" or "{id}" not in operation.path or "$" in operation.path:
            continue
        names = {"type": "Patient", "id": served.person, "version": 1, "within": "Observation"}
        there = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
        headers = {"Authorization": f"Bearer {served.coordinator}"}
        response = operation.Case(path_parameters=there).call(base_url=served.base, headers=headers)
        assert response.status_code == 200, operation.path
        operation.Case(path_parameters=there).validate_response(response, checks=CHECKS, headers=headers)
        read += 1
    assert read == 4
