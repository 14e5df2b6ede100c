"""The CapabilityStatement tells only the truth: everything it names is answered."""

from typing import Any

from fhir.capability import statement
from fhir.registry import SPECS
from fhir.search import search
from fhir.store import Sql
from fhir.types import LEFT_OUT, SERVED
from fhir.validation import check
from hub.db import Tx
from hub.operations import declared

BASE = "https://hub.example/fhir"
VALUE = {"date": "2026-11-21", "reference": "Patient/x", "number": "1.5", "quantity": "1.5"}
SPECIAL = {"near": "50|2", "_filter": "_id eq x"}
# These name what must be stored here; tests/test_fhir_search.py has them.
OF_SETS = (":in", ":not-in", ":above", ":below")


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


def resources() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = statement(BASE, declared)["rest"][0]["resource"]
    return found


def test_conforms_and_names_every_type() -> None:
    made = statement(BASE, declared)
    check(made)
    assert {resource["type"] for resource in resources()} == SERVED
    assert all(type_ in made["rest"][0]["documentation"] for type_ in LEFT_OUT)
    assert made["url"] == f"{BASE}/metadata"
    assert statement("https://other.example/fhir", declared)["implementation"]["url"] == "https://other.example/fhir"


async def test_every_search_parameter_and_modifier_is_answered(tx: Tx) -> None:
    asked = 0
    for resource in resources():
        for param in resource["searchParam"]:
            names = [param["name"]]
            modifiers = param.get("documentation", "").removeprefix("modifiers ").split(", ")
            for modifier in modifiers if param["name"] in ("_id", "code", "subject", "date", "name", "url") else []:
                names.append(param["name"] + modifier)
            for name in names:
                if name.endswith(OF_SETS):
                    continue
                value = "true" if name.endswith(":missing") else VALUE.get(param["type"], "x")
                if param["type"] == "composite":
                    parts = SPECS[resource["type"]].params[name].components
                    kinds = [SPECS[resource["type"]].params[part].type for part, _ in parts]
                    value = "$".join(VALUE.get(kind, "x") for kind in kinds)
                value = SPECIAL.get(name, value)
                page = await search(
                    tx.pg, resource["type"], [(name, value), ("_count", "1")], everything, BASE, b"s", 10
                )
                assert page.type == "searchset"
                asked += 1
    assert asked > 2_300


async def test_every_include_is_answered(tx: Tx) -> None:
    for resource in resources():
        for control in ("_include", "_revinclude"):
            for name in resource.get(f"search{'Include' if control == '_include' else 'RevInclude'}", ()):
                await search(tx.pg, resource["type"], [(control, name), ("_count", "1")], everything, BASE, b"s", 10)
        assert {"create", "read", "search-type"} <= {one["code"] for one in resource["interaction"]}
