"""The OpenAPI document describes the addresses that are answered, all of them and no others."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Fresh, Rest, running

from fhir.registry import SPECS
from fhir.types import SERVED
from fhir.wire import decode
from hub.fhir_routes import offered
from hub.openapi import document
from hub.operations import OPERATIONS

BASE = "https://hub.example/fhir"
METHODS = {"get", "post", "put", "patch", "delete"}
DOCUMENT = document(BASE)
PATHS: dict[str, Any] = DOCUMENT["paths"]
ELSEWHERE = {"/$ingest"}  # has a route of its own


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def types_of(path: str) -> list[str]:
    """The types that may stand in *path*."""
    methods = [one for name, one in PATHS[path].items() if name in METHODS]
    named = [*PATHS[path].get("parameters", []), *methods[0].get("parameters", [])]
    return next(
        (list(one["schema"]["enum"]) for one in named if one.get("name") == "type" and one["in"] == "path"), ["Patient"]
    )


def parts(path: str, type_: str) -> list[str]:
    filled = path.replace("{type}", type_).replace("{within}", "Observation").replace("{version}", "1")
    return [part for part in re.sub(r"\{\w+\}", "x", filled).split("/") if part]


class TestWhatItNames:
    def test_every_method_of_every_path_is_answered(self) -> None:
        for path in PATHS.keys() - ELSEWHERE:
            for type_ in types_of(path):
                assert METHODS & PATHS[path].keys() == {one.lower() for one in offered(parts(path, type_))}, path

    def test_every_path_that_is_answered_is_there(self) -> None:
        assert {f"/{type_}" for type_ in SERVED} < PATHS.keys()
        shapes = ["", "_search", "_history", "metadata", "{type}/_search", "{type}/_history", "{type}/{id}",
                  "{type}/{id}/_history", "{type}/{id}/_history/{version}", "{type}/{id}/{within}",
                  "{type}/{id}/{within}/_search"]  # fmt: skip
        assert {f"/{shape}" for shape in shapes} < PATHS.keys()
        for operation in OPERATIONS:
            for level in operation.levels:
                stem = {"system": "", "type": "/{type}", "instance": "/{type}/{id}"}[level]
                tail = "".join(f"/{{part{number + 1}}}" for number in range(operation.parts))
                path = f"{stem}/${operation.name}{tail}"
                assert level == "system" or set(operation.types or SERVED) <= set(types_of(path)), path

    def test_every_search_parameter_is_there(self) -> None:
        for type_, spec in SPECS.items():
            named = {one["name"] for one in PATHS[f"/{type_}"]["get"]["parameters"] if "name" in one}
            assert named == spec.params.keys()

    def test_every_reference_within_it_is_kept(self) -> None:
        for reference in re.findall(r"#/[A-Za-z0-9_/\-]+", repr(DOCUMENT)):
            found = DOCUMENT
            for part in reference[2:].split("/"):
                found = found[part]
            assert found

    def test_only_the_statement_needs_no_sign_in(self) -> None:
        assert DOCUMENT["security"] == [{"bearer": []}]
        free = [path for path, methods in PATHS.items() if any("security" in one for one in methods.values())]
        assert free == ["/metadata"]


async def test_it_is_served_without_sign_in_under_the_address_that_was_asked(rest: Rest) -> None:
    answer = await rest.client.get("/fhir/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert decode(answer.content) == document("http://127.0.0.1/fhir")
